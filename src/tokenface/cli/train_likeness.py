"""`tokenface train-likeness`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_likeness(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to the configuration: key=value.", show_default=False)
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Image weights by name or path.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File.", show_default="beside the image weights")
    ] = None,
) -> None:
    """Learn how the answers of some image weights differ from people; half an hour on a CPU."""
    from tokenface.cli.console import out
    from tokenface.likeness.train import train_likeness as run

    given = {"weights": weights, "output": output}
    changes = [f"{name}={value}" for name, value in given.items() if value is not None]
    path = run(None, [*changes, *(overrides or ())], lambda line: out().print(line))
    out().print(f"likeness → {path}")
