"""`--runtime auto`: the fastest runtime that is installed, for the work at hand."""

from __future__ import annotations

import importlib.util
import logging

import torch
from torch import nn

from tokenface.deploy.cached import other_network, ready_network
from tokenface.deploy.graph_names import RUNTIME_PRECISIONS
from tokenface.deploy.runtime import AnotherNetwork
from tokenface.errors import TokenFaceError
from tokenface.graphs.sessions import PACKAGES
from tokenface.head.model import HeadModel
from tokenface.network.tokenface import TokenFace

TOLERANCE = 1e-3
"""Largest difference of a parameter from torch's; what is right differs by less than 2e-5."""

logger = logging.getLogger("tokenface")


def fastest_network(
    network: TokenFace, head: HeadModel, weights_hash: str, precision: str, device: torch.device
) -> nn.Module | None:
    """The network on the fastest runtime that is installed and ready; None: torch is.

    On a GPU it is torch. On the CPU an installed runtime that does not work, or gives other numbers than torch, is
    passed over with one warning. Nothing is exported: that takes longer than most runs.
    """
    if device.type != "cpu":
        return None
    opening = ready_network if precision in ("fp32", "bf16") else other_network
    for runtime, package in PACKAGES.items():
        if precision not in RUNTIME_PRECISIONS[runtime] or importlib.util.find_spec(package) is None:
            continue
        try:
            found = opening(network, head, weights_hash, runtime, precision)
            if found is None:
                continue
            if precision == "fp32" and not _agrees(network, found):
                raise TokenFaceError("it gives other numbers than torch")
            return found
        except Exception as error:  # a broken installation fails in its own ways
            said = error if error.__cause__ is None else error.__cause__
            reason = " ".join(str(said).split())[:200] or type(said).__name__
            logger.warning("%s is installed but not used (%s); torch takes its place", package, reason)
    return None


@torch.inference_mode()
def _agrees(network: TokenFace, other: AnotherNetwork) -> bool:
    """Whether both say the same of one crop of noise."""
    size = network.config.image_size
    crop = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    ours, theirs = network.forward_with_extras(crop), other.forward_with_extras(crop)
    pairs = zip(ours.parameters.items(), theirs.parameters.items(), strict=True)
    return all(torch.allclose(a, b, atol=TOLERANCE) for (_, a), (_, b) in pairs)
