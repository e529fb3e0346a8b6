"""Inert stand-ins for arrays, tensors and sparse matrices of model pickles, and the arrays they describe.

Each only stores what the file says and checks it; the array is made from validated sizes, never by numpy's or scipy's
own unpickling hooks.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

MAX_DIMENSIONS = 8
MAX_DENSE_ENTRIES = 1 << 27
_DTYPE = re.compile(r"[<>|=]?([biuf][1248]|b1|\?|O[48]?)")


class Refused(Exception):
    """The pickle asks for something that model files do not hold; the text completes "it …"."""


class Budget:
    """Bytes that one file may make us allocate, so that a small file cannot fill the memory."""

    def __init__(self, size: int):
        self.left = size

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise Refused("it expands to far more memory than its size")


@dataclass(frozen=True)
class Global:
    """A name that the file mentions; it is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:120]


class PickledDtype:
    """numpy.dtype('f8', …) and its state; records, sub-arrays and metadata are refused."""

    def __init__(self, code: Any = None, align: Any = False, copy: Any = False):
        if type(code) is not str or not _DTYPE.fullmatch(code):
            raise Refused(f"it holds an array of an unusual type {str(code)[:40]!r}")
        self.dtype = np.dtype("O" if code.lstrip("<>|=").startswith("O") else code)

    def set_state(self, state: Any, budget: Budget) -> None:
        if type(state) is not tuple or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise Refused("it holds an array type with an unusual state")
        if any(part is not None for part in state[2:5]) or len(state) > 8:
            raise Refused("it holds an array of records")
        if self.dtype != np.dtype(object):
            self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray:
    """numpy.ndarray between its construction and its state."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype = np.dtype("f8")
        self.fortran = False
        self.raw: bytes = b""
        self.objects: list[Any] | None = None

    def set_state(self, state: Any, budget: Budget) -> None:
        if type(state) is not tuple or len(state) not in (4, 5):
            raise Refused("it holds an array with an unusual state")
        shape, dtype, fortran, raw = state[-4:]
        if not isinstance(dtype, PickledDtype):
            raise Refused("it holds an array without a type")
        self.shape = _sizes(shape)
        self.dtype = dtype.dtype
        self.fortran = bool(fortran) if isinstance(fortran, (bool, int)) else False
        count = math.prod(self.shape)
        if self.dtype == np.dtype(object):
            if type(raw) is not list or len(raw) != count:
                raise Refused("it holds an object array whose size and content differ")
            self.objects = raw
            budget.take(8 * count)
            return
        if type(raw) is str:  # Python 2
            budget.take(len(raw))
            raw = raw.encode("latin1")
        if type(raw) is not bytes or len(raw) != count * self.dtype.itemsize:
            raise Refused("it holds an array whose size and content differ")
        self.objects, self.raw = None, raw

    def array(self) -> np.ndarray:
        """A read-only view of the bytes in the file."""
        flat = np.frombuffer(self.raw, dtype=self.dtype) if self.raw else np.empty(0, self.dtype)
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


class SparseMatrix:
    """scipy.sparse csc, csr or coo; every index is checked, since scipy's conversions trust them."""

    def __init__(self, layout: str):
        self.layout = layout
        self.state: dict[str, Any] = {}

    def set_state(self, state: Any, budget: Budget) -> None:
        if type(state) is tuple and len(state) == 2 and type(state[0]) is dict:
            state = {**state[0], **(state[1] or {})}
        if type(state) is not dict:
            raise Refused("it holds a sparse matrix with an unusual state")
        self.state = {key: value for key, value in state.items() if isinstance(key, str)}

    def build(self, state: dict[str, Any], budget: Budget) -> scipy.sparse.spmatrix:
        shape = _sizes(state.get("_shape", state.get("shape")))
        if len(shape) != 2 or math.prod(shape) > MAX_DENSE_ENTRIES:
            raise Refused("it holds a sparse matrix of an unusual shape")
        data = _numbers(state.get("data"))
        if self.layout == "coo":
            rows, columns = state["coords"] if "coords" in state else (state.get("row"), state.get("col"))
            rows, columns = _indices(rows), _indices(columns)
        else:
            starts, minor = _indices(state.get("indptr")), _indices(state.get("indices"))
            lines = shape[0] if self.layout == "csr" else shape[1]
            if len(starts) != lines + 1 or starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] > len(data):
                raise Refused("it holds a sparse matrix with broken indices")
            data, minor = data[: starts[-1]], minor[: starts[-1]]
            major = np.repeat(np.arange(lines), np.diff(starts))
            rows, columns = (major, minor) if self.layout == "csr" else (minor, major)
        if not len(rows) == len(columns) == len(data):
            raise Refused("it holds a sparse matrix with broken indices")
        for indices, size in ((rows, shape[0]), (columns, shape[1])):
            if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < size:
                raise Refused("it holds a sparse matrix with broken indices")
        budget.take(4 * data.nbytes)
        matrix = scipy.sparse.coo_matrix((data, (rows, columns)), shape=shape)
        return matrix if self.layout == "coo" else matrix.asformat(self.layout)


class ChumpyObject:
    """An object of the abandoned chumpy package: its class name and its attributes, nothing of its behaviour."""

    def __init__(self, kind: str, arguments: tuple[Any, ...] = ()):
        self.kind = kind
        self.state: dict[str, Any] = {"x": arguments[0]} if arguments else {}

    def set_state(self, state: Any, budget: Budget) -> None:
        if type(state) is not dict:
            raise Refused(f"it holds a '{self.kind}' with an unusual state")
        self.state = state

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def rebuild_tensor(storage: np.ndarray, offset: Any, size: Any, stride: Any, budget: Budget) -> np.ndarray:
    """A torch tensor from its storage: bounds are checked before the strided view is copied."""
    shape = _sizes(size)
    if type(stride) is not tuple or len(stride) != len(shape) or any(type(s) is not int or s < 0 for s in stride):
        raise Refused("it holds a torch tensor with unusual strides")
    if type(offset) is not int or offset < 0:
        raise Refused("it holds a torch tensor with an unusual offset")
    count = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if count else -1
    if last >= len(storage):
        raise Refused("it holds a torch tensor larger than its data")
    budget.take(count * storage.itemsize)
    if not count:
        return np.empty(shape, storage.dtype)
    view = np.lib.stride_tricks.as_strided(
        storage[offset:], shape, tuple(s * storage.itemsize for s in stride), writeable=False
    )
    return view.copy()


def rebuild_scalar(dtype: Any, data: Any) -> Any:
    """numpy.float64(…) and its kin."""
    raw = data.encode("latin1") if type(data) is str else data
    if not isinstance(dtype, PickledDtype) or dtype.dtype.kind not in "biuf" or type(raw) is not bytes:
        raise Refused("it holds an unusual number")
    if len(raw) != dtype.dtype.itemsize:
        raise Refused("it holds a number whose size and content differ")
    return np.frombuffer(raw, dtype.dtype)[0]


def _sizes(shape: Any) -> tuple[int, ...]:
    if type(shape) not in (tuple, list) or len(shape) > MAX_DIMENSIONS:
        raise Refused("it holds an array of an unusual shape")
    if any(not isinstance(n, (int, np.integer)) or isinstance(n, bool) or not 0 <= n < 1 << 40 for n in shape):
        raise Refused("it holds an array of an unusual shape")
    return tuple(int(n) for n in shape)


def _numbers(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in "biuf":
        raise Refused("it holds a sparse matrix without numbers")
    return value


def _indices(value: Any) -> np.ndarray:
    """Signed, so that differences of unsigned indices cannot wrap round past the checks."""
    numbers = _numbers(value)
    if numbers.dtype.kind not in "iu":
        raise Refused("it holds a sparse matrix with broken indices")
    return numbers.astype(np.int64)


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
