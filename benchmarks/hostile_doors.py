"""The doors at which hostile files knock: good files of every entrance, and what reads them."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

PIXELS = 2_000_000
FRAMES = 50


def photos(folder: Path) -> tuple[dict[str, bytes], Callable[[Path], object]]:
    from tokenface.images.focal import exif_focal
    from tokenface.images.loading import load_image

    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    good = {}
    forms = {
        "jpg": "JPEG",
        "png": "PNG",
        "webp": "WEBP",
        "tif": "TIFF",
        "bmp": "BMP",
        "gif": "GIF",
        "jp2": "JPEG2000",
        "ppm": "PPM",
    }
    for suffix, form in forms.items():
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((64, 48)).save(buffer, form)
        good[f"photo.{suffix}"] = buffer.getvalue()

    def read(path: Path) -> object:
        exif_focal(path, 64, 48)
        return load_image(path, PIXELS)

    return good, read


def clips(folder: Path) -> tuple[dict[str, bytes], Callable[[Path], object]]:
    from tokenface.data.readers.video import read_clip
    from tokenface.errors import DataError
    from tokenface.formats.mp4 import encode_piece, join_pieces
    from tokenface.video.clip import Clip
    from tokenface.video.picture_clip import PictureClip, is_animation

    pictures = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8)
    piece = encode_piece(folder / "clip.nut", ((i / 10, picture) for i, picture in enumerate(pictures)), 10.0)
    film = join_pieces(folder / "clip.mp4", [piece], None, 0.0, None)
    good = {path.name: path.read_bytes() for path in (piece, film)}
    first, *others = [Image.fromarray(picture) for picture in pictures]
    for name, form in {"clip.webp": "WEBP", "clip.png": "PNG"}.items():
        buffer = io.BytesIO()
        first.save(buffer, form, save_all=True, append_images=others, duration=100)
        good[name] = buffer.getvalue()

    def read(path: Path) -> object:
        if path.suffix in (".webp", ".png"):
            is_animation(path)
            return [
                frame.index
                for frame, _ in zip(PictureClip(path, max_pixels=PIXELS).frames(), range(FRAMES), strict=False)
            ]
        with contextlib.suppress(DataError):
            read_clip(path)
        frames = Clip(path, max_pixels=PIXELS).frames()
        return [frame.index for frame, _ in zip(frames, range(FRAMES), strict=False)]

    return good, read


def meshes(folder: Path) -> tuple[dict[str, bytes], Callable[[Path], object]]:
    import trimesh

    from tokenface.errors import HeadModelError
    from tokenface.evaluation.mesh_files import read_mesh, read_picked_points, read_seven_landmarks
    from tokenface.head.obj_file import read_obj

    ball = trimesh.creation.icosphere(2)
    points = np.random.default_rng(0).normal(size=(7, 3))
    text = "\n".join(" ".join(map(str, row)) for row in points)
    buffer = io.BytesIO()
    np.save(buffer, points)
    picked = "".join(f'<point x="{x}" y="{y}" z="{z}" name="a"/>\n' for x, y, z in points)
    good = {"head.obj": str(ball.export(file_type="obj")).encode(), "head.ply": ball.export(file_type="ply")}
    good |= {"points.txt": text.encode(), "points.npy": buffer.getvalue(), "points.pp": picked.encode()}

    def read(path: Path) -> object:
        if path.suffix in (".txt", ".npy"):
            return read_seven_landmarks(path)
        if path.suffix == ".pp":
            return read_picked_points(path)
        if path.suffix == ".obj":
            with contextlib.suppress(HeadModelError):
                read_obj(path)
        return read_mesh(path)

    return good, read


def checkpoints(folder: Path) -> tuple[dict[str, bytes], Callable[[Path], object]]:
    from tokenface.core.tensors import read_state_dict
    from tokenface.identity.recognition import NAME, load_recognition
    from tokenface.inference.calibration import calibration_path, read_calibration
    from tokenface.inference.checkpoint import load_checkpoint
    from tokenface.network.temporal_checkpoint import load_temporal, temporal_path
    from tokenface.weights import find_weights

    weights = find_weights("tokenface-ti")
    files = {"weights": weights, "temporal": temporal_path(weights, "causal"), "confidence": calibration_path(weights)}
    files["recognition"] = weights.with_name(f"{NAME}.safetensors")
    good = {f"{name}.safetensors": path.read_bytes() for name, path in files.items()}
    buffer = io.BytesIO()
    torch.save({"state_dict": {"visual.class_embedding": torch.zeros(8)}}, buffer)
    good["pretrained.pth"] = buffer.getvalue()
    readers: dict[str, Callable[[Path], object]] = {
        "temporal": load_temporal,
        "confidence": read_calibration,
        "recognition": load_recognition,
        "pretrained": read_state_dict,
    }
    return good, lambda path: readers.get(path.stem, load_checkpoint)(path)


def head_models(folder: Path) -> tuple[dict[str, bytes], Callable[[Path], object]]:
    from tokenface.head.flame import load_flame
    from tokenface.head.registry import head_path, load_head
    from tokenface.head.restricted_pickle import load_npy, load_pickle

    arrays = {"v_template": np.zeros((50, 3)), "f": np.zeros((90, 3), np.uint32), "shapedirs": np.zeros((50, 3, 4))}
    buffer, packed = io.BytesIO(), io.BytesIO()
    np.save(buffer, np.array(arrays, dtype=object), allow_pickle=True)
    np.savez(packed, **arrays)  # type: ignore[arg-type]
    good = {"openhead.safetensors": head_path("openhead").read_bytes(), "generic_model.pkl": pickle.dumps(arrays, 2)}
    good |= {"embedding.npy": buffer.getvalue(), "FLAME_texture.npz": packed.getvalue()}

    def read(path: Path) -> object:
        match path.suffix:
            case ".pkl":
                load_pickle(path)
                return load_flame([path])
            case ".npy":
                return load_npy(path)
            case ".npz":
                return load_flame([path])
        return load_head(path)

    return good, read


def parameters(folder: Path) -> tuple[dict[str, bytes], Callable[[Path], object]]:
    from tokenface.head.registry import load_head
    from tokenface.jobs.reconstruct import read_boxes
    from tokenface.retarget.performance import _stored
    from tokenface.retarget.sources import read_source

    head = load_head("openhead")
    good = {"parameters.json": json.dumps(_document(head)).encode(), "parameters.npz": _clip_arrays(head)}
    good["boxes.json"] = b'{"a.jpg": [[10, 10, 50, 50]], "b.jpg": []}'

    def read(path: Path) -> object:
        if path.stem == "boxes":
            return read_boxes(path)
        source = read_source(path)
        return list(_stored(head, path)) if path.suffix == ".npz" else source

    return good, read


def configurations(folder: Path) -> tuple[dict[str, bytes], Callable[[Path], object]]:
    from tokenface.core.configuration import read_config, to_yaml
    from tokenface.training.config import TrainConfig
    from tokenface.training.preflight import check_settings
    from tokenface.training.temporal.config import TemporalConfig

    good = {"train.yaml": to_yaml(TrainConfig()).encode(), "temporal.yaml": to_yaml(TemporalConfig()).encode()}

    def read(path: Path) -> object:
        if path.stem == "temporal":
            return read_config(TemporalConfig, path)
        config = read_config(TrainConfig, path)
        check_settings(config.run)
        return to_yaml(config)

    return good, read


def shards(folder: Path) -> tuple[dict[str, bytes], Callable[[Path], object]]:
    from tokenface.data.readers.landmark_tar import read_landmark_tar
    from tokenface.data.record import FaceRecord, Geometry, Picture
    from tokenface.data.shards.index import index_path, load_index
    from tokenface.data.shards.members import decode_record, encode_record
    from tokenface.data.shards.writer import write_shard
    from tokenface.errors import DataError
    from tokenface.jobs.bulk.table import decode

    draw = np.random.default_rng(0)
    landmarks = draw.uniform(10, 50, (68, 2)).astype(np.float32)
    picture = Picture(
        image=draw.integers(0, 256, (64, 64, 3), np.uint8), landmarks=landmarks, visible=np.ones(68, bool),
        angles=np.zeros(3, np.float32), box=np.array([9, 9, 52, 52], np.float32), landmarks468=None,
        mask=np.full((64, 64), 255, np.uint8),
    )  # fmt: skip
    geometry = Geometry(draw.normal(size=(30, 3)).astype(np.float32) * 0.05, True, "abc")
    record = FaceRecord("r0", "scan", (picture,), "somebody", "test", "a.jpg", "CC0", geometry)
    write_shard(folder / "shard.tar", [("r0", encode_record(record))])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, shape=np.zeros((3, 5), np.float32), metadata=np.array(json.dumps({"schema": "x"})))
    good = {"shard.tar": (folder / "shard.tar").read_bytes(), "table.npz": buffer.getvalue()}
    label = json.dumps({"identity": "a", "landmarks68": landmarks.tolist()}).encode()
    photos = io.BytesIO()
    Image.fromarray(picture.image).save(photos, "PNG")
    with tarfile.open(folder / "photos.tar", "w") as archive:
        for name, content in {"a.png": photos.getvalue(), "a.json": label}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    good["photos.tar"] = (folder / "photos.tar").read_bytes()
    good["shard.index.json"] = index_path(folder / "shard.tar").read_bytes()

    def read(path: Path) -> object:
        from tokenface.images.places import place_of

        if path.suffix == ".npz":
            try:
                data = place_of(path.parent).read(path.name)
            except OSError as error:
                raise DataError(f"'{path}' cannot be read ({error.strerror or error})") from error
            return decode(data, path.name)
        if path.stem == "photos":
            return list(read_landmark_tar(path))
        tar = path
        if path.suffix == ".json":
            tar = path.with_name("shard.tar")
            tar.write_bytes(good["shard.tar"])
        index = load_index(tar)
        return [decode_record(entry.key, index.read(entry)) for entry in index.entries]

    return good, read


DOORS: dict[str, Callable[[Path], tuple[dict[str, bytes], Callable[[Path], object]]]] = {
    "photos": photos,
    "clips": clips,
    "meshes": meshes,
    "checkpoints": checkpoints,
    "head models": head_models,
    "parameters": parameters,
    "configurations": configurations,
    "shards": shards,
}
"""Entrances that read files. Each makes its good files in a folder, and says what reads them."""


def _document(head: Any) -> dict[str, Any]:
    """A `parameters.json` of two faces."""
    sizes = head.sizes
    values = {name: [0.0] * sizes[name] for name in ("shape", "jaw", "texture", "light")}
    expression = dict.fromkeys(head.expression_names, 0.0)
    camera = [7.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    confidence_features = dict.fromkeys(("detection", "agreement", "stability", "resolution", "plausibility"), 0.9)
    face = {
        "parameters": {**values, "expression": expression, "camera": camera},
        "crop": {"centre": [32.0, 24.0], "size": 40.0, "angle": 0.0},
        "box": [10.0, 10.0, 50.0, 40.0],
        "camera": {"opencv": {"focal_given": False, "K": matrix, "R": matrix, "t": [0, 0, 1]}},
        "evidence": confidence_features,
    }
    return {
        "schema": "tokenface-parameters-1",
        "head": {"name": head.name, "geometry_hash": head.data.geometry_hash()},
        "weights": {"name": "a", "hash": "0" * 16},
        "photo": {"name": "a.jpg", "width": 64, "height": 48},
        "faces": [{**face, "index": 0}, {**face, "index": 1}],
    }


def _clip_arrays(head: Any) -> bytes:
    """A `parameters.npz` of three frames."""
    from tokenface.retarget.sources import NPZ_FORMAT

    sizes, count = head.sizes, 3
    arrays: dict[str, np.ndarray] = {
        name: np.zeros((count, sizes[name]), np.float32) for name in ("shape", "expression", "jaw", "camera", "texture")
    }
    arrays |= {
        "format": np.array(NPZ_FORMAT),
        "head": np.array(head.name),
        "head_hash": np.array(head.data.geometry_hash()),
    }
    arrays |= {"identity": arrays["shape"][0], "identity_texture": arrays["texture"][0], "time": np.arange(count) / 10}
    arrays |= {
        "rotation": np.repeat(np.eye(3, dtype=np.float32)[None], count, 0),
        "pose": np.zeros((count, 5, 3), np.float32),
    }
    arrays["orthographic"] = np.zeros((count, 3, 4), np.float32)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
