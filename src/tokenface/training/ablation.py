"""`tokenface ablate`: rows of the paper's tables, trained at a chosen scale, measured on held-out people."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tokenface.core.configuration import to_yaml
from tokenface.core.files import read_marker, write_atomically
from tokenface.core.fingerprint import content_hash, fingerprint, is_current, write_note
from tokenface.data.shards.index import find_shards
from tokenface.errors import ConfigError
from tokenface.head.registry import load_head
from tokenface.training.ablation_measures import ACTIONS, LEAKED, HeldOut
from tokenface.training.ablation_tables import SCALES, TABLES, Row, Table
from tokenface.training.config import TrainConfig
from tokenface.training.people import rendered_people
from tokenface.training.run import train
from tokenface.training.stages import RULE, WEIGHTS, overruled, train_config

CONFIDENCE = 0.95

COMPONENT_FIGURES = (
    ACTIONS, "gaze", "brows", "lids", "lips", "blink difference", "r² of shape", "leak", "leak of expression",
    "leak of shape", LEAKED, "photo points %", "photo baseline", "photo mean head mm", "photo within / between",
)  # fmt: skip
"""Columns of the second table."""

Results = dict[str, dict[int, dict[str, float]]]
"""Row → seed → what was measured."""


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
    `training/stages.py`, printed before the first run.

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
    if table not in size.tables:
        raise ConfigError(f"the scale '{scale}' has the tables {', '.join(size.tables)}, not '{table}'")
    chosen = replace(chosen, rows=tuple(size.row(table, row) for row in chosen.rows))
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
    if not size.people:
        config = _replayed(config, Path(output))
    elif config.data.root is None:
        people = Path(output) / f"people-{size.people}x{size.pictures}-{config.network.image_size}"
        rendered_people(people, head, size.people, size.pictures, config.network.image_size)
        config = replace(config, data=replace(config.data, root=str(people)))
    facts = {"config": asdict(config), "head": head.data.geometry_hash(), "rows": own, "data": _shards_of(config)}
    _same_settings(folder, facts)
    write_atomically(folder / "config.yaml", to_yaml(config).encode())
    photos = config.photos if size.components else None
    asked = (size.held_out, chosen.large_pose, now, size.components, size.pairs, photos)
    test = HeldOut(head, config.network.image_size, *asked)
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


def _replayed(config: TrainConfig, output: Path) -> TrainConfig:
    """Rows that train on rendered faces and photos share one ring, and what was read of it.

    Raises:
        ConfigError: there are no photos.
    """
    if config.photos.tar is None and config.photos.share:
        raise ConfigError(
            "this scale's 2-D side is real photos with 68 landmarks; give them with photos.tar=FILE (docs/training.md)"
        )
    ring = config.synthetic.folder or str(output / f"ring-{config.network.image_size}-{config.synthetic.seed}")
    read = config.features.folder or str(output / "features")
    synthetic, features = replace(config.synthetic, folder=ring), replace(config.features, folder=read)
    return replace(config, synthetic=synthetic, features=features)


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
    if config.data.root is None:
        return ""
    return fingerprint(
        {shard.path.name: [shard.bytes, shard.signature] for shard in find_shards(str(config.data.root))}
    )


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
    return "\n".join([*lines, *_components(table, results)]) + "\n"


def _components(table: Table, results: Results) -> list[str]:
    """A second table where components were measured: value, and below it the difference from the reference row."""
    known = {name for runs in results.values() for run in runs.values() for name in run}
    shown = [name for name in COMPONENT_FIGURES if name in known]
    if ACTIONS not in known:
        return []
    lines = [
        "",
        "Components (`evaluation/component_leakage.py`, `evaluation/rendered_measures.py`; photos of people kept out): "
        f"each row, and its difference from '{table.reference}' on the same seeds.",
        "",
        f"| | {' | '.join(shown)} |",
        "| --- " * (1 + len(shown)) + "|",
    ]
    reference = results.get(table.reference, {})
    for row in table.rows:
        runs = results.get(row.name, {})
        cells = [_cell([run[name] for run in runs.values() if name in run]) for name in shown]
        lines.append(f"| {' | '.join([row.name, *cells])} |")
        if row.name != table.reference:
            pairs = [(runs[seed], reference[seed]) for seed in runs if seed in reference]
            less = [_cell([own[n] - usual[n] for own, usual in pairs if n in own and n in usual], True) for n in shown]
            lines.append(f"| {' | '.join(['less', *less])} |")
    return lines


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
        twin = None if goes_on else _same_run(run, train_config(config_path, changes))
        if twin is not None:
            report(f"{run.name} is {twin.parent.name}/{twin.name}")
            write_atomically(run / "config.yaml", (twin / "config.yaml").read_bytes())
            write_atomically(weights, (twin / WEIGHTS).read_bytes())
        else:
            weights = train(None if goes_on else config_path, changes, run if goes_on else None, report)
    facts = {**test.facts, "weights": content_hash(weights)}
    if is_current(measured, facts):
        return json.loads(measured.read_text(encoding="utf-8"))
    figures = test.measure(weights)
    write_atomically(measured, json.dumps(figures).encode())
    write_note(measured, facts)
    return figures


def _same_run(run: Path, config: TrainConfig) -> Path | None:
    """A finished run of another table with the same settings: tables share their usual row."""
    wanted = _without_place(config)
    for weights in sorted(run.parent.parent.glob(f"*/*/{WEIGHTS}")):
        known = weights.with_name("config.yaml")
        if weights.parent.parent != run.parent and known.is_file() and _without_place(train_config(known)) == wanted:
            return weights.parent
    return None


def _without_place(config: TrainConfig) -> TrainConfig:
    return replace(config, run=replace(config.run, folder="", name=""))


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
