"""OpenVINO IR (.xml and .bin) from the ONNX files."""

from __future__ import annotations

from pathlib import Path

from tokenface.deploy.onnx_files import needed


def convert(source: Path, path: Path, half: bool = False) -> Path:
    """ONNX → IR; `half` stores weights as fp16 (OpenVINO computes in what the device does best).

    An int8 ONNX file in QDQ form stays int8.
    """
    openvino = needed("openvino")
    openvino.save_model(openvino.convert_model(str(source)), str(path), compress_to_fp16=half)
    return path
