"""Numbers follow people, not places: changes of place, missed cuts, cross-fades, people who come back or leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from people_pictures import SIDE, rendered_people
from stand_ins import MARK
from video_stand_ins import FollowingNetwork, following_model, scene

from tokenface.errors import ModelFileError
from tokenface.images.models import model_path
from tokenface.video.clip import Frame
from tokenface.video.identity import CHECK_SECONDS, FIRST, IdentityGuard
from tokenface.video.pipeline import Pipeline, PipelineOptions, run
from tokenface.video.tracker import TrackerOptions
from tokenface.weights import DEFAULT_WEIGHTS, WEIGHTS

BLUE, GREEN, YELLOW = (10, 20, 70), (40, 180, 60), (240, 250, 200)
"""Dark and bright clothes, so that a face in grey looks another way above them."""
EVERYBODY = PipelineOptions(TrackerOptions(people=None))


class ByClothes:
    """The recognition network of the painted world: a vector is the colour around the mark."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, image: np.ndarray, landmarks68: Sequence[np.ndarray]) -> np.ndarray:
        self.seen.append(len(landmarks68))
        vectors = []
        for points in landmarks68:
            x0, y0, x1, y1 = (round(float(v)) for v in (*(points.min(0) - 6), *(points.max(0) + 6)))
            part = image[max(y0, 0) : y1, max(x0, 0) : x1].reshape(-1, 3).astype(np.float32)
            worn = part[np.abs(part - MARK).max(1) > 40]
            vectors.append(worn.mean(0) / 128)
        return np.array(vectors)


def followed(model, frames: list[np.ndarray], recognise=None, options: PipelineOptions = EVERYBODY):
    pipeline = Pipeline(model, model.detector, options)
    pipeline.tracker.guard = IdentityGuard(recognise)
    return list(run(pipeline, (Frame(i, i / 30, image) for i, image in enumerate(frames))))


def at(predictions, x: float) -> int:
    """The number of the person nearest to a column."""
    return min(predictions.predictions, key=lambda prediction: abs(prediction.crop.centre[0] - x)).person


def numbers(found) -> list[list[int]]:
    return [[prediction.person for prediction in frame.predictions] for frame in found]


@pytest.fixture(scope="module")
def model():
    return following_model()


def pair(left: tuple[int, int, int], right: tuple[int, int, int]) -> np.ndarray:
    return scene((40, 50, 36, left), (220, 50, 36, right), size=(140, 320))


def test_people_who_change_places_take_their_numbers_along(model) -> None:
    frames = [pair(BLUE, YELLOW)] * 20 + [pair(YELLOW, BLUE)] * 20 + [pair(BLUE, YELLOW)] * 5
    found = followed(model, frames, ByClothes())
    blue = at(found[0], 58)
    assert at(found[0], 238) != blue
    assert {at(frame, 58) for frame in found[:20]} == {blue}
    assert {at(frame, 238) for frame in found[20:40]} == {blue}
    assert {at(frame, 58) for frame in found[40:]} == {blue}
    assert {prediction.person for frame in found for prediction in frame.predictions} == {0, 1}
    assert [frame.index for frame in found if frame.cut] == [20, 40]
    scenes = {(frame.index, prediction.scene) for frame in found for prediction in frame.predictions}
    assert len({scene for _, scene in scenes}) == 3  # nothing is mixed with what was there before
    without = followed(model, frames)  # the change of places is no cut to the colours of the whole picture
    assert {at(frame, 58) for frame in without} == {at(without[0], 58)}


def test_another_person_in_the_same_place_is_another_person(model) -> None:
    blue, yellow = (scene((60, 40, 36, colour)) for colour in (BLUE, YELLOW))
    found = numbers(followed(model, [blue] * 20 + [yellow] * 20 + [blue] * 20, ByClothes()))
    assert found[:20] == [[0]] * 20
    assert found[22:40] == [[1]] * 18  # two views without a match before there is a new person
    assert found[42:] == [[0]] * 18
    assert found[40] == [0]  # who was there before is known at once
    assert {n for [n] in numbers(followed(model, [blue] * 20 + [yellow] * 20))} == {0}


def test_a_cross_fade_changes_the_person_once(model) -> None:
    colours = ((40, 60, 200), (210, 200, 40))  # alike in grey: nothing jumps
    blue, yellow = (scene((60, 40, 36, colour)).astype(np.float32) for colour in colours)
    fade = [(blue * (1 - t) + yellow * t).astype(np.uint8) for t in np.linspace(0, 1, 20)]
    blues, yellows = [blue.astype(np.uint8)] * 40, [yellow.astype(np.uint8)] * 40
    found = [n for [n] in numbers(followed(model, blues + fade + yellows + fade[::-1] + blues, ByClothes()))]
    changes = [(i, n) for i, (before, n) in enumerate(pairwise(found), 1) if n != before]
    assert [n for _, n in changes] == [1, 0]
    assert 40 < changes[0][0] < 60 + 30 * CHECK_SECONDS
    assert 100 < changes[1][0] < 120 + 30 * CHECK_SECONDS


def test_a_face_to_which_nothing_happens_is_recognised_once_a_second(model) -> None:
    who = ByClothes()
    found = followed(model, [scene((60 + i % 2, 40, 36, BLUE)) for i in range(150)], who)
    assert {n for [n] in numbers(found)} == {0}
    assert sum(who.seen) <= FIRST + 5


def test_one_odd_look_makes_nobody_new(model) -> None:
    blue, odd = scene((60, 40, 36, BLUE)), scene((60, 40, 36, YELLOW))
    assert {n for [n] in numbers(followed(model, [blue] * 20 + [odd] + [blue] * 20, ByClothes()))} == {0}


def test_who_comes_back_is_known_in_other_surroundings(model) -> None:
    """The person of before, at another place and in another light, beside somebody else."""
    first = scene((40, 50, 36, BLUE), size=(140, 320))
    later = scene((40, 50, 36, GREEN), (220, 50, 36, (14, 26, 80)), size=(140, 320), ground=(90, 80, 70))
    empty = scene(size=(140, 320))
    found = followed(model, [first] * 20 + [empty] * 45 + [later] * 20, ByClothes())
    assert at(found[0], 58) == 0
    assert at(found[-1], 238) == 0
    assert at(found[-1], 58) == 1


def test_the_state_has_who_people_are(model) -> None:
    frames = [pair(BLUE, YELLOW)] * 17 + [pair(YELLOW, BLUE)] * 13
    whole = followed(model, frames, ByClothes())
    first, second = Pipeline(model, model.detector, EVERYBODY), Pipeline(model, model.detector, EVERYBODY)
    first.tracker.guard = second.tracker.guard = IdentityGuard(ByClothes())
    stream = [Frame(i, i / 30, image) for i, image in enumerate(frames)]
    begun = [predictions for frame in stream[:16] for predictions in first.push(frame)]
    second.restore(first.state())
    begun += list(run(second, iter(stream[16:])))
    assert [numbers([a]) for a in begun] == [numbers([a]) for a in whole]
    assert [at(frame, 58) for frame in begun] == [at(frame, 58) for frame in whole]


class ClingingNetwork(FollowingNetwork):
    """Goes on seeing a face of the usual size in the middle of its crop when there is none, as networks do."""

    def forward(self, images: torch.Tensor):
        found = super().forward(images)
        red = ((images[:, 0] > 0.8) & (images[:, 1] < 0.3)).flatten(1).any(1)
        usual = 2 * 2.0 / (self.extent * 1.375) / 2.0
        camera = found.camera.clone()
        camera[~red, 0] = usual
        camera[~red, 4], camera[~red, 5] = -usual * self.middle[0], -usual * self.middle[1]
        return found.replace(camera=camera)


def test_a_face_that_has_left_is_lost_without_an_uncertainty_head() -> None:
    """Neither the network nor a face mesh says that nobody is there: the detector does."""
    model = following_model()
    model.network = ClingingNetwork(model.head)
    found = numbers(followed(model, [scene((60, 40, 36))] * 20 + [scene()] * 50 + [scene((60, 40, 36))] * 30))
    assert found[:20] == [[0]] * 20
    assert found[38:70] == [[]] * 32  # within the half second between two checks
    assert found[-1] == [0]


needs_model = pytest.mark.skipif(not WEIGHTS[DEFAULT_WEIGHTS].installed, reason="the default weights are not there")


@pytest.fixture(scope="module")
def shipped():
    try:
        model_path("face_mesh")
    except ModelFileError as error:
        pytest.skip(f"needs the detector's model files: {error}")
    import tokenface

    return tokenface.load()


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    """Two rendered people as the recognition network sees them apart."""
    return rendered_people(6, 2, seed=11, turn=0.05)[0]


@needs_model
def test_rendered_people_who_change_places_are_told_apart(shipped, people) -> None:
    one, other = people[6], people[2]
    assert one.shape == (SIDE, SIDE, 3)
    frames = [np.hstack([one, other])] * 6 + [np.hstack([other, one])] * 6
    pipeline = Pipeline(shipped, shipped.detector, EVERYBODY)
    found = list(run(pipeline, (Frame(i, i / 25, image) for i, image in enumerate(frames))))
    first = at(found[0], SIDE / 2)
    assert {at(frame, SIDE / 2) for frame in found[:6]} == {first}
    assert {at(frame, 3 * SIDE / 2) for frame in found[6:]} == {first}
    assert len({prediction.person for frame in found for prediction in frame.predictions}) == 2


@needs_model
def test_the_face_mesh_loses_a_face_where_the_network_does_not_say(shipped, people, monkeypatch) -> None:
    pipeline = Pipeline(shipped, shipped.detector, EVERYBODY)
    predictions = shipped.predictions
    monkeypatch.setattr(
        shipped, "predictions", lambda *a, **b: [replace(one, sigma=None) for one in predictions(*a, **b)]
    )
    empty = np.random.default_rng(0).normal(127, 2, (SIDE, SIDE, 3)).astype(np.uint8)
    frames = [people[6]] * 6 + [empty] * 24
    # no cut: the picture must not help
    pipeline.tracker.cuts.step = lambda image: False  # type: ignore[method-assign]
    found = list(run(pipeline, (Frame(i, i / 25, image) for i, image in enumerate(frames))))
    assert numbers(found)[:6] == [[0]] * 6
    assert numbers(found)[22:] == [[]] * 8


@needs_model
def test_the_clip_that_failed(shipped, shared_data) -> None:
    pytest.importorskip("av", reason="needs the extra 'video'")
    path = shared_data.parent / "cases" / "cutswap.mp4"
    if not path.is_file():
        pytest.skip("needs cases/cutswap.mp4")
    from tokenface.video.clip import Clip

    found = list(run(Pipeline(shipped, shipped.detector, EVERYBODY), Clip(path, start=1.2, end=2.7).frames()))
    sides = [(frame.cut, at(frame, 170), at(frame, 690)) for frame in found]
    change = next(i for i, (cut, _, _) in enumerate(sides) if cut)
    assert {pair[1:] for pair in sides[:change]} == {(1, 0)}
    assert {pair[1:] for pair in sides[change:]} == {(0, 1)}
