"""Error of every component on held-out rendered people, and leakage between actions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tokenface.data.draw import Draw
from tokenface.data.record import FaceBatch
from tokenface.data.sampling import PoseRange, sample_rotations
from tokenface.data.synthetic import SyntheticFaces
from tokenface.evaluation.face_space import FaceSpace
from tokenface.evaluation.statistics import Measured, measured_over_people
from tokenface.geometry import rotations
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters

GROUPS = {
    "gaze": ("eyeLook",),
    "brows": ("brow",),
    "lids": ("eyeBlink", "eyeWide", "eyeSquint"),
    "lips": ("mouth",),
    "cheeks and nose": ("cheek", "noseSneer"),
}
"""Beginnings of action names."""
BLOCK = 32
HELD_OUT_SEED = 987_654_321
"""Rendered people of this seed are never trained on (training seeds are mixed from small numbers)."""
LEAST_VARIANCE = 1e-6
"""Of actions that are never drawn, which have no r²."""
PLAIN_POSES = PoseRange(frontal=0.6, turned=0.4, frontal_yaw=16, turned_yaw=45, wide_pitch=20, wide_roll=20)


def rendered_people(head: HeadModel, size: int, count: int, seed: int, plain: bool = False) -> FaceBatch:
    """One picture each of `count` people of the seed.

    Args:
        plain: no hats, glasses, hands or degradation, within 45° of the front.
    """
    faces = SyntheticFaces(head, size)
    blocks = []
    for first in range(0, count, BLOCK):
        number = min(BLOCK, count - first)
        rotation = None
        if plain:
            poses = Draw.seeded(seed + 7919 + first, head.template.device)
            rotation = _within(sample_rotations(poses, number, PLAIN_POSES))
        blocks.append(faces.sample(number, seed + first, rotation=rotation, plain=plain))
    parameters = FaceParameters.cat([b.parameters for b in blocks])
    joined = {
        name: torch.cat([getattr(b, name) for b in blocks])
        for name in ("image", "vertices", "neutral", "landmarks68", "visible68", "landmarks468", "visible468", "mask")
    }
    return replace(blocks[0], parameters=parameters, identity=torch.arange(count), **joined)


def _within(rotation: Tensor, limit: float = np.pi / 4) -> Tensor:
    """Rotations that turn by more than the limit are turned back to it."""
    turn = rotations.rotmat_to_rotvec(rotation)
    angle = turn.norm(dim=1, keepdim=True)
    return rotations.rotvec_to_rotmat(turn * (limit / angle.clamp(min=1e-6)).clamp(max=1))


def r_squared(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[N, K] twice → [K] 1 − SSE/SST about the truth's mean; NaN where the truth does not vary."""
    total = ((truth - truth.mean(0)) ** 2).sum(0)
    left = ((truth - predicted) ** 2).sum(0)
    varies = total > LEAST_VARIANCE * len(truth)
    return np.where(varies, 1 - left / np.where(varies, total, 1), np.nan)


def pooled_r_squared(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Of several numbers together, each weighing by its variance: 1 − ΣSSE/ΣSST."""
    total = ((truth - truth.mean(0)) ** 2).sum()
    return float(1 - ((truth - predicted) ** 2).sum() / max(total, 1e-12))


def spread_ratio(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Root of the summed variances, predicted over true."""
    return float(np.sqrt(predicted.var(0).sum() / max(truth.var(0).sum(), 1e-12)))


def leakage(predicted: np.ndarray, truth: np.ndarray, ridge: float = 0.02) -> np.ndarray:
    """Linear coefficients of every predicted action on every true one, all together: [A true, A predicted].

    The identity is right. Ridge regression on centred weights; actions that do not vary have rows of zeros.
    """
    x, y = truth - truth.mean(0), predicted - predicted.mean(0)
    varies = x.var(0) > LEAST_VARIANCE
    found = np.zeros((truth.shape[1], truth.shape[1]))
    a = x[:, varies]
    found[varies] = np.linalg.solve(a.T @ a + ridge * np.diag((a**2).sum(0)), a.T @ y)
    return found


def rendered_figures(
    head: HeadModel, predicted: FaceParameters, truth: FaceParameters, intervals: bool = True
) -> tuple[dict[str, Measured], dict[str, float], np.ndarray]:
    """The figures of all components, r² of each action, and the leakage matrix.

    Args:
        intervals: False leaves the resampling out (curves of a run).
    """
    names = head.expression_names
    found = {name: value.double().numpy() for name, value in predicted.items()}
    true = {name: value.double().numpy() for name, value in truth.items()}
    groups = {g: [i for i, n in enumerate(names) if n.startswith(starts)] for g, starts in GROUPS.items()}
    blink = [names.index(n) for n in ("eyeBlinkLeft", "eyeBlinkRight") if n in names]
    cheeks = None if head.data.albedo_basis is None else tuple(_cheeks(head, p.texture) for p in (predicted, truth))
    turn = _turn(predicted.camera, truth.camera)
    space = FaceSpace(head)

    def figures(rows: np.ndarray) -> dict[str, float]:
        p, t = ({name: value[rows] for name, value in side.items()} for side in (found, true))
        actions = r_squared(p["expression"], t["expression"])
        result = {"mean r²": _mean(actions)} | {g: _mean(actions[columns]) for g, columns in groups.items() if columns}
        if len(blink) == 2:
            difference = [side["expression"][:, blink[:1]] - side["expression"][:, blink[1:]] for side in (p, t)]
            result["blink difference"] = float(r_squared(*difference)[0])
        result["jaw"] = pooled_r_squared(p["jaw"], t["jaw"])
        people = max(_total(space, t["shape"] - t["shape"].mean(0)), 1e-30)
        result["shape"] = 1 - _total(space, t["shape"] - p["shape"]) / people
        along = space.inner(p["shape"] - p["shape"].mean(0), t["shape"]).sum()
        result["shape slope"] = float(along) / people
        if cheeks is not None:
            result["texture std ratio"] = spread_ratio(p["texture"], t["texture"])
            result["cheek correlation"] = _correlation(cheeks[0][rows], cheeks[1][rows])
            result["cheek std ratio"] = spread_ratio(cheeks[0][rows, None], cheeks[1][rows, None])
        result["light"] = pooled_r_squared(p["light"], t["light"])
        result["light std ratio"] = spread_ratio(p["light"], t["light"])
        result["camera degrees"] = float(turn[rows].mean())
        return result

    measured = measured_over_people(np.arange(len(turn)), figures, **({} if intervals else {"rounds": 0}))
    actions = dict(zip(names, r_squared(found["expression"], true["expression"]).tolist(), strict=True))
    return measured, actions, leakage(found["expression"], true["expression"])


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _total(space: FaceSpace, shapes: np.ndarray) -> float:
    return float(space.inner(shapes, shapes).sum())


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if first.std() < 1e-9 or second.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _turn(first: Tensor, second: Tensor) -> np.ndarray:
    """[N] degrees between the rotations of cameras [N, 7]."""
    a, b = (Camera.from_vector(c).rotation_matrix() for c in (first, second))
    return torch.rad2deg(rotations.rotation_angle(a, b)).double().numpy()


def _cheeks(head: HeadModel, texture: Tensor) -> np.ndarray:
    """[N] grey level of the cheeks' albedo, 0 … 255: exactly linear in the coefficients."""
    assert head.data.albedo_mean is not None
    assert head.data.albedo_basis is not None
    region = np.asarray(head.data.regions.get("cheeks", head.data.regions.get("face", ())), np.int64)
    inside = np.isin(head.data.faces, region).all(1)
    u, v = head.data.uv[head.data.uv_faces[inside]].mean(1).T
    side = head.data.albedo_mean.shape[0]
    column, row = (u * side).astype(int).clip(0, side - 1), ((1 - v) * side).astype(int).clip(0, side - 1)
    scale = np.ones(len(head.data.albedo_basis)) if head.data.albedo_scale is None else head.data.albedo_scale
    modes = head.data.albedo_basis[:, row, column].astype(np.float64).mean((1, 2)) * scale
    mean = float(head.data.albedo_mean[row, column].astype(np.float64).mean())
    return 255 * (mean + texture.double().numpy() @ modes[: texture.shape[1]])
