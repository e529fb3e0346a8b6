"""Blender add-on: a track onto any mesh whose shape keys have ARKit's names.

Install: Edit > Preferences > Add-ons > Install from Disk, this file. Then select the head (all of its meshes, and its
armature if its bones shall turn) and choose File > Import > ARKit track. It reads `parameters.csv` of
`tokenface track`, recordings of Live Link Face (the same columns), and `parameters.json` of `tokenface reconstruct`
(one key per channel).

Blender 3.6 or newer; nothing else is needed. Everything above `register` runs without Blender.
"""

import csv
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

bl_info = {
    "name": "ARKit track (TokenFace, Live Link Face)",
    "author": "The TokenFace authors",
    "version": (1, 0, 0),
    "blender": (3, 6, 0),
    "location": "File > Import > ARKit track (.csv, .json)",
    "description": "Key a track of ARKit's 52 actions onto the selected meshes",
    "category": "Import-Export",
}

SIDES = ("Left", "Right")
_PAIRED = (
    *("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide", "jaw", "mouth"),
    *("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthPress", "mouthLowerDown", "mouthUpperUp"),
    *("browDown", "browOuterUp", "cheekSquint", "noseSneer"),
)
_SINGLE = (
    *("jawForward", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthRollLower", "mouthRollUpper"),
    *("mouthShrugLower", "mouthShrugUpper", "browInnerUp", "cheekPuff", "tongueOut"),
)
ACTIONS = (*(action + side for action in _PAIRED for side in SIDES), *_SINGLE)
"""ARKit's 52 names."""
HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")
USUAL_RATE = 30.0
"""Frames per second of a file that does not say: shorter than a second, and alone."""


class TrackError(ValueError):
    """A file that is no track; one line for Blender's status bar."""


@dataclass
class Track:
    """times: [N] seconds from the first frame.  weights: action → [N].  head: [N] yaw, pitch, roll in radians (to the
    subject's left, up, anticlockwise as seen from the front), or empty."""

    times: list[float]
    weights: dict[str, list[float]]
    head: list[tuple[float, float, float]] = field(default_factory=list)


# ---- files -----------------------------------------------------------------------------------------------------------


def read_track(path: str, rate: float = 0.0) -> Track:
    """The track of a file.

    Args:
        rate: frames per second of a CSV's timecodes; 0: of `track.json` beside it, else of the timecodes themselves.
    Raises:
        TrackError: not a track.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrackError(f"'{file.name}' cannot be read ({error})") from error
    if file.suffix.lower() == ".json":
        return _from_json(file.name, text)
    return _from_csv(file.name, text, rate or _clip_rate(file))


def _from_json(name: str, text: str) -> Track:
    """The first face of a `parameters.json`."""
    try:
        face = json.loads(text)["faces"][0]
        weights = {action: [float(face["arkit"][action])] for action in ACTIONS}
        angles = face["camera"]["angles_degrees"]
        head = tuple(math.radians(float(angles[axis])) for axis in ("yaw", "pitch", "roll"))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise TrackError(f"'{name}' has no face with ARKit weights; write it with 'tokenface reconstruct'") from error
    return Track([0.0], weights, [head])  # type: ignore[list-item]


def _from_csv(name: str, text: str, rate: float) -> Track:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    columns = {canonical(title): number for number, title in enumerate(rows[0])} if rows else {}
    found = [action for action in ACTIONS if action in columns]
    if "Timecode" not in (rows[0] if rows else ()) or not found:
        raise TrackError(f"'{name}' has no Timecode and ARKit columns; write it with 'tokenface track'")
    if len(rows) == 1:
        raise TrackError(f"'{name}' has no frames")
    place = rows[0].index("Timecode")
    try:
        codes = [parse_timecode(row[place]) for row in rows[1:]]
        weights = {action: [float(row[columns[action]]) for row in rows[1:]] for action in found}
        turns = [rows[0].index(title) for title in HEAD if title in rows[0]]
        head = [tuple(float(row[number]) for number in turns) for row in rows[1:]] if len(turns) == 3 else []
    except (ValueError, IndexError) as error:
        raise TrackError(f"'{name}' is damaged ({error})") from error
    rate = rate or rate_of(codes) or USUAL_RATE
    times = [seconds + frames / rate for seconds, frames in codes]
    return Track([time - times[0] for time in times], weights, head)  # type: ignore[arg-type]


def _clip_rate(file: Path) -> float:
    """Frames per second by `tokenface track`, in the clip's folder, one above the person's; 0: no such file."""
    try:
        return float(json.loads((file.parent.parent / "track.json").read_text())["frames_per_second"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def parse_timecode(text: str) -> tuple[int, float]:
    """`HH:MM:SS:FF.mmm` → whole seconds, and frames of that second."""
    hours, minutes, seconds, frames = text.strip().split(":")
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds), float(frames)


def rate_of(codes: Sequence[tuple[int, float]]) -> float:
    """Frames per second of timecodes: where a second ends, the frames that were counted, and one step more, are the
    rate. 0: no second ends, so nothing can be told."""
    pairs = list(itertools.pairwise(codes))
    steps = sorted(b[1] - a[1] for a, b in pairs if a[0] == b[0])
    if not steps:
        return 0.0
    step = steps[len(steps) // 2]
    ends = sorted(a[1] + step - b[1] for a, b in pairs if b[0] == a[0] + 1)
    return ends[len(ends) // 2] if ends else 0.0


# ---- names -----------------------------------------------------------------------------------------------------------


def canonical(name: str) -> str:
    """ARKit's name of a shape key or column; the name as it is where it is none.

    `MouthSmileLeft`, `mouthSmile_L`, `Head.mouthSmileLeft` and `rig:mouth smile.L` are all `mouthSmileLeft`.
    """
    parts = name.lower().replace(":", ".").split(".")
    last = "".join(parts[-2:]) if parts[-1] in ("l", "r") else parts[-1]
    plain = "".join(letter for letter in last if letter.isalnum())
    for candidate in (plain, plain[:-1] + "left" if plain.endswith("l") else "",
                      plain[:-1] + "right" if plain.endswith("r") else ""):  # fmt: skip
        if candidate in _PLAIN:
            return _PLAIN[candidate]
    return name


_PLAIN = {action.lower(): action for action in ACTIONS}


# ---- turning ---------------------------------------------------------------------------------------------------------

Quaternion = tuple[float, float, float, float]


def head_turn(yaw: float, pitch: float, roll: float) -> Quaternion:
    """w, x, y, z of a head that faces Blender's −Y with Z up. Radians; pitch first, then yaw, then roll."""
    return product(
        product(about((0.0, -1.0, 0.0), roll), about((0.0, 0.0, 1.0), yaw)), about((1.0, 0.0, 0.0), -pitch)
    )  # fmt: skip


def about(axis: tuple[float, float, float], angle: float) -> Quaternion:
    """Rotation about a unit axis."""
    sine = math.sin(angle / 2)
    return (math.cos(angle / 2), axis[0] * sine, axis[1] * sine, axis[2] * sine)


def product(a: Quaternion, b: Quaternion) -> Quaternion:
    """Rotation by b, then by a."""
    return (
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    )


def in_bone(turn: Quaternion, rest: Quaternion) -> Quaternion:
    """A turn given in the armature's axes, in the axes of a bone whose rest orientation is `rest`."""
    w, x, y, z = rest
    return product(product((w, -x, -y, -z), turn), rest)


# ---- keyframes -------------------------------------------------------------------------------------------------------


def frames_of(track: Track, start: float, scene_rate: float) -> list[float]:
    """[N] frames of the scene (Blender takes fractions), so that the track plays at its own speed."""
    return [start + time * scene_rate for time in track.times]


def key_shapes(objects: Iterable[Any], track: Track, frames: Sequence[float]) -> int:
    """Key the weights onto every shape key that has one of ARKit's names; returns how many shape keys that were.

    A key's upper limit is raised where the track goes beyond it.
    """
    count = 0
    for item in objects:
        keys = getattr(item.data, "shape_keys", None)
        for key in keys.key_blocks if keys is not None else ():
            values = track.weights.get(canonical(key.name))
            if values is None:
                continue
            key.slider_max = max(key.slider_max, *values)
            for frame, value in zip(frames, values, strict=True):
                key.value = value
                key.keyframe_insert("value", frame=frame)
            count += 1
    return count


def key_head(target: Any, track: Track, frames: Sequence[float], rest: Quaternion = (1.0, 0.0, 0.0, 0.0)) -> None:
    """Key the head's turning onto an object or pose bone. rest: orientation of a bone in its armature."""
    target.rotation_mode = "QUATERNION"
    last: Quaternion = (1.0, 0.0, 0.0, 0.0)
    for frame, angles in zip(frames, track.head, strict=True):
        turn = in_bone(head_turn(*angles), rest)
        if sum(a * b for a, b in zip(turn, last, strict=True)) < 0:  # q and −q are one turn, but not between keys
            turn = tuple(-part for part in turn)  # type: ignore[assignment]
        target.rotation_quaternion = last = turn
        target.keyframe_insert("rotation_quaternion", frame=frame)


def bone_of(objects: Iterable[Any], name: str) -> tuple[Any, Quaternion] | None:
    """The pose bone of that name in the selected armatures, and its rest orientation."""
    for item in objects:
        bone = item.pose.bones.get(name) if getattr(item, "pose", None) is not None else None
        if bone is not None:
            rest = bone.bone.matrix_local.to_quaternion()
            return bone, (rest.w, rest.x, rest.y, rest.z)
    return None


def import_track(
    context: Any, path: str, rate: float = 0.0, turn: str = "NONE", bone: str = "neck", start: int | None = None
) -> str:
    """Key the track of a file onto the selection; returns what was done, in words.

    Args:
        turn: "NONE"; "BONE": the selected armature's bone of this name; "OBJECT": the active object.
        start: frame of the scene; None: the current one.
    Raises:
        TrackError: no track, or nothing selected that it fits.
    """
    track = read_track(path, rate)
    scene, objects = context.scene, list(context.selected_objects)
    first = scene.frame_current if start is None else start
    frames = frames_of(track, first, scene.render.fps / scene.render.fps_base)
    target, rest = None, (1.0, 0.0, 0.0, 0.0)
    if turn != "NONE" and not track.head:
        raise TrackError(f"'{Path(path).name}' says nothing of the head's turning; choose to leave the head")
    if turn == "BONE":
        found = bone_of(objects, bone)
        if found is None:
            raise TrackError(f"no selected armature has a bone '{bone}'; select it, or name another bone")
        target, rest = found
    elif turn == "OBJECT":
        target = context.active_object
        if target is None:
            raise TrackError("no object is active; click the head")
    count = key_shapes(objects, track, frames)
    if not count:
        raise TrackError("no selected mesh has shape keys with ARKit's names; select the head")
    if target is not None:
        key_head(target, track, frames, rest)
    scene.frame_end = max(scene.frame_end, math.ceil(frames[-1]))
    return f"{len(frames)} frames on {count} shape keys" + ("" if target is None else " and the head")


# ---- Blender ---------------------------------------------------------------------------------------------------------

_registered: list[Any] = []


def _operator() -> Any:
    """The operator's class; made here, because it needs Blender."""
    import bpy
    from bpy_extras.io_utils import ImportHelper

    class ImportArkitTrack(bpy.types.Operator, ImportHelper):
        """Key a track of ARKit's actions onto the selected meshes"""

        bl_idname = "import_anim.arkit_track"
        bl_label = "Import ARKit track"
        bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - Blender's form

        filename_ext = ".csv"
        filter_glob: bpy.props.StringProperty(default="*.csv;*.json", options={"HIDDEN"})  # type: ignore[valid-type]
        rate: bpy.props.FloatProperty(  # type: ignore[valid-type]
            name="Frames per second", default=0.0, min=0.0, description="Of the file; 0: as it says itself"
        )
        turn: bpy.props.EnumProperty(  # type: ignore[valid-type]
            name="Head",
            items=[
                ("NONE", "Leave it", "Expression alone"),
                ("BONE", "Turn a bone", "Of the selected armature"),
                ("OBJECT", "Turn the object", "The active one"),
            ],
        )
        bone: bpy.props.StringProperty(name="Bone", default="neck")  # type: ignore[valid-type]

        def execute(self, context):
            try:
                done = import_track(context, self.filepath, self.rate, self.turn, self.bone)
            except TrackError as error:
                self.report({"ERROR"}, str(error))
                return {"CANCELLED"}
            self.report({"INFO"}, done)
            return {"FINISHED"}

    return ImportArkitTrack


def _menu(self: Any, context: Any) -> None:
    self.layout.operator("import_anim.arkit_track", text="ARKit track (.csv, .json)")


def register() -> None:
    """Called by Blender when the add-on is switched on."""
    import bpy

    _registered.append(_operator())
    bpy.utils.register_class(_registered[-1])
    bpy.types.TOPBAR_MT_file_import.append(_menu)


def unregister() -> None:
    """Called by Blender when it is switched off."""
    import bpy

    bpy.types.TOPBAR_MT_file_import.remove(_menu)
    bpy.utils.unregister_class(_registered.pop())
