"""Identity guard of tracked faces: recognition vectors, so that person numbers follow people.

Landmarks follow places. Two people who change places, a cut between two people before alike backdrops, a cross-fade:
the face stays where it was and is somebody else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from tokenface.geometry.crop import extract
from tokenface.identity.recognition import chip_crop, recognition_vectors
from tokenface.video.clip import Frame
from tokenface.video.person import Person
from tokenface.video.prediction import FrameView

Recognise = Callable[[np.ndarray, Sequence[np.ndarray]], np.ndarray]
"""A frame [H, W, 3] and landmarks [68, 2] of its faces → vectors [N, D]."""

SURE = 0.5
"""Distance of a face from a person's mean vector up to which it is that person: within a clip one's own is at most 0.45
away, another's mostly 0.7 to 0.9 (`docs/video.md`)."""
LEARNT = 0.4
"""Distance up to which a face moves the mean, so that a cross-fade does not carry it from one person to the other."""
FIRST = 5
"""Views that make the mean in the first place, FIRST_SECONDS apart."""
FIRST_SECONDS = 0.1
OTHER = 0.6
"""Distance from which it is somebody else, if it stays so."""
COMES_BACK = 0.55
"""Distance up to which a face that was not followed is taken for somebody who was there before."""
BETTER = 0.1
"""By how much another person must fit better than the one whose place it is."""
AT_MOST, NEWCOMER = 0.85, 0.9
"""Costs of keeping a number that does not fit, and of a new one."""
CONSISTENT, STEADY = 0.45, 0.3
"""Distance up to which two unmatched views are of one new identity, after a jump and without one: halfway through a
cross-fade there is a face that nobody has, and it does not stay."""
UNMATCHED_VIEWS = 3
"""Consecutive unmatched views before there is one more person; after a jump one less."""
CHECK_SECONDS = 1.0
"""Between comparisons of a face to which nothing happens."""
HURRY_SECONDS = 0.2
"""Between comparisons of faces that are near each other, or change."""
EARLY = 0.005
"""Seconds that a comparison may be early: times of frames are rounded."""
MEETING = 1.5
"""Distance of two faces, in sizes of theirs, that is near."""
ALIKE = 0.7
"""Correlation of a face with itself in the frame before, below which it jumped; speech and turns have 0.8 to 1."""
GLIMPSE = 24
"""Side of the pictures that are compared for that, pixels."""
SMALLEST = 24.0
"""Size of a face in pixels, from which the recognition network knows it."""
ASKANCE = math.radians(45)
"""Yaw beyond which it does not."""


def recognise(image: np.ndarray, landmarks68: Sequence[np.ndarray]) -> np.ndarray:
    """`Recognise` by the shipped network."""
    return recognition_vectors(image, landmarks68)


class IdentityGuard:
    """Compares faces with the people of a clip. It keeps nothing: what it knows is in every `Person`.

    Args:
        recognise: None: nobody is recognised, and numbers follow places and colours.
    """

    def __init__(self, recognise: Recognise | None) -> None:
        self.recognise = recognise

    def vector(self, frame: Frame, view: FrameView) -> np.ndarray | None:
        """[D] of one face; None where it is too small or turned away."""
        return self._vectors(frame, [view]).get(0)

    def owners(
        self,
        frame: Frame,
        faces: Sequence[tuple[Person, FrameView]],
        people: Sequence[Person],
        here: Callable[[FrameView], bool],
    ) -> tuple[list[Person | None], bool] | None:
        """Owners of the tracked faces, where tracking confused them.

        Args:
            faces: of this frame, with the person each is taken for.  people: everyone seen so far.
            here: whether something looks like a face there, asked before there is a new person.
        Returns:
            The person of every face, None for somebody new, and whether the picture jumped, as at a cut; or None,
            where all is as followed.
        """
        if self.recognise is None or not faces:
            return None
        jumped = [_jumped(frame, person, view) for person, view in faces]
        jump = any(jumped)
        due = [i for i, (person, _) in enumerate(faces) if jump or self._due(frame.time, person, faces)]
        vectors = self._vectors(frame, [faces[i][1] for i in due])
        vectors = {due[i]: vector for i, vector in vectors.items()}
        unmatched = [i for i, vector in vectors.items() if faces[i][0].distance(vector) >= SURE]
        if unmatched and len(vectors) < len(faces):
            rest = [i for i in range(len(faces)) if i not in due]
            more = self._vectors(frame, [faces[i][1] for i in rest])
            vectors |= {rest[i]: vector for i, vector in more.items()}
        for i in vectors:
            faces[i][0].recognised, faces[i][0].compared = frame.time, faces[i][0].glimpse
        owners: list[Person | None] = [person for person, _ in faces]
        if unmatched:
            owners = self._assigned(faces, vectors, people)
            for i in vectors:
                person, view = faces[i]
                if owners[i] is person and self._is_new_identity(person, vectors[i], jump) and here(view):
                    owners[i] = None
        for i, vector in vectors.items():
            owner = owners[i]
            if owner is not None and owner.distance(vector) < (SURE if owner.vectors < FIRST else LEARNT):
                owner.learn(vector)
        if all(owner is person for owner, (person, _) in zip(owners, faces, strict=True)):
            return None
        glimpses = [person.glimpse for person, _ in faces]
        for owner, glimpse in zip(owners, glimpses, strict=True):
            if owner is not None:
                owner.glimpse = owner.compared = glimpse
                owner.unmatched, owner.unmatched_vector = 0, None
        return owners, jump

    def _due(self, time: float, person: Person, faces: Sequence[tuple[Person, FrameView]]) -> bool:
        if person.vector is None or (person.unmatched and person.hasty):
            return True
        pause = CHECK_SECONDS
        if (
            person.unmatched
            or _changed(person)
            or any(_near(person, other) for other, _ in faces if other is not person)
        ):
            pause = HURRY_SECONDS
        if person.vectors < FIRST:
            pause = FIRST_SECONDS
        return time - person.recognised > pause - EARLY

    def _vectors(self, frame: Frame, views: Sequence[FrameView]) -> dict[int, np.ndarray]:
        """Of the faces that can be recognised, by place."""
        if self.recognise is None:
            return {}
        able = [i for i, view in enumerate(views) if _recognisable(view)]
        if not able:
            return {}
        return dict(zip(able, self.recognise(frame.image, [views[i].landmarks68 for i in able]), strict=True))

    def _assigned(
        self, faces: Sequence[tuple[Person, FrameView]], vectors: dict[int, np.ndarray], people: Sequence[Person]
    ) -> list[Person | None]:
        """Faces to people, at the least sum of distances. Nobody has two faces."""
        impossible = 1e3
        costs = np.full((len(faces), len(people) + len(faces)), impossible)
        for i, (own, _) in enumerate(faces):
            costs[i, len(people) + i] = NEWCOMER
            for j, person in enumerate(people):
                if i not in vectors:
                    costs[i, j] = 0.0 if person is own else impossible
                elif person is own:
                    costs[i, j] = min(person.distance(vectors[i]), AT_MOST)
                elif person.vector is not None and person.distance(vectors[i]) < SURE:
                    costs[i, j] = person.distance(vectors[i]) + BETTER
        columns = linear_sum_assignment(costs)[1]
        return [people[j] if j < len(people) else None for j in columns]

    def _is_new_identity(self, person: Person, vector: np.ndarray, jump: bool) -> bool:
        """Counts consecutive views of one and the same new identity; whether they are enough."""
        if person.distance(vector) < OTHER:
            person.unmatched, person.unmatched_vector = 0, None
            return False
        hasty = jump or (person.hasty and person.unmatched > 0)
        limit = CONSISTENT if hasty else STEADY
        same = person.unmatched_vector is not None and float(np.linalg.norm(person.unmatched_vector - vector)) < limit
        if same and person.unmatched:
            person.unmatched -= 1
        else:
            person.unmatched, person.hasty = UNMATCHED_VIEWS - (2 if jump else 1), jump
        person.unmatched_vector = vector
        return person.unmatched == 0 and same


def _jumped(frame: Frame, person: Person, view: FrameView) -> bool:
    """The face's appearance differs from the frame before; remembers the present one."""
    before, person.glimpse = person.glimpse, face_glimpse(frame.image, view.landmarks68)
    return before is not None and float(before @ person.glimpse) < ALIKE


def _changed(person: Person) -> bool:
    """The face's appearance has drifted since it was recognised, as in a cross-fade."""
    if person.glimpse is None or person.compared is None:
        return False
    return float(person.compared @ person.glimpse) < ALIKE


def face_glimpse(image: np.ndarray, landmarks68: np.ndarray) -> np.ndarray:
    """[GLIMPSE²] the aligned face in grey, without mean and contrast: products are correlations."""
    grey = extract(image, [chip_crop(landmarks68)], GLIMPSE)[0].mean(0).numpy().ravel()
    grey = grey - grey.mean()
    return (grey / max(float(np.linalg.norm(grey)), 1e-6)).astype(np.float32)


def _recognisable(view: FrameView) -> bool:
    yaw = view.camera.angles[0]
    return abs(yaw) < ASKANCE and float(np.ptp(view.landmarks68, axis=0).mean()) >= SMALLEST


def _near(person: Person, other: Person) -> bool:
    size = max(float(np.ptp(p.landmarks68, axis=0).mean()) for p in (person, other))
    return float(np.linalg.norm(person.landmarks68.mean(0) - other.landmarks68.mean(0))) < MEETING * size
