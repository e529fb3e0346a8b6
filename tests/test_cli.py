"""The command line: files, exit codes, resume, and every kind of bad input."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from stand_ins import photo_with_marks, stand_in_model
from toy_head import toy_head_data

from tokenface import cli
from tokenface.head.model import HeadModel
from tokenface.images.loading import ImageItem
from tokenface.jobs import output_tree as outputs
from tokenface.jobs.output_tree import OutputTree, Settings, safe_name
from tokenface.model import Reconstructor
from tokenface.weights import WEIGHTS_VARIABLE


class Console:
    """Runs the command line in this process; counts the photos that reached the detector."""

    def __init__(self, capsys: pytest.CaptureFixture[str], model: Reconstructor) -> None:
        self.capsys, self.model = capsys, model

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        code = cli.run([str(argument) for argument in arguments])
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    @property
    def looked_at(self) -> int:
        return len(self.model.detector.looked_at)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel(toy_head_data())


@pytest.fixture
def tokenface(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, head: HeadModel
) -> Console:
    monkeypatch.delenv("TOKENFACE_DEBUG", raising=False)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"stand-in")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(weights))
    model = stand_in_model(head)
    monkeypatch.setattr(Reconstructor, "load", classmethod(lambda cls, *_: model))
    return Console(capsys, model)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    save(folder / "one.png", (60, 40, 40))
    save(folder / "two.png", (10, 10, 30), (90, 60, 40))
    return folder


def save(path: Path, *marks: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo_with_marks(*marks)).save(path, quality=100)
    return path


def one_error(text: str) -> str:
    """stderr must be one line per error, without a traceback."""
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    assert lines[0].startswith("error: ")
    return lines[0]


# --- the ordinary case


def test_a_photo_becomes_files_of_every_format(tokenface: Console, photos: Path, tmp_path: Path) -> None:
    code, text, errors = tokenface("reconstruct", photos / "two.png", "-o", tmp_path / "out")
    assert (code, errors) == (0, "")
    assert "2 faces" in text
    folder = tmp_path / "out" / "two"
    expected = {f"face_0{i}.{suffix}" for i in range(2) for suffix in ("glb", "obj", "mtl", "png", "ply")}
    visible = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert visible == expected | {"parameters.json", "overlay.png"}
    for name in ("face_00.glb", "face_01.obj", "face_01.ply"):
        assert len(trimesh.load(folder / name, force="mesh").faces) > 500
    document = json.loads((folder / "parameters.json").read_text())
    assert document["photo"] == {"name": "two.png", "width": 160, "height": 120}
    assert [face["index"] for face in document["faces"]] == [0, 1]
    assert Image.open(folder / "overlay.png").width > 300


def test_formats_are_those_asked_for(tokenface: Console, photos: Path, tmp_path: Path) -> None:
    options = ("--format", "ply,json", "--no-overlay", "--neutral", "--max-faces", "1")
    assert tokenface("reconstruct", photos / "two.png", "-o", tmp_path / "out", *options)[0] == 0
    names = {path.name for path in (tmp_path / "out" / "two").iterdir() if not path.name.startswith(".")}
    assert names == {"face_00.ply", "face_00_neutral.ply", "parameters.json"}


def test_maps_are_written_beside_the_meshes_and_belong_to_the_settings(
    tokenface: Console, photos: Path, tmp_path: Path
) -> None:
    command = ("reconstruct", photos / "two.png", "-o", tmp_path / "out", "-f", "json", "--no-overlay")
    assert tokenface(*command)[0] == 0
    assert tokenface(*command, "--maps", "depth,npz")[0] == 0
    assert tokenface.looked_at == 2  # done again
    names = {path.name for path in (tmp_path / "out" / "two").iterdir() if not path.name.startswith(".")}
    faces = ("face_00", "face_01")
    assert names == {"parameters.json", *(f"{face}_{end}" for face in faces for end in ("depth.png", "maps.npz"))}
    assert tokenface(*command)[0] == 0
    assert [path.name for path in (tmp_path / "out" / "two").glob("face_*")] == []  # nothing of the other run is left
    code, _, errors = tokenface(*command, "--maps", "normal")
    assert code == 1
    assert "unknown map 'normal'" in one_error(errors)
    assert "tables know no --maps" in one_error(tokenface(*command, "-f", "npz", "--maps", "depth")[2])


def test_boxes_of_the_caller_are_used(tokenface: Console, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps({"one.png": [[60, 40, 100, 80]], "two": []}))
    options = ("--boxes", tmp_path / "boxes.json", "-f", "json", "--no-overlay")
    code, _, errors = tokenface("reconstruct", photos, "-o", tmp_path / "out", *options)
    assert code == 1  # two.png was said to have no face
    assert "no face found in 'two'" in one_error(errors)
    assert tokenface.looked_at == 0
    assert json.loads((tmp_path / "out/one/parameters.json").read_text())["faces"][0]["box"] == [60, 40, 100, 80]


# --- resume


def test_finished_photos_are_skipped_until_something_changes(tokenface: Console, photos: Path, tmp_path: Path) -> None:
    command = ("reconstruct", photos, "-o", tmp_path / "out", "-f", "ply", "--texture", "model", "--no-overlay")
    assert tokenface(*command)[0] == 0
    assert tokenface.looked_at == 2
    code, text, _ = tokenface(*command)
    assert code == 0
    assert tokenface.looked_at == 2
    assert "done before, skipped" in text
    save(photos / "three.png", (60, 40, 40))
    tokenface(*command)
    assert tokenface.looked_at == 3  # the new one
    save(photos / "one.png", (50, 30, 50))
    tokenface(*command)
    assert tokenface.looked_at == 4  # the changed one
    (tmp_path / "out" / "two" / "face_01.ply").unlink()
    tokenface(*command)
    assert tokenface.looked_at == 5  # the one with a file missing
    tokenface(*command, "--max-faces", "1")
    assert tokenface.looked_at == 8  # other settings: all
    assert not (tmp_path / "out" / "two" / "face_01.ply").exists()
    (tmp_path / "weights.safetensors").write_bytes(b"other weights")
    tokenface(*command, "--max-faces", "1")
    assert tokenface.looked_at == 11
    tokenface(*command, "--max-faces", "1", "--overwrite")
    assert tokenface.looked_at == 14


def test_a_killed_run_is_taken_up(
    tokenface: Console, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("reconstruct", photos, "-o", tmp_path / "out", "--batch", "1", "-f", "ply", "--no-overlay")
    real, written = OutputTree.write, []

    def interrupted(self: OutputTree, result):
        if written:
            raise KeyboardInterrupt
        written.append(result.item.name)
        return real(self, result)

    monkeypatch.setattr(OutputTree, "write", interrupted)
    code, _, errors = tokenface(*command)
    assert code == 130
    assert "run the same command again" in one_error(errors)
    monkeypatch.setattr(OutputTree, "write", real)
    before = (tmp_path / "out" / written[0] / "face_00.ply").stat().st_mtime_ns
    assert tokenface(*command)[0] == 0
    assert (tmp_path / "out" / written[0] / "face_00.ply").stat().st_mtime_ns == before
    assert (tmp_path / "out" / "two" / "face_01.ply").exists()


# --- names


def test_same_names_never_share_a_folder(tokenface: Console, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "a.png", (60, 40, 40))
    save(folder / "a.jpg", (60, 40, 40))
    save(folder / "A.bmp", (60, 40, 40))
    save(folder / "sub" / "a.png", (60, 40, 40))
    save(tmp_path / "elsewhere" / "a.png", (60, 40, 40))
    command = (
        "reconstruct",
        folder,
        tmp_path / "elsewhere",
        "-o",
        tmp_path / "out",
        "-r",
        "-f",
        "json",
        "--no-overlay",
    )
    assert tokenface(*command)[0] == 0
    owners = [
        (path.parent.relative_to(tmp_path / "out").as_posix(), json.loads(path.read_text())["owner"])
        for path in (tmp_path / "out").rglob(outputs.MARKER)
    ]
    assert len({owner for _, owner in owners}) == 5
    assert len({name.casefold() for name, _ in owners}) == 5
    assert "sub/a" in [name for name, _ in owners]
    assert tokenface(*command)[0] == 0
    assert tokenface.looked_at == 5  # every photo found its own folder again


def test_a_foreign_folder_is_left_alone(tokenface: Console, photos: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "one" / "overlay.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert tokenface("reconstruct", photos / "one.png", "-o", tmp_path / "out", "-f", "json")[0] == 0
    assert mine.read_text() == "mine"
    assert (tmp_path / "out" / "one_png" / "parameters.json").exists()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("photo 1", "photo 1"),
        ("a/b\\c:d", "a_b_c_d"),
        ("..", "photo"),
        (".hidden", "hidden"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("Jürgen 田中", "Jürgen 田中"),
        ("x\ny\x00", "x_y_"),
        ("trailing. ", "trailing"),
    ],
)
def test_names_are_safe_everywhere(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_long_names_stay_different() -> None:
    names = {safe_name("ü" * 200 + str(i)) for i in range(3)}
    assert len(names) == 3
    assert max(len(name.encode()) for name in names) <= 80


def test_nothing_is_written_outside_the_output_folder(tokenface: Console, photos: Path, tmp_path: Path) -> None:
    tree = OutputTree(tmp_path / "out", Settings())
    item = ImageItem("../../../evil", str(photos / "one.png"))
    assert tree.folder(item).resolve().is_relative_to((tmp_path / "out").resolve())
    (tmp_path / "target").mkdir()
    (tmp_path / "out" / "one").symlink_to(tmp_path / "target")
    code, _, errors = tokenface("reconstruct", photos / "one.png", "-o", tmp_path / "out")
    assert code == 1
    assert "leads outside" in one_error(errors)
    assert not list((tmp_path / "target").iterdir())


# --- bad input


def test_no_face_is_reported_and_the_others_are_done(tokenface: Console, photos: Path, tmp_path: Path) -> None:
    save(photos / "empty.png")
    code, text, errors = tokenface("reconstruct", photos, "-o", tmp_path / "out", "-f", "json", "--no-overlay")
    assert code == 1
    assert "no face found in 'empty'" in one_error(errors)
    assert "no face found" in text
    assert (tmp_path / "out/one/parameters.json").exists()
    assert not (tmp_path / "out/empty").exists()


def test_bad_photos_are_one_line_each_and_the_others_are_done(tokenface: Console, photos: Path, tmp_path: Path) -> None:
    (photos / "zero.jpg").write_bytes(b"")
    (photos / "text.png").write_bytes(b"hello")
    save(photos / "cut.png", (60, 40, 40))
    (photos / "cut.png").write_bytes((photos / "cut.png").read_bytes()[:120])
    Image.new("1", (2000, 2000)).save(photos / "bomb.png")
    code, _, errors = tokenface(
        "reconstruct", photos, photos / "missing.jpg", "-o", tmp_path / "out", "-f", "json", "--max-pixels", 1_000_000
    )
    assert code == 1
    lines = errors.strip().splitlines()
    assert len(lines) == 5
    for word in ("zero", "text", "cut", "bomb", "missing"):
        assert sum(word in line for line in lines) == 1, (word, errors)
    assert "Traceback" not in errors
    assert (tmp_path / "out/one/parameters.json").exists()
    assert (tmp_path / "out/two/parameters.json").exists()


def test_an_empty_folder_is_nothing_to_do(tokenface: Console, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    code, _, errors = tokenface("reconstruct", tmp_path / "none", "-o", tmp_path / "out")
    assert code == 2
    assert "no pictures in folder" in one_error(errors)


def test_a_missing_file_alone_fails(tokenface: Console, tmp_path: Path) -> None:
    code, _, errors = tokenface("reconstruct", tmp_path / "none.jpg", "-o", tmp_path / "out")
    assert code == 1
    assert "does not exist" in one_error(errors)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["reconstruct"], 2, "Missing argument"),
        (["recontruct", "a.png"], 2, "No such command"),
        (["reconstruct", "a.png", "--batch", "0"], 2, "--batch"),
        (["reconstruct", "a.png", "--no-such-option"], 2, "--no-such-option"),
        (["reconstruct", "a.png", "--format", "fbx"], 1, "unknown format 'fbx'"),
        (["reconstruct", "a.png", "--weights", "nope"], 1, "no weights named 'nope'"),
        (["reconstruct", "a.png", "--boxes", "nope.json"], 1, "cannot read boxes"),
        (["head", "add", "smpl", "x"], 1, "not from 'smpl'"),
    ],
)
def test_wrong_usage_is_one_line(
    tokenface: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.png", (60, 40, 40))
    actual, _, errors = tokenface(*arguments)
    assert actual == code
    assert words in one_error(errors)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["[1, 2]", "{", '{"one.png": [[1, 2]]}', '{"stranger.png": []}'])
def test_wrong_boxes_are_one_line(tokenface: Console, photos: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "boxes.json").write_text(content)
    code, _, errors = tokenface("reconstruct", photos, "-o", tmp_path / "out", "--boxes", tmp_path / "boxes.json")
    assert code == 1
    assert "boxes" in one_error(errors)


def test_a_full_disk_fails_cleanly_and_stops_early(
    tokenface: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        save(tmp_path / "in" / f"{number}.png", (60, 40, 40))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    command = ("reconstruct", tmp_path / "in", "-o", tmp_path / "out", "--batch", "1", "-f", "json", "--no-overlay")
    code, _, errors = tokenface(*command)
    assert code == 1
    assert "the disk is full" in errors
    assert "6 were not tried" in errors
    assert not list((tmp_path / "out").rglob("*.part"))
    monkeypatch.undo()


def test_an_output_path_that_is_a_file_is_explained(tokenface: Console, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    code, _, errors = tokenface("reconstruct", photos, "-o", tmp_path / "out")
    assert code == 1
    assert "-o" in one_error(errors)


def test_a_folder_without_permission_is_explained(
    tokenface: Console, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write everywhere
    code, _, errors = tokenface("reconstruct", photos, "-o", tmp_path / "out")
    assert code == 1
    assert "no permission" in one_error(errors)
    assert tokenface.looked_at == 0


def test_debug_shows_the_traceback(tokenface: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENFACE_DEBUG", "1")
    from tokenface.errors import ConfigError

    (tmp_path / "a.png").write_bytes(b"")  # what is missing altogether is said before anything else
    with pytest.raises(ConfigError):
        tokenface("reconstruct", save(tmp_path / "a.png", (60, 40, 40)), "--format", "fbx")


@pytest.fixture
def real_checkpoint(tmp_path: Path) -> Path:
    from tokenface.inference.checkpoint import save_checkpoint
    from tokenface.network.config import NetworkConfig
    from tokenface.network.tokenface import TokenFace

    head = HeadModel(toy_head_data())
    config = NetworkConfig(image_size=64)
    save_checkpoint(tmp_path / "real.safetensors", TokenFace(config, head.sizes, seed=0), head)
    return tmp_path / "real.safetensors"


def test_unreadable_weights_are_one_line(
    capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path, real_checkpoint: Path
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(real_checkpoint.read_bytes()[:5000])
    for weights, words in ((damaged, "damaged"), (real_checkpoint, "needs the head model 'toy'")):
        code = cli.run(["reconstruct", str(photos), "-o", str(tmp_path / "out"), "--weights", str(weights)])
        assert code == 1
        assert words in one_error(capsys.readouterr().err)


# --- the other commands


def test_the_program_runs_as_a_module_and_starts_without_torch() -> None:
    code = "import sys; from tokenface import cli; cli.run(['version']); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.startswith(
        "tokenface 0."
    )
    assert subprocess.run([sys.executable, "-m", "tokenface", "version"], capture_output=True, check=True).stdout


def test_doctor_says_what_is_missing_and_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOKENFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "none.safetensors"))
    monkeypatch.setenv("COLUMNS", "300")
    code = cli.run(["doctor"])
    text = capsys.readouterr().out
    assert code == 1
    assert "tokenface models fetch" in text
    assert "does not exist" in text
    assert not (tmp_path / "cache").exists()


def test_heads_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["head", "list"]) == 0
    assert "openhead" in capsys.readouterr().out


def test_marker_survives_odd_content(photos: Path, tmp_path: Path) -> None:
    tree = OutputTree(tmp_path / "out", Settings())
    item = ImageItem("one", photos / "one.png")
    folder = tmp_path / "out" / "one"
    folder.mkdir(parents=True)
    for content in ("[]", "{", "\x00", '{"state": "done"}'):
        (folder / outputs.MARKER).write_text(content)
        assert not tree.done(item)
    assert np.all([path.name == outputs.MARKER for path in folder.iterdir()])


# --- inputs that are not what they seem


@pytest.mark.parametrize("output", ["results", "."])
def test_results_of_earlier_runs_are_never_inputs(
    tokenface: Console, photos: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    save(photos / "overlay.png", (60, 40, 40))  # the user's own: nothing marks it as a result
    save(photos / "album" / "face_00.png", (60, 40, 40))
    command = ("reconstruct", ".", "-r", "-f", "obj,json", "--texture", "model", "-o")  # OBJ has a picture beside it
    for _ in range(3):
        code, _, errors = tokenface(*command, output)
        assert (code, errors) == (0, "")
        assert tokenface.looked_at == 4
    tokenface(*command, "elsewhere")
    assert tokenface.looked_at == 8  # neither the first run's folder nor its own


def test_the_output_folder_is_no_input_though_nothing_marks_its_pictures(
    tokenface: Console, photos: Path, tmp_path: Path
) -> None:
    save(photos / "out" / "sheet.png", (60, 40, 40))
    assert tokenface("reconstruct", photos, "-r", "-o", photos / "out")[0] == 0
    assert tokenface.looked_at == 2


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="these file systems refuse such names")
def test_a_name_that_is_not_utf8_costs_nothing(tokenface: Console, photos: Path, tmp_path: Path) -> None:
    odd = os.fsencode(photos) + b"/caf\xe9.png"
    os.rename(os.fsencode(photos / "one.png"), odd)
    (photos / "bad.png").write_bytes(b"no picture")
    os.rename(os.fsencode(photos / "bad.png"), os.fsencode(photos) + b"/na\xefve.png")
    command = ("reconstruct", photos, "-f", "ply,json", "--texture", "model", "-o", tmp_path / "out")
    code, _, errors = tokenface(*command)
    assert code == 1  # the one that is no picture
    assert "na" in one_error(errors)
    assert tokenface.looked_at == 2
    names = [json.loads(path.read_text())["photo"]["name"] for path in (tmp_path / "out").rglob("parameters.json")]
    assert sorted(names) == ["caf?.png", "two.png"]
    assert tokenface("reconstruct", os.fsdecode(odd), "-o", tmp_path / "single")[0] == 0
    tokenface(*command)
    assert tokenface.looked_at == 3  # finished photos stay finished


def test_the_demo_needs_no_other_package(tokenface: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenface.jobs import examples

    monkeypatch.setattr(examples, "_installed", dict)
    tokenface("demo", "-o", tmp_path)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["eileen_collins.jpg"]
    assert tokenface.looked_at == 1


@pytest.fixture
def web(photos: Path):
    """A server of the photos: (address, how it answers)."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path == "/moved.png":
                self.send_response(302)
                self.send_header("Location", (photos / "one.png").as_uri())
                self.end_headers()
                return
            file = photos / path[1:]
            self.send_response(200 if file.is_file() else 404)
            self.end_headers()
            if file.is_file():
                self.wfile.write(file.read_bytes())

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_photos_behind_addresses(tokenface: Console, web: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    address = web.replace("://", "://user:word@") + "/two.png?key=secret"
    code, text, errors = tokenface("reconstruct", address, "-o", tmp_path / "out")
    assert (code, errors) == (0, "")
    files = "".join(path.read_text(errors="replace") for path in (tmp_path / "out" / "two").rglob("*.json"))
    assert "two.png" in files
    assert "secret" not in files + text
    assert "word" not in files + text
    code, _, errors = tokenface("reconstruct", f"{web}/missing.png?key=secret", "-o", tmp_path / "out")
    assert code == 1
    assert "HTTP 404" in one_error(errors)
    assert "secret" not in errors
    code, _, errors = tokenface("reconstruct", f"{web}/moved.png", "-o", tmp_path / "out")  # to a file of this machine
    assert code == 1
    assert "cannot read" in one_error(errors)


def test_addresses_that_differ_in_their_query_are_different_photos(
    tokenface: Console, web: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    addresses = [f"{web}/two.png?id={number}" for number in (1, 2, 1)]
    assert tokenface("reconstruct", *addresses, "-o", tmp_path / "out", "-f", "json")[0] == 0
    assert tokenface.looked_at == 2
    assert len(list((tmp_path / "out").glob("*/parameters.json"))) == 2
    assert tokenface("reconstruct", addresses[1], "-o", tmp_path / "out", "-f", "json")[0] == 0
    assert tokenface.looked_at == 2  # done before


def test_home_is_the_users_in_every_option(tokenface: Console, photos: Path, tmp_path: Path, monkeypatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(tmp_path)
    options = ("--same-person", "-f", "ply,json", "-o", "~/heads")
    code, _, errors = tokenface("reconstruct", photos / "one.png", *options)
    assert (code, errors) == (0, "")
    names = {path.name for path in (home / "heads" / "person").iterdir()}
    assert names == {".tokenface.json", "face_00.ply", "parameters.json", "overlay.png"}
    assert not (tmp_path / "~").exists()
    assert tokenface("reconstruct", photos / "one.png", "--same-person", "-f", "obj", "-o", home / "heads")[0] == 0
    assert not (home / "heads" / "person" / "face_00.ply").exists()  # of the run before
    again = tokenface("reconstruct", home / "heads", "-r", "-o", tmp_path / "out")
    assert again[0] == 2  # nothing to do
    assert "no pictures" in one_error(again[2])


def test_photos_in_a_bucket(tokenface: Console, photos: Path, tmp_path: Path) -> None:
    fs = pytest.importorskip("fsspec", reason="needs fsspec").filesystem("memory")
    pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
    for path in photos.iterdir():
        fs.pipe(f"/album/{path.name}", path.read_bytes())
    assert tokenface("reconstruct", "memory://album/two.png", "-o", tmp_path / "single")[0] == 0
    assert (tmp_path / "single" / "two" / "face_01.ply").is_file()
    assert tokenface("reconstruct", "memory://album", "-o", tmp_path / "all")[0] == 0
    assert tokenface.looked_at == 3
    tokenface("reconstruct", "memory://album", "-o", tmp_path / "all")
    assert tokenface.looked_at == 3
