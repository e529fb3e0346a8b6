"""Weights on the Hub: folders, cards, and what happens without a network. Nothing here leaves this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import errors as hub_errors
from stand_ins import stand_in_model
from toy_head import toy_head_data

import tokenface
from tokenface.cli import run
from tokenface.cli.console import SOME_FAILED
from tokenface.errors import CheckpointError
from tokenface.head.model import HeadModel
from tokenface.hub import METRICS
from tokenface.inference.checkpoint import read_metadata
from tokenface.weights import COMPANIONS, companion, find_weights

try:  # whichever huggingface_hub of this age is built on
    import httpx2 as httpx
except ImportError:
    import httpx

REPOSITORY = "somebody/tokenface-test"


@pytest.fixture(scope="module")
def model() -> tokenface.Reconstructor:
    return tokenface.load()


@pytest.fixture
def saved(model, tmp_path) -> Path:
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def files_of(model) -> set[str]:
    beside = {f"model.{kind}.safetensors" for kind in COMPANIONS if companion(model.path, kind).is_file()}
    assert "model.confidence.safetensors" in beside
    return {"README.md", "config.json", "model.safetensors"} | beside


def test_a_saved_folder_is_the_same_model(model, saved):
    assert {path.name for path in saved.iterdir()} == files_of(model)
    assert (saved / "model.safetensors").read_bytes() == find_weights().read_bytes()
    crops = torch.rand(1, 3, model.crop_size, model.crop_size, generator=torch.Generator().manual_seed(0))
    for again in (tokenface.Reconstructor.from_pretrained(saved), tokenface.load(saved)):
        assert isinstance(again, tokenface.Reconstructor)
        np.testing.assert_array_equal(again.predict(crops).shape, model.predict(crops).shape)
        assert again.origin.weights_hash == model.origin.weights_hash
        assert again.calibration is not None


def test_saving_over_itself_keeps_the_weights(saved):
    before = (saved / "model.safetensors").read_bytes()
    tokenface.Reconstructor.from_pretrained(saved).save_pretrained(saved)
    assert (saved / "model.safetensors").read_bytes() == before


def test_companions_of_weights_that_were_saved_there_before_go(saved):
    stranger = saved / "model.centred.temporal.safetensors"
    for kind in COMPANIONS:
        (saved / f"model.{kind}.safetensors").write_bytes(b"of other weights")
    assert stranger.is_file()
    tokenface.load("tokenface-ti-synthetic").save_pretrained(saved)
    beside = {path.name for path in saved.glob("model.*.safetensors")}
    synthetic = find_weights("tokenface-ti-synthetic")
    assert beside == {f"model.{kind}.safetensors" for kind in COMPANIONS if companion(synthetic, kind).is_file()}
    assert all(path.read_bytes() != b"of other weights" for path in saved.glob("model.*.safetensors"))


def test_the_card_says_what_the_checkpoint_says(model, saved):
    card = huggingface_hub.ModelCard.load(saved / "README.md")
    facts = read_metadata(find_weights())
    assert card.data.library_name == "tokenface"
    assert card.data.pipeline_tag == "image-to-3d"
    assert card.data.license == facts["licence"].split(";")[0].lower()
    assert facts["network"]["backbone"] in card.text
    assert f"{facts['head']['vertices']} vertices" in card.text
    known = facts["metrics"].keys() & METRICS.keys()
    assert len(known) > 4
    assert all(f"{facts['metrics'][name]:.3g}" in card.text for name in known)
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))["tokenface"]
    assert config["network"] == facts["network"]
    assert "config" not in config["training"]  # it holds paths of the machine that trained


def test_a_model_without_a_checkpoint_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="not loaded from a checkpoint"):
        stand_in_model(HeadModel(toy_head_data())).save_pretrained(tmp_path)


def test_folders_that_are_no_model_are_explained(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        tokenface.Reconstructor.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="no folder and no name"):
        tokenface.Reconstructor.from_pretrained(tmp_path / "gone" / "x" / "y")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """HF_HUB_OFFLINE as huggingface_hub reads it when it is imported, and an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("load", [tokenface.Reconstructor.from_pretrained, lambda name: tokenface.load(f"hf://{name}")])
def test_offline_without_a_copy_is_one_line_that_says_what_to_do(offline, load):
    with pytest.raises(CheckpointError, match=r"cannot be reached.*save_pretrained wrote") as caught:
        load(REPOSITORY)
    assert "\n" not in str(caught.value)


def test_the_command_line_takes_hub_names_and_fails_in_one_line(offline, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"")
    code = run(["reconstruct", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "-w", f"hf://{REPOSITORY}"])
    assert code == SOME_FAILED
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_offline_with_a_copy_in_the_cache_loads_it(offline, saved, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "cache" / f"models--{REPOSITORY.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    shutil.copytree(saved, repository / "snapshots" / commit)
    model = tokenface.Reconstructor.from_pretrained(REPOSITORY)
    assert model.path is not None
    assert model.path.is_relative_to(repository)
    assert tokenface.load(f"hf://{REPOSITORY}@main").origin == model.origin


def test_the_hub_is_imported_when_it_is_used():
    script = "import sys, tokenface.model; sys.exit('huggingface_hub' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_option_is_named(saved):
    with pytest.raises(TypeError, match="'revison'"):
        tokenface.Reconstructor.from_pretrained(saved, revison="main")


class StandInApi:
    """The two calls of HfApi that a push makes."""

    pushed: dict

    def __init__(self, token=None):
        self.token = token

    def create_repo(self, repo_id, private=None, exist_ok=False):
        StandInApi.pushed = {"repo_id": repo_id, "private": private}
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, **_):
        StandInApi.pushed["files"] = {path.name: path.stat().st_size for path in Path(folder_path).iterdir()}
        StandInApi.pushed["card"] = (Path(folder_path) / "README.md").read_text(encoding="utf-8")
        return f"https://huggingface.co/{repo_id}/commit/1"


def test_a_push_uploads_weights_facts_and_card(model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", StandInApi)
    assert model.push_to_hub(REPOSITORY, private=True).endswith("/commit/1")
    pushed = StandInApi.pushed
    assert (pushed["repo_id"], pushed["private"]) == (REPOSITORY, True)
    assert set(pushed["files"]) == files_of(model)
    assert pushed["files"]["model.safetensors"] == find_weights().stat().st_size
    assert f'from_pretrained("{REPOSITORY}")' in pushed["card"]


def refusal(kind: type, status: int) -> Exception:
    request = httpx.Request("GET", f"https://huggingface.co/{REPOSITORY}")
    return kind("no", response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        (hub_errors.RepositoryNotFoundError, 404, "no repository"),
        (hub_errors.GatedRepoError, 403, "consent"),
        (hub_errors.RevisionNotFoundError, 404, "no such revision"),
        (hub_errors.RemoteEntryNotFoundError, 404, "no TokenFace model"),
        (hub_errors.HfHubHTTPError, 503, "refused"),
    ],
)
def test_every_refusal_of_the_hub_is_one_line(monkeypatch, kind, status, words):
    def refuse(*_, **__):
        raise refusal(kind, status)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(CheckpointError, match=words) as caught:
        tokenface.load(f"hf://{REPOSITORY}")
    assert "\n" not in str(caught.value)
