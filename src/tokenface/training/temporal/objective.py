"""Objective of the temporal transformer: vertex positions, velocities and accelerations on synthetic clips."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenface.data.sampling import View
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.losses.vertex_weights import vertex_weights
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import FaceParameters
from tokenface.training.temporal.config import RecordLosses, TemporalLosses
from tokenface.training.temporal.features import ClipFeatures

HEAD_WIDTH = 0.15
"""Metres: the losses' unit of length."""
VERTICES = 400
"""Vertices of the head that are compared: motions are smooth over the surface, the whole head would cost half a
step."""


class TemporalObjective:
    """Losses of clips through the frozen heads of the image model, on a few hundred vertices drawn in proportion to
    what they count in Eq. 3, so that all count alike."""

    def __init__(self, network: TokenFace, head: HeadModel, weights: TemporalLosses) -> None:
        self.network, self.head, self.weights = network, head, weights
        share = vertex_weights(head).cumsum(0)
        places = (torch.arange(VERTICES) + 0.5) * (share[-1] / VERTICES)
        self.part = head.restricted_to(torch.searchsorted(share, places))

    def parameters(self, tokens: Tensor) -> FaceParameters:
        """[N, T, K, D] → every component [N·T, size]."""
        found = self.network.heads(tokens.flatten(0, 1))[0]
        return found.replace(expression=self.head.clamp_expression(found.expression))

    def geometry(self, tokens: Tensor, crops: Tensor) -> tuple[Tensor, Tensor, FaceParameters]:
        """Vertices [N, T, V, 3] in head space and [N, T, V, 2] frame pixels, and the parameters."""
        shape = tokens.shape[:2]
        p = self.parameters(tokens)
        vertices = self.part(p.shape, p.expression, p.jaw).vertices
        projected = Camera.from_vector(p.camera).project(vertices)[..., :2]
        places = to_frame(projected, crops.flatten(0, 1).to(projected.dtype))
        return vertices.unflatten(0, shape), places.unflatten(0, shape), p

    def truth(self, clips: ClipFeatures) -> tuple[Tensor, Tensor]:
        """The same of the rendered people."""
        shape = clips.jaw.shape[:2]
        vertices = self.part(*(v.flatten(0, 1) for v in (clips.shape, clips.expression, clips.jaw))).vertices
        view = View(
            *(getattr(clips, name).flatten(0, 1) for name in ("rotation", "scale", "translation", "distance", "depth"))
        )
        size = clips.size.repeat_interleave(shape[1])[:, None, None]
        places = (view.project(vertices)[..., :2] + 1) * (size / 2)
        return vertices.unflatten(0, shape), places.unflatten(0, shape)

    def terms(self, steady: Tensor, clips: ClipFeatures) -> dict[str, Tensor]:
        """Weighted terms of steadied tokens [N, T, K, D]; T ≥ 3.

        Positions count up to the image model's own mean error over the run: a constant bias cannot be corrected from
        neighbouring frames, and penalising it caused overfitting.
        """
        w = self.weights
        vertices, places, p = self.geometry(steady, clips.crops)
        with torch.no_grad():
            true_vertices, true_places = self.truth(clips)
            own_vertices, own_places, own = self.geometry(clips.tokens, clips.crops)
            true_vertices = true_vertices + (own_vertices - true_vertices).mean(dim=1, keepdim=True)
            true_places = true_places + (own_places - true_places).mean(dim=1, keepdim=True)
        in_head = (vertices - true_vertices) / HEAD_WIDTH
        metre = (clips.scale * clips.size[:, None] / 2)[..., None, None]
        on_frame = (places - true_places) / (metre * HEAD_WIDTH)
        return {
            "vertices": w.vertices * _mean(in_head),
            "picture": w.picture * _mean(on_frame),
            "velocity": w.velocity * (_mean(in_head.diff(dim=1)) + _mean(on_frame.diff(dim=1))),
            "acceleration": w.acceleration * (_mean(in_head.diff(n=2, dim=1)) + _mean(on_frame.diff(n=2, dim=1))),
            **self.constancy(p, own, steady, clips.tokens, w),
        }

    def constancy(
        self, p: FaceParameters, own: FaceParameters, steady: Tensor, tokens: Tensor, w: TemporalLosses | RecordLosses
    ) -> dict[str, Tensor]:
        """Weighted terms that need no truth: what a person keeps from frame to frame, and what the image model said.

        Args:
            p, own: parameters of the steadied and of the image model's own tokens.
        """
        neutral = self.part(p.shape).vertices.unflatten(0, steady.shape[:2]) / HEAD_WIDTH
        appearance, own_appearance = (
            torch.cat([each.texture, each.light], dim=-1).unflatten(0, steady.shape[:2]) for each in (p, own)
        )
        return {
            "identity": w.identity * _mean(neutral.diff(dim=1)),
            "appearance": w.appearance * appearance.diff(dim=1).abs().mean(),
            "appearance_mean": w.appearance_mean * (appearance - own_appearance).mean(dim=1).abs().mean(),
            "stay": w.stay * (steady - tokens).square().mean(),
        }


def _mean(difference: Tensor) -> Tensor:
    """Mean absolute sum over coordinates (Eq. 3)."""
    return difference.abs().sum(-1).mean()


def to_frame(points: Tensor, crops: Tensor) -> Tensor:
    """Crop NDC [B, V, 2] to frame pixels, through crops [B, 4] (centre, side, angle): `Crop.to_photo`, batched."""
    cos, sin = torch.cos(crops[:, 3]), torch.sin(crops[:, 3])
    linear = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
    linear = linear * (crops[:, 2] / 2)[:, None, None]
    return points @ linear.transpose(1, 2) + crops[:, None, :2]
