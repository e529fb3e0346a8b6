"""Synthetic faces: labels agree with the picture, seeds with themselves, people with their pictures."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from tokenface.data.sampling import rotation_from_angles
from tokenface.data.scene.anatomy import POLAR, scalp_directions
from tokenface.data.scene.lighting import Light, explaining_coefficients, light_on
from tokenface.data.scene.outfit import Chances
from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces
from tokenface.data.visibility import visible_points
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.render.shading import sh_shading

SIZE = 64


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("openhead")


@pytest.fixture(scope="module")
def generator(head) -> SyntheticFaces:
    return SyntheticFaces(head, SIZE)


@pytest.fixture(scope="module")
def batch(generator):
    return generator.sample(12, 5, images_per_identity=3)


def turned(*yaw: float) -> torch.Tensor:
    angles = torch.deg2rad(torch.tensor(yaw))
    return rotation_from_angles(angles, torch.zeros_like(angles), torch.zeros_like(angles))


def test_the_same_seed_gives_the_same_batch(generator):
    one, two = generator.sample(4, 11), generator.sample(4, torch.Generator().manual_seed(11))
    other = generator.sample(4, 12)
    for name in ("image", "vertices", "landmarks68", "mask", "visible68"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert not torch.equal(one.image, other.image)


def test_a_batch_has_every_label_in_its_shape_and_range(batch, head):
    sizes = head.sizes
    assert batch.image.shape == (12, 3, SIZE, SIZE)
    assert batch.image.min() >= 0
    assert batch.image.max() <= 1
    assert batch.vertices.shape == batch.neutral.shape == (12, head.vertex_count, 3)
    assert batch.landmarks68.shape == (12, 68, 2)
    assert batch.landmarks468.shape == (12, 468, 2)
    assert batch.mask.shape == (12, 1, SIZE, SIZE)
    for name, value in batch.parameters.items():
        assert value.shape == (12, sizes[name]), name
        assert value.isfinite().all(), name
    assert batch.image.flatten(1).std(1).min() > 0.02


def test_pictures_of_one_person_share_shape_and_skin_but_nothing_else(batch):
    assert batch.identity.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    shape, texture = batch.parameters.shape.view(4, 3, -1), batch.parameters.texture.view(4, 3, -1)
    assert (shape == shape[:, :1]).all()
    assert (texture == texture[:, :1]).all()
    assert (batch.neutral.view(4, 3, -1, 3) == batch.neutral.view(4, 3, -1, 3)[:, :1]).all()
    assert not torch.equal(shape[0], shape[1])
    for component in ("expression", "camera", "light"):
        value = getattr(batch.parameters, component)
        assert not torch.equal(value[0], value[1]), component


def test_labels_rebuild_the_vertices_and_the_landmarks(batch, head):
    p = batch.parameters
    mesh = head(p.shape, p.expression, p.jaw)
    torch.testing.assert_close(mesh.vertices, batch.vertices, atol=1e-5, rtol=0)
    torch.testing.assert_close(head(p.shape).vertices, batch.neutral, atol=1e-5, rtol=0)
    camera = Camera.from_vector(p.camera)
    flat = camera.project(head.landmarks68(batch.vertices, camera.angles()[:, 0]))[..., :2]
    # the label's camera has no perspective: it explains the picture up to that
    assert (flat - batch.landmarks68).norm(dim=-1).mean() < 0.04


def test_without_perspective_the_camera_label_is_exact(head, generator):
    config = SyntheticConfig(perspective=False)
    flat = SyntheticFaces(head, 32, config)
    drawn = flat.sample(6, 0)
    camera = Camera.from_vector(drawn.parameters.camera)
    seen = camera.project(head.landmarks68(drawn.vertices, camera.angles()[:, 0]))[..., :2]
    assert (seen - drawn.landmarks68).norm(dim=-1).max() < 0.01


def test_the_far_side_of_a_profile_is_invisible(generator):
    drawn = generator.sample(16, 3, rotation=turned(*([80.0] * 8 + [-80.0] * 8)), plain=True)
    right_eye, left_eye = drawn.visible68[:, 36:42], drawn.visible68[:, 42:48]
    # yaw > 0 turns the face to the subject's left: the subject's right half shows
    assert right_eye[:8].float().mean() > 0.6
    assert left_eye[:8].float().mean() < 0.3
    assert left_eye[8:].float().mean() > 0.6
    assert right_eye[8:].float().mean() < 0.3


def test_a_bare_frontal_face_shows_all_its_inner_points(generator, head):
    drawn = generator.sample(8, 1, rotation=turned(*[0.0] * 8), expression=torch.zeros(8, head.sizes.expression),
                             jaw=torch.zeros(8, 3), plain=True)  # fmt: skip
    assert drawn.visible68[:, 27:].float().mean() > 0.9


def test_hands_and_sunglasses_hide_points_and_mask(head, generator):
    covered = SyntheticFaces(head, SIZE, SyntheticConfig(chances=Chances(glasses=1.0, hat=0.0, occluder=1.5)))
    bare, worn = generator.sample(24, 9, plain=True), covered.sample(24, 9)
    torch.testing.assert_close(bare.vertices, worn.vertices)
    assert worn.visible68.float().mean() < bare.visible68.float().mean() - 0.02
    assert worn.mask.mean() < 0.97 * bare.mask.mean()


def test_the_mask_covers_the_face_and_nothing_beside_it(generator, head):
    drawn = generator.sample(8, 2, rotation=turned(*[0.0] * 8), plain=True)
    box_low, box_high = drawn.landmarks68.amin(1), drawn.landmarks68.amax(1)
    axis = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
    for i in range(8):
        inside = (axis > box_low[i, 0] - 0.2) & (axis < box_high[i, 0] + 0.2)
        assert drawn.mask[i, 0][:, ~inside].mean() < 0.02
        cheek = ((drawn.landmarks68[i, 30] + drawn.landmarks68[i, 3]) / 2 + 1) * SIZE / 2
        assert drawn.mask[i, 0, int(cheek[1]), int(cheek[0])] > 0.9


def test_given_people_are_drawn_as_given(generator, head):
    shape = torch.randn(4, head.sizes.shape, generator=torch.Generator().manual_seed(0))
    drawn = generator.sample(4, 0, shape=shape)
    assert torch.equal(drawn.parameters.shape, shape)
    torch.testing.assert_close(drawn.neutral, head(shape).vertices)
    with pytest.raises(ValueError, match="shape has 3 rows"):
        generator.sample(4, 0, shape=shape[:3])


def test_the_picture_is_where_the_landmarks_are(head, generator):
    """The face's own pixels change with its skin: that change must lie inside the landmarks' box."""
    sizes = head.sizes.expression
    still = {
        "rotation": turned(*[0.0] * 4),
        "expression": torch.zeros(4, sizes),
        "jaw": torch.zeros(4, 3),
        "plain": True,
    }
    shut = generator.sample(4, 6, **still)
    still["jaw"] = torch.tensor([[0.35, 0, 0]]).repeat(4, 1)
    still["expression"] = torch.zeros(4, sizes)
    wide = generator.sample(4, 6, **still)
    lips = (wide.landmarks68[:, 57] - wide.landmarks68[:, 51]).norm(dim=-1)
    shut_lips = (shut.landmarks68[:, 57] - shut.landmarks68[:, 51]).norm(dim=-1)
    assert (lips > shut_lips + 0.05).all()
    # between the lips of an open mouth there is no skin
    for i in range(4):
        middle = ((wide.landmarks68[i, 62] + wide.landmarks68[i, 66]) / 2 + 1) * SIZE / 2
        assert wide.mask[i, 0, int(middle[1]), int(middle[0])] < 0.5


def test_every_tensor_is_made_on_the_heads_device(head, monkeypatch):
    """A tensor made without a device lands on the default one; the meta device cannot be mixed with any other."""
    monkeypatch.setattr("tokenface.render.rasterizer._compiled", lambda *tensors: False)  # those are for the CPU alone
    small = SyntheticFaces(head, 32, backend="torch")
    expected = small.sample(3, 8)
    with torch.device("meta"):
        drawn = small.sample(3, torch.Generator("cpu").manual_seed(8))
    assert torch.equal(drawn.image, expected.image)


def test_sizes_that_jpeg_cannot_cut_are_refused(head):
    with pytest.raises(ValueError, match="multiple of 8"):
        SyntheticFaces(head, 100)


def test_heads_without_arkit_names_albedo_or_regions_work(head):
    """FLAME's case: principal components, no texture, no face-mesh correspondence."""
    data = dataclasses.replace(
        head.data,
        expression_names=tuple(f"component_{i}" for i in range(head.sizes.expression)),
        expression_range=None,
        eye_drive=None,
        albedo_mean=None,
        albedo_basis=None,
        albedo_scale=None,
        mesh468_faces=None,
        mesh468_barycentrics=None,
        regions={},
    )
    bare = SyntheticFaces(HeadModel(data), SIZE)
    drawn = bare.sample(6, 0)
    assert drawn.parameters.texture.shape == (6, 0)
    assert not drawn.visible468.any()
    assert drawn.mask.mean() > 0.08
    assert drawn.image.isfinite().all()


def test_ict_people_are_drawn_by_the_same_generator(shared_data):
    from tokenface.head.ict import load_ict

    ict = HeadModel(load_ict([shared_data / "ict_facekit.npz"]))
    drawn = SyntheticFaces(ict, SIZE).sample(4, 0)
    assert drawn.image.isfinite().all()
    assert drawn.mask.mean() > 0.08
    assert drawn.visible68[:, 27:].float().mean() > 0.3


def test_scalp_rays_leave_the_head_in_their_direction(generator, head):
    anatomy = generator.painter.anatomy
    points = (head.template[anatomy.scalp_corners] * anatomy.scalp_barycentrics[..., None]).sum(2)
    polar = torch.linspace(0.02, math.radians(165), POLAR)
    rays = scalp_directions(polar[:, None].expand(points.shape[:2]), anatomy.azimuth.expand(points.shape[:2]))
    directions = torch.nn.functional.normalize(points - anatomy.skull, dim=-1)
    upper = points[..., 1] > head.template[:, 1].quantile(0.6)
    along = (directions * rays).sum(-1)[upper]
    assert (along > 0.9999).float().mean() > 0.97
    assert along.min() > 0.97  # behind the ears, which are left out, the nearest vertex stands in


def test_even_light_is_explained_as_even_light():
    sky = torch.zeros(1, 9, 3)
    sky[:, 0] = math.sqrt(4 * math.pi)
    zero = torch.zeros(1)
    forward = torch.tensor([[[0.0, 0, 1], [0, 0, 1]]])
    light = Light(sky, forward, torch.zeros(1, 2, 3), zero, zero, zero + 1)
    normals = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    torch.testing.assert_close(light_on(light, normals)[:, :3], torch.ones(1, 3, 50))
    label = explaining_coefficients(light, torch.tensor([0.49]))
    # a picture holds the square root of linear light
    torch.testing.assert_close(sh_shading(normals[None], label), torch.full((1, 50, 3), 0.7), atol=1e-4, rtol=0)


def test_a_lamp_is_explained_from_its_side():
    sky = torch.zeros(1, 9, 3)
    sky[:, 0] = 0.3 * math.sqrt(4 * math.pi)
    direction = torch.tensor([[[1.0, 0, 0], [1.0, 0, 0]]])
    colour = torch.tensor([[[1.0, 1, 1], [0, 0, 0]]])
    one = torch.ones(1)
    light = Light(sky, direction, colour, one * 0, one, one)
    label = explaining_coefficients(light, one)
    lit, dark = sh_shading(torch.tensor([[[1.0, 0, 0], [-1.0, 0, 0]]]), label)[0].mean(-1)
    assert float(lit) == pytest.approx(math.sqrt(1.3), abs=0.12)
    assert float(dark) == pytest.approx(math.sqrt(0.3), abs=0.12)


def test_visibility_is_a_depth_test_against_head_and_cover():
    depth = torch.full((1, 8, 8), torch.inf)
    depth[:, :, :4] = 0.0
    cover, cover_depth = torch.zeros(1, 8, 8), torch.full((1, 8, 8), torch.inf)
    cover[:, 0], cover_depth[:, 0] = 1.0, -1.0
    points = torch.tensor([[[-0.7, 0.5, 0.0], [-0.7, 0.5, 0.5], [0.7, 0.5, 0.5], [-0.7, -0.95, 0.0], [1.4, 0.0, 0.0]]])
    seen = visible_points(points, depth, cover, cover_depth, torch.tensor([0.1]))
    assert seen.tolist() == [[True, False, True, False, False]]


def test_turning_the_head_moves_no_label_off_the_head(generator):
    drawn = generator.sample(16, 21)
    assert drawn.landmarks68.isfinite().all()
    assert np.quantile(drawn.landmarks68.abs().numpy(), 0.95) < 1.1


def test_generators_of_one_head_model_share_its_measures_and_another_head_has_its_own(head):
    from tokenface.data.scene.picture import measured

    again = HeadModel(head.data)
    assert measured(again)[0] is measured(head)[0]
    wide = HeadModel(dataclasses.replace(head.data, template=head.data.template * np.float32((1.1, 1, 1))))
    assert measured(wide)[0].unit == pytest.approx(1.1 * measured(head)[0].unit, rel=0.02)
    bald = dataclasses.replace(
        head.data, regions={name: v for name, v in head.data.regions.items() if "eyeball" not in name}
    )
    assert measured(HeadModel(bald))[1] is not measured(head)[1]
    first, second = SyntheticFaces(head, 64).sample(2, 3).image, SyntheticFaces(again, 64).sample(2, 3).image
    assert torch.equal(first, second)  # a generator that found the measures draws what one that made them draws
