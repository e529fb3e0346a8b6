"""The paper's objective on records: right for the truth, Table 5's modes, every weight of the paper in its place."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from toy_head import toy_head_data

from tokenface.data.augment import Part, colour_jitter, turn_and_zoom
from tokenface.data.shards.batch import GeometryBatch, RecordBatch
from tokenface.data.shards.index import Entry, ShardIndex
from tokenface.errors import ConfigError, DataError
from tokenface.head.model import HeadModel
from tokenface.losses.photometric import lost_share, recall_loss
from tokenface.losses.totals import PaperWeights
from tokenface.parameters import FaceParameters
from tokenface.training.batches import Batches, Counts, ProcessLayout
from tokenface.training.config import DataConfig, PaperConfig, RunConfig, TrainConfig
from tokenface.training.hybrid import HybridObjective

SIZE = 48


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel(toy_head_data())


def faces(head: HeadModel, count: int, seed: int = 0) -> FaceParameters:
    g = torch.Generator().manual_seed(seed)
    sizes = head.sizes
    camera = torch.tensor([7.0, 0.05, 0.2, 0.0, 0.0, 0.0, 0.0]).repeat(count, 1)
    light = torch.zeros(count, 27)
    light[:, :3] = math.sqrt(4 * math.pi)
    return FaceParameters(
        shape=torch.randn(count, sizes.shape, generator=g),
        expression=torch.rand(count, sizes.expression, generator=g),
        jaw=0.1 * torch.rand(count, 3, generator=g),
        camera=camera,
        texture=torch.randn(count, sizes.texture, generator=g),
        light=light,
    )


def records(objective: HybridObjective, head: HeadModel, p: FaceParameters, yaw: float = 0.2) -> RecordBatch:
    """What a perfect data set would say of these faces; each two are one person."""
    from tokenface.geometry.camera import Camera

    count = len(p)
    camera = Camera.from_vector(p.camera)
    vertices = head(p.shape, p.expression, p.jaw).vertices
    points = camera.project(head.landmarks68(vertices, camera.angles()[:, 0]))[..., :2]
    drawn = objective.draw(p) if objective.renderer is not None else None
    image = torch.zeros(count, 3, SIZE, SIZE) if drawn is None else drawn.image
    return RecordBatch(
        image=image,
        landmarks68=points,
        visible68=torch.ones(count, 68, dtype=torch.bool),
        mask=torch.ones(count, 1, SIZE, SIZE) if drawn is None else drawn.weight[:, None].detach(),
        angles=torch.tensor([yaw, 0.0, 0.0]).repeat(count, 1),
        identity=torch.arange(count) // 2,
        geometry=GeometryBatch(
            torch.arange(count),
            vertices,
            neutral=torch.zeros(count, dtype=torch.bool),
            unknown=torch.zeros(count, dtype=torch.int64),
            head=head.data.geometry_hash(),
        ),
        keys=("",) * count,
        kinds=("",) * count,
    )


def config(**changes) -> PaperConfig:
    return PaperConfig(identity_encoder=None, **changes)


def shared_shapes(p: FaceParameters) -> FaceParameters:
    """Pictures 2k and 2k + 1 are of one person."""
    return p.replace(shape=p.shape[::2].repeat_interleave(2, 0), texture=p.texture[::2].repeat_interleave(2, 0))


def test_the_truth_costs_nothing_but_its_prior(head):
    objective = HybridObjective(head, config(), SIZE)
    p = shared_shapes(faces(head, 4))
    batch = records(objective, head, p)
    three_d, two_d = objective.three_d(p, batch), objective.two_d(p, batch)
    assert set(three_d) == {"mesh", "vertex_consistency"}
    assert set(two_d) == {
        "landmarks", "eyelids", "lips", "photometric", "regularisation", "shape_consistency",
    }  # fmt: skip
    for name, value in {**three_d, **two_d}.items():
        if name == "regularisation":
            expected = 1e-4 * sum(getattr(p, part).square().sum(-1) for part in ("shape", "expression", "texture"))
            torch.testing.assert_close(value, expected)
        else:
            assert float(value.max()) < 1e-5, name


def test_swapped_shapes_of_one_person_are_what_consistency_sees(head):
    objective = HybridObjective(head, config(), SIZE)
    p = shared_shapes(faces(head, 2))
    batch = records(objective, head, p)
    wrong = p.replace(shape=p.shape + torch.tensor([[0.5], [0.0]]))
    terms = objective.three_d(wrong, batch)
    assert float(terms["mesh"][1]) < 1e-5 < float(terms["mesh"][0])
    # picture 1 wears the wrong shape of picture 0, picture 0 the right one of picture 1
    assert sorted(terms["vertex_consistency"].gt(1e-5).tolist()) == [False, True]
    assert float(objective.two_d(wrong, batch)["shape_consistency"].max()) > 1e-4


def test_a_neutral_scan_is_explained_by_its_shape_alone(head):
    objective = HybridObjective(head, config(mode="3d"), SIZE)
    p = faces(head, 2)
    neutral = p.replace(expression=torch.zeros_like(p.expression), jaw=torch.zeros_like(p.jaw))
    batch = records(objective, head, neutral)
    assert float(objective.three_d(p, batch)["mesh"].min()) > 1e-5
    assert batch.geometry is not None
    said = dataclasses.replace(batch.geometry, neutral=torch.ones(2, dtype=torch.bool))
    assert float(objective.three_d(p, dataclasses.replace(batch, geometry=said))["mesh"].max()) < 1e-5


@pytest.mark.parametrize(("yaw", "lmk", "photo"), [(0.2, 1.6, 2.2), (1.2, 1.6 - 0.76 * 0.4146, 2.2 + 0.38 * 0.4146)])
def test_the_sum_has_the_papers_weights(head, yaw, lmk, photo):
    objective = HybridObjective(head, config(), SIZE)
    truth, guess = shared_shapes(faces(head, 4)), faces(head, 4, seed=1)
    batch = records(objective, head, truth, yaw)
    total, figures = objective((guess, batch), (guess, batch))
    f = {name: float(value) for name, value in figures.items()}
    three_d = 2.0 * f["mesh"] + 1.2 * f["vertex_consistency"]
    two_d = 0.8 * f["eyelids"] + f["lips"] + f["shape_consistency"] + f["regularisation"]
    two_d += lmk * f["landmarks"] + photo * f["photometric"]
    assert float(total) == pytest.approx(0.6 * three_d + 0.4 * two_d, rel=1e-4)
    only, _ = HybridObjective(head, config(mode="3d"), SIZE)((guess, batch), None)
    assert float(only) == pytest.approx(three_d, rel=1e-4)
    only, _ = HybridObjective(head, config(mode="2d"), SIZE)(None, (guess, batch))
    assert float(only) == pytest.approx(two_d, rel=1e-4)


def test_photos_teach_every_component(head):
    objective = HybridObjective(head, config(weights=PaperWeights(shape_prior=0, expression_prior=0)), SIZE)
    truth, guess = shared_shapes(faces(head, 2)), faces(head, 2, seed=1)
    leaves = {name: value.clone().requires_grad_() for name, value in guess.items()}
    batch = records(objective, head, truth)
    total, _ = objective(None, (FaceParameters(**leaves), batch))
    total.backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None, name
        assert torch.isfinite(leaf.grad).all(), name
        assert float(leaf.grad.abs().max()) > 0, name


def test_the_shipped_encoder_pulls_the_rendering_towards_the_photo(head):
    objective = HybridObjective(head, PaperConfig(), SIZE)  # the default needs nothing downloaded
    truth, guess = shared_shapes(faces(head, 2)), faces(head, 2, seed=1)
    batch = records(objective, head, truth)
    same = objective.two_d(truth, batch)["identity"]
    leaf = guess.texture.clone().requires_grad_()
    other = objective.two_d(guess.replace(texture=leaf), batch)["identity"]
    assert float(same.max()) < 1e-4 < float(other.min())
    other.sum().backward()
    assert float(leaf.grad.abs().max()) > 0


def test_scans_of_another_head_model_are_refused(head):
    objective = HybridObjective(head, config(mode="3d"), SIZE)
    p = faces(head, 2)
    batch = records(objective, head, p)
    assert batch.geometry is not None
    other = HeadModel(toy_head_data(seed=1)).data.geometry_hash()  # as many vertices, other faces
    with pytest.raises(DataError, match=rf"the scans have the vertices of the head model with hash {other}"):
        objective.three_d(p, dataclasses.replace(batch, geometry=dataclasses.replace(batch.geometry, head=other)))
    with pytest.raises(DataError, match="scan without vertices"):
        objective.three_d(p, dataclasses.replace(batch, geometry=None))


def turned(vertices: torch.Tensor, size: float = 1.0) -> torch.Tensor:
    """As registrations place a scan: a little aside, a little turned."""
    import roma

    turn = roma.rotvec_to_rotmat(torch.tensor([0.02, -0.03, 0.01]))
    return size * vertices @ turn.T + torch.tensor([0.001, -0.003, 0.002])


def test_what_a_registration_guessed_is_not_learned_as_shape(head):
    objective = HybridObjective(head, config(mode="3d"), SIZE)
    p = shared_shapes(faces(head, 4))
    batch = records(objective, head, p)
    placed = batch.geometry.vertices.clone()
    placed[1], placed[2], placed[3] = (turned(placed[n], size) for n, size in ((1, 1.0), (2, 1.05), (3, 1.05)))
    said = dataclasses.replace(batch.geometry, vertices=placed, unknown=torch.tensor([0, 1, 2, 1]))
    terms = objective.three_d(p, dataclasses.replace(batch, geometry=said))
    for name in ("mesh", "vertex_consistency"):
        right, wrong = terms[name][:3], terms[name][3]
        assert float(right.max()) < 1e-5 < float(wrong), name  # a true size still counts
    unsaid = dataclasses.replace(batch, geometry=dataclasses.replace(said, unknown=torch.zeros(4, dtype=torch.int64)))
    assert float(objective.three_d(p, unsaid)["mesh"][1:].min()) > 1e-3
    free = HybridObjective(head, config(mode="3d", metric=False), SIZE)
    assert float(free.three_d(p, dataclasses.replace(batch, geometry=said))["mesh"].max()) < 1e-5


def test_a_head_that_left_the_photos_face_is_called_back(head):
    """Nothing overlaps: no pixel differs, and that is no success."""
    objective = HybridObjective(head, PaperConfig(), SIZE)
    truth = shared_shapes(faces(head, 2))
    batch = records(objective, head, truth)
    camera = truth.camera.clone()
    camera[:, 4] += 3.0
    camera = camera.requires_grad_()
    gone = truth.replace(camera=camera)
    assert float(objective.draw(gone).weight.sum()) == 0
    here, away = objective.two_d(truth, batch), objective.two_d(gone, batch)
    for name in ("photometric", "identity", "shape_consistency"):
        assert float(away[name].min()) > 0.9 > 0.05 > float(here[name].max()), name
    away["photometric"].sum().backward()
    assert float(camera.grad[:, 4].min()) > 0  # to the left again
    for _ in range(60):  # the pixels alone bring it back to where they say something
        camera = camera.detach().requires_grad_()
        moved = truth.replace(camera=camera)
        objective.two_d(moved, batch)["photometric"].sum().backward()
        camera = camera - 0.1 * camera.grad * torch.tensor([1.0, 0, 0, 0, 1, 1, 0])
    covered = objective.draw(truth.replace(camera=camera.detach())).weight
    assert float((covered * batch.mask[:, 0]).sum() / batch.mask.sum()) > 0.35


def test_nothing_is_called_back_that_covers_half_of_the_face(head):
    photo = torch.zeros(2, 1, 8, 8)
    photo[:, :, 2:6, 2:6] = 1
    overlap = photo.clone()
    overlap[0, :, :, 4:] = 0
    overlap[1, :, :, 3:] = 0
    torch.testing.assert_close(lost_share(photo, overlap), torch.tensor([0.0, 0.5]))
    points = torch.zeros(2, 4, 2)
    assert recall_loss(photo, overlap, points)[0] == 0 < recall_loss(photo, overlap, points)[1]
    assert lost_share(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)).tolist() == [0, 0]  # no mask is known


def test_the_face_has_eyes_whatever_the_files_count(head):
    """FLAME's published mask ends at the lids."""
    data = toy_head_data()
    data.regions = {"face": np.arange(100, 200), "left_eyeball": np.arange(20), "right_eyeball": np.arange(190, 210)}
    objective = HybridObjective(HeadModel(data), config(), SIZE)
    assert objective.face_weights.nonzero()[:, 0].tolist() == [*range(20), *range(100, 210)]
    assert (toy_head_data().face_vertices() is None) == ("face" not in toy_head_data().regions)


def test_modes_decide_what_a_batch_is_made_of():
    def counts(mode, **data):
        made = TrainConfig(paper=config(mode=mode), data=DataConfig(root="x", **data), run=RunConfig(batch=8))
        return tuple(Counts.of(made, has_photos=False, has_records=True))

    assert counts("hybrid") == (0, 0, 4, 4)
    assert counts("3d") == (0, 0, 8, 0)
    assert counts("2d") == (0, 0, 0, 8)
    assert counts("hybrid", share=0.5, scan_share=0.5) == (4, 0, 2, 2)
    with pytest.raises(ConfigError, match="2 scans of each batch"):
        Counts(4, 0, 2, 2).check(ProcessLayout(world_size=2), pictures_per_person=2)


@pytest.mark.parametrize(("kind", "missing", "mode"), [("photo", "scans", "2d"), ("scan", "2-D photos", "3d")])
def test_shards_that_lack_a_kind_say_what_to_do(head, tmp_path, kind, missing, mode):
    entries = tuple(Entry(f"{n}", kind, "ann", "folder", 1, None, {}) for n in range(8))
    made = TrainConfig(data=DataConfig(root="x", share=1.0), run=RunConfig(batch=8))
    shards = [ShardIndex(tmp_path / "a.tar", entries)]
    with pytest.raises(DataError, match=rf"no {missing} to train on.*paper\.mode={mode}"):
        Batches(made, head, [], tmp_path, shards)


def test_parts_of_a_batch_get_the_random_numbers_of_the_whole():
    g = torch.Generator().manual_seed(0)
    image, camera, light = torch.rand(6, 3, 16, 16, generator=g), torch.rand(6, 7, generator=g) + 1, torch.rand(6, 27)
    landmarks = torch.rand(6, 68, 2, generator=g)
    whole = turn_and_zoom(image, camera, light, landmarks, torch.Generator().manual_seed(1))
    jittered = colour_jitter(image, torch.Generator().manual_seed(2))
    for rows in [*ProcessLayout(rank=1, world_size=3, passes=2).parts(6), Part(0, 2, 6)]:
        pick = slice(rows.start, rows.stop)
        part = turn_and_zoom(
            image[pick], camera[pick], light[pick], landmarks[pick], torch.Generator().manual_seed(1), part=rows
        )
        for mine, all_of_them in zip(part, whole, strict=True):
            torch.testing.assert_close(mine, all_of_them[pick])
        mine = colour_jitter(image[pick], torch.Generator().manual_seed(2), part=rows)
        torch.testing.assert_close(mine, jittered[pick])
