"""Faces in a mirror: what becomes of crops and parameters when left and right change places."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tokenface.core.device import constant, placed
from tokenface.geometry.landmarks import MIRROR68
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters

FLIP = (-1.0, 1.0, 1.0)
CAMERA = (1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 1.0)
"""Signs of the camera's numbers: turns about y and z, and the place across, are reversed."""
JAW = (1.0, -1.0, -1.0)
LIGHT = (1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0)
"""Signs of the harmonics [1, x, y, z, xy, xz, yz, x² − y², 3z² − 1]: those odd in x are reversed."""


class Mirror:
    """Of one head model, whose modes are symmetric or not and whose actions come in pairs of left and right."""

    def __init__(self, head: HeadModel):
        partner = torch.as_tensor(head.data.mirror.copy(), dtype=torch.int64)
        modes = head.basis[: head.sizes.shape].cpu()
        reflected = (modes * modes.new_tensor(FLIP))[:, partner]
        self.shape = torch.einsum("mvc,mvc->m", modes, reflected).sign()  # [S]: 1 of symmetric modes, −1 of others
        self.expression = torch.tensor(_partners(head.expression_names))

        self.texture = _flipped_albedo(head) if head.sizes.texture else None

    def parameters(self, faces: FaceParameters) -> FaceParameters:
        """Of the mirrored pictures; an albedo whose mirror image the modes lack becomes the nearest that they have."""
        device, dtype = faces.light.device, faces.light.dtype
        light = faces.light.unflatten(-1, (9, 3)) * constant(LIGHT, device, dtype)[:, None]
        return faces.replace(
            shape=faces.shape * placed(self.shape, device).to(dtype),
            expression=faces.expression.index_select(1, placed(self.expression, device)),
            jaw=faces.jaw * constant(JAW, device, dtype),
            camera=faces.camera * constant(CAMERA, device, dtype),
            texture=faces.texture if self.texture is None else faces.texture @ placed(self.texture, device).to(dtype),
            light=light.flatten(-2),
        )

    def rows(
        self, chosen: Tensor, image: Tensor, points: Tensor, faces: FaceParameters
    ) -> tuple[Tensor, Tensor, FaceParameters]:
        """Pictures [B, 3, S, S], 68 points [B, 68, 2] and parameters, mirrored where `chosen` [B]."""

        def either(mirrored: Tensor, own: Tensor) -> Tensor:
            return torch.where(chosen.view(-1, *[1] * (own.dim() - 1)), mirrored, own)

        other = self.parameters(faces)
        mixed = {name: either(getattr(other, name), value) for name, value in faces.items()}
        flipped = points.index_select(1, constant(MIRROR68, points.device)) * constant(
            [-1.0, 1.0], points.device, points.dtype
        )
        return either(image.flip(-1), image), either(flipped, points), FaceParameters(**mixed)


def _flipped_albedo(head: HeadModel) -> Tensor:
    """[A, A]: coefficients times it are those of the map's mirror image, as near as the modes come (least squares)."""
    assert head.data.albedo_basis is not None
    modes = np.asarray(head.data.albedo_basis[: head.sizes.texture], np.float32)
    if head.data.albedo_scale is not None:
        modes = modes * np.asarray(head.data.albedo_scale[: len(modes)], np.float32)[:, None, None, None]
    flat, flipped = modes.reshape(len(modes), -1), modes[:, :, ::-1].reshape(len(modes), -1)
    return torch.from_numpy(np.linalg.solve(flat @ flat.T, flat @ flipped.T).T.copy())


def _partners(names: tuple[str, ...]) -> list[int]:
    """The action of the other side for each; itself where there is none."""
    swapped = [name.replace("Left", "\0").replace("Right", "Left").replace("\0", "Right") for name in names]
    return [names.index(name) if name in names else own for own, name in enumerate(swapped)]
