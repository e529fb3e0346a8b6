"""Files of one face: meshes, relief, per-pixel maps; overlay of a photo's faces."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tokenface.core.files import write_atomically
from tokenface.formats.axes import Axes
from tokenface.formats.glb_textures import TextureFormat
from tokenface.formats.rig import RigPart
from tokenface.inference.face import FORMATS, Face, Skin, can_draw

Texture = Literal["photo", "delit", "model"]


@dataclass(frozen=True)
class FaceFiles:
    """Choice of files.

    formats: of `SAVED`.  overlay: whether the picture for people is written.  neutral: whether the relaxed heads are
    written as well.  texture: "photo", "delit" (the photo without its light), or "model": the albedo as predicted.
    detail: whether normal and displacement maps are written as well.
    maps: of `map_names.MAPS`.  axes: of OBJ, PLY and STL; None: each format's usual ones.
    texture_format: of the pictures in a GLB.  rounded: round outlines; None: as each format has them (`Face.save`).
    hair: whether GLB and VRM have the photo's hair.
    """

    formats: tuple[str, ...] = FORMATS
    overlay: bool = True
    neutral: bool = False
    texture: Texture = "photo"
    detail: bool = False
    maps: tuple[str, ...] = ()
    axes: Axes | None = None
    texture_format: TextureFormat = "png"
    hair: bool = False
    rounded: bool | None = None


def load_beside(wanted: FaceFiles) -> None:
    """Import what these files will be made with in a thread of its own, while the network is opened: a second of work
    that need not wait. The process waits for the thread at its end: it may be in the middle of native code."""

    def load() -> None:
        with suppress(ImportError):  # said by whoever needs it
            from tokenface.inference import photo_texture  # noqa: F401
            from tokenface.render.raster_arrays import rasterize_arrays

            rasterize_arrays(np.zeros((1, 3, 3)), np.array([[0, 1, 2]]), 1, 1)  # reads the compiled loops

    if wanted.overlay or wanted.maps or (wanted.texture != "model" and set(wanted.formats) - {"json"}):
        threading.Thread(target=load, name="tokenface-imports").start()


def write_face(
    folder: Path,
    face: Face,
    photo: np.ndarray | None,
    wanted: FaceFiles,
    others: Sequence[tuple[Face, np.ndarray]] = (),
) -> list[Path]:
    """Write `face_00.<format>`, `face_00_neutral.<format>`, and what is taken from the photo: `face_00_normal.png`,
    `face_00_displacement.png`, `face_00_<map>.png`.

    Args:
        photo: [H, W, 3] uint8 RGB that the face was found in; None: it is gone.
        others: further faces of the same person with their photos, for the texture.
    Raises:
        OutputError: a file cannot be written, or the head lies outside of the photo.
    """
    meshes = sorted(set(wanted.formats) - {"json"})
    skin: Skin = "model"
    iris = None
    if photo is not None and can_draw() and {"glb", "vrm"} & set(meshes):
        iris = face.iris_colour(photo)
    if photo is not None and meshes and wanted.texture != "model":
        from tokenface.inference.photo_texture import photo_texture

        skin = photo_texture(face, photo, others, delight=wanted.texture == "delit")
    hair: Sequence[RigPart] = ()
    if wanted.hair and photo is not None and {"glb", "vrm"} & set(meshes):
        from tokenface.hair import photo_hair

        hair = photo_hair(face, photo)
    stem = f"face_{face.index:02d}"
    paths: list[Path] = []
    for suffix in meshes:
        for neutral in (False, True) if wanted.neutral else (False,):
            path = folder / f"{stem}{'_neutral' if neutral else ''}.{suffix}"
            paths.append(
                face.save(
                    path,
                    neutral,
                    skin,
                    iris,
                    wanted.axes,
                    texture_format=wanted.texture_format,
                    rounded=wanted.rounded,
                    hair=hair,
                )
            )
    if wanted.detail and photo is not None:
        from tokenface.inference.photo_texture import photo_detail

        files = photo_detail(face, photo).files(stem)
        paths += [write_atomically(folder / name, data) for name, data in files.items()]
    if wanted.maps and photo is not None:
        from tokenface.inference.map_files import write_maps

        paths += write_maps(folder, face, photo, wanted.maps)
    return paths


def write_overlay(folder: Path, faces: Sequence[Face], photo: np.ndarray) -> Path:
    """Write `overlay.png`: the heads over their photo.

    Raises:
        OutputError: it cannot be written.
    """
    from tokenface.inference.appearance import overlay_picture

    buffer = io.BytesIO()
    overlay_picture(photo, faces).save(buffer, format="PNG", compress_level=4)
    return write_atomically(folder / "overlay.png", buffer.getvalue())
