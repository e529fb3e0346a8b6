"""The second look at who somebody is, in clips: one correction per person, cameras that keep the landmarks in place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("av", reason="needs the extra 'video'")

from skimage import data

import tokenface
from tokenface.video.clip import Frame
from tokenface.video.likened import FIRST, PeopleLikeness
from tokenface.video.pipeline import Pipeline, PipelineOptions
from tokenface.video.store import Store

FRAMES = 12
RATE = 10


@pytest.fixture(scope="module")
def model():
    return tokenface.load()


@pytest.fixture(scope="module")
def plain_model():
    """The network alone."""
    found = tokenface.load()
    found.likeness = None
    return found


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """A photo that wanders over the frame."""
    photo = data.astronaut()
    return [Frame(i, i / RATE, np.roll(photo, (i, 2 * i), (0, 1))) for i in range(FRAMES)]


def answered(model, frames):
    pipeline = Pipeline(model, PipelineOptions())
    found = [answers for frame in frames for answers in pipeline.push(frame)]
    return pipeline, [one.answers[0] for one in found]


def test_a_clip_shows_the_person_that_a_photo_of_it_shows(model, plain_model, frames):
    _, corrected = answered(model, frames)
    face = model.reconstruct(frames[0].image)[0]
    _, plain = answered(plain_model, frames)
    wanted = face.parameters.shape - plain_model.reconstruct(frames[0].image)[0].parameters.shape
    change = corrected[-1].parameters.shape - plain[-1].parameters.shape
    assert float(torch.cosine_similarity(change, wanted, dim=0)) > 0.9
    assert 0.8 < float(change.norm() / wanted.norm()) < 1.2


def test_the_correction_settles_and_landmarks_stay_in_place(model, plain_model, frames):
    _, corrected = answered(model, frames)
    _, plain = answered(plain_model, frames)
    changes = [a.parameters.shape - b.parameters.shape for a, b in zip(corrected, plain, strict=True)]
    assert float((changes[FIRST - 1] - changes[FIRST]).norm()) == pytest.approx(0, abs=1e-5)  # no look in between
    points = [[landmarks(model.head, one) for one in side] for side in (corrected, plain)]
    apart = np.linalg.norm(np.array(points[0]) - np.array(points[1]), axis=-1).mean()
    assert apart < 0.012 * corrected[0].crop.size


def landmarks(head, answer) -> np.ndarray:
    p = answer.parameters[None]
    vertices = head(p.shape, p.expression, p.jaw).vertices
    return answer.camera.project(head.landmarks68(vertices, torch.tensor([answer.camera.angles[0]]))[0].numpy())


def test_a_stopped_pipeline_goes_on_with_the_same_corrections(model, frames, tmp_path: Path):
    _, whole = answered(model, frames)
    first, before = answered(model, frames[:5])
    store = Store(tmp_path)
    store.append(0, [], first.state())
    found = store.state()
    assert found is not None
    second = Pipeline(model, PipelineOptions())
    second.restore(found[1])
    after = [answers.answers[0] for frame in frames[5:] for answers in second.push(frame)]
    for a, b in zip(whole, before + after, strict=True):
        for (name, one), (_, other) in zip(a.parameters.items(), b.parameters.items(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5, msg=name)


def test_sure_looks_count_more(model, frames):
    _, plain = answered(model, frames[:1])
    answer = plain[0]
    people = PeopleLikeness(model.likeness, model.crop_size)
    sure = replace(answer.evidence, probability=0.9)
    unsure = replace(answer.evidence, probability=0.1)
    other = frames[0].image[:, :, ::-1].copy() // 2
    people.look(frames[0].image, 0.0, [replace(answer, evidence=sure)])
    own = people.state()["0"]["total"] / people.state()["0"]["weight"]
    people.look(other, 0.1, [replace(answer, evidence=unsure)])
    mean = people.state()["0"]["total"] / people.state()["0"]["weight"]
    alone = PeopleLikeness(model.likeness, model.crop_size)
    alone.look(other, 0.1, [answer])
    second = alone.state()["0"]["total"] / alone.state()["0"]["weight"]
    np.testing.assert_allclose(mean, 0.9 * own + 0.1 * second, atol=1e-6)
    assert np.abs(own - second).max() > 1e-3
