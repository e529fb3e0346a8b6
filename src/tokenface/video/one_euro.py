"""One-Euro filter (Casiez et al. 2012): low-pass whose cutoff rises with speed. The baseline of video smoothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class OneEuroSettings:
    """min_cutoff: Hz at rest, lower is smoother.  beta: how much the cutoff (Hz) rises per unit of speed.
    speed_cutoff: Hz, of the speed's own low-pass."""

    min_cutoff: float = 1.5
    beta: float = 0.3
    speed_cutoff: float = 1.0


class OneEuro:
    """A filter over vectors [N]; times in seconds, not necessarily regular."""

    def __init__(self, settings: OneEuroSettings | None = None) -> None:
        self.settings = settings or OneEuroSettings()
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | None = None
        self._time = 0.0

    def __call__(self, value: np.ndarray, time: float) -> np.ndarray:
        """The smoothed value at this time; the first one comes back as it is."""
        value = np.asarray(value, np.float64)
        if self._value is None or self._speed is None or time <= self._time:
            self._value, self._speed, self._time = value, np.zeros_like(value), time
            return value
        s, step = self.settings, time - self._time
        speed = (value - self._value) / step
        self._speed = self._speed + _share(s.speed_cutoff, step) * (speed - self._speed)
        self._value = self._value + _share(s.min_cutoff + s.beta * np.abs(self._speed), step) * (value - self._value)
        self._time = time
        return self._value

    def state(self) -> dict[str, Any]:
        return {"value": self._value, "speed": self._speed, "time": self._time}

    def restore(self, state: dict[str, Any]) -> None:
        self._value, self._speed, self._time = state["value"], state["speed"], float(state["time"])


def _share(cutoff: Any, step: float) -> Any:
    """Weight of the new sample in a first-order low-pass with this cutoff (Hz) and time step (seconds)."""
    ratio = 2 * math.pi * cutoff * step
    return ratio / (ratio + 1)
