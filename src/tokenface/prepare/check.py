"""Check of a folder of shards: every record is read, counted and optionally shown on a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from tokenface.data.record import FaceRecord, Picture
from tokenface.data.shards.index import find_shards
from tokenface.data.shards.members import decode_record
from tokenface.errors import DataError

CELL = 192
COLUMNS = 8
UNKNOWN_WORDS = {
    "nothing": "of the head model itself",
    "place": "registered, with their own size",
    "size": "registered, without a true size",
}
"""`Geometry.unknown` for people."""
GREEN, RED = (90, 255, 170), (255, 80, 80)


@dataclass
class ShardCheck:
    """Sums over the readable records. visible: mean share of visible landmarks.  yaw: counts by 15°, from 0."""

    shards: int = 0
    records: int = 0
    pictures: int = 0
    kinds: Counter = field(default_factory=Counter)
    datasets: Counter = field(default_factory=Counter)
    licences: dict[str, str] = field(default_factory=dict)
    people: Counter = field(default_factory=Counter)  # pictures of each
    meshes: int = 0
    masks: int = 0
    geometries: int = 0
    neutral: int = 0
    unknown: Counter = field(default_factory=Counter)  # geometries by what they leave open
    visible: float = 0.0
    yaw: Counter = field(default_factory=Counter)
    rejected: Counter = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    suspicious: list[tuple[str, str]] = field(default_factory=list)
    samples: list[FaceRecord] = field(default_factory=list)

    @property
    def groups(self) -> int:
        """People with at least two records: what Eqs. 5 and 9 can use."""
        return sum(count > 1 for count in self.people.values())


def check_shards(root: str | Path, sheet: int = 48) -> Iterator[ShardCheck]:
    """Read every record; yields the same object after each one, for a progress bar.

    Args:
        sheet: records kept for the contact sheet, spread over all of them.
    Raises:
        DataError: no shards.
    """
    shards = find_shards(root)
    total = sum(len(shard.entries) for shard in shards)
    every = max(1, total // max(1, sheet))
    check = ShardCheck(shards=len(shards))
    heads: set[str] = set()
    number = 0
    for shard in shards:
        check.rejected.update(reason for _, reason in shard.rejected)
        check.failed += shard.failed
        check.broken += [(f"{shard.path.name}:{name}", reason) for name, reason in shard.defects]
        for entry in shard.entries:
            try:
                record = decode_record(entry.key, shard.read(entry))
            except DataError as error:
                check.broken.append((f"{shard.path.name}:{entry.key}", str(error)))
            else:
                _count(check, record)
                if record.geometry is not None:
                    heads.add(record.geometry.head)
                if number % every == 0 and len(check.samples) < sheet:
                    check.samples.append(record)
            number += 1
            yield check
    if len(heads) > 1:
        check.suspicious.append((str(root), f"geometry of {len(heads)} head models; keep one folder per head model"))
    if total == 0:
        yield check


def _count(check: ShardCheck, record: FaceRecord) -> None:
    check.records += 1
    check.kinds[record.kind] += 1
    check.datasets[record.dataset] += 1
    check.licences[record.dataset] = record.licence
    if record.identity:
        check.people[record.identity] += 1
    if record.geometry is not None:
        check.geometries += 1
        check.neutral += record.geometry.neutral
        check.unknown[record.geometry.unknown] += 1
    for picture in record.pictures:
        check.pictures += 1
        check.meshes += picture.landmarks468 is not None
        check.masks += picture.mask is not None
        check.visible += (float(picture.visible.mean()) - check.visible) / check.pictures
        check.yaw[int(abs(np.rad2deg(picture.angles[0])) // 15) * 15] += 1
        if reason := _suspicious(picture):
            check.suspicious.append((record.source, reason))


def _suspicious(picture: Picture) -> str | None:
    height, width = picture.image.shape[:2]
    points = picture.landmarks
    if (np.ptp(points, axis=0) < 0.1 * min(height, width)).any():
        return "landmarks on one spot"
    if ((points < -0.1 * width) | (points > 1.1 * width)).any(1).mean() > 0.3:
        return "landmarks off the picture"
    if picture.mask is not None and not 0.01 < (picture.mask > 127).mean() < 0.95:
        return "mask empty or everywhere"
    if picture.image.std() < 3:
        return "picture of one colour"
    return None


def contact_sheet(records: list[FaceRecord]) -> np.ndarray:
    """[H, W, 3] uint8: pictures with the mask's border, visible points green, hidden ones red, angles and identity."""
    cells = [_cell(record) for record in records] or [np.full((CELL, CELL, 3), 40, np.uint8)]
    columns = min(COLUMNS, len(cells))
    blank = np.full_like(cells[0], 40)
    cells += [blank] * (-len(cells) % columns)
    return np.concatenate([np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)])


def _cell(record: FaceRecord) -> np.ndarray:
    picture = record.pictures[len(record.pictures) // 2]
    scale = CELL / max(picture.image.shape[:2])
    image = cv2.resize(picture.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cell = np.full((CELL, CELL, 3), 40, np.uint8)
    cell[: image.shape[0], : image.shape[1]] = image[:CELL, :CELL]
    if picture.mask is not None:
        mask = cv2.resize(picture.mask, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        contours, _ = cv2.findContours((mask > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(cell, contours, -1, (255, 210, 60), 1, cv2.LINE_AA)
    for point, seen in zip(picture.landmarks * scale, picture.visible, strict=True):
        # four fractional bits; cv2 counts pixel centres as integers
        at = tuple(int(v) for v in ((point - 0.5) * 16).round())
        cv2.circle(cell, at, 14, GREEN if seen else RED, -1, cv2.LINE_AA, shift=4)
    yaw, pitch, roll = np.rad2deg(picture.angles).round().astype(int)
    lines = (f"{yaw:+d} {pitch:+d} {roll:+d}", record.identity[-24:] or record.kind)
    for row, text in enumerate(lines):
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(cell, text, (4, 13 + 13 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, thickness, cv2.LINE_AA)
    return cell
