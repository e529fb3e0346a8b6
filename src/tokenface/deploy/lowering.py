"""Fewer bits: what the precisions of exported files are called, and how an fp32 file becomes one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from tokenface.deploy.eight_bits import eight_bit_storage, eight_bits
from tokenface.deploy.half_precision import half_precision

PRECISIONS = ("fp32", "fp16", "int8")


def lowered(full: Path, path: Path, precision: str, pictures: Callable[[], Tensor] | None) -> Path:
    """An fp32 ONNX file as another one of a precision of PRECISIONS, which for fp32 is the file itself.

    Args:
        pictures: draws what int8 networks are calibrated on, [N, 3, H, W]; None: there is no network in the graph.
    """
    if precision == "fp32":
        return full
    if precision == "fp16":
        return half_precision(full, path, networks=pictures is not None)
    return eight_bit_storage(full, path) if pictures is None else eight_bits(full, path, pictures())
