"""Local skin-colour model, grown from the middle of the face, and each texel's distance to it.

Hair, glasses and cloth differ from the skin beside them in colour more than shadows and blushes do. Nothing is assumed
of skin in general: whatever the middle of this face looks like is this face's skin.
"""

from __future__ import annotations

import numpy as np

from tokenface.images.srgb import LUMINANCE
from tokenface.texture.fill import HeadGraph
from tokenface.texture.layout import Texels, smoothstep
from tokenface.texture.view import View

ROUNDS = 3
SLOWNESS = 0.03
"""Weight of an observation against the field's smoothness: light changes slowly over a face, hair does not."""
DEVIATION = np.array([0.5, 0.16, 0.22])
"""Standard deviations of skin about the field: luminance, red over green, blue over green, natural logarithms."""
STRANGE = (1.8, 3.0)
"""Distance, in those, from which a texel looks like something else, and from which it surely is."""


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
        unlike = smoothstep(_distance(ratio - texels.at(field)), *STRANGE).astype(np.float32)
        trusted = view.share * (1 - unlike) * (texels.kinds["scalp"] < 0.5)
    return unlike


def _distance(difference: np.ndarray) -> np.ndarray:
    """[N, 3] logarithms → [N] distance in skin's own deviations."""
    columns = np.stack(
        [difference @ LUMINANCE, difference[:, 0] - difference[:, 1], difference[:, 2] - difference[:, 1]], axis=1
    )
    return np.sqrt(np.square(columns / DEVIATION).sum(1))
