"""`tokenface export`: weights → a folder that other runtimes read, with every file's drift from torch measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tokenface.data.synthetic import SyntheticFaces
from tokenface.deploy.graphs import LARGEST_BATCH, HeadGraph, ParameterGraph, example_coefficients, example_crops
from tokenface.deploy.onnx_files import eight_bits, export_head, export_network, half_precision
from tokenface.deploy.openvino_files import convert
from tokenface.deploy.runtime import open_head, open_network
from tokenface.errors import ConfigError
from tokenface.formats.files import make_folder, write_atomically
from tokenface.head.model import HeadModel
from tokenface.images.crop import TEST_SCALE
from tokenface.network.checkpoint import load_checkpoint
from tokenface.network.components import COMPONENTS
from tokenface.network.tokenface import TokenFace
from tokenface.weights import file_hash, find_weights

RUNTIMES = ("onnx", "openvino", "torch")
PRECISIONS = ("fp32", "fp16", "int8")
CALIBRATION_FACES = 128
CALIBRATION_SEED = 20_260_101
TEST_FACES = 16
TEST_SEED = 20_260_102
SUFFIX = {"onnx": "onnx", "openvino": "xml"}


@dataclass(frozen=True)
class Drift:
    """How far an exported file is from torch on rendered faces it was not calibrated on.

    parameters: largest absolute difference of any parameter.  vertices_mm: mean distance of the posed vertices.
    """

    file: str
    megabytes: float
    parameters: float
    vertices_mm: float


def export(
    weights: str | None,
    folder: str | Path,
    runtimes: Iterable[str] = ("onnx",),
    precisions: Iterable[str] = ("fp32",),
    report: Callable[[str], None] = print,
) -> list[Drift]:
    """Write `parameters.<precision>.onnx|xml`, `head.fp32.onnx|xml`, `parameters.pt2`, `faces.npy` and `model.json`.

    Args:
        weights: name or path.  runtimes: of RUNTIMES.  precisions: of PRECISIONS, of the network; the head is fp32.
    Raises:
        ConfigError: unknown runtime or precision.  TokenFaceError: a package is missing.  OutputError: no such folder.
    """
    runtimes, precisions = _known(runtimes, RUNTIMES, "runtime"), _known(precisions, PRECISIONS, "precision")
    path = find_weights(weights)
    network, head, facts = load_checkpoint(path)
    network.eval()
    folder = make_folder(Path(folder))
    write_atomically(folder / "model.json", json.dumps(_facts(path, network, head, facts), indent=1).encode())
    np.save(folder / "faces.npy", np.asarray(head.data.faces, np.int32))
    if "torch" in runtimes:
        report(f"{_program(network, folder / 'parameters.pt2').name}")
    written = _files(network, head, folder, runtimes, precisions)
    crops = SyntheticFaces(head, network.config.image_size).sample(TEST_FACES, seed=TEST_SEED).image
    drifts = [_drift(network, head, file, crops) for file in written]
    for drift in drifts:
        report(
            f"{drift.file}: {drift.megabytes:.1f} MB, parameters within {drift.parameters:.2g}, "
            f"vertices {drift.vertices_mm:.2g} mm from torch"
        )
    return drifts


def _files(network: TokenFace, head: HeadModel, folder: Path, runtimes: list[str], precisions: list[str]) -> list[Path]:
    """Everything that is not torch's; OpenVINO's files are made from ONNX's, which are removed if nobody asked."""
    wanted = [runtime for runtime in runtimes if runtime in SUFFIX]
    if not wanted:
        return []
    full = export_network(network, folder / "parameters.fp32.onnx")
    onnx = {"fp32": full, "head": export_head(head, folder / "head.fp32.onnx")}
    for precision in precisions:
        if precision == "int8" or (precision == "fp16" and "onnx" in wanted):
            size = network.config.image_size
            onnx[precision] = lowered(full, folder / f"parameters.{precision}.onnx", precision, head, size)
    written = []
    if "openvino" in wanted:
        for precision in precisions:
            source = onnx["int8" if precision == "int8" else "fp32"]
            written.append(convert(source, folder / f"parameters.{precision}.xml", half=precision == "fp16"))
        written.append(convert(onnx["head"], folder / "head.fp32.xml"))
    if "onnx" in wanted:
        written += [onnx[precision] for precision in precisions] + [onnx["head"]]
    for file in onnx.values():
        if file not in written:
            file.unlink()
    return written


def lowered(full: Path, path: Path, precision: str, head: HeadModel, image_size: int) -> Path:
    """The fp32 network as fp16, or as int8 calibrated on rendered faces."""
    if precision == "fp16":
        return half_precision(full, path)
    faces = SyntheticFaces(head, image_size).sample(CALIBRATION_FACES, seed=CALIBRATION_SEED)
    return eight_bits(full, path, faces.image)


def _drift(network: TokenFace, head: HeadModel, file: Path, crops: torch.Tensor) -> Drift:
    parts = (file, file.with_suffix(".bin")) if file.suffix == ".xml" else (file,)
    size = sum(part.stat().st_size for part in parts) / 1e6
    with torch.inference_mode():
        if file.name.startswith("head"):
            inputs = example_coefficients(head, TEST_FACES, TEST_SEED)
            distance = (open_head(file)(*inputs) - HeadGraph(head)(*inputs)).norm(dim=-1)
            return Drift(file.name, size, 0.0, 1000 * float(distance.mean()))
        ours = network(crops).to(torch.float32)
        theirs = open_network(file, network.config.image_size)(crops)
        largest = max(float((getattr(ours, n) - getattr(theirs, n)).abs().max()) for n in COMPONENTS)
        vertices = [head(p.shape, p.expression, p.jaw).vertices for p in (ours, theirs)]
        distance = (vertices[0] - vertices[1]).norm(dim=-1)
        return Drift(file.name, size, largest, 1000 * float(distance.mean()))


def _program(network: TokenFace, path: Path) -> Path:
    """torch.export's own format: for AOTInductor and ExecuTorch, and so for C++."""
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    program = torch.export.export(ParameterGraph(network), (example_crops(network),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


def _facts(path: Path, network: TokenFace, head: HeadModel, facts: dict) -> dict:
    return {
        "format": "tokenface-export-1",
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
