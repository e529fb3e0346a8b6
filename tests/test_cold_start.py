"""What a command imports, and what it says before it imports anything: lists, not times."""

from __future__ import annotations

import os
import subprocess
import sys
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
    *("ray", "onnx", "onnxruntime", "openvino", "lightning_fabric", "pandas", "sklearn", "skimage", "torchvision"),
)
"""Nothing of that is needed for a photo."""


def fresh(code: str, folder: Path, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, as if one package were not installed; its last line lists what it imported."""
    code = f"import sys\nif {without!r}: sys.modules[{without!r}] = None\n{code}\nprint(*sys.modules)"
    own = {**os.environ, "PYTHONPATH": str(Path(tokenface.__file__).parents[1])}
    return subprocess.run([sys.executable, "-c", code], env=own, cwd=folder, capture_output=True, text=True, check=True)


def imported(done: subprocess.CompletedProcess[str], names: tuple[str, ...]) -> list[str]:
    return sorted(set(names) & set(done.stdout.splitlines()[-1].split()))


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
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    done = fresh(f"from tokenface import cli; cli.run({arguments})", tmp_path)
    assert imported(done, HEAVY) == []


def test_a_photo_imports_what_it_needs_and_no_more(tmp_path: Path) -> None:
    done = fresh("import tokenface, tokenface.jobs.reconstruct; tokenface.load(device='cpu')", tmp_path)
    assert imported(done, NEVER) == []


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
    arguments: list[str], without: str, message: str, tmp_path: Path
) -> None:
    for name in ("here.jpg", "here.mp4"):
        (tmp_path / name).write_bytes(b"x")
    done = fresh(f"from tokenface import cli; print(cli.run({arguments}))", tmp_path, without)
    assert done.stdout.splitlines()[-2] == "1"
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert imported(done, ("torch", "cv2", "numba")) == []


def test_native_remarks_are_kept_back_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    from tokenface.images.quiet import without_remark

    with without_remark():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\na true warning\n")
    assert capfd.readouterr().err == "a true warning\n"
