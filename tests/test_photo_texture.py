"""The photo as skin: right where it is seen, mirrored where it is not, and nothing of the background anywhere."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.registry import load_head
from tokenface.head.transfer import cover
from tokenface.images.loading import ImageItem
from tokenface.images.srgb import to_bytes, to_linear
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.face import Face, Origin
from tokenface.inference.maps import PARTS
from tokenface.inference.photo_texture import merged_texture, photo_texture, texture_size
from tokenface.parameters import FaceParameters
from tokenface.render.renderer import Renderer
from tokenface.render.shading import AMBIENT
from tokenface.texture.fill import HeadGraph
from tokenface.texture.layout import Texels, surface_kinds
from tokenface.texture.view import colours_of

SIZE = 256
MAGENTA = np.array([255, 0, 255], np.uint8)


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


def face_and_photo(
    head, yaw: float, side_light: float = 0.0, tint: float = 0.0, jaw: float = 0.0
) -> tuple[Face, np.ndarray]:
    """A rendered person on magenta; what the face says of the skin is wrong by `tint` in all colours."""
    light = torch.zeros(9, 3)
    light[0] = AMBIENT * 0.85
    light[1] = side_light
    random = torch.Generator().manual_seed(0)
    vector = torch.tensor([7.0, 0.0, yaw, 0.0, 0.0, -0.1, 0.0])
    parameters = FaceParameters(
        shape=torch.zeros(head.sizes.shape),
        expression=torch.zeros(head.sizes.expression),
        jaw=torch.tensor([jaw, 0.0, 0.0]),
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
    face = Face(parameters, camera, box, ConfidenceFeatures(1.0, 1, 1, 1, 1), head, ImageItem("a", "a"), origin)
    if tint:
        face.__dict__["albedo"] = (face.albedo * (1 - tint)).astype(np.uint8)
    return face, image


def on_region(head, name: str, left: bool | None = None, size: int = SIZE) -> np.ndarray:
    """[R, R] bool: texels of a region, of one side."""
    triangle, _ = cover(head.data.uv, head.data.uv_faces, size)
    inside = np.zeros(head.vertex_count, bool)
    inside[head.data.regions[name]] = True
    if left is not None:
        inside &= (head.data.template[:, 0] > 0.01) == left
    return (triangle >= 0) & inside[head.data.faces[triangle.clip(0)]].all(-1)


def truth(head, yaw: float) -> np.ndarray:
    """[R, R, 3] the skin that `face_and_photo` painted, as it is without light."""
    return cv2.resize(face_and_photo(head, yaw)[0].albedo, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def test_teeth_are_lighter_than_the_albedo_of_a_one_piece_head(head):
    face, photo = face_and_photo(head, 0.0)
    texels = Texels.of(head.data, SIZE)
    image = photo_texture(face, photo, size=SIZE)[texels.covered]
    albedo = cv2.resize(face.albedo, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)[texels.covered]
    ratio = to_linear(image / 255.0).mean(1) / to_linear(albedo / 255.0).mean(1).clip(1e-3)
    teeth = texels.kinds["teeth"] > 0.99
    inside = (texels.kinds["mouth"] > 0.99) & (texels.kinds["teeth"] < 0.01)
    assert np.median(ratio[teeth]) > 1.8 * np.median(ratio[inside])


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


@pytest.mark.parametrize("shade", [(0.8, 0.85, 0.95), (1.12, 1.2, 1.3)], ids=["grey", "pale"])
def test_a_shirt_of_nearly_the_skins_colour_does_not_get_onto_the_neck(head, shade):
    """Below a white collar, with a dark tie on it."""
    face, photo = face_and_photo(head, 0.0)
    maps = face.maps()
    neck = maps.on_photo(maps.parts) == PARTS.index("neck")
    rows, columns = np.mgrid[:SIZE, :SIZE]
    top, bottom = rows[neck].min(), rows[neck].max()
    shirt = neck & (rows > top + 0.4 * (bottom - top))
    photo[shirt] = (photo[shirt] * shade).clip(0, 255)
    photo[shirt & (rows < top + 0.5 * (bottom - top))] = (240, 240, 240)
    photo[shirt & (np.abs(columns - SIZE / 2) < 8)] = (24, 32, 96)
    texels = Texels.of(head.data, SIZE)
    column, row = np.floor(face.camera.project(texels.at(face.vertices))).astype(int).clip(0, SIZE - 1).T
    front = texels.at(face.vertices)[:, 2] > face.vertices[head.data.regions["neck"], 2].mean()
    worn = np.zeros((SIZE, SIZE), bool)
    worn[texels.covered] = shirt[row, column] & front
    worn &= on_region(head, "neck")
    assert worn.sum() > 500
    texture = photo_texture(face, photo, size=SIZE, whole_head=True, mended=False).astype(float)
    assert np.abs(texture - truth(head, 0.0) * 0.85)[worn].mean() < 7


def seam_step(head, texture: np.ndarray) -> float:
    """Mean grey levels between the two texels of every place where the layout cuts the skin (one piece on both sides:
    borders of skin and eyes or mouth are none)."""
    data = head.data
    ends = np.concatenate([data.uv_faces[:, [0, 1]], data.uv_faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(data.uv),) * 2)
    _, piece = connected_components(graph, directed=False)
    pairs = np.unique(np.stack([data.faces.ravel(), data.uv_faces.ravel()], 1), axis=0)
    first = np.flatnonzero((pairs[:-1, 0] == pairs[1:, 0]) & (piece[pairs[:-1, 1]] == piece[pairs[1:, 1]]))
    skin = surface_kinds(data)["skin"][pairs[first, 0]]
    two = pairs[np.stack([first, first + 1], 1)[skin], 1]  # [K, 2]
    assert len(two) >= 10
    column, row = (data.uv[two] * [1, -1] + [0, 1]).transpose(2, 0, 1) * len(texture) - 0.5
    seen = [map_coordinates(texture[..., c].astype(float), [row, column], order=1, mode="nearest") for c in range(3)]
    return float(np.abs(np.diff(seen, axis=2)).mean())


@pytest.mark.parametrize(("yaw", "side_light"), [(0.0, 0.0), (0.5, 0.4), (-0.9, -0.4)])
def test_no_seam_shows_where_the_layout_is_cut(head, yaw, side_light):
    face, photo = face_and_photo(head, yaw, side_light=side_light)
    own = seam_step(head, cv2.resize(face.albedo, (512, 512), interpolation=cv2.INTER_CUBIC))
    for delight in (False, True):
        assert seam_step(head, photo_texture(face, photo, size=512, delight=delight)) <= 2.0
    assert own <= 2.0  # the model's own map has none
    halves = np.zeros((512, 512, 3), np.uint8)
    halves[:, 256:] = 200
    assert seam_step(head, halves) > 50  # one that is as dark on one side as the other is bright


def test_eyes_and_mouth_never_come_from_the_photo(head):
    face, photo = face_and_photo(head, 0.1, jaw=0.25)
    kinds = surface_kinds(head.data)
    hollow = torch.from_numpy((kinds["eyes"] | kinds["mouth"]).astype(np.float32))
    drawn = Renderer(head).render(face.parameters[None], SIZE, vertex_weights=hollow)
    inside = drawn.weight[0].numpy() > 0.01
    assert inside.sum() > 300
    green = photo.copy()
    green[inside] = (0, 255, 0)
    plain, painted = (photo_texture(face, picture, size=512).astype(int) for picture in (photo, green))
    texels = Texels.of(head.data, 512)
    own = np.zeros((512, 512), bool)
    own[texels.covered] = np.maximum(texels.kinds["eyes"], texels.kinds["mouth"]) > 0.5
    assert np.array_equal(plain[own], painted[own])
    greenish = painted[..., 1] - np.maximum(painted[..., 0], painted[..., 2])
    assert greenish[texels.covered].max() < 25  # nor is anything of them smeared over lids and lips


def test_what_stands_in_front_of_the_face_is_not_skin(head):
    face, photo = face_and_photo(head, 0.0)
    hair = photo.copy()
    forehead = face.camera.project(face.vertices[head.data.regions["forehead"]])
    low, high = forehead.min(0).astype(int), forehead.max(0).astype(int)
    middle = (low[0] + high[0]) // 2
    hair[low[1] : high[1] - 2, middle - 8 : middle + 30] = (30, 22, 18)
    wanted = photo_texture(face, photo, size=SIZE).astype(float)
    merged = merged_texture(face, hair, size=SIZE)
    changed = on_region(head, "forehead") & (np.abs(photo_texture_unmasked(face, hair) - wanted).max(-1) > 60)
    assert changed.sum() > 300  # the lock lies on the forehead
    assert np.abs(merged.image - wanted)[changed].mean() < 12
    assert merged.mask[changed].mean() < 0.1


def photo_texture_unmasked(face: Face, photo: np.ndarray) -> np.ndarray:
    """[R, R, 3] sRGB of the photo at every texel, whatever it shows."""
    texels = Texels.of(face.head.data, SIZE)
    return texels.map(to_bytes(colours_of(face, photo, texels)))


def test_delight_keeps_the_colour_of_the_skin_though_the_predicted_light_is_wrong(head):
    face, photo = face_and_photo(head, 0.0)
    light = face.parameters.light.view(9, 3).clone()
    light[:, 0] *= 0.6  # a light that would turn people pink, taken out
    wrong = replace(face, parameters=face.parameters.replace(light=light.flatten()))
    cheeks = on_region(head, "cheeks")
    skin, bare = (to_linear(image[cheeks] / 255).mean(0) for image in (
        photo_texture(face, photo, size=SIZE), photo_texture(wrong, photo, size=SIZE, delight=True)
    ))  # fmt: skip
    assert np.abs(np.log(skin / skin[1]) - np.log(bare / bare[1])).max() < 0.04


def test_back_light_leaves_no_dark_red_skin(head):
    face, photo = face_and_photo(head, 0.0)
    dark = to_bytes(to_linear(photo / 255) * np.float32([0.18, 0.10, 0.10]))  # 1/8 of the light, and a red one
    cheeks = on_region(head, "cheeks")
    skin = photo_texture(face, dark, size=SIZE)[cheeks].mean(0)
    shown = to_bytes(to_linear(photo_texture_unmasked(face, dark)[cheeks] / 255)).mean(0)
    own = truth(head, 0.0)[cheeks].mean(0)
    assert skin.mean() > 1.6 * shown.mean()
    as_photographed = photo_texture(face, dark, size=SIZE, mended=False)[cheeks].mean(0)
    assert np.abs(as_photographed - shown).max() < 8
    assert skin[0] / skin[1] < 0.5 * (shown[0] / shown[1] + own[0] / own[1])


def test_size_follows_the_photos_pixels(head):
    face, photo = face_and_photo(head, 0.0)
    assert texture_size(face) == 512
    crop = face.camera.crop
    sizes = [
        texture_size(replace(face, camera=replace(face.camera, crop=replace(crop, size=crop.size * factor))))
        for factor in (2, 4, 40)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 2048
    assert photo_texture(face, photo).shape == (512, 512, 3)


def test_texels_are_those_of_the_readable_cover(head):
    texels = Texels.of(head.data, 128)
    triangle, barycentric = cover(head.data.uv, head.data.uv_faces, 128)
    assert (texels.covered != (triangle >= 0)).mean() < 2e-4  # a centre on the very edge
    both = texels.covered & (triangle >= 0)
    mine = texels.map(texels.at(head.data.template))[both]
    theirs = (head.data.template[head.data.faces[triangle[both]]] * barycentric[both][..., None]).sum(1)
    assert np.quantile(np.abs(mine - theirs).max(1), 0.995) < 1e-4


def test_the_fill_is_harmonic_and_keeps_what_is_seen(head):
    graph = HeadGraph(head.data, surface_kinds(head.data)["scalp"])
    height = head.data.template[:, 1:2].astype(float)
    seen = np.zeros(head.vertex_count)
    seen[head.data.regions["face"]] = 1
    field = graph.field(height, seen, np.zeros(1), mirrored=False)
    kept = np.abs(field - height)[seen > 0]
    assert np.median(kept) < 0.0005
    assert kept.max() < 0.015  # the border of what is seen is smoothed
    hidden = (seen == 0) & surface_kinds(head.data)["skin"]
    # the maximum principle: nothing unseen is beyond what is seen
    assert field[hidden].max() <= height[seen > 0].max() + 1e-6
    assert field[hidden].min() >= min(height[seen > 0].min(), 0) - 1e-6


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
    shown = first.camera.project(first.vertices), second.camera.project(second.vertices)
    cheek = head.data.regions["left_cheek"]
    place = shown[1][cheek].mean(0).astype(int)
    marked = other.copy()
    spot = np.s_[place[1] - 6 : place[1] + 6, place[0] - 6 : place[0] + 6]
    marked[spot] = marked[spot] * 0.72  # a birthmark, still of the skin's kind
    left = on_region(head, "left_cheek")
    alone = photo_texture(first, photo, size=SIZE)
    both = photo_texture(first, photo, [(second, marked)], size=SIZE)
    difference = np.abs(both.astype(int) - alone).max(-1)
    assert np.array_equal(photo_texture(first, photo, [(second, marked)], size=SIZE), both)
    facing = [f.camera.rotation[2] @ np.array([1.0, 0, 0]) for f in (first, second)]
    assert facing[0] < 0 < facing[1]  # the left cheek is turned away in the first photo
    assert (difference[left] > 12).sum() > 20
