"""`tokenface track`: a clip, or a camera, into animation, parameters and an overlay video."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tokenface.cli.console import err, out, print_error

SETTLED = 10
"""Steps before a rate is shown: frames that were stored before, and the first batch, come at once."""


OF_CLIPS = ("output", "start", "end", "fps", "formats", "overlay", "pool", "texture", "refine_frames", "overwrite")
OF_CAMERAS = ("seconds",)
"""Options that cameras do not know, and clips do not."""


def track(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="Video file, folder or pattern (frame_%04d.png) of pictures, or the number of a camera (0).",
            show_default=False,
        ),
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder.", show_default="out/<clip>")] = None,
    people: Annotated[str, typer.Option(help="At most so many at a time, the largest faces; or all.")] = "1",
    temporal: Annotated[
        str, typer.Option(help="Temporal transformer: centred, causal, off, or auto (centred if there is one).")
    ] = "auto",
    temporal_weights: Annotated[
        Path | None, typer.Option(help="Its file; none: beside the image weights.", show_default=False)
    ] = None,
    smooth: Annotated[str, typer.Option(help="none or one-euro.")] = "none",
    start: Annotated[float | None, typer.Option(min=0, help="Seconds.", show_default=False)] = None,
    end: Annotated[float | None, typer.Option(min=0, help="Seconds.", show_default=False)] = None,
    fps: Annotated[float | None, typer.Option(help="At most so many frames per second.", show_default=False)] = None,
    formats: Annotated[
        str, typer.Option("--format", "-f", help="Comma-separated: npz, csv, glb, usd, obj (a mesh per frame), or all.")
    ] = "npz,csv,glb",
    overlay: Annotated[bool, typer.Option(help="Write overlay.mp4 for people to look at.")] = True,
    pool: Annotated[bool, typer.Option(help="One identity per person over the clip.")] = True,
    refine: Annotated[
        bool, typer.Option("--refine", help="Fit the albedo to a few good frames, and every frame to the one head.")
    ] = False,
    refine_frames: Annotated[
        int, typer.Option(min=1, max=32, help="Frames that the albedo is fitted to, at most.")
    ] = 8,
    texture: Annotated[str, typer.Option(help="Skin of meshes: photo (a few good frames), or model.")] = "photo",
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights by name or path.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start over.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Camera: a window with the live overlay.")] = False,
    seconds: Annotated[float | None, typer.Option(help="Camera: stop after so long.", show_default=False)] = None,
) -> int:
    """Follow the faces of a clip.

    Writes OUTPUT/person_00/animation.glb, parameters.npz, parameters.csv (ARKit, Live Link Face's columns), and
    OUTPUT/overlay.mp4. A run that was killed goes on where it stopped. Exit code: 0 done, 1 no face was found, or the
    file is damaged (what could be read is there).
    """
    from tokenface.cli.console import SOME_FAILED, SUCCESS
    from tokenface.cli.needs import need_clip, need_formats, need_one_of, typed, words
    from tokenface.errors import ConfigError

    number = _people(people)
    need_one_of("--smooth", smooth, ("none", "one-euro"))
    need_one_of("--temporal", temporal, ("auto", "off", "causal", "centred"))
    need_one_of("--texture", texture, ("photo", "model"))
    camera = source.isdigit() and not Path(source).exists()
    if show and not camera:
        raise ConfigError(f"--show is for cameras (tokenface track 0 --show); '{source}' gets an overlay.mp4")
    if refine and camera:
        raise ConfigError("--refine needs a whole clip; record the camera first")
    if options := typed(context, OF_CLIPS if camera else OF_CAMERAS):
        what = "clips; a camera writes no files (record it first)" if camera else "cameras"
        raise ConfigError(f"{options} is for {what}; leave it out")
    if camera:
        return _camera(int(source), number, temporal, temporal_weights, smooth, weights, device, show, seconds)

    need_clip(source)
    need_formats(words(formats))

    from tokenface.jobs.track import TrackOptions, TrackRun

    run = TrackRun(
        source,
        output or Path("out") / Path(source).stem,
        TrackOptions(
            people=number,  # type: ignore[arg-type]
            temporal=temporal,  # type: ignore[arg-type]
            temporal_weights=temporal_weights,
            smooth=smooth,  # type: ignore[arg-type]
            start=start,
            end=end,
            fps=fps,
            formats=tuple(words(formats)),
            overlay=overlay,
            pool=pool,
            refine=refine,
            refine_frames=refine_frames,
            texture=texture,  # type: ignore[arg-type]
            weights=weights,
            device=device,
            overwrite=overwrite,
        ),
    )
    _work(run)
    for warning in run.warnings:
        print_error(warning)
    if run.finished_before:
        out().print("done before; --overwrite does it again")
    if not run.frames_with_face:
        print_error(f"no face was found in the {run.frames} frames of '{source}'")
        return SOME_FAILED
    out().print(f"{run.frames_with_face} of {run.frames} frames with a face → {run.folder}")
    return SOME_FAILED if run.warnings else SUCCESS


def _people(text: str) -> int | str:
    from tokenface.errors import ConfigError

    if text == "all":
        return "all"
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--people is a number from 1 on, or all, got '{text}'")
    return int(text)


def _work(run) -> None:
    """Do the run under a progress bar with frames per second."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    names = {"track": "tracking", "refine": "refining", "files": "writing", "overlay": "drawing"}
    rate = TextColumn("{task.fields[rate]}", justify="right")
    console = err()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        tasks, seen = {}, Counter[str]()
        for step in run:
            if step.stage not in tasks:
                tasks[step.stage] = progress.add_task(names[step.stage], total=step.total, completed=step.done, rate="")
            task = tasks[step.stage]
            seen[step.stage] += 1
            speed = progress.tasks[task].speed if seen[step.stage] > SETTLED else None
            progress.update(task, completed=step.done, total=step.total, rate=f"{speed:.1f} frames/s" if speed else "")


def _camera(number, people, temporal, temporal_weights, smooth, weights, device, show, seconds) -> int:
    """Live: a window, or one line a second."""
    from tokenface.cli.console import SUCCESS
    from tokenface.model import Reconstructor
    from tokenface.video.live import Camera, live, show_live

    model = Reconstructor.load(weights, device)
    camera = Camera.open(number)
    frames = live(
        model,
        model.detector,
        camera,
        people=people,
        temporal=temporal,
        temporal_weights=temporal_weights,
        smooth=smooth,
        seconds=seconds,
    )
    if show:
        show_live(model.head, frames, camera)
    else:
        for frame in frames:
            if frame.index % 30 == 0:
                poses = ", ".join(f"{face.person}: {face.head_pose[0]:+.0f}°" for face in frame.faces) or "nobody"
                err().print(f"{frame.time:7.1f} s  {poses}")
    out().print(f"{camera.taken} frames, {camera.skipped} skipped")
    return SUCCESS
