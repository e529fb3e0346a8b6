"""Photos as a texture: each texel of the head's layout takes what photos show of it; the rest is filled to match.

Colours are logarithms of linear light over the predicted albedo. Their slow part is a field on the mesh, fitted where
skin is seen and harmonic where it is not (`texture.fill`), so that no seam shows; the rest is detail, taken from the
photos where they show skin, else from the mirror image of the head's other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tokenface.inference.face import Face
from tokenface.segmentation.predict import segment
from tokenface.texture.fill import harmonic_field
from tokenface.texture.layout import Texels, surface_kinds
from tokenface.texture.light import LUMINANCE, to_bytes, to_linear
from tokenface.texture.shading import log_shading
from tokenface.texture.skin_colour import unlike_skin
from tokenface.texture.view import View, feathered, view_of

SIZES = (512, 1024, 2048)
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


@dataclass(frozen=True, eq=False)
class PhotoTexture:
    """image: [R, R, 3] uint8 sRGB, row 0 at v = 1.  mask: [R, R] float32 in [0, 1], how far each texel is the photos'
    own; the rest is mirrored or filled."""

    image: np.ndarray
    mask: np.ndarray


def photo_texture(
    face: Face,
    photo: np.ndarray,
    others: Sequence[tuple[Face, np.ndarray]] = (),
    *,
    size: int | None = None,
    delight: bool = False,
    whole_head: bool = False,
) -> np.ndarray:
    """[R, R, 3] uint8 sRGB, row 0 at v = 1: `merged_texture`'s image."""
    return merged_texture(face, photo, others, size=size, delight=delight, whole_head=whole_head).image


def texture_size(face: Face) -> int:
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
    face: Face,
    photo: np.ndarray,
    others: Sequence[tuple[Face, np.ndarray]] = (),
    *,
    size: int | None = None,
    delight: bool = False,
    whole_head: bool = False,
) -> PhotoTexture:
    """The skin of a face as its photo shows it, and further photos of the same person where they show it better.

    Eyes and the mouth's inside are never taken from a photo, nor are hair on the face, glasses, hands and background.

    Args:
        face: whose tone and light are kept.  photo: [H, W, 3] uint8 RGB that it was found in.
        others: further faces of the same person with their photos, of the same head model.
        size: side of the map; None: 512, 1024 or 2048, as the photos' pixels are worth.
        delight: without the light on the face, to be lit by a viewer; else light and all.
        whole_head: hair on ears and neck too, as far as the photo shows the head there; else they get the face's tone.
    """
    pairs = [(face, photo), *others]
    if size is None:
        size = max(texture_size(each) for each, _ in pairs)
    texels = Texels.of(face.head.data, size)
    kinds = surface_kinds(face.head.data)
    albedo = np.log(_albedo(face, texels).clip(DARKEST))
    layers = [_Layer.of(each, shown, texels, albedo, delight, whole_head) for each, shown in pairs]
    field, tone = _joint_field(layers, texels, kinds)
    detail, taken = _joint_detail(layers, texels)
    logarithm = albedo + texels.at(field) + detail + (_kept(tone, delight) - tone)
    image = np.zeros((size, size, 3), np.uint8)
    image[texels.covered] = to_bytes(np.exp(logarithm))
    return PhotoTexture(texels.padded(image), texels.map(taken))


@dataclass(frozen=True, eq=False)
class _Layer:
    """One photo's say. ratio: [N, 3] logarithm of its colours over the albedo.  share: [N].  weight: [N] for joining.
    field: [V, 3] its own slow part.  seen: [V] where that was observed.  tone: [3] its middle over the face.
    other_detail, other_share: the mirrored side's."""

    ratio: np.ndarray
    share: np.ndarray
    weight: np.ndarray
    observed: np.ndarray
    seen: np.ndarray
    field: np.ndarray
    tone: np.ndarray
    other_detail: np.ndarray
    other_share: np.ndarray

    @staticmethod
    def of(
        face: Face, photo: np.ndarray, texels: Texels, albedo: np.ndarray, delight: bool, whole_head: bool
    ) -> _Layer:
        data = face.head.data
        scalp = surface_kinds(data)["scalp"]
        views = view_of(face, photo, texels, segment(face, photo), whole_head)
        ratios = [np.log(view.colours.clip(DARKEST)) - albedo for view in views]
        tone = _middle(ratios[0], views[0], texels)
        if delight:
            own, mirrored = views
            sure = own.share * texels.skin * (texels.scalp < 0.5) * (own.hair < 0.3)
            some = np.flatnonzero(sure > 0.5)[:: max(1, int((sure > 0.5).sum()) // 20_000)]
            bright = (ratios[0][some] - tone) @ LUMINANCE
            for ratio, view in zip(ratios, views, strict=True):
                ratio -= log_shading(own.normals[some], bright, sure[some], view.normals)[:, None]
            tone = _middle(ratios[0], own, texels)
        shares = [_like_skin(view, ratio, texels) for view, ratio in zip(views, ratios, strict=True)]
        observed, seen = texels.to_vertices(ratios[0], shares[0])
        field = harmonic_field(data, observed, seen, tone, scalp)
        other, other_seen = texels.to_vertices(ratios[1], shares[1])
        other_field = harmonic_field(data, other, other_seen, tone, scalp)
        weight = shares[0] * views[0].facing.clip(0, 1) * face.camera.pixels_per_metre
        return _Layer(
            ratios[0], shares[0], weight, observed, seen, field, tone,
            ratios[1] - texels.at(other_field), shares[1] * (texels.scalp < 0.5),
        )  # fmt: skip


def _like_skin(view: View, ratio: np.ndarray, texels: Texels) -> np.ndarray:
    """[N] share without what has nothing of the colour of the skin round it: what the segmentation missed."""
    # nostrils, brows, beards and the hair of the head are dark, and the face's own
    own = np.maximum.reduce([texels.beard, texels.scalp, texels.features])
    return feathered(view.share * (1 - unlike_skin(view, ratio, texels) * (1 - own)), texels)


def _joint_field(layers: list[_Layer], texels: Texels, kinds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """[V, 3] one field of all photos in the first one's exposure, and its middle [3] over the face."""
    first = layers[0]
    values, weights = first.observed * first.seen[:, None], first.seen.copy()
    for layer in layers[1:]:
        both = np.minimum(first.seen, layer.seen) * kinds["face"]
        offset = (
            np.median((first.observed - layer.observed)[both > 0.5], axis=0)
            if (both > 0.5).sum() > 30
            else first.tone - layer.tone
        )
        share = layer.seen * (1 - weights)
        values += share[:, None] * (layer.observed + offset)
        weights += share
    field = harmonic_field(texels.data, values / weights[:, None].clip(1e-9), weights, first.tone, kinds["scalp"])
    # what is no skin takes the photo's brightness, not its tone
    bright = float(first.tone @ LUMINANCE)
    field[kinds["eyes"]] = bright
    field[kinds["mouth"]] = np.clip(bright, -2.6, 0)
    return field, first.tone


def _joint_detail(layers: list[_Layer], texels: Texels) -> tuple[np.ndarray, np.ndarray]:
    """[N, 3] what the photos say beyond their fields, and [N] how far any of them says it."""
    total, mass = np.zeros_like(layers[0].ratio), np.zeros(len(layers[0].share), np.float32)
    hidden = np.ones_like(mass)
    for layer in layers:
        weight = layer.weight**SHARPNESS
        total += weight[:, None] * (layer.ratio - texels.at(layer.field))
        mass += weight
        hidden *= 1 - layer.share
    taken = 1 - hidden
    detail = total / mass[:, None].clip(1e-30) * taken[:, None]
    left = hidden.copy()
    for layer in layers:
        detail += (left * layer.other_share)[:, None] * layer.other_detail
        left *= 1 - layer.other_share
    return detail, taken


def _middle(ratio: np.ndarray, view: View, texels: Texels) -> np.ndarray:
    """[3] median over the skin of the face that is seen; what little is seen where that is not enough."""
    for sure in ((view.share > 0.9) & (texels.face > 0.5) & (view.hair < 0.3), view.share > 0.3):
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


def _albedo(face: Face, texels: Texels) -> np.ndarray:
    """[N, 3] predicted, linear light."""
    size = (texels.size, texels.size)
    return to_linear(cv2.resize(face.albedo, size, interpolation=cv2.INTER_CUBIC)[texels.covered] / 255)
