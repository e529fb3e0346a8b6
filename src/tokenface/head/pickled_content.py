"""From the inert stand-ins of a finished read to the arrays that they describe."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from tokenface.head.pickled_arrays import (
    Budget,
    ChumpyObject,
    Global,
    PickledArray,
    PickledDtype,
    Refused,
    SparseMatrix,
)

MAX_DEPTH = 64


class Unwrapper:
    """Turns the inert objects of a finished read into arrays, each shared object once."""

    def __init__(self, budget: Budget):
        self.budget = budget
        self.done: dict[int, Any] = {}
        self.kept: list[Any] = []  # keeps ids in `done` from being reused
        self.open: set[int] = set()

    def unwrap(self, value: Any, depth: int = 0) -> Any:
        if value is None or type(value) in (str, int, float, bool, bytes, np.ndarray) or isinstance(value, np.generic):
            return value
        if depth > MAX_DEPTH or id(value) in self.open:
            raise Refused("it is nested like no model file")
        if id(value) in self.done:
            return self.done[id(value)]
        self.open.add(id(value))
        self.done[id(value)] = result = self._unwrap(value, depth + 1)
        self.kept.append(value)
        self.open.discard(id(value))
        return result

    def _unwrap(self, value: Any, depth: int) -> Any:
        if type(value) is dict:
            return {key: self.unwrap(item, depth) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.unwrap(item, depth) for item in value)
        if isinstance(value, PickledArray):
            return self._array(value, depth)
        if isinstance(value, SparseMatrix):
            state = {key: self.unwrap(item, depth) for key, item in value.state.items()}
            return value.build(state, self.budget)
        if isinstance(value, ChumpyObject):
            return self._chumpy(value, depth)
        if isinstance(value, PickledDtype):
            return value.dtype
        raise Refused(f"it holds a bare '{value}'" if isinstance(value, Global) else "it holds an unfinished object")

    def _array(self, value: PickledArray, depth: int) -> np.ndarray:
        if value.objects is None:
            return value.array()
        result = np.empty(len(value.objects), dtype=object)
        for index, item in enumerate(value.objects):
            result[index] = self.unwrap(item, depth)
        return result.reshape(value.shape, order="F" if value.fortran else "C")

    def _chumpy(self, value: ChumpyObject, depth: int) -> Any:
        """A chumpy leaf is its `x`; a selection is evaluated; other expressions stay, to be refused where needed."""
        state = value.state
        leaf = value.kind.rpartition(".")[2]
        if leaf == "Ch" and "x" in state:
            return _as_array(self.unwrap(state["x"], depth), value.kind)
        if leaf == "Select" and "a" in state and "idxs" in state:
            source = _as_array(self.unwrap(state["a"], depth), value.kind)
            indices = _as_array(self.unwrap(state["idxs"], depth), value.kind)
            outside = indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < source.size
            if indices.dtype.kind not in "iu" or outside:
                raise Refused("it selects entries that are not there")
            self.budget.take(indices.size * source.itemsize)
            chosen = source.ravel()[indices.ravel()]
            shape = self.unwrap(state.get("preferred_shape"), depth)
            return chosen if shape is None else chosen.reshape(tuple(int(n) for n in shape))
        return value


def _as_array(value: Any, kind: str) -> np.ndarray:
    if scipy.sparse.issparse(value) or not isinstance(value, (np.ndarray, np.generic, int, float, list, tuple)):
        raise Refused(f"its '{kind}' holds no array")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise Refused(f"its '{kind}' holds no numbers")
    return array
