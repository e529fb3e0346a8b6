"""The correction of shapes: front views, mirror, regression, the file, and what the reconstructor makes of it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage import data

import tokenface
from tokenface.camera import Camera
from tokenface.data.mirror import Mirror
from tokenface.data.synthetic import SyntheticFaces
from tokenface.errors import CheckpointError, ConfigError
from tokenface.head.registry import load_head
from tokenface.likeness.correction import (
    Likeness,
    LinearMap,
    find_likeness,
    likeness_path,
    read_likeness,
    save_likeness,
)
from tokenface.likeness.descriptor import Describer
from tokenface.likeness.front import FrontView
from tokenface.likeness.regression import Sums
from tokenface.likeness.train import Observer, train_likeness, unexplained
from tokenface.network.checkpoint import load_checkpoint
from tokenface.weights import find_weights


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


@pytest.fixture(scope="module")
def faces(head):
    return SyntheticFaces(head, 96).sample(4, seed=11, plain=True)


def test_with_the_true_answer_the_same_surface_shows_wherever_the_head_looks(head):
    """One person under one expression, seen from two sides: front views agree where both see the surface."""
    generator = SyntheticFaces(head, 192)
    first = generator.sample(1, seed=3, plain=True).parameters
    turns = [torch.eye(3), torch.tensor([[0.9553, 0, 0.2955], [0, 1, 0], [-0.2955, 0, 0.9553]])]
    given = {name: getattr(first, name) for name in ("shape", "expression", "jaw", "texture")}
    distance = torch.full((1,), 50.0)  # far away: the answer's camera has no perspective
    batches = [
        generator.sample(1, seed=3, plain=True, rotation=turn[None], distance=distance, **given) for turn in turns
    ]
    views = [FrontView(head)(batch.image, batch.parameters)[0] for batch in batches]
    both = torch.minimum(views[0][3], views[1][3]) > 0.6
    assert int(both.sum()) > 1500
    patterns = [view[:3].mean(0)[both] for view in views]
    together = torch.corrcoef(torch.stack(patterns))[0, 1]
    assert float(together) > 0.8
    moved = batches[1].parameters.replace(
        shape=torch.randn(1, head.sizes.shape, generator=torch.Generator().manual_seed(1)) * 2
    )
    other = FrontView(head)(batches[1].image, moved)[0]
    assert float(torch.corrcoef(torch.stack([patterns[0], other[:3].mean(0)[both]]))[0, 1]) < float(together)


def test_a_mirrored_picture_has_the_mirrored_front_view(head, faces):
    mirror, front = Mirror(head), FrontView(head)
    seen = front(faces.image, faces.parameters)
    flipped = front(mirror.images(faces.image), mirror.parameters(faces.parameters))
    assert float((seen.flip(-1) - flipped).abs().mean()) < 0.01
    assert float((seen - flipped).abs().mean()) > 0.03
    twice = mirror.parameters(mirror.parameters(faces.parameters))
    for (_, once), (_, again) in zip(faces.parameters.items(), twice.items(), strict=True):
        assert torch.equal(once, again)
    p, m = faces.parameters, mirror.parameters(faces.parameters)
    there = head(p.shape, p.expression, p.jaw).vertices[:, torch.as_tensor(head.data.mirror.astype(np.int64))]
    here = head(m.shape, m.expression, m.jaw).vertices
    assert float((here - there * torch.tensor([-1.0, 1, 1])).abs().max()) < 1e-6


def test_descriptors_do_not_mind_light_but_mind_edges(head, faces):
    front = FrontView(head)
    describe = Describer(front)
    view = front(faces.image, faces.parameters)
    rows = describe(view, faces.parameters)
    assert rows.shape == (4, describe.length)
    darker = view.clone()
    darker[:, :3] = (darker[:, :3] + 0.5) * 0.6 - 0.5
    edges = describe.view_length - 3 * int(describe._kept[-1].sum() / 3)
    change = (describe(darker, faces.parameters) - rows)[:, :edges].abs().mean()
    shifted = (describe(view.roll(2, -1), faces.parameters) - rows)[:, :edges].abs().mean()
    assert float(change) < 0.5 * float(shifted)


def test_sums_solve_what_least_squares_solves_and_survive_the_disk(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x, matrix = torch.randn(400, 12, generator=generator), torch.randn(12, 3, generator=generator)
    y = x @ matrix + 0.5
    sums = Sums.start(x[:50], 12, 3)
    for rows in (slice(0, 150), slice(150, 400)):
        sums.add(x[rows], y[rows])
        sums.save(tmp_path / "sums.safetensors")
        sums = Sums.load(tmp_path / "sums.safetensors")
    assert sums.rows == 400
    assert float((sums.solve(1e-3)(x) - y).abs().max()) < 1e-2
    shrunk = sums.solve(1e6).matrix
    assert float(shrunk.abs().max()) < 1e-2
    held = sums.solve(1.0, still=x[7])
    assert float(held(x[7:8]).abs().max()) < 1e-2 < float(sums.solve(1.0)(x[7:8]).abs().min())
    (tmp_path / "sums.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="delete it"):
        Sums.load(tmp_path / "sums.safetensors")


def test_the_camera_keeps_a_corrected_head_where_it_was(head, faces):
    describe = Describer(FrontView(head))
    bias = torch.randn(head.sizes.shape, generator=torch.Generator().manual_seed(2))
    zero = LinearMap(
        torch.zeros(describe.length), torch.ones(describe.length),
        torch.zeros(describe.length, head.sizes.shape), bias,
    )  # fmt: skip
    likeness = Likeness(head, zero, {"weights": "x"})
    before = faces.parameters
    after = likeness(faces.image, before)
    assert torch.allclose(after.shape, before.shape + bias)
    assert torch.equal(after.expression, before.expression)

    yaw = Camera.from_vector(before.camera).angles()[:, 0]

    def places(p, camera):
        vertices = head(p.shape, p.expression, p.jaw).vertices
        return Camera.from_vector(camera).project(head.landmarks68(vertices, yaw))[..., :2]

    was = places(before, before.camera)
    kept, drifted = places(after, after.camera) - was, places(after, before.camera) - was
    assert float(kept.mean(1).abs().max()) < 1e-4  # of half a crop
    assert float(kept.square().mean()) < 0.8 * float(drifted.square().mean())
    turned = before.replace(camera=before.camera + torch.tensor([0.3, 0.02, -0.05, 0.03, 0.02, -0.03, 0]))
    again = Likeness(head, replace(zero, bias=torch.zeros_like(bias)), {"weights": "x"})
    assert torch.allclose(again(faces.image, turned).camera, turned.camera, atol=1e-4)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A correction learned in a hurry, stopped half way and continued."""
    folder = tmp_path_factory.mktemp("likeness")
    common = [f"folder={folder}", f"output={folder / 'quick.safetensors'}", "held_out=64", "ridges=[100000.0]"]
    said: list[str] = []
    train_likeness(None, [*common, "faces=64"], said.append)
    path = train_likeness(None, [*common, "faces=128"], said.append)
    assert "goes on behind 64 faces" in said
    return path


def test_training_learns_from_faces_and_goes_on(learned, head):
    likeness = read_likeness(learned, head)
    assert likeness.facts["training"]["faces"] == 128
    network, _, _ = load_checkpoint(find_weights())
    seen = Observer(network, head, network.config.image_size).block(880_000_000)
    before, after = unexplained([seen], likeness.linear, head)
    assert after < 0.97 * before  # of faces that it has learned from
    assert likeness.facts["metrics"]["left of the answers' squared shape error"] < 1.05  # of others: it hardly harms


def test_several_processes_see_the_same_faces(learned, tmp_path):
    said: list[str] = []
    changes = ["faces=128", "held_out=64", f"folder={tmp_path}", "threads=1", "processes=2"]
    path = train_likeness(None, [*changes, f"output={tmp_path / 'two.safetensors'}"], said.append)
    assert "128 of 128 faces" in said
    alone, together = (Sums.load(next(folder.glob("sums_*"))) for folder in (learned.parent, path.parent))
    assert alone.rows == together.rows == 256
    torch.testing.assert_close(alone.squares, together.squares, rtol=1e-4, atol=0.5)
    torch.testing.assert_close(alone.products, together.products, rtol=1e-3, atol=0.5)


def test_impossible_runs_are_refused(tmp_path):
    for change, message in (
        ("faces=1", "faces ≥"),
        ("trust=1.5", "trust is above 0"),
        ("processes=0", "at least one process"),
    ):
        with pytest.raises(ConfigError, match=message):
            train_likeness(None, [change, f"folder={tmp_path}"])


def test_a_reconstructor_corrects_faces_crops_and_nothing_else(learned, head, tmp_path):
    weights = tmp_path / "copy.safetensors"
    shutil.copyfile(find_weights(), weights)
    plain = tokenface.load(weights, device="cpu")
    assert plain.likeness is None
    shutil.copyfile(learned, likeness_path(weights))
    model = tokenface.load(weights, device="cpu")
    assert model.likeness is not None
    photo = data.astronaut()
    (before,), (after,) = plain.reconstruct(photo), model.reconstruct(photo)
    assert not torch.equal(before.parameters.shape, after.parameters.shape)
    for name in ("expression", "jaw", "texture", "light"):
        assert torch.equal(getattr(before.parameters, name), getattr(after.parameters, name))
    assert np.linalg.norm(before.landmarks - after.landmarks, axis=1).mean() < 3
    assert before.confidence == after.confidence
    crops = torch.rand(3, 3, model.crop_size, model.crop_size, generator=torch.Generator().manual_seed(0))
    whole, parts = model.predict(crops), model.predict(crops, batch_size=2)
    assert torch.allclose(whole.shape, parts.shape, atol=1e-5)
    assert not torch.equal(whole.shape, plain.predict(crops).shape)


def test_files_of_other_weights_or_damaged_ones_are_left_out_with_a_line(learned, head, tmp_path, caplog):
    weights = tmp_path / "w.safetensors"
    assert find_likeness(weights, "0" * 16, head) is None
    shutil.copyfile(learned, likeness_path(weights))
    assert find_likeness(weights, "0" * 16, head) is None
    assert "made for other weights" in caplog.text
    likeness_path(weights).write_bytes(b"damaged")
    assert find_likeness(weights, "0" * 16, head) is None
    assert "make it again" in caplog.text
    linear = read_likeness(learned, head).linear
    save_likeness(
        likeness_path(weights),
        LinearMap(linear.mean, linear.scale, linear.matrix[:, :5], linear.bias),
        {"weights": "x"},
    )
    with pytest.raises(CheckpointError, match="this likeness reads"):
        read_likeness(likeness_path(weights), head)
