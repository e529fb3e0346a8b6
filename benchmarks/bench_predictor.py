"""dlib's 68-point predictor beside the face mesh on labelled photos, upright and turned.

python -m benchmarks.bench_predictor --photos photos.tar --predictor shape_predictor_68_face_landmarks.dat [--every 85]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from tokenface.data.readers.landmark_tar import YOUTUBE_FACES_SHIFT, read_landmark_tar
from tokenface.prepare.faces import FaceFinder


def turned(image: np.ndarray, points: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture turned anticlockwise about its middle, with room for its corners, and its points."""
    side = max(image.shape[:2])
    larger = round(side * np.sqrt(2))
    matrix = cv2.getRotationMatrix2D((image.shape[1] / 2 - 0.5, image.shape[0] / 2 - 0.5), degrees, 1.0)
    matrix[:, 2] += (larger - np.array([image.shape[1], image.shape[0]])) / 2
    picture = cv2.warpAffine(image, matrix, (larger, larger), borderMode=cv2.BORDER_REPLICATE)
    return picture, (points - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="tar of the YouTube Faces crops")
    parser.add_argument("--predictor", type=Path, required=True)
    parser.add_argument("--every", type=int, default=85, help="take every so many-th photo")
    options = parser.parse_args()
    records = list(read_landmark_tar(options.photos, YOUTUBE_FACES_SHIFT))[:: options.every]
    finders = {"face mesh": FaceFinder(), "dlib": FaceFinder(options.predictor)}
    print(f"{len(records)} photos; mean distance of 68 points over √(box area), per cent")
    for degrees in (0, 15, 30, 45, 90, 180):
        errors: dict[str, list[float]] = {name: [] for name in finders}
        for record in records:
            size = np.sqrt(np.prod(np.ptp(record.landmarks, axis=0)))
            image, points = turned(record.image, record.landmarks, degrees)
            for name, finder in finders.items():
                found = finder.find(image, None)
                if found is not None and found.landmarks68 is not None:
                    errors[name].append(100 * np.linalg.norm(found.landmarks68 - points, axis=1).mean() / size)
        row = "  ".join(f"{name} {np.mean(values):.2f} ({len(values)} found)" for name, values in errors.items())
        print(f"turned {degrees:3d}°  {row}", flush=True)


if __name__ == "__main__":
    main()
