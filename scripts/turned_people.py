"""Rendered people at every turn with a detector's points: labels whose quality falls with the angle (Fig. 7).

Writes a tar that `photos.tar` takes, and prints how far the face mesh's points are from the rendered truth (% of √box,
their mean displacement at the front taken out) by angle. Faces that the mesh does not see are left out.

    python scripts/turned_people.py OUTPUT.tar [--people 1024] [--size 192] [--seed 11]
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tokenface.data.sampling import rotation_from_angles
from tokenface.data.synthetic import SyntheticFaces
from tokenface.geometry.camera import Camera
from tokenface.geometry.crop import crop_from_landmarks
from tokenface.geometry.landmarks import MEDIAPIPE_TO_IBUG68
from tokenface.head.registry import load_head
from tokenface.images.facemesh import FaceMesh

BLOCK = 32
WIDEST = 85.0
"""Degrees of yaw to either side, all alike often."""
SEARCH_SCALE, SEEN = 1.6, 0.5
"""Crop around the truth in which the mesh looks, and the presence from which its prediction counts (as `prepare`
does)."""
BANDS = (0, 15, 30, 45, 60, 75, 90)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("output", type=Path)
    options.add_argument("--people", type=int, default=1024)
    options.add_argument("--size", type=int, default=192)
    options.add_argument("--seed", type=int, default=11)
    chosen = options.parse_args()
    mesh, faces = FaceMesh(quiet=True), SyntheticFaces(load_head("openhead"), chosen.size)
    found: list[tuple[float, np.ndarray, np.ndarray]] = []
    with tarfile.open(chosen.output, "w") as archive:
        for first in range(0, chosen.people, BLOCK):
            count = min(BLOCK, chosen.people - first)
            batch = faces.sample(count, chosen.seed + first, rotation=_turns(count, chosen.seed + first))
            yaw = torch.rad2deg(Camera.from_vector(batch.parameters.camera).angles()[:, 0]).abs().tolist()
            for i in range(count):
                image = (batch.image[i].permute(1, 2, 0) * 255).round().byte().numpy()
                truth = ((batch.landmarks68[i] + 1) * (chosen.size / 2)).double().numpy()
                prediction = mesh(image, crop_from_landmarks(truth, SEARCH_SCALE))
                if prediction.presence < SEEN:
                    continue
                points = prediction.points[list(MEDIAPIPE_TO_IBUG68), :2]
                found.append((yaw[i], points, truth))
                _add(archive, f"{first + i:06d}", image, points)
    _print(found, chosen.people)


def _turns(count: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    yaw = (torch.rand(count, generator=draw) * 2 - 1) * WIDEST
    pitch, roll = torch.randn(count, generator=draw) * 8, torch.randn(count, generator=draw) * 5
    return rotation_from_angles(*(torch.deg2rad(angle) for angle in (yaw, pitch, roll)))


def _add(archive: tarfile.TarFile, name: str, image: np.ndarray, points: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    label = json.dumps({"identity": name, "landmarks68": points.round(3).tolist()}).encode()
    for member, data in ((f"{name}.png", buffer.getvalue()), (f"{name}.json", label)):
        header = tarfile.TarInfo(member)
        header.size = len(data)
        archive.addfile(header, io.BytesIO(data))


def _print(found: list[tuple[float, np.ndarray, np.ndarray]], people: int) -> None:
    size = np.array([np.sqrt(np.ptp(truth, axis=0).prod()) for _, _, truth in found])
    missed = np.stack([points - truth for _, points, truth in found]) / size[:, None, None]
    yaw = np.array([angle for angle, _, _ in found])
    missed = missed - missed[yaw < BANDS[1]].mean(0)
    errors = 100 * np.linalg.norm(missed, axis=2).mean(1)
    print(f"{len(found)} of {people} faces seen")
    for low, high in pairwise(BANDS):
        inside = (yaw >= low) & (yaw < high)
        if inside.any():
            print(f"{low:2d}–{high}°: {inside.sum():4d} faces, points {errors[inside].mean():.2f} % off")


if __name__ == "__main__":
    main()
