"""NoW benchmark on disk: images, scans, landmarks, predictions, result files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from tokenface.core.files import output_error, read_text, reason, write_atomically
from tokenface.errors import EvaluationError, HeadModelError
from tokenface.evaluation.batch import Job, Outcome
from tokenface.head.restricted_pickle import load_npy

CHALLENGES: tuple[str, ...] = ("multiview_neutral", "multiview_expressions", "multiview_occlusions", "selfie")
LISTS = {"validation": "imagepathsvalidation.txt", "test": "imagepathstest.txt"}
RELEASE = Path("NoW_Dataset") / "final_release_version"


@dataclass(frozen=True)
class NowImage:
    """One row of the image list: `subject/challenge/file`."""

    subject: str
    challenge: str
    file: str

    @property
    def stem(self) -> str:
        return self.file[:-4]  # as the official code cuts it

    @property
    def name(self) -> str:
        return f"{self.subject}/{self.challenge}/{self.file}"


class NowFolder:
    """Paths in a download of NoW, whichever of its folders is given."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise EvaluationError(f"'{root}' is not a folder; give the folder that holds 'imagepathsvalidation.txt'")

    def images(self, split: str = "validation", challenge: str | None = None) -> list[NowImage]:
        """The rows of the image list.

        Raises:
            EvaluationError: no list, an unreadable row, or an unknown split or challenge.
        """
        if challenge is not None and challenge not in CHALLENGES:
            raise EvaluationError(f"no challenge '{challenge}' in NoW; there are {', '.join(CHALLENGES)}")
        if split not in LISTS:
            raise EvaluationError(f"no split '{split}' in NoW; there are {', '.join(LISTS)}")
        path = self._find(LISTS[split])
        if path is None:
            raise EvaluationError(f"'{self.root}' has no '{LISTS[split]}'; download the image list to that folder")
        try:
            rows = [row.strip() for row in read_text(path).splitlines() if row.strip()]
        except (OSError, ValueError) as error:
            raise EvaluationError(
                f"the image list '{path}' cannot be read ({reason(error)}); download it again"
            ) from error
        images = []
        for row in rows:
            parts = PurePosixPath(row).parts[-3:]
            if len(parts) != 3 or ".." in parts:
                raise EvaluationError(f"'{path}' has a row '{row[:80]}' that is not subject/challenge/image")
            images.append(NowImage(*parts))
        return [image for image in images if challenge in (None, image.challenge)]

    def scan(self, subject: str) -> tuple[Path, Path]:
        """Scan and picked points of a person.

        Raises:
            EvaluationError: one of them is not there.
        """
        found = []
        for folder, pattern in (("scans", "*.obj"), ("scans_lmks_onlypp", "*.pp")):
            place = self._find(f"{folder}/{subject}")
            files = sorted(place.glob(pattern)) if place is not None else []
            if not files:
                raise EvaluationError(f"no {pattern} in '{self.root / folder / subject}'; the scans are a download too")
            found.append(files[0])
        return found[0], found[1]

    def photo(self, image: NowImage) -> Path:
        """The photo of an image; it may not exist."""
        return self._find(f"iphone_pictures/{image.name}") or self.root / RELEASE / "iphone_pictures" / image.name

    def box(self, image: NowImage) -> np.ndarray | None:
        """[4] x0, y0, x1, y1 of the face as the data set gives it, or None where it does not."""
        path = self._find(f"detected_face/{image.subject}/{image.challenge}/{image.stem}.npy")
        if path is None:
            return None
        try:
            content = load_npy(path)
            return np.array([float(content[side]) for side in ("left", "top", "right", "bottom")])
        except (HeadModelError, KeyError, TypeError, ValueError, IndexError) as error:
            raise EvaluationError(f"'{path}' does not hold left, top, right and bottom of a face ({error})") from error

    def _find(self, name: str) -> Path | None:
        for base in (self.root, self.root / RELEASE, self.root.parent.parent, self.root / "NoW_Dataset"):
            if (base / name).exists():
                return base / name
        return None


def now_jobs(folder: NowFolder, images: Sequence[NowImage], predictions: str | Path) -> list[Job]:
    """A job per image: `<predictions>/<subject>/<challenge>/<stem>.{obj,ply}` with `.npy` or `.txt` beside it."""
    predictions = Path(predictions)
    if not predictions.is_dir():
        raise EvaluationError(f"'{predictions}' is not a folder of predictions")
    jobs = []
    for image in images:
        scan, points = folder.scan(image.subject)
        place = predictions / image.subject / image.challenge
        mesh = next((p for s in (".obj", ".ply") if (p := place / f"{image.stem}{s}").is_file()), None)
        landmarks = next((p for s in (".npy", ".txt") if (p := place / f"{image.stem}{s}").is_file()), None)
        jobs.append(Job(image.name, image.subject, image.challenge, scan, points, mesh, landmarks))
    return jobs


def write_official_results(
    folder: Path, method: str, outcomes: Sequence[Outcome], metrical: bool, challenge: str | None, seed: int = 0
) -> Path:
    """`<method>[_metrical]_computed_distances[_<challenge>].npy`, as the organisers' plots read it.

    Like theirs it holds a pickled dict: computed_distances (a list of arrays, each in shuffled order),
    num_missing_files, input_files.
    """
    random = np.random.default_rng(seed)
    measured = [outcome for outcome in outcomes if outcome.error is None]
    content = {
        "computed_distances": [random.permutation(outcome.values.astype(np.float64)) for outcome in measured],
        "num_missing_files": len(outcomes) - len(measured),
        "input_files": [outcome.job.name for outcome in measured],
    }
    tail = f"_{challenge}" if challenge else ""
    buffer = io.BytesIO()
    np.save(buffer, np.array(content, dtype=object), allow_pickle=True)
    name = f"{method}{'_metrical' if metrical else ''}_computed_distances{tail}.npy"
    return write_atomically(folder / name, buffer.getvalue())


def pack_predictions(images: Sequence[NowImage], predictions: Path, target: Path) -> tuple[int, list[str]]:
    """A zip of the predictions of a split, in the layout that the organisers measure.

    Returns:
        The number of images packed, and the names of those that lack a mesh or landmarks (they are left out).
    """
    missing, packed = [], 0
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for image in images:
                stem = f"{image.subject}/{image.challenge}/{image.stem}"
                mesh = [s for s in (".obj", ".ply") if (predictions / f"{stem}{s}").is_file()]
                landmarks = [s for s in (".npy", ".txt") if (predictions / f"{stem}{s}").is_file()]
                if not mesh or not landmarks:
                    missing.append(image.name)
                    continue
                for suffix in (mesh[0], landmarks[0]):
                    archive.write(predictions / f"{stem}{suffix}", f"{stem}{suffix}")
                packed += 1
        part.replace(target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        part.unlink(missing_ok=True)
    return packed, missing
