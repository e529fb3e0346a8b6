"""Hair of a face as its photo shows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenface.formats.rig import PartMaterial, RigPart
from tokenface.hair.fit import HairStyle, fit_hair
from tokenface.hair.mesh import hair_part
from tokenface.hair.texture import hair_material
from tokenface.inference.face import Face
from tokenface.parsing.parser import parse


@dataclass(frozen=True, eq=False)
class Hair:
    """Style and strands that a photo shows; they fit on every head of its head model."""

    style: HairStyle
    material: PartMaterial

    @staticmethod
    def of(face: Face, photo: np.ndarray) -> Hair | None:
        """None where the photo shows none, or a hat.

        Args:
            photo: [H, W, 3] uint8 RGB that the face was found in.
        """
        regions = parse(photo, face.landmarks, face.camera.angles[2])
        style = fit_hair(face, regions)
        return None if style is None else Hair(style, hair_material(photo, regions))

    def on(self, face: Face) -> RigPart:
        """The mesh on a face's relaxed head."""
        return hair_part(face.head, face.neutral_vertices, self.style, self.material)


def photo_hair(face: Face, photo: np.ndarray | None = None) -> RigPart | None:
    """The hair for `Face.save`: a cap and cards on the face's relaxed head; None where its photo shows none, or a hat.

    Args:
        photo: [H, W, 3] uint8 RGB that the face was found in; None loads it again from where it came.
    Raises:
        ImageError: the photo is gone.
    """
    found = Hair.of(face, face.item.load() if photo is None else photo)
    return None if found is None else found.on(face)
