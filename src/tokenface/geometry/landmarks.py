"""iBUG-68 landmark scheme: groups, mirror, pairs; 0-based, left and right are the subject's."""

from __future__ import annotations

GROUPS68: dict[str, range] = {
    "jaw": range(0, 17),
    "right_brow": range(17, 22),
    "left_brow": range(22, 27),
    "nose_bridge": range(27, 31),
    "nose_base": range(31, 36),
    "right_eye": range(36, 42),
    "left_eye": range(42, 48),
    "outer_lips": range(48, 60),
    "inner_lips": range(60, 68),
}
"""Points 0–16 run along the jaw from the subject's right ear (x < 0) to the left."""

MIRROR68: tuple[int, ...] = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46),
    *(39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)
"""Where each point goes when a picture is mirrored: `points[list(MIRROR68)]`."""

LID_PAIRS: tuple[tuple[int, int], ...] = ((37, 41), (38, 40), (43, 47), (44, 46))
"""Upper and lower lid points of Eq. 7."""

LIP_PAIRS: tuple[tuple[int, int], ...] = ((61, 67), (62, 66), (63, 65))
"""Upper and lower inner lip points of Eq. 7."""

NOW7: tuple[int, ...] = (36, 39, 42, 45, 33, 48, 54)
"""The seven points of the NoW protocol: eye corners right to left, nose bottom, mouth corners."""

MEDIAPIPE_TO_IBUG68: tuple[int, ...] = (
    *(127, 234, 93, 215, 172, 136, 150, 176, 152, 400, 379, 365, 397, 435, 323, 454, 356),
    *(70, 63, 105, 66, 107),
    *(336, 296, 334, 293, 300),
    *(6, 197, 5, 4),
    *(75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144),
    *(362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)
"""For each iBUG point the face-mesh point of MediaPipe's 468 that lies nearest to where annotators put it: chosen over
900 labelled photos, mirror pairs together, a common shift of the labels taken out."""
