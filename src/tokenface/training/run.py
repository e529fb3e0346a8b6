"""`tokenface train`: a configuration to a run folder with states, curves, pictures and finished weights."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from lightning_fabric import Fabric

from tokenface.core.configuration import to_yaml
from tokenface.core.files import make_folder, read_marker, write_atomically
from tokenface.core.threads import configured_threads
from tokenface.data.held_out import Split, digests
from tokenface.data.photos import photo_records
from tokenface.data.readers.registry import VALIDATING
from tokenface.data.record import FaceRecord, PhotoRecord
from tokenface.data.shards import ShardIndex, find_shards
from tokenface.data.shards.index import check_heads
from tokenface.data.shards.loader import Selection, ShardRecords, held_out_sets, split_people
from tokenface.errors import ConfigError, DataError
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.inference.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from tokenface.network.config import NetworkConfig, mean_camera
from tokenface.network.grow import grown
from tokenface.network.pretrained import load_pretrained
from tokenface.network.tokenface import TokenFace
from tokenface.training.batches import Batches, ProcessLayout
from tokenface.training.config import TrainConfig
from tokenface.training.distribution import World, create_fabric
from tokenface.training.features import FeatureBatches, check_features, frozen_prefixes
from tokenface.training.loop import Trainer
from tokenface.training.metrics import Metrics, Silent
from tokenface.training.module import freeze
from tokenface.training.people import rendered_people
from tokenface.training.preflight import check_disk, check_first_batch, check_settings
from tokenface.training.provenance import code_version, environment, note_start, without_folders
from tokenface.training.stages import WEIGHTS, Leg, plan, train_config
from tokenface.training.teaching import Teaching
from tokenface.training.temporal.config import TemporalConfig
from tokenface.training.validation import Validation
from tokenface.weights import COMPANIONS, companion, find_weights
from tokenface.weights import WEIGHTS as NAMED_WEIGHTS

TRAINING_CROP_SCALE = 1.5
"""Middle of the training crops' sides, in units of the landmark box (data/photos.py, data/synthetic.py)."""
MAX_HELD_OUT = 300
"""Records of held-out people that validation looks at."""
HELD_OUT = "held_out.json"
"""In a run's folder: digests of who is kept out of its training."""

WEIGHTS_LICENCE = "Apache-2.0; see LICENSES.md for the training data"

Report = Callable[[str], None]


def train(
    config_path: str | Path | None = None,
    overrides: Iterable[str] = (),
    resume: str | Path | None = None,
    report: Report = print,
    stage: str | None = None,
) -> Path:
    """Train, or continue a killed run; with stages, one after the other.

    Args:
        config_path: YAML of a `TrainConfig`; None for the defaults.
        overrides: `section.key=value`.
        resume: a run folder; its own configuration is used, overrides on top.
        stage: the one stage to run; None: all.
    Returns:
        The finished weights, `<run folder>/weights.safetensors`; of the last stage, `<run folder>/<stage>/…`. They are
        image weights also after a temporal stage, with its transformer beside them.
    Raises:
        ConfigError, OutputError, CheckpointError, DataError, HeadModelError: each says what to do.
    """
    folder = None if resume is None else Path(resume)
    if folder is not None:
        if config_path is not None:
            raise ConfigError(f"'{folder}' goes on with its own configuration; leave --config out, or change keys")
        config_path = folder / "config.yaml"
    config = train_config(config_path, overrides)
    check_settings(config.run)
    folder = folder or Path(config.run.folder) / config.run.name
    goes_on = resume is not None
    if not config.stages:
        if stage is not None:
            raise ConfigError(f"no stage '{stage}': this configuration has no stages")
        return _run(config, folder, goes_on, report)
    legs = plan(config, folder, stage)  # all of them are checked before the first one runs
    if not goes_on and any((leg.folder / "state.safetensors").exists() for leg in legs):
        raise _exists(folder)
    write_atomically(folder / "config.yaml", to_yaml(config).encode())
    for leg in legs:
        if goes_on and stage is None and leg.weights.is_file():
            report(f"{leg.name}: finished")
        elif isinstance(leg.config, TrainConfig):
            _run(leg.config, leg.folder, goes_on, report)
        else:
            _run_temporal(leg, report)
    return legs[-1].weights


def _run_temporal(leg: Leg, report: Report) -> None:
    """In the first process alone; the others have nothing to do.

    The image weights come to stand beside their transformer: a file of its own that `reconstruct` and `track` take.
    """
    from tokenface.training.temporal.run import train_temporal

    assert isinstance(leg.config, TemporalConfig)
    if World.is_first():
        settings = [f"{key}={json.dumps(value)}" for key, value in dataclasses.asdict(leg.config).items()]
        path = train_temporal(None, settings, report)
        images = find_weights(leg.config.weights)
        for kind in COMPANIONS:
            beside = companion(leg.weights, kind)
            if companion(images, kind).is_file() and beside != path:
                write_atomically(beside, companion(images, kind).read_bytes())
        write_atomically(leg.weights, images.read_bytes())
        report(f"temporal weights: {path}")


def _run(config: TrainConfig, folder: Path, goes_on: bool, report: Report) -> Path:
    if not goes_on and (folder / "state.safetensors").exists():
        raise _exists(folder)
    make_folder(folder)
    configured_threads(config.run.threads)
    fabric = create_fabric(config.run)
    report = report if fabric.is_global_zero else lambda line: None
    cpu_head = load_head(config.head)
    head = copy.deepcopy(cpu_head).to(fabric.device) if fabric.device.type != "cpu" else cpu_head
    model = _network(config, cpu_head)
    reads_once = bool(config.features.rendered or config.features.photos)
    if reads_once:
        check_features(config)
    frozen = freeze(model, config.freeze + (frozen_prefixes(model) if reads_once else ()))
    if fabric.is_global_zero and not goes_on:
        write_atomically(folder / "config.yaml", to_yaml(config).encode())
    before = _held_out_before(folder, config.start_from)
    training, held_out = photo_records(config.photos, before["photos"])
    shards = _shards(config, folder, cpu_head, fabric)
    shards, watched = held_out_sets(shards, VALIDATING - frozenset(config.data.datasets))
    split = Split(config.data.held_out_people, config.data.seed, frozenset(before["records"]))
    kept = split_people(shards, split) if shards else frozenset[str]()
    drawn = {"photos": digests({record.identity for record in held_out}), "records": digests(kept)}
    if fabric.is_global_zero:
        write_atomically(folder / HELD_OUT, json.dumps(drawn).encode())
    ring, layout = _ring_folder(folder, fabric), _layout(config, fabric)
    if reads_once:
        read = Path(config.features.folder or folder / "features")
        batches: Batches = FeatureBatches(config, head, training, ring, layout, model.to(fabric.device), read)
    else:
        batches = Batches(config, head, training, ring, shards, kept, layout)
    check_disk(folder, model, batches)
    _report_start(config, folder, fabric, model, frozen, len(training), len(held_out), batches, report)
    held_out = held_out + _held_out_records(shards, kept) + _watched_records(watched)
    watch = (config.run.validation_people, config.run.validation_photos)
    validation = Validation(cpu_head, held_out, config.network.image_size, *watch)
    teaching = None
    if config.teaching.every and batches.counts.landmark_photos:
        teaching = Teaching(cpu_head, training, config.network.image_size, config.teaching, folder)
    trainer = Trainer(fabric, config, model, head, batches, validation, folder, teaching)
    if fabric.is_global_zero and goes_on:  # only now is it known to fit the state
        write_atomically(folder / "config.yaml", to_yaml(config).encode())
    check_first_batch(batches, trainer.progress)
    metrics = None
    try:
        metrics = _metrics(config, folder, fabric, trainer)
        figures = trainer.fit(metrics, report)
    finally:
        trainer.close()
        if metrics is not None:
            metrics.close()
    for line in _troubles(batches):
        report(line)
    weights = folder / WEIGHTS
    finished = trainer.finished()  # all processes: it gathers what is spread over them
    if fabric.is_global_zero:
        provenance = _provenance(config, trainer, fabric, len(training) if batches.counts.landmark_photos else 0)
        provenance["held_out"] = drawn
        facts = {"crop": 1.25, "licence": WEIGHTS_LICENCE, "training": provenance, "metrics": figures}
        save_checkpoint(weights, finished.cpu(), cpu_head, facts)
    fabric.barrier()
    return weights


def _network(config: TrainConfig, head: HeadModel) -> TokenFace:
    if config.start_from:
        model = load_checkpoint(find_weights(config.start_from), head, image_size=config.network.image_size)[0]
        return (grown(model, config.network, config.run.seed) if config.grow else model).train()
    if config.grow:
        raise ConfigError("grow needs start_from=WEIGHTS: a network to grow from")
    model = TokenFace(_framed(config.network, head), head.sizes, seed=config.run.seed)
    if config.backbone_weights:
        named = config.backbone_weights in NAMED_WEIGHTS
        load_pretrained(
            model.backbone,
            find_weights(config.backbone_weights) if named else Path(config.backbone_weights).expanduser(),
        )
    return model


def _framed(network: NetworkConfig, head: HeadModel) -> NetworkConfig:
    """The network's mean camera fitted to this head in the middle of the training crops, unless one was configured."""
    if network.camera_mean != NetworkConfig().camera_mean:
        return network
    landmarks = head.landmarks68(head.template[None])[0]
    return network.replace(camera_mean=mean_camera(landmarks, TRAINING_CROP_SCALE))


def _shards(config: TrainConfig, folder: Path, head: HeadModel, fabric: Fabric) -> list[ShardIndex]:
    data = config.data
    if data.root is not None:
        shards = find_shards(data.root)
        if config.paper.mode != "2d":  # which looks at no vertices
            check_heads(shards, head.data.geometry_hash(), data.datasets)
        return shards
    if not data.rendered_people:
        return []

    def people() -> list[ShardIndex]:
        size = config.network.image_size
        return rendered_people(folder / "people", head, data.rendered_people, data.rendered_pictures, size, data.seed)

    if fabric.is_global_zero:
        people()
    fabric.barrier()
    return people()


def _held_out_records(shards: list[ShardIndex], people: frozenset[str]) -> list[PhotoRecord]:
    """Pictures of the people who are kept out of training, as photos with landmarks."""
    if not people:
        return []
    kinds = Selection(without_people=frozenset(e.identity for s in shards for e in s.entries) - people)
    records = ShardRecords(shards, selection=kinds)
    return _spread(records, [i for i in range(len(records)) if records.entry(i).identity in people])


def _watched_records(shards: list[ShardIndex]) -> list[PhotoRecord]:
    """Pictures of the data sets that validate."""
    records = ShardRecords(shards)
    return _spread(records, range(len(records)))


def _spread(records: ShardRecords, places: Sequence[int]) -> list[PhotoRecord]:
    """At most MAX_HELD_OUT of the records, evenly over the places; damaged ones are left out."""
    count = min(len(places), MAX_HELD_OUT)
    photos = []
    for i in range(count):
        with suppress(DataError):
            photos.append(_photo(records.record(places[i * len(places) // count])))
    return photos


def _photo(record: FaceRecord) -> PhotoRecord:
    return PhotoRecord(record.pictures[0].image, record.pictures[0].landmarks, record.identity, record.source)


def _held_out_before(folder: Path, start_from: str | None) -> dict[str, list[str]]:
    """Digests of who was held out when this run began, else by the weights that it starts from."""
    drawn = read_marker(folder / HELD_OUT)
    if drawn is None and start_from is not None:
        drawn = read_metadata(find_weights(start_from)).get("training", {}).get("held_out")
    drawn = drawn if isinstance(drawn, dict) else {}
    return {name: [str(one) for one in drawn.get(name, ())] for name in ("photos", "records")}


def _ring_folder(folder: Path, fabric: Fabric) -> Path:
    """One ring per machine: its processes share the rendering."""
    return folder / ("ring" if fabric.node_rank == 0 else f"ring-{fabric.node_rank}")


def _layout(config: TrainConfig, fabric: Fabric) -> ProcessLayout:
    return ProcessLayout(
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        passes=config.run.accumulate,
        local_rank=fabric.local_rank,
        local_world_size=max(1, fabric.world_size // max(1, getattr(fabric.strategy, "num_nodes", 1))),
        barrier=_barrier(fabric),
    )


def _barrier(fabric: Fabric) -> Callable[[], None]:
    """A barrier of its own: batches are made in a thread, whose waiting must not mix with the gradients' exchange."""
    if fabric.world_size == 1:
        return lambda: None
    group = torch.distributed.new_group(backend="gloo")

    def wait() -> None:
        torch.distributed.barrier(group)  # type: ignore[arg-type]

    return wait


def _metrics(config: TrainConfig, folder: Path, fabric: Fabric, trainer: Trainer) -> Metrics:
    if not fabric.is_global_zero:
        return Silent()
    step = trainer.progress.step
    note_start(folder, environment(fabric.device, fabric.world_size, config.run.precision), step)
    return Metrics(folder, step, config.run.wandb, dataclasses.asdict(config))


def _report_start(config, folder, fabric, model, frozen, photos, held_out, batches, report) -> None:
    processes = f" × {fabric.world_size} processes" if fabric.world_size > 1 else ""
    report(
        f"{folder}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters on {fabric.device}{processes}, "
        f"{photos} photos to train on, {held_out} held out"
    )
    records = {name: len(stream.records) for name, stream in batches.records.items()}
    if records:
        report("records: " + ", ".join(f"{count} {name}" for name, count in records.items()))
    if frozen:
        report(f"frozen: {', '.join(config.freeze)} ({frozen / 1e6:.2f} M parameters)")
    if config.start_from:
        report(f"starts from {config.start_from}")


def _provenance(config: TrainConfig, trainer: Trainer, fabric: Fabric, photos: int) -> dict[str, object]:
    return {
        "steps": trainer.progress.step,
        "images": trainer.progress.images,
        "hours": round(trainer.progress.seconds / 3600, 2),
        "device": fabric.device.type,
        "processes": fabric.world_size,
        "photos": photos,
        "records": {name: len(stream.records) for name, stream in trainer.batches.records.items()},
        "started_from": without_folders(config.start_from),
        "before": _before(config.start_from),
        "code": code_version(),
        "config": to_yaml(without_folders(config)),
    }


def _before(start_from: str | None) -> dict[str, object]:
    """What the weights that a run started from had seen."""
    if start_from is None:
        return {}
    training = read_metadata(find_weights(start_from)).get("training", {})
    return {key: training[key] for key in ("steps", "images", "hours", "before") if key in training}


def _troubles(batches: Batches) -> list[str]:
    found = batches.defects()
    return [f"{len(found)} damaged records were left out", *(f"{k}: {v}" for k, v in found.items())] if found else []


def _exists(folder: Path) -> ConfigError:
    return ConfigError(f"'{folder}' already holds a run; continue it with --resume {folder} or set run.name=…")
