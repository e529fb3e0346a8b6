"""Gradio page: tabs, theme, mounting on the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import gradio as gr
from fastapi import FastAPI

from tokenface.app.folder import WorkFolder
from tokenface.app.limits import Limits
from tokenface.app.page_gate import PageGate
from tokenface.app.page_photo import photo_tab
from tokenface.app.page_transfer import transfer_tab
from tokenface.app.page_video import video_tab
from tokenface.app.photo_sessions import PhotoSessions
from tokenface.app.visitors import Visitors
from tokenface.app.worker import Worker
from tokenface.jobs.examples import example_photos

HANDLERS = 16
"""Visitors whose requests are looked after at a time; the workers do one thing after another anyway."""
WAITING = 64
VISITORS = 500
"""Visitors whose place on the page gradio remembers."""

HEAD = """<script type="module" src="viewer/viewer.js"></script><style>
/* Rules of page.css hold inside of gradio's container alone. What it does not show would make it scroll by itself, and
   nothing in it could stay in sight. */
.gradio-container { overflow: clip !important; }
.gradio-container > .main { max-width: 96rem; margin: 0 auto; }
@media (max-width: 700px) { .gradio-container > .main { padding: .75rem !important; } }
</style>"""


def add_page(
    app: FastAPI,
    worker: Worker,
    clips: Worker,
    photo_sessions: PhotoSessions,
    visitors: Visitors,
    folder: WorkFolder,
    limits: Limits,
) -> Callable[[], Awaitable[None]]:
    """Mount the page at the server's root, behind every route that is there already, with a gate before it.

    Returns:
        What is to be done every second: stopping the work of visitors that left.
    """
    examples = {}
    for name, data in example_photos().items():
        examples[name] = folder.root / name
        examples[name].write_bytes(data)
    blocks = gr.Blocks(title="TokenFace", analytics_enabled=False, fill_width=True)
    with blocks:
        gr.HTML("<h1>TokenFace</h1><p>A photo in, a 3-D head out: posed, textured, rigged.</p>", elem_id="title")
        with gr.Tab("Photo"):
            photo_tab(worker, photo_sessions, examples, limits)
        with gr.Tab("Video"):
            video_tab(clips, folder, limits)
        with gr.Tab("Transfer"):
            transfer_tab(clips, photo_sessions, examples, limits)
        gr.HTML('<a href="docs">HTTP API</a>', elem_id="foot")
    blocks.queue(max_size=WAITING, default_concurrency_limit=HANDLERS, api_open=False)
    blocks.state_session_capacity = VISITORS
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,  # our own notes are shown all the same; what nobody foresaw is the log's
        max_file_size=limits.video_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        theme=_theme(),
        css=(resources.files("tokenface.app") / "static" / "page.css").read_text(encoding="utf-8"),
        head=HEAD,
    )

    def problem(number: int, values: list) -> str | None:
        function = blocks.fns.get(number)
        if function is None or function.fn is None:
            return "there is no such function"
        if len(values) != len(function.inputs):
            return f"expected a list of {len(function.inputs)} values"
        wrong = (str(i) for i, pair in enumerate(zip(function.inputs, values, strict=True)) if not _takes(*pair))
        return next((f"value {i} is none that its part of the page can have" for i in wrong), None)

    gate: dict[str, Any] = {"visitors": visitors, "problem": problem, "queue": lambda: blocks._queue}
    app.add_middleware(PageGate, **gate)

    async def stop_abandoned() -> None:
        queue = blocks._queue
        for name in visitors.abandoned():
            await queue.clean_events(session_hash=name)
            if not any(number in queue.event_ids_to_events for number in queue.pending_event_ids_session.get(name, ())):
                queue.pending_event_ids_session.pop(name, None)
                if name in queue.pending_messages_per_session:
                    del queue.pending_messages_per_session[name]

    return stop_abandoned


def _takes(part: Any, value: Any) -> bool:
    """Whether a value is of the kind that a part of the page sends."""
    if isinstance(part, gr.Image | gr.Video | gr.File):
        return value is None or isinstance(value, dict)
    if isinstance(part, gr.Slider):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(part, gr.Radio) and part.choices and value not in [choice for _, choice in part.choices]:
        return False
    return value is None or isinstance(value, str | int | float)


def _theme() -> gr.themes.Base:
    fonts = ["system-ui", "sans-serif"]  # nothing from elsewhere
    return gr.themes.Soft(
        primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "monospace"]
    ).set(
        body_background_fill="*neutral_50",
        # text of 4.5 to 1 against what it stands on, borders that can be seen
        color_accent="*primary_700",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
        checkbox_border_color="*neutral_400",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        slider_color="*primary_600",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="500",
        block_title_padding="0",
        block_label_background_fill="*neutral_100",
        block_label_background_fill_dark="*neutral_700",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
    )
