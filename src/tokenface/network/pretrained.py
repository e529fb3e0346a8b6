"""Pretrained backbone weights: CLIP, FaRL, open_clip, Hugging Face CLIP, timm, or another TokenFace.

FaRL (Zheng et al., 2022), with which the paper starts, is CLIP's ViT-B/16 under CLIP's names. Nothing is unpickled
beyond tensors, and text towers and projections are left behind.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenface.core.tensors import read_state_dict
from tokenface.errors import CheckpointError
from tokenface.network.backbone import ResNet50, VisionTransformer

CLIP_NAMES = (
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
HUGGING_FACE_NAMES = (
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^pre_layrnorm\.", "norm_pre."),  # misspelt in the files, too
    (r"^post_layernorm\.", "norm."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
)


def load_pretrained(backbone: nn.Module, path: str | Path) -> list[str]:
    """Fill a backbone with weights from a file: of a ViT with learned positions resampled to its grid, or of a
    ResNet-50 under torchvision's and timm's names.

    Args:
        backbone: of a TokenFace (`model.backbone`); its kind, width and depth must be the file's.
        path: `.safetensors`, or a `torch.save` file of a state dict (or of a dict that holds one).
    Returns:
        The tensors of the file that have no place in the backbone (a text tower, a classifier, a TokenFace's heads).
    Raises:
        CheckpointError: unreadable, of no known kind, or of another size.
    """
    convolutional = isinstance(backbone, ResNet50)
    state = read_state_dict(path)
    source = to_resnet_names(state) if convolutional else to_vit_names(state, path)
    expected = {k: v for k, v in backbone.state_dict().items()}
    if convolutional:  # counters that old files lack, and training starts anew
        source = {k: v for k, v in expected.items() if k.endswith("num_batches_tracked")} | source
    missing = sorted(set(expected) - set(source))
    if missing:
        kind = "a ResNet-50" if convolutional else "a vision transformer of the same kind"
        raise CheckpointError(
            f"'{path}' lacks {len(missing)} of the backbone's {len(expected)} tensors (first: {missing[0]}); "
            f"expected the weights of {kind}"
        )
    if isinstance(backbone, VisionTransformer) and "pos_embed" in expected:
        positions = source["pos_embed"].reshape(1, -1, source["pos_embed"].shape[-1])
        source["pos_embed"] = resample_positions(positions, backbone.grid, prefix=int(backbone.spec.class_token))
    if "cls_token" in expected:
        source["cls_token"] = source["cls_token"].reshape(1, 1, -1)
    for key, value in expected.items():
        if source[key].shape != value.shape:
            raise CheckpointError(
                f"'{path}' has {key} of shape {tuple(source[key].shape)} where the backbone has {tuple(value.shape)}; "
                "choose the backbone that these weights were made for"
            )
    backbone.load_state_dict({k: source[k].to(value.dtype) for k, value in expected.items()})
    return sorted(set(source) - set(expected))


def to_vit_names(state: dict[str, Tensor], path: str | Path = "weights") -> dict[str, Tensor]:
    """Names of CLIP, FaRL, open_clip, Hugging Face, timm or a TokenFace to a backbone's (which are timm's)."""
    if "heads.fc.shape.weight" in state:
        return {k.removeprefix("backbone."): v for k, v in state.items()}
    state = {re.sub(r"^(module\.)+", "", k): v for k, v in state.items()}
    if any(k.startswith("visual.trunk.") for k in state):  # open_clip around a timm tower
        return {k.removeprefix("visual.trunk."): v for k, v in state.items()}
    if "visual.class_embedding" in state:
        return _rename(_below(state, "visual."), CLIP_NAMES)
    if "class_embedding" in state and "conv1.weight" in state:
        return _rename(state, CLIP_NAMES)
    if "vision_model.embeddings.class_embedding" in state:
        state = _below(state, "vision_model.")
    if "embeddings.class_embedding" in state:
        return _join_attention(_rename(state, HUGGING_FACE_NAMES))
    if "cls_token" in state and "patch_embed.proj.weight" in state:
        return dict(state)
    raise CheckpointError(
        f"'{path}' holds no vision transformer that is known here; expected the names of CLIP or FaRL ('visual.…'), "
        "Hugging Face CLIP ('vision_model.…'), timm ('blocks.…') or TokenFace ('backbone.…')"
    )


def to_resnet_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of torchvision, timm, a wrapped model or a TokenFace to the backbone's."""
    return {f"body.{re.sub(r'^(module.|backbone.|encoder.|body.)*', '', key)}": v for key, v in state.items()}


def resample_positions(positions: Tensor, grid: int, prefix: int) -> Tensor:
    """[1, prefix + g², D] learned positions to [1, prefix + grid², D], bicubic and antialiased; prefixes stay."""
    head, body = positions[:, :prefix], positions[:, prefix:]
    old = round(body.shape[1] ** 0.5)
    if old == grid:
        return positions
    square = body.float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    square = F.interpolate(square, size=(grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([head.float(), square.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)], dim=1)


def _below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _rename(state: dict[str, Tensor], names: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def _join_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face keeps q, k and v apart; here they are one matrix, in this order."""
    joined = {k: v for k, v in state.items() if not re.search(r"\.attn\.[qkv]\.", k)}
    for key, value in state.items():
        if ".attn.q." in key:
            parts = [value, state[key.replace(".attn.q.", ".attn.k.")], state[key.replace(".attn.q.", ".attn.v.")]]
            joined[key.replace(".attn.q.", ".attn.qkv.")] = torch.cat(parts)
    return joined
