"""Parametric head models: one formulation (FLAME's), several sources of data."""

from tokenface.head.data import HeadData
from tokenface.head.model import HeadMesh, HeadModel
from tokenface.head.registry import HeadEntry, add_head, list_heads, load_head

__all__ = ["HeadData", "HeadEntry", "HeadMesh", "HeadModel", "add_head", "list_heads", "load_head"]
