"""CSV in the column order of Epic's Live Link Face recordings (Unreal, Unity and Blender add-ons)."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

import numpy as np

from tokenface.head.arkit import ARKIT_NAMES

_SWAPPED = {"jawLeft": "jawRight", "jawRight": "jawLeft", "mouthLeft": "mouthRight", "mouthRight": "mouthLeft"}
ACTIONS = tuple(_SWAPPED.get(name, name) for name in ARKIT_NAMES)
"""The 52 actions in the recordings' order: Apple's, but right before left for jaw and mouth."""
ANGLES = tuple(f"{part}{axis}" for part in ("Head", "LeftEye", "RightEye") for axis in ("Yaw", "Pitch", "Roll"))
COLUMNS = ("Timecode", "BlendShapeCount", *(name[0].upper() + name[1:] for name in ACTIONS), *ANGLES)
ORDER = np.array([ARKIT_NAMES.index(name) for name in ACTIONS])
"""Of the 52 actions among ARKIT_NAMES."""


@dataclass(frozen=True)
class LiveLinkRow:
    """time: seconds.  weights: [52] in ARKIT_NAMES' order.  angles: [9] radians, order ANGLES."""

    time: float
    weights: np.ndarray
    angles: np.ndarray


def write_live_link(file: TextIO, rows: Iterable[LiveLinkRow], rate: float) -> int:
    """Write rows to an open text file (newline=""); returns their number. rate: frames per second of the timecode."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for row in rows:
        values = [*row.weights[ORDER], *row.angles]
        writer.writerow([timecode(row.time, rate), len(values), *(f"{value:.8f}" for value in values)])
        count += 1
    return count


def timecode(time: float, rate: float) -> str:
    """Seconds → `HH:MM:SS:FF.mmm`: whole frames of the second, and thousandths of a frame."""
    seconds = int(time + 1e-9)
    thousandths = round((time - seconds) * rate * 1000)
    frames, thousandths = divmod(max(thousandths, 0), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frames:02d}.{thousandths:03d}"
