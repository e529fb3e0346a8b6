"""Validation on held-out clips: error, jitter and lag of the image model, One-Euro and the temporal transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from tokenface.evaluation.video_metrics import jitter, lag_of_clips
from tokenface.geometry.camera import Camera
from tokenface.network.temporal import TemporalTransformer
from tokenface.training.temporal.features import ClipFeatures, steadied
from tokenface.training.temporal.objective import RecordObjective, TemporalObjective
from tokenface.training.temporal.records import RecordFeatures
from tokenface.video.smoothing import OneEuro, OneEuroSettings

T = TypeVar("T")
RATE = 30.0
MOST_ERROR = 1.02
"""Error over per-frame's up to which steadiness is worth it."""
REACH = 4
"""Largest lag that is searched, frames."""


class Ratios(NamedTuple):
    """Over per-frame's: the largest of the errors, and the jitter."""

    error: float
    jitter: float


@dataclass(frozen=True)
class Steadiness:
    """Mean over clips. error: mm, mean vertex distance in head space.  jitter: mm per frame², second
    differences there.  picture_error, picture_jitter: the same on the picture, in mm at the face.  lag: frames,
    where the correlation of velocities on the picture peaks (`lag_of_clips`)."""

    error: float
    jitter: float
    picture_error: float
    picture_jitter: float
    lag: float

    def over(self, plain: Steadiness) -> Ratios:
        """Criterion of the best settings and checkpoint."""
        errors = self.error / plain.error, self.picture_error / plain.picture_error
        return Ratios(max(errors), self.picture_jitter / plain.picture_jitter)


@torch.no_grad()
def measure(
    objective: TemporalObjective,
    clips: ClipFeatures,
    module: TemporalTransformer | None,
    one_euro: OneEuroSettings | None = None,
) -> Steadiness:
    """Figures of the module (None: each frame by itself), with One-Euro over its vertices if asked."""
    rows, motions = [], []
    for index in range(len(clips)):
        clip = clips[index : index + 1]
        tokens = clip.tokens if module is None else steadied(module, clip.tokens, clip.crops)
        head_space, places, _ = objective.geometry(tokens, clip.crops)
        true_head, true_places = objective.truth(clip)
        metre = float((clip.scale * clip.size[:, None] / 2).mean())
        tracks = [(head_space[0].numpy() * 1000, true_head[0].numpy() * 1000)]
        tracks.append((places[0].numpy() / metre * 1000, true_places[0].numpy() / metre * 1000))
        if one_euro is not None:
            tracks = [(_filtered(found, one_euro), truth) for found, truth in tracks]
        (found, truth), (seen, true_seen) = tracks
        motions.append((seen, true_seen))
        rows.append(
            (
                float(np.linalg.norm(found - truth, axis=-1).mean()),
                jitter(found),
                float(np.linalg.norm(seen - true_seen, axis=-1).mean()),
                jitter(seen),
            )
        )
    error, shake, seen_error, seen_shake = (float(value) for value in np.mean(rows, axis=0))
    return Steadiness(error, shake, seen_error, seen_shake, lag=lag_of_clips(motions, REACH))


def truth_jitter(objective: TemporalObjective, clips: ClipFeatures) -> tuple[float, float]:
    """Second differences of the truth itself, in head space and on the picture: what no method should go below."""
    values = []
    for index in range(len(clips)):
        clip = clips[index : index + 1]
        vertices, places = objective.truth(clip)
        metre = float((clip.scale * clip.size[:, None] / 2).mean())
        values.append((jitter(vertices[0].numpy() * 1000), jitter(places[0].numpy() / metre * 1000)))
    head_space, picture = np.mean(values, axis=0)
    return float(head_space), float(picture)


def best_of(tried: Sequence[tuple[T, Ratios]], limit: float) -> T:
    """The one with least jitter whose errors stay within `limit`, or within one per cent of the least error where that
    is more: the limit alone would take a first, shaky checkpoint for a hair's breadth."""
    limit = max(limit, 1.01 * min(ratios.error for _, ratios in tried))
    return min((t for t in tried if t[1].error <= limit), key=lambda t: t[1].jitter)[0]


def best_one_euro(objective: TemporalObjective, clips: ClipFeatures) -> tuple[OneEuroSettings, Steadiness]:
    """`best_of` a grid of settings."""
    plain = measure(objective, clips, None)
    tried = []
    for min_cutoff in (1.0, 2.0, 4.0, 8.0):
        for beta in (0.0, 0.02, 0.1):  # vertices are in mm, speeds in mm/s
            settings = OneEuroSettings(min_cutoff, beta)
            found = measure(objective, clips, None, settings)
            tried.append(((settings, found), found.over(plain)))
    return best_of(tried, MOST_ERROR)


def _filtered(track: np.ndarray, settings: OneEuroSettings) -> np.ndarray:
    one = OneEuro(settings)
    flat = [one(frame.reshape(-1), index / RATE).copy() for index, frame in enumerate(track)]
    return np.stack(flat).reshape(track.shape)


@dataclass(frozen=True)
class RecordSteadiness:
    """Mean over the frames. Lengths in mm at the face, where it is on the picture.

    error: distance to the landmarks of the records.  motion_error: the same without each point's mean error over the
    clip, a constant bias.  jitter: mm/frame², second differences of vertices turned as the head.  head_jitter: in head
    space.  picture_jitter: of the landmarks.  unexplained: root mean square of what the second differences of the
    landmarks and of the records' landmarks differ by: jitter that is motion does not count, the trembling of the
    records' landmarks does.  lag: frames, behind the image model alone.
    """

    error: float
    motion_error: float
    jitter: float
    head_jitter: float
    picture_jitter: float
    unexplained: float
    lag: float

    def over(self, plain: RecordSteadiness) -> Ratios:
        """Criterion of the best checkpoint."""
        errors = (
            self.error / plain.error,
            self.motion_error / plain.motion_error,
            self.unexplained / plain.unexplained,
        )
        return Ratios(max(errors), self.jitter / plain.jitter)


@torch.no_grad()
def measure_records(
    objective: RecordObjective, clips: Sequence[RecordFeatures], module: TemporalTransformer | None
) -> RecordSteadiness:
    """Figures of the module (None: each frame by itself)."""
    rows, motions = [], []
    for clip in clips:
        tokens, crops = clip.tokens[None], clip.crops[None]
        own = objective.base.parameters(tokens)
        p = own if module is None else objective.base.parameters(steadied(module, tokens, crops))
        millimetre = float(objective.metre(own, crops)) / 1000
        points, own_points = (objective.landmarks(each, crops)[0].numpy() / millimetre for each in (p, own))
        labels = clip.points.numpy() / millimetre
        weights = clip.visible.numpy().mean(0) * objective.point_weights.numpy()
        vertices = objective.base.part(p.shape, p.expression, p.jaw).vertices * 1000
        turned = Camera.from_vector(p.camera).rotate(vertices)
        away = points - labels
        bends = np.square(np.diff(away, n=2, axis=0)).sum(-1).mean(0)
        rows.append(
            (
                np.average(np.linalg.norm(away, axis=-1).mean(0), weights=weights),
                np.average(np.linalg.norm(away - away.mean(0), axis=-1).mean(0), weights=weights),
                jitter(turned.numpy()),
                jitter(vertices.numpy()),
                jitter(points, weights),
                np.average(bends, weights=weights),
            )
        )
        motions.append((points, own_points))
    mean = np.average(rows, axis=0, weights=[len(clip) for clip in clips]).tolist()
    return RecordSteadiness(
        error=mean[0],
        motion_error=mean[1],
        jitter=mean[2],
        head_jitter=mean[3],
        picture_jitter=mean[4],
        unexplained=mean[5] ** 0.5,
        lag=lag_of_clips(motions, min(REACH, (min(map(len, clips)) - 3) // 2)),
    )
