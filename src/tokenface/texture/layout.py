"""Texels of a head model's UV layout: surface point and kind of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from scipy.sparse import csr_matrix

from tokenface.head.data import HeadData
from tokenface.head.registration import SOCKETS, Layers, landmarks68
from tokenface.render.raster_arrays import rasterize_arrays


@dataclass(frozen=True, eq=False)
class Texels:
    """N covered texels of an R × R map.

    covered: [R, R] bool.  corners: [N, 3] vertices.  weights: [N, 3] float32, they sum to 1.
    """

    data: HeadData
    covered: np.ndarray
    corners: np.ndarray
    weights: np.ndarray

    @staticmethod
    def of(data: HeadData, size: int) -> Texels:
        """Every texel whose centre a triangle of the layout covers. size: R."""
        uv = np.asarray(data.uv, np.float32)
        flat = np.column_stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1], np.zeros(len(uv), np.float32)])
        fragments = rasterize_arrays(flat[None], data.uv_faces, size, size)
        corners = np.asarray(data.faces)[fragments.pixel_triangles]
        return Texels(data, fragments.mask[0], corners, fragments.pixel_barycentrics)

    @cached_property
    def kinds(self) -> dict[str, np.ndarray]:
        """[N] float32 in [0, 1] each: `surface_kinds`, interpolated."""
        kinds = surface_kinds(self.data)
        return dict(zip(kinds, self.at(np.stack(list(kinds.values()), axis=1)).T, strict=True))

    @property
    def size(self) -> int:
        return len(self.covered)

    def at(self, values: np.ndarray, mirrored: bool = False) -> np.ndarray:
        """[V, C] at the vertices → [N, C] float32; mirrored: at the same place on the other side of the head."""
        values = np.ascontiguousarray(values, np.float32)
        return self.matrix @ (values[self.data.mirror] if mirrored else values)

    @cached_property
    def matrix(self) -> csr_matrix:
        """[N, V] float32: interpolation from vertices to texels."""
        count = len(self.corners)
        starts = np.arange(0, 3 * count + 1, 3, dtype=np.int32)
        return csr_matrix(
            (self.weights.ravel(), self.corners.ravel().astype(np.int32), starts), (count, len(self.data.template))
        )

    @cached_property
    def presence(self) -> np.ndarray:
        """[V] texels' worth of each vertex's surroundings."""
        return np.asarray(self.matrix.sum(0)).ravel()

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
        mass = self.matrix.T @ share.astype(np.float32)
        total = self.matrix.T @ (values * share[:, None]).astype(np.float32)
        return total / mass[:, None].clip(1e-9), mass / self.presence.clip(1e-9)

    def enlarged(self, values: np.ndarray, finer: Texels) -> np.ndarray:
        """[N] of this map → [M] of a finer map of the same head."""
        if finer is self:
            return values
        image = self.padded(self.map(values)[..., None])[..., 0]
        return cv2.resize(image, (finer.size, finer.size), interpolation=cv2.INTER_LINEAR)[finer.covered]

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
    """[V] bool each: skin (outer), mouth (teeth too), teeth, eyes, sockets, scalp, face, ears, beard, features,
    lips, brows, middle, neck."""
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
        "teeth": layers.teeth,
        "eyes": layers.left_eye | layers.right_eye,
        "sockets": sockets,
        "scalp": named("scalp") & ~face,
        "face": face & layers.skin,
        "ears": named("ears", "left_ear", "right_ear"),
        "beard": face & layers.skin & low,
        "features": named("nose", "lips", "brows"),
        "lips": named("lips"),
        "brows": named("brows"),
        "neck": named("neck", "boundary") & layers.skin & ~face,
        "middle": named("nose", "cheeks", "chin") & (np.abs(data.template[:, 0]) < np.abs(points[[36, 45], 0]).mean()),
    }
