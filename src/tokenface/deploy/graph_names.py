"""Inputs, outputs, files and precisions of exported graphs."""

from __future__ import annotations

from tokenface.errors import ConfigError
from tokenface.parameters import COMPONENTS

CROPS = "crops"
"""Input of the network: [B, 3, S, S] float32, RGB in [0, 1]."""
EXTRAS = ("log_sigma", "tokens")
OUTPUTS = (*COMPONENTS, *EXTRAS)
"""Outputs of the network, as in `FaceParameters` and `NetworkOutput`."""
HEAD_INPUTS = ("shape", "expression", "jaw")
VERTICES = "vertices"
"""Output of the head: [B, V, 3], metres."""

SUFFIX = {"onnx": "onnx", "openvino": "xml"}
"""Runtime → suffix of its files."""
PRECISIONS = ("fp32", "fp16", "int8")
"""Of exported files."""
RUNTIME_PRECISIONS = {"torch": ("fp32", "bf16"), "onnx": PRECISIONS, "openvino": (*PRECISIONS, "bf16")}
AUTO = "auto"
"""The fastest runtime that is installed."""


def check_precision(runtime: str, precision: str) -> None:
    """Raises ConfigError unless the runtime computes so."""
    if runtime not in RUNTIME_PRECISIONS:
        raise ConfigError(f"runtime '{runtime}' is unknown; choose {', '.join((AUTO, *RUNTIME_PRECISIONS))}")
    if precision not in RUNTIME_PRECISIONS[runtime]:
        raise ConfigError(
            f"runtime '{runtime}' has no precision '{precision}'; choose {', '.join(RUNTIME_PRECISIONS[runtime])}"
        )


def arithmetic(runtime: str, precision: str) -> str:
    """What results depend on: in fp32 all runtimes give the same numbers."""
    return "fp32" if precision == "fp32" else f"{runtime} {precision}"
