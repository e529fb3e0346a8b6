"""Error of each component of a prediction against known truth."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tokenface.data.record import FaceBatch
from tokenface.geometry import rotations
from tokenface.geometry.similarity import procrustes
from tokenface.head.model import HeadModel
from tokenface.head.subset import visible_skin
from tokenface.inference.face import Face
from tokenface.parameters import COMPONENTS, FaceParameters
from tokenface.render.shading import sh_shading
from tokenface.render.texture import albedo_at

TEXELS = 500
GREY = 127.5
"""Grey levels of a mid-grey skin: what a difference of shading is multiplied by."""
NORMALS = 200


class ComponentErrors:
    """Errors of predictions against a known face of the same head model.

    shape: mm, mean distance of the neutral face's skin, vertex to vertex, after the best similarity.
    expression: mm, mean distance of the face's skin when the person makes the prediction's expression in place of the
    own.
    jaw, camera: degrees between rotations, of the jaw and of the head on the picture.
    texture: grey levels of 255, mean difference of the albedo on the face.  light: grey levels, mean difference of what
    a mid-grey face would reflect to the viewer.
    """

    def __init__(self, head: HeadModel):
        self.head = head
        skin = visible_skin(head.data)
        face = np.intersect1d(skin, head.data.regions["face"]) if "face" in head.data.regions else skin
        self.face = torch.from_numpy(face)
        self.modes = _texels(head, face)
        k = torch.arange(NORMALS) + 0.5  # a spiral of equal areas over the half of the sphere that faces the viewer
        z, turn = 1 - k / NORMALS, k * 2.399963
        self.normals = torch.stack([(1 - z * z).sqrt() * turn.cos(), (1 - z * z).sqrt() * turn.sin(), z], 1)

    @torch.no_grad()
    def __call__(self, face: Face, truth: FaceBatch, row: int) -> np.ndarray:
        """[6] in the order of COMPONENTS."""
        true = FaceParameters(**{name: value[row : row + 1] for name, value in truth.parameters.items()})
        own = FaceParameters(**{name: value[None] for name, value in face.parameters.items()})
        neutral, true_neutral = (
            v[0, self.face].double().numpy() for v in (self.head(own.shape).vertices, truth.neutral[row : row + 1])
        )
        moved = procrustes(neutral, true_neutral, reflection=False).apply(neutral)
        worn = self.head(true.shape, own.expression, true.jaw).vertices
        worn_true = self.head(true.shape, true.expression, true.jaw).vertices
        expression = (worn - worn_true)[:, self.face].norm(dim=-1).mean(-1)
        on_picture = torch.from_numpy(face.camera.rotation).float()
        errors = {
            "shape": 1000 * np.linalg.norm(moved - true_neutral, axis=1).mean(),
            "expression": 1000 * expression,
            "jaw": _degrees(rotations.rotvec_to_rotmat(own.jaw), rotations.rotvec_to_rotmat(true.jaw)),
            "camera": _degrees(on_picture[None], rotations.rotvec_to_rotmat(true.camera[:, 1:4])),
            "texture": 255 * ((own.texture - true.texture) @ self.modes).abs().mean(-1),
            "light": GREY * self._shading_gap(own, true, on_picture),
        }
        return np.array([float(errors[name]) for name in COMPONENTS])

    def _shading_gap(self, own: FaceParameters, true: FaceParameters, on_picture: Tensor) -> Tensor:
        # the prediction's light belongs to its crop, which may be turned against the picture
        turn = on_picture @ rotations.rotvec_to_rotmat(own.camera[0, 1:4]).T
        there = sh_shading((self.normals @ turn)[None], own.light)
        return (there - sh_shading(self.normals[None], true.light)).abs().mean((1, 2))


def _degrees(a: Tensor, b: Tensor) -> Tensor:
    return torch.rad2deg(rotations.rotation_angle(a, b))


def _texels(head: HeadModel, face: np.ndarray) -> Tensor:
    """[A, 3·TEXELS] albedo modes at texels of the face; [A, 0] for head models without an albedo."""
    data = head.data
    if data.albedo_basis is None:
        return torch.zeros(head.sizes.texture, 0)
    inside = np.flatnonzero(np.isin(data.faces, face).all(1))
    _, modes = albedo_at(data, np.random.default_rng(0).choice(inside, TEXELS))
    return torch.from_numpy(modes.reshape(len(modes), -1)).float()
