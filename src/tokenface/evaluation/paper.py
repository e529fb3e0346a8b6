"""Rows of published tables, to stand beside ours: median, mean, std in millimetres unless said otherwise."""

from __future__ import annotations

NOW_ROWS: dict[str, tuple[float, float, float]] = {
    "TokenFace (paper)": (0.76, 0.95, 0.82),
    "FlowFace, single view": (0.87, 1.07, 0.88),
    "MICA": (0.90, 1.11, 0.92),
    "Dense Landmarks": (1.02, 1.28, 1.08),
    "DECA": (1.09, 1.38, 1.18),
    "Deep3D-PyTorch": (1.11, 1.41, 1.21),
    "FLAME template": (1.21, 1.53, 1.31),
}
"""NoW, non-metrical, test split [TokenFace Tables 2 and 3; FlowFace]."""

NOW_METRICAL_ROWS: dict[str, tuple[float, float, float]] = {
    "TokenFace (paper)": (0.97, 1.24, 1.07),
    "MICA": (1.08, 1.37, 1.17),
    "FLAME template": (1.49, 1.92, 1.68),
}
"""NoW, metrical, test split."""

TEMPLATE_RATIO = {"NoW, non-metrical": 0.63, "NoW, metrical": 0.65}
"""TokenFace's median over the FLAME template's: the yardstick that needs no common scans."""
