"""Function-preserving growth of a trained network: more blocks, close-ups, a surface head."""

from __future__ import annotations

import re

import torch
from torch import nn

from tokenface.errors import ConfigError
from tokenface.network.backbone import Block, VisionTransformer
from tokenface.network.config import NetworkConfig
from tokenface.network.pretrained import resample_positions
from tokenface.network.tokenface import TokenFace

_BLOCK = re.compile(r"^backbone\.blocks\.(\d+)\.")


def grown(model: TokenFace, config: NetworkConfig, seed: int | None = None) -> TokenFace:
    """A network of another configuration that starts where `model` stands.

    New blocks come behind the old ones and add nothing at first: the last layers of their two branches are 0, so
    gradients reach them and they leave the identity with the first step. So do close-ups; a new surface map is fresh.

    Args:
        config: with the same width, stem and tokens as the model's, and at least as many blocks; what the outputs mean
            (scales, means) is taken from the model.
        seed: of what is fresh.
    Raises:
        ConfigError: the model does not fit inside.
    """
    old = model.config
    wanted = old.replace(
        backbone=config.backbone, image_size=config.image_size, drop_path=config.drop_path,
        surface_cells=config.surface_cells or old.surface_cells, closeups=config.closeups or old.closeups,
        recognition=config.recognition or old.recognition,
        label_sources=tuple(dict.fromkeys(old.label_sources + config.label_sources)),
    )  # fmt: skip
    new = TokenFace(wanted, model.sizes, seed)
    if not isinstance(model.backbone, VisionTransformer) or not isinstance(new.backbone, VisionTransformer):
        raise ConfigError(f"vision transformers alone can grow, not '{old.backbone}' into '{wanted.backbone}'")
    tensors, fresh = model.state_dict(), new.state_dict()
    if "backbone.pos_embed" in tensors:
        prefix = int(model.backbone.cls_token is not None)
        tensors["backbone.pos_embed"] = resample_positions(tensors["backbone.pos_embed"], new.backbone.grid, prefix)
    lost = sorted(k for k, v in tensors.items() if k not in fresh or fresh[k].shape != v.shape)
    parts = ("surface.", "closeups.", "labels.")
    lacking = sorted(k for k in fresh if k not in tensors and not k.startswith(parts) and not _BLOCK.match(k))
    if lost or lacking:
        raise ConfigError(
            f"network.backbone '{wanted.backbone}' cannot grow from '{old.backbone}' ({(lost + lacking)[0]} differs); "
            "it needs the same width, heads and stem, and no fewer blocks"
        )
    new.load_state_dict(fresh | tensors)
    for block in list(new.backbone.blocks)[len(model.backbone.blocks) :]:
        assert isinstance(block, Block)
        _silence(block)
    return new


@torch.no_grad()
def _silence(block: Block) -> None:
    for layer in (block.attn.proj, block.mlp.fc2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
