"""Training configuration: typed dataclasses with documented defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tokenface.data.photos import PhotoConfig
from tokenface.errors import ConfigError
from tokenface.losses.totals import Mode, PaperWeights
from tokenface.network.config import NetworkConfig


@dataclass(frozen=True)
class LossWeights:
    """Weights of the recipe's terms, on rendered faces and photos with landmarks.

    Lengths enter as crop half-widths, so that 0.01 is 1 px of a 200-px crop.
    """

    neutral: float = 20.0  # neutral face, similarity-aligned: what NoW measures
    posed: float = 4.0  # expressive face, scale-free, head space (Eq. 3)
    projected: float = 6.0  # face vertices on the picture and in depth
    landmarks: float = 8.0  # 68 points, synthetic
    photo_landmarks: float = 10.0  # 68 points, real photos
    pose_aware: bool = False  # photos' points count less on turned faces (Eq. 12, 1 at the front)
    eyelids: float = 4.0  # Eq. 7
    lips: float = 4.0  # Eq. 7
    shape: float = 0.5  # identity coefficients against the truth, by what each mode moves
    expression: float = 1.5  # actions against the truth, squared, each by its own spread
    jaw: float = 1.0
    texture: float = 0.5  # albedo coefficients against the truth, squared, by what each moves
    light: float = 0.5  # harmonics against the truth, squared, each band by its spread
    anchors: float = 2.0  # of the close-ups (network.closeups)
    photo_shape: float = 0.5  # against self-training's targets (teaching)
    photo_expression: float = 1.0
    photo_jaw: float = 0.5
    photo_colours: float = 0.0  # Eq. 8 for texture and light alone; the geometry is held
    shape_prior: float = 1e-4  # Eq. 11, photos only
    expression_prior: float = 1e-3
    texture_prior: float = 1e-4
    expression_range: float = 0.1
    uncertainty: float = 0.02
    surface: float = 4.0  # the patches' surface map (network.surface_cells)


@dataclass(frozen=True)
class SyntheticConfig:
    """Rendered faces: how many are new in each step and how long they are replayed. They fill what photos and records
    leave of each batch."""

    fresh_per_step: int = 8
    block: int = 32  # rendered together
    ring: int = 12288
    folder: str | None = None  # of the ring; runs that share it do not render the same faces again. null: the run's
    warm_start: int = 512  # faces rendered before the first step, so that the first batches are not all alike
    seed: int = 1


@dataclass(frozen=True)
class DataConfig:
    """Scans and photos in shards (`tokenface prepare`), for the paper's losses; left out without root or people.

    With `rendered_people` and no root, pictures of rendered people stand in for the data sets: half of the people as
    scans with vertices, half as photos with landmarks and masks alone.
    """

    root: str | None = None  # folder of shards
    rendered_people: int = 0
    rendered_pictures: int = 4  # of each person
    share: float = 1.0  # of each batch
    scan_share: float = 0.5  # of these; the others are photos. 1 in mode 3d, 0 in mode 2d
    pictures_per_person: int = 2  # M of Eqs. 5 and 9
    held_out_people: int = 0
    datasets: tuple[str, ...] = ()  # names; empty: all
    workers: int = 2  # processes that decode; the batches do not depend on it
    seed: int = 0


@dataclass(frozen=True)
class PaperConfig:
    """The paper's objective (Sec. 3.2) on records."""

    mode: Mode = "hybrid"  # Table 5
    weights: PaperWeights = field(default_factory=PaperWeights)
    vertex_scale: float = 7.0  # half-widths per metre: brings Eqs. 3 and 5 to the unit of the landmark loss; ours
    metric: bool = True  # False: Eqs. 3 and 5 after the best scale and translation
    identity_encoder: str | None = "tokenface-recognition"  # or an ArcFace file; null: without Eq. 10
    partners: int = 1  # pictures of the same person whose shape each picture tries on


@dataclass(frozen=True)
class TeachingConfig:
    """Self-training on the photos (training/teaching.py); off where `every` is 0."""

    every: int = 0  # steps between pseudo-label updates
    quantile: float = 0.3  # of each action over the photos: what is below is rest
    shape_warps: tuple[float, ...] = (0.0, 0.5, 0.8, 1.1)  # deviations of the known changes of shape, of the prior's
    action_share: float = 0.5  # of the photos that get known changes of expression
    # spread of the targets over the photos, over that of the predictions on rendered faces; 0: as it comes
    action_spread: float = 0.6  # of YouTube Faces' points, within a person: 0.52 to 0.77 of the generator's
    gaze_spread: float = 0.3  # of its irises
    shape_spread: float = 1.0  # real people differ as the prior says

    def __post_init__(self) -> None:
        if self.every < 0 or not 0 <= self.quantile <= 0.5 or not 0 <= self.action_share <= 1 or not self.shape_warps:
            raise ConfigError("teaching: every ≥ 0, quantile 0 to 0.5, action_share 0 to 1, at least one shape_warp")
        if not all(0 <= share <= 2 for share in (self.action_spread, self.gaze_spread, self.shape_spread)):
            raise ConfigError("teaching: action_spread, gaze_spread and shape_spread are 0 to 2")


@dataclass(frozen=True)
class FeatureConfig:
    """Pictures that the blocks in front of `network.token_entry` read once, and then stand still
    (training/features.py); off where both are 0."""

    rendered: int = 0  # pictures of rendered faces
    photos: int = 0  # pictures of photos
    folder: str | None = None  # of what was read; null: the run's


@dataclass(frozen=True)
class OptimiserConfig:
    name: Literal["muon", "adamw"] = "muon"  # muon: for the backbone's matrices; adamw with weight_decay 0 is Adam
    learning_rate: float = 6e-4
    weight_decay: float = 0.02
    warmup_steps: int = 300
    final_learning_rate: float = 0.0  # share of learning_rate at the end of the cosine
    clip_norm: float = 1.0  # 0: none
    ema_decay: float = 0.999
    betas: tuple[float, float] = (0.9, 0.98)


@dataclass(frozen=True)
class RunConfig:
    folder: str = "runs"
    name: str = "tokenface"
    steps: int = 20000
    epochs: int = 0  # over the records; 0: `steps` counts
    batch: int = 32  # of all processes and accumulated passes together
    accumulate: int = 1  # passes per step, to fit a large batch into little memory
    seed: int = 0
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"  # auto: bf16 on a GPU, fp32 on a CPU
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"  # for several processes; auto: ddp
    compile: bool = False  # torch.compile of the network
    ahead: int = 0  # batches made in a thread while the network works; pays on a GPU
    threads: int = 0  # 0: all cores
    log_every: int = 50
    checkpoint_every: int = 200
    validate_every: int = 1000
    validation_people: int = 48
    validation_photos: int = 300  # of people kept out; at most
    wandb: str | None = None  # Weights & Biases project


@dataclass(frozen=True)
class StageConfig:
    """One leg of a run in stages. changes: `section.key` → value, on top of the rest of the configuration.

    A temporal stage trains the transformer over frames (Sec. 3.3) on the weights of the stage before it, which stay
    as they are; its changes are those of `training/temporal/config.py`.
    """

    name: str
    kind: Literal["image", "temporal"] = "image"
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"a stage's name is letters, digits, '-' and '_', got {self.name!r}")
        if not isinstance(self.changes, dict):
            raise ConfigError(f"stage '{self.name}': changes must be 'section.key: value' pairs")


@dataclass(frozen=True)
class TrainConfig:
    """One run, or several in a row (`stages`), each of which starts from the weights of the one before."""

    head: str = "openhead"
    start_from: str | None = None  # weights to continue from (name or path); the step count starts anew
    grow: bool = False  # start_from's network becomes that of `network`: more blocks, a surface map
    backbone_weights: str | None = None  # FaRL, CLIP, timm or TokenFace weights for a fresh backbone
    freeze: tuple[str, ...] = ()  # prefixes of the names of frozen parameters: backbone, heads.fc.texture, …
    network: NetworkConfig = field(default_factory=NetworkConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    photos: PhotoConfig = field(default_factory=PhotoConfig)
    teaching: TeachingConfig = field(default_factory=TeachingConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    data: DataConfig = field(default_factory=DataConfig)
    paper: PaperConfig = field(default_factory=PaperConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)
    stages: tuple[StageConfig, ...] = ()
