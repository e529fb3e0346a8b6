"""NeRSemble single-view face reconstruction: submission zip, posed and neutral."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np

from tokenface.core.files import discard, output_error
from tokenface.errors import EvaluationError
from tokenface.evaluation.mesh_files import seven_points
from tokenface.evaluation.predict import ply_bytes

FLAME_VERTICES = 5023
Kind = Literal["posed", "neutral"]
_KEY = re.compile(r"(?P<sequence>[A-Za-z0-9+._-]+?)_(?P<timestep>\d+)_(?:cam_)?(?P<serial>\d{6,})")


@dataclass(frozen=True)
class SvfrImage:
    """participant: three digits.  key: `sequence_timestep_serial`.  photo: the picture."""

    participant: str
    key: str
    photo: Path


def svfr_images(root: str | Path) -> Iterator[SvfrImage]:
    """Pictures below `<participant>/` whose name is, or begins with, `sequence_timestep_serial`.

    Raises:
        EvaluationError: there is none.
    """
    root, found = Path(root), False
    for folder in sorted(path for path in root.glob("*") if path.is_dir() and path.name.isdigit()):
        for photo in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg")):
            match = _KEY.match(photo.stem)
            if match:
                found = True
                yield SvfrImage(folder.name, "_".join(match.group("sequence", "timestep", "serial")), photo)
    if not found:
        raise EvaluationError(f"no <participant>/<sequence>_<timestep>_<serial> pictures below '{root}'")


class SvfrZip:
    """Collects meshes in a zip that appears under its name only when all of them are in.

    with SvfrZip("submission.zip") as submission:
        submission.add("017", "FREE_786_222200038", "posed", vertices, faces, landmarks)
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._names: set[str] = set()

    def __enter__(self) -> SvfrZip:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._zip = zipfile.ZipFile(self._part, "w", zipfile.ZIP_DEFLATED)
        except OSError as error:
            raise output_error(self.path, error) from error
        return self

    def add(
        self,
        participant: str,
        key: str,
        kind: Kind,
        vertices: np.ndarray,
        faces: np.ndarray,
        landmarks: np.ndarray | None = None,
    ) -> None:
        """Args: landmarks: [7, 3], NoW's seven; may be None for FLAME's topology alone.

        Raises:
            EvaluationError: a name that is no participant or key, a second mesh of one kind, or no landmarks.
            OutputError: the zip cannot be written.
        """
        if not participant.isdigit() or not _KEY.fullmatch(key):
            raise EvaluationError(f"'{participant}/{key}' is not <participant>/<sequence>_<timestep>_<serial>")
        if landmarks is None and len(vertices) != FLAME_VERTICES:
            raise EvaluationError(f"a mesh of {len(vertices)} vertices needs seven landmarks; only FLAME's does not")
        name = f"{participant}/{key}/mesh_{kind}.ply"
        if name in self._names:
            raise EvaluationError(f"'{name}' was already added")
        self._names.add(name)
        try:
            self._zip.writestr(name, ply_bytes(vertices, faces))
            if landmarks is not None:
                buffer = io.BytesIO()
                np.save(buffer, seven_points(name, np.asarray(landmarks, np.float64)), allow_pickle=False)
                self._zip.writestr(f"{participant}/{key}/landmarks_{kind}.npy", buffer.getvalue())
        except OSError as error:
            raise output_error(self.path, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._zip.close()
            if kind is None:
                self._part.replace(self.path)
        except OSError as failure:
            raise output_error(self.path, failure) from failure
        finally:
            discard(self._part)
