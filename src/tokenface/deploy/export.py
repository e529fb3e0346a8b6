"""`tokenface export`: weights → a folder that other runtimes read, with every file's drift from torch measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from tokenface.data.synthetic import SyntheticFaces
from tokenface.deploy.drift import Drift, DriftMeter
from tokenface.deploy.graphs import LARGEST_BATCH, HeadGraph, ParameterGraph, example_coefficients, example_crops
from tokenface.deploy.onnx_files import eight_bits, export_head, export_network, export_photos, half_precision
from tokenface.deploy.openvino_files import convert
from tokenface.deploy.photo_graph import PhotoGraph
from tokenface.errors import ConfigError, ModelFileError
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
SUFFIX = {"onnx": "onnx", "openvino": "xml"}


def export(
    weights: str | None,
    folder: str | Path,
    runtimes: Iterable[str] = ("onnx",),
    precisions: Iterable[str] = ("fp32",),
    report: Callable[[str], None] = print,
    photos: bool = True,
) -> list[Drift]:
    """Write `parameters.<precision>.onnx|xml`, `head.fp32.onnx|xml`, `photo.fp32.onnx|xml`, `parameters.pt2`,
    `head.pt2`, `faces.npy` and `model.json`.

    Args:
        weights: name or path.  runtimes: of RUNTIMES.  precisions: of PRECISIONS, of the network; the rest is fp32.
        photos: also the graph that takes whole photos; without the detector's files it is left out, with a word.
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
        for program in _programs(network, head, folder):
            report(program.name)
    graph = _photo_graph(network, head, facts, report) if photos and set(runtimes) & set(SUFFIX) else None
    measure, drifts = DriftMeter(network, head, graph), []
    for file in _files(network, head, graph, folder, runtimes, precisions):
        drifts.append(measure(file))
        report(str(drifts[-1]))
    return drifts


def _files(
    network: TokenFace,
    head: HeadModel,
    photos: PhotoGraph | None,
    folder: Path,
    runtimes: list[str],
    precisions: list[str],
) -> list[Path]:
    """Everything that is not torch's; OpenVINO's files are made from ONNX's, which are removed if nobody asked."""
    wanted = [runtime for runtime in runtimes if runtime in SUFFIX]
    if not wanted:
        return []
    full = export_network(network, folder / "parameters.fp32.onnx")
    onnx = {"fp32": full, "head": export_head(head, folder / "head.fp32.onnx")}
    whole = ["head"]  # graphs that are fp32 whatever the network is
    if photos is not None:
        onnx["photo"] = export_photos(photos, folder / "photo.fp32.onnx")
        whole.append("photo")
    for precision in precisions:
        if precision == "int8" or (precision == "fp16" and "onnx" in wanted):
            size = network.config.image_size
            onnx[precision] = lowered(full, folder / f"parameters.{precision}.onnx", precision, head, size)
    written = []
    if "openvino" in wanted:
        for precision in precisions:
            source = onnx["int8" if precision == "int8" else "fp32"]
            written.append(convert(source, folder / f"parameters.{precision}.xml", half=precision == "fp16"))
        written += [convert(onnx[name], folder / f"{name}.fp32.xml") for name in whole]
    if "onnx" in wanted:
        written += [onnx[name] for name in (*precisions, *whole)]
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
        report(f"photo.fp32 is left out: {error}")
        return None


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
