"""Moving a crop moves picture, camera, light and landmarks alike."""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch

from tokenface.data.augment import colour_jitter, turn_and_zoom, turn_light
from tokenface.data.held_out import Split, digest, digests, trained_split
from tokenface.data.photos import CropJitter, PhotoSampler, crop_labelled
from tokenface.data.record import PhotoRecord, split_by_identity
from tokenface.geometry.camera import Camera, pixels_to_ndc
from tokenface.geometry.landmarks import MIRROR68


def dotted(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """A black picture with one bright soft dot at every point (pixel centres at +0.5)."""
    y, x = np.mgrid[:height, :width] + 0.5
    image = np.zeros((height, width))
    for px, py in points:
        image += np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)
    return (np.repeat(image[..., None], 3, 2).clip(0, 1) * 255).astype(np.uint8)


def brightest(image: np.ndarray) -> np.ndarray:
    """Centre of mass, pixels."""
    weight = image.astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def test_camera_light_and_landmarks_follow_the_moved_crop():
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(6, 1, 3, generator=generator) * 0.02
    camera = torch.cat(
        [
            torch.full((6, 1), 7.0),
            torch.randn(6, 3, generator=generator) * 0.5,
            torch.randn(6, 3, generator=generator) * 0.1,
        ],
        dim=1,
    )
    projected = Camera.from_vector(camera).project(vertices)[..., :2]
    images = np.stack([dotted((p.numpy() + 1) * 48, 96, 96) for p in projected])
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    moved, new_camera, _, landmarks = turn_and_zoom(
        tensor, camera, torch.zeros(6, 27), projected, generator, zoom=0.2, degrees=30, shift=0.1
    )
    reprojected = Camera.from_vector(new_camera).project(vertices)[..., :2]
    torch.testing.assert_close(reprojected, landmarks, atol=1e-5, rtol=0)
    seen = torch.tensor(np.stack([brightest(m[0].numpy()) for m in moved]), dtype=torch.float32)
    torch.testing.assert_close(pixels_to_ndc(seen, 96), landmarks[:, 0], atol=4e-3, rtol=0)


def test_turned_light_shades_turned_normals_alike():
    from tokenface.render.shading import sh_basis

    generator = torch.Generator().manual_seed(1)
    light, angle = torch.randn(3, 27, generator=generator), torch.tensor([0.3, -1.0, 2.5])
    normals = torch.nn.functional.normalize(torch.randn(3, 20, 3, generator=generator), dim=-1)
    turn = roma.rotvec_to_rotmat(torch.nn.functional.pad(angle[:, None], (2, 0)))
    before = sh_basis(normals) @ light.view(-1, 9, 3)
    after = sh_basis(normals @ turn.transpose(1, 2)) @ turn_light(light, angle).view(-1, 9, 3)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_colour_jitter_is_seeded_and_stays_in_range():
    image = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    first = colour_jitter(image, torch.Generator().manual_seed(5))
    torch.testing.assert_close(first, colour_jitter(image, torch.Generator().manual_seed(5)), rtol=0, atol=0)
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.allclose(first, image, atol=0.01)


@pytest.mark.parametrize(("side", "size"), [(60.0, 96), (150.0, 48)])
def test_labelled_crops_keep_the_landmarks_on_the_picture(side, size):
    point = np.array([[83.3, 71.7]])
    record = PhotoRecord(dotted(point, 160, 180), np.repeat(point, 68, 0).astype(np.float32), "someone", "test")
    for angle, mirror in ((0.0, False), (0.4, False), (-0.3, True)):
        image, landmarks = crop_labelled(record, np.array([80.0, 75.0]), side, angle, mirror, size)
        where = pixels_to_ndc(torch.tensor(brightest(image[..., 0])), size).numpy()
        np.testing.assert_allclose(where, landmarks[0], atol=0.03)


def test_mirrored_points_are_renamed():
    points = np.stack([np.arange(68), np.zeros(68)], 1).astype(np.float32)
    record = PhotoRecord(np.zeros((80, 80, 3), np.uint8), points, "a", "t")
    _, plain = crop_labelled(record, np.array([34.0, 0.0]), 68, 0.0, False, 68)
    _, mirrored = crop_labelled(record, np.array([34.0, 0.0]), 68, 0.0, True, 68)
    np.testing.assert_allclose(mirrored[:, 0], -plain[list(MIRROR68), 0], atol=1e-6)


def test_sampler_and_split_are_seeded_and_people_are_in_one_part_only():
    rng = np.random.default_rng(0)
    records = [
        PhotoRecord(
            rng.integers(0, 255, (64, 64, 3), dtype=np.uint8),
            rng.uniform(16, 48, (68, 2)).astype(np.float32),
            f"p{i % 7}",
            str(i),
        )
        for i in range(30)
    ]
    training, held = split_by_identity(records, Split(2, 3))
    assert len(training) + len(held) == 30
    assert not {r.identity for r in training} & {r.identity for r in held}
    assert {r.identity for r in held} == {r.identity for r in split_by_identity(records, Split(2, 3))[1]}
    sampler = PhotoSampler(training, 32, CropJitter())
    a, b = sampler.sample(5, seed=9), sampler.sample(5, seed=9)
    torch.testing.assert_close(a.image, b.image, rtol=0, atol=0)
    torch.testing.assert_close(a.landmarks68, b.landmarks68, rtol=0, atol=0)
    with pytest.raises(ValueError, match="cannot hold"):
        split_by_identity(records, Split(7))


def test_who_is_held_out_stays_so_when_there_are_more_people():
    people = [f"p{i}" for i in range(40)]
    first = Split(10, 1).held_out(people)
    more = [*people, *(f"a{i}" for i in range(30))]
    assert Split(10, 1).held_out(more) != first  # drawn anew
    known = frozenset(digests(first))
    assert Split(10, 1, known).held_out(more) == first
    assert Split(12, 1, known).held_out(more) > first
    assert Split(10, 1, known).held_out(people) == first
    assert not any(name in digest(name) for name in first)


def test_weights_are_measured_on_the_people_that_they_did_not_see():
    names = {"photos": ["abc"]}
    config = "photos:\n  tar: photos.tar\n  held_out_people: 20\n  split_seed: 3\n"
    assert trained_split({"training": {"config": config, "held_out": names}}) == Split(20, 3, frozenset(["abc"]))
    assert trained_split({"training": {"config": config}}) == Split(20, 3)
    assert trained_split({"training": {"config": config.replace("photos.tar", "null")}}) is None
    for odd in ({}, {"training": "x"}, {"training": {"config": "]"}}, {"training": {"config": "photos: 1"}}):
        assert trained_split(odd) is None
