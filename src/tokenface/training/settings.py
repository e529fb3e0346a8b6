"""One rule of precedence for the settings of a run: what stands nearer to the user wins.

From the least: the defaults of `training/config.py`, a scale of `ablate`, the configuration file, the command line, a
row of a table. Steps and epochs are two words for one thing: whoever sets one of them takes the other's word back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenface.core.configuration import read_layers, read_values
from tokenface.training.config import TrainConfig

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
