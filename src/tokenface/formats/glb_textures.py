"""Textures inside of a GLB: PNG, JPEG, or WebP by `EXT_texture_webp`, with or without a PNG for readers without it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import pygltflib as gltf
from PIL import Image

from tokenface.errors import OutputError
from tokenface.formats.mesh import png_bytes

TextureFormat = Literal["png", "jpeg", "webp", "webp+png"]
TEXTURE_FORMATS: Sequence[TextureFormat] = get_args(TextureFormat)
WEBP = "EXT_texture_webp"
QUALITY = 92
"""Of JPEG and WebP: pores stay, blocks are not seen. JPEG keeps the colour of every pixel (4:4:4)."""


def check_texture_format(name: str) -> TextureFormat:
    """The name, if it is one.

    Raises:
        OutputError: it is not.
    """
    for known in TEXTURE_FORMATS:
        if name == known:
            return known
    raise OutputError(f"unknown texture format '{name}'; expected one of {', '.join(TEXTURE_FORMATS)}")


def add_texture(
    document: gltf.GLTF2, append: Callable[[bytes], int], picture: np.ndarray, name: str, form: TextureFormat = "png"
) -> int:
    """Append a texture with its image (or images) to a document, and say what readers must know.

    Args:
        append: puts bytes into the binary chunk; returns the buffer view.
        picture: [H, W, 3] uint8 sRGB, or [H, W, 4] with opacity, which JPEG cannot hold: PNG then.
        name: of the image.
        form: "webp": smallest, and required of readers; "webp+png": with a PNG for those that do not know it.
    Returns:
        The texture's index.
    """

    def image(kind: str) -> int:
        kind = "png" if kind == "jpeg" and picture.shape[2] == 4 else kind
        view = append(encoded(picture, kind))
        document.images.append(gltf.Image(name=name, mimeType=f"image/{kind}", bufferView=view))
        return len(document.images) - 1

    texture = gltf.Texture(sampler=_unrepeated(document) if picture.shape[2] == 4 else 0)
    if form != "webp":
        texture.source = image("png" if form == "webp+png" else form)
    if form in ("webp", "webp+png"):
        texture.extensions = {WEBP: {"source": image("webp")}}
        document.extensionsUsed = sorted({*(document.extensionsUsed or ()), WEBP})
        if form == "webp":  # nothing else to show: readers without it must refuse the file
            document.extensionsRequired = sorted({*(document.extensionsRequired or ()), WEBP})
    document.textures.append(texture)
    return len(document.textures) - 1


def _unrepeated(document: gltf.GLTF2) -> int:
    """Index of a sampler for pictures with holes: beyond an edge stands that edge, not the opposite one, opaque."""
    common = document.samplers[0]
    document.samplers.append(
        gltf.Sampler(
            magFilter=common.magFilter,
            minFilter=common.minFilter,
            wrapS=gltf.CLAMP_TO_EDGE,
            wrapT=gltf.CLAMP_TO_EDGE,
        )
    )
    return len(document.samplers) - 1


def encoded(picture: np.ndarray, kind: str) -> bytes:
    """[H, W, 3 or 4] uint8 as "png", "jpeg" or "webp"; the same pixels give the same bytes."""
    if kind == "png":
        return png_bytes(picture)
    buffer = io.BytesIO()
    if kind == "jpeg":
        Image.fromarray(picture).save(buffer, format="JPEG", quality=QUALITY, subsampling=0)
    else:
        Image.fromarray(picture).save(buffer, format="WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()
