"""Pictures for people: where the mesh and the landmarks land on the photo, and that edges are smooth."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from tokenface.render.clay import ClayStyle, clay_layer
from tokenface.render.landmark_drawing import draw_landmarks
from tokenface.render.overlay import (
    MAX_SIDE,
    PhotoFace,
    crop_around,
    landmarks_over_photo,
    mesh_over_photo,
    overlay_strip,
    shaded_meshes,
    wireframe_over_photo,
)


def ball(x: float, y: float, radius: float, landmarks: np.ndarray | None = None) -> PhotoFace:
    mesh = trimesh.creation.icosphere(4)
    vertices = np.array(mesh.vertices) * [1, -1, -1]  # y down, z away: still counter-clockwise seen from outside
    return PhotoFace(vertices * radius + [x, y, 0], np.array(mesh.faces), landmarks)


def grey(height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def test_coverage_of_a_ball_is_its_area_and_its_rim_is_antialiased():
    face = ball(60.3, 50.7, 40)
    layer = clay_layer(face.vertices, face.faces, 100, 120)
    alpha = layer[..., 3]
    assert abs(alpha.sum() - np.pi * 40**2) < 0.01 * np.pi * 40**2
    rows, columns = np.mgrid[:100, :120] + 0.5
    assert abs((alpha * columns).sum() / alpha.sum() - 60.3) < 0.1
    assert abs((alpha * rows).sum() / alpha.sum() - 50.7) < 0.1
    rim = (alpha > 0.01) & (alpha < 0.99)
    assert rim.sum() > 100
    assert (layer[..., :3] <= alpha[..., None] + 1e-5).all()  # premultiplied
    assert (layer[..., :3] >= 0).all()


def test_key_light_comes_from_the_upper_left():
    face = ball(50, 50, 40)
    layer = clay_layer(face.vertices, face.faces, 100, 100)[..., 0]
    assert layer[35, 35] > layer[35, 65] > layer[70, 70]


def test_a_body_in_front_of_the_light_casts_a_shadow():
    ground = trimesh.creation.box((80, 80, 2)).subdivide().subdivide().subdivide().subdivide()
    lid = trimesh.creation.box((24, 24, 2)).subdivide()
    lid.apply_translation((-14, 16, 20))  # towards the key light, seen from the middle of the ground
    vertices = np.concatenate([ground.vertices, lid.vertices]) * [1, -1, -1] + [50, 50, 0]
    faces = np.concatenate([ground.faces, lid.faces + len(ground.vertices)])
    lit = clay_layer(vertices, faces, 100, 100, style=ClayStyle(shadows=False))
    shadowed = clay_layer(vertices, faces, 100, 100)
    assert shadowed[52, 52, 0] < 0.8 * lit[52, 52, 0]  # below the lid, seen along the light
    assert shadowed[80, 80, 0] > 0.85 * lit[80, 80, 0]


def test_mesh_is_drawn_where_it_is_and_the_rest_of_the_photo_is_untouched():
    photo, face = grey(), ball(100, 40, 20)
    picture = mesh_over_photo(photo, [face], alpha=1.0)
    rows, columns = np.mgrid[:120, :160] + 0.5
    distance = np.hypot(columns - 100, rows - 40)
    assert (picture[distance > 22] == 90).all()
    assert (picture[distance < 18] != 90).any(axis=-1).mean() > 0.95
    half = mesh_over_photo(photo, [face], alpha=0.5).astype(int)
    np.testing.assert_allclose(half, (picture.astype(int) + 90) / 2, atol=1.01)


def test_of_two_overlapping_heads_the_larger_hides_the_smaller():
    big, small = ball(80, 60, 40), ball(110, 60, 20)
    alone = shaded_meshes([big], 120, 160)
    for order in ([big, small], [small, big]):
        both = shaded_meshes(order, 120, 160)
        np.testing.assert_array_equal(both[45:75, 60:112], alone[45:75, 60:112])
        assert (both[60, 125] != alone[60, 125]).any()


def test_wireframe_shows_the_photo_between_lines():
    picture = wireframe_over_photo(grey(400, 400), [ball(200, 200, 180)])
    inside = picture[150:250, 150:250]
    assert (inside == 90).all(axis=-1).mean() > 0.3
    assert (inside > 110).all(axis=-1).mean() > 0.1


def test_landmarks_are_centred_to_a_fraction_of_a_pixel():
    points = np.array([[40.25, 30.75], [100.5, 80.0]])
    change = np.abs(draw_landmarks(np.zeros((120, 160, 3), np.uint8), points, radius=3.0)[..., 1].astype(float))
    rows, columns = np.mgrid[:120, :160] + 0.5
    for x, y in points:
        near = change * (np.hypot(columns - x, rows - y) < 10)
        assert abs((near * columns).sum() / near.sum() - x) < 0.1
        assert abs((near * rows).sum() / near.sum() - y) < 0.1


def test_landmarks_outside_or_not_finite_do_no_harm():
    points = np.array([[np.nan, 3], [-50, 10], [1e12, 5], [159.9, 119.9], [80, 60]])
    picture = draw_landmarks(grey(), points)
    assert (picture[55:65, 75:85] != 90).any()
    assert np.array_equal(draw_landmarks(grey(), points[:1]), grey())


def test_strip_has_four_panels_in_order():
    random = np.random.default_rng(0)
    photo = random.integers(0, 255, (200, 180, 3), dtype=np.uint8)
    points = np.stack([np.linspace(60, 120, 68), np.full(68, 100.0)], 1)
    strip = overlay_strip(photo, [ball(90, 100, 60, points)], panel_side=200, crop=None)
    assert strip.shape == (200, 4 * 180 + 3 * 8, 3)
    panels = [strip[:, k * 188 : k * 188 + 180] for k in range(4)]
    np.testing.assert_array_equal(panels[0], photo)
    assert (panels[1][100, 90] != photo[100, 90]).any()
    assert np.array_equal(panels[1][:20, :20], photo[:20, :20])
    assert not np.array_equal(panels[2][:20, :20], photo[:20, :20])  # backdrop
    assert (panels[3][100, 60:120] != photo[100, 60:120]).any()
    assert np.array_equal(panels[3][150:], photo[150:])


def test_wide_photos_make_a_square_of_panels_and_faceless_ones_still_work():
    strip = overlay_strip(grey(100, 200), [], panel_side=200)
    assert strip.shape == (100 * 2 + 8, 200 * 2 + 8, 3)


def test_small_heads_are_cropped_to_and_large_photos_reduced():
    photo = grey(3000, 4000)
    face = ball(2000, 1500, 200)
    assert max(mesh_over_photo(photo, [face]).shape) == MAX_SIDE
    assert max(landmarks_over_photo(photo, [face]).shape) == MAX_SIDE
    strip = overlay_strip(photo, [face], panel_side=320)
    assert strip.shape == (320, 4 * 320 + 3 * 8, 3)
    np.testing.assert_allclose(crop_around([face], 0.25), (1700, 1200, 2300, 1800), atol=1)
    clay = strip[:, 2 * 328 : 2 * 328 + 320]
    assert (clay.max(axis=-1) > 130).mean() > 0.15  # the head fills its panel


def test_faces_that_leave_the_photo_or_are_not_finite_are_drawn_as_far_as_they_can_be():
    partly, outside = ball(0, 0, 40), ball(-500, -500, 20)
    broken = PhotoFace(np.full((3, 3), np.nan), np.array([[0, 1, 2]]))
    picture = mesh_over_photo(grey(), [partly, outside, broken], alpha=1.0)
    assert (picture[5, 5] != 90).any()
    assert (picture[60:, 60:] == 90).all()
    assert overlay_strip(grey(), [outside, broken]).shape[2] == 3


@pytest.mark.parametrize("photo", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_a_photo_that_is_not_rgb_bytes_is_named(photo):
    with pytest.raises(ValueError, match="uint8"):
        overlay_strip(photo, [])
