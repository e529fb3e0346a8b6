"""`tokenface evaluate`: published benchmarks and an open one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tokenface.evaluation.results import Results

app = typer.Typer(
    help="Measure predictions: NoW, Stirling, AFLW2000-3D, video, the open benchmark.",
    no_args_is_help=True,
    rich_markup_mode=None,
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
    from tokenface.cli.needs import need

    need("igl", "matplotlib")

    from tokenface.evaluation.now import NowFolder, now_jobs, pack_predictions, write_official_results
    from tokenface.evaluation.predict import PhotoTask
    from tokenface.evaluation.scan_to_mesh import Protocol

    folder = NowFolder(dataset)
    images = folder.images(split, challenge)
    place = predictions
    facts: dict[str, object] = {}
    if place is None:
        place = output / "predictions"
        tasks = [
            PhotoTask(i.name, folder.photo(i), folder.box(i), place / i.subject / i.challenge / i.stem) for i in images
        ]
        facts = _predict(tasks, model, device)
    method = method or (predictions.resolve().name if predictions else "tokenface")
    if split == "test":
        packed, missing = pack_predictions(images, place, output / f"{method}_test.zip")
        out().print(f"{packed} of {len(images)} images packed → {output / f'{method}_test.zip'}")
        return _complain(missing, "has no mesh and landmarks, and is not packed")
    name = "NoW, metrical" if metrical else "NoW, non-metrical"
    protocol = Protocol(name, metrical=metrical, quirks=not corrected)
    results = _measure(now_jobs(folder, images, place), protocol, unit, output, method, workers, worst, facts)
    official = write_official_results(output / "results", method, results.outcomes, metrical, challenge)
    out().print(f"official result file: {official}")
    return _finish(results, output)


def _predict(tasks, model: str | None, device: str) -> dict[str, object]:
    """Run the network over the photos; what fails is missing later, and is said now. Returns whose they are."""
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
    return {"weights": {reconstructor.origin.weights: reconstructor.origin.weights_hash}}


def _measure(
    jobs, protocol, unit: str, output: Path, method: str, workers: int | None, worst: int, facts: dict[str, object]
) -> Results:
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
    facts = {**facts, "wall seconds": round(time.perf_counter() - begun, 2), "workers": workers}
    write_results(results, output, facts, worst)
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
    from tokenface.cli.console import SOME_FAILED, SUCCESS, print_error

    for problem in problems:
        print_error(f"{problem} {what}".strip())
    return SOME_FAILED if problems else SUCCESS


@app.command()
def stirling(
    dataset: Annotated[Path, typer.Argument(help="Folder of the Stirling (ESRC) data.", show_default=False)],
    predictions: Predictions = None,
    model: Weights = None,
    output: Output = Path("runs/stirling"),
    split: Annotated[list[str] | None, typer.Option(help="HQ, LQ; may be repeated.", show_default="both")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="fg2018, now; may be repeated.", show_default="both")] = None,
    method: Annotated[str, typer.Option(help="Name for the tables.", show_default="the folder's")] = "",
    workers: Workers = None,
    worst: Annotated[int, typer.Option(min=0, help="Error-coloured meshes of so many worst images.")] = 5,
    device: Device = "auto",
) -> int:
    """Stirling / FG2018: by the challenge's own rule, and by NoW's rule, each labelled.

    Predictions: <split>/<photo>.obj or .ply with .npy or .txt; without them our own network makes them first.
    """
    from tokenface.cli.needs import need

    need("igl", "matplotlib")

    from tokenface.core.fingerprint import remove_stale
    from tokenface.errors import ConfigError
    from tokenface.evaluation.predict import PhotoTask
    from tokenface.evaluation.stirling import RULES, SPLITS, StirlingFolder, stirling_jobs, write_distance_files

    folder, splits, rules = StirlingFolder(dataset), tuple(split or SPLITS), tuple(rule or RULES)
    if unknown := set(rules) - set(RULES):
        raise ConfigError(f"no rule '{unknown.pop()}' for Stirling; there are {', '.join(RULES)}")
    place = predictions
    facts: dict[str, object] = {}
    if place is None:
        place = output / "predictions"
        facts = _predict(
            [PhotoTask(p.name, p, None, place / name / p.stem) for name in splits for p in folder.photos(name)],
            model,
            device,
        )
    method = method or (predictions.resolve().name if predictions else "tokenface")
    jobs, problems = stirling_jobs(folder, splits, place)
    code = _complain(problems, "")
    for name in rules:
        results = _measure(jobs, RULES[name], "mm", output / name, method, workers, worst, facts)
        if name == "fg2018":
            distances = output / name / "distances"
            remove_stale(distances, "**/*_distances.txt", list(write_distance_files(distances, results.outcomes)))
        code = max(code, _finish(results, output / name))
    return code


@app.command()
def aflw2000(
    dataset: Annotated[Path, typer.Argument(help="Folder of AFLW2000-3D.", show_default=False)],
    model: Weights = None,
    output: Output = Path("runs/aflw2000"),
    device: Device = "auto",
) -> int:
    """AFLW2000-3D: error of the 68 points by pose range, and of the head's angles. The face's box is the data set's."""
    import json
    from dataclasses import asdict

    from rich.progress import track

    import tokenface
    from tokenface.cli.console import err, out
    from tokenface.core.files import write_atomically
    from tokenface.errors import TokenFaceError
    from tokenface.evaluation.aflw2000 import AflwRow, aflw_figures, compare, read_aflw2000, rows_csv
    from tokenface.evaluation.open_run import rounded

    truths = read_aflw2000(dataset)
    reconstructor, rows = tokenface.load(model, device), []
    console = err()
    for truth in track(truths, "measuring", console=console, transient=True, disable=not console.is_terminal):
        try:
            face = reconstructor.reconstruct(truth.photo, boxes=truth.box[None])[0]
            rows.append(compare(truth, face.landmarks, face.camera.rotation))
        except (TokenFaceError, IndexError) as error:
            rows.append(AflwRow(truth.photo.name, float(truth.angles[1]), error=str(error) or "no prediction"))
    figures = aflw_figures(rows)
    write_atomically(output / "images.csv", rows_csv(rows).encode())
    document = {"benchmark": "AFLW2000-3D", "weights": reconstructor.origin.weights_hash, **asdict(figures)}
    write_atomically(
        output / "summary.json", (json.dumps(rounded(document), indent=2, ensure_ascii=False) + "\n").encode()
    )
    out().print("NME, % of √box: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.nme.items()))
    for label, angles in (("angles, degrees", figures.angles), ("with mean errors taken out", figures.centred)):
        out().print(f"{label}: " + ", ".join(f"{name} {value:.2f}" for name, value in angles.items()))
    return _complain([f"{row.photo}: {row.error}" for row in rows if row.error], "")


@app.command()
def nersemble(
    dataset: Annotated[Path, typer.Argument(help="Folder with <participant>/… pictures.", show_default=False)],
    model: Weights = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The zip for the server.")] = Path("svfr.zip"),
    device: Device = "auto",
) -> int:
    """NeRSemble single-view reconstruction: posed and neutral meshes with landmarks, packed for the server."""
    import torch

    import tokenface
    from tokenface.cli.console import out
    from tokenface.evaluation.nersemble import SvfrZip, svfr_images
    from tokenface.geometry.landmarks import NOW7

    images = list(svfr_images(dataset))
    reconstructor, problems = tokenface.load(model, device), []
    with SvfrZip(output) as submission:
        for image in images:
            faces = reconstructor.reconstruct(image.photo, on_error="skip", max_faces=1)
            if not faces:
                problems.append(f"no face in '{image.photo}'")
                continue
            for kind, vertices in (("posed", faces[0].vertices), ("neutral", faces[0].neutral_vertices)):
                points = reconstructor.head.landmarks68(torch.from_numpy(vertices)[None])[0].numpy()[list(NOW7)]
                submission.add(image.participant, image.key, kind, vertices, faces[0].faces, points)  # type: ignore[arg-type]
    out().print(f"{len(images) - len(problems)} of {len(images)} pictures packed → {output}")
    return _complain(problems, "is not packed")


@app.command()
def video(
    clip: Annotated[Path, typer.Argument(help="A video of one person.", show_default=False)],
    model: Weights = None,
    against: Annotated[str, typer.Option(help="Comma-separated: per-frame, one-euro, causal, centred.")] = (
        "per-frame,one-euro"
    ),
    output: Output = Path("runs/video"),
    end: Annotated[float | None, typer.Option(help="Only the first seconds.", show_default=False)] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(help="Another method's NAME=CSV of frame,error; may be repeated.", show_default=False),
    ] = None,
    device: Device = "auto",
) -> int:
    """A clip's picture error per frame (Fig. 6), jitter and lag, for several ways of following the face."""
    from tokenface.cli.needs import need_clip

    need_clip(clip)

    from rich.table import Table

    import tokenface
    from tokenface.cli.console import out
    from tokenface.evaluation.video_run import measure_clip, with_results, write_clip

    others = _named(results, "--results")
    report = measure_clip(tokenface.load(model, device), clip, [w.strip() for w in against.split(",")], end)
    report = with_results(report, others)
    write_clip(report, output)
    table = Table(title=f"{clip.name}", box=None, title_justify="left")
    for column in ("", "picture error", "jitter mm", "jitter px", "lag frames", "frames with a face"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in report.rows.items():
        table.add_row(name, *(f"{row[key]:.3f}" for key in ("photometric", "jitter mm", "jitter px", "lag", "found")))
    out().print(table)
    return 0


@app.command(name="open")
def open_benchmark(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "--weights", "-w", help="Weights by name or path; may be repeated.", show_default=False
        ),
    ] = None,
    output: Output = Path("runs/open"),
    quick: Annotated[bool, typer.Option("--quick", help="Six people in place of 54.")] = False,
    people: Annotated[int | None, typer.Option(min=2, help="So many people.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Another set of people.", show_default=False)] = None,
    ict: Annotated[Path | None, typer.Option(help="ICT-FaceKit's file: its people too.", show_default=False)] = None,
    photos: Annotated[
        Path | None, typer.Option(help="A tar of photos with 68 landmarks: held-out people of it.", show_default=False)
    ] = None,
    device: Device = "auto",
) -> int:
    """The open benchmark: rendered people with known heads; nothing to download. Mean head and landmark fit beside."""
    import time

    from tokenface.cli.console import err, out
    from tokenface.cli.tables import print_measures, print_open, print_photos
    from tokenface.evaluation.open_run import OpenOptions, run_open, write_open
    from tokenface.evaluation.openbench import SEED

    begun, worked, console = time.perf_counter(), time.process_time(), err()
    options = OpenOptions(
        weights=tuple(model) if model else (None,),
        people=people,
        quick=quick,
        seed=SEED if seed is None else seed,
        device=device,
        ict=ict,
        photos=photos,
    )
    report = run_open(options, lambda text: console.print(text) if console.is_terminal else None)
    path = write_open(report, output)
    for name in ("OpenHead people", "ICT-FaceKit people"):
        if name in report.document:
            print_open(name, report.document[name])
    for note in report.document["notes"]:
        out().print(f"note: {note}")
    if "photos" in report.document:
        print_photos(report.document["photos"])
        for name, measures in report.document["photo measures"].items():
            out().print(name)
            print_measures(measures)
    seconds = f"{time.perf_counter() - begun:.0f} s, {time.process_time() - worked:.0f} s of processors"
    out().print(f"all figures: {path} ({seconds})")
    return 0


def _named(values: list[str] | None, option: str) -> dict[str, Path]:
    """`NAME=PATH`, by name."""
    from tokenface.errors import ConfigError

    pairs = [value.partition("=") for value in values or ()]
    if wrong := [name for name, equals, path in pairs if not (name and equals and path)]:
        raise ConfigError(f"{option} wants NAME=PATH, got '{wrong[0]}'")
    return {name: Path(path).expanduser() for name, _, path in pairs}


@app.command()
def figure(
    kind: Annotated[str, typer.Argument(help="comparison (Fig. 5), poses (Fig. 7) or teaser (Fig. 1).")],
    photos: Annotated[list[Path], typer.Argument(help="Photos, one face each.", show_default=False)],
    model: Annotated[
        list[str] | None, typer.Option("--model", "-w", help="Weights; may be repeated.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The PNG.")] = Path("figure.png"),
    meshes: Annotated[
        list[str] | None,
        typer.Option(help="comparison: another method's NAME=FOLDER of meshes; may be repeated.", show_default=False),
    ] = None,
    device: Device = "auto",
) -> int:
    """The paper's figures from own photos; the error curve of Fig. 6 comes from `evaluate video`."""
    import tokenface
    from tokenface.cli.console import out
    from tokenface.errors import ConfigError
    from tokenface.evaluation.figures import comparison_grid, pose_comparison, teaser, write_picture

    if kind not in ("comparison", "poses", "teaser"):
        raise ConfigError(f"no figure '{kind}'; there are comparison, poses and teaser")
    names: list[str | None] = [*model] if model else [None]
    models = [tokenface.load(name, device) for name in names]
    if kind == "teaser":
        picture = teaser(models[0], photos)
    else:
        others = _named(meshes, "--meshes")
        picture = comparison_grid(models, photos, others) if kind == "comparison" else pose_comparison(models, photos)
    out().print(f"figure → {write_picture(output, picture)}")
    return 0
