"""Skin texture of a clip's person, merged from a few good frames."""

from __future__ import annotations

import numpy as np

from tokenface.inference.photo_texture import SERVED, photo_texture, texture_size
from tokenface.refinement.clip import chosen_frames, frames_faces, frames_images
from tokenface.video.clip import Clip
from tokenface.video.face import FaceMaker
from tokenface.video.outputs import Identity
from tokenface.video.store import Store

FRAMES = 3
"""Views of a turning head; more of them agree less."""


def clip_texture(clip: Clip, store: Store, maker: FaceMaker, person: int, identity: Identity) -> np.ndarray | None:
    """[R, R, 3] uint8 sRGB, R up to 1024; None where no frame shows the person reliably.

    Raises:
        VideoError: the clip has changed since it was tracked.
    """
    faces = frames_faces(maker, store, person, chosen_frames(store, person, FRAMES), identity.shape)
    if not faces:
        return None
    pairs = list(zip(faces.values(), frames_images(clip, list(faces)), strict=True))
    first, *others = sorted(pairs, key=lambda pair: -pair[0].confidence)
    size = min(SERVED, max(texture_size(face) for face, _ in pairs))
    return photo_texture(*first, others, size=size)
