"""Everything that a training run can be told, as typed dataclasses with documented defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tokenface.data.readers.landmark_tar import YOUTUBE_FACES_SHIFT, LandmarkShift
from tokenface.network.config import NetworkConfig


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; lengths enter as crop half-widths, so that 0.01 is 1 px of a 200-px crop."""

    neutral: float = 20.0  # neutral face, similarity-aligned: what NoW measures
    posed: float = 4.0  # expressive face, scale-free, head space (Eq. 3)
    projected: float = 6.0  # face vertices on the picture and in depth
    landmarks: float = 8.0  # 68 points, synthetic
    photo_landmarks: float = 10.0  # 68 points, real photos
    eyelids: float = 4.0  # Eq. 7
    lips: float = 4.0  # Eq. 7
    shape: float = 0.5  # identity coefficients against the truth, by what each mode moves
    expression: float = 0.3  # weights against the truth, L1
    jaw: float = 1.0
    texture: float = 0.02
    light: float = 0.05
    shape_prior: float = 1e-4  # Eq. 11, photos only
    expression_prior: float = 1e-3
    texture_prior: float = 1e-4
    expression_range: float = 0.1
    uncertainty: float = 0.02


@dataclass(frozen=True)
class PhotoConfig:
    """Real photos with 68 landmarks; left out when `tar` is null."""

    tar: str | None = None
    share: float = 0.25  # of each batch
    held_out_people: int = 60
    split_seed: int = 0
    shift: LandmarkShift = YOUTUBE_FACES_SHIFT  # of the annotations; zeros for other sources


@dataclass(frozen=True)
class SyntheticConfig:
    """Rendered faces: how many are new in each step and how long they are replayed."""

    fresh_per_step: int = 8
    block: int = 32  # rendered together
    ring: int = 12288
    warm_start: int = 512  # faces rendered before the first step, so that the first batches are not all alike
    seed: int = 1


@dataclass(frozen=True)
class OptimiserConfig:
    name: Literal["muon", "adamw"] = "muon"  # muon: for the backbone's matrices; the rest follows AdamW
    learning_rate: float = 6e-4
    weight_decay: float = 0.02
    warmup_steps: int = 300
    final_learning_rate: float = 0.0  # share of learning_rate at the end of the cosine
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    betas: tuple[float, float] = (0.9, 0.98)


@dataclass(frozen=True)
class RunConfig:
    folder: str = "runs"
    name: str = "tokenface"
    steps: int = 20000
    batch: int = 32
    seed: int = 0
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 on a GPU, fp32 on a CPU
    device: str = "auto"
    threads: int = 0  # 0: all cores
    log_every: int = 50
    checkpoint_every: int = 200
    validate_every: int = 1000
    validation_people: int = 48


@dataclass(frozen=True)
class TrainConfig:
    """One run."""

    head: str = "openhead"
    start_from: str | None = None  # weights to continue from (name or path); the step count starts anew
    network: NetworkConfig = field(default_factory=NetworkConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    photos: PhotoConfig = field(default_factory=PhotoConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)
