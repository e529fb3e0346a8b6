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
    from tokenface.cli.console import out
    from tokenface.deploy.export import export as run

    console = out()
    run(weights, output, _names(runtimes), _names(precisions), lambda line: console.print(line, markup=False), photos)
    console.print(f"files: {output}", markup=False)


def _names(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",") if part.strip()]
