"""Network: component tokens through a vision transformer, one head per component."""

from tokenface.network.config import NetworkConfig, mean_camera
from tokenface.network.tokenface import NetworkOutput, TokenFace
from tokenface.parameters import COMPONENTS, TOKEN_LAYOUTS, ComponentSizes, FaceParameters

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
