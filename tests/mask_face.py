"""A mask with eyes, nose and mouth as a height field: a small stand-in for scans and predictions, in millimetres."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

SEVEN_XY = np.array([[-45, 35], [-15, 33], [15, 33], [45, 35], [0, -8], [-25, -35], [25, -35]], dtype=float)


def height(x: np.ndarray, y: np.ndarray, seed: int = 0) -> np.ndarray:
    """Millimetres towards the viewer; the seed makes another person."""
    random = np.random.default_rng(seed)
    own = random.normal(scale=1.0, size=6) if seed else np.zeros(6)
    face = -(x**2) / (160 + 6 * own[0]) - y**2 / (260 + 8 * own[1])
    nose = (26 + 2 * own[2]) * np.exp(-((x / 13) ** 2) - ((y + 2) / (20 + own[3])) ** 2)
    sockets = -(7 + own[4]) * np.exp(-(((np.abs(x) - 30) / 14) ** 2) - ((y - 34) / 9) ** 2)
    mouth = (5 + own[5]) * np.exp(-((x / 24) ** 2) - ((y + 36) / 6) ** 2)
    return face + nose + sockets + mouth


def mask_face(side: int = 33, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [side², 3], triangles, and the seven landmarks [7, 3]."""
    line = np.linspace(-90, 90, side)
    x, y = (grid.ravel() for grid in np.meshgrid(line, line))
    vertices = np.stack([x, y, height(x, y, seed)], axis=1)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    quads = np.stack([corner, corner + 1, corner + side + 1, corner + side], axis=1)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return vertices, faces, np.concatenate([SEVEN_XY, height(*SEVEN_XY.T, seed)[:, None]], axis=1)


def obj_text(vertices: np.ndarray, faces: np.ndarray) -> str:
    rows = ["v " + " ".join(f"{value:.9g}" for value in row) for row in np.asarray(vertices).tolist()]
    return "\n".join(rows + ["f " + " ".join(str(i + 1) for i in row) for row in np.asarray(faces).tolist()]) + "\n"


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def picked_points(points: np.ndarray) -> str:
    """A MeshLab file: seven lines of head, then a point on each line."""
    head = ["<!DOCTYPE PickedPoints>", "<PickedPoints>", " <DocumentData>", '  <DateTime time="10:00:00"/>']
    head += ['  <User name="x"/>', '  <DataFileName name="scan.obj"/>', '  <templateName name=""/>', " </DocumentData>"]
    rows = [f' <point x="{x}" y="{y}" z="{z}" name="{k}" active="1"/>' for k, (x, y, z) in enumerate(points)]
    return "\n".join([*head, *rows, "</PickedPoints>"]) + "\n"


def write_now(root: Path, people: dict[str, int], images: dict[str, list[str]], side: int = 33) -> Path:
    """A NoW download: person → seed of the mask, person → rows `challenge/file`. Returns its folder."""
    rows = [f"{person}/{row}" for person, names in images.items() for row in names]
    root.mkdir(parents=True, exist_ok=True)
    (root / "imagepathsvalidation.txt").write_text("\n".join(rows) + "\n")
    for person, seed in people.items():
        vertices, faces, points = mask_face(side, seed)
        for folder, name, text in (
            ("scans", "natural.obj", obj_text(vertices, faces)),
            ("scans_lmks_onlypp", "natural_picked_points.pp", picked_points(points)),
        ):
            (root / folder / person).mkdir(parents=True)
            (root / folder / person / name).write_text(text)
    return root


def write_prediction(folder: Path, row: str, vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> None:
    """`person/challenge/file` as OBJ and NPY."""
    stem = folder / row.rsplit(".", 1)[0]
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".obj").write_text(obj_text(vertices, faces))
    stem.with_suffix(".npy").write_bytes(npy_bytes(points))
