"""Fixed fields of the albedo painter: cheeks, beard, wrinkles, and the patterns that draws mix."""

from __future__ import annotations

import numpy as np

from tokenface.tools.openhead.appearance_texels import Canvas
from tokenface.tools.openhead.regions import hairline

PATTERN_SEED = 68
"""Seed of the fixed patterns (mottling, freckles, moles) that draws mix."""
_IRIS_RADIUS = 0.2  # of the eye's width between the corners: 5.9 mm in 30 mm


class Fields:
    """Scalar fields over the N texels of a canvas, float32; distances in metres on the neutral head."""

    def __init__(self, canvas: Canvas):
        self.canvas = canvas
        self.x = np.abs(canvas.points[:, 0])
        self.y = canvas.points[:, 1]
        self.z = canvas.points[:, 2]
        part = canvas.part
        self.skin = (part["skin"] | part["left_socket"] | part["right_socket"]).astype(np.float32)
        self.places = {  # indices of the texels that are not skin
            "mouth": np.flatnonzero(part["mouth"]),
            "tongue": np.flatnonzero(part["tongue"]),
            "teeth": np.flatnonzero(part["upper_teeth"] | part["lower_teeth"]),
            "sockets": np.flatnonzero(part["left_socket"] | part["right_socket"]),
        }
        self._masks()
        self._eye_angles()
        self._patterns()
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, value.astype(np.float32))

    def _masks(self) -> None:
        a = self.canvas.anchor
        eye = (a["eye_inner"] + a["eye_outer"]) / 2
        skin = self.skin
        corner, wing, base, jaw = a["mouth_corner"], a["nose_wing"], a["subnasale"], a["jaw_angle"]
        cheek = np.array([eye[0] * 1.35, a["nose_tip"][1] - 0.002, wing[2] - 0.018])
        self.cheek = self._blob(cheek, (0.017, 0.013, 0.02)) * skin
        self.nose_tip = self._blob(a["nose_tip"] - [0, 0.004, 0.004], (0.013, 0.011, 0.014)) * skin
        self.nose_wing = self._blob(wing + np.array([0.002, 0.004, 0]), (0.006, 0.007, 0.008)) * skin
        self.chin = self._blob(a["chin"] + [0, 0.014, 0.004], (0.014, 0.011, 0.015)) * skin
        self.forehead = self._blob(a["nasion"] + [0, 0.045, -0.008], (0.04, 0.022, 0.03)) * skin
        behind = np.clip((a["temple"][2] - 0.004 - self.z) / 0.012, 0, 1)
        out = np.clip((self.x - a["temple"][0] - 0.001) / 0.006, 0, 1)
        level = step(self.y, jaw[1] + 0.012, 0.004) * step(a["nasion"][1] + 0.025 - self.y, 0, 0.004)
        self.ear = behind * out * level * skin
        self.neck = step(jaw[1] - 0.004 - self.y, 0, 0.008) * step(a["chin"][2] - 0.012 - self.z, 0, 0.01) * skin
        under = eye - [0.002, 0.0105, 0]
        self.under_eye = self._blob(under, (0.0115, 0.0042, 0.012)) * skin
        self.inner_corner = self._blob(a["eye_inner"] + [-0.002, -0.002, 0], (0.005, 0.006, 0.008)) * skin
        self.upper_lid = self._blob(eye + np.array([0.001, 0.0085, 0]), (0.0135, 0.0048, 0.012)) * skin
        self.lid_fold = self._blob(eye + np.array([0.002, 0.0125, 0]), (0.0125, 0.0012, 0.02)) * skin
        mouth = a["stomion"]
        self.around_mouth = self._blob(mouth - [0, 0.001, 0], (0.023, 0.016, 0.02)) * skin * (1 - self.canvas.lips)
        self.philtrum = self._blob((base + a["lip_top"]) / 2, (0.009, 0.006, 0.01)) * skin
        nostril = np.array([wing[0] * 0.56, base[1] + 0.0025, base[2] - 0.0035])
        self.nostril = (
            np.exp(
                -0.5
                * (
                    (
                        (self.canvas.points * [0, 1, 1] + self.x[:, None] * [1, 0, 0] - nostril)
                        / [0.0032, 0.0030, 0.0042]
                    )
                    ** 2
                ).sum(1)
            )
            * skin
        )
        self.lip_line = np.exp(-0.5 * ((self.y - self._mouth_line()) / 0.0009) ** 2) * self.canvas.lips
        self.upper_lip = step(self.y, self._mouth_line(), 0.0008)
        # beard: below a line from the ear to the corner of the mouth, plus moustache, fading on the throat
        line = np.interp(
            self.z,
            [jaw[2] - 0.004, jaw[2] + 0.02, corner[2] + 0.002],
            [a["temple"][1] - 0.012, corner[1] + 0.008, corner[1] + 0.002],
        )
        cheeks = step(line - self.y, 0, 0.006) * step(self.z, jaw[2] - 0.002, 0.006)
        throat = step(self.y, a["chin"][1] - 0.022, 0.008) * step(self.y, jaw[1] - 0.032, 0.006)
        moustache = step(base[1] - 0.002 - 0.25 * self.x - self.y, 0, 0.0025) * step(self.y, corner[1] - 0.004, 0.005)
        moustache *= step(corner[0] * 1.08 - self.x, 0, 0.005) * step(self.z, corner[2] - 0.012, 0.003)
        moustache *= 0.55 + 0.45 * np.clip(self.x / 0.004, 0, 1)  # thinner in the philtrum
        bald = 1 - self._blob(a["lip_bottom"] + [0.012, -0.004, 0], (0.005, 0.004, 0.02))
        self.jaw_beard = cheeks * throat * (1 - self.canvas.lips) * bald * skin * (1 - self.ear)
        self.moustache = moustache * (1 - self.canvas.lips) * skin
        self.scalp_height = hairline(self.canvas.points, a)
        self.sun = step(self.y, jaw[1] - 0.01, 0.02) * np.clip(0.5 + (self.z - wing[2] + 0.04) / 0.06, 0, 1)
        depth = np.clip((a["stomion"][2] - self.z) / 0.045, 0, 1)
        self.mouth_depth = depth
        self._wrinkles()

    def _wrinkles(self) -> None:
        a = self.canvas.anchor
        height = (self.y - a["nasion"][1] - 0.040 + 3.0 * self.x**2 * 4) / 0.0095
        lines = np.maximum(np.cos(2 * np.pi * height), 0) ** 6 * (np.abs(height) < 1.75)
        self.forehead_lines = lines * self._blob(a["nasion"] + [0, 0.040, 0], (0.026, 0.02, 0.05)) * self.skin
        wing, corner = a["nose_wing"] + [0.006, 0.006, 0], a["mouth_corner"] + [0.009, -0.004, 0]
        along = np.clip((self.y - wing[1]) / (corner[1] - wing[1]), 0, 1)
        fold_x = wing[0] + (corner[0] - wing[0]) * along + 0.003 * np.sin(np.pi * along)
        within = step(wing[1] + 0.001 - self.y, 0, 0.002) * step(self.y, corner[1] - 0.004, 0.004)
        self.nasolabial = (
            np.exp(-0.5 * ((self.x - fold_x) / 0.0017) ** 2) * within * (self.z > corner[2] - 0.03) * self.skin
        )
        outer = a["eye_outer"]
        dx, dy = self.x - outer[0] - 0.001, self.y - outer[1]
        reach = np.hypot(dx, dy)
        feet = np.maximum(np.cos(np.arctan2(dy, dx) * 9), 0) ** 3 * (dx > 0.002)
        self.crows_feet = feet * np.exp(-0.5 * ((reach - 0.011) / 0.006) ** 2) * (self.z > outer[2] - 0.03) * self.skin

    def _blob(self, centre: np.ndarray, radii: tuple[float, float, float]) -> np.ndarray:
        """Mirror-symmetric Gaussian around a point given for the left side (or the midline)."""
        return np.exp(
            -0.5
            * (
                ((self.x - abs(centre[0])) / radii[0]) ** 2
                + ((self.y - centre[1]) / radii[1]) ** 2
                + ((self.z - centre[2]) / radii[2]) ** 2
            )
        ).astype(np.float32)

    def _mouth_line(self) -> np.ndarray:
        a = self.canvas.anchor
        return np.interp(self.x, [0, a["mouth_corner"][0]], [a["stomion"][1], a["mouth_corner"][1]])

    def _patterns(self) -> None:
        g = np.random.default_rng(PATTERN_SEED)
        self.mottle = np.stack([self._noise(g, 0.035) for _ in range(8)] + [self._noise(g, 0.014) for _ in range(6)])
        self.grain = self._noise(g, 0.0018)
        self.streaks = self._noise(g, 0.0022)
        where = np.clip(self.cheek * 1.3 + self.nose_tip + 0.25 * self.forehead + 0.12, 0, 1)
        self.freckles = np.stack([self._dots(g, 260, 0.0011, where) for _ in range(2)])
        self.spots = np.stack([self._dots(g, 40, 0.0030, np.clip(1.2 - where, 0.2, 1) * self.skin) for _ in range(2)])
        self.moles = np.stack([self._dots(g, 5, 0.0015, self.skin) for _ in range(5)])

    def _noise(self, g: np.random.Generator, length: float) -> np.ndarray:
        """A smooth random field of unit variance over the head, with the given correlation length in metres."""
        frequency = g.standard_normal((96, 3)) / length
        phase = g.uniform(0, 2 * np.pi, 96)
        field = np.cos(self.canvas.points.astype(np.float64) @ frequency.T + phase).sum(1) * np.sqrt(2 / 96)
        return (field * self.skin).astype(np.float32)

    def _dots(self, g: np.random.Generator, count: int, radius: float, where: np.ndarray) -> np.ndarray:
        """Round soft dots at random skin texels of the front of the head, denser where `where` is high."""
        front = (self.skin > 0) & (self.z > self.canvas.anchor["jaw_angle"][2]) & (self.canvas.lips < 0.1)
        chance = np.where(front, where, 0).astype(np.float64)
        chosen = g.choice(len(chance), count, replace=False, p=chance / chance.sum())
        result = np.zeros(len(chance), np.float32)
        for index in chosen:
            square = ((self.canvas.points - self.canvas.points[index]) ** 2).sum(1)
            size = radius * g.uniform(0.6, 1.4)
            result = np.maximum(result, g.uniform(0.4, 1) * np.exp(-0.5 * square / size**2))
        return result * self.skin

    def _eye_angles(self) -> None:
        """Distance from the optical axis (metres) and the angle around it, for the texels of each eye."""
        a = self.canvas.anchor
        self.iris_radius = _IRIS_RADIUS * float(a["eye_outer"][0] - a["eye_inner"][0])
        self.eye_polar = {}
        for side in ("left", "right"):
            centre, axis, radius = self.canvas.eyes[side]
            direction = self.canvas.points[self.canvas.part[f"{side}_eye"]] - centre
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            right = np.cross([0.0, 1.0, 0.0], axis)
            right /= np.linalg.norm(right)
            up = np.cross(axis, right)
            polar = np.arccos(np.clip(direction @ axis, -1, 1))
            distance = np.where(polar < np.pi / 2, np.sin(polar), 1.0) * radius
            outward = direction @ right * (1 if side == "left" else -1)
            self.eye_polar[side] = (distance, np.arctan2(direction @ up, outward))


def step(value: np.ndarray, threshold: float | np.ndarray, softness: float) -> np.ndarray:
    """Smooth step from 0 to 1 around a threshold, as wide as ± 2 softness."""
    return 1 / (1 + np.exp(-np.clip((value - threshold) / softness * 2, -30, 30)))
