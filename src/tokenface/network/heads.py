"""Prediction heads: one linear layer per component (Sec. 3.1), scaled around a mean, and the dense auxiliary head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenface.network.config import NetworkConfig
from tokenface.parameters import COMPONENTS, TOKEN_LAYOUTS, ComponentSizes, FaceParameters

LANDMARKS = 68


class ComponentHeads(nn.Module):
    """`component = mean + scale · FC(token)`, with the token that the layout gives to the component."""

    def __init__(self, config: NetworkConfig, sizes: ComponentSizes, width: int):
        super().__init__()
        layout = TOKEN_LAYOUTS[config.tokens]
        self.token_of = {name: index for index, group in enumerate(layout) for name in group}
        self.fc = nn.ModuleDict()
        for name in COMPONENTS:
            if sizes[name]:  # a head model without albedo has no texture
                layer = nn.Linear(width, sizes[name])
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
                self.fc[name] = layer
            self.register_buffer(f"{name}_mean", component_mean(name, config, sizes), persistent=False)
            self.register_buffer(f"{name}_scale", component_scale(name, config, sizes), persistent=False)
        self.log_sigma: nn.Linear | None = None
        if config.landmark_uncertainty:
            self.log_sigma = nn.Linear(width, LANDMARKS)
            nn.init.zeros_(self.log_sigma.weight)
            nn.init.constant_(self.log_sigma.bias, config.log_sigma_mean)

    def forward(self, tokens: Tensor) -> tuple[FaceParameters, Tensor | None]:
        """tokens [B, T, D] → parameters, and [B, 68] log sigma of the landmarks in crop NDC."""
        # always float32: bfloat16 has eight bits, a camera needs more
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            values = {}
            for name in COMPONENTS:
                if name not in self.fc:
                    values[name] = tokens.new_zeros(tokens.shape[0], 0)
                    continue
                raw = self.fc[name](tokens[:, self.token_of[name]])
                values[name] = getattr(self, f"{name}_mean") + getattr(self, f"{name}_scale") * raw
            log_sigma = None if self.log_sigma is None else self.log_sigma(tokens[:, self.token_of["camera"]])
        return FaceParameters(**values), log_sigma


def component_mean(name: str, config: NetworkConfig, sizes: ComponentSizes) -> Tensor:
    """[size] what the head says when its FC says 0."""
    mean = torch.zeros(sizes[name])
    if name == "camera":
        mean = torch.tensor(config.camera_mean)
    elif name == "light":
        mean[:3] = config.ambient_light  # the constant band of R, G and B: [9, 3] flattened
    elif name == "expression" and config.expression_mean is not None:
        if len(config.expression_mean) != sizes.expression:
            raise ValueError(
                f"expression_mean has {len(config.expression_mean)} values for {sizes.expression} expressions"
            )
        mean = torch.tensor(config.expression_mean)
    return mean


def component_scale(name: str, config: NetworkConfig, sizes: ComponentSizes) -> Tensor:
    """[size] what one unit of the FC's output moves."""
    scale = torch.full((sizes[name],), float(getattr(config, f"{name}_scale")))
    if name == "camera":
        scale[0] *= config.camera_mean[0]
    return scale


POINT_SCALE = 0.1
"""Metres per unit of the layer's output: heads are about that large."""


class SurfaceMap(nn.Module):
    """One linear layer from patch tokens to a map of surface points, `cells` × `cells` for every patch.

    A dense task for the patches, learned beside the component tokens: who knows which point of the head lies where has
    found the face, and its tokens only have to collect it. Pictures are not reconstructed from it.
    """

    def __init__(self, width: int, cells: int):
        super().__init__()
        self.cells = cells
        self.fc = nn.Linear(width, 4 * cells * cells)
        nn.init.xavier_uniform_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Patches [B, G², D] of a G × G grid → [B, 4, G·cells, G·cells]: x, y, z in metres of head space on the mean
        head, and the logit of "the head is what is seen here"."""
        with torch.autocast(patches.device.type, enabled=False):
            values = self.fc(patches.float()).transpose(1, 2)
        grid = round(values.shape[-1] ** 0.5)
        fine = nn.functional.pixel_shuffle(values.unflatten(-1, (grid, grid)), self.cells)
        return torch.cat([fine[:, :3] * POINT_SCALE, fine[:, 3:]], dim=1)
