"""Regions that face parsing tells apart, and the size of its pictures."""

REGIONS = ("background", "skin", "eyes", "mouth", "hair", "hat", "glasses", "clothes", "object")
"""In the order of their labels. skin: face, ears, neck, beards and brows. mouth: what an open one shows. glasses:
frames and lenses that hide what is behind them. object: hands and things before the face."""
BACKGROUND, SKIN, EYES, MOUTH, HAIR, HAT, GLASSES, CLOTHES, OBJECT = range(len(REGIONS))
SIZE = 192
"""Side of the pictures, pixels."""
