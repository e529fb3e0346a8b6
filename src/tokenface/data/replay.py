"""Replay ring of rendered faces on disk: each is trained on several times, augmented."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.parameters import COMPONENTS, ComponentSizes, FaceParameters


@dataclass(frozen=True)
class LabelledFaces:
    """image: [B, 3, S, S] in [0, 1].  landmarks68: [B, 68, 2], crop NDC.  parameters: the truth."""

    image: Tensor
    landmarks68: Tensor
    parameters: FaceParameters

    def to(self, device: torch.device | str, non_blocking: bool = False) -> LabelledFaces:
        moved = (part.to(device, non_blocking=non_blocking) for part in (self.image, self.landmarks68, self.parameters))
        return LabelledFaces(*moved)  # type: ignore[arg-type]


class ReplayRing:
    """Fixed number of faces in memory-mapped files, so that a killed run finds them again.

    Args:
        folder: where the files live.  capacity: faces.  guard: the oldest faces that are never drawn, so that steps
            repeated after a kill see the same faces although newer ones were already written over the oldest.
    """

    def __init__(self, folder: Path, capacity: int, size: int, sizes: ComponentSizes, guard: int):
        if guard >= capacity:
            raise ValueError(f"a ring of {capacity} faces must be larger than its guard of {guard}")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.capacity, self.guard, self.sizes = folder, capacity, guard, sizes
        width = sum(sizes[name] for name in COMPONENTS)
        self._image = mapped_array(folder / "image.npy", (capacity, 3, size, size), np.uint8)
        self._landmarks = mapped_array(folder / "landmarks.npy", (capacity, 68, 2), np.float32)
        self._parameters = mapped_array(folder / "parameters.npy", (capacity, width), np.float32)
        self._stamps = mapped_array(folder / "stamps.npy", (capacity,), np.int64)
        self._arrays = {"image": self._image, "landmarks": self._landmarks, "parameters": self._parameters}

    def bytes_to_come(self) -> int:
        """Bytes that the ring will still take of the disk."""
        return sum(
            max(0, array.nbytes - 512 * getattr((self.folder / f"{name}.npy").stat(), "st_blocks", 0))
            for name, array in self._arrays.items()
        )

    def holds(self, first: int, count: int, stamp: int) -> bool:
        """Whether faces number `first`, `first` + 1, … are here already, written with this stamp."""
        return bool((self._stamps[(first + np.arange(count)) % self.capacity] == stamp).all())

    def write(self, first: int, faces: LabelledFaces, stamp: int = 0) -> None:
        """Store faces number `first`, `first` + 1, … (numbers count all faces ever rendered in this run).

        stamp: says what they were rendered from (a seed), for `holds`.
        """
        slots = (first + np.arange(len(faces.parameters))) % self.capacity
        self._stamps[slots] = 0  # half-written faces belong to nobody
        self._image[slots] = (faces.image * 255).round().to(torch.uint8).cpu().numpy()
        self._landmarks[slots] = faces.landmarks68.cpu().numpy()
        flat = torch.cat([getattr(faces.parameters, name) for name in COMPONENTS], dim=1)
        self._parameters[slots] = flat.cpu().numpy()
        self._stamps[slots] = stamp

    def draw(
        self, written: int, batch: int, seed: int, rows: slice = slice(None), device: torch.device | str = "cpu"
    ) -> LabelledFaces:
        """The given rows of a random batch of the newest faces, when `written` have been stored so far; on a device."""
        oldest = max(0, written - self.capacity + self.guard)
        slots = np.sort(np.random.default_rng(seed).integers(oldest, written, size=batch) % self.capacity)
        slots = slots[rows]
        flat = _own(self._parameters[slots])
        parts = flat.split([self.sizes[name] for name in COMPONENTS], dim=1)
        labels = LabelledFaces(
            image=torch.from_numpy(self._image[slots]),  # bytes are a quarter of the way to a GPU
            landmarks68=_own(self._landmarks[slots]),
            parameters=FaceParameters(**dict(zip(COMPONENTS, parts, strict=True))),
        ).to(device, non_blocking=True)
        return replace(labels, image=labels.image.float().div_(255))


def mapped_array(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """The array that the file holds, writable; a new one of zeros where the file is missing or holds another shape."""
    if path.is_file():
        array = np.load(path, mmap_mode="r+", allow_pickle=False)
        if array.shape == shape and array.dtype == dtype:
            return array
    return np.lib.format.open_memmap(path, mode="w+", shape=shape, dtype=dtype)


def _own(array: np.ndarray) -> Tensor:
    """A copy in torch's memory: numpy's is not aligned alike in every run, and matrix products round accordingly."""
    return torch.from_numpy(array).clone()
