"""Relief from shading: known bumps, shaded by a known light, come back with their sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_photo_texture import face_and_photo, on_region

from tokenface.geometry.camera import Camera
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.head.registry import load_head
from tokenface.inference.photo_texture import photo_detail
from tokenface.render.renderer import Renderer
from tokenface.texture.detail import OCCLUSION, detail_maps
from tokenface.texture.layout import Texels

FINE, SIZE = 512, 256
"""Texels: on the finer map a furrow of 4 mm comes back in its shape; the other is as fine as the photo."""


@pytest.fixture(scope="module")
def head():
    return load_head("openhead")


def ridges(head, size: int) -> tuple[Texels, np.ndarray, np.ndarray]:
    """Texels, [N] metres of horizontal furrows 4 mm apart, and [N] where: on the forehead."""
    texels = Texels.of(head.data, size)
    height = texels.at(head.data.template)[:, 1]
    forehead = on_region(head, "forehead", size=size)[texels.covered]
    return texels, 2e-4 * np.sin(2 * np.pi * height / 0.004) * forehead, forehead


def test_furrows_are_found_from_what_a_light_from_above_makes_of_them(head):
    texels, relief, forehead = ridges(head, FINE)
    height = texels.at(head.data.template)[:, 1]
    tilt = -2e-4 * np.cos(2 * np.pi * height / 0.004) * 2 * np.pi / 0.004  # −∂h/∂y of the surface normal
    slope = np.zeros((len(relief), 3))
    slope[:, 1] = 0.8  # the light's logarithm grows as the normal turns up
    shading = 0.8 * tilt * forehead + relief / OCCLUSION
    found = detail_maps(texels, head.data.template, shading, forehead.astype(float), slope)
    mine = found.displacement[texels.covered]
    inner = forehead & (np.abs(texels.at(head.data.template)[:, 0]) < 0.03)
    assert np.corrcoef(mine[inner], relief[inner])[0, 1] > 0.7
    assert 0.3 < mine[inner].std() / relief[inner].std() < 2
    assert np.abs(mine[~forehead]).max() < 2e-5
    assert (found.normals[~texels.covered] == (128, 128, 255)).all()


def test_dark_furrows_of_a_photo_become_deep(head):
    texels, relief, forehead = ridges(head, SIZE)
    face, _ = face_and_photo(head, 0.0)
    skin = np.full((SIZE, SIZE, 3), 0.6, np.float32)
    skin[texels.covered] *= np.exp(0.5 * relief / OCCLUSION)[:, None]
    drawn = Renderer(head).render_vertices(
        torch.from_numpy(face.vertices)[None], Camera.from_vector(face.parameters.camera[None]),
        face.parameters.light[None], SIZE, torch.from_numpy(skin).permute(2, 0, 1)[None],
    )  # fmt: skip
    photo = (drawn.image[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255).astype(np.uint8)
    found = photo_detail(face, photo, size=SIZE).displacement[texels.covered]
    inner = forehead & (np.abs(texels.at(head.data.template)[:, 0]) < 0.03)
    assert np.corrcoef(found[inner], relief[inner])[0, 1] > 0.5
    assert mesh_normals(face.vertices, face.faces)[head.data.regions["forehead"], 2].mean() > 0.3  # it faces us
