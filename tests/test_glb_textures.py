"""Pictures inside of a GLB: what readers are told of them, and that the skin stays the skin."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pygltflib
import pytest
from PIL import Image
from stand_ins import photo_with_marks, stand_in_model
from test_formats import khronos_issues
from test_photo_texture import face_and_photo
from toy_head import toy_head_data

from tokenface import cli
from tokenface.cli.console import SOME_FAILED
from tokenface.errors import OutputError
from tokenface.formats.glb_textures import TEXTURE_FORMATS, WEBP
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.inference.face import Face
from tokenface.jobs.output_tree import Settings

KINDS = {"png": ["png"], "jpeg": ["jpeg"], "webp": ["webp"], "webp+png": ["png", "webp"]}


@pytest.fixture(scope="module")
def face() -> Face:
    return stand_in_model(HeadModel(toy_head_data())).reconstruct(photo_with_marks((60, 40, 40)))[0]


@pytest.fixture(scope="module")
def skin() -> np.ndarray:
    """[256, 256, 3] uint8: smooth colours with grain, as skin has them."""
    ramp = np.linspace(0, 60, 256)
    grain = np.random.default_rng(0).normal(size=(256, 256)) * 3
    red, green = np.meshgrid(ramp + 150, ramp + 90)
    return np.stack([red + grain, green + grain, 80 + grain + 0 * red], axis=-1).clip(0, 255).astype(np.uint8)


def pictures(document: pygltflib.GLTF2) -> list[tuple[str, np.ndarray]]:
    """Kind and pixels of every image; Pillow says the kind, not the file."""
    found = []
    for image in document.images:
        view = document.bufferViews[image.bufferView]
        data = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
        with Image.open(io.BytesIO(data)) as opened:
            assert image.mimeType == f"image/{opened.format.lower()}"
            found.append((opened.format.lower(), np.asarray(opened.convert("RGB")).astype(int)))
    return found


@pytest.mark.parametrize("form", TEXTURE_FORMATS)
def test_readers_are_told_what_they_must_know(face: Face, skin: np.ndarray, tmp_path: Path, form: str) -> None:
    path = face.save(tmp_path / "a.glb", texture=skin, texture_format=form)  # type: ignore[arg-type]
    document = pygltflib.GLTF2().load(str(path))
    found = pictures(document)
    assert [kind for kind, _ in found] == KINDS[form]
    for kind, pixels in found:
        difference = np.abs(pixels - skin)
        assert difference.max() == 0 if kind == "png" else 0 < difference.mean() < 3
    (texture,) = document.textures
    webp = (texture.extensions or {}).get(WEBP)
    assert (webp is not None) == ("webp" in form)
    assert (document.extensionsUsed or []) == ([WEBP] if webp else [])
    assert (document.extensionsRequired or []) == ([WEBP] if form == "webp" else [])
    if form == "webp":
        assert texture.source is None  # a reader that does not know it has nothing to show
        assert webp == {"source": 0}
    elif webp:
        assert (texture.source, webp["source"]) == (0, 1)


@pytest.mark.parametrize("form", TEXTURE_FORMATS)
def test_khronos_validator_finds_nothing(face: Face, skin: np.ndarray, tmp_path: Path, form: str) -> None:
    path = face.save(tmp_path / "a.glb", texture=skin, texture_format=form)  # type: ignore[arg-type]
    issues = khronos_issues(path)
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"]


def test_webp_and_jpeg_are_smaller_and_all_materials_have_them(tmp_path: Path) -> None:
    face, photo = face_and_photo(load_head("openhead"), 0.0)
    skin = face.photo_texture(photo)
    sizes = {}
    for form in TEXTURE_FORMATS:
        path = face.save(tmp_path / f"{form}.glb", texture=skin, iris=None, texture_format=form)
        sizes[form] = path.stat().st_size
        document = pygltflib.GLTF2().load(str(path))
        assert [kind for kind, _ in pictures(document)] == KINDS[form] * 4  # skin, eyes, teeth, tongue
    assert sizes["webp"] < sizes["jpeg"] < sizes["png"] < sizes["webp+png"]


def test_an_unknown_texture_format_is_one_line(face: Face, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OutputError, match="unknown texture format 'ktx2'; expected one of png"):
        face.save(tmp_path / "a.glb", texture="model", texture_format="ktx2")  # type: ignore[arg-type]
    assert cli.run(["reconstruct", "a.jpg", "--texture-format", "ktx2"]) == SOME_FAILED
    assert capsys.readouterr().err.count("\n") == 1


def test_another_texture_format_does_finished_photos_again() -> None:
    hashes = {Settings(texture_format=form).hash() for form in TEXTURE_FORMATS}
    assert len(hashes) == len(TEXTURE_FORMATS)
