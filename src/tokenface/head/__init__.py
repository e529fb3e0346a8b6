"""Parametric head models: one formulation (FLAME's), several sources of data."""

from typing import TYPE_CHECKING, Any

from tokenface.head.data import HeadData
from tokenface.head.registry import HeadEntry, add_head, list_heads, load_head

if TYPE_CHECKING:
    from tokenface.head.model import HeadMesh, HeadModel

__all__ = ["HeadData", "HeadEntry", "HeadMesh", "HeadModel", "add_head", "list_heads", "load_head"]


def __getattr__(name: str) -> Any:
    if name in ("HeadMesh", "HeadModel"):  # the arrays are read without torch
        from tokenface.head import model

        return getattr(model, name)
    raise AttributeError(f"module 'tokenface.head' has no attribute '{name}'")
