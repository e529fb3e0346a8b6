"""Hair of a photo: the fitted style, its mesh, colour, and the files that hold it."""

from __future__ import annotations

import io
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pygltflib as gltf
import pytest
import torch
from PIL import Image
from scipy.spatial import cKDTree
from test_formats import khronos_issues

from tokenface.data.scene.outfit import Chances
from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces
from tokenface.errors import ConfigError
from tokenface.formats.glb import glb_bytes
from tokenface.geometry.closest import closest_on_mesh, on_triangles
from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.hair import fit, mesh, texture
from tokenface.hair.brows import brows_material, brows_part
from tokenface.hair.photo import photo_hair
from tokenface.head.registry import load_head
from tokenface.images.loading import ImageItem
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.face import Face, Origin
from tokenface.jobs.reconstruct import with_hair
from tokenface.model import Reconstructor
from tokenface.parsing.parser import Regions
from tokenface.parsing.regions import BACKGROUND, HAIR, HAT, REGIONS, SKIN
from tokenface.training.face_parsing import framing

SIZE = 192


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


@pytest.fixture(scope="module")
def seen(head) -> list[tuple[Face, np.ndarray, Regions]]:
    """Rendered people, the faces that they truly are, and the regions that they truly show."""
    config = SyntheticConfig(framing=framing(), chances=Chances.none())
    turn = torch.eye(3).expand(8, 3, 3)
    batch = SyntheticFaces(head, SIZE, config).sample(8, 11, rotation=turn, plain=True, regions=True)
    whole = Crop((SIZE / 2, SIZE / 2), float(SIZE))
    found = []
    for index in range(8):
        parameters = batch.parameters[index]
        photo = (batch.image[index].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        face = Face(
            parameters=parameters,
            camera=FaceCamera(parameters.camera.double().numpy(), whole, (SIZE, SIZE)),
            box=np.array([0.0, 0, SIZE, SIZE]),
            confidence_features=ConfidenceFeatures(1, 1, 1, 1, 1),
            head=head,
            item=ImageItem(photo, "rendered"),
            origin=Origin("test", "test", "test"),
        )
        shares = np.eye(len(REGIONS), dtype=np.float32)[batch.regions[index].numpy()].transpose(2, 0, 1)
        halved = torch.nn.functional.avg_pool2d(torch.from_numpy(shares.copy())[None], 2)[0].numpy()
        found.append((face, photo, Regions(whole, halved)))
    return found


@pytest.fixture(scope="module")
def haired(seen) -> tuple[Face, np.ndarray, Regions]:
    """The one with the most hair."""
    return max(seen, key=lambda each: each[2].shares[HAIR].mean())


def test_the_style_covers_the_hair_of_the_picture(seen):
    found = [fit.fit_hair(face, regions) for face, _, regions in seen]
    shown = [regions.shares[HAIR].mean() >= fit.LEAST_HAIR for _, _, regions in seen]
    assert [style is not None for style in found] == shown
    assert sum(shown) >= 5
    overlaps = [style.overlap for style in found if style is not None]
    assert np.mean(overlaps) > 0.7, overlaps
    assert min(overlaps) > 0.5, overlaps


def test_a_style_is_the_same_every_time(haired):
    face, _, regions = haired
    first, second = fit.fit_hair(face, regions), fit.fit_hair(face, regions)
    assert torch.equal(first.shell.rim, second.shell.rim)
    assert first.overlap == second.overlap


def test_a_hat_or_a_bald_head_gets_no_hair(seen):
    face, _, regions = seen[0]
    for region in (SKIN, HAT):
        shares = np.zeros_like(regions.shares)
        shares[BACKGROUND] = 1
        shares[BACKGROUND, 10:60], shares[region, 10:60] = 0, 1
        assert fit.fit_hair(face, replace(regions, shares=shares)) is None


@pytest.fixture(scope="module")
def part(haired):
    face, photo, regions = haired
    style = fit.fit_hair(face, regions)
    return mesh.hair_part(face.head, face.neutral_vertices, style, texture.hair_material(photo, regions))


def test_hair_lies_round_the_skull_and_on_no_face(haired, part):
    face = haired[0]
    rest = face.neutral_vertices
    scalp = rest[face.head.data.regions["scalp"]]
    near, _ = cKDTree(part.rest).query(scalp)
    assert np.quantile(near, 0.9) < 0.06
    assert part.rest[:, 1].max() > rest[:, 1].max()
    nose = rest[face.head.data.regions["nose"]]
    assert cKDTree(part.rest).query(nose)[0].min() > 0.012
    assert np.isfinite(part.rest).all()
    assert part.faces.max() < len(part.rest)
    assert ((part.uv >= 0) & (part.uv <= 1)).all()


def test_hair_turns_with_the_skull(part):
    assert (part.skinning_weights.sum(1) == 1).all()
    assert (part.skinning_weights.argmax(1) == 1).all()  # the neck's joint carries the skull


def test_long_hair_stays_outside_of_the_neck(head, seen):
    face = seen[0][0]
    style = fit.fit_hair(*next(each for each in seen if each[2].shares[HAIR].mean() > fit.LEAST_HAIR)[::2])
    shell = replace(style.shell, hang=torch.tensor([0.2]), opening=torch.tensor([1.2]), flare=torch.tensor([-0.3]))
    made = mesh.hair_part(head, face.neutral_vertices, replace(style, shell=shell), texture_of((0.2, 0.1, 0.05)))
    rest = np.asarray(face.neutral_vertices, np.float64)
    neck = rest[head.data.regions["neck"]]
    axis = np.array([0.0, rest[:, 2].mean() - 0.02])
    level = neck[:, 1].mean()
    near = np.abs(made.rest[:, 1] - level) < 0.01
    assert near.sum() > 20
    radius = np.hypot(neck[:, 0], neck[:, 2] - axis[1])[np.abs(neck[:, 1] - level) < 0.02]
    hair = np.hypot(made.rest[near, 0], made.rest[near, 2] - axis[1])
    assert np.quantile(hair, 0.05) > np.median(radius)


def texture_of(colour: tuple[float, float, float]):
    picture = texture.strands(np.array(colour), 0.3)
    return texture.PartMaterial("hair", picture, texture.ROUGHNESS)


@pytest.mark.parametrize("colour", [(0.3, 0.05, 0.03), (0.6, 0.5, 0.3), (0.01, 0.01, 0.012)])
def test_hair_has_the_photos_colour(colour):
    photo = np.full((64, 64, 3), 120, np.uint8)
    photo[:32] = texture.to_bytes(np.array(colour))
    shares = np.zeros((len(REGIONS), 32, 32), np.float32)
    shares[HAIR, :16], shares[BACKGROUND, 16:] = 1, 1
    found, contrast = texture.hair_colour(photo, Regions(Crop((32.0, 32.0), 64.0), shares))
    assert np.allclose(found, colour, rtol=0.1, atol=0.002)
    assert contrast == pytest.approx(texture.CONTRAST[0])
    strands = texture.strands(found, contrast)
    opaque = strands[..., 3] > 127
    assert 0.4 < opaque.mean() < 0.9
    mean = texture.bytes_to_linear(strands[..., :3])[opaque].mean(0)
    assert np.allclose(mean / mean.sum(), np.array(colour) / sum(colour), atol=0.03)


def test_a_glb_holds_hair_with_holes(haired, part):
    face = haired[0]
    data = glb_bytes(face.riggable_mesh(), face.rig().with_parts([part]), "jpeg")
    document = gltf.GLTF2.load_from_bytes(data)
    names = [node.name for node in document.nodes]
    assert names.count("hair") == 1
    assert names[-1] == "hair"
    primitive = document.meshes[document.nodes[-1].mesh].primitives[0]
    material = document.materials[primitive.material]
    assert (material.alphaMode, material.alphaCutoff, material.doubleSided) == ("MASK", 0.5, True)
    sampler = document.samplers[document.textures[material.pbrMetallicRoughness.baseColorTexture.index].sampler]
    assert (sampler.wrapS, sampler.wrapT) == (gltf.CLAMP_TO_EDGE, gltf.CLAMP_TO_EDGE)
    image = document.images[document.textures[material.pbrMetallicRoughness.baseColorTexture.index].source]
    assert image.mimeType == "image/png"  # JPEG has no opacity
    view = document.bufferViews[image.bufferView]
    picture = Image.open(io.BytesIO(document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]))
    assert picture.mode == "RGBA"
    others = [each for each in document.materials if each.name != "hair"]
    assert all(each.alphaMode == "OPAQUE" and each.alphaCutoff is None for each in others)


def test_the_khronos_validator_likes_hair(haired, part, tmp_path):
    path = haired[0].save(tmp_path / "hair.glb", texture="model", iris=None, hair=[part])
    issues = khronos_issues(path)
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"]


@pytest.fixture(scope="module")
def brows(haired):
    face, photo, _ = haired
    return brows_part(face.head, face.rig(parts=False), brows_material(face, photo))


def test_brows_lie_on_the_skin_above_the_eyes(haired, brows):
    face = haired[0]
    rest = face.neutral_vertices
    triangle, weights = closest_on_mesh(brows.rest, rest, face.faces)
    away = np.linalg.norm(on_triangles(rest, face.faces, triangle, weights) - brows.rest, axis=1)
    assert away.max() < 0.0015
    points = face.head.points68(rest, 0.0)
    assert brows.rest[:, 1].min() > points[36:48, 1].max()  # the lids
    assert np.ptp(brows.rest[:, 0]) > 0.9 * np.ptp(points[17:27, 0])
    assert (np.abs(brows.rest[:, 0]) > 0.004).all()  # two of them


def test_brows_move_with_the_skin(haired, brows):
    face = haired[0]
    rig = face.rig(parts=False)
    assert {"browInnerUp", "browDownLeft", "browOuterUpRight"} <= set(brows.morph_names)
    assert "tongueOut" not in brows.morph_names
    name = "browInnerUp"
    skin = rig.morphs[rig.morph_names.index(name)]
    moved = brows.morphs[brows.morph_names.index(name)]
    nearest = cKDTree(rig.rest).query(brows.rest)[1]
    assert np.linalg.norm(moved - skin[nearest], axis=1).max() < 0.4 * np.linalg.norm(skin, axis=1).max()
    shown = rig.with_parts([brows]).parts[-1]
    weights = dict(zip(rig.morph_names, rig.morph_weights, strict=True))
    assert [weights[each] for each in shown.morph_names] == list(shown.morph_weights)
    assert not face.rig(neutral=True, parts=False).with_parts([brows]).parts[-1].morph_weights.any()


def test_hair_asks_for_a_file_that_holds_it():
    assert with_hair(True, ("vrm", "obj"))
    assert not with_hair(False, ("obj",))
    with pytest.raises(ConfigError, match="--hair goes into GLB and VRM"):
        with_hair(True, ("obj", "json"))


def test_a_photo_of_a_person_gives_files_with_hair(tmp_path: Path):
    photo = Path(str(resources.files("tokenface").joinpath("assets", "eileen_collins.jpg")))
    (face,) = Reconstructor.load().reconstruct(photo)
    brows, found = photo_hair(face)
    assert brows.name == "brows"
    assert found.name == "hair"
    assert len(found.rest) > 2000
    for name in ("head.glb", "head.vrm"):
        path = face.save(tmp_path / name, texture="model", iris=None, hair=[brows, found])
        document = gltf.GLTF2.load_from_bytes(path.read_bytes())
        assert "hair" in [node.name for node in document.nodes]
    colour = texture.bytes_to_linear(found.material.texture[..., :3])[found.material.texture[..., 3] > 127].mean(0)
    assert colour[0] > colour[2]
    assert colour.mean() < 0.25
