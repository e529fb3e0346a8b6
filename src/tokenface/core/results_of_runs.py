"""Files of an earlier run, told from the user's by the marker that lies beside them: they are never inputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath, PurePosixPath

PHOTO_MARKER = ".tokenface.json"
"""In every photo's folder of results: which photo it belongs to, what was written, with which settings."""
CLIP_MARKER = ".tokenface-track.json"
"""In every clip's."""
_PICTURE = re.compile(
    r"overlay\.png|parameters\.json|face_\d+(_neutral)?\.(glb|vrm|obj|mtl|png|ply|stl)|face_\d+_maps\.npz"
    r"|face_\d+_(depth|normals|uv|pncc|parts|cutout|axes|points68|points468|normal|displacement)\.png"
)
_PERSON = re.compile(r"person_\d+")


def is_result_name(name: str) -> bool:
    """Whether files of that name are written for a photo."""
    return _PICTURE.fullmatch(name) is not None


def without_results(paths: Iterable[Path]) -> list[Path]:
    """The paths that no earlier run wrote."""
    return [path for path in paths if not _is_result(path, lambda marker: Path(marker).is_file())]


def names_without_results(names: Iterable[str], all_names: Iterable[str]) -> list[str]:
    """The same for names with slashes, of which all in the place are known."""
    there = set(all_names)
    return [name for name in names if not _is_result(PurePosixPath(name), lambda marker: str(marker) in there)]


def _is_result(path: PurePath, exists: Callable[[PurePath], bool]) -> bool:
    if is_result_name(path.name) and exists(path.parent / PHOTO_MARKER):
        return True
    return any(_PERSON.fullmatch(above.name) and exists(above.parent / CLIP_MARKER) for above in path.parents)
