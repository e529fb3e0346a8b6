"""Neutral-shape error of scanned people, from their photos or renderings of the textured scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tokenface.data.sampling import View, rotation_from_angles
from tokenface.errors import EvaluationError
from tokenface.evaluation.icp import Surface
from tokenface.evaluation.landmarks import TEST_CROP_SCALE
from tokenface.evaluation.photo_statistics import predict_all
from tokenface.evaluation.scan_files import TexturedScan, mean_seven, scan_tensors
from tokenface.evaluation.scan_to_mesh import measure, scan_face
from tokenface.evaluation.statistics import measured_over_people
from tokenface.geometry.landmarks import MEDIAPIPE_TO_IBUG68, NOW7
from tokenface.geometry.normals import vertex_normals
from tokenface.geometry.similarity import procrustes
from tokenface.head.model import HeadModel
from tokenface.images import FaceDetector
from tokenface.parameters import FaceParameters
from tokenface.render.rasterizer import interpolate, rasterize
from tokenface.render.shading import ambient_light, sh_shading
from tokenface.render.texture import sample_texture

VIEWS = ((0, 0), (-25, 0), (25, 0), (-50, 0), (50, 0), (0, 15), (0, -15))
"""Degrees of yaw and pitch."""
LIGHTS = ((0.0, 0.0, 0.0), (-0.45, 0.2, 0.3), (0.45, 0.2, 0.3), (0.0, 0.5, 0.1))
"""Weight of the light's x, y and z bands beside an ambient 1: none, from both sides, from above."""
DISTANCE = 1.2
"""Metres from the lens to the face."""
BACKGROUND = 0.45
OVERSAMPLING = 2
LIKELY_MISFIT = 0.010
"""Metres that seven points found on a face may be from the mean head's before another view is preferred."""

Predict = Callable[[Tensor], FaceParameters]


def measure_scans(
    predict: Predict, head: HeadModel, size: int, scans: Sequence[TexturedScan],
    shape_of_photo: Callable[[Path], Tensor] | None = None, say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """Scan-to-mesh error of neutral predictions over the mean head's, by NoW's non-metrical protocol.

    Args:
        predict: crops [B, 3, size, size] → parameters.
        shape_of_photo: file → [S] shape of the person; used for scans with photos. None: textures are rendered.
    Returns:
        "scans": name → the ratio of each view, their mean, of the views' mean shape ("pooled"), and the mean head's
        error in millimetres at the mean head's size; "mean over views" and "pooled" over all, with intervals.
    """
    rows: dict[str, dict[str, Any]] = {}
    for scan in scans:
        say(scan.name)
        placed = scan if scan.seven is not None else find_landmarks(scan, head)
        assert placed.seven is not None
        if placed.photos and shape_of_photo is not None:
            names = [path.name for path in placed.photos]
            shapes = torch.stack([shape_of_photo(path) for path in placed.photos])
        else:
            names, images = render_scan(placed, head, size)
            shapes = predict_all(predict, images).shape
        face = scan_face(placed.vertices[np.unique(placed.faces)], placed.seven)
        errors = [_error(face, head, shape) for shape in (torch.zeros_like(shapes[0]), shapes.mean(0), *shapes)]
        ratios = [error / errors[0] for error in errors[1:]]
        rows[scan.name] = {
            "views": len(names),
            "mean head mm": errors[0],
            "mean over views": float(np.mean(ratios[1:])),
            "pooled": ratios[0],
            "each": dict(zip(names, ratios[1:], strict=True)),
        }
    columns = {c: np.array([row[c] for row in rows.values()]) for c in ("mean over views", "pooled")}
    overall = measured_over_people(list(rows), lambda r: {c: float(v[r].mean()) for c, v in columns.items()})
    return {"scans": rows, **overall}


def _error(face, head: HeadModel, shape: Tensor) -> float:
    vertices = head(shape[None]).vertices
    seven = head.landmarks68(vertices)[0, list(NOW7)].double().numpy()
    surface = Surface(vertices[0].numpy(), head.faces.numpy())
    return float(measure(face, surface, seven).distances.mean())


def render_scan(scan: TexturedScan, head: HeadModel, size: int) -> tuple[list[str], Tensor]:
    """Test crops of a placed scan from VIEWS under LIGHTS: names, and images [N, 3, size, size] in [0, 1]."""
    assert scan.seven is not None
    points = head.landmarks68(head.template[None])
    pose = procrustes(mean_seven(head), scan.seven / 1000)
    marks = torch.from_numpy(pose.apply(points[0].double().numpy())).float()[None]
    names, images = [], []
    for yaw, pitch in VIEWS:
        angles = torch.deg2rad(torch.tensor([[float(yaw)], [float(pitch)], [0.0]]))
        view = _framed(marks, rotation_from_angles(*angles))
        images.append(_drawn(scan, view, size))
        names += [f"yaw {yaw} pitch {pitch} light {k + 1}" for k in range(len(LIGHTS))]
    return names, torch.cat(images)


def _framed(marks: Tensor, rotation: Tensor) -> View:
    """The camera whose crop is the protocol's test crop of the landmarks."""
    depth = (marks @ rotation.transpose(1, 2))[..., 2].mean(1)
    view = View(rotation, torch.ones(1), torch.zeros(1, 2), torch.full((1,), DISTANCE), depth)
    flat = view.project(marks)[..., :2]
    low, high = flat.amin(1), flat.amax(1)
    scale = 2 / ((high - low).mean(1) * TEST_CROP_SCALE)
    centre = (low + high) / 2 * torch.tensor([-1.0, 1.0])
    return View(rotation, scale, centre * scale[:, None], view.distance, depth)


def _drawn(scan: TexturedScan, view: View, size: int) -> Tensor:
    """[L, 3, size, size] under every light."""
    texture, uv, faces, uv_faces = scan_tensors(scan)
    vertices = torch.from_numpy(scan.vertices / 1000).float()[None]
    large = size * OVERSAMPLING
    fragments = rasterize(view.project(vertices), faces, large, large)
    normals = vertex_normals(vertices, faces) @ view.rotation.transpose(1, 2)
    normals = F.normalize(interpolate(fragments, normals, faces), dim=-1)
    albedo = sample_texture(texture, interpolate(fragments, uv, uv_faces))
    light = ambient_light(len(LIGHTS))
    light[:, 1:4] = torch.tensor(LIGHTS)[:, :, None]
    shading = sh_shading(normals.expand(len(LIGHTS), -1, -1, -1), light).permute(0, 3, 1, 2)
    covered = fragments.mask[:, None]
    shading = shading / ((shading * covered).mean((1, 2, 3), keepdim=True) / covered.float().mean())  # as exposed
    images = torch.where(covered, (albedo * shading).clamp(0, 1), torch.tensor(BACKGROUND))
    return F.avg_pool2d(images, OVERSAMPLING)


def find_landmarks(scan: TexturedScan, head: HeadModel, pixels: int = 384) -> TexturedScan:
    """A textured scan without landmarks, placed by those that the face detector finds on renderings of it.

    The mesh may stand upright along y or z and look along any axis, and its texture coordinates may count downwards
    (glTF) in place of upwards (OBJ): the rendering in which the detector is surest decides.

    Raises:
        EvaluationError: no face in any view, or no texture.
    """
    texture, uv, faces, uv_faces = scan_tensors(scan)
    vertices = torch.from_numpy(scan.vertices).float()
    used = vertices[faces.unique()]
    centre, size = (used.amax(0) + used.amin(0)) / 2, float((used.amax(0) - used.amin(0)).max())
    detector = FaceDetector()
    best: tuple[float, TexturedScan, np.ndarray] | None = None
    downwards = uv * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])
    for tilt, turn in ((tilt, turn) for tilt in (0.0, 90.0) for turn in (0.0, 90.0, 180.0, 270.0)):
        degrees = torch.tensor([[turn, 0.0], [0.0, tilt], [0.0, 0.0]])
        turned, stood = rotation_from_angles(*torch.deg2rad(degrees)).unbind()
        seen = (vertices - centre) @ (turned @ stood).T * (1.6 / size)
        projected = torch.stack([seen[:, 0], -seen[:, 1], -seen[:, 2]], dim=-1)[None]
        fragments = rasterize(projected, faces, pixels, pixels)
        places = interpolate(fragments, vertices, faces)[0].numpy()
        for coordinates in (uv, downwards):
            image = sample_texture(texture, interpolate(fragments, coordinates, uv_faces))
            image = torch.where(fragments.mask[:, None], image, torch.tensor(BACKGROUND))
            picture = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
            for face in detector.detect(picture):
                if face.landmarks468 is None:
                    continue
                marks = face.landmarks468[list(MEDIAPIPE_TO_IBUG68)][list(NOW7), :2]
                seven = _lifted(marks, places, fragments.mask[0].numpy())
                misfit = float(np.abs(procrustes(seven, mean_seven(head)).apply(seven) - mean_seven(head)).mean())
                surest = face.presence - misfit / LIKELY_MISFIT
                if best is None or surest > best[0]:
                    best = (surest, replace(scan, uv=coordinates.numpy()), seven)
    if best is None:
        raise EvaluationError(f"no face found on the scan '{scan.name}'; put its 7 landmarks beside it as .pp or .txt")
    return best[1].placed(head, best[2])


def _lifted(marks: np.ndarray, places: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Image points [7, 2] to the surface points [H, W, 3] of the nearest pixels that show one."""
    rows, columns = np.nonzero(covered)
    centres = np.stack([columns, rows], axis=1) + 0.5
    nearest = [int(((centres - mark) ** 2).sum(1).argmin()) for mark in marks]
    return places[rows[nearest], columns[nearest]].astype(np.float64)
