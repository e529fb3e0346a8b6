"""Uploads that mean no good, made on the spot and from a seed: what a server on the open network has to live with."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

BOUNDARY = "----tokenface"


@dataclass(frozen=True)
class Upload:
    """One request. kind: what is wrong with it.  headers: besides Host.  declared: Content-Length, where it lies."""

    kind: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    declared: int | None = None


def uploads(count: int, seed: int = 0) -> Iterator[Upload]:
    """`count` requests; every maker has its turn, with other random choices each time."""
    for number in range(count):
        maker = MAKERS[number % len(MAKERS)]
        yield maker(random.Random(seed * 100_003 + number))


def form(
    kind: str, data: bytes, filename: str = "photo.jpg", content_type: str = "image/jpeg", name: str = "photo"
) -> Upload:
    """A well-formed multipart form around a file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    head += f"Content-Type: {content_type}\r\n\r\n"
    body = head.encode("utf-8", "surrogateescape") + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Upload(kind, body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})


def picture(random: random.Random, form: str = "JPEG", size: tuple[int, int] = (96, 72), **options: object) -> bytes:
    """A harmless picture of noise."""
    pixels = np.random.default_rng(random.randrange(1 << 30)).integers(
        0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(buffer, format=form, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *extra: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG by hand. rows: compressed."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """zlib of so many zero bytes, without ever holding them."""
    packer, parts = zlib.compressobj(9), []
    block = bytes(1 << 20)
    while count > 0:
        parts.append(packer.compress(block[: min(count, len(block))]))
        count -= len(block)
    return b"".join([*parts, packer.flush()])


def tiff(entries: list[tuple[int, int, int, int]], after: bytes = b"", following: int = 0) -> bytes:
    """A little-endian TIFF of one directory. entries: tag, type, count, value; after: what follows the directory."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", following) + after


def _bomb(random: random.Random) -> Upload:
    side = random.choice([8_000, 16_000, 30_000])
    return form(f"PNG bomb {side}²", png(side, side, zeros(side * (3 * side + 1) // 20)), "bomb.png", "image/png")


def _bomb_in_limits(random: random.Random) -> Upload:
    side = 5_000
    return form(
        "25 million black pixels in a few kB", png(side, side, zeros(side * (3 * side + 1))), "b.png", "image/png"
    )


def _giant(random: random.Random) -> Upload:
    side = random.choice([65_535, 2_147_483_647, 1_000_000])
    small = min(side, 65_535)
    files = {
        "PNG": png(side, side, zlib.compress(b"")),
        "BMP": b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, small, small, 1, 24, *[0] * 6),
        "GIF": b"GIF89a"
        + struct.pack("<HHBBB", small, small, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, small, small, 0),
        "JPEG": b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, small, small, 3) + bytes(9) + b"\xff\xd9",
        "TIFF": tiff(
            [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 9)]
        ),
    }
    kind = random.choice(sorted(files))
    return form(f"giant {kind}", files[kind])


def _truncated(random: random.Random) -> Upload:
    kind = random.choice(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000"])
    data = picture(random, kind)
    return form(f"truncated {kind}", data[: random.randrange(4, len(data) - 1)])


def _flipped(random: random.Random) -> Upload:
    kind = random.choice(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000"])
    data = bytearray(picture(random, kind))
    for _ in range(random.randrange(1, 40)):
        data[random.randrange(2, len(data))] = random.randrange(256)
    return form(f"flipped bytes in {kind}", bytes(data))


def _polyglot(random: random.Random) -> Upload:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../evil.py", "raise SystemExit")
    script = b"<script>alert(document.cookie)</script><?php system($_GET['c']); ?>"
    choices = {
        "JPEG and ZIP": picture(random) + archive.getvalue(),
        "PDF and JPEG": b"%PDF-1.7\n" + picture(random),
        "GIF and JavaScript": b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)//",
        "PNG with a script": png(8, 8, zlib.compress(bytes(8 * 25)), png_chunk(b"tEXt", b"Comment\0" + script)),
        "JPEG with PHP in a comment": b"\xff\xd8\xff\xfe"
        + struct.pack(">H", len(script) + 2)
        + script
        + picture(random)[2:],
    }
    kind = random.choice(sorted(choices))
    return form(f"polyglot: {kind}", choices[kind])


def _file_name(random: random.Random) -> Upload:
    name = random.choice(
        [
            "../../../../tmp/tokenface-was-here.jpg",
            "/tmp/tokenface-was-here.jpg",
            "..\\..\\windows\\system32\\evil.jpg",
            "C:\\evil.jpg",
            "a" * 5000 + ".jpg",
            "con.jpg",
            "photo.jpg\0.php",
            "\u202egpj.exe",
            "$(touch /tmp/tokenface-was-here).jpg",
            "`id`.jpg",
            "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            "<img src=x onerror=alert(1)>.jpg",
            "{{7*7}}.jpg",
            "~root/.ssh/authorized_keys",
            "",
            ".",
            "..",
        ]
    )
    return form("file name", picture(random), name)


def _other_file(random: random.Random) -> Upload:
    laughs = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {b} "&{a};&{a};&{a};&{a};">' for a, b in zip("abcdefg", "bcdefgh", strict=True)
    )
    choices = {
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><image href='file:///etc/passwd'/></svg>",
        "SVG with entities": f"<!DOCTYPE svg [{laughs}]><svg>&h;</svg>".encode(),
        "HTML": b"<html><script>fetch('/')</script></html>",
        "PHP": b"<?php echo shell_exec('id'); ?>",
        "ELF": b"\x7fELF\x02\x01\x01" + bytes(200),
        "pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(%pipe%id) (r) file\n",
        "zeros": bytes(5000),
        "text": b"hello",
        "random": random.randbytes(4000),
    }
    kind = random.choice(sorted(choices))
    return form(f"{kind} as PNG", choices[kind], "photo.png", "image/png")


def _content_type(random: random.Random) -> Upload:
    kind = random.choice(
        ["text/html", "application/x-php", "image/svg+xml", "", "a/b/c", "image/jpeg; q=" + "x" * 3000]
    )
    return form("content type of the part", picture(random), content_type=kind)


def _empty(random: random.Random) -> Upload:
    return form(
        "hardly any bytes", random.choice([b"", b"\0", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF", b" "])
    )


def _exif(random: random.Random) -> Upload:
    choices = {
        "a directory that is its own parent": tiff(
            [(0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8)], following=8
        ),
        "directories without end": tiff([(0x8769, 4, 1, 26)] * 5000, following=8),
        "an entry of four billion values": tiff([(0x9286, 7, 0xFFFFFFFF, 8), (0x10F, 2, 0xFFFFFFF0, 100)]),
        "an impossible orientation": tiff([(0x112, 3, 1, random.choice([0, 9, 99, 65535]))]),
        "orientation as text": tiff([(0x112, 2, 4, 0x41414141)]),
    }
    kind = random.choice(sorted(choices))
    exif = b"Exif\0\0" + choices[kind][:60_000]
    return form(f"EXIF: {kind}", b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + picture(random)[2:])


def _animated(random: random.Random) -> Upload:
    kind = random.choice(["GIF", "WEBP", "PNG"])
    frames = [Image.new("RGB", (32, 32), tuple(random.randrange(256) for _ in range(3))) for _ in range(200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format=kind, save_all=True, append_images=frames[1:], duration=1)
    return form(f"animated {kind}", buffer.getvalue())


def _float_tiff(random: random.Random) -> Upload:
    values = np.full((40, 40), random.choice([np.nan, np.inf, -np.inf, 1e38, -1e30]), np.float32)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="TIFF")
    return form(f"TIFF of {values[0, 0]}", buffer.getvalue(), "photo.tif", "image/tiff")


def _tiff_loop(random: random.Random) -> Upload:
    entries = [
        (256, 4, 1, 8),
        (257, 4, 1, 8),
        (258, 3, 1, 8),
        (262, 3, 1, 1),
        (273, 4, 1, 4_000_000_000),
        (279, 4, 1, 99),
    ]
    return form("TIFF that points outside and at itself", tiff(entries, following=8), "photo.tif", "image/tiff")


def _metadata_bomb(random: random.Random) -> Upload:
    size = 60_000_000
    chunk = random.choice(
        [png_chunk(b"zTXt", b"Comment\0\0" + zeros(size)), png_chunk(b"iCCP", b"profile\0\0" + zeros(size))]
    )
    return form(
        "compressed text of 60 MB in a PNG", png(8, 8, zlib.compress(bytes(8 * 25)), chunk), "t.png", "image/png"
    )


def _bad_chunks(random: random.Random) -> Upload:
    header = struct.pack(
        ">IIBBBBB", 8, 8, random.choice([8, 3, 17]), random.choice([3, 7, 2]), 0, 0, random.choice([0, 1, 9])
    )
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"PLTE", bytes(3))
    data += png_chunk(b"IDAT", zlib.compress(bytes([0, *range(200, 208)] * 8))) + b"\xff\xff\xff\xffIEND"
    return form("impossible PNG chunks", data, "photo.png", "image/png")


def _scans(random: random.Random) -> Upload:
    data = picture(random, "JPEG", (512, 512), progressive=True)
    last = data.rindex(b"\xff\xda")
    return form("JPEG of 3,000 scans", data[:-2] + data[last:-2] * 3000 + b"\xff\xd9")


def _shape(random: random.Random) -> Upload:
    size = random.choice([(1, 1), (30_000, 1), (1, 30_000), (2, 3), (10_000, 16)])
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, format="PNG")
    return form(f"{size[0]} × {size[1]} pixels", buffer.getvalue(), "photo.png", "image/png")


def _not_multipart(random: random.Random) -> Upload:
    kind = random.choice(
        ["application/json", "text/plain", "application/x-www-form-urlencoded", "image/jpeg", "", "multipart"]
    )
    return Upload("not multipart", picture(random), {"Content-Type": kind})


def _broken_form(random: random.Random) -> Upload:
    good = form("", picture(random))
    edge = f"--{BOUNDARY}".encode()
    usual = good.headers["Content-Type"]
    field_head = b'\r\nContent-Disposition: form-data; name="photo"\r\n\r\n'
    long_header = b"X-Long: " + b"y" * 100_000 + b"\r\nContent-Type:"
    choices: dict[str, tuple[bytes, str]] = {
        "no boundary": (good.body, "multipart/form-data"),
        "another boundary": (good.body, "multipart/form-data; boundary=other"),
        "a boundary of 10 kB": (good.body, "multipart/form-data; boundary=" + "x" * 10_000),
        "no end": (good.body[:-20], usual),
        "no part": (b"", usual),
        "two hundred files": (good.body[: -len(BOUNDARY) - 8] * 200 + edge + b"--\r\n", usual),
        "a huge field": (edge + field_head + b"x" * 300_000 + b"\r\n" + edge + b"--\r\n", usual),
        "huge headers of the part": (good.body.replace(b"Content-Type:", long_header, 1), usual),
        "another field": (form("", picture(random), name="file").body, usual),
        "bytes that are no text": (good.body.replace(b"photo.jpg", b"\xff\xfe\xfd"), usual),
    }
    kind = random.choice(sorted(choices))
    body, content_type = choices[kind]
    return Upload(f"form: {kind}", body, {"Content-Type": content_type})


def _headers(random: random.Random) -> Upload:
    good = form("", picture(random))
    length = random.choice([9_000, 60_000, 400_000])
    return Upload(f"a header of {length} bytes", good.body, {**good.headers, "X-Long": "h" * length})


def _accept(random: random.Random) -> Upload:
    good = form("", picture(random))
    wish = random.choice(["text/html", "image/*;q=abc", ",,,;;;", "a" * 5000, "*/*;q=0", "application/json;q=nan"])
    return Upload("Accept", good.body, {**good.headers, "Accept": wish})


def _length(random: random.Random) -> Upload:
    good = form("", picture(random))
    return Upload(
        "a length that is not so", good.body, good.headers, declared=random.choice([10**15, len(good.body) * 50])
    )


def _large(random: random.Random) -> Upload:
    return form("more bytes than are allowed", random.randbytes(1 << 20) * 24)


def _method(random: random.Random) -> Upload:
    good = form("", picture(random))
    return Upload("method", good.body, good.headers, method=random.choice(["PUT", "PATCH", "DELETE", "TRACE", "BREW"]))


MAKERS: tuple[Callable[[random.Random], Upload], ...] = (
    *(_bomb, _bomb_in_limits, _giant, _truncated, _flipped, _polyglot, _file_name, _other_file, _content_type, _empty),
    *(_exif, _animated, _float_tiff, _tiff_loop, _metadata_bomb, _bad_chunks, _scans, _shape, _not_multipart),
    *(_broken_form, _headers, _accept, _length, _large, _method),
)
