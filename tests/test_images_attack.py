"""Pictures that mean no good: other programs, bombs, things that are no files, memory that is counted."""

import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from tokenface.errors import ImageError
from tokenface.images.focal import exif_focal
from tokenface.images.loading import PIXEL_BYTES, Budget, ImageItem, load_image
from tokenface.inference import photos


def postscript() -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n"


def test_no_picture_starts_another_program(monkeypatch, tmp_path):
    """Encapsulated PostScript by any name: Pillow would hand it to Ghostscript."""
    from PIL import EpsImagePlugin

    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **_: started.append(arguments))
    (tmp_path / "photo.jpg").write_bytes(postscript())
    for source in (tmp_path / "photo.jpg", postscript()):
        with pytest.raises(ImageError, match="not a picture"):
            load_image(source)
        assert exif_focal(source, 40, 40) is None
    assert started == []


def test_only_the_listed_plugins_are_let_near_a_file(monkeypatch):
    """A format that is registered with Pillow, as programs and packages do, is not opened unless it is on the list."""
    seen = []
    monkeypatch.setitem(Image.OPEN, "STRANGE", (lambda file, name: seen.append(name), lambda prefix: True))
    monkeypatch.setattr(Image, "ID", [*Image.ID, "STRANGE"])
    with pytest.raises(ImageError):
        load_image(b"strange" * 10)
    assert seen == []


def deflated_tiff(side: int) -> bytes:
    """Three floats per pixel, which Pillow lacks: a few hundred kB that unpack to 12 bytes per pixel."""
    packer, row = zlib.compressobj(9), bytes(side * 12)
    packed = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    after, extra = 8 + 2 + 12 * 10 + 4, struct.pack("<6H", 32, 32, 32, 3, 3, 3)
    entries = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 3, after), (259, 3, 1, 8), (262, 3, 1, 2)]
    entries += [(273, 4, 1, after + 12), (277, 3, 1, 3), (278, 4, 1, side), (279, 4, 1, len(packed))]
    entries += [(339, 3, 3, after + 6)]
    directory = struct.pack("<H", 10) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + extra + packed


def test_nothing_is_unpacked_of_a_tiff_before_its_size_is_known(tmp_path):
    resource = pytest.importorskip("resource")
    (tmp_path / "bomb.tif").write_bytes(deflated_tiff(7000))
    assert (tmp_path / "bomb.tif").stat().st_size < 2_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match="million pixels"):
        load_image(tmp_path / "bomb.tif", max_pixels=1_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; unpacked it has 588 MB


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("RGB", "png"), ("I;16", "png"), ("F", "tiff")])
def test_memory_of_decoding_is_bounded_by_the_pixels(mode, suffix, tmp_path):
    """Whatever depth and channels: at most PIXEL_BYTES per pixel, as the budget counts."""
    pytest.importorskip("resource")
    side = 3000
    Image.new(mode, (side, side)).save(tmp_path / f"large.{suffix}")
    script = (
        "import resource, sys; from tokenface.images.loading import load_image, PIXEL_BYTES;"
        "from PIL import Image; import io; b = io.BytesIO(); Image.new('RGB', (9, 9)).save(b, 'PNG');"
        "load_image(b.getvalue()); peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024;"
        f"before = peak(); load_image(sys.argv[1]); print((peak() - before) / {side * side})"
    )
    command = [sys.executable, "-c", script, str(tmp_path / f"large.{suffix}")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(answer.stdout) <= PIXEL_BYTES


def test_pictures_that_do_not_fit_into_memory_together_wait_for_each_other():
    budget, order = Budget(100), []

    def hold(name: str, count: int, go: threading.Event) -> threading.Thread:
        def work() -> None:
            with budget.hold(count):
                order.append(name)
                go.wait(20)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    first_go, others = threading.Event(), threading.Event()
    others.set()
    first = hold("first", 70, first_go)
    while not order:
        first.join(0.01)
    second = hold("second", 60, others)
    third = hold("third", 30, others)
    third.join(20)
    assert order == ["first", "third"]
    first_go.set()
    second.join(20)
    assert order == ["first", "third", "second"]
    with budget.hold(1000):  # larger than all there is: alone
        assert budget.used == 1000


def test_photos_that_wait_for_the_network_are_counted_in_pixels(monkeypatch):
    monkeypatch.setattr(photos, "BATCH_PIXELS", 100)
    loaded = []

    class Item(ImageItem):
        def load(self, max_pixels=0):
            loaded.append(self.name)
            return np.zeros((8, 8, 3), np.uint8)

    stream = photos.prepared([Item(str(i), b"") for i in range(6)], lambda number, image: [], 10**6)
    next(stream)
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline and len(loaded) < 4:
        time.sleep(0.01)
    assert len(loaded) == 3  # one given, two of 64 pixels wait, which is more than 100
    assert len(list(stream)) == 5


@pytest.mark.skipif(os.name == "nt", reason="devices and pipes are POSIX's")
def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.jpg"))
        for path in ("/dev/zero", tmp_path / "pipe.jpg", tmp_path / "link.jpg", tmp_path / "s.jpg"):
            with pytest.raises(ImageError, match="device, pipe or socket") as caught:
                load_image(path)
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(200 * 10**9)
    with pytest.raises(ImageError, match=r"200,000\.0 MB, more than the limit"):
        load_image(tmp_path / "sparse.jpg")
