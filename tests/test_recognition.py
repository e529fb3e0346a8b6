"""Recognition network: dlib's file, dlib's numbers, and an implementation by hand."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tokenface.errors import CheckpointError
from tokenface.identity.dlib_file import read_dlib_network
from tokenface.identity.recognition import (
    BLOCKS,
    CHIP_POINTS,
    MEAN,
    RecognitionNetwork,
    load_recognition,
    read_dlib_recognition,
    read_recognition_facts,
    save_recognition,
)

DAT_VARIABLE = "TOKENFACE_DLIB_RECOGNITION"
DAT = "dlib_face_recognition_resnet_model_v1.dat"


def patterned_chip() -> np.ndarray:
    """[150, 150, 3] uint8, the same on every machine."""
    y, x = np.mgrid[0:150, 0:150] / 150
    waves = ((9, 4, 0), (5, 11, 1), (3, 7, 2))
    return (255 * np.stack([0.5 + 0.5 * np.sin(a * x + b * y * y + c) for a, b, c in waves], -1)).round().astype("u1")


def as_batch(chip: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(chip).permute(2, 0, 1)[None].float() / 255


# --- a file in dlib's format, written by hand ---------------------------------------------------------------------


def integer(value: int) -> bytes:
    data = abs(value).to_bytes(8, "little").rstrip(b"\0") or b"\0"
    return bytes([len(data) | (0x80 if value < 0 else 0)]) + data


def real(value: float) -> bytes:
    numerator, denominator = float(value).as_integer_ratio()
    return integer(numerator) + integer(1 - denominator.bit_length())


def text(value: str) -> bytes:
    return integer(len(value)) + value.encode()


def sizes(version: int, *values: int) -> bytes:
    return b"".join(map(integer, (version, *values, *(1,) * (4 - len(values)))))


EMPTY = sizes(2, 0, 0, 0, 0)
END = b"110" + EMPTY * 3
RATES = real(1.0) * 3 + real(0.0)


def convolution(weight: np.ndarray, bias: np.ndarray, stride: int, padding: int, last: bytes = b"") -> bytes:
    filters, _, rows, columns = weight.shape
    values = np.concatenate([weight.ravel(), bias]).astype("<f4")
    numbers = b"".join(map(integer, (filters, rows, columns, stride, stride, padding, padding)))
    views = sizes(1, *weight.shape) + sizes(1, 1, filters)
    return text("con_4") + sizes(2, len(values)) + values.tobytes() + numbers + views + RATES + END + last


def affine(gain: np.ndarray, shift: np.ndarray) -> bytes:
    values = np.concatenate([gain, shift]).astype("<f4")
    views = sizes(1, 1, len(gain)) * 2
    return text("affine_") + sizes(2, len(values)) + values.tobytes() + views + integer(0) + END


def pooling(name: str, *window: int) -> bytes:
    return text(name) + b"".join(map(integer, window)) + END


def plain(name: str) -> bytes:
    return text(name) + END


def by_hand(seed: int = 0) -> tuple[bytes, list, np.ndarray]:
    """The bytes of a network of random weights, its convolutions with their affine layers, and the last matrix."""
    random = np.random.default_rng(seed)
    parts: list[bytes] = []
    layers: list[tuple[np.ndarray, ...]] = []

    def pair(inputs: int, outputs: int, side: int, stride: int, padding: int, last: bytes = b"") -> None:
        weight = (random.normal(size=(outputs, inputs, side, side)) / np.sqrt(inputs) / side).astype("f4")
        bias, gain = random.normal(size=outputs).astype("f4") / 9, random.uniform(0.5, 1, outputs).astype("f4")
        shift = random.normal(size=outputs).astype("f4") / 9
        layers.append((weight, bias, gain, shift))
        parts.extend([convolution(weight, bias, stride, padding, last), affine(gain, shift)])

    pair(3, 32, 7, 2, 0, integer(1))
    parts.extend([plain("relu_"), pooling("max_pool_2", 3, 3, 2, 2, 0, 0)])
    for inputs, outputs, halved in BLOCKS:
        pair(inputs, outputs, 3, 2 if halved else 1, 0 if halved else 1)
        parts.append(plain("relu_"))
        pair(outputs, outputs, 3, 1, 1)
        parts.extend([pooling("avg_pool_2", 2, 2, 2, 2, 0, 0)] if halved else [])
        parts.extend([plain("add_prev_"), plain("relu_")])
    parts.append(pooling("avg_pool_2", 0, 0, 1, 1, 0, 0))
    matrix = random.normal(size=(256, 128)).astype("f4")
    views = sizes(1, 256, 128) + sizes(1, 0, 0, 0, 0)
    numbers = integer(128) + integer(256)
    tail = views + integer(1) + RATES
    parts.append(text("fc_2") + numbers + sizes(2, 256, 128) + matrix.astype("<f4").tobytes() + tail + END)
    versions = [2] * (len(parts) - 1)
    for place in (5, 9, 40):  # tags and skips have a version and nothing else
        versions.insert(place, 1)
    head = integer(1) + text("loss_metric_2") + real(0.04) + real(0.6)
    head += b"".join(map(integer, versions)) + integer(3) + text("input_rgb_image_sized")
    head += b"".join(map(real, MEAN)) + integer(150) + integer(150)
    return head + b"".join(parts), layers, matrix


def forward_by_hand(chip: np.ndarray, layers: list, matrix: np.ndarray) -> np.ndarray:
    """The network from its description, in numpy: loops over the places of a kernel, affine layers by themselves."""
    remaining = iter(layers)

    def convolve(x: np.ndarray, stride: int, padding: int) -> np.ndarray:
        weight, bias, gain, shift = (v.astype("f8") for v in next(remaining))
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
        side = weight.shape[2]
        size = (x.shape[1] - side) // stride + 1
        total = np.zeros((len(weight), size, size)) + bias[:, None, None]
        for i in range(side):
            for j in range(side):
                part = x[:, i : i + stride * size : stride, j : j + stride * size : stride]
                total += np.einsum("chw,oc->ohw", part, weight[:, :, i, j])
        return total * gain[:, None, None] + shift[:, None, None]

    x = np.maximum(convolve((chip.transpose(2, 0, 1) - np.array(MEAN)[:, None, None]) / 256, 2, 0), 0)
    size = (x.shape[1] - 3) // 2 + 1
    x = np.max([x[:, i : i + 2 * size : 2, j : j + 2 * size : 2] for i in range(3) for j in range(3)], axis=0)
    for _, outputs, halved in BLOCKS:
        inner = convolve(np.maximum(convolve(x, 2 if halved else 1, 0 if halved else 1), 0), 1, 1)
        if halved:
            n = x.shape[1] // 2
            shortcut = sum(x[:, i : 2 * n : 2, j : 2 * n : 2] for i in range(2) for j in range(2)) / 4
            total = np.zeros((outputs, max(n, inner.shape[1]), max(n, inner.shape[1])))
            total[: len(shortcut), :n, :n] += shortcut
            total[:, : inner.shape[1], : inner.shape[2]] += inner
            x = np.maximum(total, 0)
        else:
            x = np.maximum(inner + x, 0)
    return x.mean((1, 2)) @ matrix.astype("f8")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    data, layers, matrix = by_hand()
    path = tmp_path_factory.mktemp("dlib") / "written.dat"
    path.write_bytes(data)
    return path, data, layers, matrix


def test_a_file_in_dlibs_format_gives_what_its_description_says(written):
    path, _, layers, matrix = written
    chip = patterned_chip()
    expected = forward_by_hand(chip, layers, matrix)
    found = read_dlib_recognition(path)(as_batch(chip))[0].numpy()
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_a_saved_network_comes_back(written, tmp_path):
    network = read_dlib_recognition(written[0])
    save_recognition(tmp_path / "saved.safetensors", network, {"licence": "none"})
    again = load_recognition(tmp_path / "saved.safetensors")
    assert read_recognition_facts(tmp_path / "saved.safetensors") == {"licence": "none"}
    for key, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value.half().float(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: b"", "ends at byte 0"),
        (lambda d: d[:300], "ends at byte 300"),
        (lambda d: d[:20_000_000], "ends at byte 20000000"),
        (lambda d: d + b"\0", "1 bytes after"),
        (lambda d: b"\x89PNG" + d[4:], "ends at|no integer|metric loss"),
        (lambda d: d.replace(b"loss_metric", b"loss_ranked", 1), "metric loss"),
        (lambda d: d.replace(text("con_4"), text("con_9"), 1), "unknown layer 'con_9'"),
        (lambda d: d.replace(b"input_rgb_image_sized", b"input_rgb_image_other"), "fixed size"),
        (lambda d: d.replace(sizes(2, 4736), sizes(2, 2**62, 2**62), 1), "ends at byte"),
        (lambda d: d.replace(sizes(2, 4736), sizes(2, -1), 1), "negative size"),
        (lambda d: d.replace(sizes(2, 4736), sizes(7, 4736), 1), "tensor version 7"),
        (lambda d: d.replace(real(0.6), integer(3) + integer(2**40), 1), "no float"),
        (lambda d: d.replace(integer(2) * 20, integer(2) * 1500, 1), "more than 1024 layers"),
        (lambda d: d.replace(integer(2) * 20, integer(2) * 9 + integer(5), 1), "unknown layer version 5"),
        (lambda d: d.replace(b"110", b"1x0", 1), "no flag"),
    ],
)
def test_damaged_files_are_refused_in_one_line_that_names_them(written, tmp_path, change, said):
    path = tmp_path / "damaged.dat"
    path.write_bytes(change(written[1]))
    with pytest.raises(CheckpointError, match=said) as caught:
        read_dlib_network(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_other_networks_and_absent_files_are_refused(written, tmp_path):
    path = tmp_path / "other.dat"
    path.write_bytes(written[1].replace(b"".join(map(real, MEAN)), real(1.0) * 3, 1))
    with pytest.raises(CheckpointError, match="is not dlib's face recognition network"):
        read_dlib_recognition(path)
    path.write_bytes(written[1].replace(pooling("max_pool_2", 3, 3, 2, 2, 0, 0), plain("relu_"), 1))
    with pytest.raises(CheckpointError, match="its layers are others"):
        read_dlib_recognition(path)
    with pytest.raises(CheckpointError, match=r"no dlib network at .*absent\.dat"):
        read_dlib_network(tmp_path / "absent.dat")
    with pytest.raises(CheckpointError, match="no recognition network at"):
        load_recognition(tmp_path / "absent.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="damaged"):
        load_recognition(tmp_path / "noise.safetensors")


# --- the shipped weights ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> RecognitionNetwork:
    return load_recognition()


def test_the_shipped_network_gives_dlibs_numbers(network):
    """The first 16 numbers that dlib 20.0 itself answers for this chip."""
    expected = [-0.0798, 0.0898, 0.0390, -0.0378, -0.0976, -0.0865, -0.1043, -0.0277]
    expected += [0.0766, -0.0283, 0.2113, -0.0063, -0.2298, -0.0240, 0.0111, 0.0753]
    np.testing.assert_allclose(network(as_batch(patterned_chip()))[0, :16].numpy(), expected, atol=1e-3)


def test_dlib_itself_agrees(network):
    dlib = pytest.importorskip("dlib", reason="dlib is not installed (extra 'dlib')")
    path = find_dat()
    if path is None:
        pytest.skip(f"{DAT} is not here; set {DAT_VARIABLE} to it")
    from tokenface.data.synthetic import SyntheticFaces
    from tokenface.head.registry import load_head
    from tokenface.identity.alignment import aligned_faces

    batch = SyntheticFaces(load_head("openhead"), 192).sample(6, torch.Generator().manual_seed(4))
    faces = (aligned_faces(batch.image, batch.landmarks68, CHIP_POINTS, 150) * 255).round().byte()
    chips = [patterned_chip(), *faces.permute(0, 2, 3, 1).numpy()]
    reference = dlib.face_recognition_model_v1(str(path))
    expected = np.stack([np.array(reference.compute_face_descriptor(np.ascontiguousarray(c))) for c in chips])
    pictures = torch.cat([as_batch(chip) for chip in chips])
    exact = read_dlib_recognition(path)(pictures).numpy()
    np.testing.assert_allclose(exact, expected, atol=1e-5)
    np.testing.assert_allclose(network(pictures).numpy(), expected, atol=1e-3)  # the shipped one is half precision


def find_dat() -> Path | None:
    given = os.environ.get(DAT_VARIABLE)
    if given:
        return Path(given)
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or not package.submodule_search_locations:
        return None
    path = Path(package.submodule_search_locations[0]) / "models" / DAT
    return path if path.is_file() else None


def test_maps_have_the_promised_shapes_and_lead_to_the_vector(network):
    chips = torch.rand(2, 3, 150, 150, generator=torch.Generator().manual_seed(1))
    fine, coarse, vector = network.features(chips)
    assert (fine.shape, coarse.shape, vector.shape) == ((2, 128, 8, 8), (2, 256, 4, 4), (2, 128))
    torch.testing.assert_close(vector, network(chips))
    last = network.blocks[-1](coarse)
    torch.testing.assert_close(network.head(last.mean((2, 3))), vector)
    torch.testing.assert_close(network.blocks[12](network.blocks[11](network.blocks[10](fine))), coarse)
    assert np.shape(CHIP_POINTS) == (5, 2)


def test_the_gradient_reaches_the_picture_and_not_the_weights(network):
    exact = load_recognition().double()
    generator = torch.Generator().manual_seed(2)
    smooth = F.interpolate(torch.rand(1, 3, 12, 12, generator=generator, dtype=torch.float64), 150, mode="bicubic")
    direction = F.interpolate(torch.randn(1, 3, 9, 9, generator=generator, dtype=torch.float64), 150, mode="bicubic")
    weights = torch.randn(128, generator=generator, dtype=torch.float64)
    chips = smooth.requires_grad_(True)
    (exact(chips) @ weights).sum().backward()
    step = 1e-7
    with torch.no_grad():
        numeric = (exact(chips + step * direction) - exact(chips - step * direction)) @ weights / (2 * step)
    analytic = (chips.grad * direction).sum()
    assert abs(float(analytic)) > 1e-3
    torch.testing.assert_close(analytic, numeric[0], rtol=1e-4, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_shipped_file_says_where_it_comes_from(network):
    from importlib import resources

    path = Path(str(resources.files("tokenface"))) / "assets" / "weights" / "tokenface-recognition.safetensors"
    facts = read_recognition_facts(path)
    assert "face_recognition_models" in facts["source"]
    assert facts["licence"].startswith("public domain")
    assert len(facts["sha256"]) == 64
    assert 11e6 < path.stat().st_size < 11.5e6


def test_it_stands_on_its_own():
    """The network of the heads may build on this one; so this one must not import it."""
    code = "import sys, tokenface.identity.recognition; print(*(m for m in sys.modules if m.startswith('tokenface.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[1] for name in done.stdout.split()}
    assert not loaded & {"network", "head"}
