"""TokenFace: layouts, heads, initialisation, first gradients, precision, export."""

from __future__ import annotations

import math

import pytest
import torch
from toy_head import toy_head_data

from tokenface.errors import ConfigError
from tokenface.head.model import HeadModel
from tokenface.network import COMPONENTS, ComponentSizes, FaceParameters, NetworkConfig, TokenFace, mean_camera
from tokenface.network.backbone import BACKBONES, list_backbones
from tokenface.render.shading import AMBIENT, sh_shading

SIZES = ComponentSizes(shape=20, expression=12, texture=5)
SMALL = NetworkConfig(backbone="vit_tiny_stem", image_size=64)
PLAIN = NetworkConfig(backbone="vit_tiny_patch16", image_size=32)
LAYOUT_OF_TABLE_4 = {1: ["SEJCTL"], 3: ["SEJC", "T", "L"], 5: ["SE", "J", "C", "T", "L"], 6: list("SEJCTL")}
LETTER = dict(zip("SEJCTL", COMPONENTS, strict=True))


def images(batch: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [1, 3, 5, 6])
def test_each_component_is_read_from_the_token_table_4_gives_it(count):
    model = TokenFace(SMALL.replace(tokens=count), SIZES, seed=0).eval()
    with torch.no_grad():
        tokens = model.tokens(images(1, 64))
        assert tokens.shape == (1, count, 192)
        before = model.heads(tokens)[0]
        for index, letters in enumerate(LAYOUT_OF_TABLE_4[count]):
            changed = tokens.clone()
            changed[:, index] += torch.randn(192, generator=torch.Generator().manual_seed(1))
            after = model.heads(changed)[0]
            moved = {n for (n, a), (_, b) in zip(before.items(), after.items(), strict=True) if not torch.equal(a, b)}
            assert moved == {LETTER[letter] for letter in letters}


@pytest.mark.parametrize("count", [1, 3, 5, 6])
def test_layouts_differ_by_their_tokens_alone(count):
    def parameters(tokens: int) -> int:
        return sum(p.numel() for p in TokenFace(SMALL.replace(tokens=tokens), SIZES, seed=0).parameters())

    assert parameters(count) - parameters(1) == (count - 1) * 192


def test_size_of_the_papers_network():
    flame = ComponentSizes(shape=300, expression=100, texture=50)
    with torch.device("meta"):
        config = NetworkConfig(backbone="vit_base_patch16", image_size=224, landmark_uncertainty=False)
        model = TokenFace(config, flame)
    # ViT-B/16 of CLIP without its projection, six tokens of 768, and FCs to 487 numbers
    vit = 768 * 3 * 16**2 + 768 + 197 * 768 + 4 * 768 + 12 * (12 * 768**2 + 13 * 768)
    assert sum(p.numel() for p in model.parameters()) == vit + 6 * 768 + 487 * 769


@pytest.mark.parametrize("size", [128, 160, 192, 224])
@pytest.mark.parametrize("name", [n for n in BACKBONES if "stem" in n])
def test_stem_backbones_take_their_sizes(name, size):
    stride = 24 if name.endswith("_s3") else 16
    config = NetworkConfig(backbone=name, image_size=size)
    if size % stride:
        with pytest.raises(ConfigError, match=f"multiple of {stride}"):
            TokenFace(config, SIZES)
        return
    model = TokenFace(config, SIZES)
    with torch.no_grad():
        features = model.backbone(images(1, size), model.component_tokens)
    assert features.patches.shape[1] == (size // stride) ** 2
    assert features.tokens.shape[1] == 6


@pytest.mark.parametrize("backbone", ["resnet50", "vit_tiny_patch16"])
def test_baselines_of_table_1_read_everything_from_one_global_vector(backbone):
    config = NetworkConfig(backbone=backbone, image_size=64, readout="global", tokens=1)
    model = TokenFace(config, SIZES, seed=0).eval()
    out = model.forward_with_extras(images(2, 64))
    assert out.tokens.shape == (2, 1, model.backbone.width)
    assert out.parameters.shape.shape == (2, 20)
    assert not [n for n, _ in model.named_parameters() if "component_tokens" in n]


def test_impossible_networks_are_refused():
    for broken, message in (
        ({"backbone": "vit_huge"}, "unknown; choose one of"),
        ({"backbone": "resnet50"}, "has no tokens"),
        ({"image_size": 100}, "multiple of 16"),
    ):
        with pytest.raises(ConfigError, match=message):
            TokenFace(NetworkConfig.from_dict(broken), SIZES)
    for broken, message in (
        ({"tokens": 4}, "one of"),
        ({"tokens": 3, "readout": "global"}, "set network.tokens to 1"),
        ({"camera_mean": [0.0] * 7}, "s > 0"),
        ({"image_size": 10**6}, "1024"),
        ({"backbones": "x"}, "backbone"),
        ({"token_std": "much"}, "token_std"),
    ):
        with pytest.raises(ConfigError, match=message):
            NetworkConfig.from_dict(broken)


def test_configuration_survives_plain_values():
    config = NetworkConfig(tokens=5, camera_mean=(9.0, 0, 0, 0, 0.1, -0.2, 0), expression_mean=(0.1,) * 12)
    assert NetworkConfig.from_dict(config.to_dict()) == config


def test_heads_that_say_nothing_give_the_mean_head_in_ambient_light():
    expression = tuple(i / 20 for i in range(12))
    camera = (8.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.0)
    model = TokenFace(SMALL.replace(expression_mean=expression, camera_mean=camera), SIZES, seed=0)
    for layer in model.heads.fc.values():
        torch.nn.init.zeros_(layer.weight)
    face = model(images(2, 64))
    assert torch.equal(face.camera, torch.tensor(camera).expand(2, -1))
    assert torch.equal(face.expression, torch.tensor(expression).expand(2, -1))
    assert not face.shape.any()
    assert not face.jaw.any()
    assert not face.texture.any()
    normals = torch.nn.functional.normalize(torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    torch.testing.assert_close(sh_shading(normals, face.light.view(2, 9, 3)), torch.ones(2, 50, 3))
    assert math.isclose(SMALL.ambient_light, AMBIENT)


def test_fresh_network_starts_near_the_mean_head_with_order_one_spread():
    face = TokenFace(SMALL, SIZES, seed=0).eval()(images(8, 64))
    assert 0.1 < face.shape.std() < 1.5
    assert face.camera[:, 1:4].abs().max() < 1.5
    assert ((face.camera[:, 0] / SMALL.camera_mean[0]) - 1).abs().max() < 1


def test_mean_camera_frames_the_mean_head_as_the_crop_protocol():
    head = HeadModel(toy_head_data())
    landmarks = head.landmarks68(head().vertices)[0]
    from tokenface.geometry.camera import Camera

    points = Camera.from_vector(torch.tensor([mean_camera(landmarks, 1.375)])).project(landmarks[None])[0, :, :2]
    low, high = points.amin(0), points.amax(0)
    torch.testing.assert_close((low + high) / 2, torch.zeros(2), atol=1e-5, rtol=0)
    assert math.isclose(float((high - low).mean()), 2 / 1.375, rel_tol=1e-5)


def test_one_seed_gives_one_network_and_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    a, b, c = (TokenFace(SMALL, SIZES, seed=s).state_dict() for s in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


def first_gradients(model: TokenFace) -> tuple[torch.Tensor, FaceParameters]:
    face = model(images(2, 32))
    sum(value.square().sum() for _, value in face.items()).backward()
    return model.component_tokens.grad, face


def similarity(gradient: torch.Tensor) -> float:
    """The largest cosine between the gradients of two tokens."""
    directions = torch.nn.functional.normalize(gradient.double(), dim=1)
    return float((directions @ directions.T)[~torch.eye(len(gradient), dtype=torch.bool)].max())


def token_spread(model: TokenFace) -> float:
    """How far apart the tokens come out of the network, relative to their size."""
    with torch.no_grad():
        tokens = model.tokens(images(2, 32))
    return float((tokens - tokens.mean(dim=1, keepdim=True)).norm() / tokens.norm())


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16", "vit_tiny_stem"])
def test_first_gradients_of_the_papers_zero_tokens_are_finite_and_part_the_tokens(backbone):
    config = NetworkConfig(backbone=backbone, image_size=32, token_std=0.0)
    model = TokenFace(config, SIZES, seed=0)
    assert not model.component_tokens.any()
    gradient, _ = first_gradients(model)
    # LayerNorm at zero variance divides by √eps alone: large, but finite
    assert torch.isfinite(gradient).all()
    assert (gradient.norm(dim=1) > 0).all()
    # equal tokens get equal features; only their heads' gradients tell them apart
    assert token_spread(model) < 1e-5
    assert similarity(gradient) < 1 - 1e-5
    optimiser = torch.optim.Adam(model.parameters(), 1e-4)
    optimiser.step()
    assert token_spread(model) > 1e-3


def test_a_position_per_token_parts_zero_tokens_before_the_first_step_and_tames_their_gradient():
    zero = TokenFace(PLAIN.replace(token_std=0.0), SIZES, seed=0)
    placed = TokenFace(PLAIN.replace(token_std=0.0, token_positions=True), SIZES, seed=0)
    assert token_spread(placed) > 100 * token_spread(zero)
    together, apart = first_gradients(zero)[0], first_gradients(placed)[0]
    assert apart.norm() < together.norm() / 2
    assert similarity(apart) < similarity(together)


def test_every_weight_is_reached_by_the_first_gradient():
    model = TokenFace(SMALL.replace(token_positions=True), SIZES, seed=0)
    out = model.forward_with_extras(images(4, 64))
    (sum(v.square().sum() for _, v in out.parameters.items()) + out.log_sigma.sum()).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # a residual block starts as the identity: the branch behind its zero norm waits for one step
    assert all("first" in n or "second.0" in n for n in still), still


def test_tokens_see_the_patches_and_patches_see_the_tokens():
    model = TokenFace(PLAIN, SIZES, seed=0).eval()
    picture = images(1, 32)
    changed = picture.clone()
    changed[..., :8, :8] = 1 - changed[..., :8, :8]
    assert ((model.tokens(picture) - model.tokens(changed)).abs().amax(dim=-1) > 1e-4).all()
    with torch.no_grad():
        alone = model.backbone(picture).patches
        together = model.backbone(picture, model.component_tokens).patches
    assert (alone - together).abs().max() > 1e-3


def test_answer_for_a_face_does_not_depend_on_its_batch_even_in_training():
    model = TokenFace(SMALL, SIZES, seed=0).train()
    batch = images(4, 64)
    torch.testing.assert_close(model(batch).camera[:1], model(batch[:1]).camera, atol=1e-4, rtol=1e-4)


def test_bfloat16_blocks_keep_float32_outputs_near_the_full_precision_ones():
    model = TokenFace(SMALL, SIZES, seed=0).eval()
    with torch.no_grad():
        exact = model.forward_with_extras(images(2, 64))
        with torch.autocast("cpu", torch.bfloat16):
            rough = model.forward_with_extras(images(2, 64))
    assert {v.dtype for _, v in rough.parameters.items()} | {rough.log_sigma.dtype} == {torch.float32}
    torch.testing.assert_close(rough.parameters.camera, exact.parameters.camera, atol=0.15, rtol=0.03)


def test_uncertainty_starts_at_its_mean_and_is_optional():
    out = TokenFace(SMALL, SIZES, seed=0).forward_with_extras(images(2, 64))
    assert out.log_sigma.shape == (2, 68)
    assert (out.log_sigma == SMALL.log_sigma_mean).all()
    without = TokenFace(SMALL.replace(landmark_uncertainty=False), SIZES, seed=0)
    assert without.forward_with_extras(images(2, 64)).log_sigma is None


def test_head_model_without_albedo_has_an_empty_texture():
    face = TokenFace(SMALL, ComponentSizes(shape=4, expression=3, texture=0), seed=0)(images(2, 64))
    assert face.texture.shape == (2, 0)


def test_weight_decay_spares_tokens_norms_and_biases():
    model = TokenFace(PLAIN.replace(token_positions=True), SIZES, seed=0)
    hidden, heads, spared = model.parameter_groups(0.05)
    assert sum(len(g["params"]) for g in (hidden, heads, spared)) == len(list(model.parameters()))
    ids = {id(p) for p in spared["params"]}
    assert {id(model.component_tokens), id(model.token_positions), id(model.backbone.pos_embed)} <= ids
    assert spared["weight_decay"] == 0
    assert hidden["weight_decay"] == heads["weight_decay"] == 0.05


def test_only_matrices_inside_the_backbone_are_orthogonalised():
    model = TokenFace(PLAIN, SIZES, seed=0)
    hidden, heads, spared = model.parameter_groups(0.05)
    assert hidden["muon"]
    assert not heads["muon"]
    assert not spared["muon"]
    assert all(p.dim() > 1 for p in hidden["params"])
    assert id(model.backbone.blocks[0].mlp.fc1.weight) in {id(p) for p in hidden["params"]}
    assert id(model.heads.fc["shape"].weight) in {id(p) for p in heads["params"]}


def test_drop_path_is_for_training_only():
    model = TokenFace(SMALL.replace(drop_path=0.5), SIZES, seed=0)
    batch = images(2, 64)
    model.train()
    assert not torch.equal(model(batch).camera, model(batch).camera)
    model.eval()
    assert torch.equal(model(batch).camera, model(batch).camera)


def test_exports_as_a_graph_with_a_free_batch_size():
    model = TokenFace(SMALL, SIZES, seed=0).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (images(2, 64),), dynamic_shapes=({0: batch},))
    exported, expected = program.module()(images(3, 64, 1)), model(images(3, 64, 1))
    for (name, a), (_, b) in zip(exported.items(), expected.items(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4, msg=name)


def test_every_backbone_is_listed():
    assert {"vit_base_patch16", "vit_tiny_stem", "vit_small_stem", "resnet50"} <= set(list_backbones())
