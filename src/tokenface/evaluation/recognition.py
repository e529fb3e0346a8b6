"""Verification figures of an identity encoder: `python -m tokenface.evaluation.recognition [FILE.yaml] key=value …`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tokenface.core.configuration import read_config
from tokenface.data.photo_sets import PhotoConfig, photo_records
from tokenface.errors import ConfigError
from tokenface.evaluation.recognition_pictures import Cast, PeoplePictures, photo_pictures, rendered_pictures
from tokenface.evaluation.verification import baselines, encoded, verification
from tokenface.head.registry import load_head
from tokenface.identity.encoder import SHIPPED, load_identity_encoder

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
