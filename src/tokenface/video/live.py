"""Live tracking: newest camera frame first, dropped frames counted, preview window."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from tokenface.errors import VideoError
from tokenface.head.model import HeadModel
from tokenface.images.detector import FaceDetector
from tokenface.inference.predictor import Predictor
from tokenface.video.clip import Frame
from tokenface.video.face import FaceMaker, TrackedFrame
from tokenface.video.painter import HeadPainter
from tokenface.video.pipeline import Pipeline, Smoothing
from tokenface.video.temporal_weights import Temporal, choose_temporal
from tokenface.video.track import pipeline_options

SCREEN_SHARE = 0.9
PATIENCE = 5.0
"""Seconds without a frame after which a camera counts as gone."""


class Capture(Protocol):
    """Protocol of a camera: OpenCV's VideoCapture."""

    def read(self) -> tuple[bool, Any]: ...
    def release(self) -> None: ...


class Camera:
    """Reads a camera in a thread and keeps the newest frame alone: a slow network skips frames, it never falls behind.

    taken: frames that were handed out.  skipped: frames that were overwritten before anybody asked for them.
    """

    def __init__(self, capture: Capture, clock: Callable[[], float] = time.monotonic) -> None:
        self._capture, self._clock = capture, clock
        self._started = clock()
        self._newest: tuple[float, np.ndarray] | None = None
        self._ended = self._closed = False
        self._arrived = threading.Condition()
        self.taken = self.skipped = 0
        self._thread = threading.Thread(target=self._read, name="tokenface-camera", daemon=True)
        self._thread.start()

    @staticmethod
    def open(number: int) -> Camera:
        """Raises VideoError when there is no such camera."""
        capture = cv2.VideoCapture(number)
        if not capture.isOpened():
            raise VideoError(f"no camera number {number}; is it plugged in, and free?")
        return Camera(capture)

    def frames(self, seconds: float | None = None) -> Iterator[Frame]:
        """Frames as they come, with the time of their arrival; ends with the camera, or after so many seconds."""
        try:
            while seconds is None or self._clock() - self._started < seconds:
                with self._arrived:
                    self._arrived.wait_for(lambda: self._newest is not None or self._ended, PATIENCE)
                    if self._newest is None:
                        return
                    (arrived, image), self._newest = self._newest, None
                    self.taken += 1
                yield Frame(self.taken - 1, arrived, np.ascontiguousarray(image[..., ::-1]))  # OpenCV's BGR
        finally:
            self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = self._ended = True
        self._thread.join(timeout=PATIENCE)
        self._capture.release()

    def _read(self) -> None:
        while not self._ended:
            good, image = self._capture.read()
            with self._arrived:
                if not good:
                    self._ended = True
                else:
                    self.skipped += self._newest is not None
                    self._newest = self._clock() - self._started, image
                self._arrived.notify()


def live(
    predictor: Predictor,
    detector: FaceDetector,
    camera: Camera,
    *,
    people: int | Literal["all"] = 1,
    temporal: Temporal = "auto",
    temporal_weights: str | Path | None = None,
    smooth: Smoothing = "none",
    seconds: float | None = None,
) -> Iterator[TrackedFrame]:
    """The faces of the newest frame, over and over. "auto" takes the causal temporal transformer: it does not wait."""
    module = choose_temporal(predictor, temporal, temporal_weights, preferred="causal")
    pipeline = Pipeline(predictor, detector, pipeline_options(people, smooth), module)
    maker = FaceMaker(predictor.head, predictor.origin, "camera")
    images: dict[int, np.ndarray] = {}
    for frame in camera.frames(seconds):
        images[frame.index] = frame.image
        for predictions in pipeline.push(frame):
            yield maker.frame(predictions, images.pop(predictions.index))


def show_live(head: HeadModel, frames: Iterator[TrackedFrame], camera: Camera) -> None:
    """A window with the overlay, until it is closed, or Escape or q is pressed; its title says how fast it is.

    Raises:
        VideoError: there is no screen, or Python has no Tk.
    """
    window, label, photo = _window()
    closed = threading.Event()
    for key in ("<Escape>", "q"):
        window.bind(key, lambda event: closed.set())
    window.protocol("WM_DELETE_WINDOW", closed.set)
    largest = window.winfo_screenwidth() * SCREEN_SHARE, window.winfo_screenheight() * SCREEN_SHARE
    painter, arrivals = HeadPainter(head), deque([time.monotonic()], maxlen=30)
    try:
        for frame in frames:
            picture = photo(_fitted(painter.paint(frame.image, frame.faces), *largest))
            label.configure(image=picture)
            arrivals.append(time.monotonic())
            rate = (len(arrivals) - 1) / max(arrivals[-1] - arrivals[0], 1e-6)
            window.title(f"TokenFace: {rate:.1f} frames/s, {camera.skipped} skipped")
            window.update()
            if closed.is_set():
                break
    finally:
        camera.close()
        window.destroy()


def _window() -> tuple[Any, Any, Callable[[np.ndarray], Any]]:
    """A Tk window, the label that fills it, and what makes its pictures of arrays."""
    try:
        import tkinter

        from PIL import Image, ImageTk
    except ImportError as error:
        raise VideoError(
            f"this Python has no Tk to open a window with ({error}); install it (Debian and Ubuntu: python3-tk), or "
            "leave --show out"
        ) from error
    try:
        window = tkinter.Tk()
    except tkinter.TclError as error:
        raise VideoError(f"there is no screen to open a window on ({error}); leave --show out") from error
    label = tkinter.Label(window, borderwidth=0)
    label.pack()
    return window, label, lambda image: ImageTk.PhotoImage(Image.fromarray(image), master=window)


def _fitted(image: np.ndarray, width: float, height: float) -> np.ndarray:
    """The picture, made smaller where it is larger than this."""
    share = min(width / image.shape[1], height / image.shape[0])
    if share >= 1:
        return image
    size = max(1, int(image.shape[1] * share)), max(1, int(image.shape[0] * share))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
