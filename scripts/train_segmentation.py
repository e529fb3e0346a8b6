"""Trains the shipped segmentation network on rendered heads, in minutes: `python scripts/train_segmentation.py`."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

import torch

from tokenface.head.registry import load_head
from tokenface.segmentation.network import FILE, save_network
from tokenface.segmentation.training import SegmentationTraining, render_pictures, train


def main() -> None:
    parser = argparse.ArgumentParser(description="Segmentation network from rendered heads")
    default = Path(str(resources.files("tokenface"))) / "assets" / FILE
    parser.add_argument("-o", "--output", type=Path, default=default)
    parser.add_argument("--pictures", type=int, default=SegmentationTraining.pictures)
    parser.add_argument("--passes", type=int, default=SegmentationTraining.passes)
    given = parser.parse_args()
    options = SegmentationTraining(pictures=given.pictures, passes=given.passes)
    torch.set_num_threads(1)
    images, surfaces = render_pictures(load_head(), options.pictures, options.seed, options)
    print(f"{len(images)} pictures rendered", flush=True)
    network, facts = train(images, surfaces, options, lambda line: print(line, flush=True))
    save_network(given.output, network, facts)
    print(f"{given.output}: {given.output.stat().st_size / 1e6:.2f} MB, {facts['intersection_over_union']}")


if __name__ == "__main__":
    main()
