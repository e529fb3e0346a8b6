"""`tokenface transfer`: a source's expression on a target's head, as pictures and files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation
from torch import Tensor

from tokenface.core.files import discard, make_folder, write_atomically
from tokenface.errors import ImageError
from tokenface.formats.glb import write_glb
from tokenface.formats.glb_animation import Animation, write_animated_glb
from tokenface.formats.mp4 import encode_piece, join_pieces
from tokenface.formats.parameters import write_parameters
from tokenface.inference.expressions import eye_rotations
from tokenface.inference.face import Face
from tokenface.inference.face_document import photo_document
from tokenface.model import Reconstructor
from tokenface.retarget.performance import Moment, around, is_photo, largest_face, moments
from tokenface.retarget.puppet import FRAME, Puppet
from tokenface.retarget.retarget import retarget
from tokenface.video.picture_clip import open_clip

Pose = Literal["auto", "source", "target"]
GAP = 6
PANEL = 512


@dataclass(frozen=True)
class TransferOptions:
    """pose: whose head pose the pictures show; "auto": the target's for photos, the source's for clips.
    neutral: a photo of the source with a relaxed face: what it shows there counts as nothing.
    end: seconds of a clip.  picture: write pictures or a video.
    texture: the target's skin: its photo, or the model's predicted albedo."""

    pose: Pose = "auto"
    neutral: Path | None = None
    end: float | None = None
    picture: bool = True
    texture: Literal["photo", "model"] = "photo"


@dataclass(frozen=True)
class TransferResult:
    """files: that were written.  moments: how many.  face: the target as the photo's source makes it look, or as it was
    found when the source is a clip.  texture: [R, R, 3] uint8, its skin."""

    files: list[Path]
    moments: int
    face: Face
    texture: np.ndarray


def transfer(
    model: Reconstructor,
    source: Path,
    target: Path,
    output: Path,
    options: TransferOptions | None = None,
    report: Callable[[int], object] = lambda done: None,
) -> TransferResult:
    """Do the work.

    Args:
        source: photo, video, or `parameters.npz` of a tracked clip.  target: photo.
        report: called with the number of moments that are done.
    Raises:
        ImageError, VideoError: nobody on the source or target.  OutputError: a file cannot be written.
    """
    options = options or TransferOptions()
    if not is_photo(target):
        raise ImageError(f"the target '{target}' must be a photo; its identity is what stays")
    puppet = Puppet(*largest_face(model, target), options.texture)
    rest: tuple[Tensor, Tensor] | None = None
    if options.neutral is not None:
        relaxed, _ = largest_face(model, options.neutral)
        rest = relaxed.parameters.expression, relaxed.parameters.jaw
    folder = make_folder(output)
    photo = is_photo(source)
    from_source = options.pose == "source" or (options.pose == "auto" and not photo)
    if not photo:
        return _clip_files(model, puppet, source, rest, folder, from_source, options, report)
    moment = next(iter(moments(model, source)))
    posed = posed_by(puppet, moment, rest)
    files = _photo_files(puppet, posed, moment, folder, from_source, options.picture)
    return TransferResult(files, 1, posed, puppet.texture)


def posed_by(puppet: Puppet, moment: Moment, rest: tuple[Tensor, Tensor] | None) -> Face:
    """The target doing what the source does at this moment."""
    expression, jaw = retarget(
        moment.head, puppet.face.head, moment.expression[None], moment.jaw[None], source_rest=rest
    )  # fmt: skip
    return puppet.pose(expression[0], jaw[0])


def _photo_files(
    puppet: Puppet, posed: Face, moment: Moment, folder: Path, from_source: bool, picture: bool
) -> list[Path]:
    files = [
        write_glb(folder / "transfer.glb", posed.riggable_mesh(texture=puppet.texture), posed.rig(iris=puppet.iris)),
        write_parameters(folder / "parameters.json", photo_document([posed], posed.item.name)),
    ]
    if picture:
        shown = puppet.picture(posed, moment.rotation if from_source else None, PANEL)
        panels = [moment.picture, around(puppet.face, puppet.photo, PANEL, FRAME), shown]
        buffer = io.BytesIO()
        Image.fromarray(_side_by_side([panel for panel in panels if panel is not None])).save(buffer, format="PNG")
        files.append(write_atomically(folder / "transfer.png", buffer.getvalue()))
    return files


@dataclass
class _Performance:
    """What the puppet has done so far, for the animation."""

    times: list[float] = field(default_factory=list)
    expressions: list[Tensor] = field(default_factory=list)
    jaws: list[Tensor] = field(default_factory=list)
    rotations: list[np.ndarray] = field(default_factory=list)


def _clip_files(
    model: Reconstructor,
    puppet: Puppet,
    source: Path,
    rest: tuple[Tensor, Tensor] | None,
    folder: Path,
    from_source: bool,
    options: TransferOptions,
    report: Callable[[int], object],
) -> TransferResult:
    done = _Performance()

    def posed() -> Iterator[tuple[Moment, Face]]:
        for moment in moments(model, source, options.end):
            face = posed_by(puppet, moment, rest)
            done.times.append(moment.time)
            done.expressions.append(face.parameters.expression)
            done.jaws.append(face.parameters.jaw)
            done.rotations.append(moment.rotation if from_source else puppet.face.camera.rotation)
            report(len(done.times))
            yield moment, face

    def pictures() -> Iterator[tuple[float, np.ndarray]]:
        for moment, face in posed():
            shown = puppet.picture(face, moment.rotation if from_source else None, PANEL)
            yield moment.time, _side_by_side([panel for panel in (moment.picture, shown) if panel is not None])

    files: list[Path] = []
    if options.picture:
        piece = folder / ".transfer.nut"
        try:
            encode_piece(piece, pictures(), 30.0)
            files.append(join_pieces(folder / "transfer.mp4", [piece], _sound(source), 0.0, options.end))
        finally:
            discard(piece)
    else:
        for _ in posed():
            pass
    files.append(_animation(puppet, done, folder / "transfer.glb"))
    return TransferResult(files, len(done.times), puppet.face, puppet.texture)


def _sound(source: Path) -> Path | None:
    """The file whose sound a film gets: numbers have none, nor have pictures that stand for a clip."""
    return source if source.suffix.lower() != ".npz" and open_clip(source).facts.audio else None


def _animation(puppet: Puppet, done: _Performance, path: Path) -> Path:
    face = puppet.face
    rig = face.rig(neutral=True, iris=puppet.iris)
    expression = torch.stack(done.expressions)
    eyes = eye_rotations(face.head, expression)
    spare = np.zeros((len(expression), len(rig.morph_names) - expression.shape[1]), np.float32)
    turns = {"jaw": torch.stack(done.jaws).double().numpy(), "left_eye": eyes[:, 0], "right_eye": eyes[:, 1]}
    animation = Animation(
        times=np.array(done.times) - done.times[0],
        weights=np.concatenate([expression.numpy(), spare], axis=1),
        rotations={
            "neck": np.stack(done.rotations),
            **{joint: Rotation.from_rotvec(turn).as_matrix() for joint, turn in turns.items()},
        },
    )
    return write_animated_glb(path, face.riggable_mesh(neutral=True, texture=puppet.texture), rig, animation)


def _side_by_side(panels: list[np.ndarray]) -> np.ndarray:
    gap = np.full((PANEL, GAP, 3), 255, np.uint8)
    parts: list[np.ndarray] = []
    for panel in panels:
        parts += [gap, panel] if parts else [panel]
    return np.concatenate(parts, axis=1)
