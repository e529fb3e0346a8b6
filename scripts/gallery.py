"""The gallery's pictures: a public-domain portrait and our own renders, nobody else.

python scripts/gallery.py [--weights NAME_OR_PATH] [--output docs/images/gallery]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from openhead_pictures import clay, sheet
from PIL import Image
from skimage import data

import tokenface
from tokenface.data.synthetic import SyntheticFaces
from tokenface.inference.appearance import photo_face
from tokenface.model import Reconstructor
from tokenface.render.overlay import mesh_over_photo

DEFAULT_OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "gallery"
PEOPLE, PEOPLE_SEED = 8, 31_415_926
SIDE = 320
ACTIONS: dict[str, dict[str, float]] = {
    "eyes closed": {"eyeBlinkLeft": 1, "eyeBlinkRight": 1},
    "brows up": {"browInnerUp": 1, "browOuterUpLeft": 1, "browOuterUpRight": 1},
    "jaw open": {},
    "smile": {"mouthSmileLeft": 1, "mouthSmileRight": 1},
    "pucker": {"mouthPucker": 1},
    "cheeks": {"cheekPuff": 1},
}
JAW_OPEN = 0.3
"""Radians."""


def portrait(model: Reconstructor) -> Image.Image:
    photo = data.astronaut()
    return model.reconstruct(photo)[0].overlay(photo).convert("RGB")


def people(model: Reconstructor) -> Image.Image:
    """Rendered people, and their reconstructions over them."""
    images = SyntheticFaces(model.head, SIDE).sample(PEOPLE, seed=PEOPLE_SEED).image
    photos = [(image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for image in images]
    rows: list[list[np.ndarray]] = [[], []]
    for photo in photos:
        faces = model.reconstruct(photo, max_faces=1)
        rows[0].append(photo)
        rows[1].append(mesh_over_photo(photo, [photo_face(face) for face in faces]))
    return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))


def expressions(model: Reconstructor) -> Image.Image:
    """The portrait's head: as photographed, relaxed, and under each of the actions."""
    face = model.reconstruct(data.astronaut())[0]
    names = list(model.head.expression_names)
    rows, jaws = [face.parameters.expression, torch.zeros(len(names))], [face.parameters.jaw, torch.zeros(3)]
    for label, weights in ACTIONS.items():
        row = torch.zeros(len(names))
        for name, weight in weights.items():
            row[names.index(name)] = weight
        rows.append(row)
        jaws.append(torch.tensor([JAW_OPEN if label == "jaw open" else 0.0, 0.0, 0.0]))
    shape = face.parameters.shape.expand(len(rows), -1)
    vertices = model.head(shape, torch.stack(rows), torch.stack(jaws)).vertices
    return _heads(model, vertices, ["as photographed", "relaxed", *ACTIONS])


def identities(model: Reconstructor) -> Image.Image:
    """The mean head, and people of the identity basis."""
    shape = torch.randn(PEOPLE, model.head.sizes.shape, generator=torch.Generator().manual_seed(PEOPLE_SEED))
    shape[0] = 0
    return _heads(model, model.head(shape).vertices, ["mean", *(f"person {n}" for n in range(1, PEOPLE))])


def _heads(model: Reconstructor, vertices: torch.Tensor, labels: list[str]) -> Image.Image:
    """Heads [B, V, 3] side by side, a little from the side: shapes show better than from the front."""
    pictures = [clay(model.head, head.numpy(), SIDE, yaw=20) for head in vertices]
    return Image.fromarray(sheet(pictures, 4, labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    model = tokenface.load(arguments.weights, device="cpu")
    with torch.inference_mode():
        for draw in (portrait, people, expressions, identities):
            picture = draw(model)
            picture.thumbnail((1600, 1600))
            picture.save(arguments.output / f"{draw.__name__}.jpg", quality=88)
            print(arguments.output / f"{draw.__name__}.jpg", picture.size)


if __name__ == "__main__":
    main()
