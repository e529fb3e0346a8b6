"""Close-ups: eyes, brows and mouth at full resolution, and recognition features, read by the component tokens.

After the backbone the component tokens know where the face is, but a 24-pixel patch of the whole crop hardly shows an
iris, a lid or pressed lips. Five anchor points, predicted from the tokens, place windows over both eyes and the mouth
and the chip of a face recognition network. Their features are further image tokens, which the component tokens
attend to in a few more blocks (as MICA feeds a recognition network's features to FLAME's shape).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenface.geometry.batched_similarity import planar_similarity
from tokenface.identity.recognition import CHIP_POINTS
from tokenface.network.backbone import Block
from tokenface.network.stem import ResidualStem

CHIP = 150
"""Pixels of a side of the recognition network's chip, in which windows are placed, too."""
WINDOW = (48, 64)
"""Rows and columns of a window's pixels."""
EYE_SCALE, MOUTH_SCALE = 1.0, 1.4
"""Chip pixels per pixel of a window."""
EYE_RISE, MOUTH_DROP = 7.0, 4.0
"""Chip pixels by which the windows' middles lie above the eye centre and below the middle of the mouth's corners."""
STEM = {"strides": (2, 2, 2), "channels": (32, 64, 128), "depths": (0, 1, 1)}
WINDOW_TOKENS = WINDOW[0] * WINDOW[1] // 8**2
MAP_SIZES = ((128, 8), (256, 4))
"""Channels and side of the recognition network's two last maps."""


class ClosedUp(NamedTuple):
    """tokens: [B, T, D] the component tokens after the close-ups.  anchors: [B, 5, 2] crop NDC, y down."""

    tokens: Tensor
    anchors: Tensor


class CloseUps(nn.Module):
    """The second part of the network; at first it changes nothing (its branches end in zeros).

    Args:
        width: D.  heads: of the attention.  count: component tokens.  blocks: in which they attend to the close-ups.
        shape_token: index of the token that carries identity.
        recognition: a frozen recognition network with `features(chips)`, or None.
    """

    def __init__(
        self, width: int, heads: int, count: int, blocks: int, shape_token: int, recognition: nn.Module | None
    ):
        super().__init__()
        self.shape_token, self.count = shape_token, count
        self.anchor_fc = nn.Linear(width * count, 2 * len(CHIP_POINTS))
        nn.init.normal_(self.anchor_fc.weight, std=0.002)
        with torch.no_grad():
            self.anchor_fc.bias.copy_(_mean_anchors().flatten())
        self.eye_stem = ResidualStem(width, **STEM)  # type: ignore[arg-type]
        self.mouth_stem = ResidualStem(width, **STEM)  # type: ignore[arg-type]
        self.eye_positions = nn.Parameter(torch.randn(WINDOW_TOKENS, width) * 0.3)
        self.side_positions = nn.Parameter(torch.randn(2, 1, width) * 0.3)
        self.mouth_positions = nn.Parameter(torch.randn(WINDOW_TOKENS, width) * 0.3)
        self.recognition = recognition
        if recognition is not None:
            recognition.requires_grad_(False)
            self._forget_recognition(recognition)
            self.map_fc = nn.ModuleList(nn.Linear(channels, width) for channels, _ in MAP_SIZES)
            self.map_positions = nn.Parameter(torch.randn(sum(side**2 for _, side in MAP_SIZES), width) * 0.3)
            channels, side = MAP_SIZES[-1]
            self.face_fc = nn.Linear(channels * side**2 + 128, width)
            nn.init.zeros_(self.face_fc.weight)
            nn.init.zeros_(self.face_fc.bias)
        self.blocks = nn.ModuleList(Block(width, heads, F.gelu, 1e-5, 0.0) for _ in range(blocks))
        for block in self.blocks:
            assert isinstance(block, Block)
            for layer in (block.attn.qkv, block.mlp.fc1):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
            for layer in (block.attn.proj, block.mlp.fc2):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor, tokens: Tensor, patches: Tensor) -> ClosedUp:
        """images [B, 3, S, S] in [0, 1], tokens [B, T, D] and patches [B, N, D] after the backbone's norm."""
        anchors = self.anchor_fc(tokens.flatten(1)).unflatten(-1, (-1, 2)).float()
        place = ChipPlace.of(anchors.detach())
        context = [patches, *self._windows(images, place)]
        if self.recognition is not None:
            more, face = self._recognised(images, place)
            context.append(more)
            identity = torch.zeros_like(tokens)
            identity[:, self.shape_token] = face
            tokens = tokens + identity
        seen = torch.cat([part.to(tokens.dtype) for part in context], dim=1)
        rows = slice(0, self.count)
        for block in self.blocks:
            tokens = block(torch.cat([tokens, seen], dim=1), rows)
        return ClosedUp(tokens.float(), anchors)

    def _windows(self, images: Tensor, place: ChipPlace) -> list[Tensor]:
        """Tokens of both eyes, the right one of the picture seen in a mirror, and of the mouth."""
        first, second, mouth = place.windows(images)
        eyes = self.eye_stem(torch.cat([first, second.flip(-1)])).unflatten(0, (2, -1))
        eyes = eyes + self.eye_positions + self.side_positions[:, None]
        return [eyes[0], eyes[1], self.mouth_stem(mouth) + self.mouth_positions]

    def _recognised(self, images: Tensor, place: ChipPlace) -> tuple[Tensor, Tensor]:
        """[B, N, D] tokens of the recognition network's maps, and [B, D] what the face as a whole adds."""
        assert self.recognition is not None
        with torch.no_grad():
            *maps, vector = self.recognition.features(place.chips(images))  # type: ignore[operator]
        tokens = [
            fc(F.layer_norm(features.flatten(2).transpose(1, 2), features.shape[1:2]))
            for fc, features in zip(self.map_fc, maps, strict=True)
        ]
        whole = torch.cat([F.layer_norm(maps[-1].flatten(1), (maps[-1][0].numel(),)), vector * 8], dim=1)
        return torch.cat(tokens, dim=1) + self.map_positions, self.face_fc(whole)

    def _forget_recognition(self, recognition: nn.Module) -> None:
        """The recognition network's weights are a file of their own: no part of the state, neither saved nor loaded."""
        recognition.register_state_dict_post_hook(_without_state)
        recognition.register_load_state_dict_post_hook(_is_not_missing)

    def train(self, mode: bool = True) -> CloseUps:
        super().train(mode)
        if self.recognition is not None:
            self.recognition.eval()
        return self


class ChipPlace(NamedTuple):
    """Placement of the chip on the crop: the similarity that brings CHIP_POINTS nearest to the anchors.

    axis: [B, 2] crop NDC per chip pixel along the chip's x, as a complex number.  origin: [B, 2] NDC of the chip's
    corner.  anchors: [B, 5, 2].
    """

    axis: Tensor
    origin: Tensor
    anchors: Tensor

    @staticmethod
    def of(anchors: Tensor) -> ChipPlace:
        """anchors: [B, 5, 2] crop NDC, y down."""
        similarity = planar_similarity(CHIP_POINTS.to(anchors, non_blocking=True).expand_as(anchors), anchors)
        return ChipPlace(similarity[:, :, 0], similarity[:, :, 2], anchors)

    def chips(self, images: Tensor) -> Tensor:
        """[B, 3, 150, 150] as the recognition network wants them."""
        middle = self.origin + _turned(self.axis, self.axis.new_full((1, 2), CHIP / 2).expand_as(self.origin))
        return self._sampled(images, middle, 1.0, (CHIP, CHIP))

    def windows(self, images: Tensor) -> list[Tensor]:
        """Picture's left eye, right eye, mouth: [B, 3, 48, 64] each, contrast and brightness made alike."""
        down = torch.stack([-self.axis[:, 1], self.axis[:, 0]], dim=-1)  # one chip pixel down
        eyes = [self.anchors[:, i] - EYE_RISE * down for i in (0, 1)]
        mouth = self.anchors[:, 3:].mean(1) + MOUTH_DROP * down
        places = [(eyes[0], EYE_SCALE), (eyes[1], EYE_SCALE), (mouth, MOUTH_SCALE)]
        return [_alike(self._sampled(images, middle, scale, WINDOW)) for middle, scale in places]

    def _sampled(self, images: Tensor, middle: Tensor, scale: float, size: tuple[int, int]) -> Tensor:
        rows, columns = size
        x = (torch.arange(columns, device=images.device, dtype=torch.float32) + 0.5 - columns / 2) * scale
        y = (torch.arange(rows, device=images.device, dtype=torch.float32) + 0.5 - rows / 2) * scale
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
        turned = _turned(self.axis[:, None], points[None])
        grid = (middle[:, None] + turned).unflatten(1, size)
        return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def _turned(axis: Tensor, points: Tensor) -> Tensor:
    """Points times the complex number `axis`, both [..., 2]."""
    x, y = points.unbind(-1)
    a, b = axis.unbind(-1)
    return torch.stack([a * x - b * y, b * x + a * y], dim=-1)


def _alike(windows: Tensor) -> Tensor:
    """Mean 0, deviation 1 of each window: what light does to a whole window says nothing of its expression."""
    mean = windows.mean((1, 2, 3), keepdim=True)
    deviation = (windows - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
    return (windows - mean) / (deviation + 0.02)


def _mean_anchors() -> Tensor:
    """[5, 2] a frontal face in the middle of a crop, crop NDC."""
    return (CHIP_POINTS - torch.tensor([75.0, 90.0])) * 0.0105


def _without_state(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: dict) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        del state[key]


def _is_not_missing(module: nn.Module, incompatible) -> None:
    """Takes its own keys off the list, which is that of the whole network."""
    own = {name for name, _ in module.named_parameters()}

    def is_own(key: str) -> bool:
        _, found, name = key.rpartition("recognition.")
        return bool(found) and name in own

    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if not is_own(key)]
