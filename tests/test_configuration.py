"""Configuration files: types, overrides, and errors that name the nearest valid key."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tokenface.core.configuration import read_config, to_yaml
from tokenface.errors import ConfigError
from tokenface.training.temporal.config import TemporalConfig


@dataclass(frozen=True)
class Section:
    rate: float = 0.1
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Whole:
    name: str = "a"
    path: str | None = None
    section: Section = field(default_factory=Section)


def test_yaml_and_overrides_give_typed_values(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("name: b\nsection:\n  rate: 1e-4\n  sizes: [3, 4, 5]\n")
    config = read_config(Whole, file, ["section.rate=2", "path=x"])
    assert config == Whole("b", "x", Section(2.0, (3, 4, 5)))


def test_written_configuration_reads_back_equal(tmp_path):
    config = Whole("z", None, Section(0.5, (7,)))
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config))
    assert read_config(Whole, file) == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nmae: b", "did you mean 'name'"),
        ("section: {rat: 1}", "did you mean 'section.rate'"),
        ("section: 3", "'section' is a section"),
        ("section: {rate: fast}", "'section.rate' must be a number"),
        ("section: {sizes: 3}", "'section.sizes' must be a list"),
        ("name: [unclosed", "not valid YAML"),
        ("- 1", "must hold 'key: value' pairs"),
    ],
)
def test_mistakes_are_refused_with_what_to_do(tmp_path, content, message):
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(Whole, file)
    assert "\n" not in str(caught.value)


def test_missing_file_and_malformed_override(tmp_path):
    with pytest.raises(ConfigError, match="no configuration at"):
        read_config(Whole, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        read_config(Whole, None, ["name"])


def test_former_keys_are_read_with_a_warning(tmp_path):
    file = tmp_path / "temporal.yaml"
    file.write_text("data: {choosing_people: [a]}\nlosses: {looks: 3}\n")
    with pytest.warns(DeprecationWarning, match="'data.validation_people'"):
        config = read_config(TemporalConfig, file)
    assert (config.data.validation_people, config.losses.appearance_mean) == (("a",), 3.0)
    file.write_text("data: {choosing_people: [a], validation_people: [b]}")
    with pytest.warns(DeprecationWarning, match="choosing_people"), pytest.raises(ConfigError, match="former name"):
        read_config(TemporalConfig, file)
