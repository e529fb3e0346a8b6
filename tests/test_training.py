"""The trainer learns, resumes exactly after a kill, and refuses what cannot work before hours are spent."""

from __future__ import annotations

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
import toy_backbone  # noqa: F401 (its networks)
from safetensors.torch import load_file

from tokenface.core.configuration import read_config
from tokenface.errors import CheckpointError, ConfigError, OutputError
from tokenface.inference.checkpoint import read_metadata
from tokenface.network.config import NetworkConfig
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import ComponentSizes
from tokenface.training.config import RunConfig, TrainConfig
from tokenface.training.distribution import create_fabric
from tokenface.training.metrics import TIMINGS, read_curve
from tokenface.training.module import freeze
from tokenface.training.run import train

TINY = (
    "run.threads=1",
    "network.backbone=vit_toy",
    "network.image_size=48",
    "run.batch=4",
    "run.log_every=1",
    "run.checkpoint_every=2",
    "run.validate_every=1000",
    "run.validation_people=2",
    "synthetic.block=8",
    "synthetic.fresh_per_step=2",
    "synthetic.ring=600",
    "synthetic.warm_start=8",
    "optimiser.warmup_steps=2",
)


class Killed(Exception):
    """What a kill between two steps looks like from inside."""


def run(folder, name: str, steps: int, kill_after: int | None = None, resume: bool = False):
    seen = []

    def report(line: str) -> None:
        if "loss" in line:
            seen.append(line)
            if kill_after is not None and len(seen) > kill_after:
                raise Killed

    overrides = (*TINY, f"run.folder={folder}", f"run.name={name}", f"run.steps={steps}")
    if resume:
        return train(resume=folder / name, report=report)
    return train(None, overrides, report=report)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return folder, run(folder, "whole", 6)


def test_a_run_leaves_weights_that_load_with_their_provenance(finished):
    folder, weights = finished
    metadata = read_metadata(weights)
    assert metadata["training"]["steps"] == 6
    assert metadata["training"]["images"] == 24
    assert "neutral_ratio" in metadata["metrics"]
    assert (folder / "whole" / "config.yaml").is_file()
    with (folder / "whole" / "train.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(r["step"]) for r in rows] == [1, 2, 3, 4, 5, 6]
    assert all(float(r["total"]) > 0 for r in rows)


def test_a_run_folder_holds_configuration_environment_curves_and_pictures(finished):
    folder = finished[0] / "whole"
    (start,) = json.loads((folder / "environment.json").read_text())
    assert start["step"] == 0
    assert start["libraries"]["torch"] == torch.__version__.partition("+")[0]
    assert start["code"]["version"]
    (picture,) = (folder / "pictures").glob("samples-*.png")
    image = cv2.imread(str(picture))
    assert image.shape == (2 * 256, 3 * 256, 3)
    photo, overlay, truth = np.split(image.astype(int), 3, axis=1)
    assert np.abs(photo - overlay).mean() > 1  # a head is drawn over the photo
    assert np.abs(photo - truth).mean() > 0.1
    assert list((folder / "tensorboard").iterdir())
    assert len(read_curve(folder / "validation.csv")) == 1


def test_a_killed_run_goes_on_with_identical_numbers(finished):
    folder, weights = finished
    with pytest.raises(Killed):
        run(folder, "killed", 6, kill_after=2)  # dies in step 3, the last state is of step 2
    again = run(folder, "killed", 6, resume=True)
    expected, resumed = load_file(weights), load_file(again)
    assert expected.keys() == resumed.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0, msg=name)
    rows, whole = (read_curve(folder / name / "train.csv") for name in ("killed", "whole"))
    assert [{**row, **dict.fromkeys(TIMINGS)} for row in rows] == [{**row, **dict.fromkeys(TIMINGS)} for row in whole]


def test_averages_of_a_resumed_curve_are_those_of_an_unbroken_one(tmp_path):
    """The state lies between two rows: what was summed up before it belongs to the next row."""
    rows = {}
    settings = (
        *TINY, "network.image_size=32", "run.validation_people=1", f"run.folder={tmp_path}", "run.steps=6",
        "run.log_every=3", "run.checkpoint_every=2",
    )  # fmt: skip
    train(None, (*settings, "run.name=whole"), report=lambda line: None)
    seen = []

    def killed(line: str) -> None:
        seen.append(line)
        if "step 3/6" in line:
            raise Killed

    with pytest.raises(Killed):
        train(None, (*settings, "run.name=broken"), report=killed)
    train(resume=tmp_path / "broken", report=lambda line: None)
    for name in ("whole", "broken"):
        rows[name] = [{**row, **dict.fromkeys(TIMINGS)} for row in read_curve(tmp_path / name / "train.csv")]
    assert rows["broken"] == rows["whole"]
    assert [row["step"] for row in rows["whole"]] == ["3", "6"]
    train(resume=tmp_path / "broken", report=lambda line: None)  # a run that has ended
    steps = [row["step"] for row in read_curve(tmp_path / "broken" / "validation.csv")]
    assert len(steps) == len(set(steps))


def test_a_finished_run_is_not_overwritten(finished):
    with pytest.raises(ConfigError, match="--resume"):
        run(finished[0], "whole", 6)


def test_a_state_of_another_network_or_a_damaged_one_is_refused(finished, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(finished[0] / "whole", folder)
    with pytest.raises(CheckpointError, match=r"AdamW|MuonAdamW.*optimiser\.name"):
        train(None, ["optimiser.name=adamw"], resume=folder, report=lambda _: None)
    with pytest.raises(CheckpointError, match="another network"):
        train(None, ["network.tokens=1"], resume=folder, report=lambda _: None)
    assert read_config(TrainConfig, folder / "config.yaml").network.tokens == 6  # a refused change leaves no trace
    state = folder / "state.safetensors"
    from tokenface.head.data import HeadData
    from tokenface.head.registry import head_path

    other = HeadData.load(head_path("openhead"))
    other.template = other.template * np.float32(1.01)  # as many numbers, another head
    other.save(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="another head model"):
        train(None, [f"head={tmp_path / 'other.safetensors'}"], resume=folder, report=lambda _: None)
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        train(resume=folder, report=lambda _: None)


def test_missing_photos_are_reported_before_training(tmp_path):
    with pytest.raises(Exception, match="no photo tar"):
        train(None, [*TINY, "photos.tar=/nowhere.tar", f"run.folder={tmp_path}"], report=lambda _: None)


def test_a_full_disk_is_reported_before_training(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr("tokenface.training.preflight.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(OutputError, match=r"needs 0\.\d GB .* 0\.0 GB are free"):
        train(None, [*TINY, f"run.folder={tmp_path}"], report=lambda _: None)


def test_a_batch_that_cannot_be_shared_is_reported_before_training(tmp_path):
    with pytest.raises(ConfigError, match=r"4 rendered faces of each batch.*multiple of 3"):
        train(None, [*TINY, "run.accumulate=3", f"run.folder={tmp_path}"], report=lambda _: None)


def test_frozen_parameters_stay_and_an_unknown_one_is_named():
    network = TokenFace(NetworkConfig(backbone="vit_tiny_stem", image_size=64), ComponentSizes(5, 6, 4), seed=0)
    count = freeze(network, ("backbone", "heads.fc.shape"))
    still = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert count == sum(dict(network.named_parameters())[name].numel() for name in still)
    assert {name.split(".")[0] for name in still} == {"backbone", "heads"}
    assert sum(len(group["params"]) for group in network.parameter_groups(0.1)) == len(
        list(network.parameters())
    ) - len(still)
    with pytest.raises(ConfigError, match=r"begins with 'head'.*heads\.fc\.jaw"):
        freeze(network, ("head",))


def test_fp16_and_fsdp_are_refused_where_they_cannot_work():
    with pytest.raises(ConfigError, match=r"fp16.*GPU"):
        create_fabric(RunConfig(device="cpu", precision="fp16"))
    with pytest.raises(ConfigError, match=r"fsdp.*torchrun"):
        create_fabric(RunConfig(device="cpu", strategy="fsdp"))


def test_bf16_accumulated_and_made_ahead(tmp_path):
    small = [*TINY, "network.image_size=32", "run.steps=2", "run.validation_people=1", f"run.folder={tmp_path}"]
    overrides = ["run.precision=bf16", "run.accumulate=2", "run.ahead=2"]
    train(None, [*small, *overrides, "run.name=bf16"], report=lambda _: None)
    train(None, [*small, "run.name=fp32"], report=lambda _: None)
    (bf16, _), (fp32, _) = (read_curve(tmp_path / name / "train.csv") for name in ("bf16", "fp32"))
    for term in ("total", "neutral", "landmarks", "light"):  # the same batch, in two passes of half precision
        assert float(bf16[term]) == pytest.approx(float(fp32[term]), rel=0.02)
    assert bf16["total"] != fp32["total"]
