"""`tokenface track`: a clip to a folder of files, in resumable steps.

First all frames are tracked, and the predictions stored; then, if wanted, people are refined; then the files are
written from the store; then the overlay is drawn, piece by piece. Each stage goes on where it stopped, and the files
come out the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tokenface.core.files import (
    CLIP_MARKER,
    discard,
    is_clip_result_name,
    make_folder,
    read_marker,
    write_atomically,
)
from tokenface.core.fingerprint import fingerprint
from tokenface.core.prefetch import ahead
from tokenface.errors import ConfigError, OutputError, VideoError
from tokenface.formats.mp4 import encode_piece, join_pieces
from tokenface.model import Reconstructor
from tokenface.network.temporal import TemporalTransformer
from tokenface.refinement.clip import FRAMES, ClipRefiner, RefinedPerson
from tokenface.refinement.clip_skin import ClipSkin, clip_skin
from tokenface.version import __version__
from tokenface.video.clip import Frame
from tokenface.video.face import FaceMaker
from tokenface.video.outputs import USUAL_FORMATS, Identity, PersonWriter, identities, known_formats
from tokenface.video.painter import HeadPainter
from tokenface.video.picture_clip import open_clip
from tokenface.video.pipeline import TOGETHER, Pipeline, Smoothing
from tokenface.video.prediction import FramePredictions
from tokenface.video.store import CHUNK_FRAMES, Store
from tokenface.video.temporal_weights import Temporal, choose_temporal
from tokenface.video.track import pipeline_options

MARKER = CLIP_MARKER
WORK = ".track"
OVERLAY = "overlay.mp4"
LAST_FRAME = 0.5
"""Seconds for which the last frame may stand."""


@dataclass(frozen=True)
class TrackOptions:
    """Settings of a run, as the command line gives them. temporal_weights: file to use instead of the one beside the
    image weights.  pool: one identity per person in animation and overlay.  refine: that identity is fitted to at most
    `refine_frames` good frames of the person, and every frame to it (`refinement/clip.py`).
    texture: skin of the meshes, from a few good frames, or the model's predicted albedo."""

    people: int | Literal["all"] = 1
    temporal: Temporal = "auto"
    temporal_weights: Path | None = None
    smooth: Smoothing = "none"
    start: float | None = None
    end: float | None = None
    fps: float | None = None
    formats: tuple[str, ...] = USUAL_FORMATS
    overlay: bool = True
    pool: bool = True
    refine: bool = False
    refine_frames: int = FRAMES
    texture: Literal["photo", "model"] = "photo"
    weights: str | None = None
    device: str = "auto"
    overwrite: bool = False


@dataclass(frozen=True)
class Step:
    """Progress. stage: what is done.  done, total: frames; total is None when nobody knows."""

    stage: Literal["track", "refine", "files", "overlay"]
    done: int
    total: int | None


class TrackRun:
    """Iterate to do the work; then `people`, `frames`, `warnings` say what came of it.

    Raises:
        VideoError: the clip cannot be read.  OutputError: the folder holds another clip's results.
        CheckpointError: no such weights, or no such temporal transformer.
        ConfigError, HeadModelError: such a refinement is impossible.
    """

    def __init__(
        self, source: str | Path, output: str | Path, options: TrackOptions, model: Reconstructor | None = None
    ) -> None:
        self.options = replace(options, formats=known_formats(options.formats))
        self.clip = open_clip(source, options.start, options.end, options.fps)
        self.model = model or Reconstructor.load(options.weights, options.device)
        self.temporal: TemporalTransformer | None = choose_temporal(
            self.model, options.temporal, options.temporal_weights
        )
        if options.refine:
            _check_refinement(options)
            _ = self.model.refiner  # a head model that cannot be refined is an error before any work
        self._pipeline_options = pipeline_options(options.people, options.smooth, TOGETHER)
        self.folder = make_folder(output)
        if options.overlay and (self.folder / OVERLAY).resolve() == Path(self.clip.path).resolve():
            raise OutputError(f"'{self.clip.path}' would be overwritten by its overlay; choose another folder with -o")
        self.store = Store(self.folder / WORK)
        self.results = self.store  # that files are written from
        self.refined: dict[int, RefinedPerson] = {}
        self.people: dict[int, Identity] = {}
        self.frames = self.frames_with_face = 0
        self.warnings: list[str] = []
        self.finished_before = self._prepare()

    def __iter__(self) -> Iterator[Step]:
        if self.finished_before:
            return
        yield from self._track()
        if self.options.refine:
            yield from self._refine()
        yield from self._files()
        if self.options.overlay:
            yield from self._overlay()
        self._finish()

    def _prepare(self) -> bool:
        """Whether everything was done before; clears what other settings left."""
        marker = read_marker(self.folder / MARKER)
        if marker is not None and marker.get("clip") != self._clip_identity:
            raise OutputError(
                f"'{self.folder}' holds the results of another clip ({marker.get('name')}); "
                "choose another folder with -o"
            )
        same = marker is not None and marker.get("settings") == self._settings and not self.options.overwrite
        complete = marker is not None and all((self.folder / name).is_file() for name in marker.get("files", []))
        if same and complete and marker is not None and marker.get("state") == "done":
            self.frames = int(marker["frames"])
            self.frames_with_face = int(marker["frames_with_face"])
            self.warnings = list(marker["warnings"])
            return True
        if not same:
            for name in self._written() if marker is not None else ():  # also by a run that was killed
                discard(self.folder / name)
            shutil.rmtree(self.store.folder, ignore_errors=True)
        make_folder(self.store.folder)
        self._mark("started", [])
        return False

    def _track(self) -> Iterator[Step]:
        """Frames to stored predictions."""
        pipeline = Pipeline(self.model, self.model.detector, self._pipeline_options, self.temporal)
        found = self.store.state()
        chunks = 0
        if found is not None:
            chunks, state = found
            if state.pop("complete"):
                yield Step("track", self._count_frames(), self._count_frames())
                return
            pipeline.restore(state)
        done = chunks * CHUNK_FRAMES
        chunk: list[FramePredictions] = []
        for predictions in self._predictions(pipeline):
            chunk.append(predictions)
            done += 1
            if len(chunk) == CHUNK_FRAMES:
                self.store.append(chunks, chunk, {**pipeline.state(), "complete": False})
                chunks, chunk = chunks + 1, []
            yield Step("track", done, self.clip.expected_frames)
        self.store.append(chunks, chunk, {"complete": True, "damaged": self.clip.damaged_packets})
        yield Step("track", done, done)

    def _predictions(self, pipeline: Pipeline) -> Iterator[FramePredictions]:
        for frame in ahead(self.clip.frames(skip=pipeline.pushed)):
            yield from pipeline.push(frame)
        yield from pipeline.flush()

    def _refine(self) -> Iterator[Step]:
        """Stored predictions to refined ones."""
        total = self._count_frames()
        refiner = ClipRefiner(self.model.refiner, self.clip, self.store, self.options.refine_frames)
        for done in refiner:
            yield Step("refine", done, total)
        self.refined, self.results = refiner.people, refiner.results
        for person, one in self.refined.items():
            if one.record is None:
                self.warnings.append(f"person {person} was not refined: no frame shows the face reliably")

    def _files(self) -> Iterator[Step]:
        """Stored predictions to the files of every person."""
        total = self._count_frames()
        yield Step("files", 0, total)
        self.people = {p: one.identity for p, one in self.refined.items()} or identities(self.store)
        done = 0
        maker = FaceMaker(self.model.head, self.model.origin, self.clip.path)
        meshes = {"glb", "usd", "obj"} & set(self.options.formats)
        for person, identity in self.people.items():
            skin = ClipSkin()
            if meshes and self.options.texture == "photo":
                skin = clip_skin(self.clip, self.results, maker, person, identity)
            writer = PersonWriter(
                self.results,
                self.model.head,
                self.model.origin,
                self.folder / f"person_{person:02d}",
                self.store.folder,
                self.options.formats,
                self.clip.rate,
                skin.texture,
                skin.iris,
            )
            writer.write(person, identity)
            done += identity.frames
            yield Step("files", min(done, total), total)

    def _overlay(self) -> Iterator[Step]:
        """Frames and stored predictions to the overlay video."""
        pieces = [self.store.folder / f"overlay_{number:06d}.nut" for number in self.store.chunk_numbers()]
        first = next((number for number, piece in enumerate(pieces) if not piece.is_file()), len(pieces))
        total = self._count_frames()
        frames = ahead(self.clip.frames(skip=first * CHUNK_FRAMES))
        painter = HeadPainter(self.model.head)
        maker = FaceMaker(self.model.head, self.model.origin, self.clip.path)
        done = first * CHUNK_FRAMES
        for number in range(first, len(pieces)):
            predictions = self.results.frames(number)
            if predictions:
                encode_piece(pieces[number], self._painted(predictions, frames, painter, maker), self.clip.rate)
            done += len(predictions)
            yield Step("overlay", done, total)
        frames.close()  # type: ignore[attr-defined]
        present = [piece for piece in pieces if piece.is_file()]
        sound = self.clip.path if self.clip.facts.audio else None
        join_pieces(self.folder / OVERLAY, present, sound, self.clip.start, self.clip.end)

    def _painted(
        self, predictions: list[FramePredictions], frames: Iterator[Frame], painter: HeadPainter, maker: FaceMaker
    ) -> Iterator[tuple[float, Any]]:
        for known in predictions:
            frame = next(frames, None)
            if frame is None or frame.index != known.index:
                raise VideoError(
                    f"'{self.clip.path}' has changed since it was tracked; track it again with --overwrite"
                )
            shown = maker.frame(self._pooled(known), frame.image)
            yield frame.time, painter.paint(frame.image, shown.faces)

    def _pooled(self, frame: FramePredictions) -> FramePredictions:
        if not self.options.pool:
            return frame
        predictions = [
            replace(prediction, parameters=prediction.parameters.replace(shape=self.people[prediction.person].shape))
            for prediction in frame.predictions
        ]
        return replace(frame, predictions=predictions)

    def _finish(self) -> None:
        self.frames = self._count_frames()
        self.frames_with_face = sum(
            sum(bool(frame.predictions) for frame in self.store.frames(number)) for number in self.store.chunk_numbers()
        )
        found = self.store.state()
        damaged = int(found[1].get("damaged", 0)) if found is not None else 0
        if damaged:
            self.warnings.append(f"{damaged} packets of '{self.clip.path.name}' are damaged and were left out")
        if self._ends_early():
            self.warnings.append(
                f"'{self.clip.path.name}' ends early: {self.frames} of about {self.clip.expected_frames} frames; "
                "is it truncated?"
            )
        summary = self._summary()
        text = json.dumps(summary, indent=1, ensure_ascii=False)
        write_atomically(self.folder / "track.json", (text + "\n").encode(errors="replace"))
        files = self._written()
        for person in self.people if self.options.formats else ():
            if not any((self.folder / f"person_{person:02d}").glob("*")):
                raise OutputError(f"'{self.folder}' lost files of person {person} while it ran; run it again")
        self._mark("done", files)
        shutil.rmtree(self.store.folder, ignore_errors=True)

    def _written(self) -> list[str]:
        """Results that lie in the folder, by their names; other files are the user's."""
        places = ("*.*", "person_*/*", "person_*/obj/*")
        paths = {path.relative_to(self.folder).as_posix() for place in places for path in self.folder.glob(place)}
        return sorted(filter(is_clip_result_name, paths))

    def _ends_early(self) -> bool:
        """Whether the last frame comes long before the end that the file states. Frames are not counted: their rate
        may vary."""
        end = min(self.clip.end or math.inf, self.clip.facts.duration or math.inf)
        last_chunks = map(self.store.chunk, self.store.chunk_numbers()[-2:])  # the last may be empty
        times = [float(time) for chunk in last_chunks for time in chunk["frame_time"]]
        return bool(times) and math.isfinite(end) and end - times[-1] > max(LAST_FRAME, 0.1 * (end - self.clip.start))

    def _summary(self) -> dict[str, Any]:
        cuts: list[int] = []
        spans: dict[int, Any] = {}
        for number in self.store.chunk_numbers():
            for frame in self.store.frames(number):
                if frame.cut:
                    cuts.append(frame.index)
                for prediction in frame.predictions:
                    span = spans.setdefault(prediction.person, {"first": frame.index, "last": frame.index, "frames": 0})
                    span["last"], span["frames"] = frame.index, span["frames"] + 1
        return {
            "format": "tokenface-track-1",
            "software": f"TokenFace {__version__}",
            "clip": {"name": self.clip.path.name, **asdict(self.clip.facts)},
            "frames": self.frames,
            "frames_with_face": self.frames_with_face,
            "frames_per_second": self.clip.rate,
            "cuts": cuts,
            "people": [{"person": person, **spans[person], **self._refinement_of(person)} for person in sorted(spans)],
            "weights": {"name": self.model.origin.weights, "hash": self.model.origin.weights_hash},
            "temporal": "off" if self.temporal is None else self.temporal.mode,
            "smooth": self.options.smooth,
            "warnings": self.warnings,
        }

    def _refinement_of(self, person: int) -> dict[str, Any]:
        record = self.refined[person].record if person in self.refined else None
        return {} if record is None else {"refined": record}

    def _count_frames(self) -> int:
        numbers = self.store.chunk_numbers()
        if not numbers:
            return 0
        return (len(numbers) - 1) * CHUNK_FRAMES + len(self.store.chunk(numbers[-1])["frame_index"])

    @cached_property
    def _clip_identity(self) -> str:
        """Which clip this is: its place, size and time, hashed (a path does not belong in a result)."""
        return _digest(self.clip.identity.encode(errors="surrogateescape"))

    @cached_property
    def _settings(self) -> str:
        left_out = ("overwrite", "device", "weights", "temporal_weights")  # the last two by their contents
        options = {name: value for name, value in asdict(self.options).items() if name not in left_out}
        temporal = {} if self.temporal is None else self.temporal.state_dict()
        numbers = {name: _digest(value.cpu().numpy().tobytes()) for name, value in temporal.items()}
        return fingerprint({**self.model.facts(), "temporal": numbers, "options": options})

    def _mark(self, state: str, files: list[str]) -> None:
        marker = {
            "clip": self._clip_identity,
            "name": self.clip.path.name,
            "settings": self._settings,
            "state": state,
            "files": files,
            "frames": self.frames,
            "frames_with_face": self.frames_with_face,
            "warnings": self.warnings,
        }
        write_atomically(self.folder / MARKER, json.dumps(marker, indent=1).encode())


def _check_refinement(options: TrackOptions) -> None:
    if not options.pool:
        raise ConfigError("a refined person has one identity in all frames; leave out --no-pool or --refine")
    if options.refine_frames < 1:
        raise ConfigError(f"a person is refined from at least one frame, got {options.refine_frames}")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
