"""Per-pixel maps of a face, beside closed forms: a sphere, and rays cast at every triangle of a mesh."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from stand_ins import photo_with_marks, stand_in_model
from toy_head import toy_head_data

from tokenface.core.files import is_result_name
from tokenface.errors import ConfigError, OutputError
from tokenface.geometry.crop import Crop
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.data import HeadData
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.inference.map_files import DEPTH_STEP, DEPTH_ZERO, write_maps
from tokenface.inference.map_names import MAPS, chosen_maps
from tokenface.inference.maps import PARTS, FaceMaps, face_maps

RADIUS = 0.09
PHOTO = (200, 240)


def turned_camera(lens: bool = False) -> FaceCamera:
    vector = np.array([8.0, 0.2, -0.35, 0.1, 0.05, -0.02])
    camera = FaceCamera(np.append(vector, 0.0)[:7], Crop((110.0, 95.0), 150.0, 0.15), PHOTO)
    return replace(camera, lens=camera.pinhole(focal=260.0)) if lens else camera


def cast(vertices: np.ndarray, faces: np.ndarray, camera: FaceCamera, pixel: tuple[int, int]):
    """The nearest triangle that the ray through a pixel's centre meets: (triangle, barycentrics, point)."""
    centre = np.array([pixel[0] + 0.5, pixel[1] + 0.5])
    if camera.lens is None:
        matrix = camera.orthographic()[:2]
        direction = -camera.rotation[2]
        start = np.linalg.lstsq(matrix[:, :3], centre - matrix[:, 3], rcond=None)[0] - direction
    else:
        start = -camera.lens.R.T @ camera.lens.t
        direction = camera.lens.R.T @ np.linalg.solve(camera.lens.K, np.append(centre, 1))
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    with np.errstate(all="ignore"):
        systems = np.stack([b - a, c - a, np.broadcast_to(-direction, a.shape)], axis=2)
        usable = np.abs(np.linalg.det(systems)) > 1e-16
        found = np.full((len(faces), 3), np.nan)
        found[usable] = np.linalg.solve(systems[usable], (start - a[usable])[..., None])[..., 0]
        hit = (found[:, :2].min(axis=1) >= 0) & (found[:, :2].sum(axis=1) <= 1)
    if not hit.any():
        return None
    triangle = np.flatnonzero(hit)[np.argmin(found[hit, 2])]
    u, v, along = found[triangle]
    return triangle, np.array([1 - u - v, u, v]), start + along * direction


def sphere_head() -> HeadData:
    data = toy_head_data()
    template = data.template / np.linalg.norm(data.template, axis=1, keepdims=True) * RADIUS
    return replace(data, template=template.astype(np.float32))


def inner(maps: FaceMaps) -> np.ndarray:
    """[h, w] bool: pixels of the mask off its rim, where a chord of the mesh is near the surface that it stands for."""
    return cv2.erode(maps.mask.astype(np.uint8), np.ones((9, 9)), borderValue=0).astype(bool)


def test_a_sphere_has_the_depth_and_the_normals_of_a_sphere() -> None:
    data = sphere_head()
    camera = FaceCamera(np.array([8.0, 0, 0, 0, 0, 0, 0]), Crop((110.0, 95.0), 150.0), PHOTO)
    maps = face_maps(data, data.template, camera)
    scale, (x0, y0, _, _) = camera.pixels_per_metre, maps.box
    rows, columns = np.nonzero(inner(maps))
    x, y = (columns + x0 + 0.5 - 110) / scale, -(rows + y0 + 0.5 - 95) / scale
    middle = np.hypot(x, y) < 0.75 * RADIUS  # where a chord of the coarse mesh is near the sphere in depth, too
    rows, columns, x, y = rows[middle], columns[middle], x[middle], y[middle]
    z = np.sqrt(RADIUS**2 - x**2 - y**2)
    np.testing.assert_allclose(maps.depth[rows, columns], -z, atol=0.03 * RADIUS)  # smaller is nearer
    np.testing.assert_allclose(maps.normals[rows, columns], np.stack([x, y, z], axis=1) / RADIUS, atol=0.12)
    assert abs(maps.mask.sum() / (np.pi * (RADIUS * scale) ** 2) - 1) < 0.03


@pytest.mark.parametrize("lens", [False, True])
def test_maps_are_what_a_ray_through_the_pixel_meets(lens: bool) -> None:
    data = toy_head_data()
    head = HeadModel(data)
    with torch.inference_mode():
        vertices = head(torch.randn(1, 6, generator=torch.Generator().manual_seed(1))).vertices[0].numpy()
    camera = turned_camera(lens)
    maps = face_maps(data, vertices, camera)
    axes = camera.rotation if not lens else np.diag([1.0, -1, -1]) @ camera.lens.R
    normals = mesh_normals(vertices, data.faces)
    low, high = data.template.min(axis=0), data.template.max(axis=0)
    rows, columns = np.nonzero(inner(maps))
    chosen = np.linspace(0, len(rows) - 1, 80).astype(int)
    for row, column in zip(rows[chosen], columns[chosen], strict=True):
        triangle, weights, point = cast(vertices, data.faces, camera, (column + maps.box[0], row + maps.box[1]))
        corners = data.faces[triangle]
        depth = -(camera.rotation @ point)[2] if not lens else (camera.lens.R @ point)[2]
        np.testing.assert_allclose(maps.depth[row, column], depth, atol=2e-6)
        np.testing.assert_allclose(maps.uv[row, column], weights @ data.uv[data.uv_faces[triangle]], atol=2e-4)
        ncc = weights @ ((data.template[corners] - low) / (high - low))
        np.testing.assert_allclose(maps.pncc[row, column], ncc, atol=2e-4)
        normal = axes @ (weights @ normals[corners])
        np.testing.assert_allclose(maps.normals[row, column], normal / np.linalg.norm(normal), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(maps.normals[maps.mask], axis=-1), 1, atol=1e-5)
    assert (maps.normals[inner(maps)][:, 2] > -0.05).all()  # towards the viewer
    assert not maps.depth[~maps.mask].any()


def test_parts_of_openhead_are_where_they_are_on_a_face() -> None:
    head = load_head("openhead")
    jaw = torch.tensor([[0.35, 0, 0]])
    with torch.inference_mode():
        vertices = head(jaw=jaw).vertices[0].numpy()
    camera = FaceCamera(np.array([7.0, 0, 0, 0, 0, 0, 0]), Crop((200.0, 200.0), 400.0), (400, 400))
    maps = face_maps(head.data, vertices, camera)
    labels = maps.on_photo(maps.parts)

    def at(point: np.ndarray) -> str:
        x, y = camera.project(point[None])[0]
        return PARTS[labels[int(y), int(x)]]

    def middle(region: str) -> np.ndarray:
        return vertices[head.data.regions[region]].mean(axis=0)

    assert at(middle("left_eyeball")) == "left_eye"
    assert at(middle("right_eyeball")) == "right_eye"
    assert middle("left_eyeball")[0] > 0  # the subject's left, on the right of the picture
    assert at(middle("forehead")) == "skin"
    assert at(middle("nose")) == "nose"
    seen = {PARTS[label] for label in np.unique(labels)}
    assert {"lips", "mouth", "teeth", "ears", "neck", "brows", "background"} <= seen


def test_files_keep_the_numbers_and_the_photos_size(tmp_path: Path) -> None:
    photo = photo_with_marks((60, 40, 40))
    face = stand_in_model(HeadModel(toy_head_data())).reconstruct(photo)[0]
    paths = write_maps(tmp_path, face, photo, MAPS)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    assert all(is_result_name(path.name) for path in paths)
    maps = face.maps()
    x0, y0, x1, y1 = maps.box
    inside = np.s_[y0:y1, x0:x1]

    def picture(name: str) -> np.ndarray:
        return cv2.imread(str(tmp_path / f"face_00_{name}.png"), cv2.IMREAD_UNCHANGED)

    depth = picture("depth")
    assert depth.dtype == np.uint16
    assert depth.shape == photo.shape[:2]
    metres = (depth[inside].astype(float) - DEPTH_ZERO) * DEPTH_STEP
    np.testing.assert_allclose(metres[maps.mask], maps.depth[maps.mask], atol=DEPTH_STEP * 0.51)
    assert not depth[inside][~maps.mask].any()
    normals = picture("normals")[inside][maps.mask][:, ::-1] / 255.0 * 2 - 1
    np.testing.assert_allclose(normals, maps.normals[maps.mask], atol=1 / 255)
    uv = picture("uv")[inside][maps.mask][:, ::-1] / 65535.0
    np.testing.assert_allclose(uv[:, :2], maps.uv[maps.mask], atol=1e-5)
    assert (uv[:, 2] == 1).all()
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "face_00_parts.png"))[inside], maps.parts)
    cut = np.asarray(Image.open(tmp_path / "face_00_cutout.png"))
    np.testing.assert_array_equal(cut[..., :3], photo)
    assert (cut[inside][..., 3][inner(maps)] == 255).all()
    assert 0.9 < cut[..., 3].sum() / 255 / maps.mask.sum() < 1.1
    numbers = np.load(tmp_path / "face_00_maps.npz")
    np.testing.assert_array_equal(numbers["depth"], maps.depth)
    np.testing.assert_allclose(numbers["landmarks68"], face.landmarks, atol=1e-3)
    assert numbers["part_names"].tolist() == list(PARTS)


def test_axes_are_drawn_where_the_camera_sees_them(tmp_path: Path) -> None:
    photo = np.full_like(photo_with_marks((60, 40, 40)), 20)
    face = stand_in_model(HeadModel(toy_head_data())).reconstruct(photo_with_marks((60, 40, 40)))[0]
    write_maps(tmp_path, face, photo, ("axes",))
    drawn = np.asarray(Image.open(tmp_path / "face_00_axes.png")).astype(int)
    for axis, channel in ((0, 0), (1, 1)):  # x red to the right of the picture, y green up
        x, y = face.camera.project(np.eye(3)[axis][None] * 0.05)[0]
        colour = drawn[int(y), int(x)]
        assert colour.argmax() == channel
        assert colour.max() > 150


def test_heads_beside_the_photo_and_unknown_maps_are_explained() -> None:
    data = toy_head_data()
    away = replace(turned_camera(), crop=Crop((2000.0, 95.0), 150.0))
    with pytest.raises(OutputError, match="no part of the head"):
        face_maps(data, data.template, away)
    with pytest.raises(ConfigError, match="unknown map 'depht'; choose from depth"):
        chosen_maps(["depht"])
    assert chosen_maps(["all"]) == MAPS
