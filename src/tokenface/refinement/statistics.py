"""Error statistics of the network and the face mesh on rendered heads (`training.refinement_statistics`)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tokenface.core.files import write_atomically
from tokenface.errors import HeadModelError

FILE_NAME = "refinement.safetensors"
BIAS_TERMS = 6
ERROR_MODES = 40
FORMER = {"habits": "error_modes"}
"""Names in files that earlier versions measured."""


@dataclass(frozen=True)
class Statistics:
    """Errors of the predictions that refinement starts from and of the points that it follows.

    Points are [N, 2] for the 468 points in metres at the face, x right and y up in the upright face's picture.

    bias: [6, 468, 2] where the face mesh puts a point beside the head's own, by the terms of `view_terms`.
    error_modes: [M, 468, 2] patterns, one standard deviation each, in which all points err together.
    deviation: [468] what is left, per coordinate.
    expression: [E], jaw: [3], view: [6] (turn, log scale, place in metres), shape: [1]: root mean square error of the
    network's own components.
    """

    bias: np.ndarray
    error_modes: np.ndarray
    deviation: np.ndarray
    shape: np.ndarray
    expression: np.ndarray
    jaw: np.ndarray
    view: np.ndarray

    def expected(self, yaw: float, pitch: float) -> np.ndarray:
        """[468, 2] the bias at a pose, radians."""
        return np.tensordot(view_terms(yaw, pitch), self.bias, 1)

    def save(self, path: str | Path) -> Path:
        """float16: the figures have three digits."""
        arrays = {f.name: np.ascontiguousarray(getattr(self, f.name), np.float16) for f in fields(self)}
        return write_atomically(path, save(arrays))

    @staticmethod
    def load(path: str | Path | None = None) -> Statistics:
        """Those that come with the package.

        Raises:
            HeadModelError: the file is missing or damaged.
        """
        try:
            if path is None:
                data = resources.files("tokenface").joinpath("assets", FILE_NAME).read_bytes()
            else:
                data = Path(path).read_bytes()
            arrays = {FORMER.get(name, name): array.astype(np.float64) for name, array in load(data).items()}
            found = Statistics(**arrays)
            if found.bias.shape != (BIAS_TERMS, 468, 2) or found.deviation.shape != (468,):
                raise ValueError("arrays of other sizes")
            return found
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            raise HeadModelError(
                f"the statistics for refinement cannot be read ({error}); measure them with "
                "'python -m tokenface.training.refinement_statistics'"
            ) from error


def view_terms(yaw: np.ndarray | float, pitch: np.ndarray | float) -> np.ndarray:
    """[6, ...] 1, sin yaw, sin pitch, and their products."""
    y, p = np.sin(yaw), np.sin(pitch)
    return np.stack([np.ones_like(y), y, p, y * y, y * p, p * p])
