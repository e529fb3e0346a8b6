"""Cached features of a backbone's frozen first blocks: runs over them cost a fraction.

With `network.token_entry` above 0 the blocks before the component tokens say the same of a picture, whatever is
learned behind them. `features` reads so many pictures of an ordinary run (drawn, turned, coloured) and keeps what
these blocks say; the run then draws from them, and every run with the same first blocks shares them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from tokenface.core.files import write_atomically
from tokenface.core.fingerprint import content_hash, fingerprint, is_current, write_note
from tokenface.data.augment import Part
from tokenface.data.photos import PhotoBatch
from tokenface.data.record import PhotoRecord
from tokenface.data.replay import LabelledFaces
from tokenface.data.synthetic import GENERATOR_VERSION
from tokenface.errors import ConfigError
from tokenface.head.model import HeadModel
from tokenface.network.backbone import VisionTransformer
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import COMPONENTS, FaceParameters
from tokenface.training.batches import Batches, ProcessLayout, StepBatch, mixed
from tokenface.training.config import TrainConfig
from tokenface.training.module import has_prefix

BLOCK = 32
"""Pictures that are read together."""
SEED = 77
"""Of what is drawn to be read; the runs' own seeds say in which order they see it."""


def frozen_prefixes(model: TokenFace) -> tuple[str, ...]:
    """Name prefixes of what is frozen in front of `network.token_entry`."""
    assert isinstance(model.backbone, VisionTransformer)
    parts = ["patch_embed.", "cls_token", "pos_embed", "norm_pre."]
    parts += [f"blocks.{i}." for i in range(model.backbone.token_entry)]
    names = [name for name, _ in model.backbone.named_parameters()]
    return tuple(f"backbone.{part.rstrip('.')}" for part in parts if any(name.startswith(part) for name in names))


def check_features(config: TrainConfig) -> None:
    """Raises ConfigError: what cannot be read once and for all."""
    network = config.network
    if not network.token_entry:
        raise ConfigError("features are read in front of network.token_entry; set it to 1 or more")
    if network.closeups or network.surface_cells:
        raise ConfigError("features hold no pixels for close-ups or a surface map; set network.closeups and "
                          "network.surface_cells to 0")  # fmt: skip
    if config.teaching.every or config.losses.photo_colours or config.data.root or config.data.rendered_people:
        raise ConfigError("features are of rendered faces and photos as they are; leave teaching, "
                          "losses.photo_colours and data out")  # fmt: skip
    if config.photos.share and config.photos.tar and not config.features.photos:
        raise ConfigError("features.photos says how many pictures of the photos are read; set it, or photos.share to 0")


class FeatureBatches(Batches):
    """Batches whose pictures are `before_tokens` of a network, [B, P, D] in place of [B, 3, S, S].

    Args:
        model: whose frozen first blocks read.  folder: of the features; those of the same blocks and pictures are used.
    """

    def __init__(
        self, config: TrainConfig, head: HeadModel, photos: list[PhotoRecord], ring: Path, layout: ProcessLayout,
        model: TokenFace, folder: Path,
    ):  # fmt: skip
        check_features(config)
        super().__init__(config, head, photos, ring, layout=layout)
        self._config, self._sizes, self._model, self._folder = config, head.sizes, model, folder
        self.kinds: dict[str, dict[str, Tensor]] = {}
        facts = {
            "beginning": hash_of_frozen(model),
            "size": config.network.image_size,
            "head": head.data.geometry_hash(),
        }
        if self.counts.synthetic:
            own = {"generator": GENERATOR_VERSION, "faces": config.synthetic.warm_start, "seed": config.synthetic.seed}
            self._read("rendered", config.features.rendered, facts | own, self._rendered)
        if self.counts.landmark_photos:
            p = config.photos
            split = [p.held_out_people, p.split_seed]
            source = {"tar": content_hash(p.tar or ""), "shift": p.shift, "held out": split}
            self._read("photos", config.features.photos, facts | source, self._photographed)
        first = next(iter(self.kinds.values()))["features"]
        self.picture_shape = tuple(first.shape[1:])

    def draw(self, step: int, rendered: int) -> tuple[list[StepBatch], int]:
        """As `Batches.draw`, from what was read."""
        passes = []
        synthetic = self._rows("rendered", self.counts.synthetic, mixed(self.seed + 4, step))
        photos = self._rows("photos", self.counts.landmark_photos, mixed(self.seed + 5, step))
        for own_synthetic, own_photos in zip(synthetic, photos, strict=True):
            faces = shown = None
            if own_synthetic is not None:
                image, landmarks, flat = own_synthetic
                parts = flat.split([self._sizes[name] for name in COMPONENTS], dim=1)
                faces = LabelledFaces(image, landmarks, FaceParameters(**dict(zip(COMPONENTS, parts, strict=True))))
            if own_photos is not None:
                shown = PhotoBatch(own_photos[0], own_photos[1])
            passes.append(StepBatch(faces, shown))
        return passes, rendered

    def _rows(self, kind: str, total: int, seed: int) -> list[tuple[Tensor, Tensor, Tensor] | None]:
        """Features, landmarks and parameters of this process's rows, pass by pass; None for none."""
        if not total:
            return [None] * self.layout.passes
        kept = self.kinds[kind]
        rows = torch.randint(len(kept["features"]), (total,), generator=torch.Generator().manual_seed(seed))
        chosen = [rows[part.start : part.stop] for part in self.layout.parts(total)]
        return [(kept["features"][r].float(), kept["landmarks"][r], kept["parameters"][r]) for r in chosen]

    def _read(self, kind: str, count: int, facts: dict, draw) -> None:
        facts = facts | {"kind": kind, "count": count}
        path = self._folder / f"{kind}-{fingerprint(facts)[:12]}.safetensors"
        if self.layout.rank == 0 and not is_current(path, facts):
            parts = [self._seen(*batch) for batch in draw(count)]
            tensors = {name: torch.cat([part[name] for part in parts])[:count].contiguous() for name in parts[0]}
            write_atomically(path, save(tensors))
            write_note(path, facts)
        self.layout.barrier()
        try:
            self.kinds[kind] = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"'{path}' is damaged ({error}); delete it, it will be made again") from error

    @torch.no_grad()
    def _seen(self, images: Tensor, landmarks: Tensor, parameters: Tensor) -> dict[str, Tensor]:
        backbone = self._model.backbone
        assert isinstance(backbone, VisionTransformer)
        device = next(backbone.parameters()).device
        features = backbone.before_tokens(images.to(device)).half().cpu()
        return {"features": features, "landmarks": landmarks, "parameters": parameters}

    def _rendered(self, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        stream, rendered = self.synthetic, 0
        assert stream is not None
        for step in range(-(-count // BLOCK)):
            faces, rendered = stream.whole(step, rendered, BLOCK, SEED)
            flat = torch.cat([getattr(faces.parameters, name) for name in COMPONENTS], dim=1)
            yield faces.image, faces.landmarks68, flat

    def _photographed(self, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for step in range(-(-count // BLOCK)):
            batch = self.photo_batch(mixed(SEED, step), Part(0, BLOCK, BLOCK))
            assert batch is not None
            yield batch.image, batch.landmarks68, torch.zeros(BLOCK, 0)


def hash_of_frozen(model: TokenFace) -> str:
    """Of the numbers in front of `network.token_entry`."""
    prefixes = frozen_prefixes(model)
    digest = hashlib.sha256(f"{model.config.backbone} {model.config.token_entry}".encode())
    for name, value in sorted(model.named_parameters()):
        if any(has_prefix(name, prefix) for prefix in prefixes):
            digest.update(name.encode() + value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:32]
