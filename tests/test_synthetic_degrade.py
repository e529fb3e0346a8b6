"""Degradations, noise and backgrounds against independent references."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.data import astronaut

from tokenface.data.backgrounds import sample_backgrounds
from tokenface.data.degrade import Degradation, degrade, jpeg
from tokenface.data.draw import Draw
from tokenface.data.noise import LAYERS, SIZE, noise_bank, sample_noise


def photo(size: int = 128) -> torch.Tensor:
    image = Image.fromarray(astronaut()[0:256, 100:356]).resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("quality", [15, 50, 85])
def test_jpeg_looks_like_the_encoder_of_pillow(quality):
    image = photo()
    buffer = io.BytesIO()
    Image.fromarray((image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(
        buffer, "JPEG", quality=quality, subsampling="4:2:0"
    )
    reference = torch.from_numpy(np.asarray(Image.open(buffer)).copy()).permute(2, 0, 1)[None].float() / 255
    ours = jpeg(image, torch.tensor([float(quality)]))
    damage = (reference - image).abs().mean()
    assert (ours - reference).abs().mean() < 0.35 * damage
    assert abs((ours - image).abs().mean() / damage - 1) < 0.15


def test_jpeg_refuses_sides_that_have_no_whole_blocks():
    with pytest.raises(ValueError, match="multiples of 8"):
        jpeg(torch.rand(1, 3, 20, 24), torch.tensor([50.0]))


def test_a_shifted_block_grid_is_the_same_codec():
    image = photo(64)
    moved = jpeg(torch.roll(image, (3, 3), (2, 3)), torch.tensor([30.0]))
    torch.testing.assert_close(jpeg(image, torch.tensor([30.0]), shift=3), torch.roll(moved, (-3, -3), (2, 3)))


def test_no_degradation_leaves_the_picture_nearly_alone():
    nothing = Degradation(full_resolution=1, blur=0, motion=0, noise=0, jpeg=0, grey=0, colour=0)
    image = photo(64)
    left = degrade(Draw.seeded(0, "cpu"), image, nothing)
    assert (left - image).abs().mean() < 0.01


def test_degraded_pictures_differ_from_each_other_and_stay_in_range():
    images = photo(64).expand(32, -1, -1, -1)
    spoiled = degrade(Draw.seeded(0, "cpu"), images)
    assert spoiled.min() >= 0
    assert spoiled.max() <= 1
    assert spoiled.isfinite().all()
    assert spoiled.flatten(1).std(0).mean() > 0.03


def test_noise_look_up_agrees_with_grid_sample_and_wraps_around():
    bank = noise_bank()
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(2, 500, generator=generator) * (SIZE - 1) / SIZE
    # our texel i is at i / SIZE; grid_sample with align_corners puts texel i at −1 + 2 i / (SIZE − 1)
    grid = (inside * SIZE / (SIZE - 1) * 2 - 1).T[None, None]
    for layer in (0, 5):
        reference = F.grid_sample(bank[None, layer : layer + 1], grid, align_corners=True)[0, 0, 0]
        torch.testing.assert_close(sample_noise(bank, layer, inside), reference, atol=2e-4, rtol=0)
        torch.testing.assert_close(
            sample_noise(bank, torch.full((500,), layer), inside + torch.tensor([[3.0], [-2.0]])),
            sample_noise(bank, layer, inside),
            atol=2e-3,
            rtol=0,
        )


def test_noise_textures_tile_and_are_normalised():
    bank = noise_bank()
    assert bank.shape == (len(LAYERS), SIZE, SIZE)
    assert bank.mean((1, 2)).abs().max() < 0.1
    strands = bank[LAYERS.index("strands")]
    across, along = strands.diff(dim=1).abs().mean(), strands.diff(dim=0).abs().mean()
    assert across > 3 * along  # hair runs along the rows
    inner = strands.diff(dim=0).abs().mean()
    assert (strands[0] - strands[-1]).abs().mean() < 3 * inner


def test_backgrounds_vary_and_take_photographs():
    plain = sample_backgrounds(Draw.seeded(0, "cpu"), 16, 64)
    assert plain.shape == (16, 3, 64, 64)
    assert plain.min() >= 0
    assert plain.max() <= 1
    assert plain.mean((1, 2, 3)).std() > 0.08
    red = torch.zeros(1, 3, 32, 32)
    red[:, 0] = 1
    mixed = sample_backgrounds(Draw.seeded(0, "cpu"), 64, 64, red)
    is_red = (mixed[:, 0].mean((1, 2)) > 0.97) & (mixed[:, 1].mean((1, 2)) < 0.03)
    assert 0.35 < is_red.float().mean() < 0.85
