"""Faces in a mirror: what becomes of crops and parameters when left and right change places."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters

FLIP = (-1.0, 1.0, 1.0)
CAMERA = (1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 1.0)
"""Signs of the camera's numbers: turns about y and z, and the place across, are reversed."""
JAW = (1.0, -1.0, -1.0)


class Mirror:
    """Of one head model, whose modes are symmetric or not and whose actions come in pairs of left and right."""

    def __init__(self, head: HeadModel):
        partner = torch.as_tensor(head.data.mirror.copy(), dtype=torch.int64)
        modes = head.basis[: head.sizes.shape]
        reflected = (modes * modes.new_tensor(FLIP))[:, partner]
        self.shape = torch.einsum("mvc,mvc->m", modes, reflected).sign()  # [S]: 1 of symmetric modes, −1 of others
        self.expression = torch.tensor(_partners(head.expression_names))

    def images(self, images: Tensor) -> Tensor:
        return images.flip(-1)

    def parameters(self, faces: FaceParameters) -> FaceParameters:
        """Of the mirrored pictures; texture and light are left as they are."""
        return faces.replace(
            shape=faces.shape * self.shape,
            expression=faces.expression[:, self.expression],
            jaw=faces.jaw * faces.jaw.new_tensor(JAW),
            camera=faces.camera * faces.camera.new_tensor(CAMERA),
        )


def _partners(names: tuple[str, ...]) -> list[int]:
    """The action of the other side for each; itself where there is none."""
    swapped = [name.replace("Left", "\0").replace("Right", "Left").replace("\0", "Right") for name in names]
    return [names.index(name) if name in names else own for own, name in enumerate(swapped)]
