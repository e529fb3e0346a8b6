"""Absolute head size: model average, interpupillary distance, or iris diameter in the photo.

A photo shows directions, not lengths; OpenHead's shapes have no size either (`docs/openhead.md`). Every head is the
average adult's until something is known: one length on it gives the factor for all.
"""

from __future__ import annotations

import numpy as np
import torch

from tokenface.errors import ImageError
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.model import LEFT_EYE, RIGHT_EYE, HeadModel
from tokenface.images.iris import IRIS_METRES, LEAST_PIXELS, Iris

PLAUSIBLE = (0.7, 1.4)
"""Sizes of heads over the average adult's, from a small child's up."""


def pupil_distance(head: HeadModel, shape: torch.Tensor) -> float:
    """Metres between the centres of the eyeballs of shape [S]: between the pupils of eyes that look far away."""
    with torch.inference_mode():
        joints = head(shape[None]).joints[0]
    return float((joints[LEFT_EYE] - joints[RIGHT_EYE]).norm())


def size_from_pupils(head: HeadModel, shape: torch.Tensor, millimetres: float) -> float:
    """The factor that gives the head this distance between its pupils."""
    return millimetres / 1000 / pupil_distance(head, shape)


def size_from_irises(camera: FaceCamera, eyes: np.ndarray, irises: tuple[Iris, Iris]) -> float:
    """The factor that makes an iris of the photo 11.7 mm wide at the depth of the model's eyes; the larger of both
    irises counts, since lids and turning only take away.

    Args:
        camera: of the head at the model's own size.  eyes: [2, 3] centres of the left and right eyeball, metres.
    Raises:
        ImageError: the irises are too small to be measured, or make the head a giant's or a doll's.
    """
    diameters = np.array([iris.diameter for iris in irises])
    if diameters.max() < LEAST_PIXELS:
        raise ImageError(
            f"the irises are {diameters.max():.1f} pixels wide, too few to measure; give the distance between the "
            "pupils (--ipd) or a larger photo"
        )
    metres = diameters / pixels_per_metre(camera, eyes)
    size = IRIS_METRES / float(metres.max())
    if not PLAUSIBLE[0] <= size <= PLAUSIBLE[1]:
        raise ImageError(
            f"measured by its irises the head is {size:.2f} times the average adult's, which cannot be; give the "
            "distance between the pupils (--ipd)"
        )
    return size


def pixels_per_metre(camera: FaceCamera, points: np.ndarray) -> np.ndarray:
    """[N, 3] → [N] photo pixels per metre across the line of sight at these places."""
    if camera.lens is None:
        return np.full(len(points), camera.pixels_per_metre)
    depth = points @ camera.lens.R[2] + camera.lens.t[2]
    return camera.lens.K[0, 0] / depth
