"""Files that mean no good, for every entrance: photos, clips, meshes, checkpoints, head models, parameters,
configurations, shards, tables of arrays. Made on the spot and from a seed, out of good ones of this package's own."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MARKER = "tokenface-was-executed"
"""A file of this name in the folder of a case: something in it ran."""
EXTREMES = (-1, 0, 1, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, -(2**31))
ODD: tuple[Any, ...] = (
    *(None, True, "", "x", [], {}, [[]], -1, 0, 10**9, 10**30, 1.5, 1e308, [1, 2], {"a": 1}, "../../../x", "\0"),
    *("9" * 5000, [0] * 10_000, float("nan"), float("inf"), "NaN"),
)
"""Values that stand where others belong."""


class Executed:
    """A pickle that leaves a mark when it is loaded carelessly."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.folder / MARKER}'",)


@dataclass(frozen=True)
class Case:
    """kind: what is wrong.  path: the file, or the folder for shards."""

    kind: str
    path: Path


def case(entrance: str, good: dict[str, bytes], folder: Path, number: int, seed: int = 0) -> Case:
    """Write one hostile file.

    Args:
        good: good files of the entrance by name; one of them is spoiled.
        folder: an empty one.
    """
    chance = random.Random(f"{seed} {entrance} {number}")
    name = chance.choice(sorted(good))
    data = good[name]
    path = folder / name
    makers: list[Callable[[], tuple[str, bytes | None]]] = [
        lambda: ("cut short", data[: chance.randrange(len(data))]),
        lambda: ("bytes flipped", _flipped(chance, data)),
        lambda: ("a number replaced", _number(chance, data)),
        lambda: ("a part repeated", _repeated(chance, data)),
        lambda: ("something behind it", data + chance.randbytes(chance.randrange(1, 5000))),
        lambda: ("zeros inside", _zeroed(chance, data)),
        lambda: special(chance, path),
        lambda: other(chance, folder),
    ]
    suffix = Path(name).suffix
    if suffix == ".json":
        makers += [lambda: ("a value replaced", _json(chance, data))] * 6
    if suffix == ".npz":
        makers += [lambda: npz(chance, data, folder)] * 6
    if suffix == ".npy":
        makers += [lambda: ("a header that lies", npy(chance))] * 3
    if suffix == ".yaml":
        makers += [lambda: yaml(chance, data)] * 6
    if suffix == ".safetensors":
        makers += [lambda: safetensors(chance, data)] * 6
    if suffix in (".pkl", ".pth"):
        makers += [lambda: (f"a program in a {suffix}", pickle.dumps({"f": Executed(folder)}))] * 3
    if suffix == ".tar":
        makers += [lambda: tar(chance, data, folder)] * 6
    if suffix in (".obj", ".ply", ".txt", ".pp"):
        makers += [lambda: ("odd numbers in a text", _text(chance, data))] * 4
    if suffix in (".mp4", ".nut", ".avi"):
        makers += [lambda: playlist(chance, folder)] * 3
    kind, content = chance.choice(makers)()
    if content is not None:
        path.write_bytes(content)
    return Case(f"{suffix or name}: {kind}", path)


def special(chance: random.Random, path: Path) -> tuple[str, None]:
    """What has a name and is no file."""
    kind = chance.choice(
        ["a pipe", "a device", "a device that never ends", "a folder", "a link to itself", "200 GB", "nothing"]
    )
    match kind:
        case "a pipe":
            os.mkfifo(path)
        case "a device":
            path.symlink_to("/dev/null")
        case "a device that never ends":
            path.symlink_to("/dev/zero")
        case "a folder":
            path.mkdir()
        case "a link to itself":
            path.symlink_to(path.name)
        case "200 GB":
            with path.open("wb") as file:
                file.truncate(200 * 10**9)
    return kind, None


def other(chance: random.Random, folder: Path) -> tuple[str, bytes]:
    """Content of quite another kind."""
    choices = {
        "empty": b"",
        "one byte": b"\0",
        "text": b"hello, I am a file\n" * 50,
        "random bytes": chance.randbytes(3000),
        "a program": b"#!/bin/sh\ntouch " + str(folder / MARKER).encode() + b"\n",
        "a pickle that runs": pickle.dumps(Executed(folder)),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch x) (r) file\nshowpage\n%%EOF\n",
        "deep JSON": b"[" * 100_000,
        "deep YAML": b"- " * 20_000 + b"x",
        "NaN": b"NaN",
        "a bomb of zlib": zlib.compress(bytes(50_000_000)),
        "a ZIP of nothing": b"PK\5\6" + bytes(18),
        "UTF-16": "{}".encode("utf-16"),
    }
    kind = chance.choice(sorted(choices))
    return kind, choices[kind]


def npz(chance: random.Random, data: bytes, folder: Path) -> tuple[str, bytes]:
    """Archives of arrays whose sizes, shapes and types are not so."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = chance.choice(sorted(members))
    kind = chance.choice(
        ["a bomb", "a header that lies", "a pickle inside", "lost", "doubled", "another shape", "not finite"]
    )
    match kind:
        case "a bomb":
            members[name] = array_header((1 << 28, 8), "<f8") + bytes(1 << 20)
            return kind, packed(members, {name: chance.choice([1 << 31, 1 << 33])})
        case "a header that lies":
            members[name] = npy(chance)
        case "a pickle inside":
            members[name] = array_header((1,), "|O") + pickle.dumps([Executed(folder)])
        case "lost":
            del members[name]
        case "doubled":
            members[name + "x"] = members[name]
        case "another shape":
            members[name] = array_header((chance.randrange(4), 3), "<f4") + bytes(12 * chance.randrange(4))
        case "not finite":
            count = max(1, (len(members[name]) - 128) // 4)
            members[name] = array_header((count,), "<f4") + np.full(count, np.nan, np.float32).tobytes()
    return kind, packed(members, {})


def packed(members: dict[str, bytes], zeros: dict[str, int]) -> bytes:
    """A ZIP; zeros: so many bytes of nothing behind a member, deflated a piece at a time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9 if not zeros else 1) as archive:
        for name, content in members.items():
            with archive.open(name, "w", force_zip64=True) as out:
                out.write(content)
                for _ in range(zeros.get(name, 0) >> 24):
                    out.write(bytes(1 << 24))
    return buffer.getvalue()


def array_header(shape: tuple[int, ...], dtype: str) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def npy(chance: random.Random) -> bytes:
    """An array of a promise."""
    shape = chance.choice([(10**11,), (-5,), (2**31, 2**31), (0,), (3, -1), (10**30,), (68, 2), (7, 3)])
    kind = chance.choice(["<f4", "<f8", "|O", "|V100000", "<U1000000", "<c16", "|b1", "bogus"])
    return array_header(shape, kind) + bytes(chance.randrange(600))


def safetensors(chance: random.Random, data: bytes) -> tuple[str, bytes]:
    """Headers that say what cannot be."""
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    kind = chance.choice(["a length that lies", "facts", "facts", "facts", "offsets", "a tensor lost", "another shape"])
    keys = [key for key in header if key != "__metadata__"]
    if kind == "a length that lies":
        return kind, chance.choice([2**63 - 1, 2**40, 0, length - 1, 100 << 20]).to_bytes(8, "little") + data[8:]
    if kind == "facts" and header.get("__metadata__"):
        facts = header["__metadata__"]
        key = chance.choice(sorted(facts))
        try:
            facts[key] = json.dumps(mutated(chance, json.loads(facts[key])))
        except ValueError:
            facts[key] = chance.choice(["", "x" * 10_000, "[" * 50_000, "NaN"])
    elif keys:
        key = chance.choice(keys)
        if kind == "a tensor lost":
            del header[key]
        elif kind == "another shape":
            header[key]["shape"] = chance.choice([[-1], [2**40], [], [1] * 100, [0]])
        else:
            header[key]["data_offsets"] = [chance.choice(EXTREMES), chance.choice(EXTREMES)]
    text = json.dumps(header).encode()
    return kind, len(text).to_bytes(8, "little") + text + rest


RUN_KEYS = ("batch", "name", "steps", "folder")
YAML_VALUES = ("[1]", "{}", "1.5", "null", "!!binary eA==")


def yaml(chance: random.Random, data: bytes) -> tuple[str, bytes]:
    """Configurations."""
    choices = {
        "a run elsewhere": b"run:\n  name: ../../../tokenface-was-here\n",
        "a run at a path": b"run:\n  name: /tmp/tokenface-was-here\n",
        "a batch of a billion": b"run:\n  batch: 1000000000\n",
        "not a number": b"optimiser:\n  learning_rate: .nan\n",
        "infinity": b"optimiser:\n  learning_rate: .inf\n",
        "a program": b"run: !!python/object/apply:os.system ['touch tokenface-was-executed']\n",
        "laughs": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 110)),
        "a circle": b"run: &a\n  name: *a\n",
        "another type": f"run:\n  {chance.choice(RUN_KEYS)}: {chance.choice(YAML_VALUES)}\n".encode(),
        "unknown": b"runn:\n  x: 1\n",
        "two documents": data + b"\n---\n" + data,
        "tabs": b"\trun:\n\t\tname: x\n",
    }
    kind = chance.choice(sorted(choices))
    return kind, choices[kind]


def tar(chance: random.Random, data: bytes, folder: Path) -> tuple[str, bytes]:
    """Shards: members that are no members."""
    kind = chance.choice(
        ["a size that lies", "a negative size", "a path", "a link", "facts", "facts", "arrays", "a picture"]
    )
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive.getmembers():
            members[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    if kind in ("a size that lies", "a negative size"):
        spoiled = bytearray(data)
        size = b"77777777777\0" if kind == "a size that lies" else b"\xff" * 12
        spoiled[124:136] = size
        spoiled[148:156] = b" " * 8
        spoiled[148:156] = b"%06o\0 " % sum(spoiled[:512])
        return kind, bytes(spoiled)
    name = chance.choice(sorted(members))
    if kind == "facts":
        name = next(key for key in members if key.endswith(".json"))
        members[name] = json.dumps(mutated(chance, json.loads(members[name]))).encode()
    elif kind == "arrays" and (arrays := [key for key in members if key.endswith(".npz")]):
        members[arrays[0]] = npz(chance, members[arrays[0]], folder)[1]
    elif kind in ("arrays", "a picture"):
        pictures = [key for key in members if key.endswith((".jpg", ".png"))]
        members[pictures[0]] = other(chance, folder)[1]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for key, content in members.items():
            info = tarfile.TarInfo("../../../tokenface-was-here" if kind == "a path" and key == name else key)
            if kind == "a link" and key == name:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
                continue
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return kind, buffer.getvalue()


def playlist(chance: random.Random, folder: Path) -> tuple[str, bytes]:
    """Texts that name other files."""
    choices = {
        "HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        "concat": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        "DASH": b"<MPD profiles='urn:mpeg:dash:profile:isoff-on-demand:2011'><Period/></MPD>",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    }
    kind = chance.choice(sorted(choices))
    return kind, choices[kind]


def mutated(chance: random.Random, document: Any) -> Any:
    """A JSON document with one value replaced, removed or doubled."""
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else []
        for key in keys:
            places.append((part, key))
            walk(part[key])

    walk(document)
    if not places:
        return chance.choice(ODD)
    part, key = chance.choice(places)
    match chance.randrange(4):
        case 0:
            del part[key]
        case 1 if isinstance(part, list):
            part.append(part[key])
        case _:
            part[key] = chance.choice(ODD)
    return document


def _json(chance: random.Random, data: bytes) -> bytes:
    try:
        return json.dumps(mutated(chance, json.loads(data))).encode()
    except RecursionError:
        return b"{}"


def _flipped(chance: random.Random, data: bytes) -> bytes:
    spoiled = bytearray(data)
    for _ in range(chance.randrange(1, 40)):
        spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
    return bytes(spoiled)


def _number(chance: random.Random, data: bytes) -> bytes:
    form = chance.choice(["<I", ">I", "<Q", ">Q", "<H", ">H"])
    size = struct.calcsize(form)
    at = chance.randrange(max(1, min(len(data) - size, 4096)))
    return data[:at] + struct.pack(form, chance.choice(EXTREMES) % (1 << 8 * size)) + data[at + size :]


def _repeated(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data))
    part = data[start : start + chance.randrange(1, 2000)]
    return data[:start] + part * chance.randrange(2, 20) + data[start:]


def _zeroed(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data))
    count = min(chance.randrange(1, 5000), len(data) - start)
    return data[:start] + bytes(count) + data[start + count :]


def _text(chance: random.Random, data: bytes) -> bytes:
    words = data.split(b" ")
    for _ in range(chance.randrange(1, 6)):
        words[chance.randrange(len(words))] = chance.choice(
            [
                b"nan",
                b"inf",
                b"1e400",
                b"-0",
                b"0",
                b"999999999999",
                b"-7",
                b"x",
                b"",
                b"1/2/3/4",
                b"\xff\xfe",
                b"9" * 3000,
            ]
        )
    return b" ".join(words)
