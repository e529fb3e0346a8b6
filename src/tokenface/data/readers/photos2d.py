"""Readers of the paper's 2-D data sets (Sec. 4.1), and of plain folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tokenface.data.readers.dataset import (
    DatasetReader,
    Loaded,
    folders_in,
    key_of,
    landmark_file,
    load_pictures,
    pictures_in,
    videos_in,
)
from tokenface.data.record import Item
from tokenface.errors import DataError
from tokenface.images.loading import load_image

MAX_LIST_BYTES = 1 << 30
MATLAB = 0.5
"""Its first pixel has its centre at 1, ours at 0.5."""


def find_folder(root: Path) -> Iterator[Item]:
    """Photos and videos at any depth. A subfolder is a person: its name, from the root's on, is the identity, so that
    person 001 of one folder is not person 001 of another."""
    for folder in [root, *(p for p in sorted(root.rglob("*")) if p.is_dir() and not p.name.startswith("."))]:
        identity = "" if folder == root else f"{root.resolve().name}/{folder.relative_to(root).as_posix()}"
        for path in pictures_in(folder):
            yield Item(key_of(path, root), "photo", (path,), identity, files=landmark_file(path))
        for path in videos_in(folder):
            yield Item(key_of(path, root), "clip", (path,), identity)


def find_ffhq(root: Path) -> Iterator[Item]:
    """Flat or in folders of a thousand; nobody appears twice on purpose, so there are no identities."""
    official = _ffhq_landmarks(root)
    for folder in [root, *sorted(p for p in root.rglob("*") if p.is_dir())]:
        for path in pictures_in(folder):
            if re.fullmatch(r"\d{5}", path.stem):
                points = official.get(path.name)
                yield Item(
                    key_of(path, root), "photo", (path,), landmarks=points, files=() if points else landmark_file(path)
                )


def _ffhq_landmarks(root: Path) -> dict[str, tuple[tuple[float, float], ...]]:
    """68 points of the aligned 1024² pictures from the data set's own list, where it lies beside them."""
    paths = [folder / name for folder in (root, root.parent) for name in ("ffhq-dataset-v2.json", "ffhq-dataset.json")]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        return {}
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise ValueError("too large")
        entries = json.loads(path.read_text(encoding="utf-8")).values()
        found = {}
        for entry in entries:
            points = entry["image"]["face_landmarks"]
            if len(points) == 68:
                found[Path(entry["image"]["file_path"]).name] = tuple((float(x), float(y)) for x, y in points)
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"'{path}' is not FFHQ's list ({str(error)[:80]}); download it again or remove it") from error


def find_celeba(root: Path) -> Iterator[Item]:
    """`img_align_celeba/*.jpg`; people from `identity_CelebA.txt` (lines `000001.jpg 2880`)."""
    people = {}
    for path in sorted(root.rglob("identity_CelebA.txt"))[:1]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            name, _, person = line.partition(" ")
            if not person.strip():
                raise DataError(f"line {number} of '{path}' is '{line[:40]}', expected a file name and a person")
            people[name] = person.strip()
    folders = [p for p in sorted(root.rglob("img_align_celeba")) if p.is_dir()] or [root]
    for path in pictures_in(folders[-1]):  # the zip holds a folder of the same name in the folder
        if re.fullmatch(r"\d{6}", path.stem):
            yield Item(key_of(path, root), "photo", (path,), people.get(path.name, ""))


def find_vggface2(root: Path) -> Iterator[Item]:
    """`train/n000001/*.jpg`, `test/…`, or the people's folders themselves."""
    for person in sorted(p for p in root.rglob("n[0-9][0-9][0-9][0-9][0-9][0-9]") if p.is_dir()):
        for path in pictures_in(person):
            yield Item(key_of(path, root), "photo", (path,), person.name)


def find_voxceleb2(root: Path) -> Iterator[Item]:
    """`<person>/<video>/<clip>.mp4`, or frames `…/<clip>/*.png`; a prefix as `dev/mp4` does not matter."""
    from tokenface.data.readers.video import CLIP_FRAMES

    for person in sorted(p for p in root.rglob("id[0-9]*") if p.is_dir() and re.fullmatch(r"id\d{4,6}", p.name)):
        for video in folders_in(person):
            for clip in videos_in(video):
                yield Item(key_of(clip, root), "clip", (clip,), person.name)
            for clip in folders_in(video):
                frames = pictures_in(clip)
                middle = max(0, (len(frames) - CLIP_FRAMES) // 2)
                if frames:
                    chosen = tuple(frames[middle : middle + CLIP_FRAMES])
                    yield Item(key_of(clip / "frames.png", root), "clip", chosen, person.name)


def find_bupt(root: Path) -> Iterator[Item]:
    """`race_per_7000/<Race>/<id>/*.jpg`; people's names are unique inside their group only."""
    base = root / "race_per_7000" if (root / "race_per_7000").is_dir() else root
    for race in folders_in(base):
        for person in folders_in(race):
            for path in pictures_in(person):
                yield Item(key_of(path, root), "photo", (path,), f"{race.name}/{person.name}")


def find_aflw2000(root: Path) -> Iterator[Item]:
    """`image#####.jpg` with `image#####.mat`."""
    for folder in [root, *folders_in(root)]:
        for path in pictures_in(folder):
            if re.fullmatch(r"image\d{5}", path.stem) and path.with_suffix(".mat").is_file():
                yield Item(key_of(path, root), "photo", (path,), files=(("labels", path.with_suffix(".mat")),))


def load_aflw2000(item: Item) -> Loaded:
    """The 68 points are those of a fitted 3-D face (`pt3d_68`), hidden ones too, in Matlab's pixels."""
    from scipy.io import loadmat

    path = item.file("labels")
    assert path is not None
    try:
        points = np.asarray(loadmat(path)["pt3d_68"], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise DataError(f"'{path}' has no points 'pt3d_68' that can be read ({str(error)[:80]})") from error
    if points.shape != (3, 68) or not np.isfinite(points).all():
        raise DataError(f"'pt3d_68' of '{path}' has shape {points.shape}, expected (3, 68)")
    landmarks = (points[:2].T - MATLAB).astype(np.float32)
    return Loaded([load_image(item.pictures[0])], [landmarks])


READERS = (
    DatasetReader(
        "folder",
        "a folder of photos or videos",
        "as the owner of the photos says",
        "pictures or videos; subfolders are people",
        find_folder,
        load_pictures,
    ),
    DatasetReader(
        "ffhq",
        "FFHQ",
        "CC BY-NC-SA 4.0; each photo has its own",
        "00000.png … 69999.png, with ffhq-dataset-v2.json or 00000.txt landmarks where there are any",
        find_ffhq,
        load_pictures,
    ),
    DatasetReader(
        "celeba",
        "CelebA",
        "non-commercial research",
        "img_align_celeba/000001.jpg … and identity_CelebA.txt",
        find_celeba,
        load_pictures,
    ),
    DatasetReader(
        "vggface2",
        "VGGFace2",
        "research; CC BY-SA 4.0 for the annotations",
        "train/n000001/*.jpg",
        find_vggface2,
        load_pictures,
    ),
    DatasetReader(
        "voxceleb2",
        "VoxCeleb2",
        "CC BY 4.0 (annotations); videos belong to their owners",
        "<person>/<video>/<clip>.mp4 or <person>/<video>/<clip>/*.png, people named id00012",
        find_voxceleb2,
        load_pictures,
    ),
    DatasetReader(
        "bupt",
        "BUPT-Balancedface",
        "non-commercial research",
        "race_per_7000/<Race>/<id>/*.jpg",
        find_bupt,
        load_pictures,
    ),
    DatasetReader(
        "aflw2000",
        "AFLW2000-3D",
        "non-commercial research",
        "image00002.jpg with image00002.mat",
        find_aflw2000,
        load_aflw2000,
        validates=True,
    ),
)
