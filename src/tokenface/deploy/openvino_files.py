"""OpenVINO IR (.xml and .bin) from the ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tokenface.deploy.stored_weights import LARGE, needed


def convert(source: Path, path: Path, packed: bool = False) -> Path:
    """ONNX → IR of the same precision (OpenVINO computes in what the device does best).

    Args:
        packed: constants that fp16 holds exactly are stored so, as those of our fp16 and int8 files are: the
            conversion unpacks them. An int8 file in QDQ form stays int8 by itself.
    """
    openvino = needed("openvino")
    model = openvino.convert_model(str(source))
    if packed:
        _pack(model)
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def _pack(model: Any) -> None:
    from openvino import opset13 as operators

    for node in model.get_ops():
        if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "f32":
            continue
        values = node.data
        if values.size < LARGE or not (values.astype(np.float16) == values).all():
            continue
        users = list(node.output(0).get_target_inputs())
        unpacked = operators.convert(operators.constant(values.astype(np.float16)), "f32")
        for user in users:
            user.replace_source_output(unpacked.output(0))
