"""A photo into a 3-D head with onnxruntime and numpy alone: detector, network and head are one file.

tokenface export -o exported --precision fp32,fp16,int8
python onnx_photo.py exported photo.npy head.obj [int8]    # photo.npy: [H, W, 3] uint8 RGB
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder, photo_file, obj_file = map(Path, sys.argv[1:4])
precision = sys.argv[4] if len(sys.argv) > 4 else "fp32"
photo = np.load(photo_file)
graph = onnxruntime.InferenceSession(folder / f"photo.{precision}.onnx")
names = [output.name for output in graph.get_outputs()]
pixels = np.float32(photo).transpose(2, 0, 1)[None] / 255
face = {name: value[0, 0] for name, value in zip(names, graph.run(names, {"photos": pixels}), strict=True)}
if min(face["score"], face["presence"]) < 0.5:
    sys.exit(f"no face found in {photo_file}")

with obj_file.open("w", encoding="utf-8") as file:
    file.writelines(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in face["vertices"])
    file.writelines(f"f {a} {b} {c}\n" for a, b, c in np.load(folder / "faces.npy") + 1)
print(f"{obj_file}: {len(face['vertices'])} vertices, nose at {np.round(face['landmarks68'][30], 1).tolist()}")
