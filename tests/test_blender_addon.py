"""The Blender add-on of examples/: its files, times, names and turning without Blender, its keyframes on a stand-in."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tokenface.data.sampling import rotation_from_angles
from tokenface.formats.live_link import LiveLinkRow, write_live_link
from tokenface.head.arkit import ARKIT_NAMES

ADDON = Path(__file__).parents[1] / "examples" / "blender_arkit_track.py"
Z_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)
"""Head space to Blender's axes, as its glTF importer has it."""


@pytest.fixture(scope="module")
def addon() -> ModuleType:
    assert "bpy" not in sys.modules  # the pure parts need no Blender
    spec = importlib.util.spec_from_file_location("blender_arkit_track", ADDON)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def written(path: Path, times: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """A parameters.csv as `tokenface track` writes it; returns its weights [N, 52] and angles [N, 9]."""
    random = np.random.default_rng(0)
    weights, angles = random.uniform(size=(len(times), 52)), random.normal(size=(len(times), 9)) * 0.3
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        write_live_link(file, map(LiveLinkRow, times, weights, angles), rate)
    return weights, angles


# ---- files and times -------------------------------------------------------------------------------------------------


def test_the_names_are_arkits(addon: ModuleType) -> None:
    assert sorted(addon.ACTIONS) == sorted(ARKIT_NAMES)


@pytest.mark.parametrize("rate", [24.0, 25.0, 30000 / 1001, 60.0])
def test_a_tracks_weights_and_times_come_back(addon: ModuleType, tmp_path: Path, rate: float) -> None:
    times = 3.2 + np.arange(100) / rate
    times = np.delete(times, [20, 21, 22, 60])  # nobody was seen there
    weights, angles = written(tmp_path / "parameters.csv", times, rate)
    track = addon.read_track(str(tmp_path / "parameters.csv"))
    np.testing.assert_allclose(track.times, times - times[0], atol=2e-3)
    for number, name in enumerate(ARKIT_NAMES):
        np.testing.assert_allclose(track.weights[name], weights[:, number], atol=1e-7)
    np.testing.assert_allclose(track.head, angles[:, :3], atol=1e-7)
    frames = addon.frames_of(track, 101, 24)
    assert frames[0] == 101
    assert frames[-1] == pytest.approx(101 + (times[-1] - times[0]) * 24, abs=0.05)


def test_a_short_clip_has_the_rate_of_its_folder_or_the_one_that_is_said(addon: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "clip" / "person_00" / "parameters.csv"
    written(file, np.arange(10) / 50, 50.0)
    assert addon.read_track(str(file)).times[-1] == pytest.approx(9 / 30, abs=1e-3)  # nothing to tell it by
    assert addon.read_track(str(file), rate=50).times[-1] == pytest.approx(9 / 50, abs=1e-3)
    (tmp_path / "clip" / "track.json").write_text(json.dumps({"frames_per_second": 50.0}))
    assert addon.read_track(str(file)).times[-1] == pytest.approx(9 / 50, abs=1e-3)


def test_a_photos_parameters_are_a_track_of_one_frame(addon: ModuleType, tmp_path: Path) -> None:
    angles = {"yaw": 90.0, "pitch": 0.0, "roll": -45.0}
    face = {"arkit": {name: number / 52 for number, name in enumerate(ARKIT_NAMES)}}
    (tmp_path / "a.json").write_text(json.dumps({"faces": [{**face, "camera": {"angles_degrees": angles}}]}))
    track = addon.read_track(str(tmp_path / "a.json"))
    assert track.times == [0.0]
    assert track.weights["jawOpen"] == [ARKIT_NAMES.index("jawOpen") / 52]
    np.testing.assert_allclose(track.head[0], np.radians([90, 0, -45]))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", ""),
        ("a.csv", "name,age\nAda,36\n"),
        ("a.csv", "Timecode,JawOpen\n"),
        ("a.csv", "Timecode,JawOpen\n00:00:00:00.000,wide\n"),
        ("a.csv", "Timecode,JawOpen\nnoon,0.5\n"),
        ("a.json", "{"),
        ("a.json", '{"faces": []}'),
        ("missing.csv", None),
    ],
)
def test_what_is_no_track_is_said_in_one_line(addon: ModuleType, tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(addon.TrackError, match=name) as error:
        addon.read_track(str(tmp_path / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mouthSmileLeft", "mouthSmileLeft"),
        ("MouthSmileLeft", "mouthSmileLeft"),
        ("mouthSmile_L", "mouthSmileLeft"),
        ("rig:mouth smile.R", "mouthSmileRight"),
        ("rig:nose.R", "rig:nose.R"),
        ("Head.mouthSmile_R", "mouthSmileRight"),
        ("mouthFunnel", "mouthFunnel"),
        ("jawL", "jawLeft"),
        ("Basis", "Basis"),
        ("L", "L"),
    ],
)
def test_shape_keys_are_known_by_their_usual_spellings(addon: ModuleType, name: str, expected: str) -> None:
    assert addon.canonical(name) == expected


# ---- turning ---------------------------------------------------------------------------------------------------------


def matrix(quaternion: tuple[float, ...]) -> np.ndarray:
    w, x, y, z = quaternion
    return Rotation.from_quat([x, y, z, w]).as_matrix()


def test_a_head_turns_as_ours_does(addon: ModuleType) -> None:
    for angles in np.random.default_rng(1).uniform(-1.2, 1.2, size=(20, 3)):
        ours = rotation_from_angles(*(torch.tensor([float(angle)], dtype=torch.float64) for angle in angles))[0].numpy()
        np.testing.assert_allclose(matrix(addon.head_turn(*angles)), Z_UP @ ours @ Z_UP.T, atol=1e-9)


def test_a_bone_turns_in_its_own_axes(addon: ModuleType) -> None:
    turn, rest = addon.head_turn(0.4, -0.2, 0.1), addon.about((0.0, 1.0, 0.0), 0.7)
    # Blender turns a bone by rest · pose · rest⁻¹ in its armature
    np.testing.assert_allclose(
        matrix(rest) @ matrix(addon.in_bone(turn, rest)) @ matrix(rest).T, matrix(turn), atol=1e-9
    )


# ---- keyframes, on what stands for Blender ---------------------------------------------------------------------------


@dataclass
class Keyed:
    """A shape key, object or pose bone: remembers its value at each keyframe."""

    name: str
    value: float = 0.0
    slider_max: float = 1.0
    rotation_mode: str = "XYZ"
    rotation_quaternion: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
    keys: dict[str, dict[float, Any]] = field(default_factory=dict)

    def keyframe_insert(self, path: str, frame: float) -> None:
        self.keys.setdefault(path, {})[frame] = getattr(self, path)


def mesh_with(*names: str) -> SimpleNamespace:
    blocks = [Keyed(name) for name in names]
    return SimpleNamespace(data=SimpleNamespace(shape_keys=SimpleNamespace(key_blocks=blocks)), pose=None)


def armature_with(name: str, rest: tuple[float, ...]) -> SimpleNamespace:
    bone = Keyed(name)
    quaternion = SimpleNamespace(**dict(zip("wxyz", rest, strict=True)))
    bone.bone = SimpleNamespace(matrix_local=SimpleNamespace(to_quaternion=lambda: quaternion))  # type: ignore[attr-defined]
    return SimpleNamespace(data=SimpleNamespace(), pose=SimpleNamespace(bones={name: bone}))


def context_of(*objects: Any, active: Any = None) -> SimpleNamespace:
    render = SimpleNamespace(fps=24, fps_base=1.001)
    return SimpleNamespace(
        selected_objects=list(objects),
        active_object=active,
        scene=SimpleNamespace(frame_current=10, frame_end=12, render=render),
    )


def test_every_mesh_and_the_bone_get_their_keys(addon: ModuleType, tmp_path: Path) -> None:
    times = np.arange(60) / 30
    weights, angles = written(tmp_path / "a.csv", times, 30.0)
    skin, teeth = mesh_with("Basis", "jawOpen", "mouthSmile_L", "own"), mesh_with("jawOpen")
    rest = addon.about((1.0, 0.0, 0.0), 1.5)
    armature = armature_with("neck", rest)
    context = context_of(skin, teeth, armature)
    said = addon.import_track(context, str(tmp_path / "a.csv"), turn="BONE")
    assert said == "60 frames on 3 shape keys and the head"
    basis, jaw, smile, own = skin.data.shape_keys.key_blocks
    assert not basis.keys
    assert not own.keys
    for key, name in ((jaw, "jawOpen"), (smile, "mouthSmileLeft"), (teeth.data.shape_keys.key_blocks[0], "jawOpen")):
        frames, values = zip(*key.keys["value"].items(), strict=True)
        np.testing.assert_allclose(frames, 10 + times * 24 / 1.001, atol=1e-3)
        np.testing.assert_allclose(values, weights[:, ARKIT_NAMES.index(name)], atol=1e-7)
    bone = armature.pose.bones["neck"]
    assert bone.rotation_mode == "QUATERNION"
    for turned, wanted in zip(bone.keys["rotation_quaternion"].values(), angles[:, :3], strict=True):
        in_armature = matrix(rest) @ matrix(turned) @ matrix(rest).T
        np.testing.assert_allclose(in_armature, matrix(addon.head_turn(*wanted)), atol=1e-6)
    assert context.scene.frame_end == int(np.ceil(10 + times[-1] * 24 / 1.001))


def test_keys_of_a_turning_head_do_not_change_sides(addon: ModuleType) -> None:
    steps = np.linspace(0, 2 * np.pi, 30)
    head = Keyed("head")
    addon.key_head(head, addon.Track(list(steps), {}, [(step, 0.0, 0.0) for step in steps]), list(steps))
    turns = np.array(list(head.keys["rotation_quaternion"].values()))
    assert (np.einsum("ij,ij->i", turns[1:], turns[:-1]) > 0.9).all()


def test_what_does_not_fit_is_said(addon: ModuleType, tmp_path: Path) -> None:
    written(tmp_path / "a.csv", np.arange(3) / 30, 30.0)
    (tmp_path / "b.csv").write_text("Timecode,JawOpen\n00:00:00:00.000,1.5\n")
    path, skin = str(tmp_path / "a.csv"), mesh_with("jawOpen")
    with pytest.raises(addon.TrackError, match="shape keys with ARKit's names"):
        addon.import_track(context_of(mesh_with("Basis", "Key 1")), path)
    with pytest.raises(addon.TrackError, match="no selected armature has a bone 'neck'"):
        addon.import_track(context_of(skin), path, turn="BONE")
    with pytest.raises(addon.TrackError, match="no object is active"):
        addon.import_track(context_of(skin), path, turn="OBJECT")
    with pytest.raises(addon.TrackError, match="says nothing of the head"):
        addon.import_track(context_of(skin), str(tmp_path / "b.csv"), turn="OBJECT")
    assert not skin.data.shape_keys.key_blocks[0].keys  # nothing half done
    assert addon.import_track(context_of(skin), str(tmp_path / "b.csv")) == "1 frames on 1 shape keys"
    assert skin.data.shape_keys.key_blocks[0].slider_max == 1.5


def test_blender_gets_an_operator_and_a_menu_entry(
    addon: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes: list[type] = []
    menu: list[Any] = []
    bpy = SimpleNamespace(
        types=SimpleNamespace(Operator=type("Operator", (), {}), TOPBAR_MT_file_import=menu),
        props=SimpleNamespace(
            **{f"{kind}Property": lambda **facts: facts.get("default", "") for kind in ("String", "Float", "Enum")}
        ),
        utils=SimpleNamespace(register_class=classes.append, unregister_class=classes.remove),
    )
    monkeypatch.setitem(sys.modules, "bpy", bpy)
    monkeypatch.setitem(sys.modules, "bpy_extras", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "bpy_extras.io_utils", SimpleNamespace(ImportHelper=type("ImportHelper", (), {})))
    addon.register()
    assert len(menu) == 1
    (operator,) = classes
    assert {"rate", "turn", "bone"} <= set(operator.__annotations__)
    written(tmp_path / "a.csv", np.arange(3) / 30, 30.0)
    said: list[tuple[set[str], str]] = []
    one = operator()
    one.report = lambda kind, text: said.append((kind, text))  # type: ignore[attr-defined]
    one.filepath, one.rate, one.turn, one.bone = str(tmp_path / "a.csv"), 0.0, "NONE", "neck"  # type: ignore[attr-defined]
    assert one.execute(context_of(mesh_with("jawOpen"))) == {"FINISHED"}  # type: ignore[attr-defined]
    assert one.execute(context_of()) == {"CANCELLED"}  # type: ignore[attr-defined]
    assert [kind for kind, _ in said] == [{"INFO"}, {"ERROR"}]
    addon.unregister()
    assert not classes
    assert not menu
