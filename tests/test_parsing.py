"""Face parsing: labels of rendered pictures, crops, the package's network, its training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from tokenface.data.draw import Draw
from tokenface.data.sampling import Framing
from tokenface.data.scene.outfit import Chances
from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces
from tokenface.errors import CheckpointError
from tokenface.geometry.crop import Crop
from tokenface.head.registry import load_head
from tokenface.parsing.graph import LOGITS, PICTURES, open_weights
from tokenface.parsing.network import ParsingNetwork
from tokenface.parsing.parser import LOWERED, SCALE, Regions, parse, parsing_crop
from tokenface.parsing.regions import BACKGROUND, CLOTHES, EYES, GLASSES, HAIR, HAT, REGIONS, SKIN
from tokenface.parsing.regions import SIZE as NETWORK_SIZE
from tokenface.training import face_parsing

SIZE = 128


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


def pictures(head, seed: int, count: int = 8, **chances: float):
    nothing = {"glasses": 0.0, "hat": 0.0, "occluder": 0.0}
    config = SyntheticConfig(framing=face_parsing.framing(), chances=Chances(**{**nothing, **chances}))
    return SyntheticFaces(head, SIZE, config).sample(count, seed, regions=True)


def test_a_rendered_pixel_says_what_it_shows(head):
    batch = pictures(head, 3)
    regions, face_skin = batch.regions, batch.mask[:, 0] > 0.95
    assert regions.dtype == torch.uint8
    assert regions.shape == (8, SIZE, SIZE)
    of_face = regions[face_skin]
    assert (of_face == SKIN).float().mean() > 0.95
    painted = (of_face == SKIN) | (of_face == HAIR)  # a hairline
    assert painted.float().mean() > 0.99
    for region in (BACKGROUND, SKIN, EYES, HAIR, CLOTHES):
        assert (regions == region).any()
    assert not ((regions == GLASSES) | (regions == HAT)).any()
    # hair lies above the brows more than below the chin, clothes below
    rows = torch.arange(SIZE).view(1, -1, 1).expand_as(regions)
    assert rows[regions == HAIR].float().mean() < rows[regions == SKIN].float().mean()
    assert rows[regions == CLOTHES].float().mean() > rows[regions == SKIN].float().mean()


def test_labels_are_made_where_they_are_asked_for_and_change_nothing_else(head, monkeypatch):
    faces = SyntheticFaces(head, 64)
    labelled = faces.sample(4, 7, regions=True)
    assert labelled[1:3].to("cpu").regions.equal(labelled.regions[1:3])

    def asked(*_):
        raise AssertionError("nobody asked for labels")

    monkeypatch.setattr("tokenface.data.scene.picture.Painter._regions", asked)
    plain = faces.sample(4, 7)
    assert plain.regions is None
    assert plain[1:3].to("cpu").regions is None
    for name in ("image", "mask", "landmarks68", "visible68", "landmarks468", "visible468", "vertices"):
        assert getattr(plain, name).equal(getattr(labelled, name)), name
    assert plain.parameters.camera.equal(labelled.parameters.camera)
    with pytest.raises(AssertionError, match="nobody asked"):
        faces.sample(4, 7, regions=True)


def test_what_is_worn_is_labelled(head):
    worn = pictures(head, 4, glasses=1.0, hat=1.0).regions
    assert ((worn == GLASSES).flatten(1).any(1)).float().mean() > 0.7
    assert ((worn == HAT).flatten(1).any(1)).float().mean() > 0.9


def test_framing_puts_the_face_where_the_parser_does(head):
    config = SyntheticConfig(framing=Framing(zoom=(SCALE, SCALE), shift=0.0, lowered=LOWERED))
    batch = SyntheticFaces(head, SIZE, config).sample(6, 5, rotation=torch.eye(3).expand(6, 3, 3))
    for marks in batch.landmarks68:
        crop = parsing_crop(((marks + 1) * (SIZE / 2)).numpy(), 0.0)
        assert abs(crop.size - SIZE) < 0.06 * SIZE
        assert np.abs(np.array(crop.centre) - SIZE / 2).max() < 0.03 * SIZE


def test_points_of_a_turned_crop_find_their_pixels():
    shares = np.zeros((len(REGIONS), 32, 32), np.float32)
    shares[BACKGROUND] = 1
    shares[BACKGROUND, 4:8, 20:24], shares[HAIR, 4:8, 20:24] = 0, 1
    regions = Regions(Crop((100.0, 60.0), 64.0, math.radians(30)), shares)
    middle = regions.crop.to_photo(np.array([[22 / 16 - 1, 6 / 16 - 1]]))
    assert regions.at(middle)[0, HAIR] == 1
    labels = regions.on_photo(140, 200)
    found = np.argwhere(labels == HAIR)[:, ::-1] + 0.5
    assert np.abs(found.mean(0) - middle[0]).max() < 0.5
    assert abs(len(found) - (4 * 64 / 32) ** 2) < 12
    many = np.tile(middle, (70_000, 1))
    assert (regions.at(many)[:, HAIR] == 1).all()
    assert regions.at(np.zeros((0, 2))).shape == (0, len(REGIONS))


def test_the_package_tells_regions_of_unseen_people_apart(head):
    batch = pictures(head, 93_000_001, 12, glasses=0.3)
    right = {region: [] for region in (BACKGROUND, SKIN, HAIR, CLOTHES)}
    for image, truth, marks in zip(batch.image, batch.regions.numpy(), batch.landmarks68, strict=True):
        photo = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        labels = parse(photo, ((marks + 1) * (SIZE / 2)).numpy(), 0.0).on_photo(SIZE, SIZE)
        for region, found in right.items():
            a, b = labels == region, truth == region
            if b.sum() > 60:
                found.append((a & b).sum() / (a | b).sum())
    means = {REGIONS[region]: float(np.mean(found)) for region, found in right.items()}
    least = {"skin": 0.8, "hair": 0.7, "background": 0.75, "clothes": 0.6}
    assert all(means[name] > bound for name, bound in least.items()), means


def test_a_mirrored_photo_has_mirrored_regions(head):
    batch = pictures(head, 93_000_002, 1)
    photo = (batch.image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    marks = ((batch.landmarks68[0] + 1) * (SIZE / 2)).numpy()
    own = parse(photo, marks, 0.1)
    other = parse(np.ascontiguousarray(photo[:, ::-1]), marks * [-1, 1] + [SIZE, 0], -0.1)
    assert np.abs(own.shares - other.shares[:, :, ::-1]).max() < 0.02


def test_the_graph_gives_what_the_network_gives(tmp_path):
    """Of any weights: normalisations are folded, none of them is a constant of the shipped graph."""
    torch.manual_seed(5)
    network = ParsingNetwork().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value, (low, high) in (
                (module.running_mean, (-0.5, 0.5)),
                (module.running_var, (0.3, 2.0)),
                (module.weight, (0.5, 1.5)),
                (module.bias, (-0.3, 0.3)),
            ):
                torch.nn.init.uniform_(value, low, high)
    state = {name: value.numpy() for name, value in network.state_dict().items() if "batches" not in name}
    (tmp_path / "own.safetensors").write_bytes(save(state))
    pictures = np.random.default_rng(6).random((2, 3, NETWORK_SIZE, NETWORK_SIZE), np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(pictures)).numpy()
    found = open_weights(tmp_path / "own.safetensors")({PICTURES: pictures})[LOGITS]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_file_of_something_else_is_refused(tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(save({"weight": np.zeros(3, np.float32)}))
    with pytest.raises(CheckpointError, match="the weights lack '"):
        open_weights(other)
    other.write_bytes(save({"stem.1.running_mean": np.zeros(3, np.float32)}))
    with pytest.raises(CheckpointError, match=r"face parsing lack a part of 'stem\.1'"):
        open_weights(other)
    other.write_bytes(b"no safetensors at all")
    with pytest.raises(CheckpointError, match="no readable safetensors file"):
        open_weights(other)


def test_training_goes_on_where_it_stopped(tmp_path, monkeypatch, head):
    monkeypatch.setattr(face_parsing, "SIZE", 32)
    monkeypatch.setattr(face_parsing, "BATCH", 4)
    monkeypatch.setattr(face_parsing, "SAVED", 2)
    random = np.random.default_rng(0)
    labels = np.repeat(np.repeat(random.integers(0, len(REGIONS), (8, 4, 4)), 8, 1), 8, 2).astype(np.uint8)
    images = (labels[..., None] * np.array([25, 20, 15])).astype(np.uint8)
    data = face_parsing.Pictures(images, labels)
    torch.manual_seed(0)
    whole = face_parsing.train(data, data, tmp_path / "a", 4, None)
    torch.manual_seed(0)
    face_parsing.train(data, data, tmp_path / "b", 4, None, until=2)
    again = face_parsing.train(data, data, tmp_path / "b", 4, None)
    for name, tensor in whole.state_dict().items():
        assert torch.allclose(tensor, again.state_dict()[name], atol=1e-6), name
    found = face_parsing.overlaps(whole, data)
    assert set(found) == set(REGIONS)
    assert all(0 <= value <= 1 for value in found.values())


def test_rendered_chunks_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(face_parsing, "SIZE", 64)
    monkeypatch.setattr(face_parsing, "CHUNK", 4)
    monkeypatch.setattr(face_parsing, "RENDERED", 2)
    first = face_parsing.render(tmp_path, 6, 7, None)
    assert first.images.shape == (6, 64, 64, 3)
    assert first.labels.max() < len(REGIONS)
    assert len(np.unique(first.images.reshape(6, -1), axis=0)) == 6
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = face_parsing.render(tmp_path, 6, 7, None)
    assert np.array_equal(first.images, again.images)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_swapped_backgrounds_leave_the_head(monkeypatch, head):
    monkeypatch.setattr(face_parsing, "SWAPPED", 1.0)
    batch = pictures(head, 6, 4)
    images = (batch.image.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    monkeypatch.setattr(face_parsing, "SIZE", SIZE)
    shown, labels = face_parsing.shown(
        face_parsing.Pictures(images, batch.regions.numpy()),
        np.arange(4),
        Draw.seeded(0, "cpu"),
        torch.ones(1, 3, 8, 8),
    )
    assert shown.shape == (4, 3, SIZE, SIZE)
    assert labels.shape == (4, SIZE, SIZE)
    assert set(np.unique(labels.numpy())) <= set(range(len(REGIONS)))
    own = torch.bincount(torch.from_numpy(batch.regions.numpy().astype(np.int64)).flatten(), minlength=9)[SKIN]
    assert abs(int((labels == SKIN).sum()) - int(own)) < 0.3 * int(own)


def test_the_network_takes_any_multiple_of_thirty_two():
    network = ParsingNetwork().eval()
    for size in (64, 96):
        assert network(torch.rand(2, 3, size, size)).shape == (2, len(REGIONS), size // 2, size // 2)
