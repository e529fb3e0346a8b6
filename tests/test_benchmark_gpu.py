"""`benchmarks.gpu` rehearsed on the CPU: all sections give figures, a failed one costs itself alone, runs go on."""

from __future__ import annotations

import json

import pytest
from benchmarks import gpu, gpu_sections
from benchmarks.gpu_sections import SECTIONS, Setting


def test_a_failed_section_costs_itself_alone_and_is_tried_again(tmp_path):
    calls: list[str] = []

    def run(name: str, setting: Setting) -> dict:
        calls.append(name)
        if name == "generator" and calls.count(name) == 1:
            raise RuntimeError("out of memory")
        return {"figure": len(calls)}

    figures = gpu.measure(Setting(tmp_path, True, 60), [*SECTIONS], run, 10)
    assert figures["generator"] == {"error": "RuntimeError: out of memory"}
    assert all(figures[name] == {"figure": n + 1} for n, name in enumerate(SECTIONS) if name != "generator")
    figures = gpu.measure(Setting(tmp_path, True, 60), [*SECTIONS], run, 10)
    assert calls[len(SECTIONS) :] == ["generator", "train"]  # what is missing, and the next piece of training
    assert not any("error" in values for values in figures.values())
    assert json.loads((tmp_path / "gpu.json").read_text()) == figures
    assert (tmp_path / "gpu.md").read_text().count("\n") == 2 + len(SECTIONS)


def test_no_section_starts_when_no_time_is_left(tmp_path):
    figures = gpu.measure(Setting(tmp_path, True, 60), ["generator"], lambda name, setting: {"figure": 1}, 0.1)
    assert "call the script again" in figures["generator"]["error"]


@pytest.mark.parametrize("name", ["device", "generator", "training"])
def test_a_rehearsed_section_gives_figures(name, tmp_path):
    figures = SECTIONS[name](Setting(tmp_path, True, 60))
    numbers = [value for value in figures.values() if not isinstance(value, str)]
    assert len(numbers) >= 1
    assert all(value >= 0 for value in numbers)
    if name == "training":
        assert figures["GFLOP_per_image_forward_and_backward"] > 0
        assert figures["whole_steps_images_per_s"] > 0


def test_training_goes_on_where_the_last_piece_was_stopped(tmp_path):
    first = gpu_sections.train(Setting(tmp_path, True, 60))
    second = gpu_sections.train(Setting(tmp_path, True, 60))
    assert (first["step"], second["step"]) == (2, 4)


def test_the_work_of_a_vision_transformer_is_counted(tmp_path):
    """A ViT-B of 196 patches: 12 blocks of 24·n·d² + 4·n²·d, twice that again for the gradients."""
    from tokenface.core.configuration import read_config
    from tokenface.network.config import NetworkConfig
    from tokenface.network.tokenface import TokenFace
    from tokenface.parameters import ComponentSizes
    from tokenface.training.config import TrainConfig

    config = read_config(TrainConfig, gpu_sections.CONFIG)
    assert config.network.backbone == "vit_base_patch16"
    network = TokenFace(NetworkConfig(backbone="vit_tiny_patch16", image_size=64), ComponentSizes(8, 4, 6))
    n, d = 16 + 1 + 6, 192
    expected = 3 * 12 * (24 * n * d**2 + 4 * n**2 * d)
    assert gpu_sections.work_per_image(network, 64) == pytest.approx(expected, rel=0.1)
