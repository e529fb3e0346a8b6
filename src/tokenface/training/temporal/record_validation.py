"""Held-out real clips: how steady, how near to their landmarks, how late, with and without a module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tokenface.evaluation.video_metrics import jitter, lag_of_clips
from tokenface.geometry.camera import Camera
from tokenface.network.temporal import TemporalTransformer
from tokenface.training.temporal.record_objective import RecordObjective
from tokenface.training.temporal.records import RecordFeatures
from tokenface.training.temporal.tokens import steadied
from tokenface.training.temporal.validation import REACH, Ratios


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
