"""Surfaces of a photo round a reconstructed face, at the photo's own edges."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from tokenface.images.crop import Crop, extract
from tokenface.inference.face import Face
from tokenface.segmentation.network import CLASSES, SIDE, ZOOM, SegmentationNetwork, load_network

FINE = 384
"""Pixels of the map that is brought to the photo's edges."""
RADIUS, EPSILON = 6, 2e-3
"""Of the guided filter, in pixels of that map and squared grey levels of 1."""

SURE, ENOUGH = 0.85, 0.01
"""Probability from which a pixel tells the colour of its class, and share of the square that must."""


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Probabilities [classes, P, P] float32 over a square of the photo; outside of it nothing is known (background).
    pixels: [P, P, 3] float32 sRGB of the same square."""

    crop: Crop
    probabilities: np.ndarray
    pixels: np.ndarray

    def colour(self, name: str) -> np.ndarray | None:
        """[3] sRGB in [0, 1], the median of what is surely of this class; None where hardly anything is."""
        sure = self.probabilities[CLASSES.index(name)] > SURE
        return np.median(self.pixels[sure], axis=0) if sure.mean() > ENOUGH else None

    def at(self, points: np.ndarray, *names: str) -> np.ndarray:
        """Photo pixels [N, 2] → [N] probability that one of the named classes is there."""
        chosen = self.probabilities[[CLASSES.index(name) for name in names]].sum(0)
        side = chosen.shape[0]
        place = ((self.crop.to_ndc(np.asarray(points, np.float64)) + 1) * (side / 2) - 0.5).astype(np.float32)
        found = np.empty(len(place), np.float32)
        rows = 32_000  # cv2.remap's longest side
        for start in range(0, len(place), rows):
            part = place[start : start + rows, None]
            found[start : start + rows] = cv2.remap(
                chosen, part[..., 0], part[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
            )[:, 0]
        return found


@torch.inference_mode()
def segment(face: Face, photo: np.ndarray, network: SegmentationNetwork | None = None) -> Surfaces:
    """What the photo shows round the face.

    The network sees a small crop and its mirror image; a guided filter [He, Sun and Tang, 2010] then moves the edges
    to where the photo has them.

    Args:
        photo: [H, W, 3] uint8 RGB.
    """
    network = network or load_network()
    crop = face.crop.scaled(ZOOM)
    small = extract(photo, [crop], SIDE)
    logits = (network(small) + network(small.flip(-1)).flip(-1)) / 2
    coarse = logits.softmax(1)[0].numpy()
    guide = extract(photo, [crop], FINE)[0].permute(1, 2, 0).numpy()
    fine = np.stack([_guided(guide.mean(-1), cv2.resize(plane, (FINE, FINE))) for plane in coarse]).clip(0, 1)
    return Surfaces(crop, (fine / fine.sum(0).clip(1e-6)).astype(np.float32), guide)


def _guided(guide: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[P, P] values as a locally linear function of the guide."""

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(image, -1, (2 * RADIUS + 1, 2 * RADIUS + 1), borderType=cv2.BORDER_REFLECT)

    middle, level = mean(guide), mean(values)
    slope = (mean(guide * values) - middle * level) / (mean(guide * guide) - middle * middle + EPSILON)
    return mean(slope) * guide + mean(level - slope * middle)
