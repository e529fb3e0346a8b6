"""The paper's objective on batches whose truth is known: the true parameters cost nothing but their prior."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_losses_paper import MeanColour, people
from toy_head import toy_head_data

from tokenface.camera import Camera
from tokenface.data.shards.batch import GeometryBatch, RecordBatch
from tokenface.head.model import HeadModel
from tokenface.network.components import FaceParameters
from tokenface.render.renderer import Renderer
from tokenface.training.paper_objective import PaperObjective

SIZE = 32


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel(toy_head_data())


def two_people(head: HeadModel) -> FaceParameters:
    """Six pictures of two people, three each."""
    parameters = people(head, 6)
    return parameters.replace(shape=parameters.shape[[0, 0, 0, 1, 1, 1]])


def batch_of(
    head: HeadModel, parameters: FaceParameters, scans: tuple[int, ...], neutral: tuple[bool, ...]
) -> RecordBatch:
    """Pictures rendered from the parameters, with everything that preparation would know of them."""
    camera = Camera.from_vector(parameters.camera)
    vertices = head(parameters.shape, parameters.expression, parameters.jaw).vertices
    points = camera.project(head.landmarks68(vertices, camera.angles()[:, 0]))[..., :2]
    geometry = None
    if scans:
        rows = torch.tensor(scans)
        rest = torch.tensor(neutral)
        truth = torch.where(rest[:, None, None], head(parameters.shape[rows]).vertices, vertices[rows])
        geometry = GeometryBatch(rows, truth, rest)
    count = len(parameters)
    return RecordBatch(
        image=Renderer(head, "torch").render(parameters, SIZE).image,
        landmarks68=points,
        visible68=torch.ones(count, 68, dtype=torch.bool),
        mask=torch.ones(count, 1, SIZE, SIZE),
        angles=camera.angles(),
        identity=torch.arange(count) // 3,
        geometry=geometry,
        keys=tuple(map(str, range(count))),
        kinds=("photo",) * count,
    )


def test_the_true_parameters_cost_only_their_prior(head):
    parameters = two_people(head)
    batch = batch_of(head, parameters, (0, 1, 3), (False, True, False))
    objective = PaperObjective(head, encoder=MeanColour(), backend="torch", partners=None)
    _, terms = objective(parameters, batch)
    assert set(terms) == {
        *("mesh", "vertex_consistency", "landmarks", "eyelids", "lips"),
        *("photometric", "shape_consistency", "identity", "regularisation"),
    }
    prior = terms.pop("regularisation")
    photos = parameters[torch.tensor([2, 4, 5])]
    squares = sum(getattr(photos, name).square().sum() for name in ("shape", "expression", "texture")) / 3
    torch.testing.assert_close(prior, 1e-4 * squares)
    assert {name: float(value) < 2e-5 for name, value in terms.items()} == dict.fromkeys(terms, True)


@pytest.mark.parametrize(
    ("component", "touched"),
    [
        ("shape", {"mesh", "vertex_consistency", "landmarks", "photometric", "shape_consistency"}),
        ("expression", {"mesh", "landmarks", "eyelids", "lips"}),
        ("camera", {"landmarks", "photometric"}),
        ("texture", {"photometric", "shape_consistency"}),
        ("light", {"photometric", "shape_consistency"}),
    ],
)
def test_every_component_is_held_by_its_terms(head, component, touched):
    parameters = two_people(head)
    batch = batch_of(head, parameters, (0, 1, 3), (False, True, False))
    objective = PaperObjective(head, backend="torch", partners=None)
    wrong = parameters.replace(**{component: getattr(parameters, component) + 0.05})
    _, terms = objective(wrong, batch)
    for name in touched:
        assert float(terms[name]) > 1e-4, name
    if component in ("camera", "texture", "light"):
        assert float(terms["mesh"]) < 1e-5


def test_a_neutral_scan_asks_nothing_of_expression_and_jaw(head):
    parameters = two_people(head)
    batch = batch_of(head, parameters, (0, 1), (True, False))
    expression = parameters.expression.clone().requires_grad_(True)
    jaw = (parameters.jaw + 0.1).requires_grad_(True)
    objective = PaperObjective(head, mode="3d", backend="torch", partners=None)
    moved = parameters.replace(expression=expression + 0.1, jaw=jaw, shape=parameters.shape + 0.1)
    loss, _ = objective(moved, batch)
    loss.backward()
    assert expression.grad is not None
    assert jaw.grad is not None
    assert expression.grad[0].abs().max() == 0
    assert jaw.grad[0].abs().max() == 0
    assert expression.grad[1].abs().max() > 0
    assert expression.grad[2:].abs().max() == 0  # photos take no part in mode 3d


def test_gradients_reach_all_six_components(head):
    parameters = two_people(head)
    batch = batch_of(head, parameters, (0, 3), (False, False))
    leaves = {name: (value + 0.03).requires_grad_(True) for name, value in parameters.items()}
    loss, _ = PaperObjective(head, encoder=MeanColour(), backend="torch")(FaceParameters(**leaves), batch)
    loss.backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad.abs().max() > 0, name


def test_modes_take_what_they_need_and_say_what_is_missing(head):
    parameters = two_people(head)
    photos = batch_of(head, parameters, (), ())
    scans = batch_of(head, parameters, tuple(range(6)), (False,) * 6)
    assert torch.isfinite(PaperObjective(head, backend="torch")(parameters, photos)[0])
    assert torch.isfinite(PaperObjective(head, backend="torch")(parameters, scans)[0])
    assert "mesh" not in PaperObjective(head, mode="2d", backend="torch")(parameters, photos)[1]
    with pytest.raises(ValueError, match="3d"):
        PaperObjective(head, mode="3d", backend="torch")(parameters, photos)
    with pytest.raises(ValueError, match="2d"):
        PaperObjective(head, mode="2d", backend="torch")(parameters, scans)


def test_pictures_of_strangers_share_no_shape(head):
    parameters = two_people(head)
    alone = replace(batch_of(head, parameters, (0, 3), (False, False)), identity=torch.arange(6))
    _, terms = PaperObjective(head, backend="torch")(parameters, alone)
    assert "vertex_consistency" not in terms
    assert "shape_consistency" not in terms
