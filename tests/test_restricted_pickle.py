"""Model pickles are read without running anything they ask for, and equal what pickle and numpy would have read."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
import types

import numpy as np
import pytest
import scipy.sparse
import torch

from tokenface.errors import HeadModelError
from tokenface.head.restricted_pickle import load_npy, load_pickle, loads

rng = np.random.default_rng(0)


def test_arrays_of_every_protocol_equal_what_pickle_reads():
    content = {
        "float": rng.normal(size=(3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
        "big endian": np.arange(5, dtype=">i4"),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "number": np.float64(3.5),
        "objects": np.array([1, "two", None], dtype=object),
        "mapping": collections.OrderedDict(a=1),
        "bytes": b"\xff\x00",
        "no bytes": b"",
        "nested": [(1, 2.5, None, True), ["x"]],
    }
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        read = loads(pickle.dumps(content, protocol=protocol))
        for key, expected in content.items():
            if isinstance(expected, np.ndarray):
                np.testing.assert_array_equal(read[key], expected)
                assert read[key].dtype == expected.dtype
            else:
                assert read[key] == expected


@pytest.mark.parametrize("layout", ["csc_matrix", "csr_matrix", "coo_matrix", "csc_array", "csr_array", "coo_array"])
def test_sparse_matrices_keep_their_numbers(layout):
    matrix = getattr(scipy.sparse, layout)(scipy.sparse.random(5, 60, 0.2, random_state=1))
    for protocol in (0, 2, 5):
        read = loads(pickle.dumps(matrix, protocol=protocol))
        np.testing.assert_array_equal(read.toarray(), matrix.toarray())


@pytest.mark.parametrize("tensor", [torch.arange(12.0).reshape(3, 4).T, torch.randn(3).half(), torch.arange(5)[2:]])
def test_torch_tensors_in_a_plain_pickle_become_arrays(tensor):
    np.testing.assert_array_equal(loads(pickle.dumps({"t": tensor}))["t"], tensor.numpy())


def test_python_2_pickle_with_raw_strings():
    """Python 2 wrote both text and array bytes as 8-bit strings."""
    numbers = np.array([1.5, -2.0], dtype="<f8")
    raw = numbers.tobytes()
    written = (
        b"\x80\x02}U\x01v"  # {'v':
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(raw)]) + raw + b"tbs."
    )
    np.testing.assert_array_equal(loads(written)["v"], pickle.loads(written, encoding="latin1")["v"])
    np.testing.assert_array_equal(loads(written)["v"], numbers)


@pytest.fixture
def chumpy(monkeypatch):
    """Classes that pickle as chumpy's, with the state that chumpy writes."""

    class Ch:
        def __init__(self, x):
            self.x = np.asarray(x, dtype=np.float64)
            self._dirty_vars = {"x"}
            self._itr = None
            self._make_dense = self._make_sparse = False
            self._depends_on_deps = {"r": {"deps": {"x"}, "value": None, "out_of_date": True}}

    class Select:
        def __init__(self, a, idxs, preferred_shape):
            self.a, self.idxs, self.preferred_shape = a, idxs, preferred_shape

    package, ch, reordering = (types.ModuleType(n) for n in ("chumpy", "chumpy.ch", "chumpy.reordering"))
    for module, kind in ((ch, Ch), (reordering, Select)):
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        setattr(module, kind.__name__, kind)
    for module in (package, ch, reordering):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return types.SimpleNamespace(Ch=Ch, Select=Select, monkeypatch=monkeypatch)


def test_chumpy_arrays_are_read_without_chumpy(chumpy):
    values = rng.normal(size=(4, 3))
    content = {"v": chumpy.Ch(values), "part": chumpy.Select(chumpy.Ch(values), np.array([11, 0]), (2, 1))}
    written = [pickle.dumps(content, protocol=p) for p in range(pickle.HIGHEST_PROTOCOL + 1)]
    assert b"chumpy.ch" in written[2]
    for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        chumpy.monkeypatch.setitem(sys.modules, name, None)  # an import would now fail
    for data in written:
        read = loads(data)
        np.testing.assert_array_equal(read["v"], values)
        np.testing.assert_array_equal(read["part"], [[values[3, 2]], [values[0, 0]]])


def test_object_npy_is_read_like_numpy_does(tmp_path):
    path = tmp_path / "embedding.npy"
    content = {"faces": np.arange(6), "tensor": torch.arange(6.0).reshape(2, 3)}
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    read = load_npy(path)
    np.testing.assert_array_equal(read["faces"], content["faces"])
    np.testing.assert_array_equal(read["tensor"], content["tensor"].numpy())
    np.save(path, np.arange(4.0))
    np.testing.assert_array_equal(load_npy(path), np.arange(4.0))


# ---- hostile files ---------------------------------------------------------------------------------------------------


class _Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def _witness(tmp_path):
    return tmp_path / "executed"


def _attacks(path):
    touch = f"touch {path}"
    python = f"open({str(path)!r}, 'w').close()"
    system = _Call(os.system, touch)
    yield "os.system", pickle.dumps({"v_template": system}, 2)
    yield "posix.system by hand", b"cposix\nsystem\n(S'" + touch.encode() + b"'\ntR."
    yield "eval", pickle.dumps(_Call(eval, python))
    yield "exec by hand", b'c__builtin__\nexec\n(S"' + python.encode() + b'"\ntR.'
    yield "stack global", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(touch)]) + touch.encode() + b"\x85R."
    yield "dotted name", b"\x80\x04\x8c\x05numpy\x8c\x0cf2py.os.system\x93\x8c\x04true\x85R."
    yield "getattr chain", pickle.dumps(_Call(getattr, _Call(__import__, "os"), "system"), 2)
    yield "old-style instance", b"(S'" + touch.encode() + b"'\nios\nsystem\n."
    yield "old-style object", b"(cos\nsystem\nS'" + touch.encode() + b"'\no."
    yield "new object", b"\x80\x02csubprocess\nPopen\nS'" + touch.encode() + b"'\n\x85\x81."
    yield "inside an object array", pickle.dumps(np.array([1, system], dtype=object))
    yield "inside a sparse matrix", pickle.dumps(_Call(scipy.sparse.csc_matrix, system))
    yield "inside a chumpy object", b"\x80\x02cchumpy.ch\nCh\n)\x81}U\x01x" + pickle.dumps(system, 2)[2:-1] + b"sb."
    yield "as array constructor", b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\n(I0\ntS'b'\ntR."
    yield "numpy.load", pickle.dumps(_Call(np.load, str(path)))
    yield "runstring", b'cnumpy.testing._private.utils\nrunstring\n(S"' + python.encode() + b'"\n}tR.'
    yield "torch.load", pickle.dumps(_Call(torch.load, str(path)))
    yield (
        "inside a torch storage",
        b"\x80\x02ctorch.storage\n_load_from_bytes\n" + _short(pickle.dumps(system)) + b"\x85R.",
    )
    yield "codecs", b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR."
    yield "state of a class", b"\x80\x02cchumpy.ch\nCh\nN}U\x0c__setstate__cos\nsystem\ns\x86b."
    yield "state of a builtin", b"\x80\x02]}U\x01acos\nsystem\nsb."
    yield "append to an object", b"\x80\x02cchumpy.ch\nCh\n)\x81cos\nsystem\na."
    yield "attribute of a module", b"\x80\x02cos\n__dict__\n."
    yield "extension code", b"\x80\x02\x82\x01."
    yield "persistent id", b"Pos.system\n."
    yield "persistent object", b"\x80\x02U\x01aQ."


def _short(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


@pytest.mark.parametrize("name", [name for name, _ in _attacks("x")])
def test_hostile_pickle_is_refused_and_runs_nothing(name, tmp_path, monkeypatch):
    witness = _witness(tmp_path)
    data = dict(_attacks(witness))[name]
    before = set(sys.modules)
    with pytest.raises(HeadModelError) as caught:
        loads(data, name="generic_model.pkl")
    assert "\n" not in str(caught.value)
    assert "generic_model.pkl" in str(caught.value)
    assert not witness.exists()
    assert set(sys.modules) == before  # nothing was imported for the file's sake


def test_the_attacks_would_work_on_the_standard_unpickler(tmp_path):
    """Otherwise the test above proves nothing."""
    for name in ("os.system", "posix.system by hand", "eval", "stack global", "old-style instance", "old-style object"):
        path = tmp_path / name.replace(" ", "_").replace(".", "_")
        pickle.loads(dict(_attacks(path))[name])
        assert path.exists(), name


def test_hostile_object_npy_is_refused(tmp_path):
    path = tmp_path / "landmark_embedding.npy"
    witness = _witness(tmp_path)
    np.save(path, np.array({"a": _Call(os.system, f"touch {witness}")}, dtype=object), allow_pickle=True)
    with pytest.raises(HeadModelError, match="asks for"):
        load_npy(path)
    assert not witness.exists()


_TAIL = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"


def _array(
    dtype: bytes = b"U\x02f8K\x00K\x01\x87", state: bytes = b"", shape: bytes = b"K\x02\x85", raw: bytes = b""
) -> bytes:
    state = state or b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + shape + b"cnumpy\ndtype\n" + dtype + b"R" + state + b"b\x89U" + bytes([len(raw)]) + raw + b"tb."
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("size and content differ", _array(raw=b"12345678")),
        ("huge shape", _array(shape=b"\x8a\x06\xff\xff\xff\xff\xff\x00\x85", raw=b"12345678")),
        ("overflowing shape", _array(shape=b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00\x85", raw=b"1")),
        ("negative shape", _array(shape=b"J\xff\xff\xff\xff\x85", raw=b"")),
        ("object dtype over raw pointers", _array(dtype=b"U\x02O8K\x00K\x01\x87", raw=b"\x41" * 16)),
        ("record dtype", _array(dtype=b"]U\x01aU\x02O8\x86aK\x00K\x01\x87", raw=b"\x41" * 16)),
        ("void dtype", _array(dtype=b"U\x03V16K\x00K\x01\x87", raw=b"\x41" * 32)),
        ("dtype with fields", _array(state=b"(K\x03U\x01<NU\x01a\x85}" + _TAIL + b"t", raw=b"1" * 16)),
        ("dtype with metadata", _array(state=b"(K\x03U\x01<NNN" + _TAIL + b"}}\x86t", raw=b"1" * 16)),
        ("memmap", _array(raw=b"1" * 16).replace(b"ndarray", b"memmap")),
        ("bytearray that is not there", b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x0f."),
        ("string that is not there", b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x0f."),
        ("frame that is not there", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x0f."),
        ("far memo index", b"\x80\x02]r\xff\xff\xff\xffj\xfe\xff\xff\xff."),
        ("deep nesting", b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."),
        ("a list in itself", b"\x80\x02]q\x00h\x00a."),
        ("exponential hash", b"\x80\x02}K\x00\x85q\x00" + b"h\x00h\x00\x86q\x00" * 200 + b"K\x01s."),
        ("unhashable key", b"\x80\x02}]K\x01s."),
        ("many objects", b"\x80\x02(" + b"]" * 2_000_000 + b"t."),
        ("truncated", pickle.dumps({"v": np.zeros(9)})[:-30]),
        ("not a pickle", b"GIF89a" + bytes(64)),
        ("text", b"v 1 2 3\nv 3 4 5\n"),
        ("empty", b""),
    ],
)  # fmt: skip
def test_malformed_and_oversized_pickles_are_refused(name, data):
    with pytest.raises(HeadModelError):
        loads(data)


def test_one_string_used_as_a_thousand_arrays_is_refused():
    """A few hundred kilobytes that would become gigabytes."""
    raw = bytes(400_000)
    text = b"T" + struct.pack("<I", len(raw)) + raw + b"q\x00"
    one = _array(shape=b"J" + struct.pack("<I", 50_000) + b"\x85").split(b"\x89U")[0][2:] + b"\x89h\x00tb"
    with pytest.raises(HeadModelError, match="memory"):
        loads(b"\x80\x02" + text + b"0(" + one * 1000 + b"t.")


@pytest.mark.parametrize(
    "change", [{"indices": [0, 99]}, {"indices": [0, -1]}, {"indptr": [0, 2, 1]}, {"indptr": [0, 1, 9]}]
)
def test_sparse_indices_outside_the_matrix_are_refused(change):
    matrix = scipy.sparse.csc_matrix(np.eye(2))
    for key, value in change.items():
        setattr(matrix, key, np.array(value, dtype=np.int32))
    with pytest.raises(HeadModelError, match="indices"):
        loads(pickle.dumps(matrix))


def test_tensor_larger_than_its_storage_is_refused():
    data = pickle.dumps(torch.arange(4.0), protocol=2)
    assert b"K\x04\x85" in data
    with pytest.raises(HeadModelError, match="larger than its data"):
        loads(data.replace(b"K\x04\x85", b"K\xff\x85"))


def test_giant_npy_header_is_refused_before_allocation(tmp_path):
    path = tmp_path / "x.npy"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    path.write_bytes(header.getvalue() + bytes(64))
    with pytest.raises(HeadModelError, match="cut short"):
        load_npy(path)


def test_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(HeadModelError, match="cannot read"):
        load_pickle(tmp_path / "generic_model.pkl")
