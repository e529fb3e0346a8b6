"""Network weights by name: shipped, by environment variable, or a file by its path."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tokenface.core.halves import are_apart, joined
from tokenface.core.hub_files import PREFIX, WEIGHTS_FILE, fetch
from tokenface.errors import CheckpointError

DEFAULT_WEIGHTS = "tokenface-s"
WEIGHTS_VARIABLE = "TOKENFACE_WEIGHTS"
SUFFIX = ".safetensors"
RECOGNITION = "tokenface-recognition"
"""The recognition network's file, whose features the network reads."""
COMPANIONS = ("confidence", "centred.temporal", "causal.temporal")
"""Small files that belong to some weights, and say by their hash to which."""


@dataclass(frozen=True)
class WeightsEntry:
    """One set of weights that has a name."""

    name: str
    purpose: str

    @property
    def path(self) -> Path:
        return Path(str(resources.files("tokenface"))) / "assets" / "weights" / f"{self.name}{SUFFIX}"

    @property
    def installed(self) -> bool:
        return self.path.is_file()


WEIGHTS: dict[str, WeightsEntry] = {
    entry.name: entry
    for entry in (
        WeightsEntry("tokenface-s", "tokenface-ti with twice the blocks, trained on; the default"),
        WeightsEntry("tokenface-ti", "tiny ViT on OpenHead, trained on the CPU; the fastest"),
        WeightsEntry("tokenface-ti-synthetic", "a tiny ViT trained on rendered faces alone; no photo behind it"),
    )
}
"""Every name that `tokenface.load` knows."""


def find_weights(name_or_path: str | os.PathLike | None = None) -> Path:
    """The file of some weights: a name of `WEIGHTS`, a path, a folder that `save_pretrained` wrote, `hf://owner/name`
    on the Hugging Face Hub, or None for `$TOKENFACE_WEIGHTS`, else the default.

    Raises:
        CheckpointError: no such name or file.
    """
    if name_or_path is None:
        name_or_path = os.environ.get(WEIGHTS_VARIABLE) or DEFAULT_WEIGHTS
    text = os.fspath(name_or_path)
    if text in WEIGHTS:
        entry = WEIGHTS[text]
        if not entry.installed:
            raise CheckpointError(
                f"the weights '{text}' are not in this installation; train some with 'tokenface train --config "
                f"configs/default.yaml', or give a checkpoint's path (or set {WEIGHTS_VARIABLE})"
            )
        return entry.path
    if text.startswith(PREFIX):
        return fetch(text, companion_names(WEIGHTS_FILE))
    path = Path(text).expanduser()
    if (path / WEIGHTS_FILE).is_file():
        path = path / WEIGHTS_FILE
    if path.is_file():
        return path
    if os.sep in text or path.suffix:
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"checkpoint '{path}' {what}; expected a {SUFFIX} file or one of: {', '.join(WEIGHTS)}")
    raise CheckpointError(f"no weights named '{text}'; known names: {', '.join(WEIGHTS)} (or give a checkpoint's path)")


def companion(weights: str | os.PathLike, kind: str) -> Path:
    """Path of one of COMPANIONS: `a.safetensors` → `a.<kind>.safetensors`."""
    path = Path(weights)
    return path.with_name(f"{path.stem}.{kind}{SUFFIX}")


def companion_names(weights: str) -> list[str]:
    """Names of the files that may lie beside some weights."""
    return [companion(weights, kind).name for kind in COMPANIONS]


def recognition_path() -> Path:
    """The shipped recognition network."""
    return Path(str(resources.files("tokenface"))) / "assets" / "weights" / f"{RECOGNITION}{SUFFIX}"


def file_hash(path: str | os.PathLike) -> str:
    """Sixteen hex digits of a file's SHA-256: what results remember of the weights that made them.

    A wheel's file has its halves apart, and the hash of the plain one.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        block = file.read(1 << 20)
        if are_apart(block):
            return hashlib.sha256(joined(block + file.read())).hexdigest()[:16]
        while block:
            digest.update(block)
            block = file.read(1 << 20)
    return digest.hexdigest()[:16]
