"""Scene-cut detection, causal: one frame has nothing in common with the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

THUMBNAIL = (48, 27)
BINS = 12
_EYE = np.eye(BINS, dtype=np.float32)
_SPREAD = _EYE / 2 + _EYE[[0, *range(BINS - 1)]] / 4 + _EYE[[*range(1, BINS), BINS - 1]] / 4
"""[BINS, BINS] neighbouring bins count half: a slow change of light must not move everything at once."""


@dataclass(frozen=True)
class CutThresholds:
    """A cut needs all three. pixels: mean difference of small pictures, in [0, 1].  colours: share of the pixels
    that change their place in the colour histogram.  jump: pixels over what the last frames differed by."""

    pixels: float = 0.09
    colours: float = 0.25
    jump: float = 3.0


class CutDetector:
    """Frame by frame: is this one the first of a new shot?"""

    def __init__(self, thresholds: CutThresholds | None = None) -> None:
        self.thresholds = thresholds or CutThresholds()
        self._thumbnail: np.ndarray | None = None
        self._histogram: np.ndarray | None = None
        self._usual = 0.0

    def step(self, image: np.ndarray) -> bool:
        """image: [H, W, 3] uint8 RGB."""
        thumbnail, histogram = _signature(image)
        cut = False
        if self._thumbnail is not None and self._histogram is not None:
            pixels = float(np.abs(thumbnail - self._thumbnail).mean())
            colours = float(np.abs(histogram - self._histogram).sum()) / 2
            t = self.thresholds
            cut = pixels > t.pixels and colours > t.colours and pixels > t.jump * self._usual
            # a cut says nothing of how much the new shot moves
            self._usual = self._usual / 2 if cut else 0.8 * self._usual + 0.2 * pixels
        self._thumbnail, self._histogram = thumbnail, histogram
        return cut

    def state(self) -> dict[str, Any]:
        return {"thumbnail": self._thumbnail, "histogram": self._histogram, "usual": self._usual}

    def restore(self, state: dict[str, Any]) -> None:
        self._thumbnail, self._histogram = state["thumbnail"], state["histogram"]
        self._usual = float(state["usual"])


def _signature(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Small picture [27, 48, 3] float32 in [0, 1], and colour histogram [BINS³] that sums to 1."""
    stride = max(1, min(image.shape[:2]) // 100)
    small = cv2.resize(image[::stride, ::stride], THUMBNAIL, interpolation=cv2.INTER_AREA)
    bins = (small.astype(np.int32) * BINS) // 256
    places = (bins[..., 0] * BINS + bins[..., 1]) * BINS + bins[..., 2]
    histogram: np.ndarray = np.bincount(places.reshape(-1), minlength=BINS**3).astype(np.float32)
    for _ in range(3):  # along one axis, which becomes the last
        histogram = (_SPREAD @ histogram.reshape(BINS, -1)).T.reshape(-1)
    return small.astype(np.float32) / 255, histogram / histogram.sum()
