"""Backbones: vision transformers with component tokens, and ResNet-50 (Table 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenface.errors import ConfigError
from tokenface.network.stem import PatchStem, ResidualStem

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


class Features(NamedTuple):
    """Features of a batch, all after the last norm.

    tokens: [B, T, D] the component tokens; None when none were given.  patches: [B, N, D], row by row.
    pooled: [B, D], the class token, or the mean of the patches where there is none.
    """

    tokens: Tensor | None
    patches: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class BackboneSpec:
    """A vision transformer in numbers; a name of `BACKBONES` stands for one of these."""

    width: int
    depth: int
    heads: int
    stem: dict = field(default_factory=dict)  # arguments of ResidualStem; empty: 16 × 16 patches
    class_token: bool = False
    learned_positions: bool = False  # else 2-D sine–cosine of order 1
    pre_norm: bool = False  # CLIP's `ln_pre`
    quick_gelu: bool = False
    eps: float = 1e-5
    small_init: bool = False  # ViT's std 0.02 in place of Xavier
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF


_PLAIN = {"class_token": True, "learned_positions": True, "eps": 1e-6}
_STRIDE4 = {"strides": (4, 2, 2), "channels": (48, 96, 192), "depths": (1, 1, 0), "first_kernel": 7}
_STRIDE3 = {"strides": (3, 2, 2, 2), "channels": (32, 64, 128, 192), "depths": (0, 1, 1, 1), "first_kernel": 7}

BACKBONES: dict[str, BackboneSpec] = {
    # the paper's: CLIP's ViT-B/16, for FaRL's and CLIP's weights
    "vit_base_patch16": BackboneSpec(
        768, 12, 12, class_token=True, learned_positions=True, pre_norm=True, quick_gelu=True, small_init=True,
        mean=CLIP_MEAN, std=CLIP_STD,
    ),
    # the usual ViTs, for timm's weights
    "vit_tiny_patch16": BackboneSpec(192, 12, 3, **_PLAIN),  # type: ignore[arg-type]
    "vit_small_patch16": BackboneSpec(384, 12, 6, **_PLAIN),  # type: ignore[arg-type]
    # made to be trained from nothing: convolutional stem, few blocks
    "vit_tiny_stem": BackboneSpec(192, 6, 3, stem={"strides": (2, 2, 2, 2)}),
    "vit_tiny_stem_s4": BackboneSpec(192, 6, 3, stem=_STRIDE4),  # 16 px a token, half the stem's price
    "vit_tiny_stem_s3": BackboneSpec(192, 6, 3, stem=_STRIDE3),  # 24 px a token: 192 px for the price of 128
    "vit_tiny_deep_stem_s3": BackboneSpec(192, 12, 3, stem=_STRIDE3),  # twice the blocks; grows from it
    "vit_small_stem": BackboneSpec(384, 8, 6, stem={"channels": (48, 96, 192, 384)}),
    "vit_small_stem_s3": BackboneSpec(320, 6, 5, stem={**_STRIDE3, "channels": (32, 64, 128, 256)}),
}  # fmt: skip


def list_backbones() -> list[str]:
    return [*BACKBONES, "resnet50"]


def create_backbone(
    name: str, image_size: int, drop_path: float = 0.0, token_entry: int = 0
) -> VisionTransformer | ResNet50:
    """A backbone with fresh weights.

    Args:
        token_entry: block in front of which component tokens join.
    Raises:
        ConfigError: unknown name, or a size that is no multiple of the stride.
    """
    if name == "resnet50":
        return ResNet50()
    if name not in BACKBONES:
        raise ConfigError(f"network.backbone '{name}' is unknown; choose one of {', '.join(list_backbones())}")
    return VisionTransformer(BACKBONES[name], image_size, drop_path, token_entry)


class VisionTransformer(nn.Module):
    """ViT whose sequence is [class token, patches, component tokens] (Fig. 3): all attend to all in every block.

    With a `token_entry` above 0 the component tokens join in front of that block, and what the blocks before it say of
    a picture (`before_tokens`) does not depend on them.

    Parameters are named as in timm's VisionTransformer, so its checkpoints fit without translation.
    """

    pos_embed: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, spec: BackboneSpec, image_size: int, drop_path: float = 0.0, token_entry: int = 0):
        super().__init__()
        if not 0 <= token_entry < spec.depth:
            raise ConfigError(f"network.token_entry must be 0 to {spec.depth - 1} for this backbone, got {token_entry}")
        self.spec, self.width, self.image_size, self.token_entry = spec, spec.width, image_size, token_entry
        self.patch_embed: PatchStem | ResidualStem
        if spec.stem:
            self.patch_embed = ResidualStem(spec.width, **spec.stem)
        else:
            self.patch_embed = PatchStem(spec.width, bias=not spec.pre_norm)
        self.stride = self.patch_embed.stride
        if image_size % self.stride or image_size < 2 * self.stride:
            raise ConfigError(
                f"network.image_size must be a multiple of {self.stride} for this backbone, got {image_size}"
            )
        self.grid = image_size // self.stride
        self.cls_token = nn.Parameter(torch.zeros(1, 1, spec.width)) if spec.class_token else None
        if spec.learned_positions:
            self.pos_embed = nn.Parameter(torch.zeros(1, self.grid**2 + int(spec.class_token), spec.width))
        else:
            self.register_buffer("pos_embed", sine_cosine_positions(self.grid, spec.width)[None], persistent=False)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.norm_pre = nn.LayerNorm(spec.width, spec.eps) if spec.pre_norm else nn.Identity()
        activation: Callable[[Tensor], Tensor] = quick_gelu if spec.quick_gelu else F.gelu
        rates = [drop_path * i / max(spec.depth - 1, 1) for i in range(spec.depth)]
        self.blocks = nn.ModuleList(Block(spec.width, spec.heads, activation, spec.eps, rate) for rate in rates)
        self.norm = nn.LayerNorm(spec.width, spec.eps)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                if self.spec.small_init:
                    nn.init.trunc_normal_(module.weight, std=0.02)
                else:
                    nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=0.02)
        if self.spec.learned_positions:
            # order-1 sine–cosine is a better start than noise: the first plateau is long without it
            positions = sine_cosine_positions(self.grid, self.width)
            with torch.no_grad():
                self.pos_embed[:, -len(positions) :].copy_(positions)

    def forward(self, images: Tensor, tokens: Tensor | None = None) -> Features:
        """images [B, 3, S, S] in [0, 1]; tokens [T, D] or [B, T, D] component tokens, appended to the patches."""
        return self.from_tokens_on(self.before_tokens(images), tokens)

    def before_tokens(self, images: Tensor) -> Tensor:
        """images [B, 3, S, S] → [B, P, D] class token and patches in front of block `token_entry`."""
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(f"expected {self.image_size} × {self.image_size} crops, got {tuple(images.shape)}")
        x = self.patch_embed((images - self.mean) / self.std)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)
        x = self.norm_pre(x + self.pos_embed)
        for block in self.blocks[: self.token_entry]:
            x = block(x)
        return x

    def from_tokens_on(self, x: Tensor, tokens: Tensor | None = None, patches: bool = True) -> Features:
        """The rest of `forward`.

        Args:
            x: [B, P, D] of `before_tokens`.  patches: False where the tokens alone are wanted: there are 0 patches
                then, and the last block is a fraction of its price.
        """
        prefix, count = int(self.cls_token is not None), x.shape[1]
        if tokens is not None:
            joining = self.norm_pre(tokens.to(x.dtype).expand(x.shape[0], -1, -1))
            x = torch.cat([x, joining], dim=1)
        for block in self.blocks[self.token_entry : -1]:
            x = block(x)
        only = None if patches or tokens is None else slice(count, None)
        x = self.blocks[-1](x, only)
        if only is not None:
            prefix = count = 0
        # in float32 whatever the blocks ran in: the heads read differences of a percent
        with torch.autocast(x.device.type, enabled=False):
            x = self.norm(x.float())
        seen = x[:, prefix:count]
        pooled = x[:, 0] if prefix else seen.mean(dim=1)
        return Features(None if tokens is None else x[:, count:], seen, pooled)


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a two-layer perceptron, each around a shortcut."""

    def __init__(self, width: int, heads: int, activation: Callable[[Tensor], Tensor], eps: float, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, activation)
        self.drop_path = drop_path

    def forward(self, x: Tensor, rows: slice | None = None) -> Tensor:
        """x: [B, N, D].  rows: of the sequence that are wanted, each of which still attends to all; None: all."""
        wanted = x if rows is None else x[:, rows]
        x = wanted + self._drop(self.attn(self.norm1(x), rows))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return branch
        keep = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.drop_path
        return branch * keep / (1 - self.drop_path)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rows: slice | None = None) -> Tensor:
        batch, count, width = x.shape
        if rows is None:
            q, k, v = self.qkv(x).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        else:
            weight, bias = self.qkv.weight.split([width, 2 * width]), self.qkv.bias.split([width, 2 * width])
            q = F.linear(x[:, rows], weight[0], bias[0]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            k, v = F.linear(x, weight[1], bias[1]).view(batch, count, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.proj(attended.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int, activation: Callable[[Tensor], Tensor]):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class ResNet50(nn.Module):
    """The CNN of Table 1: one pooled vector, no tokens. Takes any size of crop."""

    width = 2048
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        import timm  # seconds to import, and nothing else here needs it

        self.body = timm.create_model("resnet50", pretrained=False, num_classes=0, global_pool="")
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, tokens: Tensor | None = None) -> Features:
        if tokens is not None:
            raise ValueError("resnet50 has no tokens; use readout 'global'")
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        patches = self.body(images).flatten(2).transpose(1, 2).float()
        return Features(None, patches, patches.mean(dim=1))


def quick_gelu(x: Tensor) -> Tensor:
    """The GELU that CLIP was trained with: x·σ(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


def sine_cosine_positions(grid: int, width: int, temperature: float = 10_000.0) -> Tensor:
    """[grid², width] 2-D sine–cosine positions with amplitude 1, row by row.

    Positions are of patch centres in eighths of the crop, whatever the grid: weights trained at one size carry over
    to another without resampling. A quarter of the width each for sin x, cos x, sin y, cos y.
    """
    if width % 4:
        raise ConfigError(f"the width of a backbone must be a multiple of 4, got {width}")
    centres = (torch.arange(grid, dtype=torch.float64) + 0.5) * (8 / grid)
    frequency = temperature ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angle = centres[:, None] * frequency
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)
    columns = wave[None].expand(grid, -1, -1)
    rows = wave[:, None].expand(-1, grid, -1)
    return torch.cat([columns, rows], dim=-1).reshape(grid**2, width).float()
