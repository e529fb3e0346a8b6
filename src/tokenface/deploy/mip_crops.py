"""Antialiased crops of photos as tensor operations, for graphs that take whole photos: `images.crop` in one gather.

A square is [centre x, centre y, side, angle] in photo pixels, as `images.crop.Crop`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 6
"""The photo at full, half, quarter … size: crops are antialiased down to 1/64."""
SMALLEST_PHOTO = 2**LEVELS
"""Pixels of its shorter side."""
LARGEST_PHOTO = 8192


class MipPhotos:
    """Photos at halved sizes, and pixels of squares from them.

    Args:
        photos: [B, 3, H, W], RGB in [0, 1]; sides of SMALLEST_PHOTO to LARGEST_PHOTO pixels.
    """

    def __init__(self, photos: Tensor):
        parts, sides = [], []
        for level in range(LEVELS):
            level_photos = F.avg_pool2d(photos, 2) if level else photos
            photos = level_photos
            parts.append(photos.flatten(2))
            # the sizes as tensors: a photo's size is known only when an exported graph runs
            ones = torch.ones_like(photos[0, 0])
            sides.append(torch.stack([ones[0].sum(), ones[:, 0].sum()]))
        self._pixels = torch.cat(parts, dim=2)
        self.sides = torch.stack(sides)  # [L, 2] width, height
        counts = (self.sides[:, 0].double() * self.sides[:, 1]).long()
        self._starts = counts.cumsum(0) - counts

    def crop(self, squares: Tensor, size: int, grey: bool = False) -> Tensor:
        """Pixels of squares [B, K, 4] → [B, K, 3, size, size].

        Args:
            grey: what lies beyond the photo is mid grey instead of its edge pixels drawn out.
        """
        reduction = squares[..., 2] / size
        level = torch.log2(reduction.clamp(min=1)).floor().clamp(max=LEVELS - 1).long()
        scale = 2.0 ** level.float()
        # Four samples a pixel where the crop is coarser than the photo; all four in its centre where it is finer.
        spread = 0.25 * (reduction > 1).float()
        x, y = grid(squares, size, spread)
        values = self._bilinear(x / scale[..., None], y / scale[..., None], level, grey)
        return values.unflatten(-1, (4, size, size)).mean(dim=3)

    def _bilinear(self, x: Tensor, y: Tensor, level: Tensor, grey: bool) -> Tensor:
        """Points [B, K, N] of a level [B, K] → [B, K, 3, N]; pixel centres at +0.5."""
        width, height = (self.sides[level][..., i, None, None] for i in (0, 1))
        left, top = (x - 0.5).floor(), (y - 0.5).floor()
        across, down = x - 0.5 - left, y - 0.5 - top
        # the four pixels around each point, as a last axis
        column = left[..., None] + torch.tensor([0.0, 1.0, 0.0, 1.0], device=x.device)
        row = top[..., None] + torch.tensor([0.0, 0.0, 1.0, 1.0], device=x.device)
        weight = torch.stack(
            [(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down], dim=-1
        )
        nearest_x = torch.minimum(column.clamp(min=0), width - 1)
        nearest_y = torch.minimum(row.clamp(min=0), height - 1)
        index = self._starts[level][..., None, None] + nearest_y.long() * width.long() + nearest_x.long()
        values = self._gather(index.flatten(2)).unflatten(-1, (-1, 4))
        if grey:
            outside = ((column != nearest_x) | (row != nearest_y)).to(values.dtype)[:, :, None]
            values = values + outside * (0.5 - values)
        return (values * weight[:, :, None]).sum(dim=-1)

    def _gather(self, index: Tensor) -> Tensor:
        batch, count, points = index.shape
        flat = index.reshape(batch, 1, count * points).expand(-1, 3, -1)
        return self._pixels.gather(2, flat).reshape(batch, 3, count, points).transpose(1, 2)


def grid(squares: Tensor, size: int, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Photo coordinates of four samples in each pixel of crops: x and y, each [B, K, 4 · size²].

    Args:
        spread: [B, K] their distance from the pixel's centre in x and y, crop pixels.
    """
    steps = torch.arange(size, dtype=squares.dtype, device=squares.device) + 0.5
    columns, rows = steps.repeat(4 * size), steps.repeat_interleave(size).repeat(4)
    signs = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], device=squares.device)
    dx, dy = signs.repeat_interleave(size * size, dim=0).unbind(dim=1)
    u = (columns + dx * spread[..., None]) * (2 / size) - 1
    v = (rows + dy * spread[..., None]) * (2 / size) - 1
    return to_photo(squares, u, v)


def to_photo(squares: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Crop NDC u, v [B, K, N] of squares [B, K, 4] to photo pixels, as `Crop.to_photo`."""
    cx, cy, side, angle = (squares[..., i, None] for i in range(4))
    cos, sin = angle.cos() * side / 2, angle.sin() * side / 2
    return cos * u + sin * v + cx, -sin * u + cos * v + cy
