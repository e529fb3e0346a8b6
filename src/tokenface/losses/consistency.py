"""Shape consistency, target images rendered with the source's shape: on scans (Eq. 5) and on photos (Eq. 9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tokenface.losses.mesh import mesh_loss
from tokenface.losses.photometric import face_mask, lost_share, photometric_loss
from tokenface.moved import warn_of_former
from tokenface.parameters import FaceParameters
from tokenface.render.renderer import RenderedFaces


class SwapPairs(NamedTuple):
    """source: [P] images that give the shape (a in the paper).  target: [P] images rendered with it (b)."""

    source: Tensor
    target: Tensor

    @property
    def giver(self) -> Tensor:
        """Former name of `source`."""
        warn_of_former("giver", "source")
        return self.source

    @property
    def taker(self) -> Tensor:
        """Former name of `target`."""
        warn_of_former("taker", "target")
        return self.target

    def __len__(self) -> int:
        return self.source.shape[0]

    def to(self, device: torch.device | str) -> SwapPairs:
        """On a device; the CPU does not wait for it."""
        return SwapPairs(self.source.to(device, non_blocking=True), self.target.to(device, non_blocking=True))

    def swapped(self, parameters: FaceParameters) -> FaceParameters:
        """The targets' parameters with the sources' shapes, `(β_a, ψ_b, θ_b, C_b, α_b, ι_b)`: P faces."""
        return parameters[self.target].replace(shape=parameters.shape[self.source])


def swap_pairs(identity: Tensor, partners: int | None = None) -> SwapPairs:
    """Ordered pairs of different pictures of the same person.

    Args:
        identity: [B] integer labels, equal for pictures of one person; a person with one picture makes no pair.
        partners: at most so many sources per target, the next ones in the order of the batch (cyclic); None: all.
    Returns:
        SwapPairs on the device of `identity`; the M pictures of a person make M·min(M − 1, partners) pairs.
    """
    same = identity[:, None] == identity[None, :]
    same.fill_diagonal_(False)
    target, source = same.nonzero(as_tuple=True)
    if partners is not None:
        # steps forward from the target to the source among the pictures of that person
        place = same.tril().sum(1)
        count = same.sum(1) + 1
        step = (place[source] - place[target]) % count[target]
        near = step <= partners
        target, source = target[near], source[near]
    return SwapPairs(source, target)


def mean_over_pairs(losses: Tensor, like: Tensor) -> Tensor:
    """Mean of [P] losses; without pairs a zero that is differentiable with respect to `like`."""
    return losses.mean() if losses.numel() else (like * 0.0).sum()


MeshDistance = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Predicted and true vertices [P, V, 3] and weights [V] → [P]: `mesh_loss` or one of its forms free of pose."""
Draw = Callable[[FaceParameters], RenderedFaces]
"""Parameters → pictures of the photos' size: `Renderer.render` with its size and region weights bound."""


def vertex_consistency_loss(
    vertices: Callable[[FaceParameters], Tensor],
    parameters: FaceParameters,
    truth: Tensor,
    weights: Tensor,
    pairs: SwapPairs,
    distance: MeshDistance = mesh_loss,
) -> Tensor:
    """`w |V(β_a, ψ_b, θ_b) − V_gt^b|₁` for every pair of scans of one person (Eq. 5).

    Args:
        vertices: head model or subset, parameters of P faces → [P, V, 3], metres.
        parameters: of the batch of B scans.  truth: [B, V, 3], metres, expressive where the scan is.
        weights: [V] region weights, sum to 1.  pairs: from `swap_pairs`.
        distance: the paper's is `mesh_loss`.
    Returns:
        [P], metres; sum over a person's pairs is the paper's, `mean_over_pairs` is what batches of any mixture want.
    """
    return distance(vertices(pairs.swapped(parameters)), truth[pairs.target], weights)


def shape_consistency_loss(
    draw: Draw, parameters: FaceParameters, image: Tensor, mask: Tensor, pairs: SwapPairs
) -> Tensor:
    """`m ‖I(β_a, ψ_b, θ_b, C_b, α_b, ι_b) − I_gt^b‖₁` for every pair of photos of one person (Eq. 9).

    Args:
        draw: see `Draw`.  parameters: of the B photos.  image: [B, 3, S, S].  mask: [B, 1, S, S], the photos' own.
        pairs: from `swap_pairs`.
    Returns:
        [P], as `photometric_loss`; 1 more where the rendering lost the photo's face.
    """
    if len(pairs) == 0:
        return image.new_zeros(0)
    rendered = draw(pairs.swapped(parameters))
    overlap = face_mask(mask[pairs.target], rendered)
    return photometric_loss(rendered.image, image[pairs.target], overlap) + lost_share(mask[pairs.target], overlap)
