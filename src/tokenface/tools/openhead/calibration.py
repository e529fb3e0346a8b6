"""Statistics of real scans as numbers over OpenHead's generators; `scripts/calibrate_openhead.py` makes the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenface.errors import HeadModelError

FILE = Path(__file__).with_name("ict_calibration.npz")


@dataclass(frozen=True)
class Calibration:
    """Derived from ICT-FaceKit's identity model (MIT © 2020 USC Institute for Creative Technologies).

    mean: [G] coefficients of the mean face.  factors: [100, G]; the covariance is factorsᵀ·factors.
    log_size: [100] change of log head size that goes with each factor; all for unit-variance weights.
    """

    mean: np.ndarray
    factors: np.ndarray
    log_size: np.ndarray

    @property
    def size_std(self) -> float:
        """Standard deviation of log head size over real people."""
        return float(np.linalg.norm(self.log_size))


def load_calibration(path: Path = FILE, generators: int | None = None) -> Calibration:
    """Read the numbers.

    Raises:
        HeadModelError: missing, or made for another set of generators.
    """
    if not path.is_file():
        raise HeadModelError(f"no calibration at '{path}'; make it with scripts/calibrate_openhead.py")
    with np.load(path, allow_pickle=False) as file:
        result = Calibration(*(file[name].astype(np.float64) for name in ("mean", "factors", "log_size")))
    if generators is not None and len(result.mean) != generators:
        raise HeadModelError(
            f"'{path}' has {len(result.mean)} coefficients, expected {generators}; the generators changed, so run "
            "scripts/calibrate_openhead.py again"
        )
    return result
