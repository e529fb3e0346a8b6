"""Expression transfer: the target's identity stays, the expression arrives, the photo becomes the skin."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import torch
from PIL import Image
from stand_ins import photo_with_marks, stand_in_model
from test_formats import khronos_issues
from toy_head import toy_head_data
from video_stand_ins import following_model, scene, write_clip

from tokenface.errors import ImageError, VideoError
from tokenface.head.model import HeadModel
from tokenface.inference.face import Face
from tokenface.inference.people import same_person
from tokenface.inference.photo_texture import photo_texture
from tokenface.jobs.track import TrackOptions, TrackRun
from tokenface.jobs.transfer import TransferOptions, transfer
from tokenface.retarget.puppet import Puppet
from tokenface.retarget.retarget import between_heads, by_landmarks, retarget


@pytest.fixture(scope="module")
def model():
    return stand_in_model(HeadModel(toy_head_data()))


def gradient_photo() -> np.ndarray:
    """A photo with a mark to find, and colours that tell every place."""
    y, x = np.mgrid[0:240, 0:320]
    image = np.stack([60 + x // 4, 60 + y // 3, 200 - x // 4], -1).astype(np.uint8)
    image[90:150, 130:190] = photo_with_marks((0, 0, 60), size=(60, 60))
    return image


def target_of(model) -> tuple[Face, np.ndarray]:
    photo = gradient_photo()
    return model.reconstruct(photo)[0], photo


def test_the_targets_identity_is_untouched(model) -> None:
    face, photo = target_of(model)
    puppet = Puppet(face, photo)
    random = torch.Generator().manual_seed(0)
    for _ in range(5):
        expression, jaw = torch.rand(5, generator=random), 0.3 * torch.rand(3, generator=random)
        posed = puppet.pose(expression, jaw)
        assert np.abs(posed.neutral_vertices - face.neutral_vertices).max() < 1e-6
        for name in ("shape", "texture", "light", "camera"):
            assert torch.equal(getattr(posed.parameters, name), getattr(face.parameters, name))
        assert torch.equal(posed.parameters.expression, expression)
        assert np.abs(posed.vertices - face.vertices).max() > 1e-4


def test_what_the_source_shows_at_rest_counts_as_nothing(model) -> None:
    head = model.head
    rest = torch.tensor([0.2, 0.0, 0.1, 0.0, 0.0]), torch.tensor([0.05, 0.0, 0.0])
    shown = torch.tensor([[0.7, 0.3, 0.1, 0.0, 1.0]])
    found, jaw = retarget(head, head, shown, torch.tensor([[0.25, 0.0, 0.0]]), source_rest=rest)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.3, 0.0, 0.0, 1.0]]))
    torch.testing.assert_close(jaw, torch.tensor([[0.2, 0.0, 0.0]]))
    own, _ = retarget(head, head, rest[0][None], rest[1][None], source_rest=rest, target_rest=rest)
    torch.testing.assert_close(own[0], rest[0])  # the source relaxes: so does the target


def test_arkits_names_cross_head_models() -> None:
    data = toy_head_data()
    order = [3, 1, 4, 0, 2]
    other = dataclasses.replace(
        data,
        name="other",
        expression_names=tuple(data.expression_names[i] for i in order),
        expression_basis=data.expression_basis[order],
    )
    shown, jaw = torch.rand(3, 5), torch.tensor([[0.2, 0.01, 0.0]]).repeat(3, 1)
    found, found_jaw = between_heads(HeadModel(data), HeadModel(other), shown, jaw)
    torch.testing.assert_close(found, shown[:, order])
    torch.testing.assert_close(found_jaw, jaw)


def test_other_expression_spaces_are_crossed_by_what_the_landmarks_do() -> None:
    """The same head with a mixed basis without ARKit's names: the landmarks must move alike."""
    data = toy_head_data()
    random = np.random.default_rng(0)
    mixing = random.normal(size=(4, 5)) * 0.6  # the last ARKit action of the toy moves nothing
    strange = dataclasses.replace(
        data,
        name="strange",
        expression_names=tuple(f"pc{i}" for i in range(4)),
        expression_range=None,
        expression_basis=np.tensordot(mixing, data.expression_basis, axes=1).astype(np.float32),
        joint_basis=np.concatenate([data.joint_basis[:6], np.zeros((4, 5, 3), np.float32)]),
        eye_drive=None,
    )
    flat = dataclasses.replace(
        data, joint_basis=np.concatenate([data.joint_basis[:6], np.zeros((5, 5, 3), np.float32)]), eye_drive=None
    )
    source, target = HeadModel(strange), HeadModel(flat)
    weights = torch.from_numpy(np.abs(random.normal(size=(2, 4)))).float() * 0.3
    jaw = torch.tensor([[0.2, 0.0, 0.0], [0.0, 0.0, 0.0]])
    target.expression_range = None
    found, found_jaw = by_landmarks(source, target, weights, jaw)
    torch.testing.assert_close(found_jaw, jaw)
    wanted = source.landmarks68(source(expression=weights, jaw=jaw).vertices)[:, 17:]
    reached = target.landmarks68(target(expression=found, jaw=jaw).vertices)[:, 17:]
    neutral = target.landmarks68(target(jaw=jaw).vertices)[:, 17:]
    assert float((reached - wanted).norm()) < 0.15 * float((wanted - neutral).norm())


def test_the_photo_is_the_skin_where_the_photo_shows_it(model) -> None:
    """Drawn again from its own camera the face looks like the photo, wherever it faces the viewer."""
    face, photo = target_of(model)
    texture = photo_texture(face, photo, size=256)
    assert texture.shape == (256, 256, 3)
    puppet = Puppet(face, photo)
    size = 256
    drawn = puppet.picture(face, size=size)
    from tokenface.retarget.performance import around

    wanted = around(face, photo, size)
    landmarks = face.landmarks[17:].mean(axis=0)
    scale = size / (face.crop.size * 1.6)
    x, y = ((landmarks - face.crop.centre) * scale + size / 2).astype(int)
    patch = slice(y - 15, y + 15), slice(x - 15, x + 15)
    difference = np.abs(drawn[patch].astype(int) - wanted[patch])
    assert difference.mean() < 6
    # and where the photo does not show the head, nothing of the background gets on it
    assert np.isfinite(texture).all()


def test_photos_give_pictures_and_a_glb(model, tmp_path: Path) -> None:
    Image.fromarray(photo_with_marks((60, 40, 40))).save(tmp_path / "source.png")
    Image.fromarray(gradient_photo()).save(tmp_path / "target.png")
    result = transfer(model, tmp_path / "source.png", tmp_path / "target.png", tmp_path / "out")
    assert sorted(path.name for path in result.files) == ["parameters.json", "transfer.glb", "transfer.png"]
    picture = np.asarray(Image.open(tmp_path / "out/transfer.png"))
    assert picture.shape == (512, 3 * 512 + 12, 3)
    issues = khronos_issues(tmp_path / "out/transfer.glb")
    assert issues["numErrors"] == 0, issues["messages"]


def test_what_cannot_be_a_source_or_target_says_why(model, tmp_path: Path) -> None:
    Image.fromarray(gradient_photo()).save(tmp_path / "target.png")
    Image.fromarray(np.full((50, 50, 3), 99, np.uint8)).save(tmp_path / "nobody.png")
    with pytest.raises(ImageError, match="must be a photo"):
        transfer(model, tmp_path / "target.png", tmp_path / "clip.mp4", tmp_path / "out")
    with pytest.raises(ImageError, match="no face"):
        transfer(model, tmp_path / "nobody.png", tmp_path / "target.png", tmp_path / "out")
    (tmp_path / "odd.npz").write_bytes(b"PK")
    with pytest.raises(VideoError, match=r"no parameters\.npz"):
        transfer(model, tmp_path / "odd.npz", tmp_path / "target.png", tmp_path / "out")


def test_clips_and_their_npz_animate_the_target_alike(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra 'video'")
    model = following_model()
    clip = write_clip(tmp_path / "clip.mp4", [scene((40 + i, 40, 30), ground=(90 + 9 * i,) * 3) for i in range(8)])
    Image.fromarray(gradient_photo()).save(tmp_path / "target.png")
    list(TrackRun(clip, tmp_path / "track", TrackOptions(overlay=False, formats=("npz",)), model))
    quiet = TransferOptions(picture=False)
    transfer(model, tmp_path / "track/person_00/parameters.npz", tmp_path / "target.png", tmp_path / "a", quiet)
    result = transfer(model, clip, tmp_path / "target.png", tmp_path / "b")
    assert result.moments == 8
    assert sorted(path.name for path in result.files) == ["transfer.glb", "transfer.mp4"]
    a, b = ((tmp_path / folder / "transfer.glb") for folder in "ab")
    first, second = (pygltflib.GLTF2().load(str(path)) for path in (a, b))
    assert len(first.animations[0].channels) == len(second.animations[0].channels) == 5
    assert first.binary_blob() == second.binary_blob()


@pytest.mark.parametrize("source", ["frames", "frames/frame_%04d.png"])
def test_pictures_that_stand_for_a_clip_give_a_film_without_sound(tmp_path: Path, source: str) -> None:
    pytest.importorskip("av", reason="needs the extra 'video'")
    (tmp_path / "frames").mkdir()
    for i in range(4):
        Image.fromarray(scene((40 + i, 40, 30))).save(tmp_path / "frames" / f"frame_{i:04d}.png")
    Image.fromarray(gradient_photo()).save(tmp_path / "target.png")
    result = transfer(following_model(), tmp_path / source, tmp_path / "target.png", tmp_path / "out")
    assert result.moments == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["transfer.glb", "transfer.mp4"]


def test_several_photos_of_one_person_share_an_identity(model) -> None:
    photos = [photo_with_marks((60, 40, side)) for side in (30, 40, 50)]
    faces = model.reconstruct(photos, same_person=True)
    assert len(faces) == 3
    assert all(torch.equal(face.parameters.shape, faces[0].parameters.shape) for face in faces)
    apart = model.reconstruct(photos)
    changed = [
        dataclasses.replace(face, parameters=face.parameters.replace(shape=face.parameters.shape + i))
        for i, face in enumerate(apart)
    ]
    weights = np.array([face.confidence for face in changed])
    expected = np.average([face.parameters.shape.numpy() for face in changed], axis=0, weights=weights)
    pooled = same_person(changed)
    np.testing.assert_allclose(pooled[1].parameters.shape, expected, atol=1e-5)
    assert torch.equal(pooled[1].parameters.expression, changed[1].parameters.expression)
