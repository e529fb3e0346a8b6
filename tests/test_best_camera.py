"""The best camera is found again from projected points."""

from __future__ import annotations

import numpy as np
import torch

from tokenface.geometry.camera import Camera, fit_camera


def test_a_camera_is_recovered_from_its_own_projections():
    rng = np.random.default_rng(0)
    points = rng.normal(scale=0.05, size=(68, 3))
    for _ in range(20):
        camera = np.concatenate(
            [[rng.uniform(4, 10)], rng.normal(scale=0.8, size=3), rng.normal(scale=0.2, size=2), [0]]
        )
        projected = Camera.from_vector(torch.tensor(camera)[None]).project(torch.tensor(points)[None])[0, :, :2].numpy()
        found = Camera.from_vector(torch.tensor(fit_camera(points, projected))[None])
        again = found.project(torch.tensor(points)[None])[0, :, :2].numpy()
        np.testing.assert_allclose(again, projected, atol=1e-6)


def test_noise_is_averaged_not_followed():
    rng = np.random.default_rng(1)
    points = rng.normal(scale=0.05, size=(68, 3))
    camera = np.array([7.0, 0.2, -0.4, 0.1, 0.05, -0.02, 0.0])
    clean = Camera.from_vector(torch.tensor(camera)[None]).project(torch.tensor(points)[None])[0, :, :2].numpy()
    found = fit_camera(points, clean + rng.normal(scale=0.02, size=clean.shape))
    np.testing.assert_allclose(found[:6], camera[:6], atol=0.1)
