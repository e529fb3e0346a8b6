"""The sections of `benchmarks.gpu`: each takes a setting and returns figures by name."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bench_generator import measure as generator_rate
from tokenface.core.configuration import read_config, to_yaml
from tokenface.head.registry import load_head
from tokenface.network.tokenface import TokenFace
from tokenface.training.config import TrainConfig
from tokenface.training.stages import plan

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "tokenface-b.yaml"
TESTS = ("tests/test_render_rasterizer.py", "tests/test_on_cuda.py", "tests/test_device_audit.py")
TOY = (
    "network.backbone=vit_tiny_stem", "network.image_size=48", "network.closeups=1", "network.recognition=false",
    "teaching.every=0", "run.batch=4", "run.device=cpu", "run.threads=1", "run.ahead=0", "run.steps=2",
    "run.validation_people=1", "run.checkpoint_every=1", "run.log_every=1", "optimiser.warmup_steps=1",
    "synthetic.block=2", "synthetic.fresh_per_step=2", "synthetic.ring=600", "synthetic.warm_start=4",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """Where figures go, whether it is a rehearsal on a CPU, and how long a section may take."""

    out: Path
    dry: bool
    seconds: float

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    def lasting(self, seconds: float) -> Setting:
        return replace(self, seconds=seconds)

    def wait(self) -> None:
        if not self.dry:
            torch.cuda.synchronize()

    def rate(self, run: Callable[[], object], count: int, seconds: float) -> float:
        """`count` things a call → things per second, after two calls to warm up."""
        seconds = 0.05 if self.dry else seconds
        for _ in range(1 if self.dry else 2):
            run()
        self.wait()
        start, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - start < seconds:
            run()
            self.wait()
            done += count
        return done / (time.perf_counter() - start)


def device(setting: Setting) -> dict:
    """The card's own rates: bf16 matrix products, and copies."""
    side = 128 if setting.dry else 8192
    a, b = (torch.randn(side, side, device=setting.device, dtype=torch.bfloat16) for _ in range(2))
    products = setting.rate(lambda: a @ b, 1, 3.0)
    long = torch.empty((1 if setting.dry else 1024) << 20, dtype=torch.uint8, device=setting.device)
    copies = setting.rate(lambda: long.clone(), 1, 2.0)
    name = "CPU, a rehearsal" if setting.dry else torch.cuda.get_device_name()
    return {
        "name": name,
        "torch": torch.__version__,
        "bf16_TFLOP_per_s": round(products * 2 * side**3 / 1e12, 3),
        "memory_GB_per_s": round(copies * 2 * long.numel() / 1e9, 1),
    }


def tests(setting: Setting) -> dict:
    """The tests of kernels and devices; skipped ones are named by number, not hidden."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *TESTS]
    command += ["--collect-only"] if setting.dry else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=setting.seconds)
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        raise RuntimeError("\n".join([*lines[-12:], done.stderr[-300:]]))
    return {"said": lines[-1]}


def generator(setting: Setting) -> dict:
    """Rendered faces per second, the best of some batch sizes (aim 2,000 at 224 px)."""
    head = load_head().to(setting.device)
    size, batches = (32, (2,)) if setting.dry else (224, (128, 256, 512))
    share = 0.05 if setting.dry else min(15.0, setting.seconds / 6)
    rates = {f"images_per_s_at_{size}_px_batch_{n}": generator_rate(head, size, n, share)[0] for n in batches}
    return {name: round(value, 1) for name, value in rates.items()}


def training(setting: Setting) -> dict:
    """tokenface-b's first stage: whole steps, the network alone, and its share of the measured matrix rate."""
    config = first_stage(setting)
    head = load_head(config.head)
    model = TokenFace(config.network, head.sizes)
    work = work_per_image(model, config.network.image_size)
    figures = {"parameters_M": round(sum(p.numel() for p in model.parameters()) / 1e6, 1)}
    alone = network_rate(setting, model.to(setting.device), config)
    steps, waiting = step_rate(setting, config)
    best = matrix_rate(setting)
    return figures | {
        "batch": config.run.batch,
        "GFLOP_per_image_forward_and_backward": round(work / 1e9, 2),
        "network_alone_images_per_s": round(alone, 1),
        "network_alone_share_of_matrix_rate": round(alone * work / best, 4),
        "whole_steps_images_per_s": round(steps, 1),
        "whole_steps_share_of_matrix_rate": round(steps * work / best, 4),
        "share_of_time_waiting_for_batches": round(waiting, 4),
    }


def reconstruct(setting: Setting) -> dict:
    """Faces per second of the default weights: the network alone, known boxes, and whole photos (aim 1,500)."""
    import tokenface
    from benchmarks.bench_detector import portrait

    model, photo = tokenface.load(device=setting.device), portrait()
    count, share = (2, 0.05) if setting.dry else (256, min(20.0, setting.seconds / 5))
    crops = torch.rand(count, 3, model.crop_size, model.crop_size, device=setting.device)
    (face,) = model.reconstruct(photo, max_faces=1)
    points = face.landmarks
    boxes = [[[*points.min(0), *points.max(0)]]] * count

    def network() -> None:
        with torch.inference_mode():
            model.predict(crops)

    def known() -> None:
        model.reconstruct([photo] * count, boxes, batch_size=count)

    figures = {
        "network_faces_per_s": setting.rate(network, count, share),
        "known_boxes_faces_per_s": setting.rate(known, count, share),
        "whole_photos_faces_per_s": setting.rate(lambda: model.reconstruct([photo] * count), count, share),
    }
    return {name: round(value, 1) for name, value in figures.items()}


def train(setting: Setting) -> dict:
    """One piece of tokenface-b's training, from where the last piece was stopped."""
    from tokenface.training.metrics import read_curve
    from tokenface.training.run import train as train_here

    folder = setting.out / "runs" / "tokenface-b"
    goes_on = (folder / "config.yaml").is_file()
    if setting.dry:
        config = setting.out / "toy.yaml"
        whole = read_config(TrainConfig, CONFIG, [*TOY, f"run.folder={setting.out / 'runs'}"])
        steps = 4 if goes_on else 2
        config.write_text(to_yaml(dataclasses.replace(whole, stages=(), run=replace(whole.run, steps=steps))))
        if goes_on:
            train_here(overrides=[f"run.steps={steps}"], resume=folder, report=lambda line: None)
        else:
            train_here(config, report=lambda line: None)
    else:
        command = [sys.executable, "-m", "tokenface", "train"]
        command += ["--resume", str(folder)] if goes_on else ["--config", str(CONFIG), f"run.folder={folder.parent}"]
        with (setting.out / "train.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            try:
                if process.wait(setting.seconds):
                    raise RuntimeError(f"the run failed; '{log.name}' says why")
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)  # a state is on disk at every hundredth step
                process.wait(SPARE_TO_STOP)
            finally:
                process.kill()
    curve = max(folder.rglob("train.csv"), key=lambda path: path.stat().st_mtime)
    last = read_curve(curve)[-1]
    return {
        "stage": curve.parent.name,
        **{name: round(float(last[name]), 4) for name in ("step", "total", "images_per_s", "waiting") if name in last},
    }


SPARE_TO_STOP = 15
"""Seconds in which a run that is told to stop ends."""


def first_stage(setting: Setting) -> TrainConfig:
    """The configuration of tokenface-b's first stage, at toy size for a rehearsal; without photos."""
    config = read_config(TrainConfig, CONFIG, ["teaching.every=0"])
    found = plan(config, setting.out)[0].config
    assert isinstance(found, TrainConfig)
    if setting.dry:
        file = setting.out / "first.yaml"
        file.write_text(to_yaml(dataclasses.replace(found, stages=())))
        found = read_config(TrainConfig, file, [*TOY, "network.closeups=0"])
    return found


def work_per_image(model: TokenFace, size: int) -> float:
    """Floating-point operations of one image forward and backward, two for a product and its sum."""
    counter = FlopCounterMode(display=False)
    with counter:
        output = model(torch.rand(1, 3, size, size))
        sum(value.square().mean() for _, value in output.items()).backward()
    model.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def network_rate(setting: Setting, model: TokenFace, config: TrainConfig) -> float:
    """Images per second forward and backward in bf16, without data, losses and optimiser."""
    images = torch.rand(config.run.batch, 3, *[config.network.image_size] * 2, device=setting.device)

    def run() -> None:
        with torch.autocast(setting.device, dtype=torch.bfloat16):
            output = model(images)
        sum(value.float().square().mean() for _, value in output.items()).backward()
        model.zero_grad(set_to_none=True)

    return setting.rate(run, config.run.batch, 10.0)


def step_rate(setting: Setting, config: TrainConfig) -> tuple[float, float]:
    """Images per second of whole training steps, rendering included, and the share of them spent waiting for data."""
    from tokenface.training.batches import Batches
    from tokenface.training.distribution import create_fabric
    from tokenface.training.loop import Trainer
    from tokenface.training.validation import Validation

    config = replace(config, run=replace(config.run, device=setting.device))
    head = load_head(config.head)
    with tempfile.TemporaryDirectory() as folder:
        fabric = create_fabric(config.run)
        there = load_head(config.head).to(fabric.device)
        batches = Batches(config, there, [], Path(folder) / "ring")
        validation = Validation(head, [], config.network.image_size, 1)
        model = TokenFace(config.network, head.sizes)
        trainer = Trainer(fabric, config, model, there, batches, validation, Path(folder))
        trainer.step()
        trainer.waited = trainer.stepped = 0.0
        rate = setting.rate(trainer.step, config.run.batch, 20.0)
        trainer.close()
        return rate, trainer.waited / max(trainer.stepped, 1e-9)


def matrix_rate(setting: Setting) -> float:
    """Floating-point operations per second of a large bf16 product on this card, now."""
    return device(setting)["bf16_TFLOP_per_s"] * 1e12 or 1.0


SECTIONS: dict[str, Callable[[Setting], dict]] = {
    "device": device,
    "tests": tests,
    "generator": generator,
    "training": training,
    "reconstruct": reconstruct,
    "train": train,
}
