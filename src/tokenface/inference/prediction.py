"""Prediction: one pass of the network for one crop."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.parameters import FaceParameters

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prediction:
    """One pass of the network for one crop.

    parameters: every tensor [size], float32 on the CPU; arrays where torch is not at work.
    camera: of the face in its picture.
    landmarks68: [68, 2] picture pixels.  landmarks468: [468, 2], NaN where the head model has no such point; None where
    it has none at all, or they were not asked for.
    sigma: mean expected error of the landmarks, crop half-widths.  tokens: [T, D] component tokens; both None where the
    network does not say.  pixels: [3, S, S] in [0, 1], the crop that the network saw.
    """

    parameters: FaceParameters
    camera: FaceCamera
    landmarks68: np.ndarray
    landmarks468: np.ndarray | None
    sigma: float | None
    tokens: Tensor | None
    pixels: Tensor

    @property
    def crop(self) -> Crop:
        return self.camera.crop

    @cached_property
    def roll(self) -> float:
        """Of the camera's angles, radians."""
        return self.camera.angles[2]
