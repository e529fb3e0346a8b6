"""Synthetic faces per second on this machine, by image size.

python benchmarks/bench_generator.py [--device cpu|cuda] [--sizes 128,160,192,224] [--batch 32] [--threads N]
"""

from __future__ import annotations

import argparse
import time

import torch

from tokenface.data.synthetic import SyntheticFaces
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head


def measure(head: HeadModel, size: int, batch: int, seconds: float) -> tuple[float, float]:
    """Images per second of wall time, and CPU milliseconds per image over all threads."""
    device = head.template.device
    faces = SyntheticFaces(head, size)
    generator = torch.Generator(device=device).manual_seed(0)
    for _ in range(2):
        faces.sample(batch, generator, images_per_identity=2)
    _wait(device)
    images, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        faces.sample(batch, generator, images_per_identity=2)
        images += batch
        _wait(device)
    return images / (time.perf_counter() - wall), (time.process_time() - cpu) / images * 1000


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--head", default="openhead")
    parser.add_argument("--sizes", default="128,160,192,224")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    head = load_head(options.head).to(options.device)
    print(f"generator, {options.device}, {options.threads} threads, batch {options.batch}")
    for size in (int(s) for s in options.sizes.split(",")):
        rate, cpu = measure(head, size, options.batch, options.seconds)
        print(f"  {size:4d} px  {rate:8.1f} images/s   {cpu:6.2f} CPU ms per image")


if __name__ == "__main__":
    main()
