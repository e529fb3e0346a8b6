"""Expressions that a button of the page sets, and what the two sides of a face have in common."""

from __future__ import annotations

from tokenface.head.arkit import ARKIT_NAMES


def _both(**weights: float) -> dict[str, float]:
    """smile=0.9 → smileLeft and smileRight."""
    return {name + side: weight for name, weight in weights.items() for side in ("Left", "Right")}


PRESETS: dict[str, dict[str, float]] = {
    "Relaxed": {},
    "Smile": _both(mouthSmile=0.9, cheekSquint=0.5, eyeSquint=0.25, mouthDimple=0.2, mouthUpperUp=0.1),
    "Surprise": {
        **_both(browOuterUp=0.8, eyeWide=0.8),
        "browInnerUp": 0.9,
        "jawOpen": 0.5,
        "mouthFunnel": 0.15,
    },
    "Blink": _both(eyeBlink=1.0),
    "Look aside": {"eyeLookOutLeft": 0.8, "eyeLookInRight": 0.8},
}
"""Weights of the whole expression; what is not named is at rest."""
ONE_WAY = ("jawLeft", "mouthLeft")
"""Jaw and mouth move to one side at a time."""
CROSSED = {"eyeLookInLeft": "eyeLookOutRight", "eyeLookOutLeft": "eyeLookInRight"}
"""Eyes look one way: turned aside, one looks out and the other one in."""
PAIRS = tuple(
    (name, CROSSED.get(name, name.removesuffix("Left") + "Right"))
    for name in ARKIT_NAMES
    if name.endswith("Left") and name not in ONE_WAY
)
"""Actions of the left and the right half of a face that go together."""
