"""Skin texture of a clip's person, merged from a few good frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenface.inference.photo_texture import SERVED, photo_texture, texture_size
from tokenface.refinement.clip import chosen_frames, frames_faces, frames_images
from tokenface.video.clip import Clip
from tokenface.video.face import FaceMaker
from tokenface.video.outputs import Identity
from tokenface.video.store import Store

FRAMES = 3
"""Views of a turning head; more of them agree less."""


@dataclass(frozen=True, eq=False)
class ClipSkin:
    """texture: [R, R, 3] uint8 sRGB, R up to 1024; None where no frame shows the person reliably.
    iris: [3] uint8 sRGB; None where no frame shows it."""

    texture: np.ndarray | None = None
    iris: np.ndarray | None = None


def clip_skin(clip: Clip, store: Store, maker: FaceMaker, person: int, identity: Identity) -> ClipSkin:
    """What the chosen frames show of a person.

    Raises:
        VideoError: the clip has changed since it was tracked.
    """
    faces = frames_faces(maker, store, person, chosen_frames(store, person, FRAMES), identity.shape)
    if not faces:
        return ClipSkin()
    pairs = list(zip(faces.values(), frames_images(clip, list(faces)), strict=True))
    first, *others = sorted(pairs, key=lambda pair: -pair[0].confidence)
    size = min(SERVED, max(texture_size(face) for face, _ in pairs))
    irises = (face.iris_colour(image) for face, image in (first, *others))
    iris = next((iris for iris in irises if iris is not None), None)
    return ClipSkin(photo_texture(*first, others, size=size), iris)
