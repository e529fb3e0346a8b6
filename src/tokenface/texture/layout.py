"""Texels of a head model's texture layout: which place of the head each one is, and what kind of surface."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from tokenface.head.data import HeadData
from tokenface.head.registration import SOCKETS, Layers, landmarks68
from tokenface.render.rasterizer import rasterize


@dataclass(frozen=True, eq=False)
class Texels:
    """N covered texels of an R × R map.

    covered: [R, R] bool.  corners: [N, 3] vertices.  weights: [N, 3] float32, they sum to 1.
    skin: [N] bool, the head's outer surface, which photos may paint; eyes, sockets and the mouth's inside are not.
    mouth: [N] bool.  scalp, face, ears, beard, features: [N] float32 in [0, 1]; beard: where one grows.
    features: nose, lips and brows, dark places of their own.
    """

    data: HeadData
    covered: np.ndarray
    corners: np.ndarray
    weights: np.ndarray
    skin: np.ndarray
    mouth: np.ndarray
    scalp: np.ndarray
    face: np.ndarray
    ears: np.ndarray
    beard: np.ndarray
    features: np.ndarray

    @staticmethod
    def of(data: HeadData, size: int) -> Texels:
        """Every texel whose centre a triangle of the layout covers. size: R."""
        uv = np.asarray(data.uv, np.float32)
        flat = np.column_stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1], np.zeros(len(uv), np.float32)])
        fragments = rasterize(torch.from_numpy(flat)[None], torch.from_numpy(np.array(data.uv_faces)), size, size)
        triangle = fragments.triangle_ids[0].numpy()
        covered = triangle >= 0
        corners = np.asarray(data.faces)[triangle[covered]]
        weights = fragments.pixel_barycentrics.numpy().astype(np.float32)
        kinds = surface_kinds(data)

        def on(values: np.ndarray) -> np.ndarray:
            return np.einsum("nk,nk->n", values.astype(np.float32)[corners], weights)

        return Texels(
            data,
            covered,
            corners,
            weights,
            skin=on(kinds["skin"]) > 0.99,
            mouth=on(kinds["mouth"]) > 0.5,
            scalp=on(kinds["scalp"]),
            face=on(kinds["face"]),
            ears=on(kinds["ears"]),
            beard=on(kinds["beard"]),
            features=on(kinds["features"]),
        )

    @property
    def size(self) -> int:
        return len(self.covered)

    def at(self, values: np.ndarray, mirrored: bool = False) -> np.ndarray:
        """[V, C] at the vertices → [N, C] float32; mirrored: at the same place on the other side of the head."""
        values = np.asarray(values, np.float32)
        if mirrored:
            values = values[self.data.mirror]
        total = values[self.corners[:, 0]] * self.weights[:, :1]
        for k in (1, 2):
            total += values[self.corners[:, k]] * self.weights[:, k : k + 1]
        return total

    def map(self, values: np.ndarray) -> np.ndarray:
        """[N, …] → [R, R, …] float32, zeros where no texel is."""
        image = np.zeros((*self.covered.shape, *values.shape[1:]), np.float32)
        image[self.covered] = values
        return image

    def to_vertices(self, values: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means of texel values [N, C] at the vertices they lie by, weighted by share [N].

        Returns:
            [V, C] means, and [V] how much of each vertex's surroundings had a share.
        """
        count = len(self.data.template)
        mass, there = np.zeros(count), np.zeros(count)
        total = np.zeros((count, values.shape[1]))
        for k in range(3):
            weight = self.weights[:, k] * share
            corner = self.corners[:, k]
            there += np.bincount(corner, self.weights[:, k], count)
            mass += np.bincount(corner, weight, count)
            for c in range(values.shape[1]):
                total[:, c] += np.bincount(corner, weight * values[:, c], count)
        return total / mass[:, None].clip(1e-9), mass / there.clip(1e-9)

    def padded(self, image: np.ndarray) -> np.ndarray:
        """[R, R, C] with every texel that nothing covers taking the nearest covered one's colour."""
        _, labels = cv2.distanceTransformWithLabels(
            (~self.covered).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        place = np.zeros(labels.max() + 1, np.int64)
        place[labels[self.covered]] = np.flatnonzero(self.covered)
        flat = image.reshape(-1, image.shape[-1])
        return np.where(self.covered[..., None], image, flat[place[labels]])


def surface_kinds(data: HeadData) -> dict[str, np.ndarray]:
    """[V] bool each: skin (outer), mouth (teeth too), eyes, sockets, scalp, face, ears, beard, features,
    middle (of the face, where hair hardly ever is)."""
    layers, count = Layers.of(data), len(data.template)

    def named(*names: str) -> np.ndarray:
        inside = np.zeros(count, bool)
        for name in names:
            inside[data.regions.get(name, np.empty(0, int))] = True
        return inside

    sockets = named(*SOCKETS) & layers.skin
    face = np.zeros(count, bool)
    vertices = data.face_vertices()
    face[slice(None) if vertices is None else vertices] = True
    points = landmarks68(data)
    low = (data.template[:, 1] < points[33, 1]) & (np.abs(data.template[:, 0]) < np.abs(points[[3, 13], 0]).mean())
    return {
        "skin": layers.skin & ~sockets,
        "mouth": layers.mouth | layers.teeth,
        "eyes": layers.left_eye | layers.right_eye,
        "sockets": sockets,
        "scalp": named("scalp") & ~face,
        "face": face & layers.skin,
        "ears": named("ears", "left_ear", "right_ear"),
        "beard": face & layers.skin & low,
        "features": named("nose", "lips", "brows"),
        "middle": named("nose", "cheeks", "chin") & (np.abs(data.template[:, 0]) < np.abs(points[[36, 45], 0]).mean()),
    }


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 at low, 1 at high, smooth between; low may be the larger."""
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)
