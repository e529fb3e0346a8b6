"""Close-ups: where windows and chips lie, and that a network starts to use them without changing its predictions."""

from __future__ import annotations

import pytest
import torch

from tokenface.errors import ConfigError
from tokenface.identity.alignment import five_points
from tokenface.network import ComponentSizes, NetworkConfig, TokenFace
from tokenface.network.closeup import CHIP, CHIP_POINTS, WINDOW, ChipPlace
from tokenface.network.grow import grown

SIZES = ComponentSizes(shape=20, expression=12, texture=5)
PLAIN = NetworkConfig(backbone="vit_tiny_stem_s3", image_size=72)
CLOSE = PLAIN.replace(closeups=2, label_sources=("somewhere",))


def marked(points: torch.Tensor, size: int = 128) -> torch.Tensor:
    """[1, 3, size, size] black, with a white blob at every point [N, 2], crop NDC."""
    centres = (torch.arange(size) * 2 + 1) / size - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    squared = (x - points[:, 0, None, None]).square() + (y - points[:, 1, None, None]).square()
    return torch.exp(-squared / 0.02**2).amax(0).expand(1, 3, size, size)


def turned(points: torch.Tensor, angle: float, scale: float, shift: tuple[float, float]) -> torch.Tensor:
    cos, sin = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    return points @ torch.stack([torch.stack([cos, sin]), torch.stack([-sin, cos])]) * scale + torch.tensor(shift)


@pytest.mark.parametrize(("angle", "shift"), [(0.0, (0.0, 0.0)), (0.5, (0.1, -0.2)), (-0.9, (-0.15, 0.1))])
def test_the_chip_shows_each_anchor_where_the_recognition_network_wants_it(angle, shift):
    template = CHIP_POINTS
    anchors = turned((template - CHIP / 2) / CHIP, angle, 1.1, shift)
    chip = ChipPlace.of(anchors[None]).chips(marked(anchors))[0, 0]
    assert chip.shape == (CHIP, CHIP)
    for x, y in CHIP_POINTS:
        around = chip[int(y) - 3 : int(y) + 3, int(x) - 3 : int(x) + 3]
        assert float(around.max()) > 0.8, (x, y)


def test_windows_lie_on_the_eyes_and_the_mouth_and_turn_with_the_face():
    template = CHIP_POINTS
    anchors = turned((template - CHIP / 2) / CHIP, 0.6, 1.2, (0.05, 0.0))
    windows = ChipPlace.of(anchors[None]).windows(marked(anchors, 192))
    places = []
    for window in windows:
        assert window.shape == (1, 3, *WINDOW)
        assert abs(float(window.mean())) < 1e-4
        row, column = divmod(int(window[0, 0].argmax()), WINDOW[1])
        places.append((row, column))
    for row, column in places[:2]:  # below the middle, because the brow is in the window, too
        assert abs(row - (WINDOW[0] / 2 + 7)) <= 2
        assert abs(column - WINDOW[1] / 2) <= 2
    row, column = places[2]  # a mouth corner, level with the other one
    assert abs(row - (WINDOW[0] / 2 - 4 / 1.4)) <= 2
    assert min(abs(column - (WINDOW[1] / 2 + side * 23 / 1.4)) for side in (-1, 1)) <= 2


def test_anchors_of_the_landmarks_are_eyes_nose_and_mouth():
    landmarks = torch.randn(2, 68, 2, generator=torch.Generator().manual_seed(0))
    anchors = five_points(landmarks)
    assert torch.allclose(anchors[:, 0], landmarks[:, 36:42].mean(1))
    assert torch.allclose(anchors[:, 2:], landmarks[:, [30, 48, 54]])


def test_a_network_that_grows_close_ups_predicts_what_it_did_and_then_learns_from_them():
    model = TokenFace(PLAIN, SIZES, seed=1).eval()
    larger = grown(model, CLOSE, seed=2).eval()
    images = torch.rand(2, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    for (name, before), (_, after) in zip(model(images).items(), larger(images).items(), strict=True):
        assert torch.equal(before, after), name
    optimiser = torch.optim.SGD(larger.parameters(), lr=0.05)
    for _ in range(3):  # the first step moves the silent last layers, the next ones what is before them
        optimiser.zero_grad()
        larger(images).expression.square().sum().backward()
        optimiser.step()
    stem = larger.closeups.eye_stem.layers[0][0].weight
    assert stem.grad is not None
    assert float(stem.grad.abs().max()) > 0


def test_one_eye_is_seen_as_the_other_in_a_mirror():
    model = TokenFace(CLOSE, SIZES, seed=3).eval()
    closeups = model.closeups
    images = torch.rand(1, 3, 72, 72, generator=torch.Generator().manual_seed(1))
    anchors = ((CHIP_POINTS - 75) / 100)[None]
    mirrored = anchors[:, [1, 0, 2, 4, 3]] * torch.tensor([-1.0, 1.0])
    with torch.no_grad():
        left, _, _ = closeups._windows(images, ChipPlace.of(anchors))
        _, right, _ = closeups._windows(images.flip(-1), ChipPlace.of(mirrored))
    sides = closeups.side_positions[:, 0]
    assert torch.allclose(left - sides[0], right - sides[1], atol=1e-4)


def test_the_recognition_network_is_used_but_not_stored():
    pytest.importorskip("tokenface.identity.recognition")
    model = TokenFace(CLOSE.replace(recognition=True), SIZES, seed=4)
    state = model.state_dict()
    assert not any("recognition" in name for name in state)
    assert any("map_fc" in name for name in state)
    assert not any(p.requires_grad for p in model.closeups.recognition.parameters())
    other = TokenFace(CLOSE.replace(recognition=True), SIZES, seed=5)
    other.load_state_dict(state)
    lacking = dict(state)
    del lacking["heads.fc.shape.weight"], lacking["closeups.map_positions"]
    with pytest.raises(RuntimeError, match=r"heads\.fc\.shape\.weight"):  # what else is missing is still missing
        other.load_state_dict(lacking)
    with torch.no_grad():  # what the face as a whole adds starts at nothing
        model.closeups.face_fc.weight.add_(0.01)
    images = torch.rand(2, 3, 72, 72, generator=torch.Generator().manual_seed(2))
    assert not torch.equal(model.eval()(images).shape, other.eval()(images).shape)
    assert torch.equal(model(images).expression, other(images).expression)  # it adds to the shape's token alone


def test_close_ups_need_tokens_and_recognition_needs_close_ups():
    with pytest.raises(ConfigError, match="close-ups"):
        NetworkConfig(recognition=True)
    with pytest.raises(ConfigError, match="closeups"):
        NetworkConfig(closeups=1, readout="global", tokens=1)
