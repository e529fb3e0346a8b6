"""Photometric refinement: all components fitted to the photos' pixels by Adam, one shape for all photos.

A step costs one differentiable rendering of every photo. Each component moves in units of how far it may be off, so
that the sum of squares of all moves is the prior, and Adam's steps mean the same for all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenface.geometry import rotations
from tokenface.head.model import HeadModel
from tokenface.losses.photometric import photometric_loss
from tokenface.parameters import FaceParameters
from tokenface.refinement.landmarks import Deviations, Observed, view_units
from tokenface.refinement.view import LIMIT, View
from tokenface.render.renderer import RenderedFaces, Renderer

SIZE = 128
"""Pixels of the square crop that is compared."""
GREY_DEVIATION = 0.1
"""Grey levels from which a difference counts ever less: hair, glasses and shadows are no matter of the face."""
PIXELS_WORTH = 300.0
"""Independent observations that all pixels of a face together are worth: neighbours err together."""
POINTS_WORTH = 60.0
"""The same for the 468 points."""
TEXTURE_DEVIATION, LIGHT_DEVIATION = 0.6, 0.15
FACING = 0.2
"""Least cosine between a pixel's normal and the viewer."""
RATE, MOMENTS = 0.1, (0.9, 0.95)
NOT_SKIN = ("eyeballs", "eye_region", "mouth_interior", "teeth", "tongue")
"""Lashes and shadows around the eyes would be explained by drooping lids."""


@dataclass(frozen=True)
class TensorView:
    """Views of B photos in torch, as `render.renderer` takes a camera: `View`'s formula, y down and a depth."""

    rotation: Tensor  # [B, 3, 3]
    scale: Tensor  # [B]
    place: Tensor  # [B, 2]
    pivot: Tensor  # [3]
    nearness: Tensor  # [B]
    principal: Tensor  # [B, 2]

    @staticmethod
    def of(views: list[View], moves: Tensor) -> TensorView:
        """Views moved by [B, 6] steps (see `View.moved`)."""

        def column(values: list) -> Tensor:
            return torch.from_numpy(np.stack(values)).float()

        scale = column([np.float64(view.scale) for view in views]) * moves[:, 3].exp()
        focal = column([np.float64(np.inf if view.focal is None else view.focal) for view in views])
        return TensorView(
            rotations.rotvec_to_rotmat(moves[:, :3]) @ column([view.rotation for view in views]),
            scale,
            column([view.place for view in views]) + moves[:, 4:],
            column([views[0].pivot])[0],
            scale / focal,
            column([np.zeros(2) if view.principal is None else view.principal for view in views]),
        )

    def rotate(self, directions: Tensor) -> Tensor:
        return directions @ self.rotation.transpose(-1, -2)

    def project(self, vertices: Tensor) -> Tensor:
        """[B, V, 3] metres → [B, V, 3] crop NDC, y down, depth."""
        q = self.rotate(vertices - self.pivot)
        shrink = (1 - self.nearness[:, None] * q[..., 2]).clamp(min=LIMIT)[..., None]
        across = self.scale[:, None, None] * q[..., :2] + (self.place - self.principal)[:, None]
        seen = self.principal[:, None] + across / shrink
        return torch.stack([seen[..., 0], -seen[..., 1], -self.scale[:, None] * q[..., 2]], dim=-1)


class FacePixels:
    """A head model's face, drawn and compared."""

    def __init__(self, head: HeadModel):
        self.head = head
        self.renderer = Renderer(head)
        self.skin = self.renderer.region_weights("face")
        for name in NOT_SKIN:
            if name in head.data.regions:
                self.skin[torch.from_numpy(np.array(head.data.regions[name], np.int64))] = 0

    def draw(self, parameters: FaceParameters, views: TensorView) -> RenderedFaces:
        mesh = self.head(parameters.shape, parameters.expression, parameters.jaw)
        albedo = None if self.renderer.albedo is None else self.renderer.albedo(parameters.texture)
        light = parameters.light
        return self.renderer.render_vertices(mesh.vertices, views, light, SIZE, albedo, self.skin)  # type: ignore[arg-type]

    @torch.no_grad()
    def difference(self, parameters: FaceParameters, views: list[View], images: Tensor) -> np.ndarray:
        """[B] mean absolute difference over the skin, grey levels of 1."""
        drawn = self.draw(parameters, TensorView.of(views, torch.zeros(len(views), 6)))
        return photometric_loss(drawn.image, images, _mask(drawn)).numpy()

    def fit(
        self,
        parameters: FaceParameters,
        photos: list[Observed],
        images: Tensor,
        deviations: Deviations,
        movable: Collection[str],
        steps: int,
    ) -> tuple[FaceParameters, list[View]]:
        """Parameters [B, ...] of photos of one person, whose first row's shape and texture are everybody's.

        Args:
            photos: the points, which go on counting; their start holds the views.  images: [B, 3, SIZE, SIZE].
            movable: names of components that may move.
        """
        views = [photo.start.view for photo in photos]
        units = _units(deviations, parameters, photos)
        with torch.enable_grad():
            moves = {
                name: torch.zeros(1 if name in ("shape", "texture") else len(photos), unit.shape[-1])
                for name, unit in units.items()
            }
            free = [moves[name].requires_grad_() for name in units if name in movable]
            optimiser = torch.optim.Adam(free, lr=RATE, betas=MOMENTS)
            for _ in range(steps):
                moved, seen = self._moved(parameters, views, units, moves)
                drawn = self.draw(moved, seen)
                cost = self._cost(drawn, seen, photos, images)
                cost = cost + sum(move.square().sum() for move in free)
                optimiser.zero_grad()
                cost.backward()
                optimiser.step()
        with torch.no_grad():
            moved, seen = self._moved(parameters, views, units, moves)
            step = torch.einsum("bij,bj->bi", units["camera"], moves["camera"]).double().numpy()
        return moved.detach(), [view.moved(own) for view, own in zip(views, step, strict=True)]

    def _moved(
        self, parameters: FaceParameters, views: list[View], units: dict[str, Tensor], moves: dict[str, Tensor]
    ) -> tuple[FaceParameters, TensorView]:
        changed = {
            name: getattr(parameters, name) + moves[name] * units[name]
            for name in ("shape", "expression", "jaw", "texture", "light")
        }
        changed["expression"] = self.head.clamp_expression(changed["expression"])
        step = torch.einsum("bij,bj->bi", units["camera"], moves["camera"])
        return parameters.replace(**changed), TensorView.of(views, step)

    def _cost(self, drawn: RenderedFaces, views: TensorView, photos: list[Observed], images: Tensor) -> Tensor:
        mask = _mask(drawn)
        grey = (drawn.image - images).square().mean(1)
        robust = 2 * torch.log1p(grey / (2 * GREY_DEVIATION**2))
        cost = PIXELS_WORTH * ((robust * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)).sum()
        if self.head.mesh468_faces is None:
            return cost
        points = views.project(self.head.landmarks468(drawn.vertices))[..., :2] * torch.tensor([1.0, -1.0])
        for own, photo in zip(points, photos, strict=True):
            seen = np.flatnonzero(np.isfinite(photo.deviation))
            if len(seen):
                error_modes = np.tensordot(photo.start.error_modes, photo.error_modes, 1)
                target = torch.from_numpy((photo.target - error_modes)[seen]).float()
                sigma = torch.from_numpy(photo.deviation[seen]).float()
                length = ((own[self.head.mesh468_valid][seen] - target) / sigma[:, None]).square().sum(-1)
                cost = cost + POINTS_WORTH * torch.log1p(length / 18).mean() * 18
        return cost


def _mask(drawn: RenderedFaces) -> Tensor:
    """[B, S, S] skin that faces the viewer; a constant, so that a face cannot shrink out of what it explains badly."""
    return (drawn.weight * (drawn.normals[..., 2] > FACING)).detach()


def _units(deviations: Deviations, parameters: FaceParameters, photos: list[Observed]) -> dict[str, Tensor]:
    """What a move of 1 changes: vectors, and for the camera a matrix per photo [B, 6, 6]."""
    plain = {
        "shape": deviations.shape,
        "expression": deviations.expression,
        "jaw": deviations.jaw,
        "texture": np.full(parameters.texture.shape[1], TEXTURE_DEVIATION),
        "light": np.full(parameters.light.shape[1], LIGHT_DEVIATION),
    }
    units = {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in plain.items()}
    camera = np.stack([view_units(photo) @ np.diag(deviations.view) for photo in photos])
    units["camera"] = torch.from_numpy(camera).float()
    return units
