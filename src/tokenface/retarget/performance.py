"""Source performance: expression, jaw and head rotation per time step of a photo, clip or `parameters.npz`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.core.arrays import open_arrays
from tokenface.errors import ImageError, VideoError
from tokenface.geometry.crop import Crop, extract
from tokenface.head.arkit import ARKIT_NAMES, from_arkit
from tokenface.head.model import HeadModel
from tokenface.images.loading import IMAGE_SUFFIXES
from tokenface.inference.expressions import speaks_arkit
from tokenface.inference.face import Face
from tokenface.model import Reconstructor
from tokenface.video.picture_clip import is_animation, stands_for_files


@dataclass(frozen=True, eq=False)
class Moment:
    """expression [E] and jaw [3] of `head`; rotation [3, 3] of the head on the picture.
    picture: [H, W, 3] uint8 around the face, where there is one."""

    time: float
    head: HeadModel
    expression: Tensor
    jaw: Tensor
    rotation: np.ndarray
    picture: np.ndarray | None


def is_photo(path: Path) -> bool:
    moves = stands_for_files(path) or is_animation(path)
    return path.suffix.lower() in IMAGE_SUFFIXES - {".gif"} and not moves


def moments(model: Reconstructor, source: Path, end: float | None = None) -> Iterator[Moment]:
    """All moments of a source in order; a photo has one.

    Raises:
        ImageError, VideoError: nobody on it, or it cannot be read.
    """
    if source.suffix.lower() == ".npz":
        yield from (moment for moment in _stored(model.head, source) if end is None or moment.time < end)
    elif is_photo(source):
        face, photo = largest_face(model, source)
        yield _moment(face, photo, 0.0)
    else:
        empty = True
        for frame in model.track(source, end=end):
            for face in frame.faces[:1]:
                empty = False
                yield _moment(face, frame.image, frame.time)
        if empty:
            raise VideoError(f"no face found in '{source}'")


def largest_face(model: Reconstructor, photo: Path) -> tuple[Face, np.ndarray]:
    """The largest face of a photo, and the photo [H, W, 3].

    Raises:
        ImageError: nobody is on it.
    """
    result = next(iter(model.iterate(photo, max_faces=1)))
    if result.error is not None:
        raise result.error
    if not result.faces or result.image is None:
        raise ImageError(f"no face found in '{photo}'")
    return result.faces[0], result.image


def around(face: Face, photo: np.ndarray, size: int = 512, scale: float = 1.6) -> np.ndarray:
    """[size, size, 3] uint8: the face and what is around it, upright as on the photo."""
    crop = Crop(face.crop.centre, face.crop.size * scale, 0.0)
    return (extract(photo, [crop], size)[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)


def _moment(face: Face, photo: np.ndarray, time: float) -> Moment:
    p = face.parameters
    return Moment(time, face.head, p.expression, p.jaw, face.camera.rotation, around(face, photo))


def _stored(head: HeadModel, path: Path) -> Iterator[Moment]:
    """Moments of a `parameters.npz`; those of another head model by ARKit's names."""
    try:
        with open_arrays(path) as file:
            arrays = {name: file[name] for name in file.files}
        times, rotations = arrays["time"], arrays["rotation"]
        if str(arrays["head_hash"]) == head.data.geometry_hash():
            expression, jaw = torch.from_numpy(arrays["expression"]), torch.from_numpy(arrays["jaw"])
        elif "arkit" in arrays and speaks_arkit(head):
            assert tuple(arrays["arkit_names"]) == ARKIT_NAMES
            expression, jaw = from_arkit(head, torch.from_numpy(arrays["arkit"]))
        else:
            raise VideoError(
                f"'{path}' was tracked with head model '{arrays['head']}', whose expressions '{head.name}' does not "
                "know; transfer from the clip itself"
            )
    except (OSError, KeyError, ValueError, AssertionError) as error:
        raise VideoError(f"'{path}' is no parameters.npz of 'tokenface track' ({error})") from error
    for time, e, j, r in zip(times, expression, jaw, rotations, strict=True):
        yield Moment(float(time), head, e.float(), j.float(), r.astype(np.float64), None)
