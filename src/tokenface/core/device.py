"""Where a network runs."""

from __future__ import annotations

import torch

from tokenface.errors import TokenFaceError


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """ "auto", "cpu", "cuda", "cuda:1", "mps" → a device that is there.

    Raises:
        TokenFaceError: an unknown device, or one that this machine lacks.
    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise TokenFaceError(f"device '{device}' is not available here; use auto, cpu, cuda or mps") from error
    return chosen
