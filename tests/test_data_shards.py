"""Records survive the tar; order, resume and identity groups are exact; damage costs one record each."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from tokenface.data.held_out import Split
from tokenface.data.photos import CropJitter
from tokenface.data.readers.registry import VALIDATING
from tokenface.data.record import FaceRecord, Geometry, Picture
from tokenface.data.shards.batch import CropOptions, collate, crop_record
from tokenface.data.shards.index import check_heads, find_shards, index_path, load_index
from tokenface.data.shards.loader import Selection, ShardLoader, held_out_sets, split_people
from tokenface.data.shards.members import METRES_PER_STEP, decode_record, encode_record
from tokenface.data.shards.order import BatchOrder, OrderConfig
from tokenface.data.shards.writer import write_shard
from tokenface.errors import DataError, OutputError

STILL = CropJitter(scale=(1.5, 1.5), shift=0.0, roll_degrees=0.0, mirror=False)


def picture(seed: int, size: int = 96) -> Picture:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
    landmarks = (rng.random((68, 2)) * 0.5 + 0.25) * size
    mask = np.zeros((size, size), np.uint8)
    mask[size // 4 : -size // 4, size // 4 : -size // 4] = 255
    return Picture(
        image=cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC),
        landmarks=landmarks.astype(np.float32),
        visible=rng.random(68) > 0.2,
        angles=rng.normal(size=3).astype(np.float32) * 0.3,
        box=np.array([*landmarks.min(0), *landmarks.max(0)], np.float32),
        landmarks468=rng.random((468, 3)).astype(np.float32) if seed % 2 else None,
        mask=mask if seed % 3 else None,
    )


def record(number: int, identity: str = "", frames: int = 1, geometry: bool = False) -> FaceRecord:
    rng = np.random.default_rng(1000 + number)
    return FaceRecord(
        key=f"r{number:05d}",
        kind="scan" if geometry else "clip" if frames > 1 else "photo",
        pictures=tuple(picture(number * 50 + f) for f in range(frames)),
        identity=identity,
        dataset="test",
        source=f"somewhere/{number}.jpg",
        licence="CC0",
        geometry=Geometry(rng.normal(size=(30, 3)).astype(np.float32) * 0.05, number % 2 == 0, "abc", "size")
        if geometry
        else None,
    )


def shards(folder, count: int, per_shard: int, people: int = 0):
    made = []
    for first in range(0, count, per_shard):
        records = [record(i, f"p{i % people}" if people else "") for i in range(first, min(first + per_shard, count))]
        pairs = ((r.key, encode_record(r)) for r in records)
        made.append(write_shard(folder / f"s-{first // per_shard:05d}.tar", pairs))
    return made


@pytest.mark.parametrize(("frames", "geometry"), [(1, False), (3, False), (1, True)])
def test_a_record_comes_back_from_its_members(frames, geometry):
    before = record(7, "ann", frames, geometry)
    after = decode_record(before.key, encode_record(before, quality=100))
    for name in ("key", "kind", "identity", "dataset", "source", "licence"):
        assert getattr(after, name) == getattr(before, name)
    assert len(after.pictures) == frames
    for a, b in zip(after.pictures, before.pictures, strict=True):
        assert np.abs(a.image.astype(int) - b.image).mean() < 2
        for name in ("landmarks", "visible", "angles", "box"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        for name in ("landmarks468", "mask"):
            assert (getattr(a, name) is None) == (getattr(b, name) is None)
            if getattr(b, name) is not None:
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    if geometry:
        assert after.geometry is not None
        assert before.geometry is not None
        assert np.abs(after.geometry.vertices - before.geometry.vertices).max() <= METRES_PER_STEP / 2 + 1e-8
        assert (after.geometry.neutral, after.geometry.head) == (before.geometry.neutral, "abc")
        assert after.geometry.unknown == "size"


def test_every_flipped_byte_and_cut_of_a_member_is_noticed():
    members = encode_record(record(1, geometry=True))
    rng = np.random.default_rng(0)
    for name in ("jpg", "npz", "mask.png"):
        for place in rng.integers(0, len(members[name]), 20):
            data = bytearray(members[name])
            data[place] ^= 0x40
            with pytest.raises(DataError, match=name):
                decode_record("r", {**members, name: bytes(data)})
        with pytest.raises(DataError):
            decode_record("r", {**members, name: members[name][:-10]})
    for damaged in (
        b"",
        b"{",
        b"[]",
        b'{"crc32": {}}',
        json.dumps({"crc32": {}, "pictures": 10**9, "kind": "photo"}).encode(),
    ):
        with pytest.raises(DataError):
            decode_record("r", {**members, "json": damaged})


def test_vertices_in_millimetres_are_refused_with_the_reason():
    wrong = record(1, geometry=True)
    assert wrong.geometry is not None
    wrong = replace(wrong, geometry=replace(wrong.geometry, vertices=wrong.geometry.vertices * 1000))
    with pytest.raises(DataError, match="metres"):
        encode_record(wrong)


def test_equal_records_make_equal_bytes_and_the_index_is_not_needed(tmp_path):
    (first,) = shards(tmp_path / "a", 5, 5)
    (second,) = shards(tmp_path / "b", 5, 5)
    assert first.path.read_bytes() == second.path.read_bytes()
    index_path(second.path).unlink()
    assert load_index(second.path).entries == first.entries


def test_an_old_or_hostile_index_is_not_believed(tmp_path):
    (shard,) = shards(tmp_path, 3, 3)
    path = index_path(shard.path)
    content = json.loads(path.read_text())
    content["entries"][0]["members"]["jpg"] = [10**9, 5]
    path.write_text(json.dumps(content))
    assert load_index(shard.path).entries == shard.entries
    path.write_text("[" * 5000)
    assert load_index(shard.path).entries == shard.entries


def test_the_webdataset_library_reads_the_shards(tmp_path):
    wds = pytest.importorskip("webdataset")
    (shard,) = shards(tmp_path, 4, 4)
    samples = list(wds.WebDataset(str(shard.path), shardshuffle=False, empty_check=False))
    assert [s["__key__"] for s in samples] == [e.key for e in shard.entries]
    ours = shard.read(shard.entries[2])
    assert {k: v for k, v in samples[2].items() if not k.startswith("__")} == ours


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    (shard,) = shards(tmp_path, 3, 3)
    before = shard.path.read_bytes()

    def breaks():
        yield "r", encode_record(record(9))
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="full"):
        write_shard(shard.path, breaks())
    assert shard.path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_an_epoch_shows_every_record_once_and_epochs_differ():
    order = BatchOrder([""] * 40, [10, 10, 10, 10], OrderConfig(batch=4, window=2))
    epochs = [[d.position for n in range(order.batches_in(e)) for d in order.batch(e, n)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert epochs[0] != epochs[1]
    # shuffled inside windows of two shards: the first half of the epoch comes from two shards
    assert len({p // 10 for p in epochs[0][:20]}) == 2


def test_processes_share_an_epoch_without_overlap():
    orders = [BatchOrder([""] * 50, [25, 25], OrderConfig(batch=4), rank, 3) for rank in range(3)]
    seen = [d.position for order in orders for n in range(order.batches_in(0)) for d in order.batch(0, n)]
    assert len(seen) == len(set(seen)) == 48
    together = BatchOrder([""] * 50, [25, 25], OrderConfig(batch=4))
    assert [orders[n % 3].batch(0, n // 3) for n in range(12)] == [together.batch(0, n) for n in range(12)]


def test_batches_hold_several_pictures_of_a_person():
    identities = [f"p{i % 7}" for i in range(84)] + [f"single{i}" for i in range(3)] + [""]
    order = BatchOrder(identities, [len(identities)], OrderConfig(batch=8, pictures_per_person=4))
    draws = [[identities[d.position] for d in order.batch(0, n)] for n in range(order.batches_in(0))]
    groups = [batch[i : i + 4] for batch in draws for i in (0, 4)]
    whole = [g for g in groups if g[0].startswith("p")]
    assert len(whole) == 21  # 7 people × 12 pictures / 4
    assert all(len(set(g)) == 1 for g in whole)
    seen = [d.position for n in range(order.batches_in(0)) for d in order.batch(0, n)]
    assert len(seen) == len(set(seen)) == 88  # nobody is left out, nobody comes twice


@pytest.mark.parametrize("step", [0, 3, 11, 26])
def test_any_step_can_be_found_again(step):
    order = BatchOrder([""] * 40, [15, 25], OrderConfig(batch=4, seed=3))
    unbroken = order.from_step(0)
    for _ in range(step):
        next(unbroken)
    resumed = BatchOrder([""] * 40, [15, 25], OrderConfig(batch=4, seed=3)).from_step(step)
    assert [next(unbroken) for _ in range(15)] == [next(resumed) for _ in range(15)]


def test_batches_do_not_depend_on_workers_and_resume_in_the_middle_of_an_epoch(tmp_path):
    shards(tmp_path, 26, 10, people=5)
    config = OrderConfig(batch=4, pictures_per_person=2)
    options = CropOptions(size=32)
    alone = ShardLoader(tmp_path, config, options).batches()
    first = [next(alone) for _ in range(9)]
    workers = ShardLoader(tmp_path, config, options, workers=2).batches(first_step=4)
    for expected in first[4:]:
        found = next(workers)
        assert found.keys == expected.keys
        assert torch.equal(found.image, expected.image)
        assert torch.equal(found.landmarks68, expected.landmarks68)
        assert torch.equal(found.identity, expected.identity)


def test_crops_agree_with_their_landmarks_and_masks():
    """A picture whose brightness is a function of place: the crop's pixels say where they come from."""
    size = 160
    y, x = np.mgrid[:size, :size]
    image = np.stack([x, y, 0 * x], -1).astype(np.uint8)
    landmarks = np.random.default_rng(0).uniform(50, 110, (68, 2)).astype(np.float32)
    mask = ((x > 80) * 255).astype(np.uint8)
    plain = Picture(image, landmarks, np.ones(68, bool), np.array([0.3, 0.1, 0.2], np.float32), np.zeros(4), mask=mask)
    source = FaceRecord("k", "photo", (plain,), "", "d", "s", "l")
    for seed in range(6):
        example = crop_record(source, CropOptions(128, jitter=CropJitter(roll_degrees=20)), seed)
        mirrored = example.angles[0, 0] < 0
        from tokenface.geometry.landmarks import MIRROR68

        expected = landmarks[list(MIRROR68)] if mirrored else landmarks
        pixels = (example.landmarks68[0] + 1) * 64
        inside = (pixels > 2).all(1) & (pixels < 126).all(1)
        found = cv2.remap(
            example.image[0], *(pixels[:, None, k].astype(np.float32) - 0.5 for k in (0, 1)), cv2.INTER_LINEAR
        )[:, 0]
        np.testing.assert_allclose(found[inside, :2] + 0.5, expected[inside], atol=1.5)
        masked = example.mask[0] > 128
        assert np.abs(example.image[0][masked][:, 0].min().astype(float) - 81) < 3


def test_angles_follow_the_turn_and_the_mirror_of_a_crop():
    """Render-free: the roll of the eye line in the crop must change as the record's roll says."""
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    landmarks = 80 + 30 * np.stack([np.cos(angle), np.sin(angle)], -1)
    landmarks[36], landmarks[45] = (60, 70), (100, 70)  # level: roll 0
    plain = Picture(
        np.zeros((160, 160, 3), np.uint8),
        landmarks.astype(np.float32),
        np.ones(68, bool),
        np.array([0.5, 0.1, 0.0], np.float32),
        np.zeros(4),
    )
    source = FaceRecord("k", "photo", (plain,), "", "d", "s", "l")
    signs = set()
    for seed in range(8):
        example = crop_record(source, CropOptions(64, jitter=CropJitter(roll_degrees=30)), seed)
        right, left = example.landmarks68[0, 36], example.landmarks68[0, 45]
        roll = -np.arctan2(left[1] - right[1], left[0] - right[0])  # anticlockwise on the picture
        assert example.angles[0, 2] == pytest.approx(roll, abs=1e-4)
        assert abs(example.angles[0, 0]) == pytest.approx(0.5)
        signs.add(bool(example.angles[0, 0] > 0))
    assert signs == {True, False}


def test_geometry_is_mirrored_with_its_picture_or_not_at_all():
    scan = record(2, "ann", geometry=True)
    assert scan.geometry is not None
    mirror = np.arange(30)[::-1].copy()
    flips = 0
    for seed in range(10):
        example = crop_record(scan, CropOptions(32, mirror_vertices=mirror), seed)
        assert example.geometry is not None
        same = np.array_equal(example.geometry.vertices, scan.geometry.vertices)
        flipped = np.array_equal(example.geometry.vertices, scan.geometry.vertices[::-1] * [-1, 1, 1])
        assert same != flipped
        flips += flipped
        unmirrored = crop_record(scan, CropOptions(32), seed)
        assert np.sign(unmirrored.angles[0, 0]) == np.sign(scan.pictures[0].angles[0])
    assert 0 < flips < 10


def test_pictures_of_one_person_are_mirrored_together(tmp_path):
    """Eqs. 5 and 9 exchange the shapes of a person's pictures: a mirrored face has another shape."""
    shards(tmp_path, 48, 12, people=6)
    loader = ShardLoader(tmp_path, OrderConfig(batch=12, pictures_per_person=4), CropOptions(32), workers=1)
    coins = []
    for batch, _ in zip(loader.batches(), range(12), strict=False):
        tossed: dict[int, set[bool]] = {}
        for key, yaw, person in zip(batch.keys, batch.angles[:, 0].tolist(), batch.identity.tolist(), strict=True):
            tossed.setdefault(person, set()).add(yaw * record(int(key[1:])).pictures[0].angles[0] < 0)
        assert all(len(coin) == 1 for coin in tossed.values())
        coins.append([coin.pop() for coin in tossed.values()])
    assert 0.2 < np.mean([coin for batch in coins for coin in batch]) < 0.8
    assert any(len(set(batch)) == 2 for batch in coins)  # each person by itself


def test_a_person_in_the_mirror_is_paired_with_nobody_else():
    """A scan that cannot be mirrored beside photos of its person that can."""
    scan, photos = record(2, "ann", geometry=True), [record(n, "ann") for n in (4, 6)]
    seed = next(s for s in range(20) if crop_record(photos[0], CropOptions(32), 0, s).mirrored)
    batch = collate([crop_record(r, CropOptions(32), n, seed) for n, r in enumerate([scan, *photos])])
    assert batch.identity[1] == batch.identity[2] != batch.identity[0]


def test_scans_of_another_head_are_refused_before_a_training(tmp_path):
    scans = [record(n, "ann", geometry=True) for n in range(3)]
    write_shard(tmp_path / "scans-00000.tar", ((r.key, encode_record(r)) for r in scans))
    shards(tmp_path / "photos", 4, 4)
    check_heads(find_shards(tmp_path), "abc")
    check_heads(find_shards(tmp_path / "photos"), "other")  # photos have no vertices
    check_heads(find_shards(tmp_path), "other", ["another data set"])
    with pytest.raises(DataError, match="with hash abc, and the one with hash other is trained; prepare"):
        check_heads(find_shards(tmp_path), "other")
    path = index_path(tmp_path / "scans-00000.tar")  # an index that was written before indices knew
    content = json.loads(path.read_text())
    for entry in content["entries"]:
        del entry["head"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="with hash abc"):
        check_heads(find_shards(tmp_path), "other")


def test_scans_of_another_size_and_of_two_heads_are_one_line_each():
    scan = record(2, "ann", geometry=True)
    options = CropOptions(32, mirror_vertices=np.arange(20))
    mirrored = next(s for s in range(20) if crop_record(record(2), CropOptions(32), s).mirrored)
    with pytest.raises(DataError, match="30 vertices, the head model 20; prepare the data set for this head"):
        crop_record(scan, options, mirrored)
    other = replace(scan, geometry=replace(scan.geometry, head="def"))
    with pytest.raises(DataError, match="different head models in one batch"):
        collate([crop_record(r, CropOptions(32), 0) for r in (scan, other)])


def test_a_set_that_validates_is_held_out_wherever_it_lies(tmp_path):
    benchmark = [replace(record(n), dataset="aflw2000") for n in range(3)]
    others = [record(n) for n in range(3, 8)]
    write_shard(tmp_path / "mixed.tar", ((r.key, encode_record(r)) for r in [*benchmark, *others]))
    assert "aflw2000" in VALIDATING
    training, watched = held_out_sets(find_shards(tmp_path), VALIDATING)
    assert [e.dataset for shard in training for e in shard.entries] == ["test"] * 5
    assert [e.dataset for shard in watched for e in shard.entries] == ["aflw2000"] * 3
    assert decode_record("r00001", watched[0].read(watched[0].entries[1])).key == "r00001"
    everything, nothing = held_out_sets(find_shards(tmp_path), VALIDATING - {"aflw2000"})
    assert sum(len(shard.entries) for shard in everything) == 8
    assert nothing == []


def test_three_frames_of_a_clip_are_consecutive_and_photos_stand_still():
    clip = record(4, "ann", frames=5)
    found = set()
    for seed in range(20):
        example = crop_record(clip, CropOptions(32, frames=3, jitter=STILL), seed)
        assert example.image.shape == (3, 32, 32, 3)
        yaws = [p.angles[0] for p in clip.pictures]
        first = yaws.index(example.angles[0, 0])
        assert example.angles[:, 0].tolist() == yaws[first : first + 3]
        found.add(first)
    assert found == {0, 1, 2}
    still = crop_record(record(5), CropOptions(32, frames=3, jitter=STILL), 0)
    assert np.array_equal(still.image[0], still.image[2])
    batch = collate([still, crop_record(clip, CropOptions(32, frames=3), 1)])
    assert batch.image.shape == (2, 3, 3, 32, 32)
    assert batch.mask.shape == (2, 3, 1, 32, 32)


def test_scans_and_photos_mix_in_a_batch():
    batch = collate(
        [crop_record(r, CropOptions(32), 0) for r in (record(1, "a"), record(2, "b", geometry=True), record(3, "a"))]
    )
    assert batch.identity.tolist() == [0, 1, 0]
    assert batch.geometry is not None
    assert batch.geometry.rows.tolist() == [1]
    assert batch.geometry.vertices.shape == (1, 30, 3)
    assert batch.geometry.neutral.tolist() == [True]
    assert batch.kinds == ("photo", "scan", "photo")


def test_damaged_records_are_replaced_by_the_same_person_and_counted(tmp_path):
    made = shards(tmp_path, 24, 12, people=4)
    data = bytearray(made[0].path.read_bytes())
    damaged = [e for e in made[0].entries if e.identity == "p1"][:2]
    for entry in damaged:
        offset, size = entry.members["jpg"]
        data[offset + size // 2] ^= 0xFF
    made[0].path.write_bytes(bytes(data))
    loader = ShardLoader(tmp_path, OrderConfig(batch=6, pictures_per_person=2), CropOptions(32), workers=1)
    batches = [batch for batch, _ in zip(loader.batches(), range(4), strict=False)]
    assert all(len(b) == 6 for b in batches)
    seen = [key for b in batches for key in b.keys]
    assert not set(seen) & {e.key for e in damaged}
    assert sum(loader.records.entry(int(k[1:])).identity == "p1" for k in seen) == 6
    assert sorted(loader.defects) == sorted(f"s-00000.tar:{e.key}" for e in damaged)
    assert loader.report()[0] == "2 damaged records were left out"


def test_a_shard_that_is_cut_off_loses_only_what_was_cut(tmp_path):
    (shard,) = shards(tmp_path, 6, 6)
    offset = shard.entries[4].members["jpg"][0]
    shard.path.write_bytes(shard.path.read_bytes()[: offset + 100])
    (found,) = find_shards(tmp_path)
    assert [e.key for e in found.entries] == [e.key for e in shard.entries[:4]]
    assert found.defects
    assert any("ends inside" in reason or "not a readable tar" in reason for _, reason in found.defects)


def test_selection_and_held_out_people(tmp_path):
    made = shards(tmp_path, 20, 10, people=5)
    held = split_people(made, Split(2, 1))
    assert len(held) == 2
    loader = ShardLoader(made, OrderConfig(batch=4), CropOptions(32), Selection(without_people=held))
    assert len(loader.records) == 12
    assert not held & set(loader.records.identities)
    with pytest.raises(DataError, match="cannot hold 5 of 5 people"):
        split_people(made, Split(5))
    assert split_people([], Split(0)) == frozenset()  # nobody is named, nobody is asked for
    with pytest.raises(DataError, match="do not fill one batch"):
        ShardLoader(made, OrderConfig(batch=4), CropOptions(32), Selection(kinds=("scan",)))
    with pytest.raises(DataError, match="no shards"):
        find_shards(tmp_path / "empty")
