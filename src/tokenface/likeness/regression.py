"""Ridge regression over more faces than memory holds: sums that grow face by face, and their solution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from tokenface.errors import CheckpointError
from tokenface.formats.files import write_atomically
from tokenface.likeness.correction import CLIP, LinearMap

SLIGHT = 1e-3
"""Of the largest spread: numbers of the answer that vary less than this are not blown up."""
STILL = 1e5
"""Rows that a descriptor which must be answered with 0 counts."""
ANSWER_WEIGHT = 2.0
"""Of the answer's standardised numbers against the picture's, which are ten times as many."""


@dataclass(eq=False)
class Sums:
    """Of standardised descriptors x [D, last one 1] and errors y [S]: squares Σ x xᵀ, products Σ x yᵀ, rows Σ 1.

    mean, scale: [D − 1], fixed before the first row; views: how many of them are of the picture, which share one scale.
    """

    mean: Tensor
    scale: Tensor
    squares: Tensor
    products: Tensor
    rows: int = 0

    @staticmethod
    def start(first: Tensor, views: int, outputs: int) -> Sums:
        """Args: first: [N, D − 1] descriptors to take means and scales from.  views: the first ones, of the picture.

        One scale for all that is of the picture: a cell that hardly ever shows anything shall say little.
        """
        spread = first.std(0)
        scale = spread.clamp_min(SLIGHT * float(spread.max())) / ANSWER_WEIGHT
        scale[:views] = first[:, :views].std()
        size = first.shape[1] + 1
        return Sums(first.mean(0), scale, torch.zeros(size, size), torch.zeros(size, outputs))

    def add(self, descriptors: Tensor, errors: Tensor) -> None:
        """[N, D − 1], [N, S]."""
        x = self._standard(descriptors)
        x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        self.squares.addmm_(x.T, x)
        self.products.addmm_(x.T, errors)
        self.rows += len(x)

    def solve(self, ridge: float, still: Tensor | None = None) -> LinearMap:
        """The best map.

        Args:
            ridge: penalty on the squared matrix, in rows of standard deviation 1.
            still: [D − 1] descriptor that is to be answered with 0, whatever it costs; None: nothing is.
        """
        system = self.squares.double()
        system.diagonal()[:-1] += ridge
        if still is not None:
            x = torch.cat([self._standard(still[None])[0], still.new_ones(1)]).double()
            system += STILL * torch.outer(x, x)
        found = torch.cholesky_solve(self.products.double(), torch.linalg.cholesky(system)).float()
        return LinearMap(self.mean, self.scale, found[:-1], found[-1])

    def _standard(self, descriptors: Tensor) -> Tensor:
        return ((descriptors - self.mean) / self.scale).clamp(-CLIP, CLIP)

    def save(self, path: Path) -> None:
        tensors = {name: getattr(self, name) for name in ("mean", "scale", "squares", "products")}
        write_atomically(path, save(tensors | {"rows": torch.tensor(self.rows)}))

    @staticmethod
    def load(path: Path) -> Sums:
        """Raises CheckpointError: damaged."""
        try:
            tensors = load_file(path)
            return Sums(**{name: v for name, v in tensors.items() if name != "rows"}, rows=int(tensors["rows"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"'{path}' is damaged ({error}); delete it") from error
