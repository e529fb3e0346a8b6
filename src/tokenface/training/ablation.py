"""`tokenface ablate`: the rows of a table of the paper, trained at a chosen scale and measured on held-out people."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from tokenface.core.configuration import to_yaml
from tokenface.core.files import read_marker, write_atomically
from tokenface.core.fingerprint import content_hash, fingerprint, is_current, write_note
from tokenface.data.shards.index import find_shards
from tokenface.data.synthetic import GENERATOR_VERSION, SyntheticFaces
from tokenface.errors import ConfigError
from tokenface.evaluation.geometry import PeopleScans, face_distances, predict_neutral
from tokenface.evaluation.landmarks import normalised_mean_error, predict_landmarks
from tokenface.evaluation.now import NowFolder
from tokenface.geometry import rotations
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.inference.checkpoint import load_checkpoint
from tokenface.training.config import TrainConfig
from tokenface.training.now_measure import now_validation
from tokenface.training.people import rendered_people
from tokenface.training.run import train
from tokenface.training.settings import RULE, overruled, train_config
from tokenface.training.stages import WEIGHTS

HELD_OUT_SEED = 192_837_465
"""Rendered people of this seed are neither trained on nor used to watch runs."""
LARGE_POSE = (45.0, 80.0)
"""Degrees of yaw, to either side, at which Fig. 7's comparison is made."""
CONFIDENCE = 0.95

Figures = tuple[float, float, float]
"""Median, mean and standard deviation of the distances, millimetres."""
Results = dict[str, dict[int, dict[str, float]]]
"""Row → seed → what was measured."""


@dataclass(frozen=True)
class Row:
    """One row of a table. changes: `section.key=value`.  paper: the paper's numbers, None where it has none."""

    name: str
    changes: tuple[str, ...]
    paper: Figures | None = None


@dataclass(frozen=True)
class Table:
    """source: where the paper has it.  reference: the row of the paper's choice, with which the others are compared.
    large_pose: measured on faces turned far away."""

    source: str
    reference: str
    rows: tuple[Row, ...]
    large_pose: bool = False


@dataclass(frozen=True)
class Scale:
    """changes: to every run, below the configuration file.  people, pictures: rendered for training.
    held_out: people to measure on."""

    changes: tuple[str, ...]
    people: int
    pictures: int
    held_out: int


def _balance(two_d: float, three_d: float, paper: Figures) -> Row:
    changes = (f"paper.weights.two_d={two_d}", f"paper.weights.three_d={three_d}")
    return Row(f"2D {two_d} 3D {three_d}", changes, paper)


TABLES = {
    "tokens": Table(
        "Table 4",
        "6 tokens",
        (
            Row("1 token", ("network.tokens=1",), (1.08, 1.41, 1.19)),
            Row("3 tokens", ("network.tokens=3",), (1.05, 1.31, 1.10)),
            Row("5 tokens", ("network.tokens=5",), (0.96, 1.15, 1.02)),
            Row("6 tokens", ("network.tokens=6",), (0.79, 0.99, 0.85)),
        ),
    ),
    "backbone": Table(
        "Table 1",
        "ViT",
        (
            Row(
                "ResNet50",
                ("network.backbone=resnet50", "network.readout=global", "network.tokens=1"),
                (1.10, 1.41, 1.19),
            ),
            Row("ViT", ("network.readout=global", "network.tokens=1"), (1.08, 1.35, 1.15)),
        ),
    ),
    "data": Table(
        "Table 5",
        "2D and 3D",
        (
            Row("2D", ("paper.mode=2d",), (1.03, 1.31, 1.11)),
            Row("3D", ("paper.mode=3d",), (0.85, 1.08, 0.89)),
            Row("2D and 3D", ("paper.mode=hybrid",), (0.79, 0.99, 0.85)),
        ),
    ),
    "weights": Table(
        "Table 6",
        "2D 0.4 3D 0.6",
        (
            _balance(0.3, 0.7, (0.83, 1.04, 0.89)),
            _balance(0.4, 0.6, (0.79, 0.99, 0.85)),
            _balance(0.5, 0.5, (0.81, 1.02, 0.87)),
            _balance(0.6, 0.4, (0.88, 1.10, 0.93)),
        ),
    ),
    "pose-aware": Table(
        "Fig. 7",
        "pose-aware",
        (
            Row("without", ("paper.weights.pose_aware.enabled=false",)),
            Row("pose-aware", ("paper.weights.pose_aware.enabled=true",)),
        ),
        large_pose=True,
    ),
}

_COMMON = ("paper.identity_encoder=null", "data.share=1.0", "run.validation_people=4")
SCALES = {
    "seconds": Scale(
        (
            *_COMMON, "network.backbone=vit_tiny_stem", "network.image_size=64", "run.steps=2", "run.batch=8",
            "optimiser.warmup_steps=1", "run.log_every=1", "run.validation_people=1", "data.workers=0",
        ),
        people=8, pictures=2, held_out=2,
    ),
    "minutes": Scale(
        (
            *_COMMON, "network.backbone=vit_tiny_stem_s4", "network.image_size=96", "run.steps=600", "run.batch=16",
            "optimiser.warmup_steps=50", "run.validate_every=100000", "data.workers=1",
        ),
        people=400, pictures=4, held_out=48,
    ),
    "full": Scale(
        (
            *_COMMON, "network.backbone=vit_base_patch16", "network.image_size=224", "run.steps=100000",
            "run.batch=64", "optimiser.learning_rate=2e-4", "run.validate_every=10000", "run.ahead=2",
            "data.workers=8",
        ),
        people=20000, pictures=4, held_out=500,
    ),
    # nothing but what measuring needs: the configuration file's settings, or the defaults, are the run's
    "file": Scale(("run.validation_people=4",), people=20000, pictures=4, held_out=500),
}  # fmt: skip


def ablate(
    table: str,
    output: str | Path,
    *,
    scale: str = "minutes",
    seeds: int = 3,
    config_path: str | Path | None = None,
    overrides: Iterable[str] = (),
    now: str | Path | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Train and measure every row with several seeds; finished runs are kept, interrupted ones go on.

    All runs see the same rendered people; a seed changes the fresh weights and the order of the pictures. With
    `data.root=…` among the overrides they train on those shards instead. Which setting wins where several name it:
    `training/settings.py`, printed before the first run.

    Args:
        table: a key of TABLES.  output: folder of the runs and tables.  scale: a key of SCALES.
        config_path: YAML above the scale's settings.  overrides: above it; `ROW:section.key=value` is for one row, and
            above the row's own changes.
        now: folder of the NoW download: every row is measured on its validation photos, too.
    Returns:
        `<output>/<table>-<scale>/table.md`, with `results.json` beside it; both are written anew after each run.
    Raises:
        ConfigError: no such table or scale, or an impossible setting.
    """
    chosen, size = _chosen(TABLES, table, "table"), _chosen(SCALES, scale, "scale")
    folder = Path(output) / f"{table}-{scale}"
    common, own = _by_row(chosen, overrides)
    config = train_config(config_path, common, size.changes)
    if config.stages:
        raise ConfigError("rows are single runs; give ablate a configuration without stages")
    if config.start_from and any(change.startswith("network.") for row in chosen.rows for change in row.changes):
        raise ConfigError(
            "start_from brings a whole network along, and the rows of this table differ in theirs; start their "
            "backbones alike with backbone_weights=…"
        )
    report(RULE)
    if lines := overruled(size.changes, config):
        report(f"of the scale '{scale}', overruled: {'; '.join(lines)}")
    head = load_head(config.head)
    if config.data.root is None:
        people = Path(output) / f"people-{size.people}x{size.pictures}-{config.network.image_size}"
        rendered_people(people, head, size.people, size.pictures, config.network.image_size)
        config = replace(config, data=replace(config.data, root=str(people)))
    facts = {"config": asdict(config), "head": head.data.geometry_hash(), "rows": own, "data": _shards_of(config)}
    _same_settings(folder, facts)
    write_atomically(folder / "config.yaml", to_yaml(config).encode())
    test = HeldOut(head, config.network.image_size, size.held_out, chosen.large_pose, now)
    mean_head = test.mean_head()
    results: Results = {row.name: {} for row in chosen.rows}
    for seed in range(seeds):  # seed by seed, so that a table that is cut short still compares its rows
        for row in chosen.rows:
            run = folder / f"{row.name.replace(' ', '-')}-seed{seed}"
            changes = [*_fitting(row, config, own[row.name], report), *row.changes, *own[row.name]]
            changes += [f"run.seed={seed}", f"data.seed={seed}", f"run.folder={folder}", f"run.name={run.name}"]
            figures = _trained(run, folder / "config.yaml", changes, test, report)
            results[row.name][seed] = figures
            report(f"{row.name}, seed {seed}: mean {figures['mean']:.3f} mm")
            content = {"table": table, "scale": scale, "settings": facts, "mean_head": mean_head, "runs": results}
            write_atomically(folder / "results.json", (json.dumps(content, indent=2) + "\n").encode())
            write_atomically(folder / "table.md", markdown(chosen, scale, results, mean_head).encode())
    return folder / "table.md"


def _by_row(table: Table, overrides: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """What is for all rows, and what is for one of them."""
    common: list[str] = []
    own: dict[str, list[str]] = {row.name: [] for row in table.rows}
    for override in overrides:
        key = override.partition("=")[0]
        if ":" not in key:
            common.append(override)
            continue
        name, _, change = override.partition(":")
        _chosen(own, name, "row")
        own[name].append(change)
    return common, own


def _fitting(row: Row, config: TrainConfig, own: list[str], report: Callable[[str], None]) -> list[str]:
    """Takes weights of another backbone than the row's back: they have no place in it."""
    wanted = next((c.partition("=")[2] for c in row.changes if c.startswith("network.backbone=")), None)
    given = any(change.startswith("backbone_weights=") for change in own)
    if config.backbone_weights is None or wanted in (None, config.network.backbone) or given:
        return []
    report(
        f"{row.name} starts from nothing: backbone_weights are of a {config.network.backbone}; its own are given by "
        f"'{row.name}:backbone_weights=FILE'"
    )
    return ["backbone_weights=null"]


def _shards_of(config: TrainConfig) -> str:
    """What the runs learn from: names, sizes and signatures of the shards."""
    return fingerprint(
        {shard.path.name: [shard.bytes, shard.signature] for shard in find_shards(str(config.data.root))}
    )


class HeldOut:
    """Rendered people that no run has seen, and how far a network's neutral faces are from theirs; NoW's, too, where
    its validation split is at hand."""

    def __init__(self, head: HeadModel, size: int, people: int, large_pose: bool, now: str | Path | None = None):
        self.head, self.now = head, None if now is None else NowFolder(now)
        if self.now is not None:
            self.now.images("validation")  # what is wrong with it is said before hours are spent
        self.facts = {
            "generator": GENERATOR_VERSION,
            "head": head.data.geometry_hash(),
            "size": size,
            "people": people,
            "large pose": large_pose,
            "now": None if now is None else str(Path(now).resolve()),
        }
        rotation = _large_turns(people) if large_pose else None
        batch = SyntheticFaces(head, size).sample(people, HELD_OUT_SEED, rotation=rotation)
        self.images, self.landmarks = batch.image, batch.landmarks68
        self.scans = PeopleScans.of(head, batch.neutral)

    def measure(self, weights: Path) -> dict[str, float]:
        """Median, mean and standard deviation of all distances (mm), landmark error (% of √box); the same three of
        NoW under "now median", …"""
        model, _, _ = load_checkpoint(weights, self.head)
        points = predict_landmarks(model, self.head, self.images)
        nme = float(normalised_mean_error(points, self.landmarks).mean()) * 100
        found = {**self._distances(predict_neutral(model, self.head, self.images).numpy()), "nme": nme}
        return found if self.now is None else found | now_validation(weights, self.now)

    def mean_head(self) -> dict[str, float]:
        """The same of the mean head, which knows nobody."""
        return self._distances(self.head.template[None].numpy())

    def _distances(self, predicted: np.ndarray) -> dict[str, float]:
        distances = np.concatenate(face_distances(self.scans, predicted, self.head))
        return {"median": float(np.median(distances)), "mean": float(distances.mean()), "std": float(distances.std())}


def interval(values: list[float]) -> tuple[float, float | None]:
    """Mean, and half the width of Student's 95 % confidence interval of it; None for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * spread


def markdown(table: Table, scale: str, results: Results, mean_head: dict[str, float]) -> str:
    """The table: ours with intervals, the paper's beside it and labelled so; rows without runs are left open.

    The last column of ours is paired: runs of one seed see the same pictures in the same order, and all are measured
    on the same people.
    """
    counts = sorted({len(runs) for runs in results.values()})
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    where = "turned 45° to 80° away" if table.large_pose else "in all poses"
    with_now = any("now mean" in run for runs in results.values() for run in runs.values())
    extra = " NoW median | mean | std |" if with_now else ""
    lines = [
        f"{table.source} at scale '{scale}', {seeds} seed(s), mean ± 95 % confidence interval over seeds. Ours: "
        f"scan-to-mesh distance in mm (NoW's protocol) on held-out rendered people {where}. The paper's: its own "
        "numbers, on NoW's validation photos with FLAME; compare orders and ratios, not millimetres.",
        "",
        f"| | seeds | median | mean | std | landmarks, % | mean less that of '{table.reference}', same seeds "
        f"|{extra} the paper's median | mean | std |",
        "| --- " * (13 if with_now else 10) + "|",
    ]
    reference = results.get(table.reference, {})
    for row in table.rows:
        runs = results.get(row.name, {})
        ours = [_cell([run[name] for run in runs.values()]) for name in ("median", "mean", "std", "nme")]
        pairs = [runs[seed]["mean"] - reference[seed]["mean"] for seed in runs if seed in reference]
        paired = "" if row.name == table.reference else _cell(pairs, signed=True)
        theirs = ["–"] * 3 if row.paper is None else [f"{value:.2f}" for value in row.paper]
        names = ("now median", "now mean", "now std") if with_now else ()
        on_now = [_cell([run[name] for run in runs.values() if name in run]) for name in names]
        lines.append(f"| {' | '.join([row.name, str(len(runs)), *ours, paired, *on_now, *theirs])} |")
    flat = [f"{mean_head[name]:.3f}" for name in ("median", "mean", "std")]
    lines.append(f"| {' | '.join(['mean head', '', *flat, '–', '', *['–'] * (6 if with_now else 3)])} |")
    return "\n".join(lines) + "\n"


def _same_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Remembers what the runs of a folder have in common; refuses to mix two sets of it in one table."""
    path = folder / "settings.json"
    settings = json.loads(json.dumps(settings))
    if not path.is_file():
        write_atomically(path, (json.dumps(settings, indent=2) + "\n").encode())
    elif read_marker(path) != settings:
        raise ConfigError(f"'{folder}' holds runs with other settings (settings.json); give another --output")


def _trained(run: Path, config_path, changes: list[str], test: HeldOut, report) -> dict[str, float]:
    measured, weights = run / "measured.json", run / WEIGHTS
    if not weights.is_file():
        goes_on = (run / "state.safetensors").is_file()
        weights = train(None if goes_on else config_path, changes, run if goes_on else None, report)
    facts = {**test.facts, "weights": content_hash(weights)}
    if is_current(measured, facts):
        return json.loads(measured.read_text(encoding="utf-8"))
    figures = test.measure(weights)
    write_atomically(measured, json.dumps(figures).encode())
    write_note(measured, facts)
    return figures


def _large_turns(people: int) -> torch.Tensor:
    """[people, 3, 3] head rotations, evenly over LARGE_POSE, left and right by turns."""
    low, high = (math.radians(angle) for angle in LARGE_POSE)
    yaw = torch.linspace(low, high, people) * torch.where(torch.arange(people) % 2 == 0, 1.0, -1.0)
    return rotations.rotvec_to_rotmat(torch.stack([torch.zeros(people), yaw, torch.zeros(people)], dim=-1))


def _chosen(options: dict, name: str, what: str):
    if name not in options:
        near = difflib.get_close_matches(name, options, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(options)}"
        raise ConfigError(f"no {what} '{name}'; {hint}")
    return options[name]


def _cell(values: list[float], signed: bool = False) -> str:
    if not values:
        return "–"
    mean, half = interval(values)
    text = f"{mean:+.3f}" if signed else f"{mean:.3f}"
    return text if half is None else f"{text} ± {half:.3f}"
