"""The paper's consistency, photometric, identity and pose-aware losses and their sums, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toy_head import toy_head_data

from tokenface.data.record import identity_labels
from tokenface.head.model import HeadModel
from tokenface.identity.alignment import ARCFACE_POINTS
from tokenface.losses.consistency import mean_over_pairs, shape_consistency_loss, swap_pairs, vertex_consistency_loss
from tokenface.losses.identity import cosine_identity_loss, identity_loss
from tokenface.losses.landmark import eyelid_loss, lip_loss
from tokenface.losses.mesh import mesh_loss
from tokenface.losses.photometric import face_mask, photometric_loss
from tokenface.losses.pose_aware import PoseAwareWeights, landmark_weight, photometric_weight, pose_excess
from tokenface.losses.totals import PaperWeights, total, total_2d, total_3d
from tokenface.parameters import FaceParameters
from tokenface.render.renderer import Renderer
from tokenface.render.shading import ambient_light


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel(toy_head_data())


def people(head: HeadModel, count: int, seed: int = 0) -> FaceParameters:
    generator = torch.Generator().manual_seed(seed)
    sizes = head.sizes
    camera = torch.zeros(count, 7)
    camera[:, 0] = 7.0
    camera[:, 1:4] = 0.1 * torch.randn(count, 3, generator=generator)
    return FaceParameters(
        shape=torch.randn(count, sizes.shape, generator=generator),
        expression=torch.rand(count, sizes.expression, generator=generator),
        jaw=0.1 * torch.randn(count, 3, generator=generator),
        camera=camera,
        texture=torch.randn(count, sizes.texture, generator=generator),
        light=ambient_light(count).flatten(1),
    )


def test_swap_pairs_are_all_ordered_pairs_of_one_person():
    pairs = swap_pairs(torch.tensor([3, 5, 3, 3, 7]))
    found = {(int(a), int(b)) for a, b in zip(pairs.source, pairs.target, strict=True)}
    assert found == {(a, b) for a in (0, 2, 3) for b in (0, 2, 3) if a != b}


@pytest.mark.parametrize("partners", [1, 2])
def test_limited_partners_give_and_take_equally_often(partners):
    pairs = swap_pairs(torch.tensor([1, 1, 2, 1, 2, 1, 9]), partners)
    for index, count in ((0, 4), (1, 4), (3, 4), (5, 4), (2, 2), (4, 2), (6, 1)):
        wanted = min(count - 1, partners)
        assert int((pairs.target == index).sum()) == wanted
        assert int((pairs.source == index).sum()) == wanted
    assert (pairs.source != pairs.target).all()


def test_people_without_a_name_are_never_the_same_person():
    assert identity_labels(["ann", "", "bob", "", "ann"]).tolist() == [0, 1, 2, 3, 0]


def test_vertex_consistency_is_the_mesh_loss_of_the_swapped_head_written_out(head):
    parameters = people(head, 3)
    truth = head(parameters.shape, parameters.expression, parameters.jaw).vertices + 0.01
    weights = torch.rand(head.vertex_count, generator=torch.Generator().manual_seed(1))
    weights = weights / weights.sum()
    pairs = swap_pairs(torch.tensor([0, 1, 0]))
    losses = vertex_consistency_loss(
        lambda p: head(p.shape, p.expression, p.jaw).vertices, parameters, truth, weights, pairs
    )
    for loss, (a, b) in zip(losses, [(2, 0), (0, 2)], strict=True):
        swapped = head(parameters.shape[[a]], parameters.expression[[b]], parameters.jaw[[b]]).vertices
        by_hand = sum(
            float(weights[v]) * float((swapped[0, v] - truth[b, v]).abs().sum()) for v in range(head.vertex_count)
        )
        assert float(loss) == pytest.approx(by_hand, rel=1e-4)


def test_vertex_consistency_vanishes_when_scans_share_the_shape_and_grows_when_they_do_not(head):
    parameters = people(head, 2)
    parameters = parameters.replace(shape=parameters.shape[:1].expand(2, -1))
    truth = head(parameters.shape, parameters.expression, parameters.jaw).vertices
    weights = torch.full((head.vertex_count,), 1 / head.vertex_count)
    pairs = swap_pairs(torch.zeros(2, dtype=torch.long))

    def loss(p: FaceParameters) -> torch.Tensor:
        return vertex_consistency_loss(
            lambda q: head(q.shape, q.expression, q.jaw).vertices, p, truth, weights, pairs, mesh_loss
        )

    assert loss(parameters).max() < 1e-7
    wrong = loss(parameters.replace(shape=parameters.shape * torch.tensor([[1.0], [-1.0]])))
    assert wrong[pairs.source == 1].min() > 1e-4  # the target pays for the source's wrong shape, not for its own
    assert wrong[pairs.source == 0].max() < 1e-7


def test_a_batch_without_pairs_costs_nothing_and_keeps_the_graph(head):
    shape = torch.ones(2, 3, requires_grad=True)
    cost = mean_over_pairs(torch.zeros(0), shape)
    cost.backward()
    assert float(cost.detach()) == 0
    assert shape.grad is not None
    assert shape.grad.abs().max() == 0


def test_photometric_loss_counts_masked_pixels_only():
    image = torch.zeros(1, 3, 4, 4)
    rendered = torch.full((1, 3, 4, 4), 0.25)
    rendered[..., 2:] = 9.0
    mask = torch.zeros(1, 4, 4)
    mask[..., :2] = 1
    torch.testing.assert_close(photometric_loss(rendered, image, mask), torch.tensor([0.25]))
    assert float(photometric_loss(rendered, image, torch.zeros(1, 4, 4))) == 0


def test_photometric_loss_weighs_soft_masks():
    image, rendered = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    rendered[..., 0], rendered[..., 1] = 1.0, 0.5
    mask = torch.tensor([[[3.0, 1.0]]]) / 4
    torch.testing.assert_close(photometric_loss(rendered, image, mask), torch.tensor([0.875]))


def test_shape_consistency_is_the_photometric_loss_of_the_other_persons_shape(head):
    renderer = Renderer(head, backend="torch")
    parameters = people(head, 2)
    truth = renderer.render(parameters, 32)
    mask = truth.mask[:, None].float()
    pairs = swap_pairs(torch.zeros(2, dtype=torch.long))

    def draw(p: FaceParameters):
        return renderer.render(p, 32)

    losses = shape_consistency_loss(draw, parameters, truth.image.detach(), mask, pairs)
    for loss, (a, b) in zip(losses, [(1, 0), (0, 1)], strict=True):
        swapped = draw(parameters[[b]].replace(shape=parameters.shape[[a]]))
        covered = swapped.mask[0] & truth.mask[b]
        by_hand = (swapped.image[0] - truth.image[b])[:, covered].abs().mean()
        torch.testing.assert_close(loss, by_hand)
    same = parameters.replace(shape=parameters.shape[:1].expand(2, -1))
    own = renderer.render(same, 32).image.detach()
    assert shape_consistency_loss(draw, same, own, mask, pairs).max() < 1e-6


def test_shape_consistency_gradient_agrees_with_finite_differences(head):
    renderer = Renderer(head, backend="torch")
    parameters = people(head, 2)
    image = renderer.render(people(head, 2, seed=5), 32).image.detach()
    mask = torch.ones(2, 1, 32, 32)
    pairs = swap_pairs(torch.zeros(2, dtype=torch.long))

    def loss(texture: torch.Tensor) -> torch.Tensor:
        p = parameters.replace(texture=texture)
        return shape_consistency_loss(lambda q: renderer.render(q, 32), p, image, mask, pairs).sum()

    texture = parameters.texture.clone().requires_grad_(True)
    loss(texture).backward()
    direction = torch.randn(texture.shape, generator=torch.Generator().manual_seed(2))
    step = 1e-2
    numeric = (loss(parameters.texture + step * direction) - loss(parameters.texture - step * direction)) / (2 * step)
    assert texture.grad is not None
    torch.testing.assert_close((texture.grad * direction).sum(), numeric, rtol=0.05, atol=1e-4)


def test_the_mask_of_the_rendering_carries_no_gradient(head):
    parameters = people(head, 1)
    shape = parameters.shape.clone().requires_grad_(True)
    rendered = Renderer(head, backend="torch").render(parameters.replace(shape=shape), 32)
    assert not face_mask(torch.ones(1, 1, 32, 32), rendered).requires_grad


def test_identity_loss_is_one_minus_the_cosine():
    a, b = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [-5.0, -5.0]])
    torch.testing.assert_close(cosine_identity_loss(a, b), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(cosine_identity_loss(a, 7 * a), torch.zeros(2), atol=1e-6, rtol=0)


class MeanColour(torch.nn.Module):
    """An encoder that is easy to predict: the mean colour of the aligned crop."""

    size, dimensions, places = 112, 3, ARCFACE_POINTS + 0.5

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return faces.mean((2, 3))


def frontal_landmarks(size: float = 0.5) -> torch.Tensor:
    angle = torch.linspace(0, 2 * math.pi, 69)[:68]
    points = torch.stack([angle.cos(), angle.sin()], dim=-1) * size
    points[36:42], points[42:48] = torch.tensor([-0.17, -0.2]), torch.tensor([0.17, -0.2])
    points[30], points[48], points[54] = torch.tensor([0.0, 0.0]), torch.tensor([-0.14, 0.2]), torch.tensor([0.14, 0.2])
    return points[None]


def test_identity_loss_sees_the_rendering_only_inside_its_mask():
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    red = torch.zeros(1, 3, 64, 64)
    red[:, 0] = 1.0
    nothing, all_of_it = torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)
    encoder, points = MeanColour(), frontal_landmarks()
    assert float(identity_loss(encoder, image, red, nothing, points)) < 1e-6
    assert float(identity_loss(encoder, image, red, all_of_it, points)) > 0.1


def test_identity_loss_sends_gradient_to_the_rendering_alone():
    image = torch.full((1, 3, 64, 64), 0.4, requires_grad=True)
    rendered = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    identity_loss(MeanColour(), image, rendered, torch.ones(1, 1, 64, 64), frontal_landmarks()).sum().backward()
    assert rendered.grad is not None
    assert rendered.grad.abs().sum() > 0
    assert image.grad is None or image.grad.abs().max() == 0


def test_invisible_lids_and_lips_are_left_out():
    truth, predicted = torch.zeros(1, 68, 2), torch.zeros(1, 68, 2)
    predicted[:, 37] = 5.0
    predicted[:, 38] = torch.tensor([0.3, 0.0])
    visible = torch.ones(1, 68, dtype=torch.bool)
    visible[:, 41] = False  # the partner of 37
    torch.testing.assert_close(eyelid_loss(predicted, truth, visible), torch.tensor([0.1]))
    assert float(lip_loss(predicted, truth, torch.zeros(1, 68))) == 0


@pytest.mark.parametrize(
    ("yaw", "pitch", "excess"),
    [
        (0.0, 0.0, -math.pi / 4),
        (1.0, 0.2, 1.0 - math.pi / 4),
        (-1.2, 0.1, 1.2 - math.pi / 4),
        (0.3, -0.9, 0.9 - math.pi / 4),
    ],
)
def test_pose_aware_weights_are_equations_12_and_13(yaw, pitch, excess):
    angles = torch.tensor([[yaw, pitch, 2.5]])
    assert float(pose_excess(angles)) == pytest.approx(excess, abs=1e-6)
    over = max(excess, 0)
    assert float(landmark_weight(angles)) == pytest.approx(-0.76 * over + 1.6, abs=1e-6)
    assert float(photometric_weight(angles)) == pytest.approx(0.38 * over + 2.2, abs=1e-6)
    off = PoseAwareWeights(enabled=False)
    assert float(landmark_weight(angles, off)) == pytest.approx(1.6)
    assert float(photometric_weight(angles, off)) == pytest.approx(2.2)


def test_pose_aware_landmark_weight_never_turns_negative():
    assert float(landmark_weight(torch.tensor([[math.pi, 0.0]]))) == 0


def test_totals_are_equations_1_2_and_6_with_the_papers_constants():
    weights = PaperWeights()
    three_d = total_3d({"mesh": torch.tensor([1.0, 3.0]), "vertex_consistency": torch.tensor([5.0])}, weights)
    assert float(three_d) == pytest.approx(2.0 * 2 + 1.2 * 5)
    terms = {
        "eyelids": torch.tensor([1.0, 1.0]),
        "lips": torch.tensor([2.0, 2.0]),
        "shape_consistency": torch.tensor([3.0]),
        "identity": torch.tensor([4.0, 4.0]),
        "landmarks": torch.tensor([1.0, 2.0]),
        "photometric": torch.tensor([3.0, 4.0]),
        "regularisation": torch.tensor([0.5, 0.5]),
    }
    angles = torch.tensor([[0.0, 0.0], [math.pi / 2, 0.0]])
    turned = math.pi / 4
    expected = 0.8 * 1 + 1.0 * 2 + 1.0 * 3 + 0.2 * 4 + 0.5
    expected += (1.6 * 1 + (1.6 - 0.76 * turned) * 2) / 2 + (2.2 * 3 + (2.2 + 0.38 * turned) * 4) / 2
    two_d = total_2d(terms, angles, weights)
    assert float(two_d) == pytest.approx(expected, rel=1e-6)
    assert float(total(three_d, two_d, weights)) == pytest.approx(0.6 * float(three_d) + 0.4 * expected, rel=1e-6)
    assert float(total(three_d, two_d, weights, "3d")) == float(three_d)
    assert float(total(three_d, two_d, weights, "2d")) == float(two_d)


def test_totals_refuse_what_they_would_lose():
    with pytest.raises(KeyError, match="landmark'"):
        total_2d({"landmark": torch.ones(1)}, torch.zeros(1, 2), PaperWeights())
    with pytest.raises(ValueError, match="2d"):
        total(torch.ones(()), None, PaperWeights(), "2d")


def test_an_empty_term_is_left_out_of_the_mean():
    value = total_3d({"mesh": torch.ones(2), "vertex_consistency": torch.zeros(0)}, PaperWeights())
    assert np.isfinite(float(value))
    assert float(value) == pytest.approx(2.0)


def test_former_names_of_pairs_warn():
    pairs = swap_pairs(torch.tensor([0, 0]))
    with pytest.warns(DeprecationWarning, match="'giver' is now 'source'"):
        assert pairs.giver is pairs.source
