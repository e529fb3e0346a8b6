"""A procedural painter of human faces: each draw is one person's albedo, made of many independent factors.

Everything is painted in CIELAB at the texels' places on the head (distances in metres), so the layout does not
matter. The factors' spreads are chosen close to normal where that is possible, because their principal components
are later drawn from a normal distribution.
"""

from __future__ import annotations

import numpy as np

from tokenface.head.build.appearance_colour import BLOOD, skin_colour
from tokenface.head.build.appearance_texels import Canvas
from tokenface.head.build.regions import hairline

PATTERN_SEED = 68
"""Seed of the fixed patterns (mottling, freckles, moles) that draws mix."""
_IRIS_RADIUS = 0.2  # of the eye's width between the corners: 5.9 mm in 30 mm
_HAIR = np.array(  # black, dark brown, brown, blond, red, grey in CIELAB
    [[11, 1, 1], [17, 5, 6], [26, 8, 12], [46, 8, 22], [34, 17, 24], [52, 0, 3]], np.float32
)
_IRIS = np.array(  # dark brown, brown, hazel, green, blue, grey in CIELAB
    [[15, 7, 8], [25, 11, 17], [36, 7, 22], [42, -4, 16], [47, -3, -13], [52, -1, -4]], np.float32
)


class Painter:
    """Paints persons on a canvas; `draw` gives one person's CIELAB values, [N, 3] float32."""

    def __init__(self, canvas: Canvas):
        self.canvas = canvas
        self.x = np.abs(canvas.points[:, 0])
        self.y = canvas.points[:, 1]
        self.z = canvas.points[:, 2]
        part = canvas.part
        self.skin = (part["skin"] | part["left_socket"] | part["right_socket"]).astype(np.float32)
        self._fixed_masks()
        self._eye_angles()
        self._fixed_patterns()

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        g = generator
        lightness = float(np.clip(60 + 11.5 * g.standard_normal(), 24, 81))
        fair = float(np.clip((lightness - 38) / 30, 0, 1))  # 0 dark … 1 fair
        age = float(g.random())
        hair = self._hair_colour(g, fair, age)
        man = g.random() < 0.5
        melanin, blood, tint = self._skin_fields(g, fair, age)
        lab = skin_colour(lightness - melanin)
        lab += np.array([0, 1.0, 1.2], np.float32) * g.standard_normal(3).astype(np.float32) * (0.6 + 0.4 * fair)
        lab += (blood * (0.35 + 0.65 * fair))[:, None] * BLOOD.astype(np.float32)
        lab += tint
        lab = self._lips(g, lab, fair, man)
        lab = self._creases(g, lab, age)
        lab = self._eye_surroundings(g, lab, fair, age, man)
        lab = self._hair(g, lab, hair, man)
        lab = self._cavities(g, lab, fair)
        return self._eyes(g, lab, fair, age)

    # ---------------------------------------------------------------- fixed masks

    def _fixed_masks(self) -> None:
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
        level = _step(self.y, jaw[1] + 0.012, 0.004) * _step(a["nasion"][1] + 0.025 - self.y, 0, 0.004)
        self.ear = behind * out * level * skin
        self.neck = _step(jaw[1] - 0.004 - self.y, 0, 0.008) * _step(a["chin"][2] - 0.012 - self.z, 0, 0.01) * skin
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
        self.upper_lip = _step(self.y, self._mouth_line(), 0.0008)
        # beard: below a line from the ear to the corner of the mouth, plus moustache, fading on the throat
        line = np.interp(
            self.z,
            [jaw[2] - 0.004, jaw[2] + 0.02, corner[2] + 0.002],
            [a["temple"][1] - 0.012, corner[1] + 0.008, corner[1] + 0.002],
        )
        cheeks = _step(line - self.y, 0, 0.006) * _step(self.z, jaw[2] - 0.002, 0.006)
        throat = _step(self.y, a["chin"][1] - 0.022, 0.008) * _step(self.y, jaw[1] - 0.032, 0.006)
        moustache = _step(base[1] - 0.002 - 0.25 * self.x - self.y, 0, 0.0025) * _step(self.y, corner[1] - 0.004, 0.005)
        moustache *= _step(corner[0] * 1.08 - self.x, 0, 0.005) * _step(self.z, corner[2] - 0.012, 0.003)
        moustache *= 0.55 + 0.45 * np.clip(self.x / 0.004, 0, 1)  # thinner in the philtrum
        bald = 1 - self._blob(a["lip_bottom"] + [0.012, -0.004, 0], (0.005, 0.004, 0.02))
        self.jaw_beard = cheeks * throat * (1 - self.canvas.lips) * bald * skin * (1 - self.ear)
        self.moustache = moustache * (1 - self.canvas.lips) * skin
        self.scalp_height = hairline(self.canvas.points, a)
        self.sun = _step(self.y, jaw[1] - 0.01, 0.02) * np.clip(0.5 + (self.z - wing[2] + 0.04) / 0.06, 0, 1)

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

    def _fixed_patterns(self) -> None:
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

    # ---------------------------------------------------------------- factors of one person

    def _hair_colour(self, g: np.random.Generator, fair: float, age: float) -> np.ndarray:
        likely = [1.6 - fair, 1.4, 0.2 + 0.9 * fair, 0.02 + 0.5 * fair**2, 0.02 + 0.15 * fair**2, 0.02]
        weight = g.dirichlet(np.array(likely) * 1.5)
        grey = 0.8 * max(age - 0.6, 0) / 0.4 * g.random()
        return ((weight @ _HAIR) * (1 - grey) + _HAIR[5] * grey).astype(np.float32)

    def _skin_fields(
        self, g: np.random.Generator, fair: float, age: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Extra melanin (steps of L*), blood (units of BLOOD) and a free CIELAB tint, over the canvas."""
        n = g.standard_normal
        melanin = 2.2 * self.sun * n() + 1.2 * self.forehead * n() + (2.0 + 2.0 * n()) * self.neck
        melanin = melanin + (1.6 + 1.6 * n()) * self.around_mouth * (1.3 - fair)
        melanin = melanin + 0.45 * np.tensordot(n(len(self.mottle)), self.mottle, 1) + 0.3 * n() * self.grain
        strength = np.clip(1.2 + 1.0 * n(), 0, 3.5) * (0.25 + 0.75 * fair)
        melanin = melanin + strength * np.tensordot(1 + 0.5 * n(2), self.freckles, 1)
        melanin = melanin + 6 * max(age - 0.4, 0) * np.tensordot(1 + 0.4 * n(2), self.spots, 1)
        melanin = melanin + np.tensordot(np.clip(2.5 + 2 * n(len(self.moles)), 0, 9), self.moles, 1)
        blood = (3.0 + 3.0 * n()) * self.cheek + (2.5 + 2.2 * n()) * self.nose_tip + (2.5 + 2.0 * n()) * self.nose_wing
        blood = blood + (3.0 + 2.5 * n()) * self.ear + (1.0 + 1.5 * n()) * self.chin + 1.5 * n() * self.forehead
        blood = blood + 0.35 * np.tensordot(n(len(self.mottle)), self.mottle, 1) + 0.4 * n() * self.grain
        tint = np.zeros((len(self.x), 3), np.float32)
        tint[:, 2] = 0.3 * np.tensordot(n(len(self.mottle)), self.mottle, 1)
        rouge = max(0.0, -0.6 + n())
        tint += (rouge * self.cheek)[:, None] * np.array([-2.0, 6.0, 0.5], np.float32)
        return melanin.astype(np.float32), blood.astype(np.float32), tint

    def _lips(self, g: np.random.Generator, lab: np.ndarray, fair: float, man: bool) -> np.ndarray:
        n = g.standard_normal
        step = np.array([-7.0 - 2 * fair + 3.5 * n(), 4.0 + 6.5 * fair + 2.8 * n(), -3.0 + 1.6 * n()], np.float32)
        paint = not man and g.random() < 0.5
        if paint:
            step += g.uniform(0.1, 0.8) * np.array([-6 + 4 * n(), 11 + 5 * n(), 1 + 4 * n()], np.float32)
        crisp = self.canvas.lips ** (0.8 if paint else 1.3)
        difference = 2.0 + 1.5 * n()  # the upper lip is darker in most people
        lab = lab + crisp[:, None] * step
        lab[:, 0] -= difference * crisp * self.upper_lip
        lab[:, 0] -= (9 + 3 * n()) * self.lip_line
        return lab

    def _creases(self, g: np.random.Generator, lab: np.ndarray, age: float) -> np.ndarray:
        """Shading hints of wrinkles: forehead lines, crow's feet, nasolabial folds."""
        a = self.canvas.anchor
        n = g.standard_normal
        depth = max(age - 0.25, 0) * (1 + 0.3 * n())
        height = (self.y - a["nasion"][1] - 0.040 + 3.0 * self.x**2 * 4) / 0.0095
        lines = np.maximum(np.cos(2 * np.pi * height), 0) ** 6 * (np.abs(height) < 1.75)
        lines = lines * self._blob(a["nasion"] + [0, 0.040, 0], (0.026, 0.02, 0.05)) * self.skin
        wing, corner = a["nose_wing"] + [0.006, 0.006, 0], a["mouth_corner"] + [0.009, -0.004, 0]
        along = np.clip((self.y - wing[1]) / (corner[1] - wing[1]), 0, 1)
        fold_x = wing[0] + (corner[0] - wing[0]) * along + 0.003 * np.sin(np.pi * along)
        within = _step(wing[1] + 0.001 - self.y, 0, 0.002) * _step(self.y, corner[1] - 0.004, 0.004)
        fold = np.exp(-0.5 * ((self.x - fold_x) / 0.0017) ** 2) * within * (self.z > corner[2] - 0.03) * self.skin
        outer = a["eye_outer"]
        dx, dy = self.x - outer[0] - 0.001, self.y - outer[1]
        reach = np.hypot(dx, dy)
        feet = np.maximum(np.cos(np.arctan2(dy, dx) * 9), 0) ** 3 * (dx > 0.002)
        feet = feet * np.exp(-0.5 * ((reach - 0.011) / 0.006) ** 2) * (self.z > outer[2] - 0.03) * self.skin
        lab[:, 0] -= 8 * depth * g.random() * lines
        lab[:, 0] -= (1.5 + 8 * depth * g.random()) * fold
        lab[:, 0] -= 6 * depth * g.random() * feet
        return lab

    def _eye_surroundings(
        self, g: np.random.Generator, lab: np.ndarray, fair: float, age: float, man: bool
    ) -> np.ndarray:
        n = g.standard_normal
        circles = 2.5 + 2.2 * n() + 1.5 * age
        lab = lab + (circles * self.under_eye)[:, None] * np.array([-1.0, 0.25, -0.55 - 0.2 * fair], np.float32)
        lab += (2.5 + 1.5 * n()) * self.inner_corner[:, None] * np.array([-1.0, 0.6, -0.2], np.float32)
        lab += (2.0 + 1.8 * n()) * self.upper_lid[:, None] * np.array([-1.0, 0.5, -0.25], np.float32)
        lab[:, 0] -= (5 + 4 * n()) * self.lid_fold
        if not man and g.random() < 0.4:  # eye shadow: brown, grey, violet
            tone = np.array([-9 + 4 * n(), 2 + 4 * n(), -4 + 5 * n()], np.float32)
            lab += np.clip(self.upper_lid * 1.2, 0, 1)[:, None] * tone
        liner = 0.0 if man else max(0.0, 0.2 + n())
        reach = 0.0021 * (1 + 0.25 * min(liner, 1.5))
        upper = (0.62 + 0.12 * n() + 0.2 * liner) * np.exp(-0.5 * (self.canvas.rim_upper / reach) ** 4)
        lower = (0.25 + 0.09 * n() + 0.15 * liner) * np.exp(-0.5 * (self.canvas.rim_lower / 0.0016) ** 4)
        dark = np.array([13, 4, 5], np.float32)
        lash = np.clip(np.maximum(upper, lower), 0, 0.95)[:, None] * self.skin[:, None]
        # the wet edge of the lower lid and the corner by the nose are pink
        socket = self.canvas.part["left_socket"] | self.canvas.part["right_socket"]
        wet = np.exp(-0.5 * (self.canvas.rim_lower / 0.0012) ** 2) * socket
        pink = np.array([58, 20, 12], np.float32)
        lab = lab * (1 - 0.6 * wet[:, None]) + pink * 0.6 * wet[:, None]
        return lab * (1 - lash) + dark * lash

    def _hair(self, g: np.random.Generator, lab: np.ndarray, hair: np.ndarray, man: bool) -> np.ndarray:
        n = g.standard_normal
        brow = self._brow(g)
        brow_colour = hair * np.array([0.9, 0.9, 0.9], np.float32) + np.array([2, 1, 1], np.float32) * n()
        lab = lab * (1 - brow[:, None]) + brow_colour * brow[:, None]
        # shaved or short beard: hair colour seen through skin, bluish where it is only a shadow
        amount = np.clip((0.18 if man else 0.06) + 0.06 * n(), 0, 0.5)
        balance = np.clip(1 + 0.3 * n(), 0.2, 1.7)
        beard = np.clip(amount * (self.jaw_beard + balance * self.moustache), 0, 0.85)
        beard = beard * (1 + 0.06 * self.grain)
        target = hair * 0.85 + np.array([4, 0, -2], np.float32)
        lab = lab * (1 - beard[:, None]) + target * beard[:, None]
        # cropped hair or its shadow on the scalp, with a soft, personal hairline
        height = self.scalp_height + 0.003 * n() + 0.003 * self.mottle[8]
        cover = np.clip(0.42 + 0.15 * n(), 0, 0.95) * _step(height, 0.004, 0.006) * (1 - self.ear) * self.skin
        cover = cover * (1 + 0.06 * self.grain)
        return lab * (1 - cover[:, None]) + hair * cover[:, None]

    def _brow(self, g: np.random.Generator) -> np.ndarray:
        n = g.standard_normal
        a = self.canvas.anchor
        knots = np.stack([a[name] for name in ("brow_inner", "brow_second", "brow_peak", "brow_fourth", "brow_outer")])
        curve = np.polynomial.Polynomial.fit(knots[:, 0], knots[:, 1], 2)
        inner, outer = knots[0, 0] - 0.003, knots[-1, 0] + 0.002
        s = (self.x - inner) / (outer - inner)
        middle = curve(np.clip(self.x, inner, outer + 0.004)) - 0.0022 + 0.0006 * n()
        middle = middle + 0.0007 * n() * 4 * s * (1 - s) + 0.0008 * n() * (s - 0.5)
        half = (0.0041 + 0.0005 * n()) * (1 - 0.62 * np.clip(s, 0, 1) ** 1.8)
        start, stop = 0.03 * n(), 1.0 + 0.04 * n()
        soft = 0.0011 + 0.0003 * abs(n())
        mask = _step(half - np.abs(self.y - middle), 0, soft) * _step(s, start, 0.035) * _step(stop - s, 0, 0.05)
        bridge = max(0.0, -1.2 + n()) * np.exp(-0.5 * (s / 0.2) ** 2) * (s < 0.1)
        mask = mask + 0.4 * bridge * _step(half - np.abs(self.y - middle), 0, soft)
        density = np.clip(0.72 + 0.12 * n(), 0.2, 0.97)
        return np.clip(density * mask * (1 + 0.16 * self.streaks), 0, 0.97) * (self.z > knots[-1, 2] - 0.02) * self.skin

    def _cavities(self, g: np.random.Generator, lab: np.ndarray, fair: float) -> np.ndarray:
        """Nostrils, mouth, teeth, tongue and the depth of the eye sockets."""
        n = g.standard_normal
        part, a = self.canvas.part, self.canvas.anchor
        dark = np.clip((0.72 + 0.08 * n()) * self.nostril, 0, 0.95)[:, None]
        lab = lab * (1 - dark) + np.array([9, 9, 6], np.float32) * dark
        depth = np.clip((a["stomion"][2] - self.z) / 0.045, 0, 1)
        flesh = np.array([36.0, 24, 12], np.float32) + np.array([3, 3, 2], np.float32) * n(3).astype(np.float32)
        shade = np.array([1.0, 0.8, 0.8], np.float32)
        fade = (1 - 0.85 * depth**0.7)[:, None]
        lips_at_rim = lab[self.canvas.lips > 0.6].mean(0)
        inner = np.clip(1 - depth / 0.12, 0, 1)[:, None]
        mouth = (flesh * (1 - inner) + (lips_at_rim * [0.75, 1, 1]) * inner) * (shade * fade + (1 - shade))
        lab = np.where(part["mouth"][:, None], mouth, lab)
        tongue = (np.array([47, 23, 12], np.float32) + 2 * n(3)) * (1 - 0.6 * depth)[:, None]
        lab = np.where(part["tongue"][:, None], tongue, lab)
        white = np.array([80 + 3 * n(), 1.5 + n(), 13 + 4 * n()]) * (1 - 0.45 * depth)[:, None]
        lab = np.where((part["upper_teeth"] | part["lower_teeth"])[:, None], white, lab)
        socket = part["left_socket"] | part["right_socket"]
        deep = np.clip(np.minimum(self.canvas.rim_upper, self.canvas.rim_lower) / 0.006, 0, 1)[:, None]
        inside = np.array([30, 20, 12], np.float32)
        return np.where(socket[:, None], lab * (1 - 0.85 * deep) + inside * 0.85 * deep, lab).astype(np.float32)

    def _eyes(self, g: np.random.Generator, lab: np.ndarray, fair: float, age: float) -> np.ndarray:
        n = g.standard_normal
        rare = [0.08 + 0.4 * fair, 0.01 + 0.25 * fair**2, 0.01 + 0.55 * fair**2, 0.01 + 0.3 * fair**2]
        weight = g.dirichlet([1.6 - fair, 1.0, *rare])
        iris = weight @ _IRIS + np.array([2, 1, 1.5]) * n(3)
        white = np.array([75 - 4 * (1 - fair) - 3 * age + 2.5 * n(), 3 + 1.2 * n(), 4 + 3 * age + 2.0 * n()])
        pupil = self.iris_radius * (0.33 + 0.06 * n())
        limbus = 0.45 + 0.15 * n()
        radius = self.iris_radius * (1 + 0.02 * n())
        unit = self.iris_radius / 0.0059
        for side in ("left", "right"):
            own = self.canvas.part[f"{side}_eye"]
            distance, around = self.eye_polar[side]
            inside = distance / radius
            spokes = 1 + 0.10 * np.cos(around * 17 + 3 * np.cos(around * 5)) * np.clip(inside - 0.4, 0, 1)
            tone = iris * np.stack([spokes * (1.12 - 0.18 * inside), spokes, spokes], axis=-1).clip(0.5, 1.5)
            ring = limbus * np.exp(-0.5 * ((inside - 0.97) / 0.10) ** 2)[:, None]
            tone = tone * (1 - ring * [1, 0.6, 0.6])
            hole = _step(pupil - distance, 0, 0.0004 * unit)[:, None]
            tone = tone * (1 - hole) + np.array([4, 1, 1]) * hole
            # veins and the shadow of the lids towards the rim of what shows
            edge = np.clip((distance / unit - 0.0095) / 0.005, 0, 1)[:, None]
            lid = np.clip(distance * np.sin(around) / radius + 0.1, 0, 1.2)[:, None]  # the upper lid's shadow
            sclera = white + edge * np.array([-9, 7, 3]) - lid * np.array([9, 0, 0])
            border = _step(radius - distance, 0, 0.0007 * unit)[:, None]
            lab[own] = tone * border + sclera * (1 - border)
        return lab.astype(np.float32)


def _step(value: np.ndarray, threshold: float | np.ndarray, softness: float) -> np.ndarray:
    """Smooth step from 0 to 1 around a threshold, as wide as ± 2 softness."""
    return 1 / (1 + np.exp(-np.clip((value - threshold) / softness * 2, -30, 30)))
