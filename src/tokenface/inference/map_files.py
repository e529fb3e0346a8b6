"""Per-pixel map files: PNG of the photo's size, and NPZ."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tokenface.core.files import write_atomically
from tokenface.inference.face import Face
from tokenface.inference.maps import PARTS, FaceMaps, coverage
from tokenface.render.landmark_drawing import draw_landmarks

DEPTH_STEP = 1e-5
"""Metres per grey level of the depth picture."""
DEPTH_ZERO = 32768
"""Grey level of the plane through the head's origin; 0 is background."""
AXIS_LENGTH = 0.1
"""Metres of each pose axis."""
AXIS_COLOURS = ((235, 64, 52), (66, 190, 80), (64, 120, 245))
"""x (subject's left) red, y (up) green, z (out of the face) blue."""
PART_COLOURS = (
    *((0, 0, 0), (230, 180, 150), (170, 120, 95), (110, 80, 60), (215, 140, 120), (245, 205, 130), (90, 60, 40)),
    *((215, 75, 95), (110, 20, 40), (250, 250, 240), (240, 120, 140), (70, 150, 235), (60, 205, 190)),
)


def write_maps(folder: Path, face: Face, photo: np.ndarray, names: Sequence[str]) -> list[Path]:
    """Write `face_00_<map>.png` and `face_00_maps.npz`.

    Args:
        photo: [H, W, 3] uint8 RGB.  names: of `map_names.MAPS`.
    Raises:
        OutputError: a file cannot be written, or the head lies outside of the photo.
    """
    maps = face.maps()
    pictures: dict[str, Callable[[], bytes]] = {
        "depth": lambda: _png(maps.on_photo(depth_levels(maps))),
        "normals": lambda: _png(maps.on_photo(_levels((maps.normals + 1) / 2, maps.mask, np.uint8))),
        "uv": lambda: _png(maps.on_photo(_levels(_with_mask(maps.uv), maps.mask, np.uint16))),
        "pncc": lambda: _png(maps.on_photo(_levels(maps.pncc, maps.mask, np.uint16))),
        "parts": lambda: _indexed_png(maps.on_photo(maps.parts)),
        "cutout": lambda: _png(cutout(face, maps, photo)),
        "axes": lambda: _png(pose_axes(face, photo)),
        "points68": lambda: _png(draw_landmarks(photo, face.landmarks)),
        "points468": lambda: _png(draw_landmarks(photo, _points468(face), lines=False)),
    }
    stem = f"face_{face.index:02d}"
    paths = [
        write_atomically(folder / f"{stem}_{name}.png", picture())
        for name, picture in pictures.items()
        if name in names
    ]
    if "npz" in names:
        paths.append(write_atomically(folder / f"{stem}_maps.npz", _npz(face, maps)))
    return paths


def depth_levels(maps: FaceMaps) -> np.ndarray:
    """[h, w] uint16: `DEPTH_ZERO` + depth / `DEPTH_STEP`; 0 where nothing is."""
    levels = np.rint(maps.depth / DEPTH_STEP + DEPTH_ZERO).clip(1, 65535)
    return np.where(maps.mask, levels, 0).astype(np.uint16)


def cutout(face: Face, maps: FaceMaps, photo: np.ndarray) -> np.ndarray:
    """[H, W, 4] uint8: the photo, transparent where the head's mesh is not."""
    alpha = maps.on_photo(coverage(face.head.data, face.vertices, face.camera, maps.box))
    return np.dstack([photo, np.rint(alpha * 255).astype(np.uint8)])


def pose_axes(face: Face, photo: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8: the photo with head space's axes, drawn from its origin."""
    ends = face.camera.project(np.vstack([np.zeros(3), np.eye(3) * AXIS_LENGTH * face.size]))
    out = np.ascontiguousarray(photo).copy()
    width = max(2, round(face.camera.pixels_per_metre * 0.003))
    order = np.argsort(-face.camera.depth(np.eye(3)))  # the nearest is drawn last
    start, *tips = (tuple(int(value) for value in np.rint((point - 0.5) * 16)) for point in ends)
    for axis in order:
        cv2.line(out, start, tips[axis], AXIS_COLOURS[axis], width, cv2.LINE_AA, 4)
    return out


def _points468(face: Face) -> np.ndarray:
    return np.full((468, 2), np.nan) if face.landmarks468 is None else face.landmarks468


def _with_mask(uv: np.ndarray) -> np.ndarray:
    return np.dstack([uv, np.ones(uv.shape[:2], uv.dtype)])


def _levels(values: np.ndarray, mask: np.ndarray, kind: type) -> np.ndarray:
    levels = np.rint(values.clip(0, 1) * np.iinfo(kind).max).astype(kind)
    return np.where(mask[..., None], levels, 0).astype(kind)


def _png(picture: np.ndarray) -> bytes:
    """8 or 16 bits, grey, RGB or RGBA."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not done:
        raise ValueError(f"a picture of {picture.shape} {picture.dtype} cannot be a PNG")
    return data.tobytes()


def _indexed_png(labels: np.ndarray) -> bytes:
    """A palette picture: its pixel values are the labels, its colours are for people."""
    image = Image.fromarray(labels, mode="P")
    image.putpalette([level for colour in PART_COLOURS for level in colour])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()


def _npz(face: Face, maps: FaceMaps) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        box=np.array(maps.box),
        photo_size=np.array(maps.photo_size),
        mask=maps.mask,
        depth=maps.depth,
        normals=maps.normals,
        uv=maps.uv,
        pncc=maps.pncc,
        parts=maps.parts,
        part_names=np.array(PARTS),
        landmarks68=face.landmarks.astype(np.float32),
        landmarks468=_points468(face).astype(np.float32),
        orthographic=face.camera.orthographic(),
    )
    return buffer.getvalue()
