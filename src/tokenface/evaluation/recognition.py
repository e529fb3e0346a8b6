"""Verification figures of an identity encoder: `python -m tokenface.evaluation.recognition [FILE.yaml] key=value …`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.core.configuration import read_config
from tokenface.data.photos import PhotoConfig, photo_records
from tokenface.errors import ConfigError
from tokenface.evaluation.recognition_pictures import Cast, PeoplePictures, photo_pictures, rendered_pictures
from tokenface.head.registry import load_head
from tokenface.identity.alignment import ARCFACE_POINTS, IdentityEncoder
from tokenface.identity.encoder import SHIPPED, load_identity_encoder

BASELINE_SIZE = 96
"""Side of the crops that the baselines look at."""


def verification(features: Tensor, pictures: PeoplePictures) -> dict[str, float]:
    """Cosines of all pairs; same-person pairs of one session (a look, a video) are left out, being nearly copies.

    Args:
        features: [N, D], one per picture.
    Returns:
        auc: area under the curve.  tar: share of same-person pairs accepted where 1 % of the others are.
        rank1: pictures whose nearest one of another session is the same person.
    """
    cosine = (unit := F.normalize(features, dim=-1)) @ unit.T
    identity, session = torch.from_numpy(pictures.identity), torch.from_numpy(pictures.session)
    same = identity[:, None] == identity[None, :]
    counts = session[:, None] != session[None, :]
    upper = torch.ones_like(same).triu(1)
    positive, negative = cosine[same & counts & upper], cosine[~same & upper]
    threshold = torch.from_numpy(np.quantile(negative.numpy(), [0.99]))[0]
    nearest = cosine.masked_fill(~counts, -2).argmax(1)
    tested = (same & counts).any(1)
    return {
        "auc": area_under_curve(positive, negative),
        "tar": float((positive > threshold).double().mean()),
        "rank1": float((identity[nearest] == identity)[tested].double().mean()),
    }


def area_under_curve(positive: Tensor, negative: Tensor) -> float:
    """Probability that a positive is above a negative, half of it for equals (Mann and Whitney)."""
    ordered = negative.sort().values
    below = torch.searchsorted(ordered, positive, right=False).double()
    up_to = torch.searchsorted(ordered, positive, right=True).double()
    return float(((below + up_to) / 2).mean() / len(ordered))


@torch.no_grad()
def encoded(encoder: IdentityEncoder, pictures: PeoplePictures) -> Tensor:
    """[N, dimensions] features."""
    return torch.cat([encoder(part.aligned(encoder.places, encoder.size)) for part in pictures.chunks()])


def baselines(pictures: PeoplePictures) -> dict[str, dict[str, float]]:
    """`verification` by what any encoder must beat, on aligned faces: grey pixels, colours."""
    found, places = {}, (ARCFACE_POINTS + 0.5) * (BASELINE_SIZE / 112)
    for name, features in (("grey pixels", pixel_features), ("colour histogram", colour_features)):
        faces = [features(part.aligned(places, BASELINE_SIZE)) for part in pictures.chunks()]
        found[name] = verification(torch.cat(faces), pictures)
    return found


def pixel_features(faces: Tensor) -> Tensor:
    """16 × 16 grey pixels, mean and contrast removed: [B, 3, S, S] → [B, 256]."""
    grey = F.interpolate(faces.mean(1, keepdim=True), size=(16, 16), mode="area").flatten(1)
    grey = grey - grey.mean(1, keepdim=True)
    return grey / grey.norm(dim=1, keepdim=True).clamp_min(1e-6)


def colour_features(faces: Tensor) -> Tensor:
    """Histogram of colours, 4 bins a channel, in the middle of the crop: [B, 3, S, S] → [B, 64]."""
    size = faces.shape[-1]
    middle = faces[:, :, size // 4 : -(size // 4), size // 4 : -(size // 4)]
    bins = (middle * 4).long().clamp(0, 3)
    index = bins[:, 0] * 16 + bins[:, 1] * 4 + bins[:, 2]
    return F.one_hot(index.flatten(1), 64).float().mean(1).sqrt()  # the root makes the cosine Bhattacharyya's


HELD_OUT_SEED = 424_242_424
"""Rendered people of this seed are never trained on."""


@dataclass(frozen=True)
class MeasureConfig:
    """One table."""

    encoder: str = SHIPPED
    cast: Cast = field(default_factory=Cast)  # rendered people; none if it has no people
    photos: PhotoConfig = field(default_factory=PhotoConfig)  # the people that it holds out
    size: int = 192  # pixels of a photo's crop, of which the encoder's chip is cut
    threads: int = 0


def measure_identity(
    config_path: str | Path | None = None, overrides: Iterable[str] = (), report: Callable[[str], None] = print
) -> dict[str, dict[str, dict[str, float]]]:
    """`verification` of the encoder and of what it must beat, on rendered people and on the photos' held-out people.

    Returns:
        source → method → figure.
    Raises:
        ConfigError, CheckpointError, ImageError: each says what to do.
    """
    config = read_config(MeasureConfig, config_path, overrides)
    if config.threads:
        torch.set_num_threads(config.threads)
    encoder = load_identity_encoder(config.encoder)
    sources: dict[str, PeoplePictures] = {}
    if config.cast.people:
        if config.cast.people < 2 or config.cast.looks < 2 or config.cast.pictures < 1:
            raise ConfigError("recognition is measured on at least 2 people in 2 looks each; raise cast.…")
        sources["rendered"] = rendered_pictures(load_head("openhead"), config.cast, HELD_OUT_SEED)
    _, held_out = photo_records(config.photos)
    if held_out:
        sources["photographed"] = photo_pictures(held_out, config.size)
    table = {}
    for name, pictures in sources.items():
        rows = {"encoder": verification(encoded(encoder, pictures), pictures), **baselines(pictures)}
        table[name] = {method: {key: round(value, 4) for key, value in row.items()} for method, row in rows.items()}
        report(f"{name}: {len(pictures)} pictures of {pictures.people} people")
        for method, row in table[name].items():
            report(f"  {method}: " + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    return table


if __name__ == "__main__":
    arguments = sys.argv[1:]
    given = arguments.pop(0) if arguments and "=" not in arguments[0] else None
    measure_identity(given, arguments)
