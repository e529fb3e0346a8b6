"""The picture at the head of the README: the demo's photos, meshes over them, shaded meshes, landmarks.

python scripts/demo_picture.py [--weights NAME_OR_PATH] [--width 1400] [--output docs/images/demo.jpg]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from tokenface.jobs.examples import write_example_photos
from tokenface.jobs.reconstruct import Options, Run

DEFAULT_OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "demo.jpg"


def stacked(pictures: list[Image.Image], width: int) -> Image.Image:
    """Pictures below each other, all `width` pixels wide."""
    scaled = [p.convert("RGB").resize((width, round(p.height * width / p.width)), Image.LANCZOS) for p in pictures]
    sheet = Image.new("RGB", (width, sum(p.height for p in scaled)), "white")
    top = 0
    for picture in scaled:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights")
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = write_example_photos(Path(folder) / "photos")
        run = Run([photos], Path(folder) / "results", Options(weights=arguments.weights))
        for _ in run:
            pass
        pictures = [Image.open(done / "overlay.png") for done, _ in run.done]
        stacked(pictures, arguments.width).save(arguments.output, quality=88)


if __name__ == "__main__":
    main()
