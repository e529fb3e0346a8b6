"""`tokenface reconstruct`: photos and folders in, one folder of files per photo out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokenface.cli.console import err, one_line, out, print_error


def reconstruct(
    sources: Annotated[list[Path], typer.Argument(help="Photos and folders of photos.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("out"),
    formats: Annotated[
        str, typer.Option("--format", "-f", help="Comma-separated: glb, obj, ply, json, or all.")
    ] = "all",
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights by name or path.", show_default=False)
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Faces per network batch.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    runtime: Annotated[str, typer.Option(help="torch, onnx or openvino (extra: deploy).")] = "torch",
    precision: Annotated[str, typer.Option(help="Of onnx and openvino: fp32, fp16, int8.")] = "fp32",
    max_faces: Annotated[
        int | None, typer.Option(min=1, help="Only the largest faces of each photo.", show_default=False)
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(help="JSON {photo: [[x0, y0, x1, y1], …]}: faces that are known.", show_default=False),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Folders with everything below them.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do finished photos again.")] = False,
    overlay: Annotated[bool, typer.Option(help="Write overlay.png for people to look at.")] = True,
    neutral: Annotated[bool, typer.Option("--neutral", help="Also write every head with a relaxed face.")] = False,
    second_crop: Annotated[bool, typer.Option(help="Crop a second time from the network's own landmarks.")] = True,
    refine: Annotated[
        bool, typer.Option("--refine", help="Fit every face to its photo; the options below say how.")
    ] = False,
    focal: Annotated[
        str, typer.Option(help="Focal length: exif, none, 26mm (35-mm equivalent), 3000px. Known: perspective.")
    ] = "exif",
    ipd: Annotated[
        float | None, typer.Option(help="Millimetres between the pupils: the head's true size.", show_default=False)
    ] = None,
    size: Annotated[str, typer.Option(help="model (average adult) or iris (measured on the photo).")] = "model",
    components: Annotated[
        str, typer.Option(help="What may move: some of shape, expression, jaw, camera, texture, light, or all.")
    ] = "all",
    steps: Annotated[int, typer.Option(min=0, help="Comparisons with the photo's pixels; 0: points alone.")] = 40,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse larger photos: width × height.", show_default="120 million")
    ] = 120_000_000,
) -> int:
    """Reconstruct every face of photos and folders.

    Writes OUTPUT/<photo>/face_00.glb, .obj, .ply, parameters.json and overlay.png. Finished photos are skipped when
    the command is run again. Exit code: 0 all done, 1 some photos failed or show no face, 2 nothing to do.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from tokenface.inference.run import Options, Run

    run = Run(
        sources,
        output,
        Options(
            formats=tuple(part.strip().lower() for part in formats.split(",") if part.strip()),
            weights=weights,
            batch_size=batch,
            device=device,
            runtime=runtime,
            precision=precision,
            max_faces=max_faces,
            boxes=boxes,
            recursive=recursive,
            overwrite=overwrite,
            overlay=overlay,
            neutral=neutral,
            second_crop=second_crop,
            refine=_options(refine, focal, ipd, size, components, steps),
            max_pixels=max_pixels,
        ),
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = err()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reconstructing", total=len(run.todo))
        for _ in run:
            progress.advance(task)
    return report(run)


def _options(refine: bool, focal: str, ipd: float | None, size: str, components: str, steps: int):
    from tokenface.errors import ConfigError
    from tokenface.images.focal import parse_focal
    from tokenface.network.components import COMPONENTS
    from tokenface.refinement.record import RefineOptions

    chosen = tuple(part.strip().lower() for part in components.split(",") if part.strip())
    options = RefineOptions(
        components=COMPONENTS if "all" in chosen else chosen,
        steps=steps,
        focal=focal.strip().lower(),
        ipd=ipd,
        size=size,
    )
    if options.focal not in ("exif", "none"):
        parse_focal(focal, 1, 1)  # a wrong word is an error before the first photo
    if not refine:
        if options != RefineOptions():
            raise ConfigError("--focal, --ipd, --size, --components and --steps belong to --refine; add it")
        return None
    return options


def report(run) -> int:
    """Print what became of the photos; returns the exit code."""
    from rich.table import Table

    from tokenface.cli import SOME_FAILED, SUCCESS, USAGE

    for label, reason in run.failures:
        print_error(reason if label in reason else f"{label}: {reason}")
    console = out()
    if len(run.items) == 1 and run.done:
        folder, faces = run.done[0]
        console.print(f"{faces} {'face' if faces == 1 else 'faces'} → {folder}")
    elif run.items:
        table = Table(title=None, box=None, pad_edge=False)
        table.add_column("photos")
        table.add_column("", justify="right")
        rows = [
            ("reconstructed", len(run.done)),
            ("  faces", sum(faces for _, faces in run.done)),
            ("done before, skipped", run.skipped),
            ("no face found", run.without_face),
            ("failed", len(run.failures) - run.without_face),
        ]
        for label, count in rows:
            if count or label == "reconstructed":
                table.add_row(label, str(count))
        console.print(table)
        console.print(f"results: {one_line(run.root)}")
    if not run.items:
        return USAGE
    if run.skipped and not run.todo and not run.failures:
        console.print("nothing new; --overwrite does finished photos again")
    return SOME_FAILED if run.failures else SUCCESS
