"""BlazeFace detectors: one network pass over one square image → boxes, six key points and a score per face.

Bazarevsky et al., BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs (2019). Anchors follow the SSD
options that MediaPipe publishes for the two models.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tokenface.core.spares import Spares
from tokenface.errors import ModelFileError
from tokenface.images.models import model_path

REMARK = b"INFO: Created TensorFlow Lite"
STDERR = 2
_lock = threading.Lock()


@contextmanager
def without_remark() -> Iterator[None]:
    """What native code writes to stderr during the block comes out at its end, less the remark."""
    with _lock, tempfile.TemporaryFile() as kept:
        try:
            real = os.dup(STDERR)
        except OSError:  # no stderr at all
            yield
            return
        try:
            os.dup2(kept.fileno(), STDERR)
            yield
        finally:
            os.dup2(real, STDERR)
            os.close(real)
            kept.seek(0)
            rest = b"".join(line for line in kept if not line.startswith(REMARK))
            if rest:
                os.write(STDERR, rest)


KEYPOINTS = ("right_eye", "left_eye", "nose_tip", "mouth", "right_ear", "left_ear")
"""Order of the six points; right and left are the subject's."""


@dataclass(frozen=True)
class BlazeFaceOptions:
    """Published facts of one model: input size, (stride, anchors per cell) of each output grid, score threshold."""

    model: str
    size: int
    grids: tuple[tuple[int, int], ...]
    threshold: float


FULL_RANGE = BlazeFaceOptions("full_range", 192, ((4, 1),), 0.5)
BACK = BlazeFaceOptions("back", 256, ((16, 2), (32, 6)), 0.7)


@dataclass(frozen=True)
class Candidates:
    """Faces in the coordinates of one picture. boxes: [N, 4] x0, y0, x1, y1. keypoints: [N, 6, 2]. scores: [N]."""

    boxes: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Any) -> Candidates:
        return Candidates(self.boxes[index], self.keypoints[index], self.scores[index])

    def mapped(self, matrix: np.ndarray) -> Candidates:
        """Through a similarity [2, 3]; boxes become the upright squares around the turned ones' centres."""
        linear, offset = matrix[:, :2], matrix[:, 2]
        scale = float(np.sqrt(abs(np.linalg.det(linear))))
        centres = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2 @ linear.T + offset
        halves = (self.boxes[:, 2:] - self.boxes[:, :2]) / 2 * scale
        quarter_turned = abs(linear[0, 0]) < abs(linear[0, 1])
        if quarter_turned:
            halves = halves[:, ::-1]
        boxes = np.concatenate([centres - halves, centres + halves], axis=1)
        return Candidates(boxes, self.keypoints @ linear.T + offset, self.scores)

    @staticmethod
    def cat(parts: list[Candidates]) -> Candidates:
        if not parts:
            return Candidates(np.zeros((0, 4)), np.zeros((0, 6, 2)), np.zeros(0))
        return Candidates(
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.keypoints for p in parts]),
            np.concatenate([p.scores for p in parts]),
        )


@cache
def anchors(options: BlazeFaceOptions) -> np.ndarray:
    """[N, 2] anchor centres in [0, 1], row by row, every anchor of a cell at the cell's middle."""
    centres = []
    for stride, per_cell in options.grids:
        cells = options.size // stride
        middle = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(grid, per_cell, axis=0))
    return np.concatenate(centres)


class TFLiteModel:
    """A TFLite network. Callable from several threads: each uses an interpreter that no other one is using."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._interpreters = Spares(self._load)

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        """[H, W, 3] float32 → every output, in the model's order."""
        with self._interpreters.one() as interpreter:
            place = interpreter.get_input_details()[0]["index"]
            interpreter.set_tensor(place, np.ascontiguousarray(picture[None], dtype=np.float32))
            interpreter.invoke()
            return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]

    def _load(self) -> Any:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ModelFileError(
                "the face detector needs the package ai-edge-litert; run 'pip install ai-edge-litert', "
                "or use the dlib backend ('pip install tokenface[dlib]')."
            ) from error
        try:
            with without_remark():
                interpreter = Interpreter(model_path=str(self.path), num_threads=1)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(f"'{self.path}' cannot be run ({error}); run 'tokenface models fetch'.") from error
        return interpreter


class BlazeFace:
    """One BlazeFace model. Callable from several threads."""

    def __init__(self, options: BlazeFaceOptions = FULL_RANGE, quiet: bool = False) -> None:
        self.options = options
        self._network = TFLiteModel(model_path(options.model, quiet=quiet))

    def __call__(self, picture: np.ndarray, threshold: float | None = None) -> Candidates:
        """Detect in one square picture.

        Args:
            picture: [S, S, 3] float32 RGB in [0, 1], S = options.size.
            threshold: lowest score; None takes the model's own.
        Returns:
            Faces in [0, 1] of the picture's side, overlapping ones merged, best first.
        """
        size = self.options.size
        if picture.shape != (size, size, 3):
            raise ValueError(f"picture must be [{size}, {size}, 3], got {picture.shape}")
        outputs = self._network(picture * 2 - 1)
        # The two models order their outputs alike, but the shapes say which is which beyond doubt.
        raw = next(out[0] for out in outputs if out.shape[-1] == 16)
        logits = next(out[0, :, 0] for out in outputs if out.shape[-1] == 1)
        threshold = self.options.threshold if threshold is None else threshold
        return weighted_nms(decode(raw, logits, self.options, threshold))


def decode(raw: np.ndarray, logits: np.ndarray, options: BlazeFaceOptions, threshold: float) -> Candidates:
    """Network outputs [N, 16] and [N] → candidates above the threshold, in [0, 1] of the picture's side."""
    scores = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -50, 50)))
    keep = scores >= threshold
    values = raw[keep].astype(np.float64).reshape(-1, 8, 2) / options.size  # centre, size, six points
    at = anchors(options)[keep]
    centre, half = values[:, 0] + at, values[:, 1] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return Candidates(boxes, values[:, 2:] + at[:, None], scores[keep])


def weighted_nms(candidates: Candidates, overlap: float = 0.3) -> Candidates:
    """Merge candidates that overlap the best one by more than `overlap` (IoU) into their score-weighted mean."""
    order = np.argsort(-candidates.scores, kind="stable")
    merged: list[Candidates] = []
    while len(order):
        best = order[0]
        same = box_iou(candidates.boxes[best], candidates.boxes[order]) > overlap
        same[0] = True
        group = candidates[order[same]]
        weights = group.scores / group.scores.sum()
        merged.append(
            Candidates(
                np.tensordot(weights, group.boxes, 1)[None],
                np.tensordot(weights, group.keypoints, 1)[None],
                candidates.scores[best : best + 1],
            )
        )
        order = order[~same]
    return Candidates.cat(merged)


def box_iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box [4] with boxes [N, 4]."""
    sides = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None)
    intersection = sides[:, 0] * sides[:, 1]
    areas = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    union = areas + np.prod(np.clip(box[2:] - box[:2], 0, None)) - intersection
    return intersection / np.maximum(union, 1e-12)
