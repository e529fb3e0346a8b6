"""Self-training: pseudo-labels without their bias, photos with known changes, runs that go on where they stood."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenface.data.augment import Part
from tokenface.data.record import PhotoRecord
from tokenface.data.replay import LabelledFaces
from tokenface.data.synthetic import SyntheticFaces
from tokenface.errors import CheckpointError, ConfigError
from tokenface.geometry.camera import Camera
from tokenface.head.registry import load_head
from tokenface.network import FaceParameters
from tokenface.network.config import NetworkConfig
from tokenface.network.tokenface import TokenFace
from tokenface.training.config import TeachingConfig
from tokenface.training.teaching import REST_QUANTILE, Teaching, explained

SIZE = 96
AS_IT_COMES = {"action_spread": 0.0, "gaze_spread": 0.0, "shape_spread": 0.0}


class Oracle(torch.nn.Module):
    """Knows the parameters of the faces by their pictures, and adds a bias to all of them."""

    def __init__(self, images: torch.Tensor, truth: FaceParameters, shape_bias: float, action_bias: float):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.images, self.truth = images, truth
        self.shape_bias, self.action_bias = shape_bias, action_bias

    def forward(self, images: torch.Tensor) -> FaceParameters:
        distance = (images[:, None] - self.images[None]).abs().mean((2, 3, 4))
        own = self.truth[distance.argmin(1)]
        return own.replace(shape=own.shape + self.shape_bias, expression=own.expression + self.action_bias)


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


@pytest.fixture(scope="module")
def faces(head):
    return SyntheticFaces(head, SIZE).sample(12, seed=3, images_per_identity=2, plain=True)


def records_of(faces) -> list[PhotoRecord]:
    """Photos of six people, two of each."""
    records = []
    for i in range(12):
        image = (faces.image[i].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        points = (faces.landmarks68[i].numpy() + 1) * (SIZE / 2)
        records.append(PhotoRecord(image, points, f"person {i // 2}", "test"))
    return records


@pytest.fixture
def taught(head, faces, tmp_path) -> tuple[Teaching, Oracle]:
    teaching = Teaching(
        head, records_of(faces), SIZE, TeachingConfig(every=10, action_share=1.0, **AS_IT_COMES), tmp_path
    )
    oracle = Oracle(teaching.images.float() / 255, faces.parameters, shape_bias=0.7, action_bias=0.25)
    renders = [LabelledFaces(teaching.images.float() / 255, faces.landmarks68, faces.parameters)]
    bias = teaching.teach(oracle, renders)
    assert bias.shape_bias > 0.5
    assert bias.baseline > 0.25 * 40
    return teaching, oracle


def test_a_lesson_takes_out_what_all_photos_share(taught, faces):
    teaching, _ = taught
    pseudo_labels = teaching.pseudo_labels
    shape = faces.parameters.shape
    assert torch.allclose(pseudo_labels.shape, shape - shape[::2].mean(0), atol=1e-4)  # the bias is gone, people differ
    rest = faces.parameters.expression.quantile(0.3, dim=0)
    assert torch.allclose(pseudo_labels.expression, (faces.parameters.expression - rest).clamp_min(0), atol=1e-5)
    assert float(pseudo_labels.expression.quantile(0.25, dim=0).sum()) < 1e-4


def test_finished_weights_say_of_no_photo_what_they_say_of_all(taught):
    """At rest on the share of photos that is meant, and people's mean shape the prior's; how faces differ stays."""
    teaching, _ = taught
    network = TokenFace(NetworkConfig(backbone="vit_tiny_patch16", image_size=SIZE), teaching.head.sizes, seed=1).eval()
    with torch.no_grad():
        network.heads.fc["expression"].bias += 5.0  # a grimace on every photo
        network.heads.fc["shape"].bias += 0.3
        network.heads.fc["jaw"].bias[0] += 1.0
        images = teaching.images.float() / 255
        before = network(images)
        bias = teaching.take_out_bias(network)
        after = network(images)
    assert float(bias.expression.sum()) > 3
    low = after.expression.quantile(REST_QUANTILE, dim=0)
    twin = teaching.mirror.expression
    assert float((low + low[twin]).abs().max()) < 1e-4
    assert float(after.jaw[:, 0].quantile(REST_QUANTILE).abs()) < 1e-5
    assert float(after.shape.mean(0).abs().max()) < 1e-4  # two photos of each
    for name in ("shape", "expression", "jaw"):
        first, then = getattr(before, name), getattr(after, name)
        assert torch.allclose(first - first.mean(0), then - then.mean(0), atol=1e-5)


def test_an_update_gives_faces_that_hardly_move_and_differ_their_spread_back(head, faces, tmp_path):
    """As a network is that tells photos from renderings and was taught by itself for long."""
    others = SyntheticFaces(head, SIZE).sample(24, seed=4, plain=True)
    p = faces.parameters
    dull = p.replace(shape=p.shape * 0.5, expression=p.expression * 0.3)
    teaching = Teaching(head, records_of(faces), SIZE, TeachingConfig(every=10), tmp_path)
    shown = torch.cat([teaching.images.float() / 255, others.image])
    network = Oracle(shown, FaceParameters.cat([dull, others.parameters]), shape_bias=0.0, action_bias=0.0)
    bias = teaching.teach(network, [LabelledFaces(others.image, others.landmarks68, others.parameters)])
    assert 0.2 < bias.action_spread < 0.4
    assert 0.4 < bias.shape_spread < 0.6
    both = teaching.mirror.expression
    spread, rendered = (e.std(0) + e.std(0)[both] for e in (dull.expression, others.parameters.expression))
    wanted = teaching.share * rendered / spread.clamp_min(1e-6)
    within = ((wanted > 1.1) & (wanted < 2.9)).nonzero()[:, 0]  # beyond, the limit of one update rules
    assert len(within) > 5
    low = dull.expression.quantile(0.3, dim=0)
    target = ((dull.expression - low).clamp_min(0) * wanted).clamp_max(1)
    assert torch.allclose(teaching.pseudo_labels.expression[:, within], target[:, within], atol=1e-4)
    people = others.parameters.shape.std(0).square().mean().sqrt()
    assert float(teaching.pseudo_labels.shape.square().mean().sqrt()) == pytest.approx(float(people), rel=1e-3)


def test_one_shape_stands_for_all_photos_of_a_person(taught):
    teaching, oracle = taught
    noise = torch.randn(oracle.truth.shape.shape, generator=torch.Generator().manual_seed(0))
    oracle.truth = oracle.truth.replace(shape=oracle.truth.shape + noise)
    renders = [LabelledFaces(teaching.images.float() / 255, teaching.points, oracle.truth)]
    teaching.teach(oracle, renders)
    shape = teaching.pseudo_labels.shape
    assert torch.equal(shape[::2], shape[1::2])
    pooled = (oracle.truth.shape[::2] + oracle.truth.shape[1::2]) / 2
    assert torch.allclose(shape[::2], pooled - pooled.mean(0), atol=1e-4)


def test_a_known_change_is_in_the_target(taught):
    teaching, _ = taught
    batch = teaching.photos(seed=5, part=Part(0, 8, 8))
    assert batch.image.shape == (8, 3, SIZE, SIZE)
    assert batch.target.changed.any()
    assert (batch.target.known[batch.target.changed] == 1).all()
    again = teaching.photos(seed=5, part=Part(0, 8, 8))
    assert torch.equal(batch.image, again.image)
    assert torch.equal(batch.target.shape, again.target.shape)
    spread = batch.target.shape.std(0).mean()
    assert spread > teaching.pseudo_labels.shape.std(0).mean()  # people and changes together differ more than people


def test_rows_of_a_batch_are_the_rows_of_the_whole_batch(taught):
    teaching, _ = taught
    whole, part = teaching.photos(9, Part(0, 8, 8)), teaching.photos(9, Part(4, 8, 8))
    assert torch.allclose(whole.image[4:], part.image, atol=1e-6)
    assert torch.equal(whole.target.expression[4:], part.target.expression)


def test_landmarks_go_where_the_changed_head_has_them(head, faces):
    """Without turning and colouring, the moved points are those of the head with the changed shape."""
    from tokenface.data.warping import move_points, warp_faces

    before = faces.parameters
    change = 0.8 * torch.randn(before.shape.shape, generator=torch.Generator().manual_seed(1))
    moved = warp_faces(faces.image, head, before, before.replace(shape=before.shape + change))
    mesh = head(moved.parameters.shape, before.expression, before.jaw)
    camera = Camera.from_vector(moved.parameters.camera)
    expected = camera.project(head.landmarks68(mesh.vertices, camera.angles()[:, 0]))[..., :2]
    own = head(before.shape, before.expression, before.jaw)
    old = Camera.from_vector(before.camera)
    start = old.project(head.landmarks68(own.vertices, old.angles()[:, 0]))[..., :2]
    inner = slice(17, 68)  # the jaw line of a turned head is not the same points of the surface
    error = (move_points(moved.flow, start) - expected)[:, inner].norm(dim=-1).median()
    travelled = (start - expected)[:, inner].norm(dim=-1).median()
    assert float(error) < 0.4 * float(travelled)


def test_the_lesson_survives_a_killed_run(taught, head):
    teaching, _ = taught
    teaching.save()
    before = teaching.pseudo_labels
    teaching.pseudo_labels = None
    assert teaching.due(7)
    teaching.restore()
    for one, other in zip(before.raw.items(), teaching.pseudo_labels.raw.items(), strict=True):
        assert torch.equal(one[1], other[1])
    assert torch.equal(before.reliability, teaching.pseudo_labels.reliability)
    assert not teaching.due(7)
    assert teaching.due(20)
    teaching.path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="pseudo-labels"):
        teaching.restore()


def test_explained_share_is_one_for_the_truth_and_nothing_for_its_mean():
    truth = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    truth[:, 2] = 1
    assert explained(truth, truth)[:2].tolist() == [1, 1]
    mean = truth.mean(0).expand_as(truth)
    assert explained(mean, truth).abs().max() < 1e-5
    assert float(explained(truth + 1, truth)[2]) == 0


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="teaching"):
        TeachingConfig(every=10, shape_warps=())
