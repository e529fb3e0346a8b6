"""Photo texture: texels observed in photos, the rest filled to match.

Colours are logarithms of linear light over the predicted albedo. Their slow part is a field on the mesh, fitted where
skin is seen and harmonic where it is not (`texture.fill`), so that no seam shows; the rest is detail, taken from the
photos where they show skin, else from the mirror image of the head's other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.images.srgb import LUMINANCE, bytes_to_linear, to_bytes
from tokenface.texture.detail import DetailMaps, detail_maps
from tokenface.texture.fill import HeadGraph
from tokenface.texture.layout import Texels, surface_kinds
from tokenface.texture.seen import SeenFace
from tokenface.texture.shading import FittedLight, fit_light
from tokenface.texture.skin_colour import unlike_skin
from tokenface.texture.view import View, colours_of, feathered, view_of

SIZES = (512, 1024, 2048)
SERVED = 1024
"""Largest map of the web page and the API, where seconds and megabytes count."""
ANALYSIS = 512
"""Side of the map on which it is decided what is skin and what fills the rest; the pixels come at full size."""
LIGHT_SAMPLES = 10_000
DARKEST_MOUTH = -2.6
"""Natural logarithm of the light in a mouth."""
TEETH = 0.8
"""Natural logarithm by which teeth are lighter than the albedo of one-piece heads has them."""
DARKEST = 0.004
"""Linear light below which ratios say nothing."""
SHARPNESS = 4
"""Power of a view's weight: photos are joined, not averaged into a blur."""
EXPOSURE = 0.6
"""Natural logarithm of the photo's skin over the predicted skin, up to which a photo's exposure is kept; what is
beyond counts a third (back light, a flash)."""
CAST = 0.25
"""The same of a colour cast, each channel over the luminance."""
BEYOND = 0.33
NECK = 0.02
"""Weight of the face's tone on the neck where nothing is seen of its skin, over a whole observation."""


@dataclass(frozen=True, eq=False)
class PhotoTexture:
    """image: [R, R, 3] uint8 sRGB, row 0 at v = 1.  mask: [R, R] float32 in [0, 1], how far each texel is the photos'
    own; the rest is mirrored or filled."""

    image: np.ndarray
    mask: np.ndarray


def photo_texture(
    face: SeenFace,
    photo: np.ndarray,
    others: Sequence[tuple[SeenFace, np.ndarray]] = (),
    *,
    size: int | None = None,
    delight: bool = False,
    whole_head: bool = False,
    mended: bool = True,
) -> np.ndarray:
    """[R, R, 3] uint8 sRGB, row 0 at v = 1: `merged_texture`'s image."""
    return merged_texture(face, photo, others, size=size, delight=delight, whole_head=whole_head, mended=mended).image


def texture_size(face: SeenFace) -> int:
    """Side of the map that holds the photo's pixels: 512, 1024 or 2048."""
    data = face.head.data
    inside = surface_kinds(data)["face"][np.asarray(data.faces)].all(1)
    corners, flat = (
        face.vertices[np.asarray(data.faces)[inside]],
        np.asarray(data.uv)[np.asarray(data.uv_faces)[inside]],
    )
    edge = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1) / np.linalg.norm(flat[:, 1] - flat[:, 0], axis=1).clip(
        1e-6
    )
    wanted = float(np.median(edge)) * face.camera.pixels_per_metre
    return next((size for size in SIZES if size >= 0.85 * wanted), SIZES[-1])


def merged_texture(
    face: SeenFace,
    photo: np.ndarray,
    others: Sequence[tuple[SeenFace, np.ndarray]] = (),
    *,
    size: int | None = None,
    delight: bool = False,
    whole_head: bool = False,
    mended: bool = True,
) -> PhotoTexture:
    """The skin of a face as its photo shows it, and further photos of the same person where they show it better.

    Eyes and the mouth's inside are never taken from a photo, nor are hair on the face, glasses, hands and background.

    Args:
        face: whose tone and light are kept.  photo: [H, W, 3] uint8 RGB that it was found in.
        others: further faces of the same person with their photos, of the same head model.
        size: side of the map; None: 512, 1024 or 2048, as the photos' pixels are worth.
        delight: without the light on the face, to be lit by a viewer; else light and all.
        mended: exposure and cast beyond what skin in good light has are drawn back; else they stay as photographed.
        whole_head: ears too, as far as the photo shows them; else they get the face's tone.
    """
    pairs = [(face, photo), *others]
    size = size or max(texture_size(each) for each, _ in pairs)
    data = face.head.data
    kinds = surface_kinds(data)
    fine = Texels.of(data, size)
    coarse = fine if size <= ANALYSIS else Texels.of(data, ANALYSIS)
    graph = HeadGraph(data, kinds["scalp"])
    albedo = _albedo(face, coarse)
    layers = [_Layer.of(*pair, coarse, graph, albedo, delight, whole_head) for pair in pairs]
    field = _joint_field(layers, graph, kinds)
    albedo = albedo if fine is coarse else _albedo(face, fine)
    detail, taken = _joint_detail(pairs, layers, coarse, fine, albedo)
    tone = layers[0].tone
    shift = _kept(tone, delight) - tone if mended or delight else np.zeros(3)
    image = np.zeros((size, size, 3), np.uint8)
    image[fine.covered] = to_bytes(np.exp(albedo + detail + fine.at(field + shift)))
    return PhotoTexture(fine.padded(image), fine.map(taken))


def photo_detail(face: SeenFace, photo: np.ndarray, *, size: int | None = None) -> DetailMaps:
    """Relief of the skin from the photo's shading, as a displacement and a normal map (`texture.detail`).

    Brows, lips, beards and whatever is not taken from the photo stay flat.

    Args:
        photo: [H, W, 3] uint8 RGB.  size: side of the maps; None: as the photo's pixels are worth, 1024 at most.
    """
    data = face.head.data
    fine = Texels.of(data, size or min(SERVED, texture_size(face)))
    coarse = fine if fine.size <= ANALYSIS else Texels.of(data, ANALYSIS)
    albedo = _albedo(face, coarse)
    layer = _Layer.of(face, photo, coarse, HeadGraph(data, surface_kinds(data)["scalp"]), albedo, False, False)
    albedo = albedo if fine is coarse else _albedo(face, fine)
    ratio = np.log(colours_of(face, photo, fine).clip(DARKEST)) - albedo
    weight = coarse.enlarged(layer.share, fine) * (fine.kinds["scalp"] < 0.5)
    weight = weight * (1 - fine.kinds["brows"]) * (1 - fine.kinds["lips"])
    normals = mesh_normals(face.vertices, face.faces) @ face.camera.rotation.T
    slope = fine.at(layer.light.slope(normals) @ face.camera.rotation)
    return detail_maps(fine, face.vertices, (ratio - fine.at(layer.slow)) @ LUMINANCE, weight, slope)


@dataclass(frozen=True, eq=False)
class _Layer:
    """One photo's say. share, weight: [N] how far its texels are taken, and how they count among other photos'.
    observed: [V, 3], seen: [V] logarithm of its colours over the albedo, and where they are known.  tone: [3] their
    middle over the face.  slow: [V, 3] smooth part of it and of the light, which detail is measured from.
    other_share, other_slow: of the head's other side in the place of this one.  light: measured."""

    share: np.ndarray
    weight: np.ndarray
    observed: np.ndarray
    seen: np.ndarray
    tone: np.ndarray
    slow: np.ndarray
    other_share: np.ndarray
    other_slow: np.ndarray
    light: FittedLight

    @staticmethod
    def of(
        face: SeenFace,
        photo: np.ndarray,
        texels: Texels,
        graph: HeadGraph,
        albedo: np.ndarray,
        delight: bool,
        ears: bool,
    ) -> _Layer:
        own, other = view_of(face, photo, texels, ears)
        ratio, other_ratio = (np.log(view.colours.clip(DARKEST)) - albedo for view in (own, other))
        tone = _middle(ratio, own, texels)
        shade = np.zeros((len(face.vertices), 1))
        light = _light(own, ratio - tone, texels)
        if delight:
            shade = light.log(mesh_normals(face.vertices, face.faces) @ face.camera.rotation.T)[:, None]
            ratio, other_ratio = ratio - texels.at(shade), other_ratio - texels.at(shade, mirrored=True)
            tone = _middle(ratio, own, texels)
        share, other_share = _like_skin(own, ratio, texels, graph), _like_skin(other, other_ratio, texels, graph)
        observed, seen = texels.to_vertices(ratio, share)
        other_field = graph.field(*texels.to_vertices(other_ratio, other_share), tone, mirrored=False)
        return _Layer(
            share,
            share * own.facing.clip(0, 1) * face.camera.pixels_per_metre,
            observed,
            seen,
            tone,
            graph.field(observed, seen, tone) + shade,
            other_share * (texels.kinds["scalp"] < 0.5),
            other_field + shade[face.head.data.mirror],
            light,
        )


def _light(view: View, ratio: np.ndarray, texels: Texels) -> FittedLight:
    """From what is surely skin. ratio: [N, 3] about its middle."""
    sure = view.share * (texels.kinds["scalp"] < 0.5)
    some = np.flatnonzero(sure > 0.5)
    some = some[:: max(1, len(some) // LIGHT_SAMPLES)]
    return fit_light(view.normals[some], ratio[some] @ LUMINANCE, sure[some])


def _like_skin(view: View, ratio: np.ndarray, texels: Texels, graph: HeadGraph) -> np.ndarray:
    """[N] share without what has nothing of the colour of the skin round it: hair, glasses, hands."""
    # nostrils, brows, beards and the hair of the head are dark, and the face's own
    own = np.maximum.reduce([texels.kinds["beard"], texels.kinds["scalp"], texels.kinds["features"]])
    return feathered(view.share * (1 - unlike_skin(view, ratio, texels, graph) * (1 - own)), texels)


def _joint_field(layers: list[_Layer], graph: HeadGraph, kinds: dict[str, np.ndarray]) -> np.ndarray:
    """[V, 3] one field of all photos, in the first one's exposure."""
    first = layers[0]
    values, weights = first.observed * first.seen[:, None], first.seen.copy()
    for layer in layers[1:]:
        both = np.minimum(first.seen, layer.seen) * kinds["face"] > 0.5
        offset = first.tone - layer.tone
        if both.sum() > 30:
            offset = np.median((first.observed - layer.observed)[both], axis=0)
        share = layer.seen * (1 - weights).clip(0)
        values += share[:, None] * (layer.observed + offset)
        weights += share
    # a neck that is hidden or clothed is the model's, in this face's tone; the beard above it does not run down
    bare = NECK * kinds["neck"] * (1 - weights).clip(0)
    values, weights = values + bare[:, None] * first.tone, weights + bare
    field = graph.field(values / weights[:, None].clip(1e-9), weights, first.tone)
    # what is no skin takes the photo's brightness, not its tone
    bright = float(first.tone @ LUMINANCE)
    field[kinds["eyes"]] = bright
    field[kinds["mouth"]] = np.clip(bright, DARKEST_MOUTH, 0)
    field[kinds["teeth"]] += TEETH
    return field


def _joint_detail(
    pairs: Sequence[tuple[SeenFace, np.ndarray]], layers: list[_Layer], coarse: Texels, fine: Texels, albedo: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[N, 3] what the photos say beyond their slow parts, and [N] how far any of them says it."""
    weights = [coarse.enlarged(layer.weight, fine) ** SHARPNESS for layer in layers]
    mass = np.sum(weights, axis=0).clip(1e-30)
    shares = [coarse.enlarged(layer.share, fine) for layer in layers]
    hidden = np.prod([1 - share for share in shares], axis=0)
    detail = np.zeros_like(albedo)
    for (face, photo), layer, weight in zip(pairs, layers, weights, strict=True):
        ratio = np.log(colours_of(face, photo, fine).clip(DARKEST)) - albedo
        detail += (weight / mass * (1 - hidden))[:, None] * (ratio - fine.at(layer.slow))
    left = hidden.copy()
    for (face, photo), layer in zip(pairs, layers, strict=True):
        share = coarse.enlarged(layer.other_share, fine)
        ratio = np.log(colours_of(face, photo, fine, mirrored=True).clip(DARKEST)) - albedo
        detail += (left * share)[:, None] * (ratio - fine.at(layer.other_slow))
        left *= 1 - share
    return detail, 1 - hidden


def _middle(ratio: np.ndarray, view: View, texels: Texels) -> np.ndarray:
    """[3] median over the skin of the face that is seen; what little is seen where that is not enough."""
    for sure in ((view.share > 0.9) & (texels.kinds["face"] > 0.5), view.share > 0.3):
        if sure.sum() > 100:
            return np.median(ratio[sure], axis=0)
    return np.zeros(3)


def _kept(tone: np.ndarray, delight: bool) -> np.ndarray:
    """[3] tone as it is, unless its exposure or its cast is beyond what skin in good light has."""
    bright = float(tone @ LUMINANCE)
    exposure = 0.0 if delight else _bounded(np.array(bright), EXPOSURE)
    return _bounded(tone - bright, CAST) + exposure


def _bounded(values: np.ndarray, limit: float) -> np.ndarray:
    inside = values.clip(-limit, limit)
    return inside + BEYOND * (values - inside)


def _albedo(face: SeenFace, texels: Texels) -> np.ndarray:
    """[N, 3] logarithm of the predicted albedo, linear light."""
    image = cv2.resize(face.albedo, (texels.size, texels.size), interpolation=cv2.INTER_CUBIC)
    return np.log(bytes_to_linear(image[texels.covered]).clip(DARKEST))
