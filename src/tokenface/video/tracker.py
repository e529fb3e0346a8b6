"""Face tracker: one network pass per face and frame, detection only when needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tokenface.geometry.crop import Crop, crop_from_landmarks
from tokenface.images.blazeface import box_iou
from tokenface.images.detection import Detection
from tokenface.inference.confidence import ConfidenceFeatures, box_size, confidence_features_of, landmark_distance
from tokenface.inference.predictor import Predictor
from tokenface.video.clip import Frame
from tokenface.video.cuts import CutDetector
from tokenface.video.finding import FaceFinder
from tokenface.video.identity import COMES_BACK, OTHER, IdentityGuard, Recognise
from tokenface.video.person import Person, colour_distance, following_crop, moved_far
from tokenface.video.prediction import FrameView, certainty, predict_views

LOST_SIGMA = 0.16
"""Expected landmark error (crop half-widths) from which nobody is there: faces have 0.03 to 0.08, empty crops 0.7."""
UNSURE_SIGMA = 0.055
ASTRAY = 0.08
"""Mean distance of the network's landmarks from the face mesh's, over the size of their box, that is too far."""
SAME = 0.45
"""Overlap of two faces' boxes from which they are one face."""
NEAR = 1.5
"""Face sizes that a face may have moved while it was out of sight for a moment."""
FORGOTTEN = 1.0
"""Seconds after which where a face was says little of where it will be."""
ALONE_SECONDS = 0.2
"""Between quick searches while nobody is there."""
SAME_COLOURS = 0.45
"""Colour distance up to which a face that comes back is taken for the one that left (`docs/video.md`)."""


@dataclass(frozen=True)
class TrackerOptions:
    """people: at most so many at a time, the largest; None: all.  check_seconds: between checks of the face mesh on a
    tracked face.  search_seconds: between searches for more people, while there is room for them.
    thorough_seconds: between searches with the whole cascade, while nobody is there."""

    people: int | None = 1
    check_seconds: float = 0.5
    search_seconds: float = 0.5
    thorough_seconds: float = 2.0


@dataclass(frozen=True, eq=False)
class Seen:
    """A person in one frame, straight from the image model."""

    person: int
    scene: int
    view: FrameView
    confidence_features: ConfidenceFeatures


class Tracker:
    """Frames in, people with stable numbers out. Everything it knows is in `state`.

    Args:
        predictor: the image model.  finder: views for faces.  crop_scale: as the image model was trained.
        recognise: tells people apart; None: place and colours alone do.
    """

    def __init__(
        self,
        predictor: Predictor,
        finder: FaceFinder,
        options: TrackerOptions,
        crop_scale: float,
        recognise: Recognise | None = None,
    ) -> None:
        self.guard = IdentityGuard(recognise)
        self.predictor, self.finder, self.options, self.crop_scale = predictor, finder, options, crop_scale
        self.cuts = CutDetector()
        self.people: list[Person] = []  # everyone seen so far, by number
        self.active: list[int] = []
        self.scene = 0
        self.searched = self.searched_thoroughly = -math.inf

    def step(self, frame: Frame) -> tuple[list[Seen], bool]:
        """The people of one frame by number, and whether it begins a new shot."""
        cut = self.cuts.step(frame.image)
        if cut:
            self.scene += 1
            self.active = []
            self.searched = self.searched_thoroughly = -math.inf
        before = list(self.active)
        found, jumped = self._follow(frame)
        cut = cut or jumped
        if self._search_due(frame.time, lost=len(found) < len(before)):
            found = self._join(frame, found)
        found.sort(key=lambda seen: seen.person)
        self.active = [seen.person for seen in found]
        return found, cut

    def state(self) -> dict[str, Any]:
        return {
            "people": [person.state() for person in self.people],
            "active": list(self.active),
            "scene": self.scene,
            "searched": self.searched,
            "searched_thoroughly": self.searched_thoroughly,
            "cuts": self.cuts.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.people = [Person.from_state(person) for person in state["people"]]
        self.active = [int(number) for number in state["active"]]
        self.scene = int(state["scene"])
        self.searched, self.searched_thoroughly = state["searched"], state["searched_thoroughly"]
        self.cuts.restore(state["cuts"])

    def _follow(self, frame: Frame) -> tuple[list[Seen], bool]:
        """The people of the frame before, where they are now, and whether a cut was missed."""
        people = [self.people[number] for number in self.active]
        views = predict_views(self.predictor, frame.image, [person.crop for person in people])
        again = [
            i
            for i, (person, view) in enumerate(zip(people, views, strict=True))
            if self._wants_second_pass(person, view)
        ]
        for i, view in zip(
            again, predict_views(self.predictor, frame.image, [self._fresh(views[i]) for i in again]), strict=True
        ):
            if certainty(view) >= certainty(views[i]):
                views[i] = view
        kept = [
            (person, view) for person, view in zip(people, views, strict=True) if self._still_there(frame, person, view)
        ]
        seen = [(person, *self._checked(frame, person, view)) for person, view in _without_doubles(kept)]
        seen = [(person, view, features) for person, view, features in seen if person.doubts < 2]
        seen, jumped = self._guarded(frame, seen)
        for person, view, _ in seen:
            self._remember(frame, person, view)
        return [Seen(person.number, self.scene, view, features) for person, view, features in seen], jumped

    def _guarded(
        self, frame: Frame, seen: list[tuple[Person, FrameView, ConfidenceFeatures]]
    ) -> tuple[list[tuple[Person, FrameView, ConfidenceFeatures]], bool]:
        """The same faces as the people whose they are. Where that is news a new shot begins, so that nothing is mixed
        with what was there before; a cut is reported where the picture jumped."""

        def here(view: FrameView) -> bool:
            checked = self.finder.check(frame.image, view.landmarks68, view.roll)
            if checked is None:
                return self.finder.detected(frame.image, view.landmarks68)
            return checked.landmarks68 is not None

        news = self.guard.owners(frame, [(person, view) for person, view, _ in seen], self.people, here)
        if news is None:
            return seen, False
        self.scene += 1
        owned = []
        for owner, (_, view, features) in zip(news[0], seen, strict=True):
            person = self._newcomer(frame, view, self.guard.vector(frame, view)) if owner is None else owner
            person.update(features)
            person.checked, person.doubts, person.scene = frame.time, 0, self.scene
            owned.append((person, view, features))
        return owned, news[1]

    def _wants_second_pass(self, person: Person, view: FrameView) -> bool:
        if not _plausible(view) or _unsure(view, LOST_SIGMA):
            return False
        return moved_far(person.crop, self._fresh(view))

    def _still_there(self, frame: Frame, person: Person, view: FrameView) -> bool:
        if not _plausible(view) or _unsure(view, LOST_SIGMA):
            return False
        height, width = frame.image.shape[:2]
        middle = view.landmarks68.mean(axis=0)
        return bool(0 <= middle[0] <= width and 0 <= middle[1] <= height)

    def _checked(self, frame: Frame, person: Person, view: FrameView) -> tuple[FrameView, ConfidenceFeatures]:
        """Confidence features of a face. The face mesh checks it now and then, and when the network is unsure; where
        the two disagree, the network runs again from where the mesh saw the face."""
        unsure, unknown = _unsure(view, UNSURE_SIGMA), view.sigma is None
        checked, absent = None, False
        if unsure or (unknown and person.doubts) or frame.time - person.checked >= self.options.check_seconds:
            checked = self.finder.check(frame.image, view.landmarks68, view.roll)
            if checked is not None:
                absent = (unsure or unknown) and checked.landmarks68 is None
            elif unknown:  # neither the network nor a mesh says whether somebody is there
                absent = not self.finder.detected(frame.image, view.landmarks68)
            person.doubts = person.doubts + 1 if absent else 0
            person.checked = frame.time
        if checked is not None and checked.landmarks68 is not None:
            apart = _apart(checked, view)
            if apart > ASTRAY:
                again = predict_views(self.predictor, frame.image, [checked.crop(self.crop_scale)])[0]
                view = again if _plausible(again) and _apart(checked, again) < apart else view
        points = view.landmarks68
        known = checked or Detection(box=_box(points), score=person.detection)
        features = confidence_features_of(known, points, None, points, view.parameters.shape.numpy(), view.camera)
        if checked is not None:
            person.update(features)
        return view, self._calibrated(view, replace(features, agreement=person.agreement, presence=person.presence))

    def _calibrated(self, view: FrameView, features: ConfidenceFeatures) -> ConfidenceFeatures:
        return self.predictor.calibrated(features, view)

    def _search_due(self, time: float, lost: bool) -> bool:
        if lost or self.searched == -math.inf:
            return True
        wanted = self.options.people
        room = wanted is None or len(self.active) < wanted
        pause = self.options.search_seconds if self.active else min(ALONE_SECONDS, self.options.search_seconds)
        return room and time - self.searched >= pause

    def _join(self, frame: Frame, found: list[Seen]) -> list[Seen]:
        """Faces that nobody holds yet: people who come back, and new ones."""
        thorough = not found and frame.time - self.searched_thoroughly >= self.options.thorough_seconds
        self.searched = frame.time
        if thorough:
            self.searched_thoroughly = frame.time
        boxes = np.array([_box(seen.view.landmarks68) for seen in found]).reshape(-1, 4)
        fresh = [
            detection
            for detection in self.finder.search(frame.image, thorough)
            if not len(boxes) or box_iou(detection.box, boxes).max() < 0.3
        ]
        room = len(fresh) if self.options.people is None else self.options.people - len(found)
        joined = list(found)
        for detection, view in self._first_views(frame.image, fresh[: max(room, 0)]):
            if any(box_iou(_box(view.landmarks68), _box(s.view.landmarks68)[None])[0] > SAME for s in joined):
                continue
            person = self._recognise(frame, view, {seen.person for seen in joined})
            features = confidence_features_of(
                detection, view.landmarks68, None, view.landmarks68, view.parameters.shape.numpy(), view.camera
            )
            person.update(features)
            person.checked, person.doubts, person.scene = frame.time, 0, self.scene
            self._remember(frame, person, view)
            joined.append(Seen(person.number, self.scene, view, self._calibrated(view, features)))
        return joined

    def _first_views(self, image: np.ndarray, detections: Sequence[Detection]) -> list[tuple[Detection, FrameView]]:
        """As for photos: from the detector's crop, then from the network's own landmarks."""
        views = predict_views(self.predictor, image, [detection.crop(self.crop_scale) for detection in detections])
        good = [i for i, view in enumerate(views) if _plausible(view) and not _unsure(view, LOST_SIGMA)]
        second = predict_views(self.predictor, image, [self._fresh(views[i]) for i in good])
        return [
            (detections[i], view)
            for i, view in zip(good, second, strict=True)
            if _plausible(view) and not _unsure(view, LOST_SIGMA)
        ]

    def _recognise(self, frame: Frame, view: FrameView, taken: set[int]) -> Person:
        """The person that this is: by the recognition network, where it can see the face; else by place and colours.
        Somebody new if nobody fits."""
        best, cost = None, math.inf
        vector = self.guard.vector(frame, view)
        box = _box(view.landmarks68)
        for person in self.people:
            if person.number in taken:
                continue
            colours = colour_distance(person.colours, view.colours)
            gone = frame.time - person.last_time
            if vector is not None and person.vector is not None:
                recent = person.scene == self.scene and gone < FORGOTTEN
                distance = person.distance(vector)
                if distance < (OTHER if recent else COMES_BACK) and distance < cost:
                    best, cost = person, distance
            elif person.scene == self.scene and gone < FORGOTTEN:
                size = float(np.ptp(person.landmarks68, axis=0).mean())
                step = float(np.linalg.norm(_middle(person.box) - _middle(box))) / max(size, 1.0)
                ratio = abs(math.log(max(float(np.ptp(view.landmarks68, axis=0).mean()), 1.0) / max(size, 1.0)))
                if step < NEAR and ratio < 0.7 and 0.3 * step + colours < cost:
                    best, cost = person, 0.3 * step + colours
            elif colours < SAME_COLOURS and 0.3 + colours < cost:
                best, cost = person, 0.3 + colours
        if best is None:
            return self._newcomer(frame, view, vector)
        if vector is not None:
            best.learn(vector)
            best.recognised = frame.time
        best.glimpse = best.compared = None
        return best

    def _newcomer(self, frame: Frame, view: FrameView, vector: np.ndarray | None) -> Person:
        person = Person(
            number=len(self.people),
            landmarks68=view.landmarks68,
            crop=view.crop,
            colours=view.colours.copy(),
            last_frame=frame.index,
            last_time=frame.time,
            scene=self.scene,
            checked=frame.time,
        )
        if vector is not None:
            person.learn(vector)
            person.recognised = frame.time
        self.people.append(person)
        return person

    def _remember(self, frame: Frame, person: Person, view: FrameView) -> None:
        crop = following_crop(view.crop, view.landmarks68, view.roll, self.crop_scale)
        person.seen(view.landmarks68, crop, view.colours, frame.index, frame.time)

    def _fresh(self, view: FrameView) -> Crop:
        return crop_from_landmarks(view.landmarks68, self.crop_scale, view.roll)


def _without_doubles(kept: list[tuple[Person, FrameView]]) -> list[tuple[Person, FrameView]]:
    """Two people cannot have one face: the one whose face jumped further to it has lost its own."""
    gone: set[int] = set()
    for i, (person, view) in enumerate(kept):
        for other, other_view in kept[i + 1 :]:
            if box_iou(_box(view.landmarks68), _box(other_view.landmarks68)[None])[0] > SAME:
                jumps = {p.number: _jump(p, seen) for p, seen in ((person, view), (other, other_view))}
                gone.add(max(jumps, key=lambda number: (jumps[number], number)))
    return [(person, view) for person, view in kept if person.number not in gone]


def _jump(person: Person, view: FrameView) -> float:
    """Motion over the face's size plus change of colours since it was last seen."""
    size = max(float(np.ptp(person.landmarks68, axis=0).mean()), 1.0)
    moved = float(np.linalg.norm(view.landmarks68.mean(axis=0) - person.landmarks68.mean(axis=0))) / size
    return moved + colour_distance(person.colours, view.colours)


def _plausible(view: FrameView) -> bool:
    """Landmarks that a crop can be taken from, inside what the network saw."""
    points = view.landmarks68
    if not np.isfinite(points).all():
        return False
    size = float(np.ptp(points, axis=0).mean())
    away = float(np.hypot(*(points.mean(axis=0) - view.crop.centre)))
    return size > 4 and 0.15 * view.crop.size < size < 1.6 * view.crop.size and away < 0.75 * view.crop.size


def _unsure(view: FrameView, limit: float) -> bool:
    return view.sigma is not None and view.sigma > limit


def _apart(checked: Detection, view: FrameView) -> float:
    """Mean distance of two sets of landmarks over their box's size."""
    distance = landmark_distance(checked, view.landmarks68, None)
    return math.inf if distance is None else distance / box_size(view.landmarks68)


def _box(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _middle(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2
