"""Network: component tokens through a vision transformer, one head per component."""

from typing import TYPE_CHECKING, Any

from tokenface.network.config import NetworkConfig, mean_camera
from tokenface.parameters import COMPONENTS, TOKEN_LAYOUTS, ComponentSizes, FaceParameters

if TYPE_CHECKING:
    from tokenface.network.tokenface import NetworkOutput, TokenFace

__all__ = [
    "COMPONENTS",
    "TOKEN_LAYOUTS",
    "ComponentSizes",
    "FaceParameters",
    "NetworkConfig",
    "NetworkOutput",
    "TokenFace",
    "mean_camera",
]


def __getattr__(name: str) -> Any:
    if name in ("NetworkOutput", "TokenFace"):  # the configuration is read without torch
        from tokenface.network import tokenface

        return getattr(tokenface, name)
    raise AttributeError(f"module 'tokenface.network' has no attribute '{name}'")
