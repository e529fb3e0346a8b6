"""What is lost between head models: OpenHead → another → OpenHead, in millimetres per region and ARKit weights.

    python -m benchmarks.conversion --flame-public FOLDER [--ict FILE]

The other head is a stand-in in FLAME's format (`flame_stand_in.py`), or ICT-FaceKit. People and expressions are drawn
(synthetic): identity coefficients with standard deviation 0.8, expressions from the generator of training faces.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.flame_stand_in import flame_stand_in
from tokenface.data.draw import Draw
from tokenface.data.expressions import ExpressionSampler
from tokenface.head.arkit import to_arkit
from tokenface.head.data import HeadData
from tokenface.head.ict import load_ict
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head
from tokenface.head.transfer import dress
from tokenface.inference.expressions import speaks_arkit
from tokenface.retarget.converter import REGIONS, HeadConverter, Mode, Performance, posed


def people(head: HeadModel, count: int, moments: int, seed: int) -> list[Performance]:
    """Drawn people with drawn expressions."""
    generator = torch.Generator().manual_seed(seed)
    sampler = ExpressionSampler(head.expression_names, head.expression_range)
    found = []
    for _ in range(count):
        shape = 0.8 * torch.randn(head.sizes.shape, generator=generator)
        drawn = sampler.sample(Draw(generator), moments)
        found.append(Performance(*(t.double().numpy() for t in (shape, drawn.weights, drawn.jaw))))
    return found


def measure(own: HeadModel, other: HeadModel, performances: list[Performance], mode: Mode) -> None:
    """Print one head's figures."""
    there, back = HeadConverter(own, other, mode), HeadConverter(other, own, mode)
    first, second, trips, weights, sizes = [], [], [], [], []
    begin = time.process_time()
    for person in performances:
        away = there.convert(person)
        home = back.convert(away.performance)
        first.append([away.neutral_mm.get(r, np.nan) for r in REGIONS])
        second.append([away.posed_mm.get(r, np.nan) for r in REGIONS])
        shown = away.place.apply(home.place.apply(posed(own, home.performance)))
        apart = 1000 * np.linalg.norm(shown - posed(own, person), axis=2).mean(0)
        trips.append([apart[own.data.regions[r]].mean() for r in REGIONS])
        mine, theirs = _arkit(own, person), _arkit(own, home.performance)
        half = _arkit(other, away.performance) if speaks_arkit(other) else theirs
        weights.append([np.abs(mine - theirs).mean(), np.abs(mine - half).mean(), np.abs(mine).mean()])
        sizes.append(away.place.scale)
    seconds = (time.process_time() - begin) / sum(len(p) for p in performances)
    print(f"\n{own.name} → {other.name} → {own.name}, expressions by {'names' if there.by_names else 'shape'}")
    print("| | " + " | ".join(REGIONS) + " |\n| --- |" + " --- |" * len(REGIONS))
    for label, rows in (("relaxed, one way", first), ("posed, one way", second), ("posed, there and back", trips)):
        print(f"| {label} | " + " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0)) + " |")
    there_and_back, one_way, level = np.mean(weights, axis=0)
    print(f"ARKit weights: mean absolute error {there_and_back:.4f} there and back, {one_way:.4f} one way "
          f"(mean weight {level:.4f}); scale {np.mean(sizes):.3f}; {1000 * seconds:.0f} ms a moment")  # fmt: skip


def _arkit(head: HeadModel, performance: Performance) -> np.ndarray:
    tensors = (torch.from_numpy(a).float() for a in (performance.expression, performance.jaw))
    return to_arkit(head, *tensors).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flame-public", type=Path, help="head_template.obj, landmark_embedding.npy, FLAME_masks.pkl")
    parser.add_argument("--ict", type=Path, help="ICT-FaceKit: a clone or its .npz")
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--moments", type=int, default=16)
    parser.add_argument("--seed", type=int, default=20251128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    own = load_head("openhead")
    performances = people(own, options.people, options.moments, options.seed)
    ict = None if options.ict is None else dress(load_ict([options.ict]), own.data, size=64)
    if options.flame_public is not None:
        kinds: dict[str, HeadData | None] = {"random": None, "with OpenHead's actions": own.data}
        kinds |= {} if ict is None else {"with ICT-FaceKit's actions": ict}
        for label, actions in kinds.items():
            with tempfile.TemporaryDirectory() as folder:
                data = flame_stand_in(options.flame_public, Path(folder), actions)
            data = dress(data, own.data, size=64)
            data.name = f"FLAME-format ({label})"
            measure(own, HeadModel(data), performances, "shape")
    if ict is not None:
        for mode in ("names", "shape"):
            measure(own, HeadModel(ict), performances, mode)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
