"""From clips of tokens to the windows that the temporal transformer sees, ends included."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenface.network.temporal import TemporalTransformer, crop_motion


def steadied(module: TemporalTransformer, tokens: Tensor, crops: Tensor) -> Tensor:
    """Every frame of clips through the module; frames before the first and after the last are absent.

    Args:
        tokens: [N, T, K, D].  crops: [N, T, 4].
    Returns:
        [N, T, K, D].
    """
    clips, frames = tokens.shape[:2]
    places = torch.arange(frames)[:, None] + torch.tensor(module.window)
    present = (places >= 0) & (places < frames)
    index = places.clamp(0, frames - 1)
    windows = tokens[:, index].flatten(0, 1)
    motion = crop_motion(crops[:, index], crops[:, :, None]).to(tokens.dtype).flatten(0, 1)
    mixed = module(windows, present[None].expand(clips, -1, -1).flatten(0, 1), motion)
    return mixed.unflatten(0, (clips, frames))
