"""A face crop into a 3-D head with onnxruntime and numpy alone.

tokenface export -o exported --precision fp32,fp16,int8
python onnx_only.py exported crop.npy head.obj [int8]    # crop.npy: [S, S, 3] uint8 RGB, S as in model.json
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder, crop_file, obj_file = map(Path, sys.argv[1:4])
precision = sys.argv[4] if len(sys.argv) > 4 else "fp32"
facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
crop = np.load(crop_file)
assert crop.shape == (facts["image_size"], facts["image_size"], 3), f"expected a crop of {facts['image_size']} pixels"

network = onnxruntime.InferenceSession(folder / f"parameters.{precision}.onnx")
head = onnxruntime.InferenceSession(folder / f"head.{precision}.onnx")
crops = np.float32(crop).transpose(2, 0, 1)[None] / 255
names = [output.name for output in network.get_outputs()]
parameters = dict(zip(names, network.run(names, {"crops": crops}), strict=True))
vertices = head.run(["vertices"], {name: parameters[name] for name in ("shape", "expression", "jaw")})[0][0]

with obj_file.open("w", encoding="utf-8") as file:
    file.writelines(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in vertices)
    file.writelines(f"f {a} {b} {c}\n" for a, b, c in np.load(folder / "faces.npy") + 1)
print(f"{obj_file}: {len(vertices)} vertices, camera {np.round(parameters['camera'][0], 3).tolist()}")
