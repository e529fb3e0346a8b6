"""Output files as bytes: GLB, OBJ, JSON, and a ZIP of all."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from tokenface.formats.glb import glb_bytes
from tokenface.formats.obj import obj_files
from tokenface.formats.parameters import parameters_bytes
from tokenface.formats.rig import RigPart
from tokenface.hair.mesh import NAME as HAIR
from tokenface.inference.appearance import overlay_picture
from tokenface.inference.face import Face
from tokenface.inference.face_document import photo_document


def face_glb(
    face: Face,
    texture: np.ndarray | None = None,
    *,
    iris: np.ndarray | None = None,
    hair: Sequence[RigPart] = (),
) -> bytes:
    """Rigged and textured, as `Face.save` writes it. texture: [R, R, 3] uint8 instead of the albedo.
    iris: see `Face.rig`.  hair: see `Face.save`."""
    return glb_bytes(face.riggable_mesh(texture=texture), face.rig(iris=iris).with_parts(hair))


def viewer_glb(face: Face, texture: np.ndarray | None = None, hair: Sequence[RigPart] = ()) -> bytes:
    """The same for the page's viewer, with nothing that it does not show: in one piece, without brows and the normals
    of morph targets, the skin as JPEG."""
    rig = face.rig(parts=False).with_parts([part for part in hair if part.name == HAIR])
    return glb_bytes(face.riggable_mesh(texture=texture), rig, "jpeg", turning=False)


def face_obj(face: Face, texture: np.ndarray | None = None, stem: str = "face") -> dict[str, bytes]:
    """The posed mesh: OBJ, MTL and PNG by name."""
    return obj_files(stem, face.riggable_mesh(texture=texture))


def faces_json(faces: Sequence[Face], photo_name: str) -> bytes:
    """The `parameters.json` of one photo."""
    return parameters_bytes(photo_document(list(faces), photo_name))


def everything(
    faces: Sequence[Face],
    photo: np.ndarray,
    photo_name: str,
    textures: Mapping[int, np.ndarray] | None = None,
    irises: Mapping[int, np.ndarray | None] | None = None,
    hairs: Mapping[int, Sequence[RigPart]] | None = None,
) -> bytes:
    """What `tokenface reconstruct` writes for a photo, as a ZIP.

    Args:
        faces: of one photo, at least one.  photo: [H, W, 3] uint8.
        textures: [R, R, 3] uint8 by `Face.index`, instead of the albedo.
        irises: [3] uint8 sRGB by `Face.index`, as the photo shows them; None: the albedo's.
        hairs: by `Face.index`; None: without.
    """
    files: dict[str, bytes] = {}
    for face in faces:
        texture = (textures or {}).get(face.index)
        stem = f"face_{face.index:02d}"
        iris, hair = (irises or {}).get(face.index), (hairs or {}).get(face.index, ())
        files[f"{stem}.glb"] = face_glb(face, texture, iris=iris, hair=hair)
        files |= face_obj(face, texture, stem)
    files["parameters.json"] = faces_json(faces, photo_name)
    picture = io.BytesIO()
    overlay_picture(photo, faces).save(picture, format="PNG", compress_level=4)
    files["overlay.png"] = picture.getvalue()
    return zipped(files)


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A ZIP of these files; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
