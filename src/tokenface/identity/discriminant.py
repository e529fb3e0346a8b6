"""Fisher's linear discriminant: where people differ most, against how much the pictures of one person do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def fisher_discriminant(
    features: Sequence[Tensor], people: Sequence[Tensor], dimensions: int, shrinkage: float = 0.1
) -> tuple[Tensor, Tensor]:
    """The directions `w` that maximise `wᵀ B w / wᵀ W w`, scaled so that one person's pictures have unit variance.

    Sources (rendered people, photographed people) weigh alike, and each is centred on its own mean: B and W are means
    over sources. How sources differ from each other says nothing of anybody, so it counts as variance of one person.

    Args:
        features: of each source, [N, D].  people: of each source, [N] labels.
        dimensions: how many directions, best first.
        shrinkage: W is blended with this share of its mean variance; keeps directions that few pictures determine
            from looking certain.
    Returns:
        weight [dimensions, D] and bias [dimensions]; `weight @ x + bias` is 0 at the middle of the sources.
    Raises:
        ValueError: more directions than features, or a source where nobody has two pictures.
    """
    width = features[0].shape[1]
    if dimensions > width:
        raise ValueError(f"{width} features have no {dimensions} independent directions")
    means = torch.stack([part.double().mean(0) for part in features])
    centre = means.mean(0)
    between = torch.zeros(width, width, dtype=torch.float64)
    apart = means - centre
    within = apart.T @ apart / len(features)
    for part, labels, mean in zip(features, people, means, strict=True):
        own, counts = person_means(part.double(), labels)
        if int(counts.max()) < 2:
            raise ValueError("a discriminant needs people with at least two pictures")
        # the picture's distance from its person's mean is too small by what the picture itself moves that mean
        spread = (part.double() - own[labels]) * (counts / (counts - 1).clamp_min(1)).sqrt()[labels, None]
        spread = spread[counts[labels] > 1]
        within += spread.T @ spread / (len(spread) * len(features))
        moved = own - mean
        between += moved.T @ moved / (len(own) * len(features))
    within = (1 - shrinkage) * within + shrinkage * within.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    factor = torch.linalg.cholesky(within)
    whitened = torch.linalg.solve_triangular(factor, between, upper=False)
    whitened = torch.linalg.solve_triangular(factor, whitened.T, upper=False)
    directions = torch.linalg.eigh((whitened + whitened.T) / 2).eigenvectors[:, -dimensions:].flip(1)
    weight = torch.linalg.solve_triangular(factor.T, directions, upper=True).T
    return weight.float(), (-weight @ centre).float()


def person_means(features: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
    """[P, D] mean of each person's features and [P] how many there are."""
    count = int(people.max()) + 1
    sums = torch.zeros(count, features.shape[1], dtype=features.dtype).index_add_(0, people, features)
    counts = torch.bincount(people, minlength=count).to(features.dtype)
    return sums / counts.clamp_min(1)[:, None], counts
