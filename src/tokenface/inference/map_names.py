"""Names of the per-pixel maps that can be written (`map_files`)."""

from __future__ import annotations

from collections.abc import Sequence

from tokenface.errors import ConfigError

MAPS = ("depth", "normals", "uv", "pncc", "parts", "cutout", "axes", "points68", "points468", "npz")
"""Pictures, and `npz` for the numbers behind them in one file."""


def chosen_maps(names: Sequence[str]) -> tuple[str, ...]:
    """The maps that are wanted, in the usual order; "all" is all.

    Raises:
        ConfigError: one of them is unknown.
    """
    wanted = set(MAPS) if "all" in names else set(names)
    if unknown := sorted(wanted - set(MAPS)):
        raise ConfigError(f"unknown map '{unknown[0]}'; choose from {', '.join(MAPS)}, or all")
    return tuple(name for name in MAPS if name in wanted)
