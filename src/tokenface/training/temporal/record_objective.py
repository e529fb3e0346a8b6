"""Objective on real clips: image losses of frame t (Eq. 6), and constancy of identity and appearance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tokenface.geometry.camera import Camera
from tokenface.head.subset import VertexSubset
from tokenface.losses.landmark import eyelid_loss, lip_loss
from tokenface.losses.regularisation import regularisation_loss
from tokenface.parameters import FaceParameters
from tokenface.training.objective import CONTOUR_WEIGHT
from tokenface.training.temporal.config import RecordLosses
from tokenface.training.temporal.objective import HEAD_WIDTH, TemporalObjective, to_frame
from tokenface.training.temporal.records import RecordFeatures

TREMBLE = 0.01
"""Head widths up to which a landmark's error counts squared: so far the labels tremble from frame to frame, and their
mean is wanted rather than their median."""


class RecordObjective:
    """Losses of real clips through the frozen heads, in the unit of the synthetic ones (`TemporalObjective`).

    The records' landmarks were found frame by frame. They say where the face is up to a mean error of the image model
    over the run, which is a constant bias rather than motion, and are trusted in the mean only. The prior counts from
    the image model's own prediction on, which already balances it against the photos.
    """

    def __init__(self, base: TemporalObjective, weights: RecordLosses) -> None:
        self.base, self.weights = base, weights
        self.subset = VertexSubset(base.head)
        self.point_weights = torch.ones(68)
        self.point_weights[:17] = CONTOUR_WEIGHT

    def landmarks(self, p: FaceParameters, crops: Tensor) -> Tensor:
        """Parameters [N·T] and crops [N, T, 4] → [N, T, 68, 2] picture pixels."""
        camera = Camera.from_vector(p.camera)
        points = self.subset.landmarks68(self.subset.vertices(p), camera.angles()[:, 0])
        places = to_frame(camera.project(points)[..., :2], crops.flatten(0, 1).to(points.dtype))
        return places.unflatten(0, crops.shape[:2])

    def metre(self, p: FaceParameters, crops: Tensor) -> Tensor:
        """[N] picture pixels of a metre at the face, in the mean over the frames."""
        return (p.camera[:, 0].unflatten(0, crops.shape[:2]) * crops[..., 2].to(p.camera.dtype) / 2).mean(1)

    def terms(self, steady: Tensor, clips: RecordFeatures) -> dict[str, Tensor]:
        """Weighted terms of steadied tokens [N, T, K, D]; T ≥ 3."""
        w = self.weights
        p = self.base.parameters(steady)
        with torch.no_grad():
            own = self.base.parameters(clips.tokens)
            prior = regularisation_loss(own, w.prior, w.prior, w.prior)
            unit = self.metre(own, clips.crops)[:, None, None, None] * HEAD_WIDTH
            seen = clips.visible.to(steady.dtype)
            labels = (clips.points + _mean_error(self.landmarks(own, clips.crops), clips.points, seen)) / unit
        points = self.landmarks(p, clips.crops) / unit
        offsets = points.flatten(0, 1), labels.flatten(0, 1), seen.flatten(0, 1)
        weight = seen * self.point_weights
        away = F.smooth_l1_loss(points, labels, beta=TREMBLE, reduction="none").sum(-1)
        return {
            "landmarks": w.landmarks * (away * weight).sum() / weight.sum().clamp_min(1e-6),
            "eyelids": w.eyelids * eyelid_loss(*offsets).mean(),
            "lips": w.lips * lip_loss(*offsets).mean(),
            "prior": (regularisation_loss(p, w.prior, w.prior, w.prior) - prior).clamp_min(0).mean(),
            **self.base.constancy(p, own, steady, clips.tokens, w),
        }


def _mean_error(points: Tensor, labels: Tensor, seen: Tensor) -> Tensor:
    """[N, T, 68, 2] twice, [N, T, 68] → [N, 1, 68, 2] mean difference of each point over the frames that show it."""
    total = ((points - labels) * seen[..., None]).sum(1, keepdim=True)
    return total / seen.sum(1, keepdim=True).clamp_min(1)[..., None]
