"""Small backbones, known by name once this is imported: for what does not depend on how much a network can learn."""

from __future__ import annotations

from tokenface.network.backbone import BACKBONES, BackboneSpec

TOY = "vit_toy"
TOY_WIDE = "vit_toy_wide"
"""As wide as the smallest real one, for sizes of files."""

BACKBONES[TOY] = BackboneSpec(64, 2, 2, stem={"strides": (2, 2, 2, 2), "channels": (8, 16, 32, 64)})
BACKBONES[TOY_WIDE] = BackboneSpec(192, 2, 3, stem={"strides": (2, 2, 2, 2)})
