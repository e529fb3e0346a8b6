"""`tokenface export`: weights to a folder for other runtimes, with the measured drift of every file."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.core.files import discard, make_folder, read_marker, write_atomically
from tokenface.core.fingerprint import fingerprint
from tokenface.deploy.cached import full_file
from tokenface.deploy.drift import CALIBRATION, Drift, DriftMeter, rendered_crops, rendered_photos
from tokenface.deploy.graph_names import PRECISIONS, SUFFIX
from tokenface.deploy.graphs import LARGEST_BATCH, HeadGraph, ParameterGraph, example_coefficients, example_crops
from tokenface.deploy.onnx_files import convert, export_head, export_photos
from tokenface.deploy.photo_graph import PhotoGraph
from tokenface.deploy.precision import lowered
from tokenface.deploy.templates import GRAPH_VERSION
from tokenface.errors import ConfigError, ModelFileError, OutputError
from tokenface.geometry.crop import TEST_SCALE
from tokenface.head.model import HeadModel
from tokenface.inference.checkpoint import load_checkpoint
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import COMPONENTS
from tokenface.version import __version__
from tokenface.weights import file_hash, find_weights

RUNTIMES = ("onnx", "openvino", "torch")
FORMAT = "tokenface-export-1"
MADE = re.compile(
    rf"((parameters|head|photo)\.(fp32|{'|'.join(PRECISIONS)})\.(onnx|onnx\.data|xml|bin)|(parameters|head)\.pt2|faces\.npy)"
)
"""Names of the files of an export."""


@dataclass(frozen=True)
class Part:
    """A graph that has a file for each runtime and precision.

    write: makes its fp32 ONNX file.  pictures: draws what its networks are calibrated on; None: it has none.
    """

    name: str
    write: Callable[[Path], Path]
    pictures: Callable[[], Tensor] | None = None


def export(
    weights: str | None,
    folder: str | Path,
    runtimes: Iterable[str] = ("onnx",),
    precisions: Iterable[str] = ("fp32",),
    report: Callable[[str], None] = print,
    photos: bool = True,
) -> list[Drift]:
    """Write `parameters`, `head` and `photo` as `.<precision>.onnx|xml`, `parameters.pt2`, `head.pt2`, `faces.npy` and
    `model.json`.

    Args:
        weights: name or path.  runtimes: of RUNTIMES.  precisions: of PRECISIONS, of all but torch's files.
        photos: also the graph that takes whole photos; without the detector's files it is left out, with a word.
    Raises:
        ConfigError: unknown runtime or precision.  TokenFaceError: a package is missing.  OutputError: no such folder.
    """
    runtimes, precisions = _known(runtimes, RUNTIMES, "runtime"), _known(precisions, PRECISIONS, "precision")
    path = find_weights(weights)
    network, head, facts = load_checkpoint(path)
    network.eval()
    folder = make_folder(folder)
    document = _facts(path, network, head, facts)
    _clear(folder, document)
    write_atomically(folder / "model.json", json.dumps(document, indent=1).encode())
    with _finished(folder) as part:
        np.save(part / "faces.npy", np.asarray(head.data.faces, np.int32))
    if "torch" in runtimes:
        with _finished(folder) as part:
            programs = _programs(network, head, part)
        for program in programs:
            report(program.name)
    wanted = [runtime for runtime in runtimes if runtime in SUFFIX]
    if not wanted:
        return []
    graph = _photo_graph(network, head, facts, report) if photos else None
    measure, drifts = DriftMeter(network, head, graph), []
    for one in _parts(network, head, graph):
        with _finished(folder) as part:
            for file in _files(one, part, wanted, precisions):
                drifts.append(measure(file))
                report(str(drifts[-1]))
    return drifts


@contextmanager
def _finished(folder: Path) -> Iterator[Path]:
    """A folder for files that come into the given one when they are complete: an export that is stopped leaves no
    half a file. OpenVINO's `.xml`, which is looked for, comes after its `.bin`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part") as name:
        part = Path(name)
        yield part
        for file in sorted(part.iterdir(), key=lambda file: file.suffix):
            file.replace(folder / file.name)


def _parts(network: TokenFace, head: HeadModel, photos: PhotoGraph | None) -> list[Part]:
    crops = partial(rendered_crops, head, network.config.image_size, CALIBRATION)
    parts = [
        Part("parameters", partial(full_file, network), crops),
        Part("head", partial(export_head, head)),
    ]
    if photos is not None:
        parts.append(Part("photo", partial(export_photos, photos), partial(rendered_photos, head, CALIBRATION)))
    return parts


def _files(part: Part, folder: Path, runtimes: list[str], precisions: list[str]) -> Iterator[Path]:
    """Written one by one; OpenVINO's are made from ONNX's, which are removed if nobody asked for them."""
    full = part.write(folder / f"{part.name}.fp32.onnx")
    for precision in precisions:
        file = lowered(full, folder / f"{part.name}.{precision}.onnx", precision, part.pictures)
        if "onnx" in runtimes:
            yield file
        if "openvino" in runtimes:
            yield convert(file, file.with_suffix(".xml"), packed=precision != "fp32")
        if "onnx" not in runtimes and file != full:
            file.unlink()
    if "onnx" not in runtimes or "fp32" not in precisions:
        full.unlink()


def _programs(network: TokenFace, head: HeadModel, folder: Path) -> list[Path]:
    """torch.export's own format: for AOTInductor and ExecuTorch, and so for C++."""
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    parts = {
        "parameters.pt2": (ParameterGraph(network), (example_crops(network),)),
        "head.pt2": (HeadGraph(head), example_coefficients(head)),
    }
    for name, (graph, example) in parts.items():
        program = torch.export.export(graph, example, dynamic_shapes=tuple({0: batch} for _ in example))
        torch.export.save(program, folder / name)
    return [folder / name for name in parts]


def _photo_graph(network: TokenFace, head: HeadModel, facts: dict, report: Callable[[str], None]) -> PhotoGraph | None:
    try:
        return PhotoGraph(network, head, facts.get("crop", TEST_SCALE)).eval()
    except ModelFileError as error:
        report(f"the graph of whole photos is left out: {error}")
        return None


def _clear(folder: Path, document: dict) -> None:
    """Files of an earlier export of something else: beside the new model.json they would pass for its own.

    Raises:
        OutputError: the folder holds such files and nothing says whose they are.
    """
    before = read_marker(folder / "model.json") or {}
    if fingerprint(before) == fingerprint(document):
        return
    files = [file for file in folder.iterdir() if file.is_file() and MADE.fullmatch(file.name)]
    if files and before.get("format") != FORMAT:
        raise OutputError(
            f"'{folder}' holds '{files[0].name}' and no model.json that says whose it is; choose another folder with -o"
        )
    for file in files:
        discard(file)


def _facts(path: Path, network: TokenFace, head: HeadModel, facts: dict) -> dict:
    return {
        "format": FORMAT,
        "software": f"TokenFace {__version__}",
        "graph": GRAPH_VERSION,
        "weights": path.stem,
        "weights_hash": file_hash(path),
        "image_size": network.config.image_size,
        "crop_scale": facts.get("crop", TEST_SCALE),
        "sizes": {name: network.sizes[name] for name in COMPONENTS},
        "head": {"name": head.name, "geometry_hash": head.data.geometry_hash(), "licence": head.data.licence},
        "expression_names": list(head.expression_names),
    }


def _known(chosen: Iterable[str], known: tuple[str, ...], what: str) -> list[str]:
    chosen = list(dict.fromkeys(chosen))
    for name in chosen:
        if name not in known:
            raise ConfigError(f"{what} '{name}' is unknown; choose of {', '.join(known)}")
    if not chosen:
        raise ConfigError(f"no {what} given; choose of {', '.join(known)}")
    return [name for name in known if name in chosen]
