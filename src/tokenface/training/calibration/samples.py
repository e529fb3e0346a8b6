"""Calibration samples: rendered faces as detected, badly cropped, occluded, and images without a face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor

from tokenface.data.backgrounds import sample_backgrounds
from tokenface.data.draw import Draw
from tokenface.data.record import FaceBatch
from tokenface.data.sampling import Framing, rotation_from_angles
from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces
from tokenface.evaluation.landmarks import normalised_mean_error
from tokenface.evaluation.open_methods import as_photos
from tokenface.inference.calibration import FEATURES, CalibrationInput
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.face import Face
from tokenface.model import Reconstructor
from tokenface.parameters import COMPONENTS
from tokenface.training.calibration.truth import ComponentErrors

FIT_SEED, TEST_SEED = 7_310_000, 7_320_000
"""Of the pictures that are fitted and of those that are measured; training and the other test sets have others."""
KINDS = ("found", "given", "covered", "astray", "nobody")
SHARES = (0.5, 0.12, 0.14, 0.12, 0.12)
"""found: by the detector.  given: a box by hand.  covered: most of the face behind things.  astray: a box beside the
face, or far too small or large.  nobody: a wall, or the back of a head."""
PIXELS = 256
FRAMING = Framing(zoom=(1.4, 2.6), shift=0.12)
CHUNK = 25


@dataclass(frozen=True, eq=False)
class Samples:
    """N predictions. kind: [N] into KINDS.  nme: [N] mean error of the 68 points over √(box area), inf where nobody is.

    errors: [N, 6] of the components, NaN where nobody is.  features: [N, F].  tokens: [N, K].
    """

    kind: np.ndarray
    nme: np.ndarray
    errors: np.ndarray
    features: np.ndarray
    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: np.ndarray) -> Samples:
        return Samples(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @staticmethod
    def joined(parts: list[Samples]) -> Samples:
        return Samples(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Samples)})


@dataclass
class Recorder:
    """Stand-in for a calibration that records its inputs."""

    seen: list[CalibrationInput] = field(default_factory=list)

    def calibrated(self, features: ConfidenceFeatures, inputs: CalibrationInput) -> ConfidenceFeatures:
        self.seen.append(inputs)
        return features


def calibration_inputs(
    model: Reconstructor, images: list[np.ndarray], boxes: list | None
) -> list[list[tuple[Face, CalibrationInput]]]:
    """The faces of each picture with their inputs; boxes: one list of boxes per picture, None: find them."""
    recorder, before = Recorder(), model.calibration
    model.calibration = recorder  # type: ignore[assignment]
    try:
        faces = [
            result.faces for result in model.iterate(images, boxes if boxes is None or len(images) > 1 else boxes[0])
        ]
    finally:
        model.calibration = before
    inputs = iter(recorder.seen)
    return [[(face, next(inputs)) for face in own] for own in faces]


def draw_samples(
    model: Reconstructor, count: int, seed: int, say: Callable[[int], None] = lambda done: None
) -> Samples:
    """Predictions of the model to `count` pictures; those in which the detector finds nothing give none."""
    measure = ComponentErrors(model.head)
    generator = SyntheticFaces(model.head, PIXELS, replace(SyntheticConfig(), framing=FRAMING))
    parts = []
    for number, start in enumerate(range(0, count, CHUNK)):
        size = min(CHUNK, count - start)
        parts.append(_chunk(model, generator, measure, size, seed + number))
        say(start + size)
    return Samples.joined(parts)


@torch.no_grad()
def _chunk(model: Reconstructor, generator: SyntheticFaces, measure: ComponentErrors, size: int, seed: int) -> Samples:
    draw = Draw.seeded(seed, "cpu")
    kind = draw.pick(size, SHARES)
    away = (kind == KINDS.index("nobody")) & draw.chance(size, p=0.4)
    truth = generator.sample(size, seed, rotation=_rotations(draw, away))
    picture = torch.where(
        ((kind == KINDS.index("nobody")) & ~away)[:, None, None, None],
        sample_backgrounds(draw, size, PIXELS),
        truth.image,
    )
    covered = kind == KINDS.index("covered")
    picture = torch.where(covered[:, None, None, None], _cover(draw, picture, truth.landmarks68), picture)
    images, points = as_photos(picture), (truth.landmarks68 + 1) * PIXELS / 2
    boxes = _boxes(draw, points, kind)
    found = np.flatnonzero((kind == 0).numpy())
    given = np.flatnonzero((kind != 0).numpy())
    predictions: dict[int, list[tuple[Face, CalibrationInput]]] = {}
    if len(found):
        predictions |= dict(zip(found, calibration_inputs(model, [images[i] for i in found], None), strict=True))
    if len(given):
        known = calibration_inputs(model, [images[i] for i in given], [boxes[i : i + 1].numpy() for i in given])
        predictions |= dict(zip(given, known, strict=True))
    rows = [_row(measure, predictions[i], truth, points[i], int(kind[i]), i) for i in range(size) if predictions[i]]
    shapes = {"kind": (), "nme": (), "errors": (6,), "features": (len(FEATURES),), "tokens": (-1,)}
    columns = zip(*rows, strict=True) if rows else [[] for _ in shapes]
    return Samples(**{n: np.array(c).reshape(len(rows), *s) for (n, s), c in zip(shapes.items(), columns, strict=True)})


def _row(
    measure: ComponentErrors,
    predictions: list[tuple[Face, CalibrationInput]],
    truth: FaceBatch,
    points: Tensor,
    kind: int,
    row: int,
) -> tuple:
    middle = points.mean(0).numpy()
    face, inputs = min(predictions, key=lambda prediction: np.linalg.norm(prediction[0].landmarks.mean(0) - middle))
    if kind == KINDS.index("nobody"):
        return kind, np.inf, np.full(len(COMPONENTS), np.nan), inputs.features, inputs.tokens
    nme = float(normalised_mean_error(torch.from_numpy(face.landmarks)[None], points[None]))
    return kind, nme, measure(face, truth, row), inputs.features, inputs.tokens


def _rotations(draw: Draw, away: Tensor) -> Tensor | None:
    """Heads turned away where asked; the generator's own poses elsewhere."""
    from tokenface.data.sampling import PoseRange, sample_rotations

    own = sample_rotations(draw, len(away), PoseRange())
    yaw = draw.uniform(len(away), low=125, high=235)
    turned = rotation_from_angles(torch.deg2rad(yaw), torch.zeros(len(away)), draw.normal(len(away), std=0.1))
    return torch.where(away[:, None, None], turned, own)


def _boxes(draw: Draw, points: Tensor, kind: Tensor) -> Tensor:
    """[N, 4] pixels: the landmarks' box, moved and scaled a little, or a lot where the crop is to go astray."""
    low, high = points.amin(1), points.amax(1)
    size = (high - low).mean(1, keepdim=True)
    astray = ((kind == KINDS.index("astray")) | (kind == KINDS.index("nobody")))[:, None]
    direction = torch.nn.functional.normalize(draw.normal(len(points), 2), dim=1)
    far = direction * draw.uniform(len(points), 1, low=0.3, high=1.0)
    shift = torch.where(astray, far, draw.normal(len(points), 2, std=0.06)) * size
    wide = torch.exp(torch.where(astray, draw.normal(len(points), 1, std=0.6), draw.normal(len(points), 1, std=0.12)))
    centre, half = (low + high) / 2 + shift, size * wide / 2
    return torch.cat([centre - half, centre + half], 1)


def _cover(draw: Draw, images: Tensor, points: Tensor) -> Tensor:
    """Soft-edged patches of other pictures over up to all of the face."""
    count, side = len(images), images.shape[-1]
    axis = (torch.arange(side) + 0.5) * (2 / side) - 1
    stuff = sample_backgrounds(draw, count, side)
    low, high = points.amin(1), points.amax(1)
    for _ in range(2):
        centre = low + (high - low) * draw.uniform(count, 2)
        half = (high - low) * draw.uniform(count, 2, low=0.15, high=0.6)
        gap = torch.stack(
            [
                (axis[None, None, :] - centre[:, :1, None]).abs().expand(-1, side, -1) / half[:, :1, None],
                (axis[None, :, None] - centre[:, 1:, None]).abs().expand(-1, -1, side) / half[:, 1:, None],
            ]
        )
        round_one = draw.chance(count, 1, 1, p=0.5)
        reach = torch.where(round_one, gap.square().sum(0).sqrt(), gap.amax(0))
        mask = ((1 - reach) * 12).clamp(0, 1)[:, None]
        images = torch.lerp(images, stuff, mask)
    return images
