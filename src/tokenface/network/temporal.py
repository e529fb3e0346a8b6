"""Temporal transformer (Sec. 3.3, Fig. 4): component tokens of three neighbouring frames → tokens of one of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenface.network.backbone import Block

FRAMES = 3
WINDOWS = {"centred": (-1, 0, 1), "causal": (-2, -1, 0)}
"""Frames that are looked at, relative to frame t. Centred is the paper's, and waits for one frame."""
DEPTH = 3
MOTION = 4
BLEND_RATE = 25.0
"""The shares of the neighbours' tokens are learned so many times faster than matrices are."""
FIRST_CAUTION = 4.0
"""Of every token: the share of a neighbour whose crop lies 5 % of its side off is exp(−1.6) of what it was."""
CHANGE_SCALE = 100.0
FIRST_DOUBT = 1.0
"""Of every token: a neighbour whose own token changed by a tenth of its length counts exp(−1) of what it did."""


class TemporalTransformer(nn.Module):
    """Three layers over the tokens of three frames, around a shortcut from frame t.

    Beside the layers each number of a token takes a share, fixed after training, of what its neighbours' differ by:
    averaging is most of what steadies a face, and layers are slow to learn it. The less, the more the crop moved or the
    token itself changed: small changes are noise, large ones are motion.

    The shares and the last projection start at zero, so that an untrained module returns frame t's own tokens exactly.
    A neighbour that is missing (the clip's ends, a cut, a face that was lost) is never read: frame t stands in for it.

    Every frame has a crop of its own, and the camera's token speaks in crop coordinates; `motion` tells the module
    how the neighbour's crop stands to frame t's.

    Args:
        width: D, of the image model's tokens.  tokens: T, component tokens per frame.
        mode: "centred" or "causal", a key of `WINDOWS`.
    """

    def __init__(self, width: int, tokens: int, mode: str = "centred", depth: int = DEPTH, heads: int | None = None):
        super().__init__()
        if mode not in WINDOWS:
            raise ValueError(f"mode is one of {', '.join(WINDOWS)}, got {mode!r}")
        heads = heads or max(1, width // 64)
        if width % heads:
            raise ValueError(f"width {width} is not divisible by {heads} heads")
        self.width, self.tokens, self.mode, self.depth, self.heads = width, tokens, mode, depth, heads
        self.window = WINDOWS[mode]
        self.target = self.window.index(0)
        self.norm_in = nn.LayerNorm(width)
        self.frame_embedding = nn.Parameter(torch.randn(FRAMES, 1, width) * 0.02)
        self.component_embedding = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.absent_embedding = nn.Parameter(torch.zeros(width))
        self.motion = nn.Linear(MOTION, width, bias=False)
        nn.init.zeros_(self.motion.weight)
        self.blend = nn.Parameter(torch.zeros(FRAMES, tokens, width))
        self.caution = nn.Parameter(torch.full((tokens,), FIRST_CAUTION))
        self.doubt = nn.Parameter(torch.full((tokens,), FIRST_DOUBT))
        self.blocks = nn.ModuleList(Block(width, heads, nn.functional.gelu, 1e-5, 0.0) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def lag(self) -> int:
        """Frames after t that are needed."""
        return max(self.window)

    def forward(self, tokens: Tensor, present: Tensor, motion: Tensor) -> Tensor:
        """Windows of frames to tokens of their frame t.

        Args:
            tokens: [B, 3, T, D] in the order of `window`; what stands at an absent frame does not matter.
            present: [B, 3] bool; frame t itself always is.
            motion: [B, 3, 4] of each frame's crop relative to frame t's, see `crop_motion`.
        Returns:
            [B, T, D].
        """
        own = tokens[:, self.target]
        there = present[:, :, None, None]
        x = torch.where(there, tokens, own[:, None])
        change = x - own[:, None]
        moved = torch.where(present[:, :, None], motion, torch.zeros_like(motion))
        x = self.norm_in(x) + self.frame_embedding + self.component_embedding + self.motion(moved)[:, :, None]
        x = x + self.absent_embedding * (~there)
        x = x.flatten(1, 2)
        for block in self.blocks[:-1]:
            x = block(x)
        mixed = self.blocks[-1](x, rows=slice(self.target * self.tokens, (self.target + 1) * self.tokens))
        changed = CHANGE_SCALE * change.square().mean(-1) / own.square().mean(-1)[:, None].clamp_min(1e-6)
        calm = torch.exp(-self.caution.abs() * moved.abs().sum(-1, keepdim=True) - self.doubt.abs() * changed)[
            ..., None
        ]
        return own + (BLEND_RATE * self.blend * calm * change).sum(1) + self.out(self.norm_out(mixed))


def crop_motion(crops: Tensor, target: Tensor) -> Tensor:
    """Crops relative to the crop of frame t, input of `TemporalTransformer`.

    Args:
        crops: [..., 4] centre x, y, side in photo pixels, angle in radians.  target: [..., 4] likewise.
    Returns:
        [..., 4] shift in half-widths of the target (along its own axes), log of the size ratio, turn in radians;
        each times four, so that usual motions are of order 0.1.
    """
    shift = (crops[..., :2] - target[..., :2]) / (target[..., 2:3] / 2)
    cos, sin = torch.cos(target[..., 3]), torch.sin(target[..., 3])
    across = cos * shift[..., 0] - sin * shift[..., 1]
    down = sin * shift[..., 0] + cos * shift[..., 1]
    turn = crops[..., 3] - target[..., 3]
    turn = torch.atan2(torch.sin(turn), torch.cos(turn))
    return 4 * torch.stack([across, down, torch.log(crops[..., 2] / target[..., 2]), turn], dim=-1)
