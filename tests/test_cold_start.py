"""What a command imports, and what it says before it imports anything: lists, not times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tokenface

HEAVY = ("torch", "numpy", "cv2", "PIL", "numba", "scipy", "timm", "rich.markdown", "gradio", "av", "huggingface_hub")
NEVER = (
    *(
        "torch._dynamo",
        "torch._inductor",
        "sympy",
        "roma",
        "trimesh",
        "matplotlib",
        "gradio",
        "fastapi",
        "av",
        "pyarrow",
    ),
    *("ray", "onnx", "onnxscript", "onnxruntime", "openvino", "lightning_fabric"),
    *("pandas", "sklearn", "skimage", "torchvision"),
    *("scipy.optimize", "scipy.interpolate", "scipy.spatial", "scipy.stats", "scipy.ndimage"),
)
"""Nothing of that is needed for a photo; of SciPy its sparse matrices are, when a texture is made."""


STARTER = """
import json, os, sys
from tokenface import cli
for line in sys.stdin:
    case = json.loads(line)
    if (child := os.fork()) == 0:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(os.path.join(case["folder"], name), os.O_WRONLY | os.O_CREAT), number)
        os.chdir(case["folder"])
        if case["without"]:
            sys.modules[case["without"]] = None
        exec(case["code"])
        print(*sys.modules, flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""An interpreter that has imported the command line and nothing else; every case is a copy of it."""


@pytest.fixture(scope="module")
def starter() -> Iterator[subprocess.Popen[str]]:
    if not hasattr(os, "fork"):
        pytest.skip("copies of a process need fork")
    own = {**os.environ, "PYTHONPATH": str(Path(tokenface.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()


def fresh(starter: subprocess.Popen[str], code: str, folder: Path, without: str = "") -> tuple[str, str]:
    """What code prints to stdout and stderr where nothing but the command line is imported, as if one package were not
    installed; the last line of stdout lists what is imported then."""
    (folder / "said").mkdir()
    case = {"code": f"import os; os.chdir('..')\n{code}", "folder": str(folder / "said"), "without": without}
    starter.stdin.write(json.dumps(case) + "\n")
    starter.stdin.flush()
    code = starter.stdout.readline().strip()
    out, err = ((folder / "said" / name).read_text(encoding="utf-8") for name in ("out", "err"))
    assert code == "0", err
    return out, err


def imported(out: str, names: tuple[str, ...]) -> list[str]:
    return sorted(set(names) & set(out.splitlines()[-1].split()))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["version"],
        ["reconstruct", "--help"],
        ["evaluate", "now", "-h"],
        ["track", "--nonsense"],
    ],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path, starter) -> None:
    out, _ = fresh(starter, f"cli.run({arguments})", tmp_path)
    assert imported(out, HEAVY) == []


def test_a_photo_imports_what_it_needs_and_no_more(tmp_path: Path, starter) -> None:
    code = "import tokenface, tokenface.jobs.reconstruct; tokenface.load(device='cpu', runtime='torch')"
    out, _ = fresh(starter, code, tmp_path)
    assert imported(out, NEVER) == []


def test_a_photo_is_done_without_torch(tmp_path: Path, starter) -> None:
    portrait = Path(tokenface.__file__).parent / "assets" / "eileen_collins.jpg"
    code = f"print(cli.run(['reconstruct', {str(portrait)!r}, '-o', 'out', '--maps', 'all', '--detail']))"
    out, err = fresh(starter, code, tmp_path)
    assert out.splitlines()[-2] == "0", err
    assert imported(out, ("torch", "timm", *(name for name in NEVER if name != "onnxruntime"))) == []
    assert (tmp_path / "out" / portrait.stem / "overlay.png").is_file()


def test_a_photos_texture_and_overlay_import_what_they_need_and_no_more(tmp_path: Path, starter) -> None:
    code = "import tokenface.inference.photo_texture, tokenface.inference.map_files, tokenface.render.overlay"
    out, _ = fresh(starter, code, tmp_path)
    assert imported(out, ("torch", *(name for name in NEVER if name != "onnxruntime"))) == []


def test_the_fastest_runtime_imports_no_exporter(tmp_path: Path, starter) -> None:
    out, _ = fresh(starter, "import tokenface; tokenface.load(device='cpu')", tmp_path)
    assert imported(out, tuple(name for name in NEVER if name not in ("onnxruntime", "openvino"))) == []


@pytest.mark.parametrize(
    ("arguments", "without", "message"),
    [
        (["reconstruct", "missing.jpg"], "", "'missing.jpg' does not exist"),
        (["track", "missing.mp4"], "", "no video at 'missing.mp4'"),
        (["transfer", "missing.jpg", "here.jpg"], "", "'missing.jpg' does not exist"),
        (["convert", "missing.json", "--to", "ict"], "", "'missing.json' does not exist"),
        (["track", "here.mp4"], "av", "pip install 'tokenface[video]'"),
        (["track", "here.mp4", "-f", "usd"], "pxr", "pip install 'tokenface[usd]'"),
        (["evaluate", "video", "here.mp4"], "av", "pip install 'tokenface[video]'"),
        (["transfer", "here.mp4", "here.jpg"], "av", "pip install 'tokenface[video]'"),
        (["export"], "onnx", "pip install 'tokenface[deploy]'"),
        (["export", "--runtime", "openvino"], "openvino", "pip install 'tokenface[deploy]'"),
        (["reconstruct", "here.jpg", "--runtime", "onnx"], "onnxruntime", "pip install 'tokenface[deploy]'"),
        (["reconstruct", ".", "-f", "parquet"], "pyarrow", "pip install 'tokenface[tables]'"),
        (["reconstruct", ".", "--ray", "local"], "ray", "pip install 'tokenface[cluster]'"),
        (["prepare", "photos", ".", "-o", "x", "--ray", "local"], "ray", "pip install 'tokenface[cluster]'"),
        (["serve"], "fastapi", "pip install 'tokenface[web]'"),
        (["serve"], "gradio", "pip install 'tokenface[web]'"),
        (["train"], "lightning_fabric", "pip install 'tokenface[train]'"),
        (["evaluate", "now", "."], "igl", "pip install 'tokenface[evaluate]'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_what_is_missing_is_said_before_anything_is_loaded(
    arguments: list[str], without: str, message: str, tmp_path: Path, starter
) -> None:
    for name in ("here.jpg", "here.mp4"):
        (tmp_path / name).write_bytes(b"x")
    out, err = fresh(starter, f"print(cli.run({arguments}))", tmp_path, without)
    assert out.splitlines()[-2] == "1"
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert imported(out, ("torch", "cv2", "numba")) == []


def test_native_remarks_are_kept_back_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    from tokenface.images.blazeface import without_remark

    with without_remark():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\na true warning\n")
    assert capfd.readouterr().err == "a true warning\n"
