"""Video tab of the page: a clip to overlay video, animated heads, tables."""

from __future__ import annotations

import queue
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from tokenface.app.folder import WorkFolder
from tokenface.app.limits import Limits
from tokenface.app.page_photo import friendly, hidden, said, tag
from tokenface.app.page_session import copied, owned, session_of, waited
from tokenface.app.uploads import as_uploaded
from tokenface.app.visitors import Session
from tokenface.app.worker import LOOK_EVERY, Worker
from tokenface.errors import VideoError
from tokenface.jobs.examples import write_example_clip
from tokenface.jobs.track import OVERLAY, Step, TrackOptions, TrackRun

T = TypeVar("T")
STAGES = {"track": "following the faces", "files": "writing files", "overlay": "drawing the overlay"}
PEOPLE = 4
HINT = "<div class='tokenface-empty'>Choose a clip and press Track, or take the example.</div>"
FOLLOWING = "<div class='tokenface-empty'></div>"
"""Room for the progress."""


def video_tab(clips: Worker, folder: WorkFolder, limits: Limits) -> None:
    """Build the tab."""
    with gr.Row():
        with gr.Column(min_width=300):
            clip = as_uploaded(
                gr.Video(label=f"Clip (the first {limits.video_seconds:g} s)", sources=["upload", "webcam"], height=360)
            )
            people = gr.Slider(1, PEOPLE, 1, step=1, label="People, at most", buttons=[])
            with gr.Row():
                start = gr.Button("Track", variant="primary", elem_id="track")
                example = gr.Button("Example", elem_id="track-example")
        with gr.Column(min_width=300):
            note = gr.HTML(HINT, elem_id="track-note")
            overlay = gr.Video(label="Overlay", interactive=False, height=360, buttons=["download"], visible=False)
            files = gr.File(
                label="Downloads", file_count="multiple", interactive=False, visible=False, elem_id="track-files"
            )

    def track(
        path: str | None, count: float, request: gr.Request, progress: gr.Progress = gr.Progress()  # noqa: B008
    ) -> Iterator[list[Any]]:  # fmt: skip
        yield _cleared(FOLLOWING if path else HINT)
        try:
            if path is None:
                raise gr.Error("choose a clip first", print_exception=False)
            session = session_of(request)
            source, output = owned(path, session), session.visitor.new()

            def work(report: Callable[[Step], None]) -> TrackRun:
                options = TrackOptions(people=min(max(int(count), 1), PEOPLE), end=limits.video_seconds)
                run = TrackRun(source, output, options, clips.model)
                for step in run:
                    report(step)
                return run

            with friendly():
                for step in followed(clips, work, session):
                    if isinstance(step, Step):
                        progress((step.done, step.total), desc=STAGES[step.stage], unit="frames")
                    else:
                        yield _shown(output, session.visitor.new(), step)
        except gr.Error as error:
            yield _cleared(said(error, "tokenface-empty"))

    def rendered(request: gr.Request) -> str:
        path, session = folder.root / "rendered_person.mp4", session_of(request)

        def make() -> None:
            if not path.is_file():
                write_example_clip(path, clips.model.head)

        with friendly():
            if not path.is_file():
                waited(clips.call(make, session.client), limits.seconds * 10, session)
        return copied(path, session)

    outputs = [overlay, files, note]
    clip.input(lambda: _cleared(HINT), None, outputs, api_visibility="private", show_progress="hidden")
    start.click(track, [clip, people], outputs, api_visibility="private", concurrency_id="clips",
                show_progress_on=[note])  # fmt: skip
    example.click(lambda: _cleared(FOLLOWING), None, outputs, api_visibility="private", show_progress="hidden").then(
        rendered, None, clip, api_visibility="private"
    ).then(track, [clip, people], outputs, api_visibility="private", concurrency_id="clips", show_progress_on=[note])


def followed(clips: Worker, work: Callable[[Callable[[Any], None]], T], session: Session) -> Iterator[Any]:
    """Run a long job in the clips' worker: what it reports, then what it returns. It stops when the generator is
    closed, and when nobody listens to the session any more."""
    reports: queue.SimpleQueue[Any] = queue.SimpleQueue()
    gone = False

    def stay() -> None:
        if gone or session.gone.is_set() or clips.closed:
            raise VideoError("nobody waits for this clip any more")

    def report(step: object) -> None:
        stay()
        reports.put(step)

    def begin() -> T:
        stay()
        return work(report)

    future: Future[T] = clips.call(begin, session.client)
    future.add_done_callback(lambda _: reports.put(None))
    try:
        while True:
            try:
                step = reports.get(timeout=LOOK_EVERY)
            except queue.Empty:
                stay()
                continue
            if step is None:
                break
            yield step
        yield future.result()
    finally:
        gone = True
        future.cancel()


def _cleared(note: str) -> list[Any]:
    """Nothing of the last clip."""
    return [hidden(), hidden(), note]


def _shown(output: Path, archived: Path, run: TrackRun) -> list[Any]:
    overlay = output / OVERLAY
    return [
        gr.update(value=str(overlay), visible=True) if overlay.is_file() else hidden(),
        gr.update(value=_downloads(output, archived), visible=True),
        _summary(run),
    ]


def _downloads(output: Path, archived: Path) -> list[str]:
    """Everything in one archive, in a folder that it does not archive, and the animated heads by themselves."""
    archive = shutil.make_archive(str(archived / "track"), "zip", output, logger=None)
    heads = []
    for person in sorted(output.glob("person_*")):
        for path in person.glob("*.glb"):
            heads.append(str(path.rename(output / f"{person.name}.glb")))
    return [archive, *heads]


def _summary(run: TrackRun) -> str:
    people = f"{len(run.people)} {'person' if len(run.people) == 1 else 'people'}"
    lines = [f"{run.frames} frames, {run.frames_with_face} with a face, {people}", *run.warnings]
    return "".join(tag("p", {}, line) for line in lines)
