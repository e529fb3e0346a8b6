"""Weighted sums of losses: 2-D terms (Eq. 6), 3-D terms (Eq. 2), both (Eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tokenface.losses.pose_aware import PoseAwareWeights, landmark_weight, photometric_weight

Mode = Literal["hybrid", "3d", "2d"]
"""Table 5: both kinds of data, scans only, photos only."""

TERMS_3D = ("mesh", "vertex_consistency")
TERMS_2D = ("eyelids", "lips", "shape_consistency", "identity", "landmarks", "photometric", "regularisation")


@dataclass(frozen=True)
class PaperWeights:
    """Sec. 4.2. The paper does not give λ_sc, λ_id: ours. Regularisation carries its ω inside (Eq. 11)."""

    three_d: float = 0.6  # λ_3D
    two_d: float = 0.4  # λ_2D
    mesh: float = 2.0  # λ_mesh
    vertex_consistency: float = 1.2  # λ_vc
    eyelids: float = 0.8  # λ_eyes
    lips: float = 1.0  # λ_lips
    shape_consistency: float = 1.0  # λ_sc, ours
    identity: float = 0.2  # λ_id, ours
    shape_prior: float = 1e-4  # ω_β
    expression_prior: float = 1e-4  # ω_ψ
    texture_prior: float = 1e-4  # ω_α
    pose_aware: PoseAwareWeights = field(default_factory=PoseAwareWeights)  # ω_lmk, ω_photo


def total_3d(terms: Mapping[str, Tensor], weights: PaperWeights) -> Tensor:
    """`L_3D = λ_mesh L_mesh + λ_vc L_vc` (Eq. 2).

    Args:
        terms: "mesh" and "vertex_consistency", [N] per scan or pair, or scalars; a missing one is left out.
    Returns:
        Scalar.
    Raises:
        KeyError: a term of another name, which would be lost silently.
    """
    _known(terms, TERMS_3D)
    return _sum({name: getattr(weights, name) * value.mean() for name, value in terms.items() if value.numel()})


def total_2d(terms: Mapping[str, Tensor], angles: Tensor, weights: PaperWeights) -> Tensor:
    """`L_2D = λ_eyes L_eyes + λ_lips L_lips + λ_sc L_sc + λ_id L_id + ω_lmk L_lmk + ω_photo L_photo + L_reg` (Eq. 6).

    Args:
        terms: by the names of TERMS_2D; landmarks and photometric are [B] per photo, because their weights are (Eqs.
            12, 13); the others [N] or scalars; a missing one is left out.
        angles: [B, ≥2] yaw and pitch of the photos as prepared, radians.
    Returns:
        Scalar.
    """
    _known(terms, TERMS_2D)
    per_photo = {
        "landmarks": landmark_weight(angles, weights.pose_aware),
        "photometric": photometric_weight(angles, weights.pose_aware),
    }
    weighted: dict[str, Tensor] = {}
    for name, value in terms.items():
        if value.numel() == 0:  # no pair in this batch
            continue
        if name in per_photo:
            weighted[name] = (per_photo[name].to(value) * value).mean()
        else:
            weighted[name] = value.mean() * getattr(weights, name, 1.0)
    return _sum(weighted)


def total(loss_3d: Tensor | None, loss_2d: Tensor | None, weights: PaperWeights, mode: Mode = "hybrid") -> Tensor:
    """`L_all = λ_3D L_3D + λ_2D L_2D` (Eq. 1); in the modes of Table 5 one of them alone, with weight 1.

    Raises:
        ValueError: the mode needs a part that is None.
    """
    if mode == "hybrid":
        if loss_3d is None and loss_2d is None:
            raise ValueError("a hybrid step needs scans, photos or both")
        parts = [
            part * scale for part, scale in ((loss_3d, weights.three_d), (loss_2d, weights.two_d)) if part is not None
        ]
        return torch.stack(parts).sum()
    part = loss_3d if mode == "3d" else loss_2d
    if part is None:
        raise ValueError(f"mode '{mode}' has no data of its kind in this step")
    return part


def _known(terms: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
    if unknown := sorted(set(terms) - set(names)):
        raise KeyError(f"no weight for the term '{unknown[0]}'; known: {', '.join(names)}")


def _sum(weighted: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([*weighted.values()]).sum() if weighted else torch.zeros(())
