"""Faces in a photo: where they are, how they are turned, and dense landmarks to align them by.

A cascade, cheap to dear, that stops as soon as faces are found: BlazeFace full-range, BlazeFace back, a wider frame
(faces that fill the picture), the picture turned by quarter turns, then overlapping tiles (small faces). The face mesh
looks at every candidate: its presence score tells faces from lookalikes, and its points give the alignment.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import cv2
import numpy as np

from tokenface.errors import ImageError, ModelFileError
from tokenface.images.blazeface import BACK, FULL_RANGE, BlazeFace, Candidates, box_iou, weighted_nms
from tokenface.images.crop import Crop, crop_from_box, extract, roll_of
from tokenface.images.detection import Detection
from tokenface.images.facemesh import FaceMesh, MeshResult
from tokenface.images.loading import ImageLike, load_image

Backend = Literal["auto", "blazeface", "dlib"]

SEARCH_SIDE = 1280
"""Larger photos are reduced once before the coarse passes; tiles and the mesh look at the full photo."""
QUARTER_TURNS = (math.pi / 2, -math.pi / 2, math.pi)
WIDER_FRAME = 2.0
TILE_DIVISIONS = (2, 4, 8)
"""Tiles are this many times smaller than the long side; neighbours overlap by a third."""
SMALLEST_TILE = 160
"""Photo pixels; smaller tiles would only enlarge blur."""
GROUP_FACE = 0.16
"""When the smallest face found is below this share of the long side there may be more: tiles are searched too."""
PRESENCE = 0.5
"""Mesh presence from which a candidate is a face."""
SURE_SCORE = 0.75
"""Score of an upright whole-photo pass that needs no confirmation (masks and full profiles hide from the mesh)."""


class FaceDetector:
    """Finds faces. One object serves several threads.

    Args:
        backend: "blazeface" needs the model files (fetched on first use); "dlib" the package dlib-bin and no files;
            "auto" is blazeface, or dlib with a warning when the files cannot be had.
        mesh: look for dense landmarks (blazeface only).
        max_faces: keep the largest ones; None keeps all.
        quiet: no message when model files are fetched.
    Raises:
        ModelFileError: the backend's model or package is missing; the message says how to get it.
    """

    def __init__(
        self, backend: Backend = "auto", mesh: bool = True, max_faces: int | None = None, quiet: bool = False
    ) -> None:
        if backend not in ("auto", "blazeface", "dlib"):
            raise ValueError(f"backend is 'auto', 'blazeface' or 'dlib', got '{backend}'")
        self.max_faces = max_faces
        self.backend: Literal["blazeface", "dlib"] = "dlib" if backend == "dlib" else "blazeface"
        if backend != "dlib":
            try:
                self._full = BlazeFace(FULL_RANGE, quiet)
                self._back = BlazeFace(BACK, quiet)
                self._mesh = FaceMesh(quiet) if mesh else None
            except ModelFileError as error:
                if backend == "blazeface" or importlib.util.find_spec("dlib") is None:
                    raise
                warnings.warn(f"using the weaker dlib detector: {error}", stacklevel=2)
                self.backend = "dlib"
        if self.backend == "dlib":
            from tokenface.images.hog import HogDetector

            self._hog = HogDetector()
            self._mesh = None

    def detect(self, image: ImageLike) -> list[Detection]:
        """All faces of a photo, largest first; an empty list when there is none.

        Args:
            image: [H, W, 3] uint8 RGB, or anything that `load_image` takes.
        """
        photo = load_image(image)
        found = self._hog.detect(photo) if self.backend == "dlib" else self._cascade(photo)
        found.sort(key=lambda face: -face.size)
        return found[: self.max_faces]

    def detect_batch(self, images: Iterable[ImageLike], workers: int = 2) -> Iterator[list[Detection]]:
        """`detect` over many photos, in order, several at a time (the networks run outside Python's lock)."""
        with ThreadPoolExecutor(max_workers=workers) as pool:
            yield from pool.map(self.detect, images)

    def align(self, image: ImageLike, boxes: Sequence[Sequence[float]] | np.ndarray) -> list[Detection]:
        """Faces at boxes that the caller knows, [N, 4] x0, y0, x1, y1 in photo pixels, with the mesh's points where
        it recognises a face; order is kept and no box is dropped."""
        photo = load_image(image)
        faces = []
        for box in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
            if not (np.isfinite(box).all() and box[2] > box[0] and box[3] > box[1]):
                raise ImageError(f"a box is x0, y0, x1, y1 with x1 > x0 and y1 > y0, got {box.tolist()}.")
            plain = Detection(box=box, score=1.0)
            result = None
            if self._mesh is not None:
                result = self._mesh_any_turn(photo, crop_from_box(box, scale=1.5, lowering=0.0))
            confirmed = result is not None and result.presence >= PRESENCE
            faces.append(plain.with_mesh(result) if confirmed and result is not None else plain)
        return faces

    def _cascade(self, photo: np.ndarray) -> list[Detection]:
        height, width = photo.shape[:2]
        side = max(height, width)
        small, shrink = _shrunk(photo)
        whole = Crop((small.shape[1] / 2, small.shape[0] / 2), max(small.shape[:2]))

        def passes() -> Iterator[tuple[Candidates, bool]]:
            """Candidates in photo pixels, and whether a high score alone is trusted."""
            for model in (self._full, self._back):
                yield _look(model, small, [whole]).mapped(shrink), True
            wider = [whole.scaled(WIDER_FRAME)]
            yield _look(self._full, small, wider).mapped(shrink), False
            turned = [Crop(whole.centre, whole.size, angle) for angle in QUARTER_TURNS]
            for model in (self._full, self._back):
                yield _look(model, small, turned).mapped(shrink), False
            yield _look(self._full, small, [v.scaled(WIDER_FRAME) for v in turned]).mapped(shrink), False
            for divisions in TILE_DIVISIONS:
                if side / divisions >= SMALLEST_TILE:
                    yield _look(self._full, photo, tiles(width, height, divisions)), False

        found: list[Detection] = []
        for candidates, trusted in passes():
            found = self._confirm(photo, candidates, trusted)
            if found:
                break
        if found and min(face.size for face in found) < GROUP_FACE * side and side / 2 >= SMALLEST_TILE:
            more = _look(self._full, photo, tiles(width, height, 2))
            found = _without_twins(found + self._confirm(photo, more, trusted=False))
        return found

    def _confirm(self, photo: np.ndarray, candidates: Candidates, trusted: bool) -> list[Detection]:
        faces = []
        for box, keypoints, score in zip(candidates.boxes, candidates.keypoints, candidates.scores, strict=True):
            roll = roll_of(keypoints[1] - keypoints[0], keypoints[:2].mean(axis=0) - keypoints[3])
            plain = Detection(box=box, score=float(score), keypoints=keypoints, roll=roll)
            if self._mesh is None:
                faces.append(plain)
                continue
            result = self._mesh_any_turn(photo, crop_from_box(box, scale=1.5, angle=roll, lowering=0.0))
            if result.presence >= PRESENCE:
                faces.append(plain.with_mesh(result))
            elif trusted and score >= SURE_SCORE:
                faces.append(plain)
        return _without_twins(faces)

    def _mesh_any_turn(self, photo: np.ndarray, crop: Crop) -> MeshResult:
        """The mesh on the crop as it stands and, if it sees no face there, on the crop turned by quarter turns."""
        assert self._mesh is not None
        best = self._mesh(photo, crop)
        if best.presence < PRESENCE:
            for turn in QUARTER_TURNS:
                result = self._mesh(photo, Crop(crop.centre, crop.size, crop.angle + turn))
                if result.presence > max(best.presence, PRESENCE):
                    best = result
        return best


def tiles(width: int, height: int, divisions: int) -> list[Crop]:
    """Square views that cover a photo, `divisions` times smaller than its long side, overlapping by a third."""
    side = max(width, height) / divisions
    spans = []
    for length in (width, height):
        reach = max(length - side, 0.0)
        count = 1 + math.ceil(reach / (side * 2 / 3) - 1e-9)
        spans.append(np.linspace(side / 2, side / 2 + reach, count) if reach else np.array([length / 2]))
    return [Crop((float(x), float(y)), side) for y in spans[1] for x in spans[0]]


def _look(model: BlazeFace, photo: np.ndarray, views: Sequence[Crop]) -> Candidates:
    """Candidates of all views in the photo's pixels, merged."""
    size = model.options.size
    parts = []
    for view in views:
        picture = extract(photo, [view], size, border="grey")[0].permute(1, 2, 0).numpy()
        seen = model(picture)
        if len(seen):
            parts.append(seen.mapped(view.pixel_matrix(1)))
    return weighted_nms(Candidates.cat(parts)) if len(parts) > 1 else Candidates.cat(parts)


def _shrunk(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A copy with at most SEARCH_SIDE pixels a side, and the matrix [2, 3] from its pixels to the photo's."""
    height, width = photo.shape[:2]
    factor = SEARCH_SIDE / max(height, width)
    if factor >= 1:
        return photo, np.array([[1.0, 0, 0], [0, 1.0, 0]])
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    return small, np.array([[width / size[0], 0, 0], [0, height / size[1], 0]])


def _without_twins(faces: list[Detection]) -> list[Detection]:
    """One entry per face: the best confirmed of those whose boxes overlap or lie within each other."""
    kept: list[Detection] = []
    for face in sorted(faces, key=lambda f: (-(f.landmarks468 is not None), -f.score)):
        if not any(_same_face(face, other) for other in kept):
            kept.append(face)
    return kept


def _same_face(a: Detection, b: Detection) -> bool:
    if box_iou(a.box, b.box[None])[0] > 0.3:
        return True
    sides = np.clip(np.minimum(a.box[2:], b.box[2:]) - np.maximum(a.box[:2], b.box[:2]), 0, None)
    smaller = min(float(np.prod(a.box[2:] - a.box[:2])), float(np.prod(b.box[2:] - b.box[:2])))
    return float(sides.prod()) > 0.6 * smaller
