"""Store of predictions on disk: numbered chunks and the pipeline's state, for resuming.

A chunk is written before the state that follows it. A run that dies in between writes the same chunk once more.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokenface.core.arrays import open_arrays
from tokenface.core.files import write_atomically
from tokenface.errors import OutputError
from tokenface.inference.confidence import CONFIDENCE_FIELDS, ConfidenceFeatures
from tokenface.parameters import COMPONENTS, FaceParameters
from tokenface.video.prediction import FramePredictions, PersonPrediction, crop_of, crop_vector

CHUNK_FRAMES = 64
"""A multiple of `pipeline.TOGETHER`: the state is kept between two groups of predictions."""


class Store:
    """The chunks of one run in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def state_path(self) -> Path:
        return self.folder / "state.npz"

    def chunk_path(self, number: int) -> Path:
        return self.folder / f"chunk_{number:06d}.npz"

    def append(self, number: int, frames: Sequence[FramePredictions], state: dict[str, Any]) -> None:
        """Write chunk `number`, then the state in which the next one begins.

        Raises:
            OutputError: the disk is full, or no permission.
        """
        write_atomically(self.chunk_path(number), npz_bytes(chunk_arrays(frames)))
        arrays: dict[str, np.ndarray] = {}
        text = json.dumps({"chunks": number + 1, **_packed(state, arrays)})
        arrays["state"] = np.frombuffer(text.encode(), np.uint8)
        write_atomically(self.state_path, npz_bytes(arrays))

    def state(self) -> tuple[int, dict[str, Any]] | None:
        """Number of finished chunks, and the state after them; None when there is nothing to go on from."""
        if not self.state_path.is_file():
            return None
        try:
            with open_arrays(self.state_path) as file:
                packed = json.loads(file["state"].tobytes())
                state = _unpacked(packed, file)
        except (OSError, ValueError, KeyError) as error:
            raise OutputError(
                f"the state of the run in '{self.folder}' is damaged ({error}); start over with --overwrite"
            ) from error
        return int(state.pop("chunks")), state

    def chunk_numbers(self) -> range:
        """Numbers of the chunks that the state counts as finished."""
        found = self.state()
        return range(0 if found is None else found[0])

    def chunks(self) -> Iterator[dict[str, np.ndarray]]:
        """The arrays of every chunk in order; see `chunk_arrays`."""
        for number in self.chunk_numbers():
            yield self.chunk(number)

    def chunk(self, number: int) -> dict[str, np.ndarray]:
        try:
            with open_arrays(self.chunk_path(number)) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, KeyError) as error:
            raise OutputError(
                f"'{self.chunk_path(number)}' is damaged ({error}); start over with --overwrite"
            ) from error

    def frames(self, number: int) -> list[FramePredictions]:
        return frames_of(self.chunk(number))


def chunk_arrays(frames: Sequence[FramePredictions]) -> dict[str, np.ndarray]:
    """Frames as arrays: `frame_*` have one row per frame, all others one row per face, in order."""
    faces = [(row, prediction) for row, frame in enumerate(frames) for prediction in frame.predictions]
    arrays = {
        "frame_index": np.array([frame.index for frame in frames], np.int64),
        "frame_time": np.array([frame.time for frame in frames], np.float64),
        "frame_cut": np.array([frame.cut for frame in frames], bool),
        "row": np.array([row for row, _ in faces], np.int64),
        "person": np.array([prediction.person for _, prediction in faces], np.int64),
        "scene": np.array([prediction.scene for _, prediction in faces], np.int64),
        "crop": np.array([crop_vector(prediction.crop) for _, prediction in faces], np.float64).reshape(-1, 4),
        "size": np.array([prediction.size for _, prediction in faces], np.int64).reshape(-1, 2),
        "evidence": np.array([astuple(prediction.confidence_features) for _, prediction in faces], np.float64).reshape(
            -1, len(CONFIDENCE_FIELDS)
        ),
    }
    for name in COMPONENTS:
        values = [getattr(prediction.parameters, name).numpy() for _, prediction in faces]
        arrays[name] = np.stack(values) if values else np.zeros((0, 0), np.float32)
    return arrays


def frames_of(arrays: dict[str, np.ndarray]) -> list[FramePredictions]:
    """The inverse of `chunk_arrays`."""
    frames = [
        FramePredictions(int(index), float(time), bool(cut))
        for index, time, cut in zip(arrays["frame_index"], arrays["frame_time"], arrays["frame_cut"], strict=True)
    ]
    for i, row in enumerate(arrays["row"]):
        parameters = FaceParameters(**{name: torch.from_numpy(arrays[name][i].copy()) for name in COMPONENTS})
        frames[int(row)].predictions.append(
            PersonPrediction(
                person=int(arrays["person"][i]),
                scene=int(arrays["scene"][i]),
                parameters=parameters,
                crop=crop_of(arrays["crop"][i]),
                size=(int(arrays["size"][i][0]), int(arrays["size"][i][1])),
                confidence_features=ConfidenceFeatures(
                    **dict(zip(CONFIDENCE_FIELDS, map(float, arrays["evidence"][i]), strict=True))
                ),
            )
        )
    return frames


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """JSON-able copy; arrays go to `arrays`, which keep their bits. Floats keep theirs in JSON as well."""
    if isinstance(value, np.ndarray):
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return {"__array__": name}
    if isinstance(value, dict):
        return {key: _packed(entry, arrays) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(entry, arrays) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def _unpacked(value: Any, arrays: Any) -> Any:
    if isinstance(value, dict):
        return (
            arrays[value["__array__"]] if "__array__" in value else {k: _unpacked(v, arrays) for k, v in value.items()}
        )
    if isinstance(value, list):
        return [_unpacked(entry, arrays) for entry in value]
    return value
