"""Crops: the similarity between photo and crop, the protocol's sizes, and pixels that land where it says."""

import math

import numpy as np
import pytest
import torch

from tokenface.geometry.camera import ndc_to_pixels
from tokenface.geometry.crop import Crop, crop_from_box, crop_from_landmarks, extract, roll_of

CROPS = [
    Crop((100.0, 80.0), 60.0),
    Crop((-20.0, 33.3), 512.0, 0.7),
    Crop((3000.5, 1999.5), 31.0, -3.0),
]


@pytest.mark.parametrize("crop", CROPS)
def test_photo_and_crop_coordinates_are_exact_inverses(crop):
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (50, 3))
    np.testing.assert_allclose(crop.to_ndc(crop.to_photo(points)), points, atol=1e-9)
    tensor = torch.from_numpy(points).float().requires_grad_()
    there = crop.to_photo(tensor)
    np.testing.assert_allclose(there.detach().numpy(), crop.to_photo(points), rtol=1e-5, atol=1e-3)
    there.sum().backward()
    assert torch.isfinite(tensor.grad).all()


def test_an_upright_crop_maps_its_edges_to_the_edges_of_the_square():
    crop = Crop((100.0, 50.0), 40.0)
    corners = crop.to_photo(np.array([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(corners, [[80, 30], [120, 70], [100, 50]])


def test_a_positive_angle_turns_anticlockwise_on_the_picture():
    crop = Crop((0.0, 0.0), 2.0, math.pi / 2)
    right = crop.to_photo(np.array([[1.0, 0.0]]))[0]
    np.testing.assert_allclose(right, [0, -1], atol=1e-12)  # to the right becomes upwards, y counts down


def test_pixel_matrix_agrees_with_ndc():
    crop = CROPS[1]
    ndc = np.random.default_rng(1).uniform(-1, 1, (20, 2))
    pixels = ndc_to_pixels(torch.from_numpy(ndc), 224).numpy()
    matrix = crop.pixel_matrix(224)
    np.testing.assert_allclose(pixels @ matrix[:, :2].T + matrix[:, 2], crop.to_photo(ndc), atol=1e-9)


def test_protocol_sizes_of_boxes_and_landmarks():
    box = crop_from_box([10, 20, 110, 140], scale=1.25)
    assert box.size == pytest.approx(110 * 1.25)
    assert box.centre == pytest.approx((60, 80 + 0.12 * 110))
    points = np.tile([60.0, 80.0], (68, 1))
    points[0], points[1] = [10, 20], [110, 140]
    landmarks = crop_from_landmarks(points, scale=1.25)
    assert landmarks.size == pytest.approx(110 * 1.1 * 1.25)
    assert landmarks.centre == pytest.approx((60, 80))


def test_a_turned_face_gets_the_same_crop_turned():
    points = np.random.default_rng(2).normal([200, 150], [30, 40], (68, 2))
    upright = crop_from_landmarks(points)
    angle = 0.6
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = crop_from_landmarks(points @ turn.T, angle=angle)
    np.testing.assert_allclose(turned.centre, turn @ upright.centre, atol=1e-9)
    assert turned.size == pytest.approx(upright.size)
    np.testing.assert_allclose(turned.to_ndc(points @ turn.T), upright.to_ndc(points), atol=1e-9)


def test_roll_is_measured_from_either_axis():
    assert roll_of(np.array([1.0, 0.0])) == 0
    assert roll_of(np.array([1.0, -1.0])) == pytest.approx(math.pi / 4)  # the left eye is higher: anticlockwise
    assert roll_of(np.array([0.0, 0.0]), np.array([-1.0, 0.0])) == pytest.approx(math.pi / 2)
    assert abs(roll_of(np.array([-1.0, 0.0]), np.array([0.0, 2.0]))) == pytest.approx(math.pi)


def picture(height: int, width: int) -> np.ndarray:
    """A smooth colour field whose value is known at every point: linear in x and y."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x / width, y / height, 0.5 + 0 * x], axis=-1).astype(np.float32)


@pytest.mark.parametrize(
    ("crop", "size"),
    [
        (Crop((150.0, 120.0), 40.0), 64),  # enlarged
        (Crop((150.0, 120.0), 64.0), 64),  # as it is
        (Crop((150.0, 120.0), 150.0, 0.4), 64),  # reduced 2.3 times and turned
        (Crop((300.0, 260.0), 380.0, -1.2), 24),  # reduced 16 times
    ],
)
def test_extracted_pixels_have_the_colour_of_their_place_in_the_photo(crop, size):
    image = picture(520, 600)
    out = extract(image, [crop], size)[0].permute(1, 2, 0).numpy()
    row, column = np.mgrid[:size, :size] + 0.5
    ndc = np.stack([column, row], axis=-1) * 2 / size - 1
    places = crop.to_photo(ndc)
    # warpAffine rounds to 1/32 pixel
    np.testing.assert_allclose(out[..., 0] * 600, places[..., 0], atol=0.05 * max(1, crop.size / size))
    np.testing.assert_allclose(out[..., 1] * 520, places[..., 1], atol=0.05 * max(1, crop.size / size))


def test_uint8_and_float_photos_give_the_same_crop():
    image = (picture(80, 100) * 255).round().astype(np.uint8)
    crops = [Crop((50.0, 40.0), 50.0, 0.2), Crop((10.0, 40.0), 90.0)]
    a, b = extract(image, crops, 32), extract(image.astype(np.float32) / 255, crops, 32)
    assert a.shape == (2, 3, 32, 32)
    assert a.dtype == torch.float32
    np.testing.assert_allclose(a, b, atol=1.5 / 255)


def test_fine_stripes_average_out_when_reduced_instead_of_aliasing():
    stripes = np.zeros((512, 512, 3), np.float32)
    stripes[:, ::2] = 1
    for size in (240, 200, 100, 37):
        out = extract(stripes, [Crop((256.0, 256.0), 480.0, 0.1)], size)
        assert float(out.std()) < 0.1, size


def test_borders_beyond_the_photo():
    image = np.full((40, 40, 3), 0.2, np.float32)
    image[:, 30:] = 0.9
    crop = Crop((40.0, 20.0), 20.0)  # half of it lies off the right edge
    grey = extract(image, [crop], 20, border="grey")[0, 0, 10]
    np.testing.assert_allclose(grey[11:], 0.5, atol=1e-6)
    mirrored = extract(image, [Crop((40.0, 20.0), 40.0)], 40, border="reflect")[0, 0, 20]
    np.testing.assert_allclose(mirrored[20:], mirrored[:20].flip(0), atol=1e-6)
    edge = extract(image, [crop], 20)[0, 0, 10]
    np.testing.assert_allclose(edge, 0.9, atol=1e-6)


def test_a_crop_far_off_or_much_larger_than_a_tiny_photo_still_works():
    image = picture(7, 5)
    out = extract(image, [Crop((3.0, 3.0), 900.0, 0.3), Crop((5000.0, -4000.0), 50.0)], 64)
    assert torch.isfinite(out).all()
    assert extract(image, [], 64).shape == (0, 3, 64, 64)


def test_impossible_crops_are_refused():
    with pytest.raises(ValueError, match="positive size"):
        Crop((0.0, 0.0), 0.0)
    with pytest.raises(ValueError, match="x1 > x0"):
        crop_from_box([5, 5, 5, 9])
    with pytest.raises(ValueError, match="finite"):
        crop_from_landmarks(np.full((68, 2), np.nan))
