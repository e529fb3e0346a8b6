"""Face detection: boxes, head roll, dense landmarks for alignment; dlib's HOG as fallback.

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
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np

from tokenface.core.spares import Spares
from tokenface.errors import ImageError, ModelFileError
from tokenface.geometry.crop import Crop, crop_from_box, extract_array, halved, roll_of
from tokenface.images.blazeface import BACK, FULL_RANGE, BlazeFace, Candidates, box_iou, weighted_nms
from tokenface.images.detection import Detection
from tokenface.images.facemesh import FaceMesh
from tokenface.images.loading import ImageLike, load_image

LONG_SIDE = 1200
"""Photos are brought near this size: the detector sees faces from about 80 px, and its cost grows with the area."""
SMALL_SIDE = 500
LOWEST_MARGIN = 0.15
"""Of the classifier; 0, its own threshold, sees more faces in folds of cloth than in faces that it would miss."""


class HogDetector:
    """Upright, roughly frontal faces; boxes only."""

    def __init__(self) -> None:
        try:
            import dlib
        except ImportError as error:
            raise ModelFileError(
                "the dlib backend needs the package dlib-bin; run 'pip install tokenface[dlib]', "
                "or use backend='blazeface'."
            ) from error
        self._detectors = Spares(dlib.get_frontal_face_detector)

    def detect(self, photo: np.ndarray) -> list[Detection]:
        """[H, W, 3] uint8 RGB → faces without landmarks. The score is the classifier's margin squeezed to [0, 1]."""
        side = max(photo.shape[:2])
        factor = LONG_SIDE / side if side > LONG_SIDE else (2.0 if side < SMALL_SIDE else 1.0)
        if factor != 1:
            method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
            photo = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=method)
        with self._detectors.one() as detector:
            rectangles, scores, _ = detector.run(np.ascontiguousarray(photo), 1, LOWEST_MARGIN)
        faces = []
        for rectangle, margin in zip(rectangles, scores, strict=True):
            corners = [rectangle.left(), rectangle.top(), rectangle.right() + 1, rectangle.bottom() + 1]
            box = np.array(corners, dtype=np.float64) / factor
            faces.append(Detection(box=box, score=float(1 / (1 + np.exp(-2 * margin)))))
        return faces


Backend = Literal["auto", "blazeface", "dlib"]

SEARCH_SIDE = 1280
"""Larger photos are reduced once before the coarse passes; second looks and the mesh see the full photo."""
QUARTER_TURNS = (math.pi / 2, -math.pi / 2, math.pi)
CUT_FRAME, WIDE_FRAME = 1.3, 2.0
"""The photo in a wider grey frame: for faces cut by its edge, and for faces that fill it."""
TILE_DIVISIONS, DEEPER_DIVISIONS = (2, 4, 8), (16, 32)
"""Tiles are this many times smaller than the long side; neighbours overlap by a third. The deeper ones are for photos
so large that their tiles still have TILE_PIXELS: panoramas, in which a face of 40 pixels is 0.2 % of the width."""
TILE_PIXELS = 600
"""A tile's side after the photo is reduced for its level: about three times what the network takes."""
SMALLEST_TILE = 160
"""Photo pixels; smaller tiles would only enlarge blur."""
GROUP_FACE = 0.1
"""Faces down to 0.05 of a view are found in it. When the smallest one found is below twice that, tiles are searched
for smaller ones."""
PROPOSAL = 0.35
"""Score that makes a candidate worth a second look."""
CLEAR_SCORE, CLEAR_ROLL = 0.7, math.radians(30)
"""An upright face with this score needs no second look."""
SECOND_FRAMES = (2.0, 3.0)
SECOND_SCORE = 0.6
"""Full-range score, in a view of its own turned upright, from which a candidate is a face (28 + 18 pictures without
faces stay below, with the mesh's presence)."""
CUT_SCORE, CUT_BACK_SCORE, CUT_PRESENCE = 0.35, 0.6, 0.9
"""Weaker evidence that counts when all three hold: half faces at the photo's edge."""
PRESENCE = 0.5
"""Mesh presence from which a candidate is a face."""
UPRIGHT_PRESENCE = 0.9999
"""Upright faces reach it (98 % of 224), faces taken upside down do not (2 of 223 did)."""


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
            face = Detection(box=box, score=0.0)
            if self._mesh is not None:
                face = self._aligned(photo, face)
            faces.append(replace(face, box=box, score=1.0))
        return faces

    def _cascade(self, photo: np.ndarray) -> list[Detection]:
        small, shrink = _shrunk(photo)
        whole = Crop((small.shape[1] / 2, small.shape[0] / 2), max(small.shape[:2]))
        turned = [Crop(whole.centre, whole.size, angle) for angle in QUARTER_TURNS]
        full, back = self._full, self._back
        coarse: list[tuple[BlazeFace, list[Crop]]] = [
            (full, [whole]),
            (back, [whole]),
            (full, [whole.scaled(CUT_FRAME), whole.scaled(WIDE_FRAME)]),
            (full, turned),
            (back, turned),
            (full, [view.scaled(WIDE_FRAME) for view in turned]),
        ]
        found: list[Detection] = []
        for model, views in coarse:
            found = self._confirm(photo, _look(model, small, views).mapped(shrink))
            if found:
                break
        if len(found) > 1:  # a group: some may be cut by the edge
            for model in (full, back):
                cut = _look(model, small, [whole.scaled(CUT_FRAME)]).mapped(shrink)
                found = self._confirm(photo, cut, found)
        return self._search_tiles(photo, found)

    def _search_tiles(self, photo: np.ndarray, found: list[Detection]) -> list[Detection]:
        """Ever smaller tiles: while no face is known, the smallest one is so small that others may be missed, or the
        last tiles showed faces that the larger view had missed."""
        side = max(photo.shape[:2])
        view, grown = float(side), False
        for divisions in TILE_DIVISIONS + DEEPER_DIVISIONS:
            tile = side / divisions
            smallest = min((face.size for face in found), default=0.0)
            least = SMALLEST_TILE if divisions in TILE_DIVISIONS else TILE_PIXELS
            if tile < least or (smallest >= GROUP_FACE * view and not grown):
                break
            small, shrink = _shrunk(photo, TILE_PIXELS * divisions)
            views = tiles(small.shape[1], small.shape[0], divisions)
            known = len(found)
            found = self._confirm(photo, _look(self._full, small, views).mapped(shrink), found)
            view, grown = tile, len(found) > known > 0
        return found

    def _confirm(self, photo: np.ndarray, candidates: Candidates, known: Sequence[Detection] = ()) -> list[Detection]:
        """The known faces and those candidates that are new and turn out to be faces."""
        faces = list(known)
        for box, keypoints, score in zip(candidates.boxes, candidates.keypoints, candidates.scores, strict=True):
            face = Detection(box=box, score=float(score), keypoints=keypoints, roll=_keypoint_roll(keypoints))
            if any(_same_face(face, other) for other in faces):
                continue
            back_score = 0.0
            if score < CLEAR_SCORE or abs(face.roll) > CLEAR_ROLL:
                looked = self._look_again(photo, face)
                if looked is None:
                    continue
                face, back_score = looked
            certain = face.score >= SECOND_SCORE
            if self._mesh is not None:
                face = self._aligned(photo, face)
                accepted = face.presence >= (PRESENCE if certain else CUT_PRESENCE)
            else:
                accepted = certain or back_score >= CUT_BACK_SCORE
            if accepted and not any(_same_face(face, other) for other in faces):
                faces.append(face)
        return faces

    def _aligned(self, photo: np.ndarray, face: Detection) -> Detection:
        """The face with the mesh's points, if the mesh sees one. The mesh also finds a face in one that hangs upside
        down, though a little less surely; then the view that the detector likes best decides."""
        assert self._mesh is not None
        result = self._mesh(photo, crop_from_box(face.box, scale=1.5, angle=face.roll, lowering=0.0))
        if result.presence < UPRIGHT_PRESENCE or face.score < CLEAR_SCORE:
            turned = max(
                (self._best_in_views(photo, face.box, face.roll + turn) for turn in (0.0, *QUARTER_TURNS)),
                key=lambda seen: seen.score,
            )
            if abs(math.remainder(turned.roll - face.roll, math.tau)) > CLEAR_ROLL and turned.score > 0:
                other = self._mesh(photo, crop_from_box(turned.box, scale=1.5, angle=turned.roll, lowering=0.0))
                if other.presence >= max(PRESENCE, result.presence):
                    face, result = turned, other
        return face.with_mesh(result) if result.presence >= PRESENCE else face

    def _best_in_views(self, photo: np.ndarray, box: np.ndarray, roll: float, lowest: float = PROPOSAL) -> Detection:
        """What the full-range model makes of a box in views of its own, turned by `roll`; score 0 for nothing."""
        best = Detection(box=box, score=0.0, roll=roll)
        for frame in SECOND_FRAMES:
            view = crop_from_box(box, scale=frame, angle=roll, lowering=0.0)
            seen = _overlapping(_look(self._full, photo, [view], lowest), box)
            if seen is not None and seen.scores[0] > best.score:
                keypoints = seen.keypoints[0]
                best = Detection(seen.boxes[0], float(seen.scores[0]), keypoints, roll=_keypoint_roll(keypoints))
        return best

    def _look_again(self, photo: np.ndarray, face: Detection) -> tuple[Detection, float] | None:
        """The candidate in a view of its own, turned upright: better box, key points and score, and the back model's
        score where the full-range one hesitates; None when neither sees a face."""
        best = self._best_in_views(photo, face.box, face.roll, CUT_SCORE)
        if best.score and abs(math.remainder(best.roll - face.roll, math.tau)) > CLEAR_ROLL / 2:
            again = self._best_in_views(photo, best.box, best.roll, CUT_SCORE)  # it is turned otherwise than thought
            best = again if again.score > best.score else best
        if best.score >= SECOND_SCORE:
            return best, 0.0
        if best.score < CUT_SCORE:
            return None
        views = [crop_from_box(face.box, scale=frame, angle=face.roll, lowering=0.0) for frame in SECOND_FRAMES]
        seen = _overlapping(_look(self._back, photo, views, threshold=CUT_BACK_SCORE), face.box)
        return (best, float(seen.scores[0])) if seen is not None else None


def tiles(width: int, height: int, divisions: int) -> list[Crop]:
    """Square views that cover a photo, `divisions` times smaller than its long side, overlapping by a third."""
    side = max(width, height) / divisions
    spans = []
    for length in (width, height):
        reach = max(length - side, 0.0)
        count = 1 + math.ceil(reach / (side * 2 / 3) - 1e-9)
        spans.append(np.linspace(side / 2, side / 2 + reach, count) if reach else np.array([length / 2]))
    return [Crop((float(x), float(y)), side) for y in spans[1] for x in spans[0]]


def _look(model: BlazeFace, photo: np.ndarray, views: Sequence[Crop], threshold: float = PROPOSAL) -> Candidates:
    """Candidates of all views in the photo's pixels, merged."""
    size = model.options.size
    parts = []
    for view in views:
        picture = extract_array(photo, [view], size, border="grey")[0].transpose(1, 2, 0)
        seen = model(picture, threshold)
        if len(seen):
            parts.append(seen.mapped(view.pixel_matrix(1)))
    return weighted_nms(Candidates.cat(parts)) if len(parts) > 1 else Candidates.cat(parts)


def _overlapping(candidates: Candidates, box: np.ndarray) -> Candidates | None:
    """The best candidate that is the same face as the box, as a batch of one."""
    same = np.flatnonzero(box_iou(box, candidates.boxes) > 0.3)
    return candidates[same[:1]] if len(same) else None


def _keypoint_roll(keypoints: np.ndarray) -> float:
    return roll_of(keypoints[1] - keypoints[0], keypoints[:2].mean(axis=0) - keypoints[3])


def _shrunk(photo: np.ndarray, limit: int = SEARCH_SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A copy with at most `limit` pixels a side, and the matrix [2, 3] from its pixels to the photo's."""
    height, width = photo.shape[:2]
    factor = limit / max(height, width)
    if factor >= 1:
        return photo, np.array([[1.0, 0, 0], [0, 1.0, 0]])
    halvings = math.floor(math.log2(min(1 / factor, height, width)))
    block = 2**halvings
    even = photo[: height // block * block, : width // block * block]  # a last odd row or column is left out
    small = halved(even, halvings)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    return small, np.array([[even.shape[1] / size[0], 0, 0], [0, even.shape[0] / size[1], 0]])


def _same_face(a: Detection, b: Detection) -> bool:
    if box_iou(a.box, b.box[None])[0] > 0.3:
        return True
    sides = np.clip(np.minimum(a.box[2:], b.box[2:]) - np.maximum(a.box[:2], b.box[:2]), 0, None)
    smaller = min(float(np.prod(a.box[2:] - a.box[:2])), float(np.prod(b.box[2:] - b.box[:2])))
    return float(sides.prod()) > 0.6 * smaller
