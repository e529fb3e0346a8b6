"""`tokenface train` and `tokenface train-temporal`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the configuration: section.key=value.", show_default=False)
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file; none: the defaults.", show_default=False)
]


def train(
    overrides: Overrides = None,
    config: ConfigFile = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder to go on with, from any step.", show_default=False)
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="Run this stage of the configuration alone.", show_default=False)
    ] = None,
) -> None:
    """Train weights, or go on with a run that was interrupted. Several processes: torchrun -m tokenface train …"""
    run_training = training_function("train")
    path = run_training(config, overrides or (), resume, stage=stage)
    from tokenface.cli.console import out
    from tokenface.training.distribution import World

    if World.is_first():
        out().print(f"weights → {path}")


def ablate(
    table: Annotated[str, typer.Argument(help="tokens, backbone, data, weights or pose-aware.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="section.key=value for all runs, ROW:section.key=value for a row's.", show_default=False),
    ] = None,
    scale: Annotated[
        str, typer.Option(help="seconds, minutes, known-faces, full, or file: the configuration file's own.")
    ] = "minutes",
    seeds: Annotated[int, typer.Option(help="Runs of each row, with different seeds.", min=1)] = 3,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file; it overrules the scale.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of runs and tables.")] = Path("runs/ablations"),
    now: Annotated[
        Path | None, typer.Option(help="NoW download: rows are measured on its validation, too.", show_default=False)
    ] = None,
) -> None:
    """Repeat a table of the paper: train its rows, measure them on held-out people, write it beside the paper's."""
    from tokenface.cli.console import out

    run_ablation = training_function("ablate")
    path = run_ablation(table, output, scale=scale, seeds=seeds, config_path=config, overrides=overrides or (), now=now)
    out().print(f"table → {path}")


def training_function(name: str):
    """`train` or `ablate`; without the extra that they need, an error that says how to get it."""
    from importlib.util import find_spec

    from tokenface.errors import ConfigError

    if find_spec("lightning_fabric") is None:
        raise ConfigError("training needs Lightning Fabric; pip install 'tokenface[train]'")
    if name == "train":
        from tokenface.training.run import train

        return train
    from tokenface.training.ablation import ablate

    return ablate


def train_temporal(
    overrides: Overrides = None,
    config: ConfigFile = None,
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Image weights by name or path.", show_default=False)
    ] = None,
    mode: Annotated[str | None, typer.Option(help="centred or causal.", show_default="centred")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File.", show_default="beside the image weights")
    ] = None,
) -> None:
    """Train the temporal transformer of some image weights, which stay as they are; a quarter of an hour on a CPU."""
    from tokenface.cli.console import out
    from tokenface.training.temporal.run import train_temporal as run

    given = {"weights": weights, "mode": mode, "output": output}
    changes = [f"{name}={value}" for name, value in given.items() if value is not None]
    path = run(config, [*changes, *(overrides or ())], lambda line: out().print(line))
    out().print(f"temporal weights → {path}")
