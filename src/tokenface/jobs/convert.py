"""`tokenface convert`: a file of one head model to a folder of files of another."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from tokenface.core.files import separate_folder, write_atomically
from tokenface.errors import ConfigError
from tokenface.formats.mesh import TexturedMesh, file_normals
from tokenface.formats.obj import write_obj
from tokenface.formats.parameters import write_parameters
from tokenface.geometry.pinhole import FaceCamera
from tokenface.geometry.similarity import Similarity
from tokenface.head.arkit import ARKIT_NAMES, to_arkit
from tokenface.head.model import JAW, LEFT_EYE, RIGHT_EYE, HeadModel
from tokenface.head.registry import load_head
from tokenface.inference.appearance import albedo_image
from tokenface.inference.expressions import eye_rotations, speaks_arkit
from tokenface.inference.face import FORMATS, Face, Origin
from tokenface.inference.face_document import photo_document
from tokenface.retarget.converter import Converted, HeadConverter, Mode, Performance, posed
from tokenface.retarget.sources import Clip, Mesh, Numbers, Photo, read_source

SCHEMA = "tokenface-conversion-1"


@dataclass(frozen=True)
class ConvertOptions:
    """source_head: where the file does not say it (None: by its vertices).  expression: see `HeadConverter`.
    neutral: a mesh shows a relaxed face.  formats: of faces from photos, some of `FORMATS`."""

    source_head: str | None = None
    expression: Mode = "auto"
    neutral: bool = False
    formats: tuple[str, ...] = ("json", "glb")


@dataclass(frozen=True, eq=False)
class ConvertResult:
    """files: that were written.  converted: one entry per face or person."""

    files: list[Path]
    converted: list[Converted]


def convert_file(path: str | Path, to: str, output: str | Path, options: ConvertOptions | None = None) -> ConvertResult:
    """Do the work.

    Args:
        path: `parameters.json`, `parameters.npz`, FLAME parameters in an .npz, or a mesh.  to: head model.
        output: folder.
    Raises:
        TokenFaceError: what cannot be read, fitted or written.
    """
    options = options or ConvertOptions()
    if unknown := sorted(set(options.formats) - set(FORMATS)):
        raise ConfigError(f"unknown format '{unknown[0]}'; expected some of {', '.join(FORMATS)}")
    folder = separate_folder(output, [path])
    target = load_head(to)
    source = read_source(path, options.source_head)
    converter = HeadConverter(source.head, target, options.expression)
    match source:
        case Photo():
            files, done, moments = _convert_photo(source, converter, folder, options.formats)
        case Clip():
            files, done, moments = _convert_clip(source, converter, folder)
        case Numbers():
            files, done, moments = _convert_numbers(source, converter, folder)
        case Mesh():
            files, done, moments = _convert_mesh(source, converter, folder, options.neutral)
    files.append(_write_report(folder, converter, Path(path).name, done, moments))
    return ConvertResult(files, done)


def _convert_photo(
    source: Photo, converter: HeadConverter, folder: Path, formats: tuple[str, ...]
) -> tuple[list[Path], list[Converted], bool]:
    done, faces = [], []
    for face in source.faces:
        p = face.parameters
        one = Performance(p.shape.double().numpy(), p.expression[None].double().numpy(), p.jaw[None].double().numpy())
        converted = converter.convert(one)
        done.append(converted)
        faces.append(_face(face, converter.target, converted))
    files = []
    for face in faces:
        files += [face.save(folder / f"face_{face.index:02d}.{kind}") for kind in formats if kind != "json"]
    if "json" in formats:
        files.append(write_parameters(folder / "parameters.json", photo_document(faces, source.name)))
    return files, done, True


def _face(face: Face, target: HeadModel, converted: Converted) -> Face:
    """The face with the target's parameters; its camera takes in where the head stands."""
    person, p, place = converted.performance, face.parameters, converted.place
    vector = moved_camera(p.camera.double().numpy(), place)
    parameters = p.replace(
        shape=torch.from_numpy(person.shape).float(),
        expression=torch.from_numpy(person.expression[0]).float(),
        jaw=torch.from_numpy(person.jaw[0]).float(),
        camera=torch.from_numpy(vector).float(),
        texture=_texture(face.head, target, p.texture),
    )
    return replace(
        face,
        parameters=parameters,
        camera=_face_camera(face.camera, replace(place, translation=face.size * place.translation)),
        head=target,
        origin=Origin(face.origin.weights, face.origin.weights_hash, target.data.geometry_hash()),
    )


def _face_camera(camera: FaceCamera, place: Similarity) -> FaceCamera:
    """The same for the camera in the photo; a solved lens sees K (R (k Q x + d) + t) ~ K (R Q x + (R d + t) / k)."""
    lens = camera.lens
    if lens is not None:
        lens = replace(lens, R=lens.R @ place.rotation, t=(lens.R @ place.translation + lens.t) / place.scale)
    return replace(camera, vector=moved_camera(camera.vector, place), lens=lens)


def moved_camera(vector: np.ndarray, place: Similarity) -> np.ndarray:
    """The camera [..., 7] that sees the converted head where `vector` sees the original: p = s R (k Q x + d) + t."""
    scale, turn, shift = vector[..., 0], Rotation.from_rotvec(vector[..., 1:4]), vector[..., 4:7]
    moved = np.empty(vector.shape)
    moved[..., 0] = scale * place.scale
    moved[..., 1:4] = (turn * Rotation.from_matrix(place.rotation)).as_rotvec()
    moved[..., 4:7] = shift + scale[..., None] * turn.apply(place.translation)
    return moved


def _texture(source: HeadModel, target: HeadModel, coefficients: torch.Tensor) -> torch.Tensor:
    """[..., A] as they are where one head's albedo was carried over from the other, else the mean albedo."""
    mine, theirs = source.data.albedo_scale, target.data.albedo_scale
    if mine is not None and theirs is not None and np.array_equal(mine, theirs):
        return coefficients.clone()
    return coefficients.new_zeros(*coefficients.shape[:-1], target.sizes.texture)


def _convert_clip(source: Clip, converter: HeadConverter, folder: Path) -> tuple[list[Path], list[Converted], bool]:
    converted = converter.convert(source.performance)
    target, person, place = converter.target, converted.performance, converted.place
    arrays = dict(source.arrays)
    count = len(person)
    turned = arrays["rotation"].astype(np.float64) @ place.rotation
    expression = torch.from_numpy(person.expression).float()
    pose = np.zeros((count, 5, 3), np.float32)
    pose[:, 0] = Rotation.from_matrix(turned).as_rotvec()
    pose[:, JAW] = person.jaw
    pose[:, [LEFT_EYE, RIGHT_EYE]] = eye_rotations(target, expression) if person.eyes is None else person.eyes
    homogeneous = np.vstack([np.column_stack([place.scale * place.rotation, place.translation]), [0, 0, 0, 1]])
    shape = person.shape.astype(np.float32)
    arrays |= {
        "head": np.array(target.name),
        "head_hash": np.array(target.data.geometry_hash()),
        "identity": shape,
        "shape": np.repeat(shape[None], count, axis=0),
        "expression": expression.numpy(),
        "expression_names": np.array(target.expression_names),
        "jaw": person.jaw.astype(np.float32),
        "camera": moved_camera(arrays["camera"].astype(np.float64), place).astype(np.float32),
        "rotation": turned.astype(np.float32),
        "pose": pose,
        "orthographic": (arrays["orthographic"].astype(np.float64) @ homogeneous).astype(np.float32),
        **_placement_arrays(place),
    }
    for name in ("texture", "identity_texture"):
        arrays[name] = _texture(source.head, target, torch.from_numpy(source.arrays[name])).numpy()
    for name in ("arkit", "blink"):  # said again in the target's words, where it has them
        arrays.pop(name, None)
    if speaks_arkit(target):
        arrays["arkit"] = to_arkit(target, expression, torch.from_numpy(person.jaw).float()).numpy()
        names = list(target.expression_names)
        lids = [names.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight") if name in names]
        arrays |= {"blink": expression.numpy()[:, lids]} if len(lids) == 2 else {}
    return [_write_npz(folder / "parameters.npz", arrays)], [converted], False


def _convert_numbers(
    source: Numbers, converter: HeadConverter, folder: Path
) -> tuple[list[Path], list[Converted], bool]:
    converted = converter.convert(source.performance)
    return [_write_npz(folder / "parameters.npz", _numbers(converter.target, converted))], [converted], False


def _convert_mesh(
    source: Mesh, converter: HeadConverter, folder: Path, neutral: bool
) -> tuple[list[Path], list[Converted], bool]:
    converted = converter.convert_mesh(source.vertices, neutral)
    target = converter.target
    vertices = converted.place.apply(posed(target, converted.performance)[0]).astype(np.float32)
    data = target.data
    mesh = TexturedMesh(
        vertices,
        data.faces,
        data.uv,
        data.uv_faces,
        file_normals(vertices, data.faces),
        albedo_image(target.data, np.zeros(target.sizes.texture)),
        facts={"made_by": "TokenFace", "head_model": target.name, "head_licence": data.licence},
    )
    files = write_obj(folder / f"{source.name}.obj", mesh)
    return [*files, _write_npz(folder / "parameters.npz", _numbers(target, converted))], [converted], True


def _numbers(target: HeadModel, converted: Converted) -> dict[str, np.ndarray]:
    person = converted.performance
    arrays = {
        "head": np.array(target.name),
        "head_hash": np.array(target.data.geometry_hash()),
        "shape": person.shape.astype(np.float32),
        "expression": person.expression.astype(np.float32),
        "expression_names": np.array(target.expression_names),
        "jaw": person.jaw.astype(np.float32),
        **_placement_arrays(converted.place),
    }
    if person.eyes is not None:
        arrays["eyes"] = person.eyes.astype(np.float32)
    if speaks_arkit(target):
        tensors = (torch.from_numpy(a).float() for a in (person.expression, person.jaw))
        arrays |= {"arkit": to_arkit(target, *tensors).numpy(), "arkit_names": np.array(ARKIT_NAMES)}
    return arrays


def _placement_arrays(place: Similarity) -> dict[str, np.ndarray]:
    return {
        "place_scale": np.array(place.scale),
        "place_rotation": place.rotation,
        "place_translation": place.translation,
    }


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return write_atomically(path, buffer.getvalue())


def _write_report(folder: Path, converter: HeadConverter, name: str, done: list[Converted], moments: bool) -> Path:
    """`conversion.json`: what was converted, where the head stands, what is left; single faces' numbers as well."""
    entries: list[dict[str, Any]] = []
    for converted in done:
        person, place = converted.performance, converted.place
        entry: dict[str, Any] = {
            "scale": place.scale,
            "rotation": place.rotation,
            "translation": place.translation,
            "residual_mm": {"neutral": converted.neutral_mm, "posed": converted.posed_mm},
        }
        if moments:
            entry |= {"shape": person.shape, "expression": person.expression[0], "jaw": person.jaw[0]}
            entry |= {} if person.eyes is None else {"eyes": person.eyes[0]}
        entries.append(entry)
    heads = {"from": converter.source, "to": converter.target}
    document = {
        "schema": SCHEMA,
        "file": name,
        **{key: {"name": h.name, "geometry_hash": h.data.geometry_hash()} for key, h in heads.items()},
        "expression_by": "names" if converter.by_names else "shape",
        "conventions": "original = scale * rotation * converted + translation, metres; residuals are mean distances "
        "of the converted head's vertices to the original's surface",
        "faces": entries,
    }
    return write_parameters(folder / "conversion.json", document)
