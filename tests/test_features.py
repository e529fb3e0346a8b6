"""Runs over what a frozen beginning has read once, and the scale of `tokenface ablate` that is made of them."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tokenface.data.synthetic import SyntheticFaces
from tokenface.errors import ConfigError
from tokenface.head.registry import load_head
from tokenface.network.config import NetworkConfig
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import ComponentSizes
from tokenface.training.ablation import ablate
from tokenface.training.ablation_tables import SCALES, TABLES
from tokenface.training.features import frozen_prefixes, hash_of_frozen
from tokenface.training.run import train

SIZES = ComponentSizes(shape=5, expression=4, texture=3)
SMALL = [
    "network.backbone=vit_tiny_stem", "network.image_size=64", "network.token_entry=4", "features.rendered=32",
    "features.photos=32", "synthetic.warm_start=32", "synthetic.ring=512", "synthetic.fresh_per_step=0", "run.steps=2",
    "run.batch=8", "run.threads=1", "run.validation_people=1", "run.validation_photos=6", "photos.share=0.5",
    "photos.held_out_people=3", "optimiser.warmup_steps=1", "run.checkpoint_every=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A tar of twelve rendered pictures of six people with their points."""
    path = tmp_path_factory.mktemp("photos") / "photos.tar"
    batch = SyntheticFaces(load_head("openhead"), 64).sample(12, seed=5, images_per_identity=2)
    with tarfile.open(path, "w") as archive:
        for i in range(12):
            buffer = io.BytesIO()
            picture = (batch.image[i].permute(1, 2, 0) * 255).byte().numpy()
            Image.fromarray(picture).save(buffer, "PNG")
            points = ((batch.landmarks68[i] + 1) * 32).tolist()
            label = json.dumps({"identity": str(i // 2), "landmarks68": points}).encode()
            for name, data in ((f"{i}.png", buffer.getvalue()), (f"{i}.json", label)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def test_what_is_read_before_the_tokens_gives_the_whole_networks_answer():
    model = TokenFace(NetworkConfig(backbone="vit_tiny_stem", image_size=64, token_entry=3), SIZES, seed=0).eval()
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        read = model.backbone.before_tokens(images)
        whole = model(images)
        for name, value in model(read).items():
            torch.testing.assert_close(value, getattr(whole, name), rtol=1e-4, atol=1e-5)
        model.component_tokens.normal_()
        assert torch.equal(model.backbone.before_tokens(images), read)
        assert not torch.allclose(model(images).shape, whole.shape)


def test_the_beginning_is_what_stands_before_the_tokens_and_no_more():
    deep = NetworkConfig(backbone="vit_tiny_deep_stem_s3", image_size=96, token_entry=2)
    model = TokenFace(deep, SIZES, seed=0)
    assert frozen_prefixes(model) == ("backbone.patch_embed", "backbone.blocks.0", "backbone.blocks.1")
    before = hash_of_frozen(model)
    with torch.no_grad():
        model.backbone.blocks[11].mlp.fc1.weight.add_(1)  # 11 begins with a 1, too
    assert hash_of_frozen(model) == before
    with torch.no_grad():
        model.backbone.blocks[1].mlp.fc1.weight.add_(1)
    assert hash_of_frozen(model) != before
    with pytest.raises(ConfigError, match=r"token_entry must be 0 to 5"):
        TokenFace(NetworkConfig(backbone="vit_tiny_stem", image_size=64, token_entry=6), SIZES)


def test_a_run_over_features_leaves_the_beginning_alone_and_reads_once(tmp_path, photos):
    changes = [*SMALL, f"photos.tar={photos}", f"run.folder={tmp_path}", f"features.folder={tmp_path / 'read'}"]
    first = load_file(train(None, [*changes, "run.name=a"], report=lambda _: None))
    files = sorted((tmp_path / "read").glob("*.safetensors"))
    assert [path.name.split("-")[0] for path in files] == ["photos", "rendered"]
    written = [path.stat().st_mtime_ns for path in files]
    slower = [*changes, "run.name=b", "optimiser.learning_rate=1e-5"]
    second = load_file(train(None, slower, report=lambda _: None))
    assert [path.stat().st_mtime_ns for path in files] == written
    train(None, [*changes, "run.name=c", "run.seed=1"], report=lambda _: None)  # with another fresh beginning
    assert len(list((tmp_path / "read").glob("*.safetensors"))) == 4
    beginning = [name for name in first if name.startswith(("backbone.patch_embed", "backbone.blocks.3"))]
    assert beginning
    fresh = TokenFace(NetworkConfig(backbone="vit_tiny_stem", image_size=64, token_entry=4), SIZES, seed=0)
    for name in beginning:
        torch.testing.assert_close(first[name].float(), fresh.state_dict()[name].half().float())
    assert not torch.equal(first["backbone.blocks.5.mlp.fc1.weight"], second["backbone.blocks.5.mlp.fc1.weight"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("network.token_entry=0", "network.token_entry"),
        ("network.surface_cells=2", "network.surface_cells"),
        ("teaching.every=2", "teaching"),
        ("features.photos=0", "features.photos"),
    ],
)
def test_what_cannot_be_read_once_is_refused(tmp_path, photos, change, reason):
    changes = [*SMALL, f"photos.tar={photos}", f"run.folder={tmp_path}", change]
    with pytest.raises(ConfigError, match=reason):
        train(None, changes, report=lambda _: None)


def test_known_faces_measures_components_and_shares_the_usual_row(tmp_path, photos, monkeypatch):
    scale = replace(SCALES["known-faces"], held_out=2, components=6, pairs=2)
    monkeypatch.setitem(SCALES, "known-faces", scale)
    rows = [row for row in TABLES["tokens"].rows if row.name == "6 tokens"]  # the one that both tables have
    monkeypatch.setitem(TABLES, "tokens", replace(TABLES["tokens"], rows=tuple(rows)))
    changes = [*SMALL, "backbone_weights=null", f"photos.tar={photos}"]
    options = {"scale": "known-faces", "seeds": 1, "overrides": changes}
    said: list[str] = []
    path = ablate("tokens", tmp_path, **options, report=said.append)
    six = json.loads((path.parent / "results.json").read_text())["runs"]["6 tokens"]["0"]
    assert six["leak"] > 0
    assert six["expression → shape"] > 0
    assert six["photo points %"] > 1
    assert "leak of expression" in path.read_text()
    path = ablate("data", tmp_path, **options, report=said.append)
    runs = json.loads((path.parent / "results.json").read_text())["runs"]
    assert runs["2D and 3D"]["0"] == six
    assert runs["2D"]["0"]["mean"] != runs["3D"]["0"]["mean"]
    assert any("2D-and-3D-seed0 is tokens-known-faces/6-tokens-seed0" in line for line in said)
    assert not any("2D-seed0 is" in line for line in said)


def test_known_faces_wants_photos_and_has_no_table_of_the_papers_objective(tmp_path):
    with pytest.raises(ConfigError, match=r"photos\.tar=FILE"):
        ablate("tokens", tmp_path, scale="known-faces", report=lambda _: None)
    with pytest.raises(ConfigError, match="tokens, data, pose-aware, not 'weights'"):
        ablate("weights", tmp_path, scale="known-faces", report=lambda _: None)
