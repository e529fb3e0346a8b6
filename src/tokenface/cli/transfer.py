"""`tokenface transfer`: a source's expression on a target's head."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokenface.cli.console import err, out


def transfer(
    source: Annotated[Path, typer.Argument(help="Photo, video, or parameters.npz of a tracked clip.")],
    target: Annotated[Path, typer.Argument(help="Photo of the person whose identity stays.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder.")] = Path("out/transfer"),
    pose: Annotated[
        str, typer.Option(help="Head pose of the pictures: source, target, or auto (target's for photos).")
    ] = "auto",
    neutral: Annotated[
        Path | None, typer.Option(help="Photo of the source with a relaxed face, to measure from.", show_default=False)
    ] = None,
    end: Annotated[float | None, typer.Option(min=0, help="Seconds of a video.", show_default=False)] = None,
    picture: Annotated[bool, typer.Option(help="Write transfer.png, or transfer.mp4 for a video.")] = True,
    texture: Annotated[str, typer.Option(help="The target's skin: photo, or model (the predicted albedo).")] = "photo",
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights by name or path.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> int:
    """Put a source's expression and jaw (and head pose) on a target, textured with the target's photo.

    Writes OUTPUT/transfer.glb (animated for a video), parameters.json for photos, and transfer.png or transfer.mp4.
    """
    from tokenface.cli.needs import need, need_one_of, need_photo

    need_one_of("--pose", pose, ("auto", "source", "target"))
    need_one_of("--texture", texture, ("photo", "model"))
    for path in (source, target, *([neutral] if neutral else ())):
        need_photo(path)
    if source.suffix.lower() in (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".ts") or source.is_dir():
        need("av")

    from rich.progress import Progress, SpinnerColumn, TextColumn

    from tokenface.cli.console import SUCCESS
    from tokenface.jobs.transfer import TransferOptions
    from tokenface.jobs.transfer import transfer as run
    from tokenface.model import Reconstructor

    options = TransferOptions(pose, neutral, end, picture, texture)  # type: ignore[arg-type]
    model = Reconstructor.load(weights, device)
    console = err()
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed} frames"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("transferring", total=None)
        result = run(model, source, target, output, options, lambda done: progress.update(task, completed=done))
    out().print(f"{result.moments} {'moment' if result.moments == 1 else 'moments'} → {output}")
    for path in result.files:
        out().print(f"  {path.name}")
    return SUCCESS
