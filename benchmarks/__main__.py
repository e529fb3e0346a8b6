"""`make bench`: what each part costs on this machine, one table.

python -m benchmarks [--photo FILE] [--weights NAME_OR_PATH] [--threads N]
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.bench_detector import portrait
from benchmarks.bench_generator import measure as generator_rate
from benchmarks.bench_runtimes import rows as runtimes
from tokenface.core.configuration import read_config
from tokenface.geometry.camera import Camera
from tokenface.head.registry import load_head
from tokenface.images import FaceDetector
from tokenface.inference.checkpoint import load_checkpoint
from tokenface.network.tokenface import TokenFace
from tokenface.render.rasterizer import rasterize
from tokenface.training.batches import Batches
from tokenface.training.config import TrainConfig
from tokenface.training.distribution import create_fabric
from tokenface.training.loop import Trainer
from tokenface.training.validation import Validation
from tokenface.weights import find_weights

DEFAULT_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "default.yaml"


def milliseconds(run: Callable[[], object], seconds: float = 3.0, repeats: int = 5) -> float:
    """Best wall time of one call, after one call to warm up."""
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while repeats > 0 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        repeats -= 1
        if repeats <= 0 and time.perf_counter() > end:
            break
    return 1000 * best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, Python {sys.version.split()[0]}")
    for name, value in rows(arguments.photo, arguments.weights):
        print(f"{name:52} {value}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'peak memory of this process':52} {peak:.0f} MB")


def rows(photo_path: Path | None, weights: str | None):
    """(what, figure) pairs, each measured when it is asked for."""
    import tokenface

    photo = portrait() if photo_path is None else tokenface.images.load_image(photo_path)
    with torch.inference_mode():
        reconstructor = tokenface.load(weights)
        with tempfile.TemporaryDirectory() as folder:

            def end_to_end() -> None:
                for index, face in enumerate(reconstructor.reconstruct(photo)):
                    for suffix in ("glb", "obj", "ply", "json"):
                        face.save(Path(folder) / f"{index}.{suffix}")

            def with_overlay() -> None:
                for face in reconstructor.reconstruct(photo):
                    face.overlay()

            yield "photo → GLB, OBJ, PLY, JSON", f"{milliseconds(end_to_end):8.0f} ms"
            yield "photo → overlay picture", f"{milliseconds(with_overlay):8.0f} ms"
        yield "photo → parameters", f"{milliseconds(lambda: reconstructor.reconstruct(photo)):8.1f} ms"
        detector = FaceDetector()
        yield "detector and face mesh", f"{milliseconds(lambda: detector.detect(photo)):8.1f} ms"

        network, head, _ = load_checkpoint(find_weights(weights))
        size = network.config.image_size
        images = torch.rand(16, 3, size, size, generator=torch.Generator().manual_seed(0))
        for label, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):

            def forward(dtype: torch.dtype = dtype) -> None:
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
                    network(images)

            yield f"network {size} px, {label}, batch 16", f"{milliseconds(forward) / 16:8.2f} ms per face"
        parameters = network(images)
        decode = milliseconds(lambda: head(parameters.shape, parameters.expression, parameters.jaw)) / 16
        yield "head decode, batch 16", f"{decode:8.2f} ms per face"
        vertices = head(parameters.shape, parameters.expression, parameters.jaw).vertices
        projected = Camera.from_vector(parameters.camera).project(vertices)
        for pixels in (224, 512):
            cost = milliseconds(lambda pixels=pixels: rasterize(projected, head.faces, pixels, pixels)) / 16
            yield f"rasteriser {pixels}², {len(head.faces)} triangles, batch 16", f"{cost:8.2f} ms per face"
    for pixels in (128, size):
        yield f"generator {pixels}²", f"{generator_rate(head, pixels, 16, 6.0)[0]:8.1f} images/s"
    yield f"training {size}², whole steps of the default run", f"{training_rate():8.1f} images/s"
    yield from runtimes(weights, repeats=5, quick=True)


def training_rate(steps: int = 12, warm_up: int = 4) -> float:
    """Images per second of the default configuration without photos: rendering, both passes, losses, optimiser."""
    config = read_config(TrainConfig, DEFAULT_CONFIG, ["run.validation_people=1", "synthetic.warm_start=64"])
    head = load_head(config.head)
    model = TokenFace(config.network, head.sizes)
    with tempfile.TemporaryDirectory() as folder:
        batches = Batches(config, head, [], Path(folder) / "ring")
        validation = Validation(head, [], config.network.image_size, config.run.validation_people)
        trainer = Trainer(create_fabric(config.run), config, model, head, batches, validation, Path(folder))
        for step in range(warm_up + steps):
            if step == warm_up:
                start = time.perf_counter()
            trainer.step()
        return steps * config.run.batch / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
