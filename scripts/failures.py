"""The model card's pictures: the worst of many rendered people, and how little of a person a neutral head keeps.

python scripts/failures.py [--weights NAME_OR_PATH] [--people 200] [--output docs/images/failures]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from openhead_pictures import clay, sheet
from PIL import Image

import tokenface
from tokenface.data.record import FaceBatch
from tokenface.data.synthetic import SyntheticFaces
from tokenface.evaluation.geometry import PeopleScans, face_error
from tokenface.evaluation.landmarks import normalised_mean_error, predict_landmarks
from tokenface.model import Reconstructor
from tokenface.render.renderer import Renderer

DEFAULT_OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "failures"
SEED = 27_182_818
"""Of people whom no training has seen."""
SIDE = 224
COLUMNS = 6
BLEND = 0.75
"""Of the drawn head over the picture."""


def alignment(model: Reconstructor, batch: FaceBatch) -> Image.Image:
    """The pictures with the largest landmark errors, and under each the head as it was predicted."""
    errors = normalised_mean_error(predict_landmarks(model.predict, model.head, batch.image), batch.landmarks68)
    worst = torch.as_tensor(errors).argsort(descending=True)[:COLUMNS]
    images = batch.image[worst]
    drawn = Renderer(model.head).render(model.predict(images), images.shape[-1])
    share = BLEND * drawn.mask[:, None].float()
    shown = images * (1 - share) + drawn.image.clamp(0, 1) * share
    labels = [f"{float(errors[i]) * 100:.0f} % of the box" for i in worst]
    return Image.fromarray(sheet([*_pictures(images), *_pictures(shown)], COLUMNS, labels + [""] * COLUMNS))


def identity(model: Reconstructor, batch: FaceBatch) -> Image.Image:
    """People of all degrees of error, a row each: the true neutral heads, then the predicted ones."""
    head = model.head
    predicted = head(model.predict(batch.image).shape).vertices.numpy()
    errors = face_error(PeopleScans.of(head, batch.neutral), predicted, head)
    chosen = np.argsort(errors)[np.linspace(0, len(errors) - 1, COLUMNS).round().astype(int)]
    rows = [batch.neutral.numpy()[chosen], predicted[chosen]]
    pictures = [clay(head, vertices, SIDE, yaw=20) for row in rows for vertices in row]
    labels = ["true" for _ in chosen] + [f"predicted, {errors[i]:.1f} mm" for i in chosen]
    return Image.fromarray(sheet(pictures, COLUMNS, labels))


def _pictures(images: torch.Tensor) -> list[np.ndarray]:
    pixels = [(image.permute(1, 2, 0).clamp(0, 1).numpy() * 255).round().astype(np.uint8) for image in images]
    return [np.array(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for picture in pixels]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    model = tokenface.load(arguments.weights, device="cpu")
    with torch.inference_mode():
        batch = SyntheticFaces(model.head, model.crop_size).sample(arguments.people, seed=SEED)
        for draw in (alignment, identity):
            picture = draw(model, batch)
            picture.save(arguments.output / f"{draw.__name__}.jpg", quality=88)
            print(arguments.output / f"{draw.__name__}.jpg", picture.size)


if __name__ == "__main__":
    main()
