"""What the wheel leaves out: transformers of the smaller weights, nothing that works without being asked for; how its
weights lie in it."""

from __future__ import annotations

import tempfile
import tomllib
import zipfile
import zlib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tokenface.core.fingerprint import content_hash
from tokenface.core.halves import apart, are_apart, joined
from tokenface.core.tensors import open_tensors
from tokenface.inference.checkpoint import read_metadata
from tokenface.weights import DEFAULT_WEIGHTS, RECOGNITION, WEIGHTS, companion, file_hash

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


def half_file(path: Path, *more: np.ndarray) -> bytes:
    random = np.random.default_rng(0)
    tensors = {
        "a": random.normal(size=(300, 40)).astype(np.float16) * np.float16(0.02),
        "b": np.array(1.5, np.float16),
        "ä": np.zeros((0, 3), np.float16),
        "whole": random.normal(size=7).astype(np.float32),
    }
    tensors |= {f"more{number}": array for number, array in enumerate(more)}
    save_file(tensors, path, metadata={"made by": 'a "test", schön', "format": "1"})
    return path.read_bytes()


def test_halves_apart_are_the_same_weights_of_the_same_hash(tmp_path: Path) -> None:
    plain_path, path = tmp_path / "plain.safetensors", tmp_path / "apart.safetensors"
    plain = half_file(plain_path)
    changed = apart(plain)
    assert changed is not None
    assert changed != plain
    assert joined(changed) == plain
    assert joined(plain) == plain
    assert len(zlib.compress(changed)) < 0.98 * len(zlib.compress(plain))
    path.write_bytes(changed)
    assert file_hash(path) == file_hash(plain_path)
    for framework in ("np", "pt"):
        with open_tensors(path, framework) as file, open_tensors(plain_path, framework) as wanted:  # type: ignore[arg-type]
            assert file.metadata() == wanted.metadata()
            assert sorted(file.keys()) == sorted(wanted.keys())
            for key in wanted.keys():  # noqa: SIM118 (not a dict)
                assert file.get_tensor(key).dtype == wanted.get_tensor(key).dtype
                np.testing.assert_array_equal(file.get_tensor(key), wanted.get_tensor(key))


def test_files_that_could_not_be_told_apart_again_stay_plain(tmp_path: Path) -> None:
    assert apart(half_file(tmp_path / "a.safetensors", np.zeros(3, np.uint8))) is None
    once = apart(half_file(tmp_path / "b.safetensors"))
    assert once is not None
    assert apart(once) is None


def test_the_wheels_weights_are_the_clones(tmp_path: Path) -> None:
    """Every shipped file can have its halves apart, and predictions remember the same weights."""
    for name in (*WEIGHTS, RECOGNITION):
        path = WEIGHTS[DEFAULT_WEIGHTS].path.with_name(f"{name}.safetensors")
        plain = joined(path.read_bytes())
        changed = apart(plain)
        assert changed is not None, name
        if name == "tokenface-ti":
            copy = tmp_path / path.name
            copy.write_bytes(changed)
            assert file_hash(copy) == file_hash(path)
            assert content_hash(copy) == content_hash(path)
            assert read_metadata(copy) == read_metadata(path)


def test_the_build_puts_them_into_the_wheel() -> None:
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("not a checkout")
    hatch = pytest.importorskip("hatchling.builders.wheel", reason="hatchling builds wheels")
    with tempfile.TemporaryDirectory() as folder:
        (made,) = hatch.WheelBuilder(str(ROOT)).build(directory=folder, versions=["standard"])
        with zipfile.ZipFile(made) as wheel:
            names = wheel.namelist()
            assert len(names) == len(set(names))
            inside = f"tokenface/assets/weights/{DEFAULT_WEIGHTS}.safetensors"
            assert are_apart(wheel.read(inside))
            assert joined(wheel.read(inside)) == joined(WEIGHTS[DEFAULT_WEIGHTS].path.read_bytes())
        assert Path(made).stat().st_size < 60_000_000
