"""Hair of a face as its photo shows it."""

from __future__ import annotations

import numpy as np

from tokenface.formats.rig import RigPart
from tokenface.hair.fit import fit_hair
from tokenface.hair.mesh import hair_part
from tokenface.hair.texture import hair_material
from tokenface.inference.face import Face
from tokenface.parsing.parser import parse


def photo_hair(face: Face, photo: np.ndarray | None = None) -> RigPart | None:
    """The hair for `Face.save`: a cap and cards on the face's relaxed head; None where the photo shows none, or a hat.

    Args:
        photo: [H, W, 3] uint8 RGB that the face was found in; None loads it again from where it came.
    Raises:
        ImageError: the photo is gone.
    """
    photo = face.item.load() if photo is None else photo
    regions = parse(photo, face.landmarks, face.camera.angles[2])
    style = fit_hair(face, regions)
    if style is None:
        return None
    return hair_part(face.head, face.neutral_vertices, style, hair_material(photo, regions))
