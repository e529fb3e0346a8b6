"""Every reader on a tiny data set in its real layout."""

from __future__ import annotations

import json
import pickle
import tarfile
from pathlib import Path

import dataset_fixtures as fixtures
import numpy as np
import pytest

from tokenface.data.readers.dataset import FlameParameters, ScanMesh, key_of, read_landmarks
from tokenface.data.readers.registry import DATASETS, find_dataset
from tokenface.errors import DataError


def records(name: str, root: Path):
    reader = find_dataset(name)
    items = reader.items(root)
    return items, [reader.load(item) for item in items]


@pytest.mark.parametrize(
    ("name", "people"),
    [
        ("folder", ["", "folder/Ann Ä.", "folder/Ann Ä.", "folder/Bob"]),
        ("ffhq", ["", "", "", ""]),
        ("celeba", ["2880", "7", "2880", "9"]),
        ("vggface2", ["n000002"] * 3 + ["n000003"] * 2),
        ("voxceleb2", ["id00012", "id00015"]),
        ("bupt", ["African/m.01", "African/m.02", "Asian/m.01"]),
        ("aflw2000", ["", ""]),
        ("stirling", ["f1001", "f1001", "m1024"]),
        ("florence", ["subject_01", "subject_01"]),
        ("lyhm", ["00001", "00002"]),
        ("facewarehouse", ["Tester_1"] * 3),
        ("frgc", ["02463", "02463"]),
        ("facescape", ["122"] * 4),
        ("wcpa", ["000001", "000001"]),
    ],
)
def test_a_data_set_in_its_own_layout(name, people, tmp_path):
    items, loaded = records(name, getattr(fixtures, name)(tmp_path / name))
    assert [item.identity for item in items] == people
    assert len({item.key for item in items}) == len(items)
    assert all("." not in item.key and "/" not in item.key and len(item.key) <= 70 for item in items)
    for item, content in zip(items, loaded, strict=True):
        assert len(content.images) == len(content.landmarks) >= 1
        assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in content.images)
        assert all(path.is_file() for path in item.on_disk())
        assert (item.kind == "clip") == (len(content.images) > 1)
        assert (item.kind == "scan") == (content.geometry is not None)


def test_every_registered_data_set_has_a_fixture():
    assert set(DATASETS) - {"tar"} <= set(dir(fixtures))


def test_landmarks_beside_pictures_and_in_ffhqs_list_are_read(tmp_path):
    items, loaded = records("folder", fixtures.folder(tmp_path / "a"))
    assert items[0].source.endswith("alone.jpg")
    np.testing.assert_allclose(loaded[0].landmarks[0], fixtures.landmarks(1), atol=1e-4)
    _, loaded = records("ffhq", fixtures.ffhq(tmp_path / "b"))
    np.testing.assert_allclose(loaded[2].landmarks[0], fixtures.landmarks(2), atol=1e-4)
    assert loaded[3].landmarks[0] is None
    _, loaded = records("aflw2000", fixtures.aflw2000(tmp_path / "c"))
    np.testing.assert_allclose(loaded[1].landmarks[0], fixtures.landmarks(4), atol=1e-4)


def test_a_clip_is_the_middle_of_its_video(tmp_path):
    _, (moving, frames) = records("voxceleb2", fixtures.voxceleb2(tmp_path))
    grey = [float(image.mean()) for image in moving.images]
    assert len(grey) == 7  # frames 2 to 8 of 12, each 20 grey levels brighter
    np.testing.assert_allclose(grey, np.arange(2, 9) * 20, atol=6)
    assert len(frames.images) == 7


def test_facewarehouse_pictures_have_their_own_expression_or_the_neutral_shape(tmp_path):
    items, loaded = records("facewarehouse", fixtures.facewarehouse(tmp_path))
    assert [item.neutral for item in items] == [True, True, False]
    assert [Path(item.file("geometry") or "").name for item in items] == ["pose_0.npz", "pose_0.npz", "pose_2.npz"]
    expected = np.random.default_rng(2)
    betas, pose = expected.normal(size=400), expected.normal(size=15) * 0.1
    geometry = loaded[2].geometry
    assert isinstance(geometry, FlameParameters)
    np.testing.assert_allclose(geometry.shape, betas[:300], rtol=1e-5)
    np.testing.assert_allclose(geometry.expression, betas[300:], rtol=1e-5)
    np.testing.assert_allclose(geometry.jaw, pose[6:9], rtol=1e-4)


def test_unwanted_recordings_are_left_out(tmp_path):
    items, _ = records("florence", fixtures.florence(tmp_path / "a"))
    assert not any("PTZ-Outdoor" in item.source for item in items)
    items, _ = records("frgc", fixtures.frgc(tmp_path / "b"))
    assert not any("Spring2003range" in item.source for item in items)
    items, _ = records("facescape", fixtures.facescape(tmp_path / "c"))
    assert [Path(item.source).stem for item in items] == ["0", "2", "0", "2"]  # view 1 is invalid


def test_micas_own_list_is_read_wherever_it_was_written(tmp_path):
    items, loaded = records("lyhm", fixtures.mica_list(tmp_path))
    assert [item.identity for item in items] == ["a1", "a2"]
    assert all(item.source.startswith(str(tmp_path)) for item in items)
    assert isinstance(loaded[0].geometry, FlameParameters)


def test_a_list_cannot_name_files_outside_the_data_set(tmp_path):
    folder = fixtures.mica_list(tmp_path)
    table = {"a1": (["../../../../etc/passwd", "/etc/hostname"], "../../secret.npz")}
    np.save(tmp_path / "image_paths" / "LYHM.npy", np.array(table, dtype=object), allow_pickle=True)
    items = find_dataset("lyhm").items(folder)
    assert all(path.resolve().is_relative_to(folder.resolve()) for item in items for path in item.on_disk())


def test_hostile_pickles_are_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    folder = fixtures.mica_list(tmp_path)
    bomb = np.empty((), dtype=object)
    bomb[()] = {"a1": Bomb()}
    np.save(tmp_path / "image_paths" / "LYHM.npy", bomb, allow_pickle=True)
    with pytest.raises(DataError):
        find_dataset("lyhm").items(folder)
    root = fixtures.frgc(tmp_path / "frgc")
    path = root / "FLAME_parameters" / "02463" / "fit.npz"
    np.savez(path, betas=np.array([Bomb()], dtype=object), pose=np.zeros(15))
    reader = find_dataset("frgc")
    with pytest.raises(DataError, match="cannot be read"):
        reader.load(reader.items(root)[0])
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError):
        reader.load(reader.items(root)[0])
    assert not (tmp_path / "executed").exists()


def test_wcpas_landmarks_find_their_vertices(tmp_path):
    items, loaded = records("wcpa", fixtures.wcpa(tmp_path))
    assert [item.neutral for item in items] == [True, False]
    scan = loaded[0].geometry
    assert isinstance(scan, ScanMesh)
    vertices = fixtures.toy_head_data().template
    marked = vertices[fixtures.wcpa_vertices()[scan.numbers]]
    assert len(scan.numbers) > 40
    assert np.median(np.linalg.norm(scan.landmarks - marked, axis=1)) < 1e-6
    assert np.linalg.norm(scan.landmarks - marked, axis=1).max() < 0.02


def test_facescapes_meshes_need_the_toolkits_landmarks(tmp_path):
    root = fixtures.facescape(tmp_path)
    items, loaded = records("facescape", root)
    scan = loaded[0].geometry
    assert isinstance(scan, ScanMesh)
    np.testing.assert_allclose(scan.landmarks, scan.vertices[:68])
    assert scan.metres is None
    assert [item.kind for item in items] == ["scan", "scan", "photo", "photo"]  # no mesh of the smile
    (root / "landmark_indices.npz").unlink()
    reader = find_dataset("facescape")
    with pytest.raises(DataError, match=r"landmark_indices\.npz"):
        reader.load(reader.items(root)[0])


def test_the_tar_of_labelled_photos_pairs_neighbours(tmp_path):
    source = tmp_path / "files"
    tar = tmp_path / "photos.tar"
    with tarfile.open(tar, "w") as archive:
        for number, name in enumerate(("ann_00", "ann_01", "ann_01", "bob_00")):  # ann_01 comes twice
            archive.add(fixtures.picture(source / f"{number}.webp", number), f"{name}.webp")
            label = source / f"{number}.json"
            points = fixtures.landmarks(number).tolist()
            label.write_text(json.dumps({"identity": name[:3], "landmarks68": points}))
            archive.add(label, f"{name}.json")
    _, loaded = records("tar", tar)
    assert [content.identity for content in loaded] == ["ann", "ann", "ann", "bob"]
    for number, content in enumerate(loaded):
        np.testing.assert_allclose(content.landmarks[0], fixtures.landmarks(number), atol=1e-4)


def test_the_shared_tar_is_read(shared_data):
    reader = find_dataset("tar")
    items = reader.items(shared_data / "photos2d_youtube_faces.tar")
    assert len(items) == 3388
    assert reader.load(items[-1]).identity


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_wrong_folder_is_named_with_the_layout_that_is_expected(name, tmp_path):
    with pytest.raises(DataError, match="no data set at"):
        find_dataset(name).items(tmp_path / "absent")
    with pytest.raises(DataError, match=r"expected|is not a file"):
        find_dataset(name).items(tmp_path)


def test_unknown_names_get_the_nearest_one():
    with pytest.raises(DataError, match="'celeba'"):
        find_dataset("CelebaA")


def test_keys_stay_apart_however_odd_the_names():
    root = Path("/data")
    names = ["a b.jpg", "a_b.jpg", "a/b.jpg", "a.b.jpg", "ä.jpg", "ö.jpg", "x" * 300 + "1.jpg", "x" * 300 + "2.jpg"]
    keys = [key_of(root / name, root) for name in names]
    assert len(set(keys)) == len(keys)
    assert key_of(root / "000001.jpg", root) == "000001"


@pytest.mark.parametrize("content", ["", "1 2\n" * 67, "1 2\n" * 67 + "nan 2\n", "a b\n" * 68])
def test_odd_landmark_files_are_refused(content, tmp_path):
    path = tmp_path / "points.txt"
    path.write_text(content)
    with pytest.raises(DataError, match="68 finite points"):
        read_landmarks(path)


def test_ibugs_pts_files_are_read(tmp_path):
    points = fixtures.landmarks(3)
    body = "\n".join(f"{x} {y}" for x, y in points)
    (tmp_path / "p.pts").write_text(f"version: 1\nn_points: 68\n{{\n{body}\n}}\n")
    np.testing.assert_allclose(read_landmarks(tmp_path / "p.pts"), points, atol=1e-4)
