"""What steadied tokens of real clips are judged by: the image losses of frame t (Eq. 6), and what one person keeps."""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import savgol_filter
from torch import Tensor
from torch.nn import functional as F

from tokenface.camera import Camera
from tokenface.head.subset import VertexSubset
from tokenface.losses.landmark import eyelid_loss, lip_loss
from tokenface.losses.photometric import face_mask, photometric_loss
from tokenface.losses.regularisation import regularisation_loss
from tokenface.network.components import FaceParameters
from tokenface.render.renderer import Renderer
from tokenface.training.objective import CONTOUR_WEIGHT
from tokenface.training.temporal.config import RecordLosses
from tokenface.training.temporal.objective import HEAD_WIDTH, TemporalObjective, to_frame
from tokenface.training.temporal.records import PIXELS, RecordFeatures

BETA = 0.01
"""Head widths from which a landmark's error counts linearly: within it labels tremble, and their mean is wanted."""


class RecordObjective:
    def __init__(self, base: TemporalObjective, weights: RecordLosses) -> None:
        self.base, self.weights = base, weights
        self.subset = VertexSubset(base.head)
        self.point_weights = torch.ones(68)
        self.point_weights[:17] = CONTOUR_WEIGHT
        self.renderer = None
        if weights.photometric:
            self.renderer = Renderer(base.head)
            self.face_weights = self.renderer.region_weights("face") if "face" in base.head.data.regions else None

    def landmarks(self, p: FaceParameters, crops: Tensor) -> Tensor:
        """[N, T, 68, 2] picture pixels."""
        camera = Camera.from_vector(p.camera)
        points = self.subset.landmarks68(self.subset.vertices(p), camera.angles()[:, 0])
        places = to_frame(camera.project(points)[..., :2], crops.flatten(0, 1).to(points.dtype))
        return places.unflatten(0, crops.shape[:2])

    def terms(self, steady: Tensor, clips: RecordFeatures) -> dict[str, Tensor]:
        w, shape = self.weights, steady.shape[:2]
        p = self.base.parameters(steady)
        points = self.landmarks(p, clips.crops)
        with torch.no_grad():
            own = self.base.parameters(clips.tokens)
            own_points = self.landmarks(own, clips.crops)
            own_scale = own.camera[:, 0].unflatten(0, shape) * clips.crops[..., 2].to(own.camera.dtype) / 2
            unit = (own_scale.mean(1) * HEAD_WIDTH)[:, None, None, None]
            seen = clips.visible.to(points.dtype)
            weight = seen * self.point_weights
            error = ((own_points - clips.points) * seen[..., None]).sum(1, keepdim=True)
            target = clips.points + error / seen.sum(1, keepdim=True).clamp_min(1)[..., None]
        off = (points - target) / unit
        flat_points, flat_target = (points / unit).flatten(0, 1), (target / unit).flatten(0, 1)
        terms = {
            "landmarks": w.landmarks * _weighted(F.smooth_l1_loss(points / unit, target / unit, beta=BETA, reduction="none"), weight),
            "eyelids": w.eyelids * eyelid_loss(flat_points, flat_target, seen.flatten(0, 1)).mean(),
            "lips": w.lips * lip_loss(flat_points, flat_target, seen.flatten(0, 1)).mean(),
            "prior": regularisation_loss(p, w.prior, w.prior, w.prior).mean(),
            "identity": w.identity * (self.base.part(p.shape).vertices.unflatten(0, shape).diff(dim=1) / HEAD_WIDTH).abs().sum(-1).mean(),
            "appearance": w.appearance * torch.cat([p.texture, p.light], dim=-1).unflatten(0, shape).diff(dim=1).abs().mean(),
            "stay": w.stay * (steady - clips.tokens).square().mean(),
        }
        if w.velocity or w.acceleration:
            both = weight[:, 1:] * weight[:, :-1]
            calm = _calm(clips.points) / unit
            differ = points / unit - calm
            terms["velocity"] = w.velocity * _weighted(differ.diff(dim=1).abs(), both)
            terms["acceleration"] = w.acceleration * _weighted(differ.diff(n=2, dim=1).abs(), both[:, 1:] * both[:, :-1])
        if w.own_velocity or w.own_acceleration:
            vertices, places, _ = self.base.geometry(steady, clips.crops)
            with torch.no_grad():
                ov, op, _ = self.base.geometry(clips.tokens, clips.crops)
                ov, op = _calm(ov, w.window), _calm(op, w.window)
            dv, dp = (vertices - ov) / HEAD_WIDTH, (places - op) / unit
            terms["own_velocity"] = w.own_velocity * (_mean(dv.diff(dim=1)) + _mean(dp.diff(dim=1)))
            terms["own_acceleration"] = w.own_acceleration * (_mean(dv.diff(n=2, dim=1)) + _mean(dp.diff(n=2, dim=1)))
        if self.renderer is not None:
            chosen = torch.randperm(steady.shape[0] * steady.shape[1])[: w.photometric_frames]
            q = FaceParameters(**{n: v[chosen] for n, v in p.items()})
            drawn = self.renderer.render(q, PIXELS, vertex_weights=self.face_weights)
            image = clips.image.flatten(0, 1)[chosen].float() / 255
            mask = clips.mask.flatten(0, 1)[chosen][:, None].float() / 255
            terms["photometric"] = w.photometric * photometric_loss(drawn.image, image, face_mask(mask, drawn)).mean()
        return terms


def _calm(track: Tensor, window: int = 7) -> Tensor:
    """[N, T, …] under a quadratic fitted to a few frames around each."""
    return torch.from_numpy(savgol_filter(track.numpy(), min(window, track.shape[1] // 2 * 2 - 1), 2, axis=1).astype(np.float32))


def _mean(d):
    return d.abs().sum(-1).mean()


def _weighted(values: Tensor, weight: Tensor) -> Tensor:
    return (values.sum(-1) * weight).sum() / weight.sum().clamp_min(1)
