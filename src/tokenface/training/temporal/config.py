"""Configuration of the temporal transformer's training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tokenface.errors import ConfigError


@dataclass(frozen=True)
class SequenceData:
    """Clips, seen once by the image model through the tracker's own crops and kept as tokens.

    Synthetic ones are rendered once. held_out: clips not trained on: a third for validation, the others for the
    figures.  pixels: side of the frames.  views: passes over each clip with other first crops.

    root: shards with real clips (`tokenface prepare … --clip-frames 32`); None: none.  clip_share: of each batch.
    validation_people, held_out_people: whose clips choose the best checkpoint, and give the figures; empty: an
    eighth, drawn.
    """

    FORMER: ClassVar = {"choosing_people": "validation_people"}

    clips: int = 128
    held_out: int = 24
    frames: int = 24
    pixels: int = 288
    views: int = 1
    seed: int = 7
    root: str | None = None
    clip_share: float = 0.5
    validation_people: tuple[str, ...] = ()
    held_out_people: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.clip_share < 1:
            raise ConfigError(f"data.clip_share is between 0 and 1, got {self.clip_share}; no data.root: no real clips")
        if self.frames < 11 or self.clips < 1 or self.held_out < 3:
            raise ConfigError("data needs clips ≥ 1, held_out ≥ 3 and frames ≥ 11")
        if self.pixels % 8 or self.pixels < 64:
            raise ConfigError(f"data.pixels is a multiple of 8 from 64 on, got {self.pixels}")


@dataclass(frozen=True)
class TemporalLosses:
    """Weights. Lengths in head widths (0.15 m); differences are between neighbouring frames."""

    FORMER: ClassVar = {"looks": "appearance_mean"}

    vertices: float = 1.0  # posed, head space (Eq. 3)
    picture: float = 1.0  # where the vertices are on the frame
    velocity: float = 4.0  # first differences of both against the truth's
    acceleration: float = 6.0  # second differences likewise
    identity: float = 0.3  # motion of the neutral face, which has none
    appearance: float = 0.02  # motion of texture and light coefficients
    appearance_mean: float = 1.0  # their mean over a run against the image model's
    stay: float = 0.1  # squared change of the tokens


@dataclass(frozen=True)
class RecordLosses:
    """Weights on real clips; lengths as above."""

    FORMER: ClassVar = {"looks": "appearance_mean"}

    landmarks: float = 4.0  # Sec. 3.2.2, against the records' landmarks
    eyelids: float = 0.6  # Eq. 7
    lips: float = 0.6  # Eq. 7
    prior: float = 1e-4  # Eq. 11
    identity: float = 0.3  # this and the others as above
    appearance: float = 0.02
    appearance_mean: float = 1.0
    stay: float = 0.1


@dataclass(frozen=True)
class TemporalOptimiser:
    steps: int = 200
    batch: int = 8  # runs of consecutive frames
    length: int = 8  # frames of a run
    strides: tuple[int, ...] = (1, 1, 2, 3)  # of the frames, drawn: twice is faster motion, and a lower frame rate
    learning_rate: float = 6e-4
    adaptation_rate: float = 300.0  # times as fast: twelve numbers that have far to go
    warmup_steps: int = 20
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    ema_decay: float = 0.99
    seed: int = 0


@dataclass(frozen=True)
class TemporalConfig:
    """One run. weights: image weights by name or path; None: the default.  output: None: beside the image weights."""

    weights: str | None = None
    mode: Literal["centred", "causal"] = "centred"
    output: str | None = None
    folder: str = "runs/temporal"
    threads: int = 0
    data: SequenceData = field(default_factory=SequenceData)
    losses: TemporalLosses = field(default_factory=TemporalLosses)
    real_losses: RecordLosses = field(default_factory=RecordLosses)
    optimiser: TemporalOptimiser = field(default_factory=TemporalOptimiser)
