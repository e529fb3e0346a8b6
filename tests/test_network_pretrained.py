"""Other people's ViT weights: equal features against independent implementations, safe reading, other sizes."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from tokenface.core.tensors import read_state_dict
from tokenface.errors import CheckpointError
from tokenface.network.backbone import BACKBONES, CLIP_MEAN, CLIP_STD, VisionTransformer, create_backbone
from tokenface.network.pretrained import load_pretrained, resample_positions

SIZE, DEPTH = 48, 2  # a 3 × 3 grid and two blocks keep ViT-B quick; nothing depends on them


@pytest.fixture(scope="module")
def clip():
    """timm's CLIP ViT-B/16 with random weights and norms that are not the identity, two blocks deep."""
    torch.manual_seed(0)
    model = timm.create_model("vit_base_patch16_clip_quickgelu_224", img_size=SIZE, depth=DEPTH, num_classes=0).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.05)
    return model


def test_a_resnet_starts_from_its_users_file(tmp_path):
    """torchvision's names, as timm has them, with a classifier and without the counters of old files."""
    torch.manual_seed(2)
    source = timm.create_model("resnet50", num_classes=10).eval()
    state = {f"module.{k}": v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": state}, tmp_path / "resnet50.pth")
    backbone = create_backbone("resnet50", 64).eval()
    left = load_pretrained(backbone, tmp_path / "resnet50.pth")
    assert sorted(left) == ["body.fc.bias", "body.fc.weight"]
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = source.forward_features((images - backbone.mean) / backbone.std).mean((2, 3))
        torch.testing.assert_close(backbone(images).pooled, wanted, rtol=1e-4, atol=1e-5)
    save_file(create_backbone("vit_tiny_stem", 64).state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(CheckpointError, match="expected the weights of a ResNet-50"):
        load_pretrained(backbone, tmp_path / "vit.safetensors")


@pytest.fixture(scope="module")
def picture():
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def expected(clip, picture):
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (CLIP_MEAN, CLIP_STD))
    with torch.no_grad():
        return clip.forward_features((picture - mean) / std)


def clip_backbone(size: int = SIZE) -> VisionTransformer:
    return VisionTransformer(replace(BACKBONES["vit_base_patch16"], depth=DEPTH), size).eval()


def clip_state(model) -> dict[str, torch.Tensor]:
    """The names of OpenAI's CLIP, from timm's; written apart from the code under test."""
    state = {}
    for key, value in model.state_dict().items():
        key = key.replace("patch_embed.proj", "conv1").replace("norm_pre", "ln_pre")
        if key.startswith("blocks."):
            key = "transformer.res" + key.replace("norm", "ln_")
            key = key.replace("qkv.", "in_proj_").replace("attn.proj", "attn.out_proj")
            key = key.replace("fc1", "c_fc").replace("fc2", "c_proj")
        elif key.startswith("norm."):
            key = "ln_post" + key[4:]
        elif key == "cls_token":
            key, value = "class_embedding", value[0, 0]
        elif key == "pos_embed":
            key, value = "positional_embedding", value[0]
        state["visual." + key] = value
    state["visual.proj"] = torch.zeros(768, 512)
    state["token_embedding.weight"] = torch.zeros(4, 512)
    return state


def features(path, picture) -> torch.Tensor:
    backbone = clip_backbone()
    load_pretrained(backbone, path)
    with torch.no_grad():
        out = backbone(picture)
    return torch.cat([out.pooled[:, None], out.patches], dim=1)


@pytest.mark.parametrize("kind", ["farl", "clip_half", "open_clip_ddp", "timm"])
def test_clip_family_weights_give_the_features_of_an_independent_implementation(
    kind, clip, picture, expected, tmp_path
):
    path = tmp_path / "weights.pth"
    if kind == "farl":
        torch.save({"state_dict": clip_state(clip), "epoch": 64}, path)
    elif kind == "clip_half":
        torch.save({k: v.half() for k, v in clip_state(clip).items()}, path)
    elif kind == "open_clip_ddp":
        torch.save({"state_dict": {f"module.{k}": v for k, v in clip_state(clip).items()}}, path)
    else:
        path = path.with_suffix(".safetensors")
        save_file(clip.state_dict(), path)
    tolerance = 2e-2 if kind == "clip_half" else 1e-4
    torch.testing.assert_close(features(path, picture), expected, atol=tolerance, rtol=1e-3)


def test_hugging_face_clip_gives_the_features_of_transformers(picture, tmp_path):
    transformers = pytest.importorskip("transformers", reason="an optional second reference")
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=DEPTH, num_attention_heads=12,
        image_size=SIZE, patch_size=16, hidden_act="quick_gelu",
    )  # fmt: skip
    reference = transformers.CLIPVisionModel(config).eval()
    path = tmp_path / "model.safetensors"
    save_file({f"vision_model.{k.removeprefix('vision_model.')}": v for k, v in reference.state_dict().items()}, path)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (CLIP_MEAN, CLIP_STD))
    with torch.no_grad():
        out = reference(pixel_values=(picture - mean) / std)
    actual = features(path, picture)
    torch.testing.assert_close(actual[:, 0], out.pooler_output, atol=1e-4, rtol=1e-3)


def test_hugging_face_names_give_the_features_of_clip_names(clip, picture, expected, tmp_path):
    state = {}
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj"}
    names |= {"c_fc": "fc1", "c_proj": "fc2", "transformer.resblocks": "encoder.layers"}
    names |= {"conv1": "embeddings.patch_embedding", "class_embedding": "embeddings.class_embedding"}
    names |= {"positional_embedding": "embeddings.position_embedding.weight"}
    names |= {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}
    for key, value in clip_state(clip).items():
        key = key.removeprefix("visual.")
        for old, new in names.items():
            key = key.replace(old, new)
        if "attn.in_proj_" in key:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                state["vision_model." + key.replace("attn.in_proj_", f"self_attn.{name}_proj.")] = part.clone()
        elif "embedding" in key or "layer" in key or "norm" in key:
            state["vision_model." + key] = value
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    torch.testing.assert_close(features(path, picture), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("ours", "theirs"), [("vit_tiny_patch16", "vit_tiny_patch16_224")])
def test_plain_vits_are_timms(ours, theirs, picture, tmp_path):
    torch.manual_seed(0)
    reference = timm.create_model(theirs, img_size=SIZE, num_classes=10).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    path = tmp_path / "vit.safetensors"
    save_file(reference.state_dict(), path)
    backbone = create_backbone(ours, SIZE).eval()
    assert load_pretrained(backbone, path) == ["head.bias", "head.weight"]
    with torch.no_grad():
        out = backbone(picture)
        expected = reference.forward_features((picture - 0.5) / 0.5)
    torch.testing.assert_close(torch.cat([out.pooled[:, None], out.patches], 1), expected, atol=1e-4, rtol=1e-3)


def test_positions_are_resampled_for_another_size():
    positions = torch.randn(1, 1 + 14 * 14, 32, generator=torch.Generator().manual_seed(0))
    expected = resample_abs_pos_embed(positions, new_size=[9, 9], num_prefix_tokens=1)
    torch.testing.assert_close(resample_positions(positions, 9, prefix=1), expected, atol=1e-5, rtol=1e-5)
    assert resample_positions(positions, 14, prefix=1) is positions


def test_text_tower_is_left_behind_and_named(clip, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(clip_state(clip), path)
    assert load_pretrained(clip_backbone(64), path) == ["proj"]


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the file ran code')",))


def test_files_that_are_no_weights_are_refused_without_running_anything(clip, tmp_path):
    hostile = tmp_path / "hostile.pth"
    hostile.write_bytes(pickle.dumps({"state_dict": Hostile()}))
    with pytest.raises(CheckpointError, match="plain tensors"):
        read_state_dict(hostile)
    torch.save({"visual.class_embedding": Hostile()}, hostile)
    with pytest.raises(CheckpointError, match="plain tensors"):
        read_state_dict(hostile)
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"not weights at all")
    with pytest.raises(CheckpointError, match="no readable safetensors"):
        read_state_dict(garbage)
    for name in ("empty.pth", "text.pth"):
        (tmp_path / name).write_text("" if name == "empty.pth" else "hello, world " * 50)
        with pytest.raises(CheckpointError, match="plain tensors"):
            read_state_dict(tmp_path / name)
    with pytest.raises(CheckpointError, match="no weights at"):
        read_state_dict(tmp_path / "absent.pth")
    program = tmp_path / "clip.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), program)
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_state_dict(program)


def test_damaged_and_hollow_files_are_one_line(tmp_path):
    good = tmp_path / "good.pth"
    torch.save({"visual.class_embedding": torch.zeros(8)}, good)
    content = good.read_bytes()
    directory = content.rindex(b"PK\x01\x02")
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(content[:directory] + b"\0\0\0\0" + content[directory + 4 :])
    with pytest.raises(CheckpointError, match=r"damaged\.pth.*plain tensors") as caught:
        read_state_dict(damaged)
    assert "\n" not in str(caught.value)
    header = json.dumps({"x": {"dtype": "F32", "shape": [50 * 10**9], "data_offsets": [0, 200 * 10**9]}}).encode()
    for name in ("hollow.safetensors", "hollow.pth"):
        with (tmp_path / name).open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + 200 * 10**9)
        with pytest.raises(CheckpointError, match=rf"{name}.*more than the limit"):
            read_state_dict(tmp_path / name)


def test_weights_of_another_kind_or_size_are_refused(clip, tmp_path):
    other = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(3)}, other)
    with pytest.raises(CheckpointError, match="no vision transformer"):
        load_pretrained(clip_backbone(), other)
    path = tmp_path / "clip.pth"
    torch.save(clip_state(clip), path)
    narrow = VisionTransformer(replace(BACKBONES["vit_base_patch16"], width=384, heads=6, depth=DEPTH), SIZE)
    with pytest.raises(CheckpointError, match="where the backbone has"):
        load_pretrained(narrow, path)
    partial = {k: v for k, v in clip_state(clip).items() if "resblocks.1." not in k}
    torch.save(partial, path)
    with pytest.raises(CheckpointError, match=r"lacks 12 of"):
        load_pretrained(clip_backbone(), path)


def test_another_tokenface_lends_its_backbone(tmp_path):
    """Whatever tokens and size it has: both networks' backbones then say the same of a picture."""
    from tokenface.head.registry import load_head
    from tokenface.inference.checkpoint import save_checkpoint
    from tokenface.network.config import NetworkConfig
    from tokenface.network.tokenface import TokenFace

    head = load_head("openhead")
    lender = TokenFace(NetworkConfig(backbone="vit_tiny_stem_s3", image_size=72, tokens=6), head.sizes, seed=3)
    save_checkpoint(tmp_path / "lender.safetensors", lender, head, half=False)
    one_token = NetworkConfig(backbone="vit_tiny_stem_s3", image_size=48, tokens=1)
    borrower = TokenFace(one_token, head.sizes, seed=4)
    left = load_pretrained(borrower.backbone, tmp_path / "lender.safetensors")
    assert "component_tokens" in left
    assert "heads.fc.shape.weight" in left
    at_its_size = TokenFace(one_token.replace(tokens=6), head.sizes, seed=3)
    at_its_size.load_state_dict(lender.state_dict())
    picture = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(borrower.backbone(picture).pooled, at_its_size.backbone(picture).pooled)
