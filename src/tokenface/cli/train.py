"""`tokenface train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to the configuration: section.key=value.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file; none: the defaults.", show_default=False)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder to go on with, from any step.", show_default=False)
    ] = None,
) -> None:
    """Train weights, or go on with a run that was interrupted."""
    from tokenface.cli.console import out
    from tokenface.training.run import train as run_training

    path = run_training(config, overrides or (), resume)
    out().print(f"weights → {path}")
