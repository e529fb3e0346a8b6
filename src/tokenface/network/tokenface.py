"""TokenFace (Sec. 3.1, Fig. 3): an image and learnable component tokens in, the parameters of a face out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tokenface.errors import ConfigError
from tokenface.network.backbone import Features, ResNet50, VisionTransformer, create_backbone
from tokenface.network.closeup import CloseUps
from tokenface.network.config import NetworkConfig
from tokenface.network.heads import ComponentHeads, SurfaceMap
from tokenface.network.labels import LabelOffsets
from tokenface.parameters import TOKEN_LAYOUTS, ComponentSizes, FaceParameters

torch.export.register_dataclass(FaceParameters, serialized_type_name="tokenface.FaceParameters")


class NetworkOutput(NamedTuple):
    """parameters: of every face.  log_sigma: [B, 68] log standard deviation of the landmarks in crop NDC, or None.
    tokens: [B, T, D] the component tokens after the last block, for temporal models.  surface: `SurfaceMap`'s, or
    None where the network has none or it was not asked for.  anchors: [B, 5, 2] of the close-ups, or None."""

    parameters: FaceParameters
    log_sigma: Tensor | None
    tokens: Tensor
    surface: Tensor | None = None
    anchors: Tensor | None = None


class TokenFace(nn.Module):
    """The network of the paper, with the backbone and token layout of its configuration.

    Args:
        config: see `NetworkConfig`.
        sizes: of the components, from the head model (`HeadModel.sizes`).
        seed: of the fresh weights; None: torch's global generator. The global generator is left as it was.
    Raises:
        ConfigError: a backbone, size or layout that does not exist or does not go together.
    """

    def __init__(self, config: NetworkConfig, sizes: ComponentSizes, seed: int | None = None):
        super().__init__()
        self.config, self.sizes = config, sizes
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self._build()

    def _build(self) -> None:
        config = self.config
        self.backbone: VisionTransformer | ResNet50 = create_backbone(
            config.backbone, config.image_size, config.drop_path, config.token_entry
        )
        if isinstance(self.backbone, ResNet50) and config.readout != "global":
            raise ConfigError("network.backbone 'resnet50' has no tokens; set network.readout to 'global', tokens to 1")
        self.component_tokens: nn.Parameter | None = None
        self.token_positions: nn.Parameter | None = None
        if config.readout == "tokens":
            shape = (config.tokens, self.backbone.width)
            self.component_tokens = nn.Parameter(torch.randn(shape) * config.token_std)
            if config.token_positions:
                self.token_positions = nn.Parameter(torch.randn(shape) * 0.02)
        self.closeups = self._close_ups() if config.closeups else None
        self.labels = LabelOffsets(config.label_sources) if config.label_sources else None
        self.heads = ComponentHeads(config, self.sizes, self.backbone.width)
        self.surface = SurfaceMap(self.backbone.width, config.surface_cells) if config.surface_cells else None

    def _close_ups(self) -> CloseUps:
        from tokenface.identity.recognition import load_recognition

        config, backbone = self.config, self.backbone
        assert isinstance(backbone, VisionTransformer)
        shape_token = next(i for i, group in enumerate(TOKEN_LAYOUTS[config.tokens]) if "shape" in group)
        recognition = load_recognition() if config.recognition else None
        return CloseUps(backbone.width, backbone.spec.heads, config.tokens, config.closeups, shape_token, recognition)

    def forward(self, images: Tensor) -> FaceParameters:
        """Images [B, 3, S, S], RGB in [0, 1] → parameters."""
        return self.heads(self.tokens(images))[0]

    def forward_with_extras(self, images: Tensor, surface: bool = False) -> NetworkOutput:
        """As `forward`, with the landmarks' uncertainty, the tokens and, on request, the surface map."""
        tokens, anchors, features = self._features(images)
        parameters, log_sigma = self.heads(tokens)
        drawn = self.surface(features.patches) if surface and self.surface is not None else None
        return NetworkOutput(parameters, log_sigma, tokens, drawn, anchors)

    def tokens(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] → [B, T, D] component tokens, as the heads read them; T = 1 for readout 'global'."""
        return self._features(images)[0]

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor | None, Features]:
        """Component tokens, anchors of the close-ups, and what the backbone says.

        images: crops, or [B, P, D] what the backbone's `before_tokens` said of them (without close-ups).
        """
        if self.component_tokens is None:
            features = self._backbone(images)
            return features.pooled[:, None], None, features
        tokens: Tensor = self.component_tokens
        if self.token_positions is not None:
            tokens = tokens + self.token_positions
        features = self._backbone(images, tokens)
        assert features.tokens is not None
        if self.closeups is None:
            return features.tokens, None, features
        closed_up = self.closeups(images, features.tokens, features.patches)
        return closed_up.tokens, closed_up.anchors, features

    def _backbone(self, images: Tensor, tokens: Tensor | None = None) -> Features:
        if images.dim() == 3:
            assert isinstance(self.backbone, VisionTransformer)
            return self.backbone.from_tokens_on(images, tokens, patches=tokens is None)
        return self.backbone(images, tokens)

    def parameter_groups(self, weight_decay: float) -> list[dict]:
        """For an optimiser: matrices inside the backbone (`muon`), other matrices, and what does not decay.

        Biases, norms, tokens and positions do not decay; the heads' matrices do, but are no hidden layers.
        """
        groups = [
            {"params": [], "weight_decay": weight_decay, "muon": True},
            {"params": [], "weight_decay": weight_decay, "muon": False},
            {"params": [], "weight_decay": 0.0, "muon": False},
        ]
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                hidden = name.startswith(("backbone.", "closeups."))
                kind = 2 if not _decays(name, parameter) else 0 if hidden else 1
                groups[kind]["params"].append(parameter)  # type: ignore[attr-defined]
        return groups


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.dim() > 1 and not name.endswith(("_tokens", "_positions", "_token", "_embed", "offsets"))
