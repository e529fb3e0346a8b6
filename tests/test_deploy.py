"""Exported networks and heads give what torch gives, on every runtime that is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from needed import needs
from toy_head import toy_head_data

from tokenface.deploy.drift import CALIBRATION, Drift
from tokenface.deploy.export import export
from tokenface.deploy.graph_names import PRECISIONS
from tokenface.deploy.graphs import HeadGraph, ParameterGraph, example_coefficients
from tokenface.deploy.onnx_files import export_head
from tokenface.deploy.runtime import BFloat16Network, open_head, open_network
from tokenface.errors import CheckpointError, ConfigError, OutputError
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.inference.checkpoint import load_checkpoint, save_checkpoint
from tokenface.network import COMPONENTS, TokenFace

needs("onnxruntime", reason="needs the extra 'deploy'")
needs("onnxscript", reason="needs the extra 'deploy'")

SIZE = 64
SHIPPED = "tokenface-ti"
"""Weights of the kind of the default ones, and a third of their work."""


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel(toy_head_data())


@pytest.fixture(scope="module")
def network(exported_network) -> TokenFace:
    return exported_network[0]


@pytest.fixture(scope="module")
def file(exported_network) -> Path:
    return exported_network[1]


def crops(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def largest_difference(network, other, batch: torch.Tensor) -> float:
    with torch.no_grad():
        ours, theirs = network.forward_with_extras(batch), other.forward_with_extras(batch)
    pairs = [(getattr(ours.parameters, name), getattr(theirs.parameters, name)) for name in COMPONENTS]
    pairs += [(ours.log_sigma, theirs.log_sigma), (ours.tokens, theirs.tokens)]
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("batch", [1, 5])
def test_onnx_equals_torch_for_any_batch(network, file, batch):
    assert largest_difference(network, open_network(file, SIZE), crops(batch)) < 1e-4


def test_head_equals_torch_for_any_batch(head, tmp_path):
    opened = open_head(export_head(head, tmp_path / "head.fp32.onnx"))
    for batch in (1, 3):
        inputs = example_coefficients(head, batch, seed=1)
        with torch.no_grad():
            expected = HeadGraph(head)(*inputs)
        assert float((opened(*inputs) - expected).abs().max()) < 1e-6, batch


def test_openvino_equals_torch_and_computes_in_bfloat16_when_told(network, file, tmp_path):
    openvino = pytest.importorskip("openvino", reason="needs the extra 'deploy'")
    from tokenface.deploy.onnx_files import convert

    path = convert(file, tmp_path / "parameters.fp32.xml")
    full, low = open_network(path, SIZE), open_network(path, SIZE, bf16=True)
    for batch in (1, 4):
        assert largest_difference(network, full, crops(batch)) < 1e-4
    difference = largest_difference(network, low, crops(2))
    assert difference < 0.2
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert difference > 1e-4  # others compute in fp32 all the same: OpenVINO takes it as a hint


def test_signals_are_survived_after_networks_are_released_in_any_order(network, file, tmp_path):
    pytest.importorskip("openvino", reason="needs the extra 'deploy'")
    steps = f"""
import os, signal, sys
from tokenface.deploy.runtime import open_network
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
networks = [open_network({str(file)!r}, {SIZE}, runtime="openvino") for _ in range(3)]
while networks:
    networks.pop(0)
    os.kill(os.getpid(), signal.SIGUSR1)
print(len(heard))
"""
    done = subprocess.run([sys.executable, "-c", steps], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "3"), done.stderr


def test_conversions_are_reported_to_nobody(file, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="needs the extra 'deploy'")
    backend = pytest.importorskip("openvino_telemetry.backend.backend_ga4", reason="this OpenVINO reports nothing")
    from tokenface.deploy.onnx_files import convert

    monkeypatch.delenv("CI", raising=False)
    sent = []
    monkeypatch.setattr(backend.GA4Backend, "send", lambda self, message: sent.append(message))
    convert(file, tmp_path / "parameters.fp32.xml")
    time.sleep(0.2)  # it reports in a thread
    assert sent == []
    assert "CI" not in os.environ


def test_crops_of_another_size_are_refused(file):
    with pytest.raises(ValueError, match="expected crops"):
        open_network(file, SIZE)(torch.zeros(1, 3, SIZE + 8, SIZE))


def test_files_that_are_not_ours(file, head, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        open_network(tmp_path / "none.onnx", SIZE)
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_network(tmp_path / "broken.onnx", SIZE)
    with pytest.raises(CheckpointError, match="lacks"):
        open_head(file)


def test_unknown_choices_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"runtime 'tensorrt'.*onnx"):
        export(None, tmp_path, ["tensorrt"])
    with pytest.raises(ConfigError, match=r"precision 'int4'.*int8"):
        export(None, tmp_path, ["onnx"], ["int4"])
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, dict[str, Drift]]:
    """Crops and heads of shipped weights on every runtime in every precision; calibrated on fewer faces."""
    folder, lines = tmp_path_factory.mktemp("exported"), []
    runtimes = ["onnx", "openvino"] if importlib.util.find_spec("openvino") else ["onnx"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenface.deploy.export.CALIBRATION", CALIBRATION._replace(crops=16))
        drifts = export(SHIPPED, folder, runtimes, ["int8", "fp16", "fp32"], report=lines.append, photos=False)
    assert lines == [str(drift) for drift in drifts]
    return folder, {drift.file: drift for drift in drifts}


def test_every_precision_is_written_and_measured(exported):
    folder, drifts = exported
    for runtime in {file.rpartition(".")[2] for file in drifts}:
        # measured, mm: fp16 0.0006 and 0.0017, int8 0.28 and 0.31; with the default weights 0.011 and 0.6
        for name, limits in (("parameters", (1e-4, 0.005, 0.4)), ("head", (1e-4, 1e-3, 0.06))):
            full, half, eight = (drifts[f"{name}.{precision}.{runtime}"] for precision in PRECISIONS)
            assert half.megabytes < 0.55 * full.megabytes
            assert eight.megabytes < 0.35 * full.megabytes  # the graph itself stays as it is
            for drift, limit in zip((full, half, eight), limits, strict=True):
                assert drift.vertices.mean < limit, drift
            assert eight.vertices.mean > 10 * full.vertices.mean
        assert drifts[f"parameters.fp16.{runtime}"].parameters > 10 * drifts[f"parameters.fp32.{runtime}"].parameters
    kept = {path.name for path in folder.iterdir() if path.suffix in (".onnx", ".xml")}
    assert kept == set(drifts)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_exported_folder_serves_onnxruntime_and_numpy_alone(exported, tmp_path, precision):
    folder, _ = exported
    size = json.loads((folder / "model.json").read_text(encoding="utf-8"))["image_size"]
    np.save(tmp_path / "crop.npy", np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8))
    run_example("onnx_only.py", folder, tmp_path / "crop.npy", tmp_path / "h.obj", precision)


def run_example(name: str, folder: Path, picture: Path, obj: Path, precision: str) -> str:
    """An example with everything but onnxruntime and numpy out of reach; what it printed."""
    example = Path(__file__).resolve().parents[1] / "examples" / name
    blocked = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'tokenface', 'scipy', 'PIL', 'cv2')));"
        f"sys.argv = {['x', str(folder), str(picture), str(obj), precision]!r};"
        f"exec(open({str(example)!r}, encoding='utf-8').read())"
    )
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    text = obj.read_text(encoding="utf-8")
    assert text.count("v ") == int(done.stdout.split(": ")[1].split()[0])
    assert text.count("\nf ") == len(np.load(folder / "faces.npy"))
    return done.stdout


def test_runtime_option_keeps_its_file_where_no_graph_is_shipped(network, file, tmp_path, monkeypatch):
    import tokenface

    exports: list[Path] = []

    def exported_before(own: TokenFace, path: Path) -> Path:
        """`export_network`, whose file of these very weights is there: it takes half a minute."""
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in own.state_dict().items())
        exports.append(path)
        return Path(shutil.copyfile(file, path))

    monkeypatch.setenv("TOKENFACE_CACHE", str(tmp_path))
    monkeypatch.setattr("tokenface.deploy.onnx_files.export_network", exported_before)
    save_checkpoint(tmp_path / "own.safetensors", network, tokenface.load_head(), half=False)
    photo = np.random.default_rng(1).integers(0, 255, (240, 240, 3), dtype=np.uint8)
    landmarks = np.random.default_rng(2).uniform(80, 160, (68, 2))
    expected = tokenface.load(tmp_path / "own.safetensors", runtime="torch").reconstruct(photo, landmarks=landmarks)[0]
    for _ in range(2):
        model = tokenface.load(tmp_path / "own.safetensors", runtime="onnx")
        face = model.reconstruct(photo, landmarks=landmarks)[0]
        assert np.abs(face.vertices - expected.vertices).max() < 2e-5
    kept = [path.name for path in (tmp_path / "exported").rglob("*") if path.is_file()]
    assert kept == ["parameters.fp32.onnx"]
    assert len(exports) == 1
    with pytest.raises(ConfigError, match="choose auto, torch"):
        tokenface.load(runtime="tensorrt")
    with pytest.raises(ConfigError, match="'torch' has no precision 'int8'"):
        tokenface.load(runtime="torch", precision="int8")


def test_a_kept_file_of_other_weights_head_or_version_is_not_used(tmp_path, monkeypatch, head, network):
    from tokenface.deploy import cached

    made: list[Path] = []

    def make(network, head, path, precision):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"graph")
        made.append(path)

    monkeypatch.setenv("TOKENFACE_CACHE", str(tmp_path))
    monkeypatch.setattr(cached, "_make", make)
    monkeypatch.setattr(cached, "_opened", lambda path, *_: path)
    other_head = HeadModel(toy_head_data(seed=1))
    for number, arguments in enumerate([("a", head), ("b", head), ("a", other_head)], 1):
        for _ in range(2):
            path = cached.other_network(network, arguments[1], arguments[0], "onnx", "fp32")
            assert len(made) == number
            assert path == made[-1]
    monkeypatch.setattr(cached, "GRAPH_VERSION", cached.GRAPH_VERSION + 1)
    cached.other_network(network, head, "a", "onnx", "fp32")
    assert len(set(made)) == 4


def test_an_export_leaves_no_files_of_other_weights_beside_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("tokenface.deploy.export._programs", lambda *_: [])
    export(None, tmp_path, ["torch"], photos=False)
    kept = ("photo.int8.onnx", "head.fp16.xml", "head.fp16.bin", "parameters.pt2")
    for name in (*kept, "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    export(None, tmp_path, ["torch"], photos=False)
    assert all((tmp_path / name).is_file() for name in kept)  # of the same weights
    export("tokenface-ti", tmp_path, ["torch"], photos=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces.npy", "model.json", "notes.txt"]
    (tmp_path / "photo.int8.onnx").write_bytes(b"")
    (tmp_path / "model.json").unlink()
    with pytest.raises(OutputError, match=r"holds '.*' and no model.json that says whose it is"):
        export(None, tmp_path, ["torch"], photos=False)


def test_bfloat16_is_another_arithmetic_and_near(network):
    assert 0 < largest_difference(network, BFloat16Network(network), crops(2)) < 0.2


def test_programs_for_cpp_give_what_torch_gives(network, tmp_path):
    lines: list[str] = []
    save_checkpoint(tmp_path / "own.safetensors", network, load_head())
    assert export(tmp_path / "own.safetensors", tmp_path, ["torch"], report=lines.append) == []
    assert lines == ["parameters.pt2", "head.pt2"]
    model, head, _ = load_checkpoint(tmp_path / "own.safetensors")
    pictures = crops(3)
    with torch.no_grad():
        answer = torch.export.load(tmp_path / "parameters.pt2").module()(pictures)
        for name, value, expected in zip(COMPONENTS, answer, ParameterGraph(model)(pictures), strict=False):
            assert float((value - expected).abs().max()) < 1e-5, name
        vertices = torch.export.load(tmp_path / "head.pt2").module()(*answer[:3])
        assert float((vertices - HeadGraph(head)(*answer[:3])).abs().max()) < 1e-6
