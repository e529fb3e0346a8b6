"""`runtime="auto"`: the fastest runtime that is installed, and the same faces as torch's."""

from __future__ import annotations

import logging
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import numpy as np
import pytest
import torch
from needed import needs
from toy_head import toy_head_data

import tokenface
from tokenface.deploy import choice
from tokenface.deploy.cached import filled_graph, other_network, ready_network
from tokenface.deploy.graph_names import arithmetic
from tokenface.deploy.runtime import AnotherNetwork, ExportedNetwork
from tokenface.deploy.templates import find_template
from tokenface.geometry.crop import Crop, extract
from tokenface.head.model import HeadModel
from tokenface.images.loading import load_image
from tokenface.inference.checkpoint import load_checkpoint
from tokenface.network import COMPONENTS, NetworkConfig, TokenFace
from tokenface.weights import WEIGHTS, find_weights

needs("onnxruntime", reason="needs the extra 'deploy'")

NEAR = 1e-4
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return load_image(str(resources.files("tokenface") / "assets" / "eileen_collins.jpg"))


@pytest.fixture(scope="module")
def shipped() -> tuple[TokenFace, HeadModel]:
    network, head, _ = load_checkpoint(find_weights())
    return network, head


@pytest.fixture(scope="module")
def landmarks(portrait) -> np.ndarray:
    """[68, 2] anywhere on the portrait: both sides get the same ones."""
    height, width = portrait.shape[:2]
    return np.random.default_rng(0).uniform(0.3, 0.6, (68, 2)) * [width, height]


def crops(portrait: np.ndarray, size: int, batch: int) -> torch.Tensor:
    height, width = portrait.shape[:2]
    squares = [Crop((width / 2 + 9 * i, height / 3), width / (1.6 + 0.2 * i), 0.2 * i) for i in range(batch)]
    return extract(portrait, squares, size)


@torch.no_grad()
def differences(network: TokenFace, other: AnotherNetwork, pictures: torch.Tensor) -> dict[str, float]:
    ours, theirs = network.forward_with_extras(pictures), other.forward_with_extras(pictures)
    pairs = {name: (getattr(ours.parameters, name), getattr(theirs.parameters, name)) for name in COMPONENTS}
    pairs |= {"log_sigma": (ours.log_sigma, theirs.log_sigma), "tokens": (ours.tokens, theirs.tokens)}
    return {name: float((a - b).abs().max()) for name, (a, b) in pairs.items()}


@pytest.mark.parametrize("name", [entry.name for entry in WEIGHTS.values() if entry.installed])
def test_shipped_weights_have_a_graph_that_gives_what_torch_gives(name: str, portrait) -> None:
    network, head, _ = load_checkpoint(find_weights(name))
    other = ready_network(network, head, "not exported", "onnx", "fp32")
    assert other is not None, "run 'python scripts/make_graphs.py': the architecture has changed"
    for batch in (1, 3):
        found = differences(network, other, crops(portrait, network.config.image_size, batch))
        assert max(found.values()) < NEAR, found


def test_the_default_network_looks_at_close_ups_and_recognition_features(shipped) -> None:
    config = shipped[0].config
    assert config.closeups > 0
    assert config.recognition


def test_openvino_reads_the_same_graph(shipped, portrait) -> None:
    needs("openvino", reason="needs the extra 'deploy'")
    network, head = shipped
    other = ready_network(network, head, "not exported", "openvino", "fp32")
    pictures = crops(portrait, network.config.image_size, 2)
    assert max(differences(network, other, pictures).values()) < NEAR
    with ThreadPoolExecutor(4) as pool:  # one request serves one call at a time
        answers = list(pool.map(lambda _: other.forward_with_extras(pictures).parameters.shape, range(8)))
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_a_graph_follows_the_weights_it_is_filled_with(shipped, portrait) -> None:
    """No weight is a constant of the template."""
    network, head = shipped
    other = TokenFace(network.config, network.sizes, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for (name, value), (_, trained) in zip(other.named_parameters(), network.named_parameters(), strict=True):
            noise = 1 + 0.1 * torch.randn(value.shape, generator=generator)
            value.copy_(trained * (1 if "recognition" in name else noise))
    exported = ready_network(other, head, "not exported", "onnx", "fp32")
    pictures = crops(portrait, network.config.image_size, 2)
    assert max(differences(other, exported, pictures).values()) < 10 * NEAR
    assert max(differences(network, exported, pictures).values()) > 0.01


def test_faces_are_the_same_on_every_runtime(portrait, landmarks) -> None:
    expected = tokenface.load(device="cpu", runtime="torch").reconstruct(portrait, landmarks=landmarks)[0]
    model = tokenface.load(device="cpu")
    assert isinstance(model.network, ExportedNetwork)
    face = model.reconstruct(portrait, landmarks=landmarks)[0]
    assert np.abs(face.vertices - expected.vertices).max() < 1e-6  # metres
    assert np.abs(face.landmarks - expected.landmarks).max() < 0.01  # pixels
    assert face.confidence == pytest.approx(expected.confidence, abs=1e-4)
    assert face.expected_errors.keys() == expected.expected_errors.keys()


def test_clips_decode_tokens_as_with_torch(portrait, landmarks, shipped) -> None:
    """The temporal transformer works on tokens, which the heads turn into parameters."""
    model = tokenface.load(device="cpu")
    assert model.has_tokens
    pictures = crops(portrait, model.crop_size, 2)
    with torch.no_grad():
        output = shipped[0].forward_with_extras(pictures)
    decoded = model.decoded(output.tokens)
    assert torch.allclose(torch.stack([one.shape for one in decoded]), output.parameters.shape, atol=1e-6)


@pytest.fixture
def no_openvino(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.mark.usefixtures("no_openvino")
def test_a_broken_runtime_gives_way_to_torch_with_one_line(shipped, monkeypatch, caplog) -> None:
    broken = types.ModuleType("onnxruntime")
    broken.__spec__ = types.SimpleNamespace(name="onnxruntime")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "onnxruntime", broken)  # installed, and nothing in it
    network, head = shipped
    with caplog.at_level(logging.WARNING, "tokenface"):
        assert choice.fastest_network(network, head, "x", "fp32", CPU) is None
    (line,) = caplog.messages
    assert "onnxruntime" in line
    assert "torch takes its place" in line
    assert "\n" not in line


@pytest.mark.usefixtures("no_openvino")
def test_a_runtime_that_gives_other_numbers_is_not_used(shipped, monkeypatch, caplog) -> None:
    network, head = shipped
    moved = TokenFace(network.config, network.sizes, seed=3).eval()
    monkeypatch.setattr(choice, "ready_network", lambda *arguments: ready_network(moved, *arguments[1:]))
    with caplog.at_level(logging.WARNING, "tokenface"):
        assert choice.fastest_network(network, head, "x", "fp32", CPU) is None
    assert "gives other numbers" in caplog.text


def test_on_a_gpu_it_is_torch(shipped) -> None:
    assert choice.fastest_network(*shipped, "x", "fp32", torch.device("cuda")) is None


def test_an_architecture_without_a_graph_is_not_exported_by_itself(tmp_path, monkeypatch) -> None:
    needs("onnxscript", reason="needs the extra 'deploy'")
    monkeypatch.setenv("TOKENFACE_CACHE", str(tmp_path))
    head = HeadModel(toy_head_data())
    network = TokenFace(NetworkConfig(backbone="vit_tiny_stem", image_size=64), head.sizes, seed=0).eval()
    assert find_template(network.config, network.sizes) is None
    assert filled_graph(network) is None
    assert choice.fastest_network(network, head, "x", "fp32", CPU) is None
    other_network(network, head, "x", "onnx", "fp32")  # who asks for it gets it, and then auto finds it
    assert isinstance(choice.fastest_network(network, head, "x", "fp32", CPU), ExportedNetwork)


def test_results_of_fp32_are_kept_whatever_made_them() -> None:
    assert arithmetic("auto", "fp32") == arithmetic("torch", "fp32") == arithmetic("openvino", "fp32")
    assert arithmetic("onnx", "int8") != arithmetic("openvino", "int8")
