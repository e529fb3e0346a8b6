"""Serialisation of a record into tar members: images as JPEG, masks as PNG, numbers as NPZ, facts as JSON."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from typing import Any

import cv2
import numpy as np

from tokenface.core.arrays import open_arrays
from tokenface.data.record import KINDS, UNKNOWNS, FaceRecord, Geometry, Picture
from tokenface.errors import DataError, ImageError
from tokenface.images.loading import load_image

VERSION = 1
METRES_PER_STEP = 1e-5
"""Vertices are int16 multiples of 10 µm: half the bytes of float32, wrong by 5 µm at most, reach ± 0.33 m."""
MAX_ARRAY_BYTES = 1 << 28
MAX_PICTURE_PIXELS = 1 << 24
DAMAGE = (
    *(ValueError, TypeError, IndexError, AttributeError, RecursionError),
    *(ImageError, OSError, zipfile.BadZipFile, zlib.error),
)
"""What reading a damaged member may raise."""


def encode_record(record: FaceRecord, quality: int = 95) -> dict[str, bytes]:
    """Members by extension: `json`, `npz`, and for each picture `jpg` and `mask.png` (`000.jpg` … for clips).

    Args:
        quality: of the JPEG pictures.
    Raises:
        DataError: the record cannot be stored (vertices out of reach, an odd key).
    """
    if not record.key or any(c in record.key for c in "./\\\n\0") or len(record.key) > 90:
        raise DataError(
            f"'{record.key}' cannot be the key of a record: no dots, slashes or line ends, at most 90 letters"
        )
    members: dict[str, bytes] = {}
    for prefix, picture in zip(_prefixes(len(record.pictures)), record.pictures, strict=True):
        members[f"{prefix}jpg"] = _encoded(picture.image[..., ::-1], ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])
        if picture.mask is not None:
            members[f"{prefix}mask.png"] = _encoded(picture.mask, ".png", [])
    members["npz"] = _arrays(record)
    facts = {
        "version": VERSION,
        "kind": record.kind,
        "identity": record.identity,
        "dataset": record.dataset,
        "source": record.source,
        "licence": record.licence,
        "pictures": len(record.pictures),
        "geometry": None
        if record.geometry is None
        else {"neutral": record.geometry.neutral, "head": record.geometry.head, "unknown": record.geometry.unknown},
        "crc32": {name: zlib.crc32(data) for name, data in members.items()},
    }
    members["json"] = json.dumps(facts, ensure_ascii=False).encode()
    return members


def decode_record(key: str, members: dict[str, bytes]) -> FaceRecord:
    """The record again.

    Raises:
        DataError: a member is missing, damaged, or says what cannot be.
    """
    try:
        facts = json.loads(members["json"])
        for name, checksum in facts["crc32"].items():
            if zlib.crc32(members[name]) != checksum:
                raise DataError(f"record '{key}': its member '{name}' is damaged (checksum)")
        count = int(facts["pictures"])
        if facts["kind"] not in KINDS or not 1 <= count <= 10_000:
            raise DataError(
                f"record '{key}' is a {facts['kind']!r} of {count} pictures; expected one of {', '.join(KINDS)}"
            )
        arrays = _read_arrays(members["npz"])
        pictures = tuple(_picture(members, prefix, arrays, index) for index, prefix in enumerate(_prefixes(count)))
        geometry = None
        if facts["geometry"] is not None:
            vertices = arrays["vertices"].astype(np.float32) * np.float32(METRES_PER_STEP)
            unknown = facts["geometry"].get("unknown", "place")  # shards of before: most were registered
            if unknown not in UNKNOWNS:
                raise DataError(f"record '{key}' leaves {unknown!r} open; expected one of {', '.join(UNKNOWNS)}")
            geometry = Geometry(vertices, bool(facts["geometry"]["neutral"]), str(facts["geometry"]["head"]), unknown)
        return FaceRecord(
            key=key,
            kind=facts["kind"],
            pictures=pictures,
            identity=str(facts["identity"]),
            dataset=str(facts["dataset"]),
            source=str(facts["source"]),
            licence=str(facts["licence"]),
            geometry=geometry,
        )
    except KeyError as error:
        raise DataError(f"record '{key}' lacks {error}") from error
    except DAMAGE as error:
        raise DataError(f"record '{key}' is damaged ({_line(error)})") from error


def facts_of(members: dict[str, bytes]) -> dict[str, Any]:
    """Index entry of a record, from its JSON alone."""
    facts = json.loads(members["json"])
    geometry = facts.get("geometry")
    return {
        "kind": facts["kind"],
        "identity": facts["identity"],
        "pictures": facts["pictures"],
        "dataset": facts["dataset"],
        "neutral": None if geometry is None else geometry["neutral"],
        "head": "" if geometry is None else str(geometry["head"]),
    }


def _prefixes(count: int) -> list[str]:
    return [""] if count == 1 else [f"{index:03d}." for index in range(count)]


def _encoded(image: np.ndarray, suffix: str, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, np.ascontiguousarray(image), options)
    if not done:
        raise DataError(f"a picture of shape {image.shape} cannot be written as {suffix}")
    return data.tobytes()


def _arrays(record: FaceRecord) -> bytes:
    pictures = record.pictures
    arrays: dict[str, np.ndarray] = {
        "landmarks": np.stack([p.landmarks for p in pictures]).astype(np.float32),
        "visible": np.stack([p.visible for p in pictures]).astype(bool),
        "angles": np.stack([p.angles for p in pictures]).astype(np.float32),
        "box": np.stack([p.box for p in pictures]).astype(np.float32),
    }
    meshed = [p.landmarks468 is not None for p in pictures]
    if any(meshed):
        empty = np.full((468, 3), np.nan, np.float32)
        arrays["landmarks468"] = np.stack(
            [empty if p.landmarks468 is None else p.landmarks468 for p in pictures]
        ).astype(np.float32)
    if record.geometry is not None:
        steps = np.rint(record.geometry.vertices / METRES_PER_STEP)
        if not np.isfinite(steps).all() or np.abs(steps).max() > 32767:
            raise DataError(f"'{record.source}': vertices reach beyond 0.33 m; are they in metres and in head space?")
        arrays["vertices"] = steps.astype(np.int16)
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _read_arrays(data: bytes) -> dict[str, np.ndarray]:
    with open_arrays(data, MAX_ARRAY_BYTES) as file:
        return {name: file[name] for name in file.files}


def _picture(members: dict[str, bytes], prefix: str, arrays: dict[str, np.ndarray], index: int) -> Picture:
    image = load_image(members[f"{prefix}jpg"], MAX_PICTURE_PIXELS)
    mask = None
    if f"{prefix}mask.png" in members:
        mask = load_image(members[f"{prefix}mask.png"], MAX_PICTURE_PIXELS)[..., 0]
        if mask.shape != image.shape[:2]:
            raise ValueError(f"a mask of {mask.shape} on a picture of {image.shape[:2]}")
    landmarks, visible = arrays["landmarks"][index], arrays["visible"][index]
    if landmarks.shape != (68, 2) or visible.shape != (68,) or not np.isfinite(landmarks).all():
        raise ValueError(f"landmarks of shape {landmarks.shape}, or not finite")
    mesh = arrays["landmarks468"][index] if "landmarks468" in arrays else None
    return Picture(
        image=image,
        landmarks=landmarks,
        visible=visible,
        angles=arrays["angles"][index],
        box=arrays["box"][index],
        landmarks468=None if mesh is None or np.isnan(mesh).any() else mesh,
        mask=mask,
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__
