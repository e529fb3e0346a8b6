"""Local skin-colour model, grown from the middle of the face, and each texel's distance to it.

Hair, glasses and cloth differ from the skin beside them in colour more than shadows and blushes do. Nothing is assumed
of skin in general: whatever the middle of this face looks like is this face's skin.
"""

from __future__ import annotations

import numpy as np

from tokenface.geometry.smoothstep import smoothstep
from tokenface.images.srgb import LUMINANCE
from tokenface.texture.fill import HeadGraph
from tokenface.texture.layout import Texels, surface_kinds
from tokenface.texture.view import View

ROUNDS = 3
SLOWNESS = 0.03
"""Weight of an observation against the field's smoothness: light changes slowly over a face, hair does not."""
DEVIATION = np.array([0.5, 0.16, 0.22])
"""Standard deviations of skin about the field: luminance, red over green, blue over green, natural logarithms."""
STRANGE = (1.8, 3.0)
"""Distance, in those, from which a texel looks like something else, and from which it surely is."""
NECK_STRANGE = (1.2, 2.0)
"""The same on the neck, where cloth is likely, and a fill of plain skin costs little."""
BESIDE = 0.2
"""Radians round the neck within which cloth hides what lies below it."""


def unlike_skin(view: View, ratio: np.ndarray, texels: Texels, graph: HeadGraph) -> np.ndarray:
    """[N] in [0, 1], 1: not this face's skin.

    Args:
        ratio: [N, 3] logarithm of the view's colours over the predicted albedo, linear light.
    """
    trusted = view.share * (texels.kinds["middle"] > 0.5)
    if trusted.sum() < 100:
        trusted = view.share
    prior = np.median(ratio[trusted > 0.5], axis=0) if (trusted > 0.5).any() else np.zeros(3)
    unlike = np.zeros(len(ratio), np.float32)
    for _ in range(ROUNDS):
        observed, seen = texels.to_vertices(ratio, trusted)
        field = graph.field(observed, SLOWNESS * seen, prior, mirrored=False)
        distance = _distance(ratio - texels.at(field))
        unlike = smoothstep(distance, *STRANGE).astype(np.float32)
        # the neck is judged by the face above it: what grew onto a collar would take it for skin
        trusted = view.share * (1 - unlike) * (texels.kinds["scalp"] < 0.5) * (texels.kinds["neck"] < 0.5)
    return np.maximum(unlike, _clothed(view, smoothstep(distance, *NECK_STRANGE), texels))


def _clothed(view: View, strange: np.ndarray, texels: Texels) -> np.ndarray:
    """[N] in [0, 1], on the neck alone: what looks strange, and what lies below that, however it looks (a shirt of the
    skin's own colour begins with its collar).

    Args:
        strange: [N] in [0, 1].
    """
    neck = np.flatnonzero(surface_kinds(texels.data)["neck"])
    found, seen = texels.to_vertices(strange[:, None], (view.share > 0.1).astype(np.float32))
    found = np.where(seen[neck] > 0.1, found[neck, 0], 0)
    place = np.asarray(texels.data.template, np.float64)[neck]
    if len(neck) == 0:
        return np.zeros(len(strange), np.float32)
    middle = place.mean(axis=0)
    azimuth = np.arctan2(place[:, 0] - middle[0], place[:, 2] - middle[2])
    apart = np.abs((azimuth[:, None] - azimuth[None] + np.pi) % (2 * np.pi) - np.pi)
    above = (place[None, :, 1] >= place[:, None, 1]) & (apart < BESIDE)
    cloth = np.zeros(len(texels.data.template), np.float32)
    cloth[neck] = np.where(above, found[None], 0).max(axis=1)
    return texels.at(cloth[:, None])[:, 0] * texels.kinds["neck"]


def _distance(difference: np.ndarray) -> np.ndarray:
    """[N, 3] logarithms → [N] distance in skin's own deviations."""
    columns = np.stack(
        [difference @ LUMINANCE, difference[:, 0] - difference[:, 1], difference[:, 2] - difference[:, 1]], axis=1
    )
    return np.sqrt(np.square(columns / DEVIATION).sum(1))
