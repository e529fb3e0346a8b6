"""Safetensors files whose float16 numbers lie apart, low bytes before high ones: a wheel's Deflate packs them better.

Sign, exponent and first bits of a weight repeat, its last bits do not; mixed, they hide each other from Deflate (8 % of
a file of weights). A tensor F16 [...] becomes U8 [2, ...]; nothing is rounded, and `joined` gives the very bytes back.
Needs the standard library alone: the wheel's build runs it.
"""

from __future__ import annotations

import json
import struct

MARK = "halves"
"""Key of the header's facts that says so."""
_START = b'{"__metadata__":{"' + MARK.encode() + b'":"apart"'


def apart(data: bytes) -> bytes | None:
    """The file with its halves apart; None where `joined` would not give back these very bytes."""
    header, body = _parts(data)
    facts = header.get("__metadata__", {})
    tensors = {key: value for key, value in header.items() if key != "__metadata__"}
    if MARK in facts or any(entry["dtype"] == "U8" for entry in tensors.values()):
        return None
    changed: dict = {"__metadata__": {MARK: "apart", **facts}}
    out = bytearray(body)
    for key, entry in tensors.items():
        if entry["dtype"] == "F16":
            start, end = entry["data_offsets"]
            out[start:end] = body[start:end:2] + body[start + 1 : end : 2]
            entry = {**entry, "dtype": "U8", "shape": [2, *entry["shape"]]}
        changed[key] = entry
    found = _file(changed, bytes(out))
    return found if joined(found) == data else None


def are_apart(start: bytes) -> bool:
    """Whether a file that begins so was changed by `apart`."""
    return start[8 : 8 + len(_START)] == _START


def joined(data: bytes) -> bytes:
    """The file as it was before `apart`; any other file as it is."""
    if not are_apart(data):
        return data
    header, body = _parts(data)
    facts = {key: value for key, value in header["__metadata__"].items() if key != MARK}
    plain: dict = {"__metadata__": facts} if facts else {}
    out = bytearray(body)
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        if entry["dtype"] == "U8":
            start, end = entry["data_offsets"]
            middle = (start + end) // 2
            out[start:end:2], out[start + 1 : end : 2] = body[start:middle], body[middle:end]
            entry = {**entry, "dtype": "F16", "shape": entry["shape"][1:]}
        plain[key] = entry
    return _file(plain, bytes(out))


def _parts(data: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _file(header: dict, body: bytes) -> bytes:
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body
