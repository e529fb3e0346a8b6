"""The photo as skin: right where it is seen, mirrored where it is not, and nothing of the background anywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.registry import load_head
from tokenface.head.texel_cover import cover
from tokenface.images.loading import ImageItem
from tokenface.inference.confidence import Evidence
from tokenface.inference.face import Face, Origin
from tokenface.inference.photo_texture import photo_texture
from tokenface.parameters import FaceParameters
from tokenface.render.renderer import Renderer
from tokenface.render.shading import AMBIENT

SIZE = 256
MAGENTA = np.array([255, 0, 255], np.uint8)


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


def face_and_photo(head, yaw: float, side_light: float = 0.0, tint: float = 0.0) -> tuple[Face, np.ndarray]:
    """A rendered person on magenta; what the face says of the skin is wrong by `tint` in all colours."""
    light = torch.zeros(9, 3)
    light[0] = AMBIENT * 0.85
    light[1] = side_light
    random = torch.Generator().manual_seed(0)
    vector = torch.tensor([7.0, 0.0, yaw, 0.0, 0.0, -0.1, 0.0])
    parameters = FaceParameters(
        shape=torch.zeros(head.sizes.shape),
        expression=torch.zeros(head.sizes.expression),
        jaw=torch.zeros(3),
        camera=vector,
        texture=torch.randn(head.sizes.texture, generator=random),
        light=light.flatten(),
    )
    drawn = Renderer(head).render(parameters[None], SIZE)
    image = (drawn.image[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255 + 0.5).astype(np.uint8)
    image[~drawn.mask[0].numpy()] = MAGENTA
    camera = FaceCamera(vector.double().numpy(), Crop((SIZE / 2, SIZE / 2), float(SIZE), 0.0), (SIZE, SIZE))
    box = np.array([0.0, 0, SIZE, SIZE])
    origin = Origin("test", "0" * 16, head.data.geometry_hash())
    face = Face(parameters, camera, box, Evidence(1.0, 1, 1, 1, 1), head, ImageItem("a", "a"), origin)
    if tint:
        face.__dict__["albedo"] = (face.albedo * (1 - tint)).astype(np.uint8)
    return face, image


def on_region(head, name: str, left: bool | None = None) -> np.ndarray:
    """[R, R] bool: texels of a region, of one side."""
    triangle, _ = cover(head.data.uv, head.data.uv_faces, SIZE)
    inside = np.zeros(head.vertex_count, bool)
    inside[head.data.regions[name]] = True
    if left is not None:
        inside &= (head.data.template[:, 0] > 0.01) == left
    return (triangle >= 0) & inside[head.data.faces[triangle.clip(0)]].all(-1)


def truth(head, yaw: float) -> np.ndarray:
    """[R, R, 3] the skin that `face_and_photo` painted, as it is without light."""
    import cv2

    return cv2.resize(face_and_photo(head, yaw)[0].albedo, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def test_seen_and_mirrored_skin_is_the_photos_though_the_prediction_is_wrong(head):
    face, photo = face_and_photo(head, yaw=0.6, tint=0.3)
    texture = photo_texture(face, photo, size=SIZE).astype(float)
    wanted = truth(head, 0.6) * 0.85
    for side in (True, False):  # one is seen, the other mostly turned away
        cheek = on_region(head, "cheeks", left=side)
        assert cheek.sum() > 500
        assert np.abs(texture - wanted)[cheek].mean() < 9, side
    predicted = face.albedo.astype(float).mean((0, 1)) * 0.85
    assert np.abs(predicted - wanted.mean((0, 1))).max() > 20  # the prediction alone would have failed


@pytest.mark.parametrize("yaw", [0.0, 0.5, -1.1])
def test_nothing_of_the_background_gets_onto_the_head(head, yaw):
    face, photo = face_and_photo(head, yaw)
    # the head stands a little beside where the photo shows it, as fits do
    moved = replace(face, camera=replace(face.camera, crop=Crop((SIZE / 2 + 5, SIZE / 2 - 3), float(SIZE), 0.0)))
    texture = photo_texture(moved, photo, size=SIZE).astype(int)
    magenta = np.minimum(texture[..., 0], texture[..., 2]) - texture[..., 1]
    assert (np.minimum(photo[..., 0], photo[..., 2]).astype(int) - photo[..., 1] > 200).mean() > 0.2
    own = np.minimum(truth(head, yaw)[..., 0], truth(head, yaw)[..., 2]).astype(int) - truth(head, yaw)[..., 1]
    for region in ("cheeks", "forehead", "chin", "neck", "scalp"):
        texels = on_region(head, region)
        assert (magenta[texels] > own[texels].max() + 25).mean() < 0.005, region


def test_delight_takes_the_side_light_out(head):
    face, photo = face_and_photo(head, 0.0, side_light=0.45)
    left, right = (on_region(head, "cheeks", left=side) for side in (True, False))
    lit = photo_texture(face, photo, size=SIZE).astype(float)
    delit = photo_texture(face, photo, size=SIZE, delight=True).astype(float)
    assert abs(lit[left].mean() - lit[right].mean()) > 25
    assert abs(delit[left].mean() - delit[right].mean()) < 8
    assert np.abs(delit - truth(head, 0.0))[left | right].mean() < 10


def test_a_second_photo_shows_what_the_first_does_not(head):
    first, photo = face_and_photo(head, 1.0)
    second, other = face_and_photo(head, -1.0)
    mark = (20, 60, 30)
    shown = first.camera.project(first.vertices), second.camera.project(second.vertices)
    cheek = head.data.regions["left_cheek"]
    place = shown[1][cheek].mean(0).astype(int)
    marked = other.copy()
    marked[place[1] - 6 : place[1] + 6, place[0] - 6 : place[0] + 6] = mark
    left = on_region(head, "left_cheek")
    alone = photo_texture(first, photo, size=SIZE)
    both = photo_texture(first, photo, [(second, marked)], size=SIZE)
    difference = np.abs(both.astype(int) - alone).max(-1)
    assert np.array_equal(photo_texture(first, photo, [(second, marked)], size=SIZE), both)
    facing = [f.camera.rotation[2] @ np.array([1.0, 0, 0]) for f in (first, second)]
    assert facing[0] < 0 < facing[1]  # the left cheek is turned away in the first photo
    assert (difference[left] > 30).sum() > 20
