"""What the wheel leaves out: transformers of the smaller weights, nothing that works without being asked for."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tokenface.weights import DEFAULT_WEIGHTS, WEIGHTS, companion

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_leaves_out_the_smaller_weights_transformers_alone() -> None:
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("not a checkout")
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    patterns = wheel["wheel"]["exclude"]
    files = [path for path in (ROOT / "src").rglob("*") if path.is_file()]
    left_out = {path.name for path in files if any(fnmatch(path.name, pattern) for pattern in patterns)}
    others = [name for name in WEIGHTS if name != DEFAULT_WEIGHTS]
    expected = {
        companion(WEIGHTS[name].path, f"{mode}.temporal").name for name in others for mode in ("centred", "causal")
    }
    assert left_out == expected
