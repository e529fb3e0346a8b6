"""`tokenface demo`: reconstruction of the shipped photo with the shipped weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for photos and results.")] = Path("demo"),
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights by name or path.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> int:
    """Reconstruct a few free photos and say where the results are."""
    from tokenface.cli.console import out
    from tokenface.cli.reconstruct import report
    from tokenface.jobs.examples import write_example_photos
    from tokenface.jobs.reconstruct import Options, Run

    photos = write_example_photos(output / "photos")
    run = Run([photos], output / "results", Options(weights=weights, device=device, overwrite=True))
    for result in run:
        out().print(f"{result.item.name}: {len(result.faces)} {'face' if len(result.faces) == 1 else 'faces'}")
    code = report(run)
    for folder, _ in run.done:
        out().print(f"look at {folder / 'overlay.png'} and open {folder / 'face_00.glb'} in any glTF viewer")
    return code
