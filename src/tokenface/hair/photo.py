"""Hair and brows of a face as its photo shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenface.formats.rig import PartMaterial, RigPart
from tokenface.hair.brows import brows_material, brows_part
from tokenface.hair.fit import HairStyle, fit_hair
from tokenface.hair.mesh import hair_part
from tokenface.hair.texture import hair_material
from tokenface.inference.face import Face
from tokenface.parsing.parser import parse


@dataclass(frozen=True, eq=False)
class Hair:
    """What a photo shows of hair; it fits on every head of its head model.

    style, strands: of the head's hair; None where the photo shows none, or a hat.  brows: their hairs.
    """

    style: HairStyle | None
    strands: PartMaterial | None
    brows: PartMaterial

    @staticmethod
    def of(face: Face, photo: np.ndarray) -> Hair:
        """photo: [H, W, 3] uint8 RGB that the face was found in."""
        regions = parse(photo, face.landmarks, face.camera.angles[2])
        style = fit_hair(face, regions)
        return Hair(style, None if style is None else hair_material(photo, regions), brows_material(face, photo))

    def on(self, face: Face) -> tuple[RigPart, ...]:
        """The meshes on a face's relaxed head."""
        parts = [brows_part(face.head, face.rig(parts=False), self.brows)]
        if self.style is not None and self.strands is not None:
            parts.append(hair_part(face.head, face.neutral_vertices, self.style, self.strands))
        return tuple(parts)


def photo_hair(face: Face, photo: np.ndarray | None = None) -> Sequence[RigPart]:
    """Brows and hair for `Face.save`: cards on the skin, a cap and cards on the skull; no hair where the photo shows
    none, or a hat.

    Args:
        photo: [H, W, 3] uint8 RGB that the face was found in; None loads it again from where it came.
    Raises:
        ImageError: the photo is gone.
    """
    return Hair.of(face, face.item.load() if photo is None else photo).on(face)
