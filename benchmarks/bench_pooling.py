"""What several photos of one person are worth: error of the neutral face by the number of photos that are pooled.

    python benchmarks/bench_pooling.py [--weights NAME_OR_PATH] [--people 16] [--photos 8]

Rendered people from seeds that training never uses, each with other expressions, poses, light and framing per photo;
crops from the true landmarks; NoW's non-metrical protocol. Pooled as `reconstruct(photos, same_person=True)` does it.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import tokenface
from tokenface.data.synthetic import SyntheticFaces
from tokenface.evaluation.geometry import PeopleScans, face_error
from tokenface.inference.people import same_person
from tokenface.model import Reconstructor

TEST_SEED = 20_251_128
COUNTS = (1, 2, 4, 8, 16)


def measured(model: Reconstructor, people: int, photos: int) -> None:
    """Prints a line per number of photos."""
    head = model.head
    batch = SyntheticFaces(head, model.crop_size).sample(people * photos, TEST_SEED, images_per_identity=photos)
    images = [(image.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8) for image in batch.image]
    points = (batch.landmarks68 + 1) * (model.crop_size / 2)
    faces = model.reconstruct(images, landmarks=[own[None].numpy() for own in points])
    scans = PeopleScans.of(head, batch.neutral[::photos])
    mean_head = face_error(scans, head.template[None].numpy(), head).mean()
    print(f"{people} people, {photos} photos each, weights {model.origin.weights}; mean head {mean_head:.3f} mm")
    for count in (c for c in COUNTS if c <= photos):
        errors = []
        for start in range(0, photos - count + 1, count):  # groups that do not overlap
            shapes = [same_person(faces[p * photos + start :][:count])[0].parameters.shape for p in range(people)]
            with torch.no_grad():
                errors.append(face_error(scans, head(torch.stack(shapes)).vertices.numpy(), head))
        each = np.mean(errors, axis=0)
        error = each.mean()
        print(f"{count:3} photos: {error:.3f} mm, {error / mean_head:.3f} of the mean head's, {len(errors)} groups")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights")
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--photos", type=int, default=8)
    arguments = parser.parse_args()
    measured(tokenface.load(arguments.weights, "cpu"), arguments.people, arguments.photos)


if __name__ == "__main__":
    main()
