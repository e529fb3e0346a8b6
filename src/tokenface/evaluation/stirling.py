"""Stirling (ESRC) as in the FG2018 challenge: photos of two qualities, scans with seven points each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tokenface.core.files import write_atomically
from tokenface.errors import EvaluationError
from tokenface.evaluation.batch import Job, Outcome
from tokenface.evaluation.scan_to_mesh import NOW, STIRLING, Protocol

SPLITS: tuple[str, ...] = ("HQ", "LQ")
RULES: dict[str, Protocol] = {"fg2018": STIRLING, "now": replace(NOW, name="NoW's rule on Stirling")}
"""The challenge's own rule, and the one that papers since MICA seem to have used."""
SCAN_FOLDERS = ("F_3D_N", "M_3D_N")
PHOTO_FOLDERS = ("Real_images__Subset_2D_FG2018", "Subset_2D_FG2018", ".")
_PERSON = re.compile(r"[FM]\d+[A-Z]?", re.IGNORECASE)


class StirlingFolder:
    """Photos, scans and landmarks below one folder."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise EvaluationError(f"'{root}' is not a folder; give the folder of the Stirling (ESRC) data")
        self._scans = self._files(("obj", "ply"))
        self._landmarks = self._files(("lnd",))
        if not self._scans or not self._landmarks:
            raise EvaluationError(
                f"no scans with landmarks below '{root}'; expected {' and '.join(SCAN_FOLDERS)} with .obj and .lnd"
            )

    def photos(self, split: str) -> list[Path]:
        """The photos of a split, by name.

        Raises:
            EvaluationError: an unknown split, or none of its photos.
        """
        if split not in SPLITS:
            raise EvaluationError(f"no split '{split}' in Stirling; there are {', '.join(SPLITS)}")
        for base in PHOTO_FOLDERS:
            found = sorted(self.root.glob(f"{base}/{split}/*.jpg")) or sorted(self.root.glob(f"*/{base}/{split}/*.jpg"))
            if found:
                return found
        raise EvaluationError(f"no photos below '{self.root}'; expected {PHOTO_FOLDERS[0]}/{split}/*.jpg")

    def scan_of(self, photo: Path) -> tuple[Path, Path]:
        """Scan and landmarks of the person that a photo's name begins with.

        Raises:
            EvaluationError: no person in the name, or no scan of that person.
        """
        match = _PERSON.match(photo.stem)
        person = match.group().lower() if match else ""
        stems = [stem for stem in self._scans if _person_of(stem) == person and stem in self._landmarks]
        if not person or not stems:
            raise EvaluationError(f"no scan with landmarks for the photo '{photo.name}' below '{self.root}'")
        stem = min(stems, key=len)  # F1031_N before F1031_2_N
        return self._scans[stem], self._landmarks[stem]

    def _files(self, suffixes: Sequence[str]) -> dict[str, Path]:
        """Lower-case stem → path, of the files in the folders of scans wherever these lie."""
        found: dict[str, Path] = {}
        for folder in SCAN_FOLDERS:
            for suffix in suffixes:
                for path in sorted(self.root.rglob(f"{folder}/**/*.{suffix}")):
                    found.setdefault(path.stem.lower(), path)
        return found


def stirling_jobs(
    folder: StirlingFolder, splits: Sequence[str], predictions: str | Path
) -> tuple[list[Job], list[str]]:
    """A job per photo: `<predictions>/<split>/<photo stem>.{obj,ply}` with `.npy` or `.txt` beside it.

    Returns:
        The jobs, and why photos without a scan have none.
    """
    jobs, problems = [], []
    for split in splits:
        for photo in folder.photos(split):
            try:
                scan, points = folder.scan_of(photo)
            except EvaluationError as error:
                problems.append(str(error))
                continue
            stem = Path(predictions) / split / photo.stem
            files = [
                next((p for s in kind if (p := stem.with_name(stem.name + s)).is_file()), None)
                for kind in ((".obj", ".ply"), (".npy", ".txt"))
            ]
            jobs.append(Job(f"{split}/{photo.name}", _person_of(photo.stem.lower()), split, scan, points, *files))
    return jobs, problems


def write_distance_files(folder: Path, outcomes: Sequence[Outcome]) -> Iterator[Path]:
    """The challenge's own files: `<scan>_distances.txt` with `vertex distance` rows, a folder per photo."""
    for outcome in outcomes:
        if outcome.error is None and outcome.kept is not None:
            rows = zip(outcome.kept.tolist(), outcome.values.tolist(), strict=True)
            text = "".join(f"{vertex} {distance:.6f}\n" for vertex, distance in rows)
            place = folder / Path(outcome.job.name).with_suffix("")
            yield write_atomically(place / f"{outcome.job.scan.stem}_distances.txt", text.encode())


def _person_of(stem: str) -> str:
    match = _PERSON.match(stem)
    return match.group().lower() if match else ""
