"""Photo tab of the page: upload, faces to rotate, edit and download."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from tokenface.app.editing import Edit
from tokenface.app.limits import MEGABYTE, Limits
from tokenface.app.page_session import example_of, owned, session_of, waited
from tokenface.app.photo_sessions import PhotoSession, PhotoSessions, Skin
from tokenface.app.presets import PAIRS, PRESETS
from tokenface.app.uploads import as_uploaded
from tokenface.app.visitors import Session
from tokenface.app.worker import Worker
from tokenface.core.files import read_regular
from tokenface.errors import ImageError, TokenFaceError, plain_words
from tokenface.head.arkit import ARKIT_NAMES
from tokenface.inference.expressions import speaks_arkit
from tokenface.inference.face import Face
from tokenface.inference.result import PhotoResult
from tokenface.render.shading import SH_CONSTANTS

GROUPS = (
    ("Jaw", ("jaw",)),
    ("Mouth", ("mouth",)),
    ("Eyes", ("eye",)),
    ("Brows, cheeks, nose", ("brow", "cheek", "nose")),
)
"""Sliders by prefix of ARKit's names; the tongue is not modelled."""
SKINS: dict[str, Skin] = {"Photo": "photo", "Model": "model"}
HINT = "<div class='tokenface-empty'>Choose a photo, or one of the examples.</div>"
CLEAR = "() => [\"<div class='tokenface-empty'>Looking for faces …</div>\", '', '']"
"""What the browser shows at once when another photo was chosen: nothing of the last one."""
VIEWER = "head-viewer"


@dataclass(frozen=True)
class Sliders:
    """actions: by ARKit name.  others: yaw, pitch, roll, light turn, light height, light strength, share.
    both: whether the other side of the face moves along.  presets: buttons by name."""

    actions: dict[str, gr.Slider]
    others: list[gr.Slider]
    both: gr.Checkbox
    presets: dict[str, gr.Button]

    @property
    def all(self) -> list[gr.Slider]:
        return [*self.actions.values(), *self.others]

    @property
    def moving(self) -> str:
        """What the browser does while a slider moves: `both` and all sliders go in."""
        pairs = json.dumps([pair for pair in PAIRS if set(pair) <= set(self.actions)])
        return f"(...values) => window.tokenface.slide('{VIEWER}', {json.dumps(list(self.actions))}, {pairs}, values)"

    @property
    def settled(self) -> str:
        """Where all sliders stand once one was let go."""
        return f"(...values) => window.tokenface.settled('{VIEWER}', {json.dumps(list(self.actions))}, values)"

    def preset(self, name: str) -> str:
        """Where all sliders stand with an expression; the head shows it at once."""
        actions, weights = json.dumps(list(self.actions)), json.dumps(PRESETS[name])
        return f"(...values) => window.tokenface.preset('{VIEWER}', {actions}, {weights}, values)"


def photo_tab(worker: Worker, photo_sessions: PhotoSessions, examples: dict[str, Path], limits: Limits) -> None:
    """Build the tab."""
    token = gr.State("")
    with gr.Row():
        with gr.Column(scale=2, min_width=260, elem_id="given"):
            photo = as_uploaded(
                gr.Image(
                    label="Photo",
                    type="filepath",
                    sources=["upload", "webcam", "clipboard"],
                    height=300,
                    elem_id="photo",
                )
            )
            with gr.Row(elem_classes="examples"):
                buttons = [gr.Button(_title(name), size="sm", min_width=90) for name in examples]
            who = gr.Radio([], label="Face", visible=False, elem_id="faces")
            skin = gr.Radio(list(SKINS), value="Photo", label="Skin", elem_id="skin")
            hair = gr.Checkbox(False, label="Hair", elem_id="hair")
            overlay = gr.HTML(elem_id="overlay")
        with gr.Column(scale=3, min_width=320, elem_id="stage"):
            viewer = gr.HTML(HINT, elem_id=VIEWER)
            links = gr.HTML(elem_id="downloads")
        with gr.Column(scale=2, min_width=260, elem_id="sliders"):
            sliders, partner, met, reset = _controls(speaks_arkit(worker.model.head))

    bench = _Bench(worker, photo_sessions, limits, sliders)
    shown = [viewer, overlay, links, *sliders.all]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

    photo.input(None, None, [viewer, overlay, links], js=CLEAR, **quiet)
    photo.input(bench.reconstruct, [photo, skin, hair, token], [token, who, partner, *shown], api_visibility="private",
                show_progress_on=[viewer])  # fmt: skip
    for button, path in zip(buttons, examples.values(), strict=True):
        button.click(None, None, [viewer, overlay, links], js=CLEAR, **quiet)
        button.click(example_of(path), None, photo, **quiet).then(
            bench.reconstruct, [photo, skin, hair, token], [token, who, partner, *shown], api_visibility="private",
            show_progress_on=[viewer])  # fmt: skip
    who.input(bench.show, [token, who, skin, hair], shown, **quiet)
    hair.input(bench.show, [token, who, skin, hair], shown, **quiet)
    skin.input(bench.show, [token, who, skin, hair], shown, **quiet)
    partner.input(bench.meet, [token, who, skin, hair, partner], [met, *shown], **quiet)
    keep: dict[str, Any] = {"fn": bench.keep, "inputs": [token, who, *sliders.all], "outputs": overlay}
    gr.on([slider.input for slider in sliders.all], None, [sliders.both, *sliders.all], None, js=sliders.moving,
          **quiet)  # fmt: skip
    gr.on([slider.release for slider in sliders.all], None, sliders.all, sliders.all, js=sliders.settled,
          **quiet).then(**keep, trigger_mode="always_last", **quiet)  # fmt: skip
    for name, preset in sliders.presets.items():
        preset.click(None, sliders.all, sliders.all, js=sliders.preset(name), **quiet).then(**keep, **quiet)
    reset.click(bench.undo, [token, who, skin, hair], shown, **quiet)


def _controls(arkit: bool) -> tuple[Sliders, gr.Image, gr.HTML, gr.Button]:
    actions: dict[str, gr.Slider] = {}
    with gr.Row(elem_id="presets"):
        presets = {name: gr.Button(name, size="sm", min_width=70) for name in (PRESETS if arkit else ())}
        reset = gr.Button("As in the photo", size="sm", min_width=70, elem_id="reset")
    both = gr.Checkbox(True, label="Both sides move together", visible=arkit, elem_id="both")
    for title, prefixes in GROUPS if arkit else ():
        with gr.Accordion(title, open=title == "Jaw"):
            for name in (name for name in ARKIT_NAMES if name.startswith(prefixes)):
                actions[name] = gr.Slider(0, 1, 0, step=0.01, label=_words(name), elem_id=name, buttons=[])
    with gr.Accordion("Head", open=True):
        others = [
            gr.Slider(-90, 90, 0, step=0.5, label=f"{name} (degrees)", elem_id=name.lower(), buttons=[])
            for name in ("Yaw", "Pitch", "Roll")
        ]
    with gr.Accordion("Light", open=False):
        others += [
            gr.Slider(-180, 180, 0, step=5, label="To the side (degrees)", elem_id="light-turn", buttons=[]),
            gr.Slider(-90, 90, 0, step=5, label="Up (degrees)", elem_id="light-height", buttons=[]),
            gr.Slider(0, 2, 1, step=0.05, label="Strength", elem_id="light-strength", buttons=[]),
        ]
    with gr.Accordion("Blend with another person", open=False):
        partner = as_uploaded(
            gr.Image(
                label="Photo of another person", type="filepath", sources=["upload"], height=180, elem_id="partner"
            )
        )
        met = gr.HTML(elem_id="partner-note")
        others.append(gr.Slider(0, 1, 0, step=0.01, label="Share of the other", elem_id="share", buttons=[]))
    return Sliders(actions, others, both, presets), partner, met, reset


class _Bench:
    """What happens when something on the tab is used."""

    def __init__(self, worker: Worker, photo_sessions: PhotoSessions, limits: Limits, sliders: Sliders) -> None:
        self.worker, self.photo_sessions, self.limits, self.sliders = worker, photo_sessions, limits, sliders

    def reconstruct(self, path: str | None, skin: str, hair: bool, token: str, request: gr.Request) -> list[Any]:
        """A new photo: token, faces to choose from, nobody to blend with, and what `show` returns."""
        self.photo_sessions.forget(token)
        if path is None:
            return ["", _nobody(), None, *self._nothing()]
        try:
            with friendly():
                photo_session = self._photo_session(path, session_of(request))
        except gr.Error as error:
            return ["", _nobody(), None, said(error, "tokenface-empty"), *self._nothing()[1:]]
        token = self.photo_sessions.add(photo_session)
        names = [(f"{index + 1}", index) for index in range(len(photo_session.faces))]
        who = gr.Radio(names, value=0, visible=len(names) > 1)
        return [token, who, None, *self.show(token, 0, skin, hair)]

    def show(self, token: str, index: int | None, skin: str, hair: bool) -> list[Any]:
        """Viewer, overlay, downloads and the sliders' values."""
        photo_session = self.photo_sessions.get(token)
        if not isinstance(photo_session, PhotoSession):
            return self._nothing()
        index, kind = _face(photo_session, index), SKINS.get(skin, "model")
        look = f"skin={kind}" + ("&hair=true" if hair else "")
        return [
            _viewer(token, photo_session, index, kind, look),
            _overlay(token),
            _links(token, index, look),
            *self._values(photo_session, index),
        ]

    def meet(
        self, token: str, index: int | None, skin: str, hair: bool, path: str | None, request: gr.Request
    ) -> list[Any]:
        """Somebody to blend with, or nobody; what was wrong with the photo, and what `show` returns."""
        photo_session, note = self.photo_sessions.get(token), ""
        if not isinstance(photo_session, PhotoSession):  # what stands there stays
            return [note, *(gr.skip() for _ in self._nothing())]
        try:
            with friendly():
                photo_session.partner = None if path is None else self._photo_session(path, session_of(request))
        except gr.Error as error:
            photo_session.partner, note = None, said(error)
        for face, edit in list(photo_session.edits.items()):
            photo_session.edit(face, edit)
        return [note, *self.show(token, index, skin, hair)]

    def keep(self, token: str, index: int | None, *values: float) -> str:
        """Remember where the sliders stand: downloads and overlay show it."""
        photo_session = self.photo_sessions.get(token)
        if not isinstance(photo_session, PhotoSession):
            return ""
        index = _face(photo_session, index)
        count, face = len(self.sliders.actions), photo_session.faces[index]
        *angles, turn, height, strength, share = values[count:]
        found = self._found(face)
        moved = angles != found[count:]  # what was not touched keeps its digits
        edit = Edit(
            arkit={n: w for n, w, was in zip(self.sliders.actions, values, found, strict=False) if w != was},
            angles=tuple(math.radians(angle) for angle in angles) if moved else None,  # type: ignore[arg-type]
            light_turn=math.radians(turn),
            light_height=math.radians(height),
            light_strength=strength,
            share=share,
        )
        photo_session.edit(index, edit)
        return _overlay(token)

    def undo(self, token: str, index: int | None, skin: str, hair: bool) -> list[Any]:
        """The face as it was found."""
        photo_session = self.photo_sessions.get(token)
        if isinstance(photo_session, PhotoSession):
            photo_session.edits.pop(_face(photo_session, index), None)
        return self.show(token, index, skin, hair)

    def _photo_session(self, path: str, session: Session) -> PhotoSession:
        file = owned(path, session)
        if file.stat().st_size > self.limits.upload_bytes:
            raise ImageError(f"the photo is larger than {self.limits.upload_bytes / MEGABYTE:g} MB; make it smaller")
        data = read_regular(file, self.limits.upload_bytes)

        def photo_session(result: PhotoResult) -> PhotoSession:
            if result.error is not None:
                raise result.error
            assert result.image is not None  # a photo with faces has been read
            return PhotoSession.of(file.name, data, result.faces, result.image)

        future = self.worker.photo(data, photo_session, session.client, called=f"'{file.name}'")
        return waited(future, self.limits.seconds, session)

    def _nothing(self) -> list[Any]:
        return [HINT, "", "", *(gr.skip() for _ in self.sliders.all)]

    def _values(self, photo_session: PhotoSession, index: int) -> list[float]:
        """Where the sliders stand for a face."""
        edit = photo_session.edits.get(index, Edit())
        light = [math.degrees(edit.light_turn), math.degrees(edit.light_height), edit.light_strength]
        return [*self._found(photo_session.shown(index)), *light, edit.share]

    def _found(self, face: Face) -> list[float]:
        """A face's actions and angles as the sliders show them."""
        arkit = face.arkit or {}
        angles = [round(math.degrees(angle), 1) for angle in face.camera.angles]
        return [*(round(arkit[name], 3) for name in self.sliders.actions), *angles]


def _nobody() -> dict[str, Any]:
    """No faces to choose from. Choices and choice stay as they were: what is under way when they go still sends one."""
    return gr.update(visible=False)


def hidden() -> dict[str, Any]:
    """A result that is not there."""
    return gr.update(value=None, visible=False)


def _face(photo_session: PhotoSession, index: object) -> int:
    """The number of a face that the photo_session has."""
    return index if isinstance(index, int) and 0 <= index < len(photo_session.faces) else 0


@contextmanager
def friendly() -> Iterator[None]:
    """Turns our errors, and waiting in vain, into the page's own notes."""
    try:
        yield
    except TokenFaceError as error:
        # visitors know their files by name, not by where the server keeps them
        raise gr.Error(re.sub(r"'[^']*/([^'/]+)'", r"'\1'", plain_words(error)), print_exception=False) from None
    except TimeoutError:
        raise gr.Error("no answer in time; try again", print_exception=False) from None
    except OSError:
        raise gr.Error("the file is gone; choose it again", print_exception=False) from None


def said(error: gr.Error, *classes: str) -> str:
    """An error where its result would be: it goes away with the next result."""
    return tag("div", {"class": " ".join(["tokenface-wrong", *classes]), "role": "alert"}, str(error.message))


def _viewer(token: str, photo_session: PhotoSession, index: int, skin: Skin, look: str) -> str:
    face, shown, edit = photo_session.faces[index], photo_session.shown(index), photo_session.edits.get(index, Edit())
    state = {
        "arkit": shown.arkit or {},
        "angles": shown.camera.angles,
        "lightTurn": edit.light_turn,
        "lightHeight": edit.light_height,
        "lightStrength": edit.light_strength,
        "share": edit.share,
        "told": time.monotonic_ns(),  # the browser's sliders may have moved it since: say it again
    }
    attributes: dict[str, str] = {
        "src": f"downloads/{token}/{index}/found.glb?{look}",
        "skin": skin,
        "light": json.dumps(_shader_light(face)),
        "arkit": json.dumps(face.arkit or {}),
        "state": json.dumps(state),
    }
    if photo_session.partner is not None:
        attributes["partner"] = f"downloads/{token}/{index}/partner.glb?skin={skin}"
    return tag("tokenface-viewer", attributes)


def _shader_light(face: Face) -> list[list[float]]:
    light = face.parameters.light.reshape(9, 3).numpy() * np.array(SH_CONSTANTS)[:, None]
    return np.round(light, 5).tolist()


def _overlay(token: str) -> str:
    """The number makes browsers fetch the new one."""
    address = f"downloads/{token}/0/overlay.jpg?{time.monotonic_ns()}"
    return tag("img", {"src": address, "alt": "the head over the photo"})


def _links(token: str, index: int, look: str) -> str:
    wanted = (("GLB", "face.glb"), ("OBJ", "face-obj.zip"), ("JSON", "parameters.json"), ("Everything", "all.zip"))
    addresses = ((label, name, f"downloads/{token}/{index}/{name}?{look}") for label, name in wanted)
    return "".join(tag("a", {"href": address, "download": name}, label) for label, name, address in addresses)


def tag(name: str, attributes: dict[str, str], text: str = "") -> str:
    """An HTML element with everything escaped."""
    inside = " ".join(f'{key}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name} {inside}>{escape(text)}</{name}>" if name != "img" else f"<img {inside}>"


def _title(name: str) -> str:
    return Path(name).stem.replace("_", " ").title()


def _words(name: str) -> str:
    """mouthSmileLeft → Smile Left."""
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in name).split()
    return " ".join(words[1:]) if len(words) > 1 else name
