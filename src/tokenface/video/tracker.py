"""Following faces from frame to frame: one pass of the network a face, a search only when there is a reason."""

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
from tokenface.video.look import Look, certainty, look_at
from tokenface.video.person import Person, colour_distance, following_crop, moved_far

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
    """people: at most so many at a time, the largest; None: all.  check_seconds: between looks of the face mesh at a
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
    look: Look
    confidence_features: ConfidenceFeatures


class Tracker:
    """Frames in, people with stable numbers out. Everything it knows is in `state`.

    Args:
        predictor: the image model.  finder: looks for faces.  crop_scale: as the image model was trained.
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
        looks = look_at(self.predictor, frame.image, [person.crop for person in people])
        again = [
            i for i, (person, look) in enumerate(zip(people, looks, strict=True)) if self._second_look(person, look)
        ]
        for i, look in zip(
            again, look_at(self.predictor, frame.image, [self._fresh(looks[i]) for i in again]), strict=True
        ):
            if certainty(look) >= certainty(looks[i]):
                looks[i] = look
        kept = [
            (person, look) for person, look in zip(people, looks, strict=True) if self._still_there(frame, person, look)
        ]
        seen = [(person, *self._checked(frame, person, look)) for person, look in _without_doubles(kept)]
        seen = [(person, look, features) for person, look, features in seen if person.doubts < 2]
        seen, jumped = self._guarded(frame, seen)
        for person, look, _ in seen:
            self._remember(frame, person, look)
        return [Seen(person.number, self.scene, look, features) for person, look, features in seen], jumped

    def _guarded(
        self, frame: Frame, seen: list[tuple[Person, Look, ConfidenceFeatures]]
    ) -> tuple[list[tuple[Person, Look, ConfidenceFeatures]], bool]:
        """The same faces as the people whose they are. Where that is news a new shot begins, so that nothing is mixed
        with what was there before; a cut is reported where the picture jumped."""

        def here(look: Look) -> bool:
            checked = self.finder.check(frame.image, look.landmarks68, look.roll)
            if checked is None:
                return self.finder.detected(frame.image, look.landmarks68)
            return checked.landmarks68 is not None

        news = self.guard.owners(frame, [(person, look) for person, look, _ in seen], self.people, here)
        if news is None:
            return seen, False
        self.scene += 1
        owned = []
        for owner, (_, look, features) in zip(news[0], seen, strict=True):
            person = self._newcomer(frame, look, self.guard.vector(frame, look)) if owner is None else owner
            person.update(features)
            person.checked, person.doubts, person.scene = frame.time, 0, self.scene
            owned.append((person, look, features))
        return owned, news[1]

    def _second_look(self, person: Person, look: Look) -> bool:
        if not _plausible(look) or _unsure(look, LOST_SIGMA):
            return False
        return moved_far(person.crop, self._fresh(look))

    def _still_there(self, frame: Frame, person: Person, look: Look) -> bool:
        if not _plausible(look) or _unsure(look, LOST_SIGMA):
            return False
        height, width = frame.image.shape[:2]
        middle = look.landmarks68.mean(axis=0)
        return bool(0 <= middle[0] <= width and 0 <= middle[1] <= height)

    def _checked(self, frame: Frame, person: Person, look: Look) -> tuple[Look, ConfidenceFeatures]:
        """Confidence features of a face. The face mesh checks it now and then, and when the network is unsure; where
        the two disagree, the network looks again from where the mesh saw the face."""
        unsure, unknown = _unsure(look, UNSURE_SIGMA), look.sigma is None
        checked, absent = None, False
        if unsure or (unknown and person.doubts) or frame.time - person.checked >= self.options.check_seconds:
            checked = self.finder.check(frame.image, look.landmarks68, look.roll)
            if checked is not None:
                absent = (unsure or unknown) and checked.landmarks68 is None
            elif unknown:  # neither the network nor a mesh says whether somebody is there
                absent = not self.finder.detected(frame.image, look.landmarks68)
            person.doubts = person.doubts + 1 if absent else 0
            person.checked = frame.time
        if checked is not None and checked.landmarks68 is not None:
            apart = _apart(checked, look)
            if apart > ASTRAY:
                again = look_at(self.predictor, frame.image, [checked.crop(self.crop_scale)])[0]
                look = again if _plausible(again) and _apart(checked, again) < apart else look
        points = look.landmarks68
        known = checked or Detection(box=_box(points), score=person.detection)
        features = confidence_features_of(known, points, None, points, look.parameters.shape.numpy(), look.camera)
        if checked is not None:
            person.update(features)
        return look, self._calibrated(look, replace(features, agreement=person.agreement, presence=person.presence))

    def _calibrated(self, look: Look, features: ConfidenceFeatures) -> ConfidenceFeatures:
        return self.predictor.calibrated(features, look)

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
        boxes = np.array([_box(seen.look.landmarks68) for seen in found]).reshape(-1, 4)
        fresh = [
            detection
            for detection in self.finder.search(frame.image, thorough)
            if not len(boxes) or box_iou(detection.box, boxes).max() < 0.3
        ]
        room = len(fresh) if self.options.people is None else self.options.people - len(found)
        joined = list(found)
        for detection, look in self._first_looks(frame.image, fresh[: max(room, 0)]):
            if any(box_iou(_box(look.landmarks68), _box(s.look.landmarks68)[None])[0] > SAME for s in joined):
                continue
            person = self._recognise(frame, look, {seen.person for seen in joined})
            features = confidence_features_of(
                detection, look.landmarks68, None, look.landmarks68, look.parameters.shape.numpy(), look.camera
            )
            person.update(features)
            person.checked, person.doubts, person.scene = frame.time, 0, self.scene
            self._remember(frame, person, look)
            joined.append(Seen(person.number, self.scene, look, self._calibrated(look, features)))
        return joined

    def _first_looks(self, image: np.ndarray, detections: Sequence[Detection]) -> list[tuple[Detection, Look]]:
        """As for photos: from the detector's crop, then from the network's own landmarks."""
        looks = look_at(self.predictor, image, [detection.crop(self.crop_scale) for detection in detections])
        good = [i for i, look in enumerate(looks) if _plausible(look) and not _unsure(look, LOST_SIGMA)]
        second = look_at(self.predictor, image, [self._fresh(looks[i]) for i in good])
        return [
            (detections[i], look)
            for i, look in zip(good, second, strict=True)
            if _plausible(look) and not _unsure(look, LOST_SIGMA)
        ]

    def _recognise(self, frame: Frame, look: Look, taken: set[int]) -> Person:
        """The person that this is: by the recognition network, where it can see the face; else by place and colours.
        Somebody new if nobody fits."""
        best, cost = None, math.inf
        vector = self.guard.vector(frame, look)
        box = _box(look.landmarks68)
        for person in self.people:
            if person.number in taken:
                continue
            colours = colour_distance(person.colours, look.colours)
            gone = frame.time - person.last_time
            if vector is not None and person.vector is not None:
                recent = person.scene == self.scene and gone < FORGOTTEN
                distance = person.distance(vector)
                if distance < (OTHER if recent else COMES_BACK) and distance < cost:
                    best, cost = person, distance
            elif person.scene == self.scene and gone < FORGOTTEN:
                size = float(np.ptp(person.landmarks68, axis=0).mean())
                step = float(np.linalg.norm(_middle(person.box) - _middle(box))) / max(size, 1.0)
                ratio = abs(math.log(max(float(np.ptp(look.landmarks68, axis=0).mean()), 1.0) / max(size, 1.0)))
                if step < NEAR and ratio < 0.7 and 0.3 * step + colours < cost:
                    best, cost = person, 0.3 * step + colours
            elif colours < SAME_COLOURS and 0.3 + colours < cost:
                best, cost = person, 0.3 + colours
        if best is None:
            return self._newcomer(frame, look, vector)
        if vector is not None:
            best.learn(vector)
            best.recognised = frame.time
        best.glimpse = best.compared = None
        return best

    def _newcomer(self, frame: Frame, look: Look, vector: np.ndarray | None) -> Person:
        person = Person(
            number=len(self.people),
            landmarks68=look.landmarks68,
            crop=look.crop,
            colours=look.colours.copy(),
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

    def _remember(self, frame: Frame, person: Person, look: Look) -> None:
        crop = following_crop(look.crop, look.landmarks68, look.roll, self.crop_scale)
        person.seen(look.landmarks68, crop, look.colours, frame.index, frame.time)

    def _fresh(self, look: Look) -> Crop:
        return crop_from_landmarks(look.landmarks68, self.crop_scale, look.roll)


def _without_doubles(kept: list[tuple[Person, Look]]) -> list[tuple[Person, Look]]:
    """Two people cannot have one face: the one whose face jumped further to it has lost its own."""
    gone: set[int] = set()
    for i, (person, look) in enumerate(kept):
        for other, other_look in kept[i + 1 :]:
            if box_iou(_box(look.landmarks68), _box(other_look.landmarks68)[None])[0] > SAME:
                jumps = {p.number: _jump(p, seen) for p, seen in ((person, look), (other, other_look))}
                gone.add(max(jumps, key=lambda number: (jumps[number], number)))
    return [(person, look) for person, look in kept if person.number not in gone]


def _jump(person: Person, look: Look) -> float:
    """Motion over the face's size plus change of colours since it was last seen."""
    size = max(float(np.ptp(person.landmarks68, axis=0).mean()), 1.0)
    moved = float(np.linalg.norm(look.landmarks68.mean(axis=0) - person.landmarks68.mean(axis=0))) / size
    return moved + colour_distance(person.colours, look.colours)


def _plausible(look: Look) -> bool:
    """Landmarks that a crop can be taken from, inside what the network saw."""
    points = look.landmarks68
    if not np.isfinite(points).all():
        return False
    size = float(np.ptp(points, axis=0).mean())
    away = float(np.hypot(*(points.mean(axis=0) - look.crop.centre)))
    return size > 4 and 0.15 * look.crop.size < size < 1.6 * look.crop.size and away < 0.75 * look.crop.size


def _unsure(look: Look, limit: float) -> bool:
    return look.sigma is not None and look.sigma > limit


def _apart(checked: Detection, look: Look) -> float:
    """Mean distance of two sets of landmarks over their box's size."""
    distance = landmark_distance(checked, look.landmarks68, None)
    return math.inf if distance is None else distance / box_size(look.landmarks68)


def _box(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _middle(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2
