"""The graph that takes whole photos is the reconstruction that Python does, part by part and as a whole."""

from __future__ import annotations

import importlib.util
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch

import tokenface
from tokenface.deploy.drift import Drift
from tokenface.deploy.export import export
from tokenface.deploy.graph_names import PRECISIONS
from tokenface.deploy.mip_crops import MipPhotos
from tokenface.deploy.photo_graph import PHOTO_OUTPUTS, PHOTOS, PhotoGraph, roll_of, square_of_box, square_of_points
from tokenface.deploy.tflite_graph import TFLiteGraph
from tokenface.errors import ModelFileError
from tokenface.geometry import crop as crops
from tokenface.images.blazeface import TFLiteModel
from tokenface.images.models import model_path


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image's public-domain portrait")
    return data.astronaut()


@pytest.fixture(scope="module")
def detector_files() -> None:
    try:
        model_path("full_range", quiet=True)
    except ModelFileError as error:
        pytest.skip(f"needs the detector's files ({error})")


def batch(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("name", ["full_range", "back", "face_mesh"])
def test_tflite_networks_in_torch_give_what_litert_gives(detector_files, name):
    path = model_path(name, quiet=True)
    graph = TFLiteGraph(path)
    picture = np.random.default_rng(0).random((graph.size, graph.size, 3), dtype=np.float32)
    with torch.no_grad():
        answers = graph(torch.from_numpy(picture).permute(2, 0, 1)[None])
    for ours, theirs in zip(answers, TFLiteModel(path)(picture), strict=True):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours.numpy().ravel(), theirs.ravel(), atol=1e-5 * scale)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelFileError, match="cannot be read"):
        TFLiteGraph(tmp_path / "x.tflite")


@pytest.mark.parametrize("border", ["edge", "grey"])
@pytest.mark.parametrize(
    "square", [((220, 110), 60, 0.4), ((220, 110), 150, 0.3), ((256, 256), 700, -0.2), ((30, 40), 300, 3.0)]
)
def test_crops_equal_the_ones_that_opencv_takes(portrait, square, border):
    crop = crops.Crop(*square)
    expected = crops.extract(portrait, [crop], 192, border=border)[0]
    ours = MipPhotos(batch(portrait)).crop(
        torch.tensor([[[*crop.centre, crop.size, crop.angle]]]), 192, border == "grey"
    )
    difference = (ours[0, 0] - expected).abs()
    assert float(difference.mean()) < 0.003
    assert float(difference.max()) < 0.03  # OpenCV's weights have five bits, and grey is 127


def test_squares_equal_the_crops_of_the_images_package():
    random = np.random.default_rng(1)
    points = random.uniform(50, 150, (68, 2))
    roll = 0.3
    crop = crops.crop_from_landmarks(points, 1.25, roll)
    square = square_of_points(torch.from_numpy(points)[None, None], torch.tensor([[roll]]).double(), 1.1 * 1.25)
    np.testing.assert_allclose(square[0, 0].numpy(), [*crop.centre, crop.size, crop.angle], atol=1e-9)
    box = [10.0, 20.0, 90.0, 120.0]
    crop = crops.crop_from_box(box, 1.25, roll)
    square = square_of_box(torch.tensor([[box]]).double(), torch.tensor([[roll]]).double(), 1.25, crops.BOX_LOWERING)
    np.testing.assert_allclose(square[0, 0].numpy(), [*crop.centre, crop.size, crop.angle], atol=1e-9)
    across, up = random.normal(size=2), random.normal(size=2)
    assert float(roll_of(torch.from_numpy(across), torch.from_numpy(up))) == pytest.approx(crops.roll_of(across, up))


def test_the_whole_graph_finds_what_reconstruct_finds(detector_files, portrait):
    model = tokenface.load(runtime="torch")
    graph = PhotoGraph(model.network, model.head, model.crop_scale, faces=2).eval()
    face = model.reconstruct(portrait)[0]
    pair = np.concatenate([portrait, portrait[:, ::-1]], axis=1)
    with torch.no_grad():
        alone = dict(zip(PHOTO_OUTPUTS, graph(batch(portrait)), strict=True))
        both = dict(zip(PHOTO_OUTPUTS, graph(batch(pair)), strict=True))
    assert float(alone["score"][0, 0]) > 0.8
    assert float(alone["presence"][0, 0]) > 0.9
    assert float(alone["score"][0, 1]) == 0  # nobody else
    size = face.crop.size
    assert np.abs(alone["landmarks68"][0, 0].numpy() - face.landmarks).max() < 0.01 * size
    np.testing.assert_allclose(
        alone["crop"][0, 0].numpy(), [*face.crop.centre, size, face.crop.angle], atol=0.02 * size
    )
    assert 1000 * np.linalg.norm(alone["vertices"][0, 0].numpy() - face.vertices, axis=1).mean() < 0.2
    assert astuple(face.confidence_features)[0] == pytest.approx(float(alone["score"][0, 0]), abs=0.02)
    assert both["score"][0].min() > 0.6  # two faces in one photo, on both sides of it
    noses = sorted(both["landmarks68"][0, :, 30, 0].tolist())
    assert noses[0] == pytest.approx(face.landmarks[30, 0], abs=0.05 * size)
    assert noses[1] == pytest.approx(2 * portrait.shape[1] - face.landmarks[30, 0], abs=0.08 * size)


@pytest.fixture(scope="module")
def exported(detector_files, tmp_path_factory) -> tuple[Path, dict[str, Drift]]:
    """The photo graph on every runtime in every precision, and the drift of each file."""
    pytest.importorskip("onnxruntime", reason="needs the extra 'deploy'")
    folder = tmp_path_factory.mktemp("exported")
    runtimes = ["onnx", "openvino"] if importlib.util.find_spec("openvino") else ["onnx"]
    drifts = export(None, folder, runtimes, PRECISIONS, report=lambda _: None)
    return folder, {drift.file: drift for drift in drifts if drift.file.startswith("photo")}


@pytest.mark.slow
def test_photo_graphs_of_every_precision_are_measured(exported):
    _, drifts = exported
    for runtime in {file.rpartition(".")[2] for file in drifts}:
        full, half, eight = (drifts[f"photo.{precision}.{runtime}"] for precision in PRECISIONS)
        assert half.megabytes < 0.6 * full.megabytes
        assert eight.megabytes < 0.42 * full.megabytes
        assert full.parameters < 1e-3 < half.parameters < eight.parameters
        for drift, millimetres, pixels in ((full, 0.001, 0.001), (half, 0.03, 0.03), (eight, 0.5, 0.5)):
            assert drift.vertices.mean < millimetres, drift
            assert drift.landmarks.mean < pixels, drift
            found, by_torch, both = drift.faces
            assert found == by_torch == both > 10


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_exported_photo_graph_serves_onnxruntime_alone(exported, portrait, tmp_path, precision):
    from test_deploy import run_example

    folder, _ = exported
    np.save(tmp_path / "photo.npy", portrait)
    said = run_example("onnx_photo.py", folder, tmp_path / "photo.npy", tmp_path / "h.obj", precision)
    x, y = (float(value.strip("[] \n")) for value in said.split("nose at")[1].split(","))
    expected = tokenface.load().reconstruct(portrait)[0].landmarks[30]
    assert np.hypot(x - expected[0], y - expected[1]) < 2


@pytest.mark.slow
def test_photo_graphs_take_any_batch_and_size(exported, portrait):
    from tokenface.graphs.sessions import open_graph

    folder, drifts = exported
    pair = batch(portrait[:400, 20:]).repeat(2, 1, 1, 1).numpy()
    for file in drifts:
        graph = open_graph(folder / file, (PHOTOS,), PHOTO_OUTPUTS)
        alone, both = (dict(graph({PHOTOS: photos})) for photos in (pair[:1], pair))
        assert alone["score"].shape == (1, 1)
        assert both["vertices"].shape[:2] == (2, 1)
        np.testing.assert_allclose(both["landmarks68"][1], alone["landmarks68"][0], atol=0.1)
        assert min(both["score"].min(), both["presence"].min()) > 0.5
