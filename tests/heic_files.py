"""HEIC files written box by box (ISO/IEC 23008-12) around one picture of FFmpeg's H.265 encoder."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np


def heic(image: np.ndarray, turns: int = 0, nclx: tuple[int, int, int] | None = None, profile: bytes = b"") -> bytes:
    """[H, W, 3] uint8, sides divisible by 8, to a HEIC file.

    turns: quarter turns anticlockwise that a reader has to make.  nclx: primaries, transfer, matrix (ITU-T H.273).
    """
    configuration, sample = _encoded(image)
    height, width = image.shape[:2]
    properties = [
        _box(b"hvcC", configuration),
        _full(b"ispe", struct.pack(">II", width, height)),
        _box(b"irot", bytes([turns])),
    ]
    if profile:
        properties.append(_box(b"colr", b"prof" + profile))
    elif nclx:
        properties.append(_box(b"colr", b"nclx" + struct.pack(">HHHB", *nclx, 0)))
    links = struct.pack(">IHB", 1, 1, len(properties)) + bytes(range(1, len(properties) + 1))
    iprp = _box(b"iprp", _box(b"ipco", b"".join(properties)) + _full(b"ipma", links))
    infe = _full(b"infe", struct.pack(">HH", 1, 0) + b"hvc1\0", version=2)
    handler = _full(b"hdlr", bytes(4) + b"pict" + bytes(13))

    def meta(at: int) -> bytes:
        iloc = struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, at, len(sample))
        inner = handler + _full(b"pitm", struct.pack(">H", 1)) + _full(b"iloc", iloc)
        return _full(b"meta", inner + _full(b"iinf", struct.pack(">H", 1) + infe) + iprp)

    start = _box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")
    at = len(start) + len(meta(0)) + 8
    return start + meta(at) + _box(b"mdat", sample)


def _encoded(image: np.ndarray) -> tuple[bytes, bytes]:
    """hvcC's content (ISO/IEC 14496-15, 8.3.3), and the picture's units with their lengths before them."""
    import av

    encoder = av.CodecContext.create("libx265", "w")
    encoder.height, encoder.width = image.shape[:2]
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.options = {"crf": "4", "x265-params": "log-level=none:info=0"}
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame.pts = 0
    stream = b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode()))
    units = [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1") if unit.rstrip(b"\0")]
    configuration = bytes(
        [1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 90, 0xF0, 0, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0, 0x0F, 3]
    )
    sample = b""
    for unit in units:
        kind = unit[0] >> 1 & 63
        if kind in (32, 33, 34):  # video, sequence and picture parameter sets
            configuration += struct.pack(">BHH", 0x80 | kind, 1, len(unit)) + unit
        elif kind < 32:
            sample += struct.pack(">I", len(unit)) + unit
    return configuration, sample


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def _full(kind: bytes, content: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]) + content)
