"""Identity encoders: alignment against a closed form, networks against independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tokenface.errors import CheckpointError
from tokenface.identity.alignment import TEMPLATE112, aligned_faces, best_similarity, template_ndc
from tokenface.identity.encoder import IdentityEncoder, load_identity_encoder
from tokenface.identity.iresnet import IResNet
from tokenface.identity.small import SmallEncoder, SmallEncoderConfig, contrastive_loss, save_small_encoder

DEPTHS, WIDTHS = (2, 1, 2, 1), (4, 4, 6, 8, 10)


def randomised(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator)
                value.copy_(0.5 + noise.abs() if name.endswith("running_var") else 0.3 * noise)
    return network.eval()


def arcface_by_hand(state: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """insightface's iresnet from its description, in numpy with explicit loops over kernel places."""

    def conv(x, weight, stride, pad):
        out, _, k, _ = weight.shape
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        height = (x.shape[2] - k) // stride + 1
        result = np.zeros((len(x), out, height, height))
        for i in range(k):
            for j in range(k):
                part = x[:, :, i : i + stride * height : stride, j : j + stride * height : stride]
                result += np.einsum("bchw,oc->bohw", part, weight[:, :, i, j])
        return result

    def norm(x, name):
        shape = (1, -1) + (1,) * (x.ndim - 2)
        g, b, m, v = (state[f"{name}.{k}"].reshape(shape) for k in ("weight", "bias", "running_mean", "running_var"))
        return (x - m) / np.sqrt(v + 1e-5) * g + b

    def prelu(x, name):
        return np.where(x >= 0, x, x * state[f"{name}.weight"].reshape(1, -1, 1, 1))

    x = prelu(norm(conv(x, state["conv1.weight"], 1, 1), "bn1"), "prelu")
    for stage in range(1, 5):
        for unit in range(DEPTHS[stage - 1]):
            name, stride = f"layer{stage}.{unit}", 2 if unit == 0 else 1
            inner = prelu(
                norm(conv(norm(x, f"{name}.bn1"), state[f"{name}.conv1.weight"], 1, 1), f"{name}.bn2"), f"{name}.prelu"
            )
            inner = norm(conv(inner, state[f"{name}.conv2.weight"], stride, 1), f"{name}.bn3")
            if unit == 0:
                x = norm(conv(x, state[f"{name}.downsample.0.weight"], stride, 0), f"{name}.downsample.1")
            x = x + inner
    flat = norm(x, "bn2").reshape(len(x), -1)
    return norm(flat @ state["fc.weight"].T + state["fc.bias"], "features")


@pytest.fixture(scope="module")
def arcface() -> IResNet:
    return randomised(IResNet(DEPTHS, WIDTHS, 32, 7))  # type: ignore[return-value]


def test_an_arcface_checkpoint_of_any_size_gives_what_its_description_says(arcface, tmp_path):
    path = tmp_path / "backbone.pth"
    torch.save({f"module.{k}": v for k, v in arcface.state_dict().items()}, path)
    encoder = load_identity_encoder(path)
    assert (encoder.size, encoder.dimensions) == (32, 7)
    assert isinstance(encoder, IdentityEncoder)
    faces = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    state = {k: v.double().numpy() for k, v in arcface.state_dict().items() if v.is_floating_point()}
    expected = arcface_by_hand(state, faces.double().numpy() * 2 - 1)
    np.testing.assert_allclose(encoder(faces).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_the_published_depths_and_widths_are_recognised():
    from tokenface.identity.iresnet import build_iresnet

    with torch.device("meta"):
        network = IResNet((3, 4, 14, 3), (64, 64, 128, 256, 512), 112, 512)
    state = {k: torch.zeros(v.shape) for k, v in network.state_dict().items()}
    built = build_iresnet(state)
    assert (built.size, built.dimensions, len(built.layer3)) == (112, 512, 14)
    assert sum(p.numel() for p in built.parameters()) == pytest.approx(43.59e6, rel=1e-3)


def test_a_pickle_with_code_in_it_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("executed",))

    path = tmp_path / "evil.pth"
    torch.save({"fc.weight": Bomb()}, path)
    with pytest.raises(CheckpointError, match="plain tensors"):
        load_identity_encoder(path)


def test_other_networks_and_missing_tensors_are_refused(arcface, tmp_path):
    torch.save({"conv1.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="no ArcFace iresnet"):
        load_identity_encoder(tmp_path / "other.pth")
    state = arcface.state_dict()
    del state["layer2.0.bn2.running_var"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"layer2\.0\.bn2\.running_var"):
        load_identity_encoder(tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match="no identity encoder at"):
        load_identity_encoder(tmp_path / "absent.pth")


def write_onnx(arcface: IResNet, path, own_normalisation: bool = False):
    """The same network as an ONNX file in the operators that insightface's exports use."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    state = {k: v.numpy() for k, v in arcface.state_dict().items() if v.is_floating_point()}
    constants = {k: (v.reshape(-1, 1, 1) if k.endswith("prelu.weight") else v) for k, v in state.items()}
    nodes, last = [], "picture"

    def add(kind, inputs, **attributes):
        nonlocal last
        last = f"value{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [last], **attributes))
        return last

    def norm(x, name):
        return add(
            "BatchNormalization",
            [x, *(f"{name}.{k}" for k in ("weight", "bias", "running_mean", "running_var"))],
            epsilon=1e-5,
        )

    def conv(x, name, stride, kernel):
        pad = kernel // 2
        return add(
            "Conv",
            [x, name],
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=1,
            dilations=[1, 1],
        )

    x = "picture"
    if own_normalisation:
        constants |= {"mean": np.array(127.5, np.float32), "factor": np.array(1 / 128, np.float32)}
        x = add("Mul", [add("Sub", [x, "mean"]), "factor"])
    x = add("PRelu", [norm(conv(x, "conv1.weight", 1, 3), "bn1"), "prelu.weight"])
    for stage in range(1, 5):
        for unit in range(DEPTHS[stage - 1]):
            name, stride = f"layer{stage}.{unit}", 2 if unit == 0 else 1
            inner = norm(conv(norm(x, f"{name}.bn1"), f"{name}.conv1.weight", 1, 3), f"{name}.bn2")
            inner = conv(add("PRelu", [inner, f"{name}.prelu.weight"]), f"{name}.conv2.weight", stride, 3)
            inner = norm(inner, f"{name}.bn3")
            if unit == 0:
                x = norm(conv(x, f"{name}.downsample.0.weight", stride, 1), f"{name}.downsample.1")
            x = add("Add", [inner, x])
    x = add("Gemm", [add("Flatten", [norm(x, "bn2")], axis=1), "fc.weight", "fc.bias"], transB=1)
    norm(x, "features")
    graph = helper.make_graph(
        nodes,
        "arcface",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", 7])],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return model


@pytest.mark.parametrize("own_normalisation", [False, True])
def test_an_onnx_network_gives_what_the_reference_evaluator_gives(arcface, tmp_path, own_normalisation):
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    model = write_onnx(arcface, tmp_path / "arcface.onnx", own_normalisation)
    encoder = load_identity_encoder(tmp_path / "arcface.onnx")
    assert (encoder.size, encoder.dimensions) == (32, 7)
    faces = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    scaled = faces * 255 if own_normalisation else faces * 2 - 1
    expected = ReferenceEvaluator(model).run(None, {"picture": scaled.numpy()})[0]
    np.testing.assert_allclose(encoder(faces).numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["pth", "onnx"])
def test_gradients_reach_the_picture_and_agree_with_finite_differences(arcface, tmp_path, kind):
    path = tmp_path / f"arcface.{kind}"
    if kind == "onnx":
        write_onnx(arcface, path)
    else:
        torch.save(arcface.state_dict(), path)
    encoder = load_identity_encoder(path).double()  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(2)
    faces = torch.rand(1, 3, 32, 32, generator=generator, dtype=torch.float64).requires_grad_(True)
    direction = torch.randn(faces.shape, generator=generator, dtype=torch.float64)
    encoder(faces).sum().backward()
    step = 1e-6
    with torch.no_grad():
        numeric = (encoder(faces + step * direction).sum() - encoder(faces - step * direction).sum()) / (2 * step)
    torch.testing.assert_close((faces.grad * direction).sum(), numeric, rtol=1e-3, atol=1e-4)
    assert not any(p.requires_grad for p in encoder.parameters())


def test_an_onnx_with_an_unknown_operator_says_which(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "soft.onnx"))
    with pytest.raises(CheckpointError, match="'Softmax'"):
        load_identity_encoder(tmp_path / "soft.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match="no readable ONNX"):
        load_identity_encoder(tmp_path / "noise.onnx")


def test_best_similarity_recovers_a_known_one():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(3, 5, 2, generator=generator, dtype=torch.float64)
    a, b = torch.tensor([0.5, 1.2, 2.0]), torch.tensor([0.3, -0.7, 0.1])
    linear = torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], 1).double()
    target = source @ linear.transpose(1, 2) + torch.tensor([0.4, -1.0], dtype=torch.float64)
    found = best_similarity(source, target)
    torch.testing.assert_close(found[:, :, :2], linear)
    torch.testing.assert_close(found[:, :, 2], torch.tensor([[0.4, -1.0]], dtype=torch.float64).expand(3, 2))


@pytest.mark.parametrize("size", [224, 320, 100])
def test_aligned_faces_bring_the_five_points_to_arcfaces_template(size):
    """Five blobs on a turned, shrunk face must arrive at the template's pixels."""
    angle, scale = 0.3, 0.7
    linear = scale * torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).float()
    points5 = template_ndc() @ linear.T + 0.05
    landmarks = torch.zeros(1, 68, 2)
    for indices, point in zip((range(36, 42), range(42, 48), [30], [48], [54]), points5, strict=True):
        landmarks[0, list(indices)] = point
    centres = (torch.arange(size) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    image = torch.zeros(1, 3, size, size)
    for point in points5:
        image += torch.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 0.04**2))
    crop = aligned_faces(image, landmarks, 112)[0, 0]
    pixels = torch.arange(112.0)
    for px, py in TEMPLATE112:
        window = torch.exp(-((pixels[None] - px) ** 2 + (pixels[:, None] - py) ** 2) / (2 * 4.0**2)) * crop
        found_x, found_y = (window * pixels[None]).sum() / window.sum(), (window * pixels[:, None]).sum() / window.sum()
        assert float(found_x) == pytest.approx(px, abs=0.15)
        assert float(found_y) == pytest.approx(py, abs=0.15)


def test_contrastive_loss_by_hand():
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    identity = torch.tensor([0, 0, 1])
    unit_loss = []
    for anchor, positive, negative in ((0, 1, 2), (1, 0, 2)):
        p = (F.cosine_similarity(features[anchor], features[positive], dim=0) - 0.2) / 0.5
        n = F.cosine_similarity(features[anchor], features[negative], dim=0) / 0.5
        unit_loss.append(-torch.log(p.exp() / (p.exp() + n.exp())))
    torch.testing.assert_close(contrastive_loss(features, identity, 0.2, 0.5), torch.stack(unit_loss).mean())


def test_the_small_encoder_fits_ten_megabytes_and_comes_back_from_its_file(tmp_path):
    config = SmallEncoderConfig()
    encoder = SmallEncoder(config).eval()
    path = tmp_path / "own.safetensors"
    save_small_encoder(path, encoder, {"licence": "test"})
    assert path.stat().st_size < 10e6
    loaded = load_identity_encoder(path, dimensions=256)
    faces = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded(faces), encoder(faces * 2 - 1), rtol=0.05, atol=0.02)
    with pytest.raises(CheckpointError, match="256 numbers"):
        load_identity_encoder(path, dimensions=512)


@pytest.mark.slow
def test_a_resumed_trainer_ends_with_the_weights_of_one_that_was_never_stopped(tmp_path):
    from tokenface.identity.train import train_identity

    tiny = (
        "encoder.size=32",
        "encoder.widths=[8, 8, 16, 16]",
        "encoder.depths=[0, 0, 0]",
        "encoder.dimensions=16",
        "people=4",
        "pictures=2",
        "render_size=64",
        "held_out_people=6",
        "warmup_steps=1",
        "checkpoint_every=2",
        "log_every=1",
        "learning_rate=0.003",
    )
    lines: list[str] = []
    stopped, whole = f"folder={tmp_path / 'stopped'}", f"folder={tmp_path / 'whole'}"
    train_identity(None, (*tiny, stopped, "steps=2", "schedule_steps=4"), lines.append)
    path = train_identity(None, (*tiny, stopped, "steps=4"), lines.append)
    steps = [line.split()[1] for line in lines if line.startswith("step")]
    assert steps == ["1/2", "2/2", "3/4", "4/4"]  # the second run went on at 3
    unbroken = train_identity(None, (*tiny, whole, "steps=4"), lambda line: None)
    faces = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(load_identity_encoder(path)(faces), load_identity_encoder(unbroken)(faces))
