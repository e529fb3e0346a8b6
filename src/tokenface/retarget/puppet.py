"""Target of a transfer: identity, skin and camera fixed; expression, jaw and head pose driven."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tokenface.geometry import rotations
from tokenface.geometry.camera import Camera
from tokenface.inference.face import Face
from tokenface.inference.photo_texture import photo_texture
from tokenface.render.renderer import Renderer
from tokenface.render.shading import ambient_light

FRAME = 1.6
"""Side of the picture over the crop's: the whole head is on it."""
BACKDROP = np.array([0.16, 0.175, 0.20], np.float32)


class Puppet:
    """A face of a photo that can be made to do what others do.

    Args:
        face: the target.  photo: [H, W, 3] uint8 that it was found in.
        skin: "photo", or "model": the predicted albedo.
    """

    def __init__(self, face: Face, photo: np.ndarray, skin: Literal["photo", "model"] = "photo") -> None:
        self.face, self.photo, self.skin = face, photo, skin
        self._renderer = Renderer(face.head)

    @cached_property
    def texture(self) -> np.ndarray:
        """[R, R, 3] uint8: the photo on the head's texture layout, or the albedo."""
        if self.skin == "model":
            return self.face.albedo
        return photo_texture(self.face, self.photo, whole_head=True, mended=False)

    @cached_property
    def iris(self) -> np.ndarray | None:
        """[3] uint8 sRGB of the irises as the target's photo shows them; None where it does not."""
        return self.face.iris_colour(self.photo)

    def pose(self, expression: Tensor, jaw: Tensor) -> Face:
        """The target with this expression [E] and jaw [3]; everything else of it is untouched."""
        parameters = self.face.parameters.replace(expression=expression.clone(), jaw=jaw.clone())
        return replace(self.face, parameters=parameters)

    @torch.inference_mode()
    def picture(self, posed: Face, rotation: np.ndarray | None = None, size: int = 512) -> np.ndarray:
        """[size, size, 3] uint8: the posed head with the photo as its skin, where the target has it on the photo.

        Args:
            rotation: [3, 3] of the head on the picture; None: the target's own.
        """
        vertices = torch.from_numpy(posed.vertices)[None]
        camera = self._camera(self.face.camera.rotation if rotation is None else rotation)
        skin = torch.from_numpy(self.texture).permute(2, 0, 1)[None].float() / 255
        drawn = self._renderer.render_vertices(vertices, camera, ambient_light(), 2 * size, skin)
        mask = drawn.mask[0, None].float()
        image = drawn.image[0] * mask + torch.from_numpy(BACKDROP)[:, None, None] * (1 - mask)
        small = torch.nn.functional.avg_pool2d(image[None], 2)[0]
        return (small.clamp(0, 1).permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)

    def _camera(self, rotation: np.ndarray) -> Camera:
        """Of the larger, upright square around the crop; the middle of the face stays where it is."""
        own = self.face.camera
        scale = torch.tensor([own.pixels_per_metre / (self.face.crop.size * FRAME / 2)], dtype=torch.float32)
        middle = self.face.landmarks3d.mean(axis=0)
        place = (own.project(middle[None])[0] - self.face.crop.centre) / (self.face.crop.size * FRAME / 2)
        turned = torch.from_numpy(np.ascontiguousarray(rotation)).float()[None]
        moved = float(scale) * (rotation @ middle)
        translation = torch.tensor([[place[0] - moved[0], -place[1] - moved[1], 0.0]], dtype=torch.float32)
        return Camera(scale, rotations.rotmat_to_rotvec(turned), translation)
