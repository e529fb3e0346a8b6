"""Procedural painter of human albedo: each draw is one person, made of many independent factors, in CIELAB.

Skin reflectance lies close to one curve from fair to dark, the melanin axis; blood moves a point off it (redder and
darker). The curve's knots follow group means that published spectrophotometry of facial skin agrees on: very fair
skin near L* 74, a* 9, b* 14; fair and medium skin L* 68–56, a* 11–13, b* 15–20; brown skin L* 48–40, a* 12, b* 17–19;
very dark skin L* 30, a* 9, b* 10. The individual typology angle atan((L* − 50)/b*) then runs from about 60° to −65°.
The knots' a* is two to three units above those means, because cameras render skin redder than instruments measure it.

Everything is painted in CIELAB at the texels' places on the head (distances in metres), so the layout does not
matter. The factors' spreads are chosen close to normal where that is possible, because their principal components
are later drawn from a normal distribution.
"""

from __future__ import annotations

import numpy as np

from tokenface.tools.openhead.appearance_fields import Fields, step

_LIGHTNESS = np.array([14.0, 22.0, 28.0, 34.0, 41.0, 48.0, 55.0, 62.0, 68.0, 74.0, 82.0])
_REDNESS = np.array([5.0, 8.2, 10.6, 12.6, 14.4, 15.4, 15.4, 14.4, 13.0, 11.0, 8.5])
_YELLOWNESS = np.array([3.5, 6.5, 9.4, 12.6, 16.2, 18.6, 19.2, 17.8, 15.9, 13.8, 11.0])

BLOOD = np.array([-0.45, 1.0, 0.12])
"""CIELAB step of one unit of extra haemoglobin: a* rises by one, L* falls."""


def skin_colour(lightness: np.ndarray) -> np.ndarray:
    """Points of the melanin axis: L* [...] → CIELAB [..., 3]."""
    lightness = np.asarray(lightness, dtype=np.float32)
    return np.stack(
        [
            lightness,
            np.interp(lightness, _LIGHTNESS, _REDNESS),
            np.interp(lightness, _LIGHTNESS, _YELLOWNESS),
        ],
        axis=-1,
    ).astype(np.float32)


_HAIR = np.array(  # black, dark brown, brown, blond, red, grey in CIELAB
    [[11, 1, 1], [17, 5, 6], [26, 8, 12], [46, 8, 22], [34, 17, 24], [52, 0, 3]], np.float32
)
_IRIS = np.array(  # dark brown, brown, hazel, green, blue, grey in CIELAB
    [[15, 7, 8], [25, 11, 17], [36, 7, 22], [42, -4, 16], [47, -3, -13], [52, -1, -4]], np.float32
)


class Painter(Fields):
    """Paints persons on a canvas; `draw` gives one person's CIELAB values, [N, 3] float32."""

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
        n = g.standard_normal
        depth = max(age - 0.25, 0) * (1 + 0.3 * n())
        lab[:, 0] -= 8 * depth * g.random() * self.forehead_lines
        lab[:, 0] -= (1.5 + 8 * depth * g.random()) * self.nasolabial
        lab[:, 0] -= 6 * depth * g.random() * self.crows_feet
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
        reach = 0.0015 * (1 + 0.25 * min(liner, 1.5))
        upper = (0.62 + 0.12 * n() + 0.2 * liner) * np.exp(-0.5 * (self.canvas.rim_upper / reach) ** 4)
        lower = (0.25 + 0.09 * n() + 0.15 * liner) * np.exp(-0.5 * (self.canvas.rim_lower / 0.0011) ** 4)
        dark = np.array([13, 4, 5], np.float32)
        lash = np.clip(np.maximum(upper, lower), 0, 0.95)[:, None] * self.skin[:, None]
        # the wet edge of the lower lid and the corner by the nose are pink
        below = self.canvas.rim_lower < self.canvas.rim_upper
        wet = np.clip(2 * self.canvas.lid_margin, 0, 1) * below * self.skin
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
        cover = np.clip(0.42 + 0.15 * n(), 0, 0.95) * step(height, 0.004, 0.006) * (1 - self.ear) * self.skin
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
        mask = step(half - np.abs(self.y - middle), 0, soft) * step(s, start, 0.035) * step(stop - s, 0, 0.05)
        bridge = max(0.0, -1.2 + n()) * np.exp(-0.5 * (s / 0.2) ** 2) * (s < 0.1)
        mask = mask + 0.4 * bridge * step(half - np.abs(self.y - middle), 0, soft)
        density = np.clip(0.72 + 0.12 * n(), 0.2, 0.97)
        return np.clip(density * mask * (1 + 0.16 * self.streaks), 0, 0.97) * (self.z > knots[-1, 2] - 0.02) * self.skin

    def _cavities(self, g: np.random.Generator, lab: np.ndarray, fair: float) -> np.ndarray:
        """Nostrils, mouth, teeth, tongue and the depth of the eye sockets."""
        n = g.standard_normal
        dark = np.clip((0.72 + 0.08 * n()) * self.nostril, 0, 0.95)[:, None]
        lab = lab * (1 - dark) + np.array([9, 9, 6], np.float32) * dark
        depth = self.mouth_depth[:, None]
        flesh = np.array([36.0, 24, 12]) + np.array([3, 3, 2]) * n(3)
        lips = lab[self.canvas.lips > 0.6].mean(0) * [0.75, 1, 1]
        own = self.places["mouth"]
        inner = np.clip(1 - depth[own] / 0.12, 0, 1)
        fade = 1 - 0.85 * depth[own] ** 0.7
        lab[own] = (flesh * (1 - inner) + lips * inner) * np.concatenate([fade, 0.2 + 0.8 * fade, 0.2 + 0.8 * fade], 1)
        own = self.places["tongue"]
        lab[own] = (np.array([47, 23, 12]) + 2 * n(3)) * (1 - 0.6 * depth[own])
        own = self.places["teeth"]
        lab[own] = np.array([72 + 3 * n(), 2 + n(), 12 + 4 * n()]) * (1 - 0.45 * depth[own])
        own = self.places["sockets"]
        deep = (
            0.85
            * np.clip((np.minimum(self.canvas.rim_upper, self.canvas.rim_lower)[own] - 0.004) / 0.006, 0, 1)[:, None]
        )
        lab[own] = lab[own] * (1 - deep) + np.array([30, 20, 12]) * deep
        return lab

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
            hole = step(pupil - distance, 0, 0.0004 * unit)[:, None]
            tone = tone * (1 - hole) + np.array([4, 1, 1]) * hole
            # veins and the shadow of the lids towards the rim of what shows
            edge = np.clip((distance / unit - 0.0095) / 0.005, 0, 1)[:, None]
            lid = np.clip(distance * np.sin(around) / radius + 0.1, 0, 1.2)[:, None]  # the upper lid's shadow
            sclera = white + edge * np.array([-9, 7, 3]) - lid * np.array([9, 0, 0])
            border = step(radius - distance, 0, 0.0007 * unit)[:, None]
            lab[own] = tone * border + sclera * (1 - border)
        return lab.astype(np.float32)
