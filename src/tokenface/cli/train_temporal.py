"""`tokenface train-temporal`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_temporal(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to the configuration: section.key=value.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file; none: the defaults.", show_default=False)
    ] = None,
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
