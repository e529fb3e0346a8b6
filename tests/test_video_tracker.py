"""Following people: when faces are searched for, who is who, cuts, crops, smoothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from stand_ins import MarkDetector
from video_stand_ins import following_model, scene

from tokenface.errors import VideoError
from tokenface.geometry.crop import crop_from_landmarks
from tokenface.video.clip import Frame
from tokenface.video.cuts import CutDetector
from tokenface.video.person import Person, following_crop
from tokenface.video.pipeline import Pipeline, PipelineOptions, run
from tokenface.video.smoothing import OneEuro, OneEuroSettings
from tokenface.video.track import track
from tokenface.video.tracker import TrackerOptions

BLUE, GREEN, YELLOW = (40, 60, 200), (40, 180, 60), (210, 200, 40)


@pytest.fixture(scope="module")
def model():
    return following_model()


def searches(model) -> int:
    detector = model.detector
    assert isinstance(detector, MarkDetector)
    return sum(shape == (120, 160, 3) for shape in detector.looked_at)  # of whole frames, not around one face


def people_of(model, frames, people=1, **options) -> list[list[int]]:
    return [
        [face.person for face in frame.faces]
        for frame in track(model, model.detector, frames, people=people, **options)
    ]


def test_a_face_that_stays_is_searched_for_once(model) -> None:
    before = searches(model)
    frames = [scene((50 + i, 40, 24)) for i in range(40)]
    found = list(track(model, model.detector, frames))
    assert [[face.person for face in frame.faces] for frame in found] == [[0]] * 40
    assert searches(model) - before == 1
    for i, frame in enumerate(found):
        middle = (frame.faces[0].box[:2] + frame.faces[0].box[2:]) / 2
        np.testing.assert_allclose(middle, [50 + i + 12, 40 + 12], atol=3)


def test_one_network_pass_a_frame(model) -> None:
    model.network.batches.clear()
    list(track(model, model.detector, [scene((50 + i % 3, 40, 24)) for i in range(30)]))
    # two for the first frame, as for a photo; then one each
    assert sum(model.network.batches) <= 2 + 29


def test_fast_motion_gets_a_second_look(model) -> None:
    frames = [scene((30 + 9 * i, 40, 24)) for i in range(10)]
    found = list(track(model, model.detector, frames))
    for i, frame in enumerate(found):
        middle = (frame.faces[0].box[:2] + frame.faces[0].box[2:]) / 2
        np.testing.assert_allclose(middle, [30 + 9 * i + 12, 52], atol=3)


def test_numbers_outlive_gaps(model) -> None:
    here, gone = scene((50, 40, 24, BLUE)), scene()
    assert people_of(model, [here] * 5 + [gone] * 5 + [here] * 20)[0] == [0]
    found = people_of(model, [here] * 5 + [gone] * 5 + [here] * 20)
    assert found[5:10] == [[]] * 5
    assert found[-1] == [0]


def test_nobody_for_a_hundred_frames_costs_few_searches(model) -> None:
    before = searches(model)
    found = people_of(model, [scene()] * 100 + [scene((50, 40, 24))] * 20)
    assert found[:100] == [[]] * 100
    assert found[-1] == [0]
    assert searches(model) - before < 30  # every 0.2 s


def test_a_face_that_leaves_the_picture_and_comes_back(model) -> None:
    xs = [*range(100, 170, 5), *range(170, 100, -5)]
    found = people_of(model, [scene((x, 40, 24, GREEN)) for x in xs] + [scene((100, 40, 24, GREEN))] * 15)
    assert found[0] == [0]
    assert [] in found  # it was outside for a while
    assert found[-1] == [0]


def test_people_who_cross_keep_their_numbers(model) -> None:
    frames = []
    for i in range(40):
        left = (10 + 3 * i, 30, 20, BLUE)
        right = (125 - 3 * i, 70, 20, YELLOW)
        frames.append(scene(left, right, size=(120, 160)))
    found = list(track(model, model.detector, frames, people="all"))
    blue = _person_near(found[0], (20, 40))
    assert _person_near(found[-1], (10 + 3 * 39 + 10, 40)) == blue
    assert {face.person for frame in found for face in frame.faces} == {0, 1}


def test_two_tracks_never_share_a_face(model) -> None:
    """One walks behind the other: for some frames there is one mark only."""
    frames = []
    for i in range(50):
        marks = [(60, 40, 24, BLUE)]
        x = 130 - 4 * i
        if x < 20 or x > 100:
            marks.append((max(x, 2), 42, 22, YELLOW))
        frames.append(scene(*marks, size=(120, 170)))
    for frame in track(model, model.detector, frames, people="all"):
        boxes = [face.box for face in frame.faces]
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def test_at_most_as_many_people_as_wanted_and_the_largest(model) -> None:
    frames = [scene((20, 20, 20), (90, 40, 30)), *[scene((20, 20, 20), (90, 40, 30))] * 20]
    one = list(track(model, model.detector, frames, people=1))
    assert all(len(frame.faces) == 1 for frame in one)
    assert one[0].faces[0].box[0] > 70
    assert all(len(frame.faces) == 2 for frame in track(model, model.detector, frames, people="all"))
    with pytest.raises(VideoError, match="people"):
        track(model, model.detector, frames, people=0)


def test_a_cut_starts_anew_and_people_are_known_by_what_they_wear(model) -> None:
    random = np.random.default_rng(0)
    rooms = [random.integers(0, 255, (6, 8, 3)).repeat(20, 0).repeat(20, 1).astype(np.uint8) for _ in range(2)]

    def shot(room: np.ndarray, mark) -> np.ndarray:
        picture, mask = scene(mark), scene(mark, ground=(1, 2, 3))
        return np.where((mask == (1, 2, 3)).all(-1, keepdims=True), room, picture).astype(np.uint8)

    a, b = shot(rooms[0], (40, 40, 40, BLUE)), shot(rooms[1], (70, 40, 40, YELLOW))
    frames = [a] * 10 + [b] * 10 + [a] * 10
    found = list(track(model, model.detector, frames))
    assert [frame.index for frame in found if frame.cut] == [10, 20]
    numbers = [[face.person for face in frame.faces] for frame in found]
    assert numbers[9] == [0]
    assert numbers[10] == [1]
    assert numbers[20] == [0]


def test_cuts_are_neither_motion_nor_light() -> None:
    random = np.random.default_rng(1)
    texture = random.integers(0, 255, (30, 60, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    panning = [texture[:200, 4 * i : 4 * i + 240] for i in range(30)]
    fading = [(panning[-1] * (1 - 0.02 * i)).astype(np.uint8) for i in range(30)]
    detector = CutDetector()
    assert not any(detector.step(frame) for frame in panning + fading)
    assert detector.step(255 - texture[:200, :240])


def test_a_still_face_keeps_its_crop() -> None:
    random = np.random.default_rng(2)
    points = random.uniform(50, 100, (68, 2))
    crop = crop_from_landmarks(points)
    assert following_crop(crop, points + random.normal(0, 0.3, (68, 2)), 0.01, 1.25) is crop
    moved = following_crop(crop, points + np.array([10.0, 0.0]), 0.0, 1.25)
    assert moved.centre[0] == pytest.approx(crop.centre[0] + 10)


def test_the_state_goes_on_as_if_nothing_had_happened(model) -> None:
    frames = [
        Frame(i, i / 30, scene((40 + 2 * i, 40, 24, BLUE), *([(20, 80, 22, YELLOW)] if i % 9 < 6 else [])))
        for i in range(30)
    ]
    options = PipelineOptions(TrackerOptions(people=None), smooth="one-euro")
    whole = list(run(Pipeline(model, model.detector, options), iter(frames)))
    first = Pipeline(model, model.detector, options)
    begun = [predictions for frame in frames[:13] for predictions in first.push(frame)]
    second = Pipeline(model, model.detector, options)
    second.restore(first.state())
    begun += list(run(second, iter(frames[13:])))
    assert len(begun) == len(whole) == 30
    for a, b in zip(begun, whole, strict=True):
        assert [x.person for x in a.predictions] == [x.person for x in b.predictions]
        for x, y in zip(a.predictions, b.predictions, strict=True):
            pairs = zip(x.parameters.items(), y.parameters.items(), strict=True)
            assert all(torch.equal(v, w) for (_, v), (_, w) in pairs)
            assert x.crop == y.crop


def test_one_euro_smooths_noise_and_follows_speed() -> None:
    random = np.random.default_rng(3)
    times = np.arange(200) / 30
    noisy = random.normal(0, 1, (200, 1))
    still = OneEuro(OneEuroSettings(1.0, 0.0))
    calm = np.array([still(x, t).copy() for x, t in zip(noisy, times, strict=True)])
    assert np.diff(calm, 2, axis=0).std() < 0.3 * np.diff(noisy, 2, axis=0).std()
    ramp = (100 * times)[:, None]
    slow, quick = OneEuro(OneEuroSettings(1.0, 0.0)), OneEuro(OneEuroSettings(1.0, 1.0))
    behind = [ramp[-1] - [f(x, t) for x, t in zip(ramp, times, strict=True)][-1] for f in (slow, quick)]
    # a first-order low-pass of cutoff f lags a ramp by its slope over 2 pi f
    assert behind[0][0] == pytest.approx(100 / (2 * math.pi), rel=0.15)
    assert behind[1][0] < 1


def test_smoothing_keeps_a_still_face_in_place_and_starts_anew_after_gaps(model) -> None:
    frames = [scene((50, 40, 24))] * 10 + [scene()] * 3 + [scene((90, 70, 24))] * 10
    plain = list(track(model, model.detector, frames))
    smooth = list(track(model, model.detector, frames, smooth="one-euro"))
    for a, b in zip(plain, smooth, strict=True):
        for x, y in zip(a.faces, b.faces, strict=True):
            np.testing.assert_allclose(x.landmarks, y.landmarks, atol=0.05)
            np.testing.assert_allclose(x.head_pose, y.head_pose, atol=1e-2)


def test_frames_of_other_kinds_are_refused(model) -> None:
    with pytest.raises(VideoError, match="uint8"):
        list(track(model, model.detector, [np.zeros((10, 10, 3))]))


def _person_near(frame, place) -> int:
    return min(frame.faces, key=lambda f: np.linalg.norm((f.box[:2] + f.box[2:]) / 2 - place)).person


def test_a_state_with_the_former_names_is_read() -> None:
    crop, vector = crop_from_landmarks(np.random.default_rng(0).normal(size=(68, 2)), 1.2), np.ones(4, np.float32)
    person = Person(3, np.zeros((68, 2)), crop, np.ones(8), 7, 0.7, 0, 0.5, unmatched=2, unmatched_vector=vector)
    state = person.state()
    former = {"unmatched": "strange", "unmatched_vector": "stranger"}
    read = Person.from_state({former.get(name, name): value for name, value in state.items()})
    assert (read.unmatched, read.crop.size) == (2, pytest.approx(crop.size))
    assert read.unmatched_vector is vector
