"""Token features of synthetic clips, made once by the frozen image model and kept on disk; a killed run goes on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.data.sequences import FaceSequence, SyntheticSequences
from tokenface.errors import CheckpointError
from tokenface.formats.files import make_folder, write_atomically
from tokenface.images.crop import Crop, crop_from_landmarks
from tokenface.inference.reconstruct import Reconstructor
from tokenface.training.temporal.config import SequenceData
from tokenface.video.answer import crop_vector
from tokenface.video.look import FrameNetwork
from tokenface.video.person import following_crop


@dataclass(frozen=True)
class ClipFeatures:
    """N clips of T frames. tokens: [N, T, K, D] of the image model.  crops: [N, T, 4] that it saw, frame pixels.
    shape, expression, jaw: [N, T, ·] truth.  rotation: [N, T, 3, 3], scale: [N, T], translation: [N, T, 2],
    distance, depth: [N, T] of the true view in the frame's NDC.  size: [N] pixels of the frames."""

    tokens: Tensor
    crops: Tensor
    shape: Tensor
    expression: Tensor
    jaw: Tensor
    rotation: Tensor
    scale: Tensor
    translation: Tensor
    distance: Tensor
    depth: Tensor
    size: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index) -> ClipFeatures:
        return ClipFeatures(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def stack(clips: list[ClipFeatures]) -> ClipFeatures:
        return ClipFeatures(**{f.name: torch.stack([getattr(c, f.name) for c in clips]) for f in fields(ClipFeatures)})


def prepare(
    model: Reconstructor, data: SequenceData, folder: Path, report: Callable[[str], object]
) -> tuple[ClipFeatures, ClipFeatures]:
    """Training and held-out features: what is in the folder, and the rest made now.

    Clips are drawn by (seed, number), the held-out ones from numbers of their own.
    """
    make_folder(folder)
    network = FrameNetwork(model)
    if not network.has_tokens:
        raise CheckpointError("a temporal transformer needs a network with component tokens")
    size = round(model.crop_size * data.canvas / 8) * 8
    faces = SyntheticSequences(model.head, size)
    sets: list[list[ClipFeatures]] = [[], []]
    for number in range(data.clips + data.held_out):
        held_out = number >= data.clips
        path = folder / f"clip_{number:05d}.npz"
        if not path.is_file():
            sequence = faces.sample(data.frames, _seed(data.seed, number))
            views = [
                _see(network, sequence, model.crop_scale, seed=_seed(data.seed + 1, number * 8 + view))
                for view in range(1 if held_out else data.views)
            ]
            write_atomically(path, _bytes(views))
            if number % 10 == 0:
                report(f"clip {number} of {data.clips + data.held_out}")
        sets[held_out] += list(_read(path))
    return ClipFeatures.stack(sets[0]), ClipFeatures.stack(sets[1])


def _see(network: FrameNetwork, sequence: FaceSequence, crop_scale: float, seed: int) -> ClipFeatures:
    """The clip as the tracker would see it: first a crop near the truth, then each from the landmarks before."""
    generator = np.random.default_rng(seed)
    size = sequence.image.shape[-1]
    first = crop_from_landmarks(sequence.points[0].numpy(), crop_scale)
    moved = np.add(first.centre, generator.normal(0, 0.05 * first.size, 2))
    crop = Crop((float(moved[0]), float(moved[1])), first.size * float(np.exp(generator.normal(0, 0.08))))
    tokens, crops = [], []
    for image in sequence.image:
        picture = (image.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
        look = network.look(picture, [crop])[0]
        assert look.tokens is not None
        tokens.append(look.tokens)
        crops.append(torch.from_numpy(crop_vector(crop)))
        if np.isfinite(look.landmarks68).all():
            crop = following_crop(crop, look.landmarks68, look.roll, crop_scale)
    view = sequence.view
    return ClipFeatures(
        tokens=torch.stack(tokens),
        crops=torch.stack(crops),
        shape=sequence.shape,
        expression=sequence.expression,
        jaw=sequence.jaw,
        rotation=view.rotation,
        scale=view.scale,
        translation=view.translation,
        distance=view.distance,
        depth=view.depth,
        size=torch.tensor(float(size)),
    )


def _bytes(views: list[ClipFeatures]) -> bytes:
    buffer = io.BytesIO()
    arrays = {
        f"{index}.{f.name}": getattr(view, f.name).numpy() for index, view in enumerate(views) for f in fields(view)
    }
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _read(path: Path) -> Iterator[ClipFeatures]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"features '{path}' are damaged ({error}); delete that file") from error
    for index in range(len({name.split(".")[0] for name in arrays})):
        yield ClipFeatures(**{f.name: arrays[f"{index}.{f.name}"] for f in fields(ClipFeatures)})


def _seed(seed: int, number: int) -> int:
    """One 62-bit seed from two numbers, as the training of the image model makes them."""
    return (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % (1 << 62)
