"""Parametric head models: one formulation (FLAME's), several sources of data."""

from tokenface.head.data import HeadData
from tokenface.head.model import HeadMesh, HeadModel

__all__ = ["HeadData", "HeadMesh", "HeadModel"]
