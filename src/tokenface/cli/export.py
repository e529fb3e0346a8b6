"""`tokenface export`: weights for onnxruntime, OpenVINO and C++."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("exported"),
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights by name or path.", show_default=False)
    ] = None,
    runtimes: Annotated[str, typer.Option("--runtime", help="Comma-separated: onnx, openvino, torch.")] = "onnx",
    precisions: Annotated[
        str,
        typer.Option(
            "--precision", help="Comma-separated: fp32, fp16, int8 (calibrated on rendered faces), of every file."
        ),
    ] = "fp32",
    photos: Annotated[bool, typer.Option(help="Also the graph that takes whole photos, detector and all.")] = True,
) -> None:
    """Export photos → faces, crops → parameters and parameters → vertices; says how far every file is from torch."""
    from tokenface.cli.console import err, out
    from tokenface.cli.needs import need_export, words

    for name in words(runtimes):
        need_export(name)

    from tokenface.deploy.export import export as run

    console, status = out(), err()
    with status.status("exporting") as shown:  # nothing where stderr is no terminal

        def report(line: str) -> None:
            console.print(line)
            shown.update(f"exporting; last file: {line.split()[0]}")

        run(weights, output, words(runtimes), words(precisions), report, photos)
    console.print(f"files: {output}")
