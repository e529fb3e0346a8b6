"""Restricted unpickler: arrays of third-party pickles, without executing anything.

FLAME is published as Python-2 pickles of chumpy objects and scipy sparse matrices, its landmark embedding as an
object `.npy` with torch tensors inside. `pickle.load` would run whatever such a file names. Here a global is only a
*name*: the few names in `_BUILDERS` have a builder of ours that turns already-read plain data into plain data; any
other name, opcode or state is refused. Nothing is imported, called or looked up on behalf of the file.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tokenface.core.files import read_regular
from tokenface.errors import HeadModelError
from tokenface.head.pickled_arrays import (
    Budget,
    ChumpyObject,
    Global,
    PickledArray,
    PickledDtype,
    Refused,
    SparseMatrix,
    Unwrapper,
    rebuild_scalar,
    rebuild_tensor,
)

MAX_FILE_BYTES = 1 << 29
BYTES_PER_OPCODE = 100  # what a one-byte opcode may cost in Python objects
_ARRAY_PREFIXES = ("numpy.core.", "numpy._core.")
_STORAGE_TYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


def load_pickle(path: str | Path) -> Any:
    """The content of a pickle as dicts, lists, strings, numbers, `np.ndarray` and `scipy.sparse` matrices.

    chumpy arrays and torch tensors arrive as `np.ndarray`, Python-2 strings as `str` (Latin-1).

    Raises:
        HeadModelError: missing, damaged or oversized file, or one that asks for anything but arrays.
    """
    return loads(_read(path), name=str(path))


def load_npy(path: str | Path) -> Any:
    """The content of an `.npy`; a pickled object inside is read like `load_pickle`, a 0-d one is unwrapped.

    Raises:
        HeadModelError: as `load_pickle`.
    """
    stream = io.BytesIO(_read(path))
    try:
        version = np.lib.format.read_magic(stream)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = reader(stream)
        if not dtype.hasobject:
            if math.prod(shape) * dtype.itemsize > stream.getbuffer().nbytes:
                raise ValueError("it is cut short")
            stream.seek(0)
            return np.load(stream, allow_pickle=False)
    except (ValueError, KeyError, OSError, MemoryError) as error:
        raise HeadModelError(f"'{path}' is not a readable .npy file ({_line(error)}); download it again") from error
    if dtype != np.dtype(object):
        raise HeadModelError(f"'{path}' holds a record type {dtype}, which no head model uses")
    content = loads(stream.read(), name=str(path))
    return content.item() if isinstance(content, np.ndarray) and content.shape == () else content


def loads(data: bytes, name: str = "pickle") -> Any:
    """As `load_pickle`, from bytes; `name` is used in messages."""
    try:
        budget = Budget(2 * len(data) + (64 << 20))
        return Unwrapper(budget).unwrap(_RestrictedUnpickler(io.BytesIO(data), budget).load())
    except Refused as error:
        raise HeadModelError(f"'{name}' is refused: {error}. Get the file from its publisher again") from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise HeadModelError(f"'{name}' is not a readable pickle ({_line(error)}); download it again") from error
    except (RecursionError, MemoryError, OverflowError) as error:
        raise HeadModelError(f"'{name}' is refused: it is nested or sized like no model file") from error


def _read(path: str | Path) -> bytes:
    path = Path(path)
    try:
        return read_regular(path, MAX_FILE_BYTES)
    except OSError as error:
        raise HeadModelError(f"cannot read '{path}' ({error.strerror or error})") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


_PurePythonReader: Any = pickle._Unpickler  # type: ignore[attr-defined]


class _RestrictedUnpickler(_PurePythonReader):
    """The standard library's pure-Python reader with every opcode that could run code replaced.

    The C reader is faster, but resolves extension codes and pre-allocates what a hostile length field says.
    """

    def __init__(self, stream: io.BytesIO, budget: Budget, nested: bool = False, storages: bool = False):
        super().__init__(stream, encoding="latin1")
        self.dispatch = _Dispatch(budget)
        self.budget = budget
        self.nested = nested
        self.storages = storages

    def find_class(self, module: str, name: str) -> Global:
        return Global(str(module), str(name))

    def persistent_load(self, pid: Any) -> Any:
        if not self.storages or not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise Refused("it refers to an object outside the file")
        kind, numel = pid[1], pid[4]
        if not isinstance(kind, Global) or kind.module not in ("torch", "torch.storage"):
            raise Refused(f"it holds a torch storage of an unknown type {kind}")
        if kind.name not in _STORAGE_TYPES:
            raise Refused(f"it holds a torch storage of an unknown type {kind}")
        if type(numel) is not int or numel < 0:
            raise Refused("it holds a torch storage without a size")
        return _Storage(np.dtype(_STORAGE_TYPES[kind.name]), numel)

    def build(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Global):
            raise Refused("it calls something that is not a name")
        if type(arguments) is not tuple:
            raise Refused(f"it calls {function} without arguments")
        builder = _builder(function)
        if builder is None:
            raise Refused(f"it asks for '{function}', which has no place in a head model")
        return builder(self, *arguments)

    # Every way to call something goes through `build`.

    def _instantiate(self, klass: Any, args: Any) -> None:
        self.append(self.build(klass, tuple(args)))

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.build(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.build(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        if keywords:
            raise Refused("it constructs something with keywords")
        self.load_newobj()

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, (PickledArray, PickledDtype, ChumpyObject, SparseMatrix)):
            raise Refused(f"it sets the state of a {type(target).__name__}")
        target.set_state(state, self.budget)

    # Containers of exactly the built-in types; keys of exactly the plain types (a hash of ours runs no code, but the
    # hash of nested tuples takes exponential time).

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(_checked_dict(items))

    def load_setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self._into_dict([key, value])

    def load_setitems(self) -> None:
        self._into_dict(self.pop_mark())

    def _into_dict(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise Refused(f"it sets items of a {type(target).__name__}")
        target.update(_checked_dict(items))

    def load_append(self) -> None:
        value = self.stack.pop()
        self._into_list([value])

    def load_appends(self) -> None:
        self._into_list(self.pop_mark())

    def _into_list(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise Refused(f"it appends to a {type(target).__name__}")
        target.extend(items)

    def load_empty_set(self) -> None:  # sets occur only as chumpy's bookkeeping: an unhashed list will do
        self.append([])

    def load_frozenset(self) -> None:
        self.append(self.pop_mark())

    def load_bytearray8(self) -> None:  # protocol 5's arrays; the standard reader would allocate the stated size first
        size = int.from_bytes(self.read(8), "little")
        data = self.read(size) if size <= MAX_FILE_BYTES else b""
        if len(data) != size:
            raise Refused("it is cut short")
        self.append(data)

    def load_refuse(self) -> None:
        raise Refused("it uses a pickle feature that model files do not need")


class _Dispatch(dict[int, Callable[[Any], None]]):
    """Opcode → method; every opcode is paid for, so that a file of a million empty lists stays small."""

    def __init__(self, budget: Budget):
        super().__init__(_OPCODES)
        self.budget = budget

    def __getitem__(self, opcode: int) -> Callable[[Any], None]:
        self.budget.take(BYTES_PER_OPCODE)
        return super().__getitem__(opcode)


def _opcodes() -> dict[int, Callable[[Any], None]]:
    table: dict[int, Callable[[Any], None]] = dict(_PurePythonReader.dispatch)
    own = {
        pickle.REDUCE: _RestrictedUnpickler.load_reduce,
        pickle.NEWOBJ: _RestrictedUnpickler.load_newobj,
        pickle.NEWOBJ_EX: _RestrictedUnpickler.load_newobj_ex,
        pickle.BUILD: _RestrictedUnpickler.load_build,
        pickle.DICT: _RestrictedUnpickler.load_dict,
        pickle.SETITEM: _RestrictedUnpickler.load_setitem,
        pickle.SETITEMS: _RestrictedUnpickler.load_setitems,
        pickle.APPEND: _RestrictedUnpickler.load_append,
        pickle.APPENDS: _RestrictedUnpickler.load_appends,
        pickle.ADDITEMS: _RestrictedUnpickler.load_appends,
        pickle.EMPTY_SET: _RestrictedUnpickler.load_empty_set,
        pickle.FROZENSET: _RestrictedUnpickler.load_frozenset,
        pickle.BYTEARRAY8: _RestrictedUnpickler.load_bytearray8,
    }
    refused = (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.PERSID)
    table.update({code[0]: method for code, method in own.items()})
    table.update({code[0]: _RestrictedUnpickler.load_refuse for code in refused})
    return table


_OPCODES = _opcodes()


def _checked_dict(items: list[Any]) -> dict[Any, Any]:
    keys = items[::2]
    if len(items) % 2 or any(type(key) not in (str, int, float, bool, bytes) for key in keys):
        raise Refused("it has a dictionary whose keys are not names or numbers")
    return dict(zip(keys, items[1::2], strict=True))


class _Storage:
    """A torch storage: sized when it is named, filled by the bytes that follow the pickle."""

    def __init__(self, dtype: np.dtype, numel: int):
        self.dtype = dtype
        self.numel = numel
        self.array: np.ndarray | None = None


# Builders: (reader, *arguments from the file) → plain data or an inert object of pickled_arrays.


def _builder(name: Global) -> Callable[..., Any] | None:
    module, leaf = name.module, name.name
    for prefix in _ARRAY_PREFIXES:
        module = "numpy.core." + module.removeprefix(prefix) if module.startswith(prefix) else module
    if module == "chumpy" or module.startswith("chumpy."):
        return lambda reader, *arguments: ChumpyObject(f"{name.module}.{leaf}", arguments)
    if module.startswith("scipy.sparse") and leaf[:3] in ("csc", "csr", "coo") and leaf[3:] in ("_matrix", "_array"):
        return lambda reader, *arguments: SparseMatrix(leaf[:3])
    return _BUILDERS.get((module, leaf))


def _reconstruct(reader: _RestrictedUnpickler, kind: Any, shape: Any, code: Any) -> PickledArray:
    if not (isinstance(kind, Global) and (kind.module, kind.name) == ("numpy", "ndarray")):
        raise Refused(f"it holds an array of type '{kind}'")
    return PickledArray()


def _frombuffer(reader: _RestrictedUnpickler, data: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    array = PickledArray()
    array.set_state((1, shape, dtype, order == "F", data), reader.budget)
    return array


def _old_style_instance(reader: _RestrictedUnpickler, kind: Any, base: Any, state: Any) -> Any:
    return reader.build(kind, ())


def _new_style_instance(reader: _RestrictedUnpickler, kind: Any, *arguments: Any) -> Any:
    return reader.build(kind, arguments)


def _encode(reader: _RestrictedUnpickler, text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes into a protocol-2 pickle."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise Refused("it encodes something that is not Latin-1 text")
    reader.budget.take(len(text))
    return text.encode("latin1")


def _no_bytes(reader: _RestrictedUnpickler) -> bytes:
    """How Python 3 writes empty bytes into a protocol-2 pickle."""
    return b""


def _plain_list(reader: _RestrictedUnpickler, items: Any = ()) -> list[Any]:
    if type(items) not in (list, tuple):
        raise Refused("it makes a set of something that is not a list")
    reader.budget.take(8 * len(items))
    return list(items)


def _plain_dict(reader: _RestrictedUnpickler, pairs: Any = ()) -> dict[Any, Any]:
    if type(pairs) not in (list, tuple) or any(type(p) not in (list, tuple) or len(p) != 2 for p in pairs):
        raise Refused("it makes a dictionary of something that is not pairs")
    reader.budget.take(16 * len(pairs))
    return _checked_dict([x for pair in pairs for x in pair])


def _load_from_bytes(reader: _RestrictedUnpickler, data: Any) -> _Storage:
    """torch's own serialisation of one storage: five pickles in a row, then the numbers."""
    if reader.nested:
        raise Refused("it nests a torch file in a torch file")
    data = data.encode("latin1") if type(data) is str else data
    if type(data) is not bytes:
        raise Refused("it holds a torch tensor without data")
    stream = io.BytesIO(data)

    def following(storages: bool = False) -> Any:
        return _RestrictedUnpickler(stream, reader.budget, nested=True, storages=storages).load()

    magic, _, system, storage, keys = following(), following(), following(), following(True), following()
    if magic != _TORCH_MAGIC or type(system) is not dict or system.get("little_endian") is not True:
        raise Refused("it holds a torch tensor in an unknown format")
    if not isinstance(storage, _Storage) or type(keys) is not list or len(keys) != 1:
        raise Refused("it holds a torch tensor in an unknown format")
    size = storage.numel * storage.dtype.itemsize
    if int.from_bytes(stream.read(8), "little") != storage.numel or size > len(data):
        raise Refused("it holds a torch tensor that is cut short")
    raw = stream.read(size)
    if len(raw) != size:
        raise Refused("it holds a torch tensor that is cut short")
    storage.array = np.frombuffer(raw, dtype=storage.dtype)
    return storage


def _rebuild_tensor(
    reader: _RestrictedUnpickler, storage: Any, offset: Any, size: Any, stride: Any, *ignored: Any
) -> np.ndarray:
    if not isinstance(storage, _Storage) or storage.array is None:
        raise Refused("it holds a torch tensor without data")
    return rebuild_tensor(storage.array, offset, size, stride, reader.budget)


def _scalar(reader: _RestrictedUnpickler, dtype: Any, data: Any = b"") -> Any:
    return rebuild_scalar(dtype, data)


_BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "dtype"): lambda reader, *arguments: PickledDtype(*arguments),
    ("copy_reg", "_reconstructor"): _old_style_instance,
    ("copyreg", "_reconstructor"): _old_style_instance,
    ("copy_reg", "__newobj__"): _new_style_instance,
    ("copyreg", "__newobj__"): _new_style_instance,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _plain_dict,
    ("__builtin__", "set"): _plain_list,
    ("__builtin__", "frozenset"): _plain_list,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("builtins", "set"): _plain_list,
    ("builtins", "frozenset"): _plain_list,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): _load_from_bytes,
}
