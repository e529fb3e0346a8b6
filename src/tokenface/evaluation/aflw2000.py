"""AFLW2000-3D: 68-point error by pose range, and error of head angles."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tokenface.data.readers.photos2d import MATLAB
from tokenface.errors import EvaluationError

POSES: tuple[tuple[str, float, float], ...] = (("0–30", 0, 30), ("30–60", 30, 60), ("60–90", 60, 90.0001))
"""Ranges of the absolute yaw, degrees."""
LARGEST_ANGLE = 99.0
"""Photos with an angle beyond this are left out of the angles' error, as in the literature."""


@dataclass(frozen=True)
class AflwTruth:
    """points: [68, 2] photo pixels.  angles: [3] pitch, yaw, roll as the data set has them, degrees."""

    photo: Path
    points: np.ndarray
    angles: np.ndarray

    @property
    def box(self) -> np.ndarray:
        return np.concatenate([self.points.min(0), self.points.max(0)])


@dataclass(frozen=True)
class AflwRow:
    """Errors of one photo. error: one line if nothing.  nme: per cent of √(box width · height)."""

    photo: str
    yaw: float
    nme: float = float("nan")
    angle_errors: tuple[float, float, float] = (float("nan"),) * 3
    signed: tuple[float, float, float] = (float("nan"),) * 3
    error: str = ""


def read_aflw2000(root: str | Path) -> list[AflwTruth]:
    """Every photo that has a `.mat` beside it.

    Raises:
        EvaluationError: none, or one whose annotation cannot be read.
    """
    root = Path(root)
    photos = sorted(path for path in root.rglob("image*.jpg") if path.with_suffix(".mat").is_file())
    if not photos:
        raise EvaluationError(f"no image*.jpg with a .mat beside it below '{root}'; give the AFLW2000-3D folder")
    return [_read(photo) for photo in photos]


def _read(photo: Path) -> AflwTruth:
    from scipy.io import loadmat

    path = photo.with_suffix(".mat")
    try:
        content = loadmat(path)
        points = np.asarray(content["pt3d_68"], dtype=np.float64)[:2].T - MATLAB
        angles = np.degrees(np.asarray(content["Pose_Para"], dtype=np.float64).ravel()[:3])
    except Exception as error:  # the reader raises whatever it meets
        reason = " ".join(str(error).split())[:100]
        raise EvaluationError(
            f"'{path}' has no readable pt3d_68 and Pose_Para ({reason}); download it again"
        ) from error
    if points.shape != (68, 2) or angles.shape != (3,) or not (np.isfinite(points).all() and np.isfinite(angles).all()):
        raise EvaluationError(f"'{path}' has points {list(points.shape)} and {len(angles)} angles; expected 68 and 3")
    return AflwTruth(photo, points, angles)


def aflw_angles(rotation: np.ndarray) -> np.ndarray:
    """Pitch, yaw and roll in degrees as the data set counts them: R = Rx(pitch) · Ry(yaw) · Rz(roll).

    Its matrices turn clockwise, so yaw is positive to the left of the picture, pitch up, roll clockwise.

    Args:
        rotation: [3, 3] head to camera: x right, y up, z towards the viewer.
    """
    pitch = np.arctan2(rotation[1, 2], rotation[2, 2])
    yaw = np.arcsin(np.clip(-rotation[0, 2], -1, 1))
    roll = np.arctan2(rotation[0, 1], rotation[0, 0])
    return np.degrees([pitch, yaw, roll])


def compare(truth: AflwTruth, points: np.ndarray, rotation: np.ndarray) -> AflwRow:
    """Args: points: [68, 2] photo pixels.  rotation: as `aflw_angles`."""
    size = float(np.sqrt(np.prod(truth.box[2:] - truth.box[:2])))
    nme = 100 * float(np.linalg.norm(points - truth.points, axis=1).mean()) / size
    gap = (aflw_angles(rotation) - truth.angles + 180) % 360 - 180
    if np.abs(truth.angles).max() > LARGEST_ANGLE:
        gap = np.full(3, np.nan)
    p, y, r = (float(value) for value in gap)
    return AflwRow(truth.photo.name, float(truth.angles[1]), nme, (abs(p), abs(y), abs(r)), (p, y, r))


@dataclass(frozen=True)
class AflwFigures:
    """nme: per pose range, with their plain mean under "balanced" and the mean of all photos under "all", per cent.

    angles: mean absolute error of pitch, yaw, roll and their mean, degrees; centred: the same once each angle's mean
    error is taken out (the zero of pitch is each head model's own).
    """

    nme: dict[str, float]
    counts: dict[str, int]
    angles: dict[str, float]
    centred: dict[str, float]
    missing: int


def aflw_figures(rows: Sequence[AflwRow]) -> AflwFigures:
    """The tables of papers from the rows of all photos."""
    measured = [row for row in rows if not row.error]
    nme, counts = {}, {}
    for name, low, high in POSES:
        values = [row.nme for row in measured if low <= abs(row.yaw) < high]
        nme[name], counts[name] = (float(np.mean(values)) if values else float("nan")), len(values)
    present = [nme[name] for name, *_ in POSES if counts[name]]
    nme["balanced"] = float(np.mean(present)) if present else float("nan")
    nme["all"] = float(np.mean([row.nme for row in measured])) if measured else float("nan")
    signed = np.array([row.signed for row in measured if np.isfinite(row.signed).all()]).reshape(-1, 3)
    return AflwFigures(
        nme, counts, _mean_absolute(signed), _mean_absolute(signed - signed.mean(0)) if len(signed) else
        _mean_absolute(signed), len(rows) - len(measured)
    )  # fmt: skip


def _mean_absolute(gaps: np.ndarray) -> dict[str, float]:
    means = np.abs(gaps).mean(0) if len(gaps) else np.full(3, np.nan)
    return {**dict(zip(("pitch", "yaw", "roll"), means.tolist(), strict=True)), "mean": float(means.mean())}


def rows_csv(rows: Sequence[AflwRow]) -> str:
    """A row per photo."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["photo", "yaw", "nme", "pitch error", "yaw error", "roll error", "error"])
    for row in rows:
        fields = asdict(row)
        table.writerow(
            [row.photo, f"{row.yaw:.2f}", f"{row.nme:.4f}", *(f"{v:.3f}" for v in row.angle_errors), fields["error"]]
        )
    return text.getvalue()
