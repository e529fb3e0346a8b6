"""Head models by name: shipped, user-added, or a file by its path."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import platformdirs
from safetensors import SafetensorError

from tokenface.core.tensors import open_tensors
from tokenface.errors import HeadModelError, OutputError
from tokenface.head.data import FORMAT, HeadData

if TYPE_CHECKING:
    from tokenface.head.model import HeadModel

DEFAULT_HEAD = "openhead"
SUFFIX = ".safetensors"
HeadKind = Literal["flame", "ict"]


@dataclass(frozen=True)
class HeadEntry:
    """One installed head model, as `tokenface doctor` prints it."""

    name: str
    path: Path
    where: Literal["shipped", "user"]
    licence: str
    hash: str  # HeadData.geometry_hash: what a checkpoint remembers
    vertices: int
    shape: int
    expression: int
    texture: int
    problem: str | None = None  # one line when the file cannot be read; the other facts are empty then


def data_folder() -> Path:
    """Folder of the user's own models: `$TOKENFACE_DATA`, else the platform's folder for application data."""
    override = os.environ.get("TOKENFACE_DATA")
    return Path(override) if override else Path(platformdirs.user_data_dir("tokenface", appauthor=False))


def heads_folder() -> Path:
    """Folder of the user's converted head models."""
    return data_folder() / "heads"


def shipped_folder() -> Path:
    """Folder of the head models that come with the package."""
    return Path(str(resources.files("tokenface"))) / "assets"


def head_path(name_or_path: str | Path) -> Path:
    """The file of a head model: a shipped name, a name in the user's data folder, or a path, in this order.

    Raises:
        HeadModelError: nothing by that name; the message names the nearest ones.
    """
    text = str(name_or_path)
    if os.sep not in text and not text.endswith(SUFFIX):
        known = _known_files()
        if text.lower() in known:
            return known[text.lower()][0]
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise HeadModelError(
            f"'{path}' is a folder, not a head model; convert it with 'tokenface head add KIND {path}'"
        )
    if os.sep in text or text.endswith(SUFFIX):
        raise HeadModelError(f"no head model at '{path}'; 'tokenface doctor' shows the installed ones")
    names = sorted(_known_files())
    near = difflib.get_close_matches(text.lower(), names, n=3)
    hint = f"did you mean {_either(near)}?" if near else f"installed: {', '.join(names) or 'none'}."
    raise HeadModelError(
        f"no head model named '{text}'; {hint} Add others with 'tokenface head add flame PATH' or '… ict PATH'."
    )


def load_head(name_or_path: str | Path = DEFAULT_HEAD) -> HeadModel:
    """A head model by name or path, on the CPU.

    Raises:
        HeadModelError: unknown name (the nearest are named), or a damaged file.
    """
    from tokenface.head.model import HeadModel

    return HeadModel(HeadData.load(head_path(name_or_path)))


def load_head_by_hash(geometry_hash: str, name: str) -> HeadModel:
    """The installed head model with this `HeadData.geometry_hash`; name: what the asker knows it by.

    Raises:
        HeadModelError: none of the installed ones is it.
    """
    entries = list_heads()
    for entry in entries:
        if entry.hash == geometry_hash:
            return load_head(entry.path)
    same = [entry for entry in entries if entry.name == name.lower()]
    other = f"; the installed '{name}' is another ({same[0].hash})" if same else ""
    raise HeadModelError(
        f"head model '{name}' ({geometry_hash}) is not installed{other}; "
        "add its download with 'tokenface head add flame PATH' (or ict)"
    )


def list_heads() -> list[HeadEntry]:
    """Every installed head model, shipped ones first, each group by name; an unreadable file is listed as such."""
    return [_entry(name, path, where) for name, (path, where) in _known_files().items()]


def add_head(
    kind: HeadKind,
    paths: Sequence[str | Path],
    name: str | None = None,
    output: str | Path | None = None,
    report: Callable[[str], None] | None = None,
    complete: bool = True,
) -> Path:
    """Convert downloaded FLAME or ICT-FaceKit files once into the project's own file.

    What the files lack of albedo, named regions and the 468-point mesh is carried over from OpenHead; the geometry is
    the files' own.

    Args:
        kind: "flame" or "ict".
        paths: files, or folders that hold them.
        name: name for `load_head`; default: from the model ("flame2020", "flame2023_no_jaw", "ict").
        output: file to write; default: `<name>.safetensors` in the user's data folder.
        report: called with one line per fact that the user should see.
        complete: False leaves out what the files lack.
    Returns:
        The file written.
    Raises:
        HeadModelError: unknown kind, missing or malformed files, or a name that is reserved.
        OutputError: the file cannot be written.
    """
    from tokenface.head.flame import load_flame
    from tokenface.head.ict import load_ict
    from tokenface.head.transfer import dress

    loaders: dict[str, Callable[[Sequence[Path]], HeadData]] = {"flame": load_flame, "ict": load_ict}
    if kind not in loaders:
        raise HeadModelError(f"head models can be added from {_either(sorted(loaders))}, not from '{kind}'")
    if name is not None and (not name or Path(name).name != name or name.startswith(".")):
        raise HeadModelError(f"'{name}' is no name for a head model; use letters, digits, '-' and '_'")
    data = loaders[kind]([Path(p).expanduser() for p in paths])
    if complete and (shipped_folder() / f"{DEFAULT_HEAD}{SUFFIX}").is_file():
        data = dress(data, HeadData.load(shipped_folder() / f"{DEFAULT_HEAD}{SUFFIX}"))
    if name is not None:
        data.name = name
    if output is None and data.name.lower() in {n for n, (_, where) in _known_files().items() if where == "shipped"}:
        raise HeadModelError(f"'{data.name}' is the name of a shipped head model; choose another with --name")
    target = Path(output).expanduser() if output is not None else heads_folder() / f"{data.name.lower()}{SUFFIX}"
    try:
        data.save(target)
    except OSError as error:
        raise OutputError(
            f"cannot write '{target}' ({error.strerror or error}); choose another with --output"
        ) from error
    if report is not None:
        for key, value in sorted(data.facts.items()):
            report(f"{key}: {value}")
        report(f"'{data.name}' ({data.licence}) written to {target}")
    return target


def _known_files() -> dict[str, tuple[Path, Literal["shipped", "user"]]]:
    """Lower-case name → (file, where); a shipped name wins over a user's."""
    known: dict[str, tuple[Path, Literal["shipped", "user"]]] = {}
    folders: tuple[tuple[Literal["shipped", "user"], Path], ...] = (
        ("shipped", shipped_folder()),
        ("user", heads_folder()),
    )
    for where, folder in folders:
        if folder.is_dir():
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                if where == "user" or _is_head_file(path):
                    known.setdefault(path.stem.lower(), (path, where))
    return known


def _is_head_file(path: Path) -> bool:
    """Weights lie in the same folder; the header alone tells them apart."""
    try:
        with open_tensors(path, "np") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def _entry(name: str, path: Path, where: Literal["shipped", "user"]) -> HeadEntry:
    try:
        data = HeadData.load(path)
    except HeadModelError as error:
        return HeadEntry(name, path, where, "", "", 0, 0, 0, 0, problem=str(error))
    texture = 0 if data.albedo_basis is None else len(data.albedo_basis)
    sizes = (len(data.template), len(data.shape_basis), len(data.expression_basis), texture)
    return HeadEntry(name, path, where, data.licence, data.geometry_hash(), *sizes)


def _either(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + f" or {quoted[-1]}"
