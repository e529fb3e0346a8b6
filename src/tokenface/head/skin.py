"""The skin of a head: what a scanner sees of it."""

from __future__ import annotations

import numpy as np

from tokenface.head.data import HeadData
from tokenface.head.registration import SOCKETS, Layers

LASHES = ("lashes", "eyelashes", "left_lashes", "right_lashes")


def visible_skin(head: HeadData) -> np.ndarray:
    """[P] numbers of the vertices that are skin and can be seen: no eyeballs, eye sockets, lashes, nothing of the
    mouth's inside. Models that do not name such parts keep them (FLAME has no mouth to leave out)."""
    shown = Layers.of(head).skin.copy()
    for name in SOCKETS + LASHES:
        if name in head.regions:
            shown[head.regions[name]] = False
    return np.flatnonzero(shown)
