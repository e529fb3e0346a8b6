"""`tokenface reconstruct`: planning, execution and report of a run over photos and folders."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenface.core.files import read_json
from tokenface.core.fingerprint import fingerprint
from tokenface.deploy.graph_names import arithmetic
from tokenface.errors import ConfigError, OutputError
from tokenface.formats.axes import Axes
from tokenface.formats.glb_textures import TextureFormat, check_texture_format
from tokenface.images.loading import MAX_PIXELS, ImageItem
from tokenface.inference.checkpoint_facts import model_facts
from tokenface.inference.face import FORMATS, SAVED, can_draw
from tokenface.inference.map_names import chosen_maps
from tokenface.inference.photos import BATCH_SIZE, per_photo
from tokenface.inference.refinement import RefineOptions
from tokenface.inference.result import PhotoResult
from tokenface.jobs.face_files import Texture, load_beside
from tokenface.jobs.output_tree import OutputTree, Settings
from tokenface.jobs.photo_model import open_model
from tokenface.jobs.sources import collected

logger = logging.getLogger("tokenface")

GIVE_UP_AFTER = 3
"""Abort after this many consecutive write failures: the disk is full."""


@dataclass(frozen=True)
class Options:
    """Settings of a run, as the command line gives them. boxes: JSON file, photo → [[x0, y0, x1, y1], …]."""

    formats: tuple[str, ...] = FORMATS
    weights: str | None = None
    batch_size: int = BATCH_SIZE
    device: str = "auto"
    runtime: str = "auto"
    precision: str = "fp32"
    max_faces: int | None = None
    boxes: Path | None = None
    recursive: bool = False
    overwrite: bool = False
    overlay: bool = True
    neutral: bool = False
    texture: Texture = "photo"
    detail: bool = False
    second_crop: bool = True
    refine: RefineOptions | None = None
    max_pixels: int = MAX_PIXELS
    maps: tuple[str, ...] = ()
    axes: Axes | None = None
    texture_format: TextureFormat = "png"
    hair: bool = False
    rounded: bool | None = None


class Run:
    """Iterate to do the work; one PhotoResult per photo that was to do.

    items: all photos.  todo: those that are not done yet.  skipped: how many are.  done: (folder, number of faces).
    failures: (photo, one line) of everything that gave no result; without_face: how many of them show no face.

    Raises:
        ConfigError: unknown format, unreadable boxes.  CheckpointError: no such weights.  OutputError: no such folder.
    """

    def __init__(self, sources: Sequence[str | Path], output: str | Path, options: Options) -> None:
        self.options = options
        self.failures: list[tuple[str, str]] = []
        self.done: list[tuple[Path, int]] = []
        self.skipped = self.without_face = 0
        self.items, failures = collected(sources, Path(output).expanduser().resolve(), options.recursive)
        self.failures += failures
        self._boxes = read_boxes(options.boxes) if options.boxes else None
        formats = known_formats(options.formats)
        if not can_draw():
            options = self.options = _without_drawing(options)
        self.todo: list[ImageItem] = []
        self.root = Path(output)
        if not self.items:
            return
        settings = Settings(
            formats=formats,
            overlay=options.overlay,
            neutral=options.neutral,
            texture=options.texture,
            detail=options.detail,
            maps=chosen_maps(options.maps),
            axes=options.axes,
            texture_format=check_texture_format(options.texture_format),
            hair=with_hair(options.hair, formats),
            rounded=options.rounded,
            signature=self._signature(),
        )
        self.tree = OutputTree(output, settings, options.overwrite)
        self.root = self.tree.root
        for item in self.items:
            try:
                if self.tree.done(item):
                    self.skipped += 1
                else:
                    self.todo.append(item)
            except OutputError as error:
                self.failures.append((item.name, str(error)))

    @cached_property
    def model(self) -> Any:
        """The network, loaded when there is something to do: a `PhotoModel`, a `Reconstructor` where faces are refined
        or get hair."""
        chosen = self.options
        photos_only = chosen.refine is None and not chosen.hair
        photos = len(self.todo)
        return open_model(
            chosen.weights, chosen.device, chosen.runtime, chosen.precision, photos, photos_only=photos_only
        )

    def __iter__(self) -> Iterator[PhotoResult]:
        if not self.todo:
            return
        load_beside(self.tree.settings)
        options = self.options
        results = self.model.iterate(
            self.todo,
            self.boxes_of(self.todo),
            batch_size=options.batch_size,
            max_faces=options.max_faces,
            second_crop=options.second_crop,
            max_pixels=options.max_pixels,
            **({} if options.refine is None else {"refine": options.refine}),
        )
        try:
            yield from self._results(results)
        finally:
            self._check_done()

    def _results(self, results: Iterator[PhotoResult]) -> Iterator[PhotoResult]:
        in_vain = 0
        for result in results:
            if result.error is not None:
                self.failures.append((result.item.name, str(result.error)))
                self.without_face += result.status == "no_face"
            else:
                in_vain = 0 if self._write(result) else in_vain + 1
            yield result
            if in_vain == GIVE_UP_AFTER:
                left = len(self.todo) - len(self.done) - len(self.failures)
                if left > 0:
                    self.failures.append(("other photos", f"{left} were not tried: no results could be written"))
                return

    def _check_done(self) -> None:
        """What somebody removed while the run went on is no success."""
        lost = [(folder, faces) for folder, faces in self.done if not folder.is_dir()]
        self.done = [entry for entry in self.done if entry not in lost]
        self.failures += [(folder.name, f"'{folder}' was removed while the run went on") for folder, _ in lost]

    def _write(self, result: PhotoResult) -> bool:
        try:
            self.tree.write(result)
        except OutputError as error:
            self.failures.append((result.item.name, str(error)))
            return False
        self.done.append((self.tree.folder(result.item), len(result.faces)))
        return True

    def _signature(self) -> str:
        options = self.options
        return fingerprint(
            {
                **model_facts(options.weights),
                "faces": options.max_faces,
                "second crop": options.second_crop,
                "boxes": self._boxes,
                "arithmetic": arithmetic(options.runtime, options.precision),
                "refine": options.refine,
            }
        )

    def boxes_of(self, items: Sequence[ImageItem]) -> Any:
        """Known boxes of some of the photos, as `Reconstructor.iterate` takes them; None: find them."""
        if self._boxes is None:
            return None
        # Names are checked against all photos: those that are done already are known.
        chosen = dict(zip(self.items, per_photo(self._boxes, self.items, "boxes"), strict=True))
        return [chosen[item] for item in items] if len(items) > 1 else chosen[items[0]]


def _without_drawing(options: Options) -> Options:
    """What can be made without the packages that draw; said once.

    Raises:
        ConfigError: it was asked for what cannot.
    """
    if options.maps or options.detail or options.hair:
        raise ConfigError("maps, relief and hair need numba and scipy; run pip install numba scipy")
    logger.warning("photo textures and overlays need numba and scipy; the skin is the predicted albedo")
    return replace(options, texture="model", overlay=False)


def with_hair(wanted: bool, formats: Sequence[str]) -> bool:
    """Raises ConfigError where no file of these formats can hold it."""
    if wanted and not {"glb", "vrm"} & set(formats):
        raise ConfigError("--hair goes into GLB and VRM files; choose one of them with --format")
    return wanted


def known_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """The formats that are wanted, in the usual order; "all" is the usual ones.

    Raises:
        ConfigError: one of them is unknown, or there is none.
    """
    chosen = (set(formats) - {"all"}) | (set(FORMATS) if "all" in formats else set())
    if unknown := sorted(chosen - set(SAVED)):
        raise ConfigError(f"unknown format '{unknown[0]}'; expected some of {', '.join(SAVED)}, or all")
    if not chosen:
        raise ConfigError(f"no format given; expected some of {', '.join(SAVED)}, or all")
    return tuple(name for name in SAVED if name in chosen)


def read_boxes(path: Path) -> dict[str, list[list[float]]]:
    """Boxes of photos from JSON.

    Raises:
        ConfigError: missing, not JSON, or of another shape.
    """
    expected = 'expected {"photo.jpg": [[x0, y0, x1, y1], …], …}'
    try:
        boxes = read_json(path)
    except OSError as error:
        raise ConfigError(f"cannot read boxes '{path}' ({error.strerror or error})") from error
    except ValueError as error:
        raise ConfigError(f"boxes '{path}' are not JSON ({error}); {expected}") from error
    if not isinstance(boxes, dict):
        raise ConfigError(f"boxes '{path}' hold a {type(boxes).__name__}; {expected}")
    for name, entries in boxes.items():
        good = isinstance(entries, list) and all(
            isinstance(box, list) and len(box) == 4 and all(isinstance(x, int | float) for x in box) for box in entries
        )
        if not good:
            raise ConfigError(f"boxes of '{name}' in '{path}' are not four numbers each; {expected}")
    return boxes
