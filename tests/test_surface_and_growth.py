"""The patches' surface map and its truth; networks that grow without changing their answers."""

from __future__ import annotations

import pytest
import torch

from tokenface.errors import ConfigError
from tokenface.geometry.camera import Camera
from tokenface.head.registry import load_head
from tokenface.network import ComponentSizes, FaceParameters, NetworkConfig, TokenFace
from tokenface.network.grow import grown
from tokenface.network.heads import SurfaceMap
from tokenface.training.module import Prediction, TrainingModule
from tokenface.training.objective import SurfaceObjective

SIZES = ComponentSizes(shape=20, expression=12, texture=5)
SMALL = NetworkConfig(backbone="vit_tiny_stem_s3", image_size=72)


@pytest.fixture(scope="module")
def faces():
    """Two heads: the mean one seen from the front, and a person with an open mouth turned by 0.6 rad."""
    head = load_head("openhead")
    sizes = head.sizes
    shape, jaw, camera = torch.zeros(2, sizes.shape), torch.zeros(2, 3), torch.zeros(2, 7)
    shape[1] = torch.randn(sizes.shape, generator=torch.Generator().manual_seed(4))
    jaw[1, 0] = 0.3
    camera[:, 0], camera[1, 2] = 7.0, 0.6
    others = torch.zeros(2, sizes.expression), torch.zeros(2, sizes.texture), torch.zeros(2, 27)
    return head, FaceParameters(shape, others[0], jaw, camera, others[1], others[2])


def test_the_truth_names_the_point_of_the_mean_head_that_is_seen(faces):
    head, parameters = faces
    points, seen = SurfaceObjective(head).truth(parameters, 64, 64)
    mesh = head(parameters.shape, parameters.expression, parameters.jaw)
    camera = Camera.from_vector(parameters.camera)
    places = camera.project(head.landmarks68(mesh.vertices, camera.angles()[:, 0]))
    neutral = head.landmarks68(head.template[None].expand(2, -1, -1), camera.angles()[:, 0])
    for row in range(2):
        for landmark in (30, 33, 27):  # nose, in plain sight in both
            x, y = ((places[row, landmark, :2] + 1) * 32).long().tolist()
            assert seen[row, y, x] == 1
            assert torch.linalg.vector_norm(points[row, :, y, x] - neutral[row, landmark]) < 0.006  # a cell is 4.5 mm
    assert 0.1 < float(seen.mean()) < 0.9
    assert float(points.abs().amax(1)[seen == 0].max()) == 0


def test_the_loss_is_small_at_the_truth_alone(faces):
    head, parameters = faces
    objective = SurfaceObjective(head)
    points, seen = objective.truth(parameters, 24, 24)
    right = torch.cat([points, (seen[:, None] * 2 - 1) * 20], 1)
    assert float(objective(right, parameters).max()) < 1e-6
    other = right.flip(0)
    assert float(objective(other, parameters).min()) > 0.1


def test_cells_of_a_patch_lie_where_the_patch_is():
    surface = SurfaceMap(8, 2)
    patches = torch.zeros(1, 9, 8)
    patches[0, 5] = 1  # second row, third column of a 3 × 3 grid
    drawn = surface(patches)
    assert drawn.shape == (1, 4, 6, 6)
    changed = (drawn != surface(torch.zeros(1, 9, 8))).any(1)[0]
    assert changed[2:4, 4:6].all()
    assert int(changed.sum()) == 4


def test_the_map_is_made_only_when_asked_for_and_teaches_the_backbone():
    model = TokenFace(SMALL.replace(surface_cells=2), SIZES, seed=0)
    images = torch.rand(2, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    assert model.forward_with_extras(images).surface is None
    named = TrainingModule(model)(images)
    assert named["surface"].shape == (2, 4, 6, 6)
    prediction = Prediction.from_named(named)[slice(1, 2)]
    assert prediction.surface is not None
    assert len(prediction.surface) == 1
    prediction.surface.sum().backward()
    assert float(model.backbone.patch_embed.layers[0][0].weight.grad.abs().max()) > 0
    assert TrainingModule(TokenFace(SMALL, SIZES, seed=0))(images).get("surface") is None
    with pytest.raises(ConfigError, match="surface_cells"):
        NetworkConfig(surface_cells=-1)


def test_a_grown_network_answers_as_before_and_its_new_blocks_learn():
    model = TokenFace(SMALL, SIZES, seed=0).eval()
    large = grown(model, SMALL.replace(backbone="vit_tiny_deep_stem_s3", surface_cells=2), seed=1).eval()
    assert (len(model.backbone.blocks), len(large.backbone.blocks)) == (6, 12)
    assert large.config.surface_cells == 2
    images = torch.rand(2, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for (_, before), (_, after) in zip(model(images).items(), large(images).items(), strict=True):
            assert torch.equal(before, after)
    large(images).shape.square().sum().backward()
    for block in large.backbone.blocks[6:]:
        assert float(block.attn.proj.weight.grad.abs().max()) > 0
        assert float(block.mlp.fc2.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("name", ["vit_small_stem_s3", "vit_tiny_patch16"])
def test_a_network_that_does_not_fit_inside_is_refused(name):
    with pytest.raises(ConfigError, match="cannot grow from 'vit_tiny_stem_s3'"):
        grown(TokenFace(SMALL, SIZES, seed=0), NetworkConfig(backbone=name, image_size=144))


def test_a_convolutional_network_cannot_grow():
    convolutional = TokenFace(
        NetworkConfig(backbone="resnet50", image_size=64, readout="global", tokens=1), SIZES, seed=0
    )
    with pytest.raises(ConfigError, match="vision transformers alone"):
        grown(convolutional, NetworkConfig(backbone="resnet50", image_size=64))
