"""Transfer tab of the page: expression transfer from source to target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from tokenface.app.bundle import viewer_glb
from tokenface.app.limits import Limits
from tokenface.app.page_photo import friendly, hidden, said, tag
from tokenface.app.page_session import copied, owned, session_of
from tokenface.app.page_video import followed
from tokenface.app.photo_sessions import Files, PhotoSessions
from tokenface.app.uploads import as_uploaded
from tokenface.app.worker import Worker
from tokenface.images.loading import IMAGE_SUFFIXES
from tokenface.jobs.transfer import TransferOptions, TransferResult, transfer

HINT = (
    "<div class='tokenface-empty'>Choose whose expression to take (a photo, a clip or its parameters.npz) "
    "and who shall wear it, or the example.</div>"
)
CLIP_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".npz")


def transfer_tab(clips: Worker, photo_sessions: PhotoSessions, examples: dict[str, Path], limits: Limits) -> None:
    """Build the tab."""
    token = gr.State("")
    with gr.Row():
        with gr.Column(scale=2, min_width=260):
            source = as_uploaded(gr.File(
                label="Source: a photo or clip to follow",
                file_types=[*sorted(IMAGE_SUFFIXES), *CLIP_SUFFIXES],
                elem_id="transfer-source",
            ))  # fmt: skip
            target = as_uploaded(gr.Image(
                label="Target: a photo; its person stays", type="filepath", sources=["upload"], height=240,
                elem_id="transfer-target",
            ))  # fmt: skip
            pose = gr.Radio(["auto", "source", "target"], value="auto", label="Head pose of the pictures")
            with gr.Row():
                start = gr.Button("Transfer", variant="primary", elem_id="transfer")
                example = gr.Button("Example", visible=len(examples) > 1, elem_id="transfer-example")
        with gr.Column(scale=3, min_width=320):
            note = gr.HTML(elem_id="transfer-note")
            picture = gr.Image(
                label="Source, target, result",
                interactive=False,
                buttons=["download", "fullscreen"],
                visible=False,
                elem_id="transferred",
            )
            video = gr.Video(label="Result", interactive=False, height=360, buttons=["download"], visible=False)
            viewer = gr.HTML(HINT, elem_id="transfer-viewer")
            files = gr.File(
                label="Downloads", file_count="multiple", interactive=False, visible=False, elem_id="transfer-files"
            )

    def run(
        source: str | None, target: str | None, pose: Any, before: str, request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[list[Any]]:  # fmt: skip
        photo_sessions.forget(before)
        yield _cleared()
        try:
            if source is None or target is None:
                raise gr.Error("choose a source and a target first", print_exception=False)
            session = session_of(request)
            given, wanted = owned(source, session), owned(target, session)
            output = session.visitor.new()

            def work(report: Callable[[int], None]) -> TransferResult:
                options = TransferOptions(pose=pose, end=limits.video_seconds)
                return transfer(clips.model, given, wanted, output, options, report)

            with friendly():
                for step in followed(clips, work, session):
                    if isinstance(step, int):
                        progress((step, None), desc="transferring", unit="frames")
                    else:
                        yield _shown(step, photo_sessions)
        except gr.Error as error:
            yield _cleared(said(error))

    outputs = [picture, video, viewer, note, files, token]
    start.click(run, [source, target, pose, token], outputs, api_visibility="private", concurrency_id="clips",
                show_progress_on=[viewer])  # fmt: skip
    paths = list(examples.values())[:2]

    def people(before: str, request: gr.Request) -> list[Any]:
        photo_sessions.forget(before)
        return [*(copied(path, session_of(request)) for path in paths), *_cleared()]

    example.click(people, token, [source, target, *outputs], api_visibility="private", show_progress="hidden")
    gr.on([source.change, target.change, pose.change], None, None, note, js="() => ''", api_visibility="private",
          show_progress="hidden")  # fmt: skip


def _cleared(note: str = "") -> list[Any]:
    """Nothing of the last transfer."""
    return [hidden(), hidden(), HINT, note, hidden(), ""]


def _shown(result: TransferResult, photo_sessions: PhotoSessions) -> list[Any]:
    files = {path.name: path for path in result.files}
    token = photo_sessions.add(Files({"transfer.glb": viewer_glb(result.face, result.texture)}))
    viewer = tag("tokenface-viewer", {"src": f"downloads/{token}/transfer.glb", "skin": "photo"})
    image, clip = files.get("transfer.png"), files.get("transfer.mp4")
    return [
        gr.Image(value=None if image is None else str(image), visible=image is not None),
        gr.Video(value=None if clip is None else str(clip), visible=clip is not None),
        viewer,
        "",
        gr.update(value=[str(path) for path in result.files], visible=True),
        token,
    ]
