"""Photos of people into 3-D heads.

model = tokenface.load()
faces = model.reconstruct("photo.jpg")
faces[0].save("me.glb")
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from tokenface.core.threads import wait_asleep
from tokenface.moved import keep_former_paths
from tokenface.version import __version__ as __version__

if TYPE_CHECKING:
    import torch

    from tokenface.errors import TokenFaceError
    from tokenface.head import HeadData, HeadModel
    from tokenface.head.registry import load_head
    from tokenface.inference.blending import blend
    from tokenface.inference.face import Face
    from tokenface.inference.people import group_people
    from tokenface.inference.refinement import RefineOptions
    from tokenface.inference.result import PhotoResult
    from tokenface.model import Reconstructor
    from tokenface.network.tokenface import TokenFace
    from tokenface.video.face import TrackedFace, TrackedFrame

wait_asleep()  # before anything loads torch
keep_former_paths()


__all__ = [
    "Face",
    "HeadData",
    "HeadModel",
    "PhotoResult",
    "Reconstructor",
    "RefineOptions",
    "TokenFace",
    "TokenFaceError",
    "TrackedFace",
    "TrackedFrame",
    "blend",
    "group_people",
    "load",
    "load_head",
]

_HOMES = {
    "Face": "tokenface.inference.face",
    "HeadData": "tokenface.head",
    "HeadModel": "tokenface.head",
    "PhotoResult": "tokenface.inference.result",
    "Reconstructor": "tokenface.model",
    "RefineOptions": "tokenface.inference.refinement",
    "TokenFace": "tokenface.network.tokenface",
    "TokenFaceError": "tokenface.errors",
    "TrackedFace": "tokenface.video.face",
    "TrackedFrame": "tokenface.video.face",
    "blend": "tokenface.inference.blending",
    "group_people": "tokenface.inference.people",
    "load_head": "tokenface.head.registry",
}


def load(
    name: str | os.PathLike | None = None,
    device: str | torch.device = "auto",
    runtime: str = "auto",
    precision: str = "fp32",
) -> Reconstructor:
    """A network with its head model, ready for photos.

    Args:
        name: weights by name, or the path of a checkpoint. None: `$TOKENFACE_WEIGHTS`, else the shipped default.
        device: "auto" (CUDA, Apple's MPS, CPU, whichever is there), or a device by name.
        runtime: "auto": on a GPU torch, on the CPU the fastest that is installed (`docs/deploy.md`). "torch"; "onnx" or
            "openvino" (extra `deploy`), on the CPU.
        precision: "fp32", or "bf16" (torch, openvino), "fp16" or "int8" (onnx, openvino).
    Raises:
        CheckpointError: no such weights, unreadable, or made for another head model.
        TokenFaceError: the device is not available.
    """
    from tokenface.model import Reconstructor

    return Reconstructor.load(name, device, runtime, precision)


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import: `import tokenface` and `tokenface --help` should not wait for it.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tokenface' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
