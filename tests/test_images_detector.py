"""Finding faces in photos of every awkward kind, made from one photo whose face is known."""

import importlib.util
import itertools
import math
import threading

import cv2
import numpy as np
import pytest

from tokenface.errors import ImageError, ModelFileError
from tokenface.geometry.landmarks import MIRROR68
from tokenface.images import Crop, Detection, FaceDetector, extract, load_image
from tokenface.images.blazeface import TFLiteModel, box_iou
from tokenface.images.detector import tiles
from tokenface.images.models import fetch_models

skimage_data = pytest.importorskip("skimage.data")

EYES = np.array([[203.5, 102.5], [247.0, 105.5]])  # subject's right and left pupil, by hand
MOUTH = np.array([223.0, 148.0])


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    try:
        fetch_models(quiet=True)
    except ModelFileError as error:
        pytest.skip(f"needs the detector's model files: {error}")
    return FaceDetector("blazeface")


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return skimage_data.astronaut()


def eyes_of(face: Detection) -> np.ndarray:
    assert face.landmarks68 is not None
    return np.stack([face.landmarks68[36:42].mean(0), face.landmarks68[42:48].mean(0)])


def check(face: Detection, to_new=lambda points: points, scale: float = 1.0, slack: float = 4.0) -> None:
    np.testing.assert_allclose(eyes_of(face), to_new(EYES), atol=slack * scale)
    np.testing.assert_allclose(face.landmarks68[48:60].mean(0), to_new(MOUTH[None])[0], atol=1.5 * slack * scale)


def test_a_portrait_gives_one_face_with_eyes_where_they_are(detector, astronaut):
    faces = detector.detect(astronaut)
    assert len(faces) == 1
    face = faces[0]
    check(face)
    assert face.score > 0.7
    assert face.presence > 0.9
    assert face.landmarks468.shape == (468, 3)
    np.testing.assert_allclose(face.keypoints[:2], EYES, atol=6)
    assert (face.box[:2] < EYES[0]).all()
    assert (face.box[2:] > MOUTH).all()
    crop = face.crop()
    ndc = crop.to_ndc(face.landmarks68)
    assert np.abs(ndc).max() < 1
    assert abs(ndc[45, 1] - ndc[36, 1]) < 0.12  # upright in its crop


@pytest.mark.parametrize("degrees", [90, 180, 270, 45, -30])
def test_turned_photos_give_the_same_points_turned(detector, astronaut, degrees):
    angle = math.radians(degrees)
    view = Crop((256.0, 256.0), 740.0, -angle)  # the content turns anticlockwise by `angle`
    turned = (extract(astronaut, [view], 512, border="grey")[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)

    def to_new(points):
        return (view.to_ndc(points) + 1) * 256

    faces = detector.detect(turned)
    assert len(faces) == 1
    check(faces[0], to_new, 512 / 740)
    upright = detector.detect(astronaut)[0].roll
    assert abs(math.remainder(faces[0].roll - upright - angle, math.tau)) < math.radians(6)


def test_a_mirrored_photo_gives_mirrored_points(detector, astronaut):
    face = detector.detect(astronaut)[0]
    mirrored = detector.detect(np.ascontiguousarray(astronaut[:, ::-1]))[0]
    back = mirrored.landmarks68[list(MIRROR68)] * [-1, 1] + [512, 0]
    assert np.linalg.norm(back - face.landmarks68, axis=1).mean() < 2.5
    assert mirrored.roll == pytest.approx(-face.roll, abs=0.04)


def test_a_face_of_thirty_pixels_is_found(detector, astronaut):
    factor = 30 / 105  # the face is about 105 px wide
    small = cv2.resize(astronaut, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    canvas = np.full((480, 640, 3), 120, np.uint8)
    canvas[200 : 200 + small.shape[0], 300 : 300 + small.shape[1]] = small
    faces = detector.detect(canvas)
    assert len(faces) == 1
    check(faces[0], lambda points: points * factor + [300, 200], factor, slack=6)


def test_a_photo_of_six_thousand_pixels(detector, astronaut):
    canvas = np.full((4000, 6000, 3), 90, np.uint8)
    canvas[2800:3312, 5000:5512] = astronaut
    faces = detector.detect(canvas)
    assert len(faces) == 1
    check(faces[0], lambda points: np.add(points, [5000, 2800]))


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_face_cut_by_the_edge_is_found_and_its_visible_points_hold(detector, astronaut, side):
    whole = detector.detect(astronaut)[0].landmarks68
    x0, y0, x1, y1 = {
        "left": (195, 30, 420, 260),
        "right": (60, 30, 252, 260),
        "top": (80, 90, 400, 400),
        "bottom": (80, 0, 400, 165),
    }[side]
    faces = detector.detect(np.ascontiguousarray(astronaut[y0:y1, x0:x1]))
    assert len(faces) == 1
    visible = (whole[17:] > [x0 + 2, y0 + 2]).all(1) & (whole[17:] < [x1 - 2, y1 - 2]).all(1)
    error = np.linalg.norm(faces[0].landmarks68[17:] - (whole[17:] - [x0, y0]), axis=1)[visible]
    assert error.mean() < 4  # 4 % of the face
    assert error.max() < 14


def test_a_face_that_fills_the_whole_picture_is_found(detector, astronaut):
    tight = np.ascontiguousarray(astronaut[66:178, 172:274])
    faces = detector.detect(tight)
    assert len(faces) == 1
    check(faces[0], lambda points: points - [172, 66], slack=5)


def test_ten_faces_in_one_photo_are_all_found_largest_first(detector, astronaut):
    portrait = astronaut[20:220, 120:320]
    canvas = np.full((700, 1300, 3), 140, np.uint8)
    expected = []
    for i in range(10):
        size = 60 + 20 * i
        part = cv2.resize(portrait, (size, size), interpolation=cv2.INTER_AREA)
        part = part[:, ::-1] if i % 2 else part
        x, y = 20 + (i % 5) * 255, 30 + (i // 5) * 340
        canvas[y : y + size, x : x + size] = part
        expected.append([x + size * 0.5, y + size * 0.5])
    faces = detector.detect(canvas)
    assert len(faces) == 10
    assert all(a.size >= b.size for a, b in itertools.pairwise(faces))
    centres = np.array([(face.box[:2] + face.box[2:]) / 2 for face in faces])
    for point in expected:
        assert np.linalg.norm(centres - point, axis=1).min() < 40
    limited = FaceDetector("blazeface", max_faces=3).detect(canvas)
    np.testing.assert_allclose([f.size for f in limited], [f.size for f in faces[:3]])


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket", "brick"])
def test_photos_without_people_give_nothing(detector, name):
    assert detector.detect(load_image(getattr(skimage_data, name)())) == []


def test_noise_flat_and_tiny_pictures_give_nothing(detector):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    thin = np.full((1, 5001, 3), 50, np.uint8)
    for picture in (noise, np.zeros((64, 64, 3), np.uint8), np.full((1, 1, 3), 9, np.uint8), noise[:2, :200], thin):
        assert detector.detect(picture) == []


def test_threads_and_batches_give_what_one_thread_gives(detector, astronaut):
    photos = [astronaut, np.ascontiguousarray(astronaut[:, ::-1]), np.zeros((50, 60, 3), np.uint8), astronaut[:300]]
    alone = [detector.detect(photo) for photo in photos]
    for faces, again in zip(alone, detector.detect_batch(photos, workers=3), strict=True):
        assert len(faces) == len(again)
        for a, b in zip(faces, again, strict=True):
            np.testing.assert_array_equal(a.landmarks468, b.landmarks468)
    errors = []

    def work():
        try:
            for _ in range(3):
                face = detector.detect(astronaut)[0]
                np.testing.assert_array_equal(face.landmarks468, alone[0][0].landmarks468)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_threads_that_come_and_go_load_no_network_again(detector, astronaut, monkeypatch):
    """Every call that looks ahead starts a thread; a server's run into thousands."""
    detector.detect(astronaut)
    loaded = []
    monkeypatch.setattr(TFLiteModel, "_load", lambda self: loaded.append(self.path))
    faces: list[Detection] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: faces.extend(detector.detect(astronaut)))
        thread.start()
        thread.join()
    assert loaded == []
    assert len(faces) == 3


def test_boxes_of_the_caller_are_aligned_in_their_order(detector, astronaut):
    box = [180.0, 70.0, 270.0, 180.0]
    nowhere = [380.0, 20.0, 470.0, 110.0]
    faces = detector.align(astronaut, [nowhere, box])
    assert faces[0].landmarks468 is None
    np.testing.assert_allclose(faces[0].box, nowhere)
    check(faces[1])
    turned = np.ascontiguousarray(np.rot90(astronaut, 2))
    upside_down = detector.align(turned, [[512 - 270, 512 - 180, 512 - 180, 512 - 70]])[0]
    check(upside_down, lambda points: 512 - points, slack=6)
    with pytest.raises(ImageError, match="x1 > x0"):
        detector.align(astronaut, [[5, 5, 5, 9]])


def test_known_landmarks_need_no_detector(detector, astronaut):
    points = detector.detect(astronaut)[0].landmarks68
    face = Detection.from_landmarks(points)
    assert face.roll == pytest.approx(detector.detect(astronaut)[0].roll, abs=0.06)
    np.testing.assert_allclose(face.box, [*points.min(0), *points.max(0)])
    assert face.crop().size == pytest.approx(Detection.from_landmarks(points + 7).crop().size)
    with pytest.raises(ValueError, match=r"\[68, 2\]"):
        Detection.from_landmarks(points[:60])


def test_tiles_cover_the_photo_and_overlap():
    for width, height, divisions in ((1000, 600, 2), (600, 1000, 4), (512, 512, 2), (3000, 100, 8)):
        views = tiles(width, height, divisions)
        side = max(width, height) / divisions
        assert all(view.size == side for view in views)
        small = side / 4
        for x in np.linspace(small / 2, width - small / 2, 23):
            for y in np.linspace(small / 2, max(height - small / 2, small / 2), 17):
                box = np.array([x - small / 2, y - small / 2, x + small / 2, y + small / 2])
                assert any(
                    (box[:2] >= np.array(view.centre) - side / 2 - 1e-6).all()
                    and (box[2:] <= np.array(view.centre) + side / 2 + 1e-6).all()
                    for view in views
                )


def test_real_people_and_a_group(detector, shared_data):
    folder = shared_data / "photos" / "identities"
    if not folder.is_dir():
        pytest.skip("needs photos/identities")
    assert len(detector.detect(folder / "selfie-many-people.jpg")) >= 6  # four whole faces and three cut by the edge
    for name in ("img1.jpg", "img27.jpg", "img58.jpg"):
        assert len(detector.detect(folder / name)) == 1
    poses = shared_data / "photos" / "poses"
    rolls = {name: detector.detect(poses / f"rotate__rot_{name}.jpg")[0].roll for name in (0, 90, 180, 270)}
    for name, turn in ((90, -90), (180, 180), (270, 90)):
        assert abs(math.remainder(rolls[name] - rolls[0] - math.radians(turn), math.tau)) < math.radians(5)


def test_dlib_stands_in_when_asked_or_when_the_models_cannot_be_had(astronaut, tmp_path, monkeypatch):
    if importlib.util.find_spec("dlib") is None:
        with pytest.raises(ModelFileError, match="dlib"):
            FaceDetector("dlib")
        pytest.skip("needs the extra 'dlib'")
    face = FaceDetector("dlib").detect(astronaut)[0]
    assert box_iou(np.array([172.0, 66, 274, 178]), face.box[None])[0] > 0.4
    monkeypatch.setenv("TOKENFACE_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.warns(UserWarning, match="dlib"):
        fallback = FaceDetector("auto", quiet=True)
    assert fallback.backend == "dlib"
    assert len(fallback.detect(astronaut)) == 1


def test_small_faces_in_huge_panoramas_are_all_found(detector, astronaut):
    """Twelve faces of 35 to 140 pixels over 20,000, of which the coarser tiles see five."""
    noise = np.random.default_rng(0).integers(60, 190, (6, 100, 3), dtype=np.uint8)
    panorama = cv2.resize(noise, (20_000, 1200), interpolation=cv2.INTER_CUBIC)
    portrait, places = astronaut[20:240, 110:340], np.linspace(400, 19_300, 12).astype(int)
    scales = np.geomspace(0.35, 1.4, 12)
    for x, scale in zip(places, scales, strict=True):
        face = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        panorama[400 : 400 + face.shape[0], x : x + face.shape[1]] = face
    found = detector.detect(panorama)
    centres = np.array([(face.box[:2] + face.box[2:]) / 2 for face in found])
    expected = np.stack([places + scales * (225 - 110), 400 + scales * (118 - 20)], axis=1)
    assert len(found) == 12
    distances = np.linalg.norm(centres[:, None] - expected[None], axis=-1)
    assert (distances.min(axis=0) < 30 * scales).all()
