"""Pictures of OpenHead for the documentation: mean, identity modes, people, actions, the landmarks at several yaws.

python scripts/openhead_pictures.py [--head openhead] [--output docs/images/openhead]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from tokenface.geometry.camera import Camera
from tokenface.head.arkit import ARKIT_NAMES, from_arkit
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.render.overlay import PhotoFace, landmarks_over_photo, shaded_meshes
from tokenface.render.renderer import Renderer

DEFAULT_OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "openhead"
PEOPLE_SEED = 7
WHOLE_HEAD = (np.array([0.0, -0.006, 0.0]), 0.165)
FACE = (np.array([0.0, -0.012, 0.03]), 0.105)
"""Centre and half width, metres, of what a picture shows."""


def clay(
    head: HeadModel, vertices: np.ndarray, side: int, *, yaw: float = 0.0, pitch: float = 0.0, frame=WHOLE_HEAD
) -> np.ndarray:
    """One head [V, 3] as clay, uint8 [side, side, 3]."""
    projected, _ = _project(vertices, side, yaw, pitch, frame)
    return shaded_meshes([PhotoFace(projected, head.data.faces)], side, side)


def landmarks(head: HeadModel, side: int, yaw: float) -> np.ndarray:
    """The mean head turned by some degrees, with the 68 points as they slide."""
    vertices = head().vertices
    points = head.landmarks68(vertices, torch.tensor([np.radians(yaw)], dtype=torch.float32))[0].numpy()
    projected, turn = _project(vertices[0].numpy(), side, yaw, 0.0, WHOLE_HEAD)
    picture = clay(head, vertices[0].numpy(), side, yaw=yaw)
    return landmarks_over_photo(picture, [PhotoFace(projected, head.data.faces, turn(points)[:, :2])])


def _project(vertices: np.ndarray, side: int, yaw: float, pitch: float, frame):
    centre, half = frame
    rotation = Rotation.from_euler("yx", [yaw, -pitch], degrees=True)

    def turn(points: np.ndarray) -> np.ndarray:
        moved = rotation.apply(points - centre) / half
        return (np.stack([moved[:, 0] + 1, 1 - moved[:, 1], -moved[:, 2]], axis=1) * side / 2).astype(np.float32)

    return turn(vertices), turn


def sheet(pictures: list[np.ndarray], columns: int, labels: list[str] | None = None) -> np.ndarray:
    """Equal pictures row by row, with their labels in the lower left corner."""
    side = pictures[0].shape[0]
    rows = -(-len(pictures) // columns)
    result = np.full((rows * side, columns * side, 3), 34, np.uint8)
    for number, picture in enumerate(pictures):
        picture = np.ascontiguousarray(picture)
        if labels is not None:
            cv2.putText(picture, labels[number], (6, side - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (240, 240, 240), 1, 16)
        top, left = number // columns * side, number % columns * side
        result[top : top + side, left : left + side] = picture
    return result


def textured(
    head: HeadModel, vertices: torch.Tensor, texture: torch.Tensor, yaw: torch.Tensor, side: int, frame=WHOLE_HEAD
) -> list[np.ndarray]:
    """Heads [B, V, 3] with albedo [B, A], turned by yaw [B] degrees, under one light; uint8 pictures."""
    count = len(vertices)
    centre, half = frame
    turn = torch.stack([torch.zeros(count), torch.deg2rad(yaw), torch.zeros(count)], dim=1)
    camera = Camera(torch.full((count,), 1 / half), turn, torch.zeros(count, 3))
    renderer = Renderer(head)
    light = torch.zeros(count, 9, 3)
    light[:, 0] = 2.0  # ambient
    light[:, 1], light[:, 2], light[:, 3] = 0.3, 0.4, 0.75  # from the upper right, in front
    centred = vertices - torch.tensor(centre, dtype=torch.float32)
    assert renderer.albedo is not None
    drawn = renderer.render_vertices(centred, camera, light, 2 * side, renderer.albedo(texture))
    image = torch.where(drawn.mask[:, None], drawn.image, torch.tensor(0.16)).clamp(0, 1)
    image = torch.nn.functional.avg_pool2d(image, 2)
    return [(255 * picture.permute(1, 2, 0)).round().byte().numpy() for picture in image]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", default="openhead", help="head model: a name or a file")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder for the pictures")
    arguments = parser.parse_args()
    head = load_head(arguments.head)
    arguments.output.mkdir(parents=True, exist_ok=True)
    mean = head().vertices[0].numpy()

    def write(name: str, picture: np.ndarray) -> None:
        path = arguments.output / name
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
        if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality):
            raise OSError(f"cannot write '{path}'")
        print(path)

    views = ((0, 0), (35, 0), (90, 0), (180, 0), (0, -35), (0, 35))
    write("mean.jpg", sheet([clay(head, mean, 300, yaw=y, pitch=p) for y, p in views], 6))

    pictures, labels = [], []
    for mode in range(10):
        for sigma in (-3.0, 3.0):
            shape = torch.zeros(1, head.sizes.shape)
            shape[0, mode] = sigma
            vertices = head(shape).vertices[0].numpy()
            pictures += [clay(head, vertices, 200), clay(head, vertices, 200, yaw=60)]
            labels += [f"mode {mode + 1}, {sigma:+.0f} sigma", ""]
    write("modes.jpg", sheet(pictures, 8, labels))

    generator = torch.Generator().manual_seed(PEOPLE_SEED)
    people = head(torch.randn(25, head.sizes.shape, generator=generator)).vertices.numpy()
    write("people.jpg", sheet([clay(head, v, 200, yaw=y) for v in people for y in (0, 50)], 10))
    generator = torch.Generator().manual_seed(PEOPLE_SEED)
    shape = torch.randn(25, head.sizes.shape, generator=generator)
    texture = torch.randn(25, head.sizes.texture, generator=generator)
    yaw = torch.tensor([-25.0, 0.0, 25.0]).repeat(9)[:25]
    write("people_textured.jpg", sheet(textured(head, head(shape).vertices, texture, yaw, 220), 5))

    faces, labels = [], []
    for name in ARKIT_NAMES:
        if name == "tongueOut":
            continue
        weights = torch.zeros(1, len(ARKIT_NAMES))
        weights[0, ARKIT_NAMES.index(name)] = 1
        if name == "mouthClose":  # closes the lips of an open jaw
            weights[0, ARKIT_NAMES.index("jawOpen")] = 1
            name = "mouthClose + jawOpen"
        expression, jaw = from_arkit(head, weights)
        faces.append(head(expression=expression, jaw=jaw).vertices)
        labels.append(name)
    vertices = torch.cat(faces)
    skin = torch.zeros(len(faces), head.sizes.texture)
    pictures = textured(head, vertices, skin, torch.full((len(faces),), 12.0), 190, FACE)
    write("actions.jpg", sheet(pictures, 9, labels))
    yaws = (0, 20, 40, 65, 90)
    write("landmarks.jpg", sheet([landmarks(head, 360, yaw) for yaw in yaws], 5, [f"{yaw} degrees" for yaw in yaws]))


if __name__ == "__main__":
    with torch.no_grad():
        main()
