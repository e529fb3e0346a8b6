"""`tokenface evaluate`: the field's benchmarks, and an open one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tokenface.evaluation.results import Results

app = typer.Typer(
    help="Measure predictions: NoW, Stirling, AFLW2000-3D, video, the open benchmark.", no_args_is_help=True
)

Weights = Annotated[
    str | None, typer.Option("--model", "--weights", "-w", help="Weights by name or path.", show_default=False)
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder for tables, curves and cached alignments.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes that measure.", show_default="processor cores")]
Predictions = Annotated[
    Path | None, typer.Option(help="Somebody's predictions in the official layout.", show_default=False)
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]


def cores() -> int:
    import os

    return os.cpu_count() or 1


@app.command()
def now(
    dataset: Annotated[Path, typer.Argument(help="Folder of the NoW download.", show_default=False)],
    predictions: Predictions = None,
    model: Weights = None,
    output: Output = Path("runs/now"),
    split: Annotated[str, typer.Option(help="validation, or test (packed for the organisers).")] = "validation",
    challenge: Annotated[str | None, typer.Option(help="One challenge alone.", show_default=False)] = None,
    metrical: Annotated[bool, typer.Option("--metrical", help="Believe the unit; keep the scale.")] = False,
    unit: Annotated[str, typer.Option(help="Unit of the predictions: mm, cm, m (metrical alone).")] = "m",
    corrected: Annotated[bool, typer.Option("--corrected", help="Without the official code's quirks.")] = False,
    method: Annotated[str, typer.Option(help="Name for tables and result files.", show_default="the folder's")] = "",
    workers: Workers = None,
    worst: Annotated[int, typer.Option(min=0, help="Error-coloured meshes of so many worst images.")] = 5,
    device: Device = "auto",
) -> int:
    """NoW: scan-to-mesh error of neutral faces, with the official quirks unless --corrected.

    With --predictions anybody's meshes are measured (<subject>/<challenge>/<image>.obj or .ply, with .npy or .txt),
    else our own network makes them first. Exit code 1 if an image has no usable prediction.
    """
    from tokenface.cli.console import out
    from tokenface.evaluation.now import NowFolder, now_jobs, pack_predictions, write_official_results
    from tokenface.evaluation.predict import PhotoTask
    from tokenface.evaluation.scan_to_mesh import Protocol

    folder = NowFolder(dataset)
    images = folder.images(split, challenge)
    place = predictions
    if place is None:
        place = output / "predictions"
        tasks = [
            PhotoTask(i.name, folder.photo(i), folder.box(i), place / i.subject / i.challenge / i.stem) for i in images
        ]
        _predict(tasks, model, device)
    method = method or (predictions.resolve().name if predictions else "tokenface")
    if split == "test":
        packed, missing = pack_predictions(images, place, output / f"{method}_test.zip")
        out().print(f"{packed} of {len(images)} images packed → {output / f'{method}_test.zip'}")
        return _complain(missing, "has no mesh and landmarks, and is not packed")
    name = "NoW, metrical" if metrical else "NoW, non-metrical"
    protocol = Protocol(name, metrical=metrical, quirks=not corrected)
    results = _measure(now_jobs(folder, images, place), protocol, unit, output, method, workers, worst)
    official = write_official_results(output / "results", method, results.outcomes, metrical, challenge)
    out().print(f"official result file: {official}")
    return _finish(results, output)


def _predict(tasks, model: str | None, device: str) -> None:
    """Run the network over the photos; what fails is missing later, and is said now."""
    import tokenface
    from tokenface.cli.console import err, print_error
    from tokenface.evaluation.predict import predict_photos

    reconstructor = tokenface.load(model, device)
    from rich.progress import track

    console = err()
    steps = predict_photos(reconstructor, tasks)
    for task, problem in track(
        steps, "reconstructing", len(tasks), console=console, transient=True, disable=not console.is_terminal
    ):
        if problem is not None:
            print_error(f"{task.name}: {problem}")


def _measure(jobs, protocol, unit: str, output: Path, method: str, workers: int | None, worst: int) -> Results:
    """Measure all jobs with a progress bar, and write the files."""
    import time

    from rich.progress import track

    from tokenface.cli.console import err
    from tokenface.errors import ConfigError
    from tokenface.evaluation.batch import measure_all
    from tokenface.evaluation.results import summarise, write_results
    from tokenface.evaluation.scan_to_mesh import MILLIMETRES

    workers = workers or cores()
    if unit not in MILLIMETRES:
        raise ConfigError(f"no unit '{unit}'; predictions are in {', '.join(MILLIMETRES)}")
    console, begun = err(), time.perf_counter()
    steps = measure_all(jobs, protocol, unit, output / "cache", workers)  # type: ignore[arg-type]
    outcomes = list(
        track(steps, "measuring", len(jobs), console=console, transient=True, disable=not console.is_terminal)
    )
    results = summarise(method, protocol, outcomes)
    write_results(results, output, {"wall seconds": round(time.perf_counter() - begun, 2), "workers": workers}, worst)
    return results


def _finish(results: Results, output: Path) -> int:
    """Print the tables and every image that has no result; returns the exit code."""
    from rich.table import Table

    from tokenface.cli.console import out

    console = out()
    table = Table(title=f"{results.method}: {results.protocol.label}, millimetres", box=None, title_justify="left")
    for column in ("", "median", "mean", "std", "mean of images", "95 %", "images", "coverage"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in results.figures.items():
        numbers = [f"{value:.3f}" for value in (row.median, row.mean, row.std, row.image_mean)]
        interval = f"{row.low:.3f}–{row.high:.3f}" if row.low == row.low else "–"
        table.add_row(name, *numbers, interval, str(row.images), f"{100 * row.coverage:.1f} %")
    console.print(table)
    console.print("regions: " + ", ".join(f"{name} {value:.3f}" for name, value in results.regions.items()))
    for outcome in results.worst(3):
        console.print(f"worst: {outcome.job.name} {outcome.values.mean():.3f}")
    console.print(f"tables, curves and meshes: {output}")
    return _complain([outcome.error or "" for outcome in results.failures], "")


def _complain(problems: list[str], what: str) -> int:
    from tokenface.cli import SOME_FAILED, SUCCESS
    from tokenface.cli.console import print_error

    for problem in problems:
        print_error(f"{problem} {what}".strip())
    return SOME_FAILED if problems else SUCCESS
