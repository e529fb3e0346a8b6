"""Vertex weights of the losses, by region and area."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tokenface.data.draw import Draw
from tokenface.data.expressions import ExpressionSampler
from tokenface.head.model import HeadModel
from tokenface.head.subset import VertexSubset

REGION_WEIGHTS = {"face": 1.0, "nose": 2.0, "lips": 1.5, "left_eye_region": 1.5, "right_eye_region": 1.5}
"""Ours, for Eq. 3's w: the visible face counts, its features more; everything else counts OTHER_WEIGHT."""
OTHER_WEIGHT = 0.05
LEAST_SPREAD = 0.08
"""Actions that hardly ever happen are not blown up beyond this."""
LIGHT_SPREAD = (0.75, 0.155, 0.1)
"""Of the constant, linear and quadratic bands."""


def vertex_weights(head: HeadModel) -> Tensor:
    """[V] on the CPU, sums to 1: region weight × area of each vertex on the mean head; eyeballs, mouth interior 0."""
    template, faces = head.template.cpu(), head.faces.cpu()
    corners = template[faces]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1) / 6
    weights = torch.zeros(head.vertex_count).index_add_(0, faces.flatten(), area.repeat_interleave(3))
    regions = head.data.regions
    region_weight = torch.full_like(weights, OTHER_WEIGHT if "face" in regions else 1.0)
    for name, value in REGION_WEIGHTS.items():
        if name in regions:
            region_weight[torch.as_tensor(np.array(regions[name], dtype=np.int64))] = value
    for name in ("left_eyeball", "right_eyeball", "mouth_interior"):
        if name in regions:
            region_weight[torch.as_tensor(np.array(regions[name], dtype=np.int64))] = 0
    weights = weights * region_weight
    return weights / weights.sum()


def supervised_vertices(head: HeadModel, others: int = 600, seed: int = 0) -> tuple[VertexSubset, Tensor]:
    """The face's vertices, a sample of the others, and the landmark triangles.

    Returns:
        the subset, and [K] weights of its vertices that sum to 1.
    """
    weights = vertex_weights(head)
    face = torch.as_tensor(np.array(head.data.regions.get("face", np.arange(head.vertex_count)), dtype=np.int64))
    rest = torch.from_numpy(np.random.default_rng(seed).permutation(head.vertex_count)[:others])
    subset = VertexSubset(head, torch.cat([face, rest]))
    chosen = weights[subset.indices.cpu()]
    return subset, (chosen / chosen.sum()).to(head.template.device)


def mode_importance(head: HeadModel) -> Tensor:
    """[S] how far one standard deviation of each identity mode moves the weighted face, metres (root mean square)."""
    moved = head.basis[: head.sizes.shape].square().sum(-1)
    return (moved @ vertex_weights(head).to(moved.device)).sqrt()


def albedo_importance(head: HeadModel) -> Tensor:
    """[A] how far one standard deviation of each albedo mode changes the map (root mean square, sRGB); ones without."""
    device = head.template.device
    if head.data.albedo_basis is None:
        return torch.ones(head.sizes.texture, device=device)
    basis = head.data.albedo_basis[: head.sizes.texture]
    rms = torch.tensor([float(np.sqrt(np.square(mode.astype(np.float32)).mean())) for mode in basis])
    if head.data.albedo_scale is not None:
        rms = rms * torch.as_tensor(np.array(head.data.albedo_scale[: len(rms)], np.float32))
    return rms.to(device)


def action_spread(head: HeadModel, faces: int = 4096) -> Tensor:
    """[E] standard deviation of each expression weight over sampled expressions, not below LEAST_SPREAD."""
    has_jaw = bool((head.skinning_weights[:, 2] > 0.1).any())
    sampler = ExpressionSampler(head.expression_names, head.expression_range, has_jaw)
    weights = sampler.sample(Draw.seeded(0, "cpu"), faces).weights
    return weights.std(0).clamp_min(LEAST_SPREAD).to(head.template.device)


def light_spread(device: torch.device | str) -> Tensor:
    """[27] standard deviation of the harmonics over rendered faces, by band, measured on 1,900 of them."""
    bands = torch.tensor([LIGHT_SPREAD[0], *[LIGHT_SPREAD[1]] * 3, *[LIGHT_SPREAD[2]] * 5])
    return bands.repeat_interleave(3).to(device)
