"""Rows of published tables, to stand beside ours: median, mean, std in millimetres unless said otherwise."""

from __future__ import annotations

Row = tuple[float, float, float]

NOW_ROWS: dict[str, Row] = {
    "TokenFace (paper)": (0.76, 0.95, 0.82),
    "FlowFace, single view": (0.87, 1.07, 0.88),
    "MICA": (0.90, 1.11, 0.92),
    "Dense Landmarks": (1.02, 1.28, 1.08),
    "DECA": (1.09, 1.38, 1.18),
    "Deep3DFaceRecon, PyTorch": (1.11, 1.41, 1.21),
    "RingNet": (1.21, 1.53, 1.31),
    "FLAME 2020 template": (1.21, 1.53, 1.31),
    "Deep3DFaceRecon, TensorFlow": (1.23, 1.54, 1.29),
    "3DDFA-v2": (1.23, 1.57, 1.39),
    "SynergyNet": (1.27, 1.59, 1.31),
    "MGCNet": (1.31, 1.87, 2.63),
    "PRNet": (1.50, 1.98, 1.88),
    "3DMM-CNN": (1.84, 2.33, 2.05),
}
"""NoW, non-metrical, test split [TokenFace Table 2, all 13 rows; FlowFace's was published later]."""

NOW_METRICAL_ROWS: dict[str, Row] = {
    "TokenFace (paper)": (0.97, 1.24, 1.07),
    "MICA": (1.08, 1.37, 1.17),
    "Dense Landmarks": (1.36, 1.73, 1.47),
    "DECA": (1.35, 1.80, 1.64),
    "FLAME 2020 template": (1.49, 1.92, 1.68),
    "RingNet": (1.50, 1.98, 1.77),
    "3DDFA-v2": (1.53, 2.06, 1.95),
    "Deep3DFaceRecon, PyTorch": (1.62, 2.21, 2.08),
    "MGCNet": (1.70, 2.47, 3.02),
    "SynergyNet": (2.28, 2.86, 2.39),
    "Deep3DFaceRecon, TensorFlow": (2.26, 2.90, 2.51),
    "3DMM-CNN": (3.91, 4.84, 4.02),
}
"""NoW, metrical, test split [Table 2, which has no numbers for PRNet]."""

STIRLING_ROWS: dict[str, Row] = {
    "TokenFace (paper)": (0.88, 0.95, 0.96),
    "MICA": (0.92, 1.16, 1.04),
    "Deep3DFaceRecon, PyTorch": (0.99, 1.27, 1.15),
    "DECA": (1.03, 1.32, 1.18),
    "Deep3DFaceRecon, TensorFlow": (1.13, 1.43, 1.25),
    "RingNet": (1.15, 1.46, 1.27),
    "FLAME 2020 template": (1.22, 1.55, 1.35),
    "3DDFA-v2": (1.20, 1.55, 1.45),
}
"""Stirling [Table 3]. By which rule is not said there; NoW's is likely."""

TEMPLATE_RATIO = {"NoW, non-metrical": 0.63, "NoW, metrical": 0.65}
"""TokenFace's median over the FLAME template's: the yardstick that needs no common scans."""
