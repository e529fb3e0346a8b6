"""Preparation: pose and visibility against known cameras, shards that resume, and damage that costs one file each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import dataset_fixtures as fixtures
import numpy as np
import psutil
import pytest
import torch
from pool_functions import AnnotatedOnly, make_nothing, make_square
from toy_head import toy_head_data

import tokenface
from tokenface.cli import run as command_line
from tokenface.core.pool import OrderedPool
from tokenface.data.readers.dataset import FlameParameters
from tokenface.data.record import Item
from tokenface.data.shards.index import find_shards
from tokenface.data.shards.loader import ShardLoader
from tokenface.data.shards.members import decode_record
from tokenface.data.shards.order import OrderConfig
from tokenface.errors import DataError, HeadModelError, OutputError
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.prepare import geometry as geometry_module
from tokenface.prepare import picture as picture_module
from tokenface.prepare.check import check_shards, contact_sheet
from tokenface.prepare.geometry import GeometryFitter
from tokenface.prepare.options import PrepareOptions, QualityFilter
from tokenface.prepare.picture import PoseEstimator, hull_mask, supplied_mask
from tokenface.prepare.run import Preparation, signature

OPTIONS = PrepareOptions(per_shard=4, size=128)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


def seen_landmarks(head: HeadModel, yaw: float = 0.0, pitch: float = 0.0, size: int = 200) -> np.ndarray:
    """[68, 2] pixels of the mean head turned by degrees."""
    import roma

    angles = torch.tensor([[np.deg2rad(yaw), -np.deg2rad(pitch)]])
    turn = roma.rotvec_to_rotmat(torch.tensor([[0.0, 1.0, 0.0]]) * angles[:, :1]) @ roma.rotvec_to_rotmat(
        torch.tensor([[1.0, 0.0, 0.0]]) * angles[:, 1:]
    )
    camera = Camera(torch.tensor([7.0]), roma.rotmat_to_rotvec(turn.float()), torch.zeros(1, 3))
    points = camera.project(head.landmarks68(head.template[None]))[0, :, :2]
    return ((points + 1) * size / 2).numpy()


@pytest.fixture
def no_networks(monkeypatch):
    monkeypatch.setattr(picture_module, "FaceFinder", AnnotatedOnly)
    monkeypatch.setattr("tokenface.prepare.run.fetch_models", lambda quiet: {})


def photos(root, head: HeadModel, count: int, people: int = 2):
    """A folder of sharp pictures with landmark files that fit a head."""
    for number in range(count):
        path = root / f"person{number % people}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (200, 200, 3), dtype=np.uint8)
        cv2.imwrite(str(path), noise)
        np.savetxt(path.with_suffix(".txt"), seen_landmarks(head, yaw=10.0 * (number % 5)), fmt="%.3f")
    return root


def prepare(source, output, options=OPTIONS, **keywords):
    run = Preparation("folder", source, output, options, **keywords)
    counted = sum(run)
    assert counted == run.total
    return run.report


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (35, 0), (-60, 10), (0, -25), (80, 0)])
def test_angles_come_back_from_a_known_camera(head, yaw, pitch):
    pose = PoseEstimator(head)(seen_landmarks(head, yaw, pitch))
    np.testing.assert_allclose(np.rad2deg(pose.angles[:2]), [yaw, pitch], atol=1.0)
    assert pose.misfit < 0.005


def test_the_dense_mesh_gives_the_same_angles(head):
    estimator = PoseEstimator(head)
    points = seen_landmarks(head, 30, 12)
    camera = Camera(torch.tensor([7.0]), torch.zeros(1, 3), torch.zeros(1, 3))
    frontal = ((camera.project(head.landmarks468(head.template[None]))[0, :, :2] + 1) * 100).numpy()
    assert np.abs(estimator(points, frontal).angles).max() < 0.02  # the mesh is believed, not the 68 points
    np.testing.assert_allclose(np.rad2deg(estimator(points).angles[:2]), [30, 12], atol=1.0)


def test_turning_hides_the_far_side_and_nothing_of_a_frontal_face(head):
    estimator = PoseEstimator(head)
    assert estimator(seen_landmarks(head)).visible[17:].all()
    turned = estimator(seen_landmarks(head, yaw=60)).visible  # to the right of the picture: the right side is seen
    assert turned[36:42].all()
    assert not turned[12:17].any()
    mirrored = estimator(seen_landmarks(head, yaw=-60)).visible
    assert mirrored[42:48].all()
    assert not mirrored[0:5].any()


def test_the_hull_mask_holds_the_face_and_the_forehead(head):
    points = seen_landmarks(head)
    mask = hull_mask(200, 200, points, None)
    inner = points[17:].round().astype(int)
    assert (mask[inner[:, 1], inner[:, 0]] > 0).all()
    brow, nose = points[19:25, 1].min(), points[30, 1]
    assert mask[int(brow - 0.3 * (nose - brow)), int(points[27, 0])] == 255
    assert mask[2, 2] == 0


def test_supplied_masks_must_fit_their_pictures(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[0, 200], [90, 255]], np.uint8))
    assert supplied_mask(tmp_path, "a", (2, 2)).tolist() == [[0, 255], [0, 255]]
    with pytest.raises(DataError, match="no segmentation"):
        supplied_mask(tmp_path, "b", (2, 2))
    with pytest.raises(DataError, match="its picture"):
        supplied_mask(tmp_path, "a", (3, 2))


def test_a_folder_becomes_shards_that_train(tmp_path, head, no_networks):
    report = prepare(photos(tmp_path / "photos", head, 10), tmp_path / "shards")
    assert (report.done, report.shards, len(report.people), report.failures) == (10, 3, 2, [])
    shard = find_shards(tmp_path / "shards")[0]
    record = decode_record(shard.entries[0].key, shard.read(shard.entries[0]))
    assert (record.kind, record.identity, record.dataset) == ("photo", "folder/photos/person0", "folder")
    picture = record.pictures[0]
    assert picture.image.shape == (128, 128, 3)
    low, high = picture.landmarks.min(0), picture.landmarks.max(0)
    np.testing.assert_allclose((low + high) / 2, [64, 64], atol=0.5)
    assert float((high - low).mean()) * OPTIONS.margin == pytest.approx(128, abs=0.5)
    batch = next(ShardLoader(tmp_path / "shards", OrderConfig(batch=4, pictures_per_person=2)).batches())
    assert batch.image.shape == (4, 3, 224, 224)
    assert batch.identity.tolist()[0] == batch.identity.tolist()[1]
    assert (batch.mask.mean((1, 2, 3)) > 0.05).all()


def test_landmarks_of_the_stored_crop_lie_on_the_same_pixels(tmp_path, head, no_networks):
    """A picture whose colour says its place: the crop's colour at its landmarks gives the original landmarks."""
    y, x = np.mgrid[:200, :200]
    image = np.stack([0 * x, y, x], -1).astype(np.uint8)  # BGR for OpenCV
    root = tmp_path / "photos"
    root.mkdir()
    cv2.imwrite(str(root / "ramp.png"), image)
    points = seen_landmarks(head)
    np.savetxt(root / "ramp.txt", points, fmt="%.3f")
    options = PrepareOptions(size=256, quality=QualityFilter(sharpness=0))
    prepare(root, tmp_path / "shards", options)
    (shard,) = find_shards(tmp_path / "shards")
    picture = decode_record(shard.entries[0].key, shard.read(shard.entries[0])).pictures[0]
    at = (picture.landmarks - 0.5).astype(np.float32)
    found = cv2.remap(picture.image, at[:, None, 0], at[:, None, 1], cv2.INTER_LINEAR)[:, 0, :2]
    np.testing.assert_allclose(found + 0.5, points, atol=2.0)  # JPEG moves colours by a level or two


def test_the_same_command_again_does_nothing_and_changes_nothing(tmp_path, head, no_networks):
    source = photos(tmp_path / "photos", head, 9)
    prepare(source, tmp_path / "shards")
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "shards").iterdir()}
    report = prepare(source, tmp_path / "shards")
    assert report.skipped_shards == report.shards == 3
    assert report.done == 9
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "shards").iterdir()} == before


def test_a_stopped_run_goes_on_where_it_stopped(tmp_path, head, no_networks):
    source = photos(tmp_path / "photos", head, 10)
    run = iter(Preparation("folder", source, tmp_path / "shards", OPTIONS))
    for _ in range(6):  # one shard done, the second half way
        next(run)
    run.close()
    assert [p.name for p in sorted((tmp_path / "shards").glob("*.tar"))] == ["folder-00000.tar"]
    resumed = prepare(source, tmp_path / "shards")
    assert resumed.skipped_shards == 1
    prepare(source, tmp_path / "whole")
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "shards" / path.name).read_bytes()


def test_changed_files_and_settings_are_prepared_again_and_stale_shards_go(tmp_path, head, no_networks):
    source = photos(tmp_path / "photos", head, 9)
    prepare(source, tmp_path / "shards")
    changed = source / "person1" / "009.png"
    (source / "person1" / "007.png").rename(changed)
    (source / "person1" / "007.txt").rename(changed.with_suffix(".txt"))
    assert prepare(source, tmp_path / "shards").skipped_shards == 2  # the last shard alone holds the renamed file
    report = prepare(source, tmp_path / "shards", PrepareOptions(per_shard=4, size=96))
    assert report.skipped_shards == 0
    report = prepare(source, tmp_path / "shards", PrepareOptions(per_shard=9, size=96))
    assert [p.name for p in sorted((tmp_path / "shards").glob("*.tar"))] == ["folder-00000.tar"]
    assert report.done == 9


def test_shards_of_another_head_file_of_the_same_name_are_not_kept(tmp_path, monkeypatch):
    """Settings name files; what counts is what is in them."""
    seen: list[str] = []
    options = PrepareOptions(
        head="mine", dlib_predictor=str(tmp_path / "dlib.dat"), masks=str(tmp_path / "masks"), per_shard=4
    )
    source = tmp_path / "photos"
    source.mkdir()
    (source / "a.png").write_bytes(b"picture")
    items = [Item("a", "photo", (source / "a.png",))]

    def differs(flame: str | None = None) -> bool:
        common = options.depends_on(flame)
        seen.append(signature(common, options, items))
        return seen[-1] not in seen[:-1]

    toy_flame(tmp_path, monkeypatch, "mine")
    (tmp_path / "dlib.dat").write_bytes(b"1")
    (tmp_path / "masks").mkdir()
    assert differs()
    assert not differs()
    toy_flame(tmp_path, monkeypatch, "mine", seed=1)
    assert differs()
    (tmp_path / "dlib.dat").write_bytes(b"2")
    assert differs()
    (tmp_path / "masks" / "a.png").write_bytes(b"mask")
    assert differs()
    (tmp_path / "masks" / "another.png").write_bytes(b"mask")  # of a picture of another shard
    assert not differs()
    assert differs("flame2020")  # parameters on a FLAME that is not there yet
    toy_flame(tmp_path, monkeypatch, "flame2020")
    assert differs("flame2020")


def test_shards_of_another_source_or_a_sample_are_not_overwritten(tmp_path, head, no_networks):
    prepare(photos(tmp_path / "photos", head, 4), tmp_path / "shards")
    before = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    other = photos(tmp_path / "others", head, 2)
    with pytest.raises(OutputError, match="the shards of another 'folder' data set"):
        prepare(other, tmp_path / "shards")
    with pytest.raises(OutputError, match="made with --limit none"):
        Preparation("folder", tmp_path / "photos", tmp_path / "shards", OPTIONS, limit=2)
    assert {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()} == before


def test_two_pictures_do_not_share_a_segmentation(tmp_path, head, no_networks):
    source = photos(tmp_path / "photos", head, 4)
    for person in ("person0", "person1"):
        for path in list((source / person).glob("*.png"))[:1]:
            path.rename(source / person / "same.png")
    with pytest.raises(DataError, match="2 pictures or pieces of clips would get the segmentation 'same'"):
        Preparation("folder", source, tmp_path / "shards", replace(OPTIONS, masks=str(tmp_path)))


def test_damaged_files_are_reported_and_cost_nobody_else(tmp_path, head, no_networks):
    source = photos(tmp_path / "photos", head, 12)
    names = sorted(source.rglob("*.png"))
    names[1].write_bytes(b"")
    names[4].write_bytes(names[4].read_bytes()[:200])
    names[7].write_bytes(b"<html>gone</html>")
    names[9].with_suffix(".txt").write_text("no points")
    report = prepare(source, tmp_path / "shards")
    assert sorted(source for source, _ in report.failures) == [str(names[i]) for i in (1, 4, 7, 9)]
    assert report.done == 8
    again = prepare(source, tmp_path / "shards")  # remembered, not tried again while the files are the same
    assert again.failures == report.failures
    assert again.skipped_shards == again.shards


def test_poor_pictures_are_left_out_with_a_reason(tmp_path, head, no_networks):
    source = photos(tmp_path / "photos", head, 5)
    blurred, small, cut, unlike, unmarked = sorted(source.rglob("*.png"))
    cv2.imwrite(str(blurred), np.full((200, 200, 3), 90, np.uint8))
    np.savetxt(small.with_suffix(".txt"), seen_landmarks(head) * 0.15)
    np.savetxt(cut.with_suffix(".txt"), seen_landmarks(head) + np.array([130, 0]))
    np.savetxt(unlike.with_suffix(".txt"), np.random.default_rng(0).uniform(40, 160, (68, 2)))
    unmarked.with_suffix(".txt").unlink()
    report = prepare(source, tmp_path / "shards")
    assert dict(report.rejections) == {
        "blurred": 1,
        "face too small": 1,
        "face cut by the picture's edge": 1,
        "landmarks do not fit a head": 1,
        "no face found": 1,
    }
    assert not report.failures


def test_check_counts_finds_damage_and_draws_a_sheet(tmp_path, head, no_networks):
    prepare(photos(tmp_path / "photos", head, 10), tmp_path / "shards")
    shard = find_shards(tmp_path / "shards")[1]
    offset, size = shard.entries[2].members["jpg"]
    data = bytearray(shard.path.read_bytes())
    data[offset + size // 2] ^= 0xFF
    shard.path.write_bytes(bytes(data))
    *_, check = check_shards(tmp_path / "shards", sheet=4)
    assert (check.shards, check.records, check.groups) == (3, 9, 2)
    assert [name for name, _ in check.broken] == [f"folder-00001.tar:{shard.entries[2].key}"]
    assert sum(check.yaw.values()) == 9
    assert check.yaw[30] > 0
    assert len(check.samples) == 4
    assert contact_sheet(check.samples).shape == (192, 4 * 192, 3)
    assert contact_sheet([]).ndim == 3


def test_flame_parameters_become_vertices_of_their_own_head(monkeypatch):
    data = toy_head_data()
    data.name = "flame2020"
    toy = HeadModel(data)
    monkeypatch.setattr(geometry_module, "FLAME_VERTICES", toy.vertex_count)
    rng = np.random.default_rng(0)
    found = FlameParameters(rng.normal(size=6), rng.random(5), rng.normal(size=3) * 0.1, neutral=False)
    shape, expression, jaw = (torch.from_numpy(v).float()[None] for v in (found.shape, found.expression, found.jaw))
    fitted = GeometryFitter(toy).fit(found)
    np.testing.assert_allclose(fitted.vertices, toy(shape, expression, jaw).vertices[0], atol=1e-6)
    neutral = GeometryFitter(toy).fit(FlameParameters(found.shape, found.expression, found.jaw, neutral=True))
    np.testing.assert_allclose(neutral.vertices, toy(shape).vertices[0], atol=1e-6)
    assert neutral.head == toy.data.geometry_hash()
    with pytest.raises(DataError, match="300 shape"):
        GeometryFitter(toy).fit(FlameParameters(np.zeros(300), found.expression, found.jaw, True))


def test_flame_parameters_without_flame_say_how_to_get_it(head, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENFACE_DATA", str(tmp_path))
    with pytest.raises(HeadModelError, match="tokenface head add flame"):
        GeometryFitter(head).fit(FlameParameters(np.zeros(300), np.zeros(100), np.zeros(3), True))


def toy_flame(folder, monkeypatch, name: str, seed: int = 0) -> HeadModel:
    """An installed FLAME of another size."""
    monkeypatch.setenv("TOKENFACE_DATA", str(folder))
    data = toy_head_data(seed)
    data.name = name
    data.save(folder / "heads" / f"{name}.safetensors")
    monkeypatch.setattr(geometry_module, "FLAME_VERTICES", len(data.template))
    return HeadModel(data)


def toy_parameters(seed: int = 0, release: str = "flame2020") -> FlameParameters:
    rng = np.random.default_rng(seed)
    return FlameParameters(rng.normal(size=6), rng.random(5), rng.normal(size=3) * 0.1, False, release)


def test_a_flame_named_twice_is_copied_not_registered(tmp_path, monkeypatch):
    """--head flame2020 --flame flame2020: two objects of one file."""
    flame = toy_flame(tmp_path, monkeypatch, "flame2020")
    found = toy_parameters()
    geometry = GeometryFitter(load_head("flame2020"), "flame2020").fit(found)
    tensors = (torch.from_numpy(v).float()[None] for v in (found.shape, found.expression, found.jaw))
    np.testing.assert_allclose(geometry.vertices, flame(*tensors).vertices[0], atol=1e-6)
    assert geometry.unknown == "nothing"


def test_parameters_are_put_on_the_flame_of_their_release_or_on_none(tmp_path, monkeypatch):
    toy_flame(tmp_path, monkeypatch, "flame2019", seed=1)  # first by name
    with pytest.raises(HeadModelError, match=r"of FLAME 'flame2020', installed: 'flame2019'; add it .* --flame NAME"):
        GeometryFitter(load_head("flame2019")).fit(toy_parameters())
    flame = toy_flame(tmp_path, monkeypatch, "flame2020", seed=2)
    found = toy_parameters()
    vertices = GeometryFitter(load_head("flame2020")).fit(found).vertices
    tensors = (torch.from_numpy(v).float()[None] for v in (found.shape, found.expression, found.jaw))
    np.testing.assert_allclose(vertices, flame(*tensors).vertices[0], atol=1e-6)
    on_purpose = GeometryFitter(load_head("flame2019"), "flame2019").fit(found).vertices
    assert np.abs(on_purpose - vertices).max() > 1e-3


def test_what_a_registration_leaves_open_is_said_per_record(head, monkeypatch):
    from tokenface.data.readers.dataset import ScanMesh
    from tokenface.prepare import registration

    laid = registration.Registered(head.template.numpy(), 0.0, 1.0)
    monkeypatch.setattr(registration.ScanRegistration, "register", lambda self, scan: laid)
    fitter = GeometryFitter(head)
    for metres, unknown in ((None, "size"), (1e-3, "place")):
        scan = ScanMesh(np.zeros((9, 3)), np.zeros((9, 3), int), np.zeros((7, 3)), np.arange(7), metres, True)
        assert fitter.fit(scan).unknown == unknown


@pytest.mark.slow
@pytest.mark.parametrize("neutral", [True, False])
def test_a_scan_of_another_topology_is_registered(head, neutral):
    """A known person, finer triangles, in millimetres, turned away: the truth must come back to half a millimetre."""
    import trimesh

    from tokenface.data.readers.dataset import ScanMesh
    from tokenface.prepare.registration import ScanRegistration

    generator = torch.Generator().manual_seed(3)
    shape = torch.randn(1, head.sizes.shape, generator=generator)
    expression, jaw = torch.zeros(1, head.sizes.expression), torch.zeros(1, 3)
    if not neutral:
        expression[0, list(head.expression_names).index("mouthSmileLeft")] = 0.7
        expression[0, list(head.expression_names).index("browInnerUp")] = 0.5
        jaw[0, 0] = 0.15
    truth = head(shape, expression, jaw).vertices
    points = head.landmarks68(truth)[0].numpy()
    face = head.data.regions["face"]
    inside = np.isin(head.data.faces, face).all(1)
    fine = trimesh.Trimesh(truth[0].numpy(), head.data.faces[inside], process=False).subdivide()
    turn = trimesh.transformations.rotation_matrix(0.7, [0.3, 1, 0.2])[:3, :3]
    noise = np.random.default_rng(0).normal(scale=0.02, size=fine.vertices.shape)
    scan = ScanMesh(
        (fine.vertices @ turn.T) * 1000 + [30, -200, 50] + noise,
        np.asarray(fine.faces),
        points @ turn.T * 1000 + [30, -200, 50],
        np.arange(68),
        1e-3,
        neutral,
    )
    registration = ScanRegistration(head)
    result = registration.register(scan)
    error = np.linalg.norm(_onto(result.vertices, truth[0].numpy(), registration.face), axis=1)
    mean_error = np.linalg.norm(_onto(head.template.numpy(), truth[0].numpy(), registration.face), axis=1)
    assert np.median(error) < 0.0006
    assert np.median(error) < 0.3 * np.median(mean_error)
    assert result.residual < 0.0002
    size = np.ptp(result.vertices[registration.face], axis=0) / np.ptp(truth[0].numpy()[registration.face], axis=0)
    np.testing.assert_allclose(size, 1, atol=0.02)  # metric


def _onto(vertices: np.ndarray, truth: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """[K, 3] what is left after the best rotation and shift; size is not forgiven."""
    a, b = vertices[chosen] - vertices[chosen].mean(0), truth[chosen] - truth[chosen].mean(0)
    u, _, vt = np.linalg.svd(b.T @ a)
    return a @ (u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt).T - b


def test_a_crashing_worker_costs_one_item_and_the_order_stays():
    pool = OrderedPool(make_square, workers=2, crashed=partial(int.__neg__))
    try:
        assert list(pool.map(range(9))) == [0, 1, 4, 9, 16, -5, 36, 49, 64]
    finally:
        pool.close()


def test_an_error_of_the_start_is_the_callers_and_not_a_crash_of_every_item():
    pool = OrderedPool(make_nothing, workers=2, crashed=partial(int.__neg__))
    try:
        with pytest.raises(DataError, match=r"^nothing can be made here$"):
            list(pool.map(range(3)))
    finally:
        pool.close()


def test_workers_end_with_a_run_that_is_killed(tmp_path):
    """SIGKILL leaves no time to tell them; they must see it themselves."""
    code = (
        "from functools import partial\nfrom pool_functions import make_sleeper\n"
        "from tokenface.core.pool import OrderedPool\n"
        f"make = partial(make_sleeper, {str(tmp_path / 'pid')!r})\n"
        "if __name__ == '__main__':\n    list(OrderedPool(make, 1, print, apart=True).map([600]))\n"
    )
    (tmp_path / "run.py").write_text(code)
    places = [str(Path(tokenface.__file__).parents[1]), str(Path(__file__).parent)]
    run = subprocess.Popen([sys.executable, tmp_path / "run.py"], env={**os.environ, "PYTHONPATH": ":".join(places)})
    try:
        wait_until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
    finally:
        run.kill()
        run.wait()
    worker = int((tmp_path / "pid").read_text())
    wait_until(lambda: not psutil.pid_exists(worker))


def wait_until(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_items_are_small_enough_to_travel():
    import pickle

    item = Item("k", "photo", (fixtures.Path("/a/b.jpg"),))
    assert len(pickle.dumps(item)) < 1000


def test_the_command_line_prepares_checks_and_explains(tmp_path, head, no_networks, capsys):
    source = photos(tmp_path / "photos", head, 6)
    shards, sheet = str(tmp_path / "shards"), tmp_path / "out" / "sheet.png"
    assert command_line(["prepare", "folder", str(source), "-o", shards]) == 0
    assert "6" in capsys.readouterr().out
    assert command_line(["prepare", "check", shards, "--sheet", str(sheet)]) == 0
    assert "folder" in capsys.readouterr().out
    assert sheet.is_file()
    assert command_line(["prepare", "list"]) == 0
    assert "wcpa" in capsys.readouterr().out
    for arguments, words in (
        (["prepare", "ffhqq", str(source), "-o", shards], "'ffhq'"),
        (["prepare", "frgc", str(source), "-o", shards], "FLAME_parameters"),
        (["prepare", "folder", str(tmp_path / "absent"), "-o", shards], "no data set"),
        (["prepare", "folder", str(source)], "-o"),
        (["prepare", "check", str(tmp_path / "photos")], "no shards"),
    ):
        assert command_line(arguments) != 0
        error = capsys.readouterr().err
        assert words in error
        assert len(error.strip().splitlines()) <= 2
    sorted(source.rglob("*.png"))[0].write_bytes(b"")
    assert command_line(["prepare", "folder", str(source), "-o", shards]) == 1
    assert "could not be read" in capsys.readouterr().out


def test_a_real_photo_goes_through_the_real_networks(tmp_path):
    skimage = pytest.importorskip("skimage.data")
    from tokenface.errors import ModelFileError
    from tokenface.images.models import find_model

    try:
        if any(find_model(name) is None for name in ("full_range", "back", "face_mesh")):
            pytest.skip("needs the detector's model files; run 'tokenface models fetch'")
    except ModelFileError as error:
        pytest.skip(str(error))
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), skimage.astronaut()[..., ::-1])
    report = prepare(tmp_path / "photos", tmp_path / "shards")
    assert report.done == 1
    (shard,) = find_shards(tmp_path / "shards")
    picture = decode_record(shard.entries[0].key, shard.read(shard.entries[0])).pictures[0]
    assert picture.landmarks468 is not None
    assert np.abs(np.rad2deg(picture.angles)).max() < 40
    assert picture.mask is not None
    assert 0.05 < (picture.mask > 127).mean() < 0.4
