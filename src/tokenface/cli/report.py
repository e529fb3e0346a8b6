"""`tokenface report`: finished evaluations as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    sources: Annotated[list[Path], typer.Argument(help="Folders of evaluations.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML file.")] = Path("report.html"),
) -> None:
    """Tables with the published rows beside ours, curves and figures, in one HTML file that needs nothing else."""
    from tokenface.cli.console import out
    from tokenface.evaluation.report import write_report

    out().print(f"report → {write_report(sources, output)}")
