"""Objectives of the temporal transformer: synthetic clips against truth, real clips by image losses (Eq. 6)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tokenface.data.sampling import View
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.head.subset import VertexSubset
from tokenface.losses.landmark import eyelid_loss, lip_loss
from tokenface.losses.regularisation import regularisation_loss
from tokenface.losses.vertex_weights import vertex_weights
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import FaceParameters
from tokenface.training.objective import CONTOUR_WEIGHT
from tokenface.training.temporal.config import RecordLosses, TemporalLosses
from tokenface.training.temporal.features import ClipFeatures
from tokenface.training.temporal.records import RecordFeatures

HEAD_WIDTH = 0.15
"""Metres: the losses' unit of length."""
VERTICES = 400
"""Vertices of the head that are compared: motions are smooth over the surface, the whole head would cost half a
step."""


class TemporalObjective:
    """Losses of clips through the frozen heads of the image model, on a few hundred vertices drawn in proportion to
    what they count in Eq. 3, so that all count alike."""

    def __init__(self, network: TokenFace, head: HeadModel, weights: TemporalLosses) -> None:
        self.network, self.head, self.weights = network, head, weights
        share = vertex_weights(head).cumsum(0)
        places = (torch.arange(VERTICES) + 0.5) * (share[-1] / VERTICES)
        self.part = head.restricted_to(torch.searchsorted(share, places))

    def parameters(self, tokens: Tensor) -> FaceParameters:
        """[N, T, K, D] → every component [N·T, size]."""
        found = self.network.heads(tokens.flatten(0, 1))[0]
        return found.replace(expression=self.head.clamp_expression(found.expression))

    def geometry(self, tokens: Tensor, crops: Tensor) -> tuple[Tensor, Tensor, FaceParameters]:
        """Vertices [N, T, V, 3] in head space and [N, T, V, 2] frame pixels, and the parameters."""
        shape = tokens.shape[:2]
        p = self.parameters(tokens)
        vertices = self.part(p.shape, p.expression, p.jaw).vertices
        projected = Camera.from_vector(p.camera).project(vertices)[..., :2]
        places = to_frame(projected, crops.flatten(0, 1).to(projected.dtype))
        return vertices.unflatten(0, shape), places.unflatten(0, shape), p

    def truth(self, clips: ClipFeatures) -> tuple[Tensor, Tensor]:
        """The same of the rendered people."""
        shape = clips.jaw.shape[:2]
        vertices = self.part(*(v.flatten(0, 1) for v in (clips.shape, clips.expression, clips.jaw))).vertices
        view = View(
            *(getattr(clips, name).flatten(0, 1) for name in ("rotation", "scale", "translation", "distance", "depth"))
        )
        size = clips.size.repeat_interleave(shape[1])[:, None, None]
        places = (view.project(vertices)[..., :2] + 1) * (size / 2)
        return vertices.unflatten(0, shape), places.unflatten(0, shape)

    def terms(self, steady: Tensor, clips: ClipFeatures) -> dict[str, Tensor]:
        """Weighted terms of steadied tokens [N, T, K, D]; T ≥ 3.

        Positions count up to the image model's own mean error over the run: a constant bias cannot be corrected from
        neighbouring frames, and penalising it caused overfitting.
        """
        w = self.weights
        vertices, places, p = self.geometry(steady, clips.crops)
        with torch.no_grad():
            true_vertices, true_places = self.truth(clips)
            own_vertices, own_places, own = self.geometry(clips.tokens, clips.crops)
            true_vertices = true_vertices + (own_vertices - true_vertices).mean(dim=1, keepdim=True)
            true_places = true_places + (own_places - true_places).mean(dim=1, keepdim=True)
        in_head = (vertices - true_vertices) / HEAD_WIDTH
        metre = (clips.scale * clips.size[:, None] / 2)[..., None, None]
        on_frame = (places - true_places) / (metre * HEAD_WIDTH)
        return {
            "vertices": w.vertices * _mean(in_head),
            "picture": w.picture * _mean(on_frame),
            "velocity": w.velocity * (_mean(in_head.diff(dim=1)) + _mean(on_frame.diff(dim=1))),
            "acceleration": w.acceleration * (_mean(in_head.diff(n=2, dim=1)) + _mean(on_frame.diff(n=2, dim=1))),
            **self.constancy(p, own, steady, clips.tokens, w),
        }

    def constancy(
        self, p: FaceParameters, own: FaceParameters, steady: Tensor, tokens: Tensor, w: TemporalLosses | RecordLosses
    ) -> dict[str, Tensor]:
        """Weighted terms that need no truth: what a person keeps from frame to frame, and what the image model said.

        Args:
            p, own: parameters of the steadied and of the image model's own tokens.
        """
        neutral = self.part(p.shape).vertices.unflatten(0, steady.shape[:2]) / HEAD_WIDTH
        appearance, own_appearance = (
            torch.cat([each.texture, each.light], dim=-1).unflatten(0, steady.shape[:2]) for each in (p, own)
        )
        return {
            "identity": w.identity * _mean(neutral.diff(dim=1)),
            "appearance": w.appearance * appearance.diff(dim=1).abs().mean(),
            "appearance_mean": w.appearance_mean * (appearance - own_appearance).mean(dim=1).abs().mean(),
            "stay": w.stay * (steady - tokens).square().mean(),
        }


def _mean(difference: Tensor) -> Tensor:
    """Mean absolute sum over coordinates (Eq. 3)."""
    return difference.abs().sum(-1).mean()


def to_frame(points: Tensor, crops: Tensor) -> Tensor:
    """Crop NDC [B, V, 2] to frame pixels, through crops [B, 4] (centre, side, angle): `Crop.to_photo`, batched."""
    cos, sin = torch.cos(crops[:, 3]), torch.sin(crops[:, 3])
    linear = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
    linear = linear * (crops[:, 2] / 2)[:, None, None]
    return points @ linear.transpose(1, 2) + crops[:, None, :2]


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
