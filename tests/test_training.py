"""The trainer learns, resumes exactly after a kill, and refuses what cannot work before hours are spent."""

from __future__ import annotations

import csv

import pytest
import torch
from safetensors.torch import load_file

from tokenface.errors import CheckpointError, ConfigError
from tokenface.network.checkpoint import read_metadata
from tokenface.training.run import train

TINY = (
    "network.backbone=vit_tiny_stem",
    "network.image_size=64",
    "run.batch=4",
    "run.log_every=1",
    "run.checkpoint_every=2",
    "run.validate_every=1000",
    "run.validation_people=2",
    "synthetic.block=8",
    "synthetic.fresh_per_step=2",
    "synthetic.ring=600",
    "synthetic.warm_start=16",
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


def test_a_killed_run_goes_on_with_identical_numbers(finished):
    folder, weights = finished
    with pytest.raises(Killed):
        run(folder, "killed", 6, kill_after=2)  # dies in step 3, the last state is of step 2
    again = run(folder, "killed", 6, resume=True)
    expected, resumed = load_file(weights), load_file(again)
    assert expected.keys() == resumed.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0, msg=name)


def test_a_finished_run_is_not_overwritten(finished):
    with pytest.raises(ConfigError, match="--resume"):
        run(finished[0], "whole", 6)


def test_a_state_of_another_network_or_a_damaged_one_is_refused(finished, tmp_path):
    import shutil

    folder = tmp_path / "other"
    shutil.copytree(finished[0] / "whole", folder)
    with pytest.raises(CheckpointError, match="another network"):
        train(None, ["network.tokens=1"], resume=folder, report=lambda _: None)
    state = folder / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        train(resume=folder, report=lambda _: None)


def test_missing_photos_are_reported_before_training(tmp_path):
    with pytest.raises(Exception, match="no photo tar"):
        train(None, [*TINY, "photos.tar=/nowhere.tar", f"run.folder={tmp_path}"], report=lambda _: None)
