"""Makes the identity encoder: `python -m tokenface.identity.train [FILE.yaml] section.key=value …`.

A trained network has looked at hundreds of thousands of faces to say what makes them up. Its tokens know more of a
person than a small network learns from nothing in the same minutes; what is missing is which of their directions are
the person. That is Fisher's discriminant, in closed form, from rendered people in several looks each, and from photos
of people if there are any.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.configuration import read_config, to_yaml
from tokenface.errors import ConfigError
from tokenface.formats.files import write_atomically
from tokenface.head.registry import load_head
from tokenface.identity.discriminant import fisher_discriminant
from tokenface.identity.encoder import SHIPPED, resized
from tokenface.identity.people import Cast, PeoplePictures, photo_pictures, rendered_pictures
from tokenface.identity.token_encoder import TokenEncoder, save_token_encoder
from tokenface.identity.verification import baselines, encoded, verification
from tokenface.network.checkpoint import load_checkpoint
from tokenface.threads import configured_threads
from tokenface.training.batches import photo_records
from tokenface.training.config import PhotoConfig
from tokenface.training.provenance import code_version
from tokenface.weights import file_hash, find_weights

HELD_OUT_SEED = 424_242_424
"""People of this seed are never learned from."""


@dataclass(frozen=True)
class IdentityTrainConfig:
    """One encoder."""

    weights: str | None = None  # the network whose tokens are read: a name or path; null: the default weights
    dimensions: int = 64
    shrinkage: float = 0.03  # of the variance within people
    cast: Cast = field(default_factory=Cast)
    held_out_people: int = 64  # rendered ones
    photos: PhotoConfig = field(default_factory=PhotoConfig)  # learned from unless its share is 0; tested on its others
    folder: str = "runs/identity"  # rendered pictures are kept there
    seed: int = 1
    threads: int = 0


def train_identity(
    config_path: str | Path | None = None, overrides: Iterable[str] = (), report: Callable[[str], None] = print
) -> Path:
    """Render, look, project, measure.

    Returns:
        `<folder>/tokenface-identity.safetensors`.
    Raises:
        ConfigError, OutputError, CheckpointError, ImageError: each says what to do.
    """
    config = read_config(IdentityTrainConfig, config_path, overrides)
    if config.cast.people < 2 or config.cast.looks < 1 or config.cast.pictures < 1 or config.cast.each < 2:
        raise ConfigError("an identity encoder learns from at least 2 people with 2 pictures each; raise cast.…")
    configured_threads(config.threads)
    folder = Path(config.folder)
    write_atomically(folder / "config.yaml", to_yaml(config).encode())
    weights = find_weights(config.weights)
    network, _, network_facts = load_checkpoint(weights)
    encoder = TokenEncoder.of(network, config.dimensions)
    sources, tests = gather(config, report)
    features, known = {}, file_hash(weights)
    for name, pictures in sources.items():
        which = sha256(pictures.points.tobytes()).hexdigest()[:16]  # no two sets have their points at the same places
        features[name] = _kept(folder / f"tokens-{name}-{which}-{known}.npy", encoder, pictures)
        report(f"looked at {len(pictures)} pictures of {pictures.people} {name} people")
    people = [torch.from_numpy(pictures.identity) for pictures in sources.values()]
    try:
        weight, bias = fisher_discriminant([*features.values()], people, config.dimensions, config.shrinkage)
    except ValueError as error:
        raise ConfigError(f"no encoder can be made: {error}") from error
    with torch.no_grad():
        encoder.head.weight.copy_(weight)
        encoder.head.bias.copy_(bias)
    metrics = {name: measured(encoder, pictures) for name, pictures in tests.items()}
    for name, rows in metrics.items():
        for method, row in rows.items():
            report(f"{name}, {method}: " + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    path = folder / f"{SHIPPED}.safetensors"
    licence = "Apache-2.0; see LICENSES.md for the training data"
    training = provenance(config, sources, {"hash": known, **network_facts.get("training", {})})
    save_token_encoder(path, encoder, {"licence": licence, "metrics": metrics, "training": training})
    return path


def provenance(
    config: IdentityTrainConfig, sources: dict[str, PeoplePictures], network: dict[str, object]
) -> dict[str, object]:
    """What the encoder is made of; names of files without the folders of the machine that made it."""
    tar = config.photos.tar and Path(config.photos.tar).name
    told = replace(config, folder="", weights=None, photos=replace(config.photos, tar=tar))
    seen = ("hash", "steps", "images", "hours", "photos", "before")
    return {
        "people": {name: pictures.people for name, pictures in sources.items()},
        "pictures": {name: len(pictures) for name, pictures in sources.items()},
        "network": {key: network[key] for key in seen if key in network},
        "code": code_version(),
        "config": to_yaml(told),
    }


def gather(
    config: IdentityTrainConfig, report: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, PeoplePictures], dict[str, PeoplePictures]]:
    """Whom to learn from and whom to test with, by name: rendered people, and photographed ones if there are any."""
    head, folder = load_head("openhead"), Path(config.folder)
    sources = {"rendered": rendered_pictures(folder / "pictures", head, config.cast, config.seed, report)}
    strangers = replace(config.cast, people=config.held_out_people)
    tests = {"rendered": rendered_pictures(folder / "pictures", head, strangers, HELD_OUT_SEED)}
    known, unknown = photo_records(config.photos)
    if known and config.photos.share:
        sources["photographed"] = photo_pictures(known, config.cast.size)
    if unknown:
        tests["photographed"] = photo_pictures(unknown, config.cast.size)
    return sources, tests


def _kept(path: Path, encoder: TokenEncoder, pictures: PeoplePictures) -> Tensor:
    """`token_features`, from the file if they were computed before: another projection then costs seconds."""
    if path.is_file():
        return torch.from_numpy(np.load(path, allow_pickle=False)).float()
    features = token_features(encoder, pictures)
    buffer = io.BytesIO()
    np.save(buffer, features.half().numpy())
    write_atomically(path, buffer.getvalue())
    return features.half().float()


@torch.no_grad()
def token_features(encoder: TokenEncoder, pictures: PeoplePictures) -> Tensor:
    """[N, tokens · width], before the projection."""
    return torch.cat([encoder.token_features(resized(part.crops(), encoder.size)) for part in pictures.chunks()])


def measured(encoder: TokenEncoder, pictures: PeoplePictures) -> dict[str, dict[str, float]]:
    """`verification` of the encoder and of the baselines."""
    rows = {"encoder": verification(encoded(encoder, pictures), pictures), **baselines(pictures)}
    return {method: {key: round(value, 4) for key, value in row.items()} for method, row in rows.items()}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    given = arguments.pop(0) if arguments and "=" not in arguments[0] else None
    print(train_identity(given, arguments))
