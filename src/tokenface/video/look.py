"""One pass of the image model over the crops of one frame: predictions, and the colours that tell people apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from tokenface.geometry.crop import Crop
from tokenface.inference.predictor import Prediction, Predictor


@dataclass(frozen=True, eq=False)
class Look(Prediction):
    """A prediction on a frame.  colours: [N] colour histogram of the crop, sums to 1."""

    colours: np.ndarray


_FIELDS = [one.name for one in fields(Prediction)]


def look_at(predictor: Predictor, image: np.ndarray, crops: Sequence[Crop]) -> list[Look]:
    """One pass over crops of one frame [H, W, 3]."""
    predictions = predictor.predictions([image] * len(crops), crops, max(len(crops), 1), mesh468=False)
    return [
        Look(**{name: getattr(one, name) for name in _FIELDS}, colours=colour_histogram(one.pixels.numpy()))
        for one in predictions
    ]


def colour_histogram(pixels: np.ndarray, bins: int = 6) -> np.ndarray:
    """[3, S, S] in [0, 1] → [bins³] shares of the crop's pixels: what tells people of one clip apart."""
    thin = pixels[:, 2::4, 2::4].reshape(3, -1)
    places = np.minimum((thin * bins).astype(np.int64), bins - 1)
    histogram = np.bincount((places[0] * bins + places[1]) * bins + places[2], minlength=bins**3)
    return (histogram / max(histogram.sum(), 1)).astype(np.float32)


def certainty(look: Look) -> float:
    """The larger, the surer the network is of where the face is; 0 where it does not say."""
    return -look.sigma if look.sigma is not None else 0.0
