"""Settings and stages of a run: precedence of settings, and configurations derived from a common part.

From the least: the defaults of `training/config.py`, a scale of `ablate`, the configuration file, the command line, a
row of a table. Steps and epochs are two words for one thing: whoever sets one of them takes the other's word back.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenface.core.configuration import from_dict, read_layers, read_values
from tokenface.errors import ConfigError
from tokenface.network.temporal_checkpoint import temporal_path
from tokenface.training.config import StageConfig, TrainConfig
from tokenface.training.temporal.config import TemporalConfig

RULE = "settings, later ones win: defaults, scale, configuration file, command line, row"


def train_config(path: str | Path | None, overrides: Iterable[str] = (), under: Iterable[str] = ()) -> TrainConfig:
    """The settings of a run.

    Args:
        path: YAML of a `TrainConfig`, or None.  overrides: `section.key=value`, above the file.
        under: the same, below the file.
    Raises:
        ConfigError: missing or malformed file, unknown key, value of the wrong type.
    """
    return read_layers(TrainConfig, layers(path, overrides, under))


def layers(path: str | Path | None, overrides: Iterable[str] = (), under: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The same as nested dictionaries, the least first."""
    parts = [read_values(None, under), read_values(path), read_values(None, overrides)]
    return [_one_length(part) for part in parts]


def overruled(under: Iterable[str], config: TrainConfig) -> list[str]:
    """`section.key=value` of a scale that something above it has changed, with what it is now."""
    changed = []
    for change in under:
        key, _, _ = change.partition("=")
        wanted: Any = read_values(None, [change])
        now: Any = config
        for part in key.split("."):
            wanted, now = wanted[part], getattr(now, part)
        if isinstance(now, float):  # YAML takes 2e-3 for a word
            wanted = float(wanted)
        if wanted != (list(now) if isinstance(now, tuple) else now):
            changed.append(f"{change} is {now}")
    return changed


def _one_length(values: dict[str, Any]) -> dict[str, Any]:
    """Who sets steps, and no epochs, means steps."""
    run = values.get("run")
    if isinstance(run, Mapping) and "steps" in run and "epochs" not in run:
        return {**values, "run": {**run, "epochs": 0}}
    return values


WEIGHTS = "weights.safetensors"


class Leg(NamedTuple):
    """A stage that is ready to run, in its folder."""

    name: str
    folder: Path
    config: TrainConfig | TemporalConfig

    @property
    def weights(self) -> Path:
        """What the stage leaves: image weights; of a temporal stage a copy of its image weights, with the transformer
        beside them, as `tokenface track` looks for it."""
        return self.folder / WEIGHTS


def stage_names(config: TrainConfig) -> list[str]:
    """In the order of the run.

    Raises:
        ConfigError: a name twice.
    """
    names = [stage.name for stage in config.stages]
    if len(set(names)) < len(names):
        raise ConfigError(f"two stages have the same name: {', '.join(names)}")
    return names


def plan(config: TrainConfig, folder: Path, only: str | None = None) -> list[Leg]:
    """The stages in order, each with its whole configuration.

    A stage lives in `<folder>/<name>` and starts from the weights of the image stage before it, unless its changes
    or, for the first one, the common part say otherwise.

    Args:
        only: name of the one stage to run; it starts from the stage before it if that one's weights are there, else
            from `start_from`.
    Raises:
        ConfigError: an unknown key or stage.
    """
    names = stage_names(config)
    if only is not None and only not in names:
        near = difflib.get_close_matches(only, names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names) or 'none'}"
        raise ConfigError(f"no stage '{only}' in this configuration; {hint}")
    legs = []
    before: Path | None = None
    for stage in config.stages:
        start = config.start_from
        if before is not None and (only is None or before.is_file()):
            start = str(before)
        if only is None or stage.name == only:
            legs.append(Leg(stage.name, folder / stage.name, _configuration(config, stage, folder, start)))
        if stage.kind == "image":
            before = folder / stage.name / WEIGHTS
    return legs


def _configuration(
    config: TrainConfig, stage: StageConfig, folder: Path, start: str | None
) -> TrainConfig | TemporalConfig:
    try:
        if stage.kind == "temporal":
            place = folder / stage.name
            values = _changed({"folder": str(place), "weights": start}, stage)
            mode = values.get("mode", TemporalConfig.mode)
            return from_dict(TemporalConfig, {"output": str(temporal_path(place / WEIGHTS, mode)), **values})
        values = dataclasses.asdict(config) | {"stages": (), "start_from": start}
        if "run.steps" in stage.changes:  # who sets steps means steps, as in `training/stages.py`
            values["run"]["epochs"] = 0
        values = _changed(values, stage)
        values["run"] |= {"folder": str(folder), "name": stage.name}
        return from_dict(TrainConfig, values)
    except ConfigError as error:
        raise ConfigError(f"stage '{stage.name}': {error}") from error


def _changed(values: dict[str, Any], stage: StageConfig) -> dict[str, Any]:
    for key, value in stage.changes.items():
        *sections, last = str(key).split(".")
        place: Any = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"'{section}' in '{key}' is a value, not a section")
        place[last] = value
    return values
