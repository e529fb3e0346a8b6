"""Image sequences as clips: animated WebP or PNG, numbered frames, patterns such as `frame_%04d.png`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tokenface.core.files import read_regular
from tokenface.errors import ImageError, VideoError
from tokenface.images.loading import IMAGE_SUFFIXES, MAX_BYTES, MAX_PIXELS, load_image, open_picture
from tokenface.video.clip import USUAL_RATE, Clip, ClipFacts, Frame, chosen

ANIMATIONS = (".webp", ".png", ".apng")
PATTERN = re.compile(r"%0?\d*d")


def open_clip(
    source: str | Path, start: float | None = None, end: float | None = None, fps: float | None = None
) -> Clip:
    """A video file, or pictures that stand for one.

    Raises:
        VideoError: no clip, or nothing in it that can be decoded.
    """
    path = Path(source).expanduser()
    if stands_for_files(path) or path.suffix.lower() in ANIMATIONS:
        return PictureClip(path, start, end, fps)
    return Clip(path, start, end, fps)


def is_animation(path: Path) -> bool:
    """Whether a picture's file moves."""
    if path.suffix.lower() not in ANIMATIONS:
        return False
    try:
        with open_picture(read_regular(path, MAX_BYTES)) as picture:
            return getattr(picture, "n_frames", 1) > 1
    except (OSError, ValueError, SyntaxError):
        return False


class PictureClip(Clip):
    """Pictures in order. An animation keeps its own times; numbered files have `fps` a second, or 30.

    Args:
        path: an animation; a folder, whose pictures are sorted by the last number in their names; a pattern with %d.
        start, end, fps, max_pixels: see `Clip`.
    Raises:
        VideoError: no such folder or file, no pictures, a single one, or the first cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._given = Path(path).expanduser()
        self._files = numbered_files(self._given) if stands_for_files(self._given) else []
        super().__init__(path, start, end, fps, max_pixels)
        if self._files:
            self.fps = None  # it said how many there are
            if not self._given.is_dir():
                self.path = self._given.parent

    @property
    def identity(self) -> str:
        files = self._files or [self.path]
        return " ".join(f"{file.resolve()} {(s := file.stat()).st_size} {s.st_mtime_ns}" for file in files)

    def frames(self, skip: int = 0) -> Iterator[Frame]:
        self.damaged_packets, index = 0, -1
        for index, (load, time) in enumerate(chosen(self._timed(), self.start, self.end, self.fps)):
            if index < skip:
                continue
            try:
                image = load()
            except (ImageError, OSError, EOFError, ValueError, SyntaxError):
                self.damaged_packets += 1
                image = np.full((self.facts.height, self.facts.width, 3), 127, np.uint8)  # keeps the others' numbers
            if image.shape != (self.facts.height, self.facts.width, 3):
                size = f"{image.shape[1]} × {image.shape[0]}"
                raise VideoError(
                    f"picture {index} of '{self._given}' has {size} pixels, the first "
                    f"{self.facts.width} × {self.facts.height}; the frames of a clip are of one size"
                )
            yield Frame(index, time, image)
        if index < 0:
            raise VideoError(f"'{self._given}' has no frame between {self.start} s and {self.end or 'the end'}")

    def _timed(self) -> Iterator[tuple[Callable[[], np.ndarray], float]]:
        if self._files:
            for number, file in enumerate(self._files):
                yield partial(load_image, file, self.max_pixels), number / self.facts.rate
            return
        time = 0.0
        with open_picture(read_regular(self.path, MAX_BYTES)) as picture:
            for number in range(getattr(picture, "n_frames", 1)):
                picture.seek(number)
                yield (lambda: load_image(picture.copy(), self.max_pixels)), time
                picture.load()
                time += (picture.info.get("duration", 0) or 1000 / USUAL_RATE) / 1000

    def _facts(self) -> ClipFacts:
        try:
            if self._files:
                height, width = load_image(self._files[0], self.max_pixels).shape[:2]
                rate = self.fps or USUAL_RATE
                return ClipFacts(width, height, rate, len(self._files) / rate, 0, False)
            if not self.path.exists():
                raise VideoError(f"no video at '{self.path}'")
            with open_picture(read_regular(self.path, MAX_BYTES)) as picture:
                count = getattr(picture, "n_frames", 1)
                if count < 2:
                    raise VideoError(
                        f"'{self.path}' is a single picture, no clip; run 'tokenface reconstruct {self.path.name}'"
                    )
                if picture.width * picture.height > self.max_pixels:
                    raise VideoError(f"'{self.path}' has frames of more than {self.max_pixels} pixels")
                durations = []
                for number in range(count):
                    picture.seek(number)
                    picture.load()
                    durations.append(picture.info.get("duration", 0) or 1000 / USUAL_RATE)
                total = sum(durations) / 1000
                return ClipFacts(picture.width, picture.height, count / total, total, 0, False)
        except (ImageError, OSError, EOFError, ValueError, SyntaxError) as error:
            reason = " ".join(str(error).split())[:150]
            raise VideoError(f"'{self._given}' cannot be read as a clip ({reason})") from error


def numbered_files(path: Path) -> list[Path]:
    """Pictures of a folder or pattern in the order of their numbers.

    Raises:
        VideoError: fewer than two.
    """
    folder, wanted = (path, None) if path.is_dir() else (path.parent, _regular(path.name))
    found: list[tuple[int, str, Path]] = []
    for file in folder.iterdir() if folder.is_dir() else ():
        numbers = wanted.fullmatch(file.name) if wanted else re.search(r"(\d+)(?!.*\d)", file.stem)
        if numbers and file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file():
            found.append((int(numbers[1]), file.name, file))
    if len(found) < 2:
        count = f"{len(found) or 'no'} numbered picture{'' if len(found) == 1 else 's'}"
        raise VideoError(f"'{path}' has {count}; a clip needs two or more files such as frame_0001.png")
    return [file for _, _, file in sorted(found)]


def stands_for_files(path: Path) -> bool:
    """Whether a path is that of numbered pictures: a folder, or a pattern with %d."""
    return path.is_dir() or (PATTERN.search(path.name) is not None and not os.path.lexists(path))


def _regular(name: str) -> re.Pattern[str]:
    before, after = PATTERN.split(name, maxsplit=1)
    return re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
