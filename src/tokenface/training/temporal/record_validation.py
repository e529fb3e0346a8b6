"""Held-out real clips: how steady, how far from the landmarks, how late, against the image model frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import savgol_filter

from tokenface.camera import Camera
from tokenface.evaluation.steadiness import jitter, lag_of_clips
from tokenface.network.temporal import TemporalTransformer
from tokenface.training.temporal.record_objective import RecordObjective
from tokenface.training.temporal.records import RecordFeatures
from tokenface.training.temporal.windows import steadied


@torch.no_grad()
def measure_records(objective: RecordObjective, runs: list[RecordFeatures], module: TemporalTransformer | None):
    """mm: second differences of turned vertices; picture: of the landmarks in mm at the face..."""
    rows, motions = [], []
    for run in runs:
        tokens, crops = run.tokens[None], run.crops[None]
        own = objective.base.parameters(tokens)
        own_points = objective.landmarks(own, crops)[0].numpy()
        p = own if module is None else objective.base.parameters(steadied(module, tokens, crops))
        points = objective.landmarks(p, crops)[0].numpy()
        camera = Camera.from_vector(p.camera)
        head = objective.base.part(p.shape, p.expression, p.jaw).vertices
        turned = (head @ camera.rotation_matrix().transpose(1, 2)).numpy() * 1000
        head = head.numpy() * 1000
        px = float((own.camera[:, 0] * run.crops[:, 2].float() / 2).mean()) / 1000  # px per mm
        labels = run.points.numpy()
        w = run.visible.numpy().all(0) * objective.point_weights.numpy()
        w = w / w.sum()
        acc = lambda x: np.diff(x / px, n=2, axis=0)
        dot = lambda a, b: float(((a * b).sum(-1) * w).sum(-1).mean())
        aP, aO, aL = acc(points), acc(own_points), acc(labels)
        true = dot(aO, aL)
        rows.append(dict(
            n=len(run),
            turned=jitter(turned), head=jitter(head), picture=jitter(points / px, weights=w),
            error=float((np.linalg.norm(points - labels, axis=-1) * w).sum(-1).mean()) / px,
            unbiased=float((np.linalg.norm((points-labels)-(own_points-labels).mean(0), axis=-1) * w).sum(-1).mean()) / px,
            power=dot(aP, aP), true=true, wrong=dot(aP, aP) - 2 * dot(aP, aL) + true, labels=dot(aL, aL),
            tremble=float(np.linalg.norm(turned - savgol_filter(turned, 9, 2, axis=0), axis=-1).mean()),
        ))
        motions.append((points, own_points))
    weights = np.array([r["n"] for r in rows], float)
    out = {k: float(np.average([r[k] for r in rows], weights=weights)) for k in rows[0]}
    for k in ("power", "true", "wrong", "labels"):
        out[k] = float(np.sqrt(max(out[k], 0)))
    out["lag"] = lag_of_clips(motions, 4)
    return out
