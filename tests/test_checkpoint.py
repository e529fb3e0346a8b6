"""Checkpoint files: what goes in comes out, wrong heads and broken files are refused in one line."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from toy_head import toy_head_data

import tokenface.inference.checkpoint as checkpoint_module
from tokenface.errors import CheckpointError, HeadModelError, OutputError
from tokenface.head.model import HeadModel
from tokenface.inference.checkpoint import FORMAT, load_checkpoint, read_metadata, save_checkpoint
from tokenface.network import NetworkConfig, TokenFace

FACTS = {"crop": {"scale": 1.25}, "training": {"images": 1000}, "metrics": {"nme": 3.1}, "licence": "Apache-2.0"}


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel(toy_head_data())


@pytest.fixture(scope="module")
def model(head) -> TokenFace:
    return TokenFace(NetworkConfig(image_size=32, tokens=5, camera_mean=(9.0, 0, 0, 0, 0, 0.1, 0)), head.sizes, seed=1)


@pytest.fixture
def path(tmp_path, model, head):
    file = tmp_path / "weights.safetensors"
    save_checkpoint(file, model, head, FACTS)
    return file


def answer(model: TokenFace, size: int = 32) -> torch.Tensor:
    picture = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        face = model.eval()(picture)
    return torch.cat([value for _, value in face.items()], dim=1)


def test_full_precision_file_gives_the_same_network(model, head, tmp_path):
    file = tmp_path / "full.safetensors"
    save_checkpoint(file, model, head, FACTS, half=False)
    loaded, same_head, facts = load_checkpoint(file, head)
    assert torch.equal(answer(loaded), answer(model))
    assert same_head is head
    assert loaded.config == model.config
    assert not loaded.training
    assert {k: facts[k] for k in FACTS} == FACTS
    assert facts["head"]["geometry_hash"] == head.data.geometry_hash()
    assert read_metadata(file) == facts


def test_half_precision_file_is_half_as_large_and_answers_alike(model, head, path, tmp_path):
    full = tmp_path / "full.safetensors"
    save_checkpoint(full, model, head, half=False)
    assert path.stat().st_size < 0.55 * full.stat().st_size
    loaded, _, _ = load_checkpoint(path, head)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(answer(loaded), answer(model), atol=5e-3, rtol=5e-3)
    with safe_open(str(path), framework="pt") as file:
        assert {file.get_tensor(k).dtype for k in file.keys()} == {torch.float16}  # noqa: SIM118


def test_saving_does_not_touch_the_model(model, head, tmp_path):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    save_checkpoint(tmp_path / "x.safetensors", model, head)
    assert all(torch.equal(before[k], v) and v.dtype == before[k].dtype for k, v in model.state_dict().items())


def test_same_network_gives_the_same_bytes(model, head, path, tmp_path):
    save_checkpoint(tmp_path / "again.safetensors", model, head, FACTS)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert not list(tmp_path.glob("*.part"))


def test_named_head_is_found_by_itself(path, head, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "load_head", {"toy": head}.__getitem__)
    assert load_checkpoint(path)[1] is head

    def absent(name):
        raise HeadModelError(f"no head model named '{name}'")

    monkeypatch.setattr(checkpoint_module, "load_head", absent)
    with pytest.raises(CheckpointError, match="needs the head model 'toy'"):
        load_checkpoint(path)


def test_another_head_model_is_refused_and_both_are_named(path):
    data = toy_head_data(shape=4)
    data.name = "FLAME"
    data.template, data.mirror = data.template[:-1], data.mirror[:-1]
    data.shape_basis, data.expression_basis = data.shape_basis[:, :-1], data.expression_basis[:, :-1]
    data.skinning_weights = data.skinning_weights[:-1]
    with pytest.raises(CheckpointError, match=r"'FLAME' has \d+ vertices but .* was trained on toy \(\d+\)"):
        load_checkpoint(path, HeadModel(data))


def test_another_build_of_the_same_head_is_refused(path):
    data = toy_head_data()
    data.shape_basis = data.shape_basis * 1.001
    with pytest.raises(CheckpointError, match="another build of toy"):
        load_checkpoint(path, HeadModel(data))


@pytest.mark.parametrize("size", [32, 64])
def test_network_can_continue_at_another_size(head, tmp_path, size):
    for backbone in ("vit_tiny_stem", "vit_tiny_patch16"):
        model = TokenFace(NetworkConfig(backbone=backbone, image_size=32), head.sizes, seed=0)
        file = tmp_path / f"{backbone}.safetensors"
        save_checkpoint(file, model, head, half=False)
        loaded, _, _ = load_checkpoint(file, head, image_size=size)
        assert loaded.config.image_size == size
        assert torch.isfinite(answer(loaded, size)).all()
        if size == 32:
            assert torch.equal(answer(loaded), answer(model))


def rewritten(path, tmp_path, change):
    """A copy of the checkpoint after `change(facts, tensors)`."""
    with safe_open(str(path), framework="pt") as file:
        facts = json.loads(file.metadata()[FORMAT])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    change(facts, tensors)
    copy = tmp_path / "rewritten.safetensors"
    save_file(tensors, copy, metadata={FORMAT: json.dumps(facts)})
    return copy


def test_broken_files_are_refused(path, head, tmp_path):
    def refused(file, message):
        with pytest.raises(CheckpointError, match=message) as caught:
            load_checkpoint(file, head)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "absent.safetensors", "does not exist")
    refused(tmp_path, "is a folder")
    broken = tmp_path / "broken.safetensors"
    for content in (b"", b"hello", path.read_bytes()[:2000], path.read_bytes()[:-100], pickle.dumps({"a": 1})):
        broken.write_bytes(content)
        refused(broken, "damaged or no safetensors")
    save_file({"a": torch.zeros(1)}, broken)
    refused(broken, "not a tokenface checkpoint")
    save_file({"a": torch.zeros(1)}, broken, metadata={FORMAT: "{"})
    refused(broken, "damaged")
    save_file({"a": torch.zeros(1)}, broken, metadata={FORMAT: "[1]"})
    refused(broken, "malformed metadata")

    refused(rewritten(path, tmp_path, lambda f, t: t.pop("backbone.norm.weight")), "backbone.norm.weight")
    refused(rewritten(path, tmp_path, lambda f, t: t.update(extra=torch.zeros(1))), "extra")
    refused(rewritten(path, tmp_path, lambda f, t: f["network"].update(backbone="vit_huge")), "vit_huge")
    refused(rewritten(path, tmp_path, lambda f, t: f["network"].update(from_the_future=1)), "update tokenface")
    refused(rewritten(path, tmp_path, lambda f, t: f["network"].update(image_size=10**9)), "update tokenface")
    refused(rewritten(path, tmp_path, lambda f, t: f.pop("head")), "update tokenface")
    refused(rewritten(path, tmp_path, lambda f, t: f.update(network=3)), "update tokenface")


def test_checkpoint_cannot_name_a_file_as_its_head(path, tmp_path):
    file = rewritten(path, tmp_path, lambda f, t: f["head"].update(name="../../secret.safetensors"))
    with pytest.raises(CheckpointError, match="impossible head model"):
        load_checkpoint(file)


def test_unwritable_place_is_an_output_error(model, head, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the checkpoint"):
        save_checkpoint(tmp_path / "file" / "x.safetensors", model, head)


def test_metadata_cannot_overwrite_the_facts_of_the_network(model, head, tmp_path):
    with pytest.raises(ValueError, match="network"):
        save_checkpoint(tmp_path / "x.safetensors", model, head, {"network": {}})
