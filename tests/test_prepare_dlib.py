"""dlib's regression trees as the source of the 68 points: a small predictor, trained here on rendered faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tokenface.data.synthetic import SyntheticFaces
from tokenface.errors import ModelFileError
from tokenface.head.registry import load_head
from tokenface.images.detection import Detection
from tokenface.prepare import faces as faces_module
from tokenface.prepare.faces import DlibPredictor, FaceFinder

dlib = pytest.importorskip("dlib", reason="needs dlib; pip install 'tokenface[dlib]'")
SIZE, COUNT = 128, 24


@pytest.fixture(scope="module")
def rendered() -> list[tuple[np.ndarray, np.ndarray]]:
    """Pictures [SIZE, SIZE, 3] uint8 and their [68, 2] landmarks, pixels."""
    batch = SyntheticFaces(load_head(), SIZE).sample(COUNT, seed=5)
    images = (batch.image.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return list(zip(images, ((batch.landmarks68 + 1) * SIZE / 2).numpy(), strict=True))


def box_of(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(0), points.max(0)])


def middle_of(points: np.ndarray) -> np.ndarray:
    return (points.min(0) + points.max(0)) / 2


def trained(path: Path, rendered, parts: int) -> Path:
    """A predictor of the first `parts` landmarks, made by dlib's own trainer."""
    objects = []
    for _, points in rendered:
        x0, y0, x1, y1 = box_of(points)
        side, (x, y) = (x1 - x0 + y1 - y0) / 2, middle_of(points)
        corners = (round(v) for v in (x - side / 2, y - side / 2, x + side / 2 - 1, y + side / 2 - 1))
        shape = [dlib.point(*(int(v) for v in np.floor(point))) for point in points[:parts]]
        objects.append([dlib.full_object_detection(dlib.rectangle(*corners), shape)])
    options = dlib.shape_predictor_training_options()
    options.tree_depth, options.cascade_depth, options.num_trees_per_cascade_level = 3, 6, 60
    options.oversampling_amount, options.feature_pool_size, options.num_test_splits = 10, 150, 30
    options.random_seed, options.be_verbose, options.num_threads = "1", False, 1
    dlib.train_shape_predictor([image for image, _ in rendered], objects, options).save(str(path))
    return path


@pytest.fixture(scope="module")
def predictor_file(tmp_path_factory, rendered) -> Path:
    return trained(tmp_path_factory.mktemp("dlib") / "68.dat", rendered, 68)


@pytest.mark.parametrize("quarter_turns", [0, 1, 2])
def test_the_points_lie_on_the_face_however_the_photo_is_turned(predictor_file, rendered, quarter_turns):
    predictor, errors, guesses = DlibPredictor(predictor_file), [], []
    mean = np.mean([(points - middle_of(points)) / np.ptp(points, axis=0).mean() for _, points in rendered], axis=0)
    for image, points in rendered:
        guess = middle_of(points) + mean * np.ptp(points, axis=0).mean()
        guesses.append(np.linalg.norm(guess - points, axis=1).mean() / SIZE)
        for _ in range(quarter_turns):
            image, points = np.rot90(image), np.stack([points[:, 1], SIZE - points[:, 0]], axis=1)
        face = Detection(box_of(points), 1.0, roll=quarter_turns * np.pi / 2)
        found = predictor(np.ascontiguousarray(image), face)
        errors.append(np.linalg.norm(found - points, axis=1).mean() / SIZE)
    assert np.mean(errors) < 0.4 * np.mean(guesses)


def test_preparation_takes_its_points_and_keeps_the_mesh(predictor_file, rendered, monkeypatch):
    image, points = rendered[0]
    mesh = np.random.default_rng(0).random((468, 3))
    seen = Detection(box_of(points), 0.9, landmarks468=mesh, landmarks68=points + 9)

    class OneFace:
        backend = "dlib"

        def __init__(self, quiet):
            pass

        def detect(self, image):
            return [seen]

    monkeypatch.setattr(faces_module, "FaceDetector", OneFace)
    found = FaceFinder(predictor_file).find(image, None)
    assert found is not None
    assert found.landmarks68 is not None
    assert np.linalg.norm(found.landmarks68 - points, axis=1).mean() < 0.06 * seen.size
    assert found.landmarks468 is mesh
    assert FaceFinder(predictor_file).find(image, points).landmarks68 is not None  # the data set's own come first


def test_wrong_files_are_named(tmp_path, rendered):
    with pytest.raises(ModelFileError, match=r"no landmark predictor at .*absent\.dat"):
        DlibPredictor(tmp_path / "absent.dat")
    (tmp_path / "other.dat").write_bytes(b"<html>404</html>")
    with pytest.raises(ModelFileError, match="is no landmark predictor of dlib"):
        DlibPredictor(tmp_path / "other.dat")
    five = DlibPredictor(trained(tmp_path / "5.dat", rendered[:2], 5))
    image, points = rendered[0]
    with pytest.raises(ModelFileError, match="gives 5 points, expected 68"):
        five(image, Detection.from_landmarks(points))
