"""Image degradation: blur, low resolution, noise, JPEG, colour casts, contrast, grey."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.core.device import constant
from tokenface.data.draw import Draw

# ITU T.81 annex K example quantisation tables: what most encoders scale by their quality setting
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99), (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99), (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99), (99, 99, 99, 99, 99, 99, 99, 99),
)  # fmt: skip
YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = torch.linalg.inv(torch.tensor(YCC)).tolist()


@dataclass(frozen=True)
class Degradation:
    """Strengths and probabilities of the degradations; chances are per picture unless said otherwise."""

    smallest: float = 0.36  # lowest source resolution as a share of the crop
    full_resolution: float = 0.5  # share of source resolutions that are full
    blur: float = 0.33
    largest_blur: float = 0.011  # standard deviation, share of the crop
    motion: float = 0.12
    noise: float = 0.6
    largest_noise: float = 0.03
    jpeg: float = 0.5
    lowest_quality: int = 12
    grey: float = 0.04
    colour: float = 0.9
    groups: int = 8  # a batch shares this many source resolutions and JPEG decisions


def degrade(draw: Draw, images: Tensor, settings: Degradation | None = None) -> Tensor:
    """[B, 3, S, S] in, the same shape out, as a camera, a codec and a resize would leave them.

    Every picture draws its own strengths. Source resolution and JPEG are drawn for groups of every
    `settings.groups`-th picture, so that a whole group is one batched operation.
    """
    s = settings or Degradation()
    images = _colours(draw, images, s)
    images = _blur(draw, images, s)
    groups = min(s.groups, images.shape[0])
    result = torch.empty_like(images)
    for group in range(groups):
        result[group::groups] = _encode(draw, images[group::groups], s)
    return result.clamp(0, 1)


def _encode(draw: Draw, images: Tensor, s: Degradation) -> Tensor:
    """Sensor noise and JPEG at the resolution of the source, then the resize to the crop."""
    size = images.shape[-1]
    numbers = draw.decisions(3)
    share = 1.0 if numbers[0] < s.full_resolution else s.smallest + (1 - s.smallest) * numbers[1]
    side = max(16, round(size * share / 8) * 8)
    if side != size:
        images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    images = _noise(draw, images, s)
    if numbers[2] < s.jpeg:
        quality = draw.uniform(images.shape[0], low=float(s.lowest_quality), high=95)
        images = jpeg(images, quality, shift=draw.decided_index(8))
    if images.shape[-1] != size:
        images = F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False)
    return images


def _colours(draw: Draw, images: Tensor, s: Degradation) -> Tensor:
    batch = images.shape[0]
    on = draw.chance(batch, 1, 1, 1, p=s.colour)

    def amount(std: float, channels: int = 1) -> Tensor:
        return draw.normal(batch, channels, 1, 1, std=std) * on

    gamma = torch.exp(amount(0.14) + amount(0.03, 3))
    gain = torch.exp(amount(0.05, 3))
    images = images.clamp(1e-4, 1).pow(gamma) * gain
    centre = images.mean((1, 2, 3), keepdim=True)
    contrast = torch.exp(0.12 * on + amount(0.16))
    images = (images - centre) * contrast + centre + amount(0.05)
    luma = (images * constant(YCC[0], device=images.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    saturation = torch.where(
        draw.chance(batch, 1, 1, 1, p=s.grey), images.new_zeros(()), torch.exp(0.05 * on + amount(0.25))
    )
    return (luma + (images - luma) * saturation).clamp(0, 1)


def _blur(draw: Draw, images: Tensor, s: Degradation, taps: int = 9) -> Tensor:
    """Defocus (separable Gaussian) on every picture with its own width, streaks on a few."""
    batch, _, size, _ = images.shape
    sigma = draw.chance(batch, 1, p=s.blur) * draw.uniform(batch, 1) ** 1.5 * s.largest_blur * size + 0.25
    offset = torch.arange(taps, device=images.device) - taps // 2
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = F.pad(images.reshape(1, batch * 3, size, size), [taps // 2] * 4, mode="replicate")
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=batch * 3)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=batch * 3)
    return _streak(draw, flat.view(batch, 3, size, size), s)


def _streak(draw: Draw, images: Tensor, s: Degradation) -> Tensor:
    """Motion blur as the mean of five shifted copies, on a fixed share of the batch at random places."""
    batch, _, size, _ = images.shape
    count = max(1, round(batch * s.motion)) if s.motion else 0
    if not count:
        return images
    chosen = draw.uniform(batch).argsort()[:count]
    length = draw.uniform(count, 1, high=0.05)
    angle = draw.uniform(count, 1, high=6.283)
    step = torch.cat([torch.cos(angle), torch.sin(angle)], 1) * length
    axis = (torch.arange(size, device=images.device) + 0.5) * (2 / size) - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    picked = images[chosen]
    total = torch.zeros_like(picked)
    for t in (-1.0, -0.5, 0.0, 0.5, 1.0):
        moved = grid[None] + t * step[:, None, None, :]
        total = total + F.grid_sample(picked, moved, padding_mode="border", align_corners=False)
    return images.index_copy(0, chosen, total / 5)


def _noise(draw: Draw, images: Tensor, s: Degradation) -> Tensor:
    """Shot-like noise (stronger in the light), part of it grey, part of it coarse as after a demosaic."""
    batch, _, height, width = images.shape
    strength = draw.chance(batch, 1, 1, 1, p=s.noise) * draw.uniform(batch, 1, 1, 1) ** 2 * s.largest_noise
    coarse = F.interpolate(draw.normal(batch, 1, (height + 1) // 2, (width + 1) // 2), size=(height, width))
    noise = 0.7 * draw.normal(batch, 3, height, width) + 0.7 * draw.uniform(batch, 1, 1, 1) * coarse
    return (images + strength * noise * (0.35 + images).clamp(max=1.0)).clamp(0, 1)


def jpeg(images: Tensor, quality: Tensor, shift: int = 0) -> Tensor:
    """Simulated baseline JPEG with 4:2:0 chroma (no entropy coding is needed for that).

    Args:
        images: [B, 3, H, W] in [0, 1], H and W multiples of 8.  quality: [B], 1–100 in libjpeg's scale.
        shift: pixels between the picture's edge and the encoder's block grid.
    Returns:
        [B, 3, H, W] in [0, 1].
    """
    height, width = images.shape[-2:]
    if height % 8 or width % 8:
        raise ValueError(f"jpeg needs sides that are multiples of 8, got {height} × {width}")
    to_ycc = constant(YCC, device=images.device)
    images = torch.roll(images, (shift, shift), (2, 3)) if shift else images
    ycc = _colour_matrix(to_ycc, images) * 255
    luma = ycc[:, :1] - 128
    chroma = F.avg_pool2d(ycc[:, 1:], 2)
    pad_h, pad_w = -chroma.shape[-2] % 8, -chroma.shape[-1] % 8
    chroma = F.pad(chroma, [0, pad_w, 0, pad_h], mode="replicate")
    scale = torch.where(quality < 50, 5000 / quality.clamp(min=1), 200 - 2 * quality)
    luma = _quantise(luma, LUMINANCE, scale) + 128
    chroma = _quantise(chroma, CHROMINANCE, scale)[..., : height // 2, : width // 2]
    chroma = F.interpolate(chroma, size=(height, width), mode="bilinear", align_corners=False)
    result = _colour_matrix(constant(TO_RGB, device=images.device), torch.cat([luma, chroma], 1)) / 255
    result = torch.roll(result, (-shift, -shift), (2, 3)) if shift else result
    return result.clamp(0, 1)


def _colour_matrix(matrix: Tensor, images: Tensor) -> Tensor:
    return torch.matmul(matrix, images.flatten(2)).view_as(images)


def _quantise(planes: Tensor, table: tuple[tuple[int, ...], ...], scale: Tensor) -> Tensor:
    """8 × 8 DCT, rounding to the scaled table, and back. planes [B, C, H, W], scale [B] percent."""
    batch, channels, height, width = planes.shape
    k = torch.arange(8, device=planes.device, dtype=torch.float32)
    dct = torch.cos((2 * k + 1) * k[:, None] * torch.pi / 16) * 0.5
    dct = torch.cat([dct[:1] * 0.5**0.5, dct[1:]])
    steps = constant(table, dtype=torch.float32, device=planes.device)
    steps = ((steps * scale[:, None, None] + 50) / 100).floor().clamp(1, 255)[:, None, None, None]
    blocks = planes.reshape(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = dct @ blocks @ dct.T
    coefficients = (coefficients / steps).round() * steps
    return (dct.T @ coefficients @ dct).transpose(3, 4).reshape(batch, channels, height, width)
