"""A contact sheet of synthetic faces: what the generator makes, as a picture for the documentation.

python scripts/contact_sheet.py [--head openhead] [--size 160] [--rows 5] [--columns 8] [--per-person 2]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tokenface.data.synthetic import SyntheticFaces
from tokenface.head.registry import load_head

DEFAULT_OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "synthetic_faces.png"


def tile(images: torch.Tensor, columns: int) -> Image.Image:
    """[B, 3, S, S] in [0, 1] → one picture, row by row."""
    size = images.shape[-1]
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows * size, columns * size, 3), np.uint8)
    pixels = (images.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()
    for i, picture in enumerate(pixels):
        top, left = i // columns * size, i % columns * size
        sheet[top : top + size, left : left + size] = picture
    return Image.fromarray(sheet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", default="openhead", help="head model: a name or a file")
    parser.add_argument("--size", type=int, default=160, help="pixels of one picture, a multiple of 8")
    parser.add_argument("--rows", type=int, default=5)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--per-person", type=int, default=2, help="consecutive pictures of one person")
    parser.add_argument("--plain", action="store_true", help="no occluders and no degradation")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    options = parser.parse_args()
    faces = SyntheticFaces(load_head(options.head), options.size)
    count = options.rows * options.columns
    batch = faces.sample(count, options.seed, options.per_person, plain=options.plain)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    tile(batch.image, options.columns).save(options.output, optimize=True)
    print(options.output)


if __name__ == "__main__":
    main()
