"""The camera of a refinement: perspective of any strength around a pivot, orthographic in the limit.

A pinhole camera of focal length f that sees the pivot at distance Z projects `q = R (X − pivot)` (x right, y up, z
towards the viewer) to `c + (s q_xy + u − c) / (1 − k q_z)` with `s = f / Z` and `k = 1 / Z`: c is the principal point
and u where the pivot appears. k = 0 is the paper's scaled-orthographic camera, without a case of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

LIMIT = 0.05
"""Least `1 − k q_z`: a point is not taken to be nearer to the lens than a twentieth of the face's distance."""
UNKNOWNS = 6
"""Turn (3, radians, about the camera's axes), log scale, place of the pivot (2)."""


@dataclass(frozen=True)
class View:
    """One view of a face; lengths on the picture in crop NDC with y up.

    rotation: [3, 3] head space to camera space.  scale: s, half-widths per metre at the pivot.  place: u [2].
    pivot: [3] metres, head space.  focal: f, half-widths; None: orthographic.  principal: c [2].
    """

    rotation: np.ndarray
    scale: float
    place: np.ndarray
    pivot: np.ndarray
    focal: float | None = None
    principal: np.ndarray | None = None

    @property
    def nearness(self) -> float:
        """k, one over the distance of the pivot from the lens along the axis, 1/metres."""
        return 0.0 if self.focal is None else self.scale / self.focal

    @property
    def distance(self) -> float:
        """Metres along the optical axis from the lens to the pivot; infinite for an orthographic view."""
        return np.inf if self.focal is None else self.focal / self.scale

    def project(self, points: np.ndarray) -> np.ndarray:
        """[N, 3] metres, head space → [N, 2] crop NDC, y up."""
        _, across, shrink = self._seen(points)
        return self._centre + across / shrink[:, None]

    def derivatives(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the projected points: by their head-space place [N, 2, 3] and by the view's own unknowns [N, 2, 6]."""
        q, across, shrink = self._seen(points)
        k, d = self.nearness, shrink[:, None]
        by_q = np.zeros((len(q), 2, 3))
        by_q[:, 0, 0] = by_q[:, 1, 1] = self.scale / shrink
        by_q[:, :, 2] = k * across / d**2
        own = np.zeros((len(q), 2, UNKNOWNS))
        for axis, turned in enumerate(np.eye(3)):
            own[:, :, axis] = np.einsum("nij,nj->ni", by_q, np.cross(turned, q))
        own[:, :, 3] = self.scale * q[:, :2] / d + k * q[:, 2:] * across / d**2
        own[:, 0, 4] = own[:, 1, 5] = 1 / shrink
        return by_q @ self.rotation, own

    def moved(self, step: np.ndarray) -> View:
        """By a step of the six unknowns; large turns and scalings are cut."""
        turn = Rotation.from_rotvec(np.clip(step[:3], -0.5, 0.5)).as_matrix()
        scale = self.scale * float(np.exp(np.clip(step[3], -0.5, 0.5)))
        return replace(self, rotation=turn @ self.rotation, scale=scale, place=self.place + step[4:6])

    def difference(self, other: View) -> np.ndarray:
        """[6]: the step that leads from `other` to this view (both around the same pivot)."""
        turn = Rotation.from_matrix(self.rotation @ other.rotation.T).as_rotvec()
        return np.concatenate([turn, [np.log(self.scale / other.scale)], self.place - other.place])

    @property
    def _centre(self) -> np.ndarray:
        return np.zeros(2) if self.principal is None else self.principal

    def _seen(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        q = (points - self.pivot) @ self.rotation.T
        return q, self.scale * q[:, :2] + self.place - self._centre, np.maximum(1 - self.nearness * q[:, 2], LIMIT)
