"""Six facial components: sizes, and token layouts (Sec. 3.1, Table 4)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # sizes and names are for those without torch, too
    from torch import Tensor

COMPONENTS = ("shape", "expression", "jaw", "camera", "texture", "light")
"""Names in the order of the paper: β, ψ, θ, C, α, ι."""

TOKEN_LAYOUTS: dict[int, tuple[tuple[str, ...], ...]] = {
    1: (("shape", "expression", "jaw", "camera", "texture", "light"),),
    3: (("shape", "expression", "jaw", "camera"), ("texture",), ("light",)),
    5: (("shape", "expression"), ("jaw",), ("camera",), ("texture",), ("light",)),
    6: (("shape",), ("expression",), ("jaw",), ("camera",), ("texture",), ("light",)),
}
"""Table 4: number of tokens → the components that each token carries."""


@dataclass(frozen=True)
class ComponentSizes:
    """Dimensions of the components; shape, expression and texture come from the head model."""

    shape: int
    expression: int
    texture: int
    jaw: int = 3
    camera: int = 7
    light: int = 27

    def __getitem__(self, component: str) -> int:
        return int(getattr(self, component))


@dataclass(frozen=True)
class FaceParameters:
    """Parameters of a batch of faces; every tensor is [B, size of the component].

    shape: identity coefficients, unit variance.  expression: head-model expression weights.
    jaw: axis-angle, radians.  camera: [s, r_x, r_y, r_z, t_x, t_y, t_z].
    texture: albedo coefficients.  light: 9 SH bands × RGB, flattened from [9, 3].
    """

    shape: Tensor
    expression: Tensor
    jaw: Tensor
    camera: Tensor
    texture: Tensor
    light: Tensor

    def __len__(self) -> int:
        return self.shape.shape[0]

    def __getitem__(self, index) -> FaceParameters:
        return FaceParameters(**{name: value[index] for name, value in self.items()})

    def items(self):
        return [(f.name, getattr(self, f.name)) for f in fields(self)]

    def to(self, *args, **kwargs) -> FaceParameters:
        return FaceParameters(**{name: value.to(*args, **kwargs) for name, value in self.items()})

    def detach(self) -> FaceParameters:
        return FaceParameters(**{name: value.detach() for name, value in self.items()})

    def replace(self, **changes: Tensor) -> FaceParameters:
        """A copy with some components exchanged (β swapped between people, Eq. 5 and 9)."""
        return FaceParameters(**{**dict(self.items()), **changes})

    @staticmethod
    def cat(parts: list[FaceParameters]) -> FaceParameters:
        import torch

        return FaceParameters(
            **{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(FaceParameters)}
        )

    @staticmethod
    def stack(rows: list[FaceParameters]) -> FaceParameters:
        """Of single faces, every tensor [size], a batch."""
        import torch

        return FaceParameters(
            **{f.name: torch.stack([getattr(row, f.name) for row in rows]) for f in fields(FaceParameters)}
        )

    def row(self, index: int) -> FaceParameters:
        """One face, every tensor [size], in memory of its own: a view would keep the whole batch alive."""
        return FaceParameters(**{name: value[index].clone() for name, value in self.items()})
