"""Network configuration, as stored in checkpoints."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tokenface.core.configuration import from_dict
from tokenface.errors import ConfigError
from tokenface.parameters import TOKEN_LAYOUTS

if TYPE_CHECKING:
    from torch import Tensor

Readout = Literal["tokens", "global"]

MAX_IMAGE_SIZE = 1024
"""Beyond this attention over the patches takes more memory than it brings."""

AMBIENT_LIGHT = math.sqrt(4 * math.pi)
"""Coefficient of the constant SH band whose shading is 1 everywhere (band constant 1/√(4π))."""


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of `TokenFace`; sizes of the components come from the head model, not from here.

    Every output is `mean + scale · FC(token)`: with scales of the size of each component's real spread a freshly
    initialised network starts near the mean head and leaves the first plateau in a few hundred steps.

    The paper's tokens start at 0. LayerNorm then meets zero variance and divides by √ε: the first gradient is finite,
    but 100 to 400 times that of tokens of std 0.5 (measured on the tiny ViTs), and the tokens, equal to each other, get
    nearly parallel gradients (cosines above 0.999), so they part slowly. `token_positions` parts them from the start
    and brings the gradient down 7 to 28 times, with the zeros kept.
    """

    backbone: str = "vit_tiny_stem"  # a name of `backbone.list_backbones()`
    image_size: int = 160  # pixels of the square crop; a multiple of the backbone's stride
    tokens: int = 6  # 1, 3, 5 or 6: a key of TOKEN_LAYOUTS (Table 4)
    readout: Readout = "tokens"  # "global": all heads read the class token or pooled map (Table 1)
    token_std: float = 0.5  # 0: the paper's zero tokens
    token_positions: bool = False  # a learned position per token, std 0.02; parts zero tokens from the first step
    token_entry: int = 0  # block in front of which the tokens join the patches; 0: the paper's
    drop_path: float = 0.0  # stochastic depth, rising linearly over the blocks
    shape_scale: float = 0.4
    expression_scale: float = 0.4
    jaw_scale: float = 0.1
    camera_scale: float = 0.15  # of rotation and translation; of scale, as a fraction of its mean
    texture_scale: float = 0.4
    light_scale: float = 0.4
    camera_mean: tuple[float, ...] = (7.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # see `mean_camera`
    expression_mean: tuple[float, ...] | None = None  # None: 0, the neutral face
    ambient_light: float = AMBIENT_LIGHT  # mean of the constant band, each of R, G and B
    landmark_uncertainty: bool = True  # also predict log sigma of each of the 68 landmarks
    log_sigma_mean: float = -3.0  # crop NDC; e⁻³ ≈ 0.05
    closeups: int = 0  # blocks in which the tokens read close-ups of eyes and mouth; 0: none (see closeup)
    recognition: bool = False  # the close-ups include a face recognition network's maps
    label_sources: tuple[str, ...] = ()  # data sets whose annotators' biases are learned apart (see labels)
    surface_cells: int = 0  # per side of each patch, that say which point of the head they show; 0: none (see surface)

    def __post_init__(self) -> None:
        if self.tokens not in TOKEN_LAYOUTS:
            raise ConfigError(f"network.tokens must be one of {sorted(TOKEN_LAYOUTS)} (Table 4), got {self.tokens!r}")
        if self.readout not in ("tokens", "global"):
            raise ConfigError(f"network.readout must be 'tokens' or 'global', got {self.readout!r}")
        if self.readout == "global" and self.tokens != 1:
            raise ConfigError(f"network.readout 'global' has one token; set network.tokens to 1, got {self.tokens}")
        if not 16 <= self.image_size <= MAX_IMAGE_SIZE:
            raise ConfigError(f"network.image_size must be 16 to {MAX_IMAGE_SIZE} pixels, got {self.image_size}")
        if not 0 <= self.closeups <= 12:
            raise ConfigError(f"network.closeups must be 0 to 12 blocks, got {self.closeups}")
        if self.closeups and self.readout == "global":
            raise ConfigError("network.closeups are read by component tokens; set network.readout to 'tokens'")
        if self.token_entry and self.readout == "global":
            raise ConfigError("network.token_entry is of component tokens; set network.readout to 'tokens'")
        if self.recognition and not self.closeups:
            raise ConfigError("network.recognition is a part of the close-ups; set network.closeups to 1 or more")
        if not 0 <= self.surface_cells <= 16:
            raise ConfigError(f"network.surface_cells must be 0 to 16, got {self.surface_cells}")
        if len(self.camera_mean) != 7 or self.camera_mean[0] <= 0:
            raise ConfigError(
                "network.camera_mean must be 7 numbers [s, rx, ry, rz, tx, ty, tz] with s > 0, "
                f"got {list(self.camera_mean)}"
            )

    @staticmethod
    def from_dict(values: dict[str, Any]) -> NetworkConfig:
        """Plain values (JSON, YAML) to a configuration.

        Raises:
            ConfigError: an unknown key or an impossible value.
        """
        return from_dict(NetworkConfig, values, "network.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and YAML; `from_dict` inverts it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    def replace(self, **changes: Any) -> NetworkConfig:
        return dataclasses.replace(self, **changes)


def mean_camera(landmarks: Tensor, crop_scale: float) -> tuple[float, ...]:
    """The camera that shows the mean head, seen from the front, as the crop protocol frames it.

    Args:
        landmarks: [68, 3] iBUG points of the mean head, metres, head space.
        crop_scale: side of the crop over the mean of the landmark box's width and height (1.375 for the test
            crop 1.1 × 1.25, the middle of the range in training).
    Returns:
        The 7 numbers of `NetworkConfig.camera_mean`; the middle of the landmark box is the middle of the crop.
    """
    low, high = landmarks[:, :2].amin(0), landmarks[:, :2].amax(0)
    side = float((high - low).mean()) * crop_scale
    scale = 2.0 / side
    x, y = (-scale * (low + high) / 2).tolist()
    return (scale, 0.0, 0.0, 0.0, x, y, 0.0)
