"""The same photo alone and among others: how far apart the numbers may lie, as docs/faq.md says."""

from __future__ import annotations

import numpy as np
import torch
from test_reconstruct_photo import needs_weights

from tokenface.data.sampling import Framing
from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces
from tokenface.model import Reconstructor

COEFFICIENT, PIXELS = 0.005, 0.02
"""Bounds: of a shape coefficient (in standard deviations), and of a landmark in a crop of the network's size."""

pytestmark = needs_weights


def test_a_photo_alone_and_in_a_batch_of_sixteen_agree_within_the_stated_bound() -> None:
    model = Reconstructor.load(device="cpu")
    faces = SyntheticFaces(model.head, model.crop_size, SyntheticConfig(framing=Framing()))
    crops = faces.sample(16, 3).image
    together = model.predict(crops, batch_size=16)
    alone = [model.predict(crops[i : i + 1], batch_size=16) for i in range(4)]
    apart = max(float((one.shape[0] - together.shape[i]).abs().max()) for i, one in enumerate(alone))
    assert apart <= COEFFICIENT
    for number, one in enumerate(alone):
        points = [_pixels(model, one, 0), _pixels(model, together, number)]
        assert np.abs(points[0] - points[1]).max() <= PIXELS
    again = model.predict(crops, batch_size=16)
    assert torch.equal(again.shape, together.shape)  # the same batch gives the same numbers to the last bit


def _pixels(model: Reconstructor, parameters, row: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    """[68, 2] landmarks in the crop's pixels."""
    from tokenface.geometry.camera import Camera

    own = parameters[row : row + 1]
    with torch.inference_mode():
        points = model.head.landmarks68(model.head(own.shape, own.expression, own.jaw).vertices)
        return ((Camera.from_vector(own.camera).project(points)[0, :, :2] + 1) / 2 * model.crop_size).numpy()
