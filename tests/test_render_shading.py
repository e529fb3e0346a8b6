"""Normals, light, albedo and the renderer that joins them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import trimesh
from scipy.special import sph_harm_y
from toy_head import toy_head_data

from tokenface.errors import HeadModelError
from tokenface.geometry.camera import Camera
from tokenface.geometry.normals import _cross_sums
from tokenface.head import HeadModel
from tokenface.parameters import FaceParameters
from tokenface.render import HeadAlbedo, Renderer, ambient_light, sample_texture, sh_basis, shade, vertex_normals
from tokenface.render.shading import sh_shading


def unit_vectors(count: int, seed: int = 0) -> torch.Tensor:
    v = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(v, dim=-1)


def test_sh_basis_is_the_real_harmonics_times_the_lambertian_band_weights():
    normals = unit_vectors(50)
    x, y, z = normals.numpy().T
    polar, azimuth = np.arccos(z), np.arctan2(y, x)

    def real(degree, order):
        value = sph_harm_y(degree, abs(order), polar, azimuth)
        if order == 0:
            return value.real
        return np.sqrt(2) * (-1) ** order * (value.real if order > 0 else value.imag)

    # The published constants carry the factors 1, 2π/3 and π/4, whose ratios are Ramamoorthi and Hanrahan's.
    # The last two bands' constants are half of that: the common code writes them so, and coefficients depend on it.
    order = [(0, 0), (1, 1), (1, -1), (1, 0), (2, -2), (2, 1), (2, -1), (2, 2), (2, 0)]
    band = {0: 1.0, 1: 2 * np.pi / 3, 2: np.pi / 4}
    expected = np.stack([band[d] * real(d, m) for d, m in order], -1)
    basis = sh_basis(normals).numpy()
    ratio = basis / expected
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-6)  # the right functions
    np.testing.assert_allclose(ratio[0, :4], 1, rtol=1e-6)
    np.testing.assert_allclose(ratio[0, 4:7], ratio[0, 4], rtol=1e-6)


def test_ambient_light_shows_the_albedo_and_no_light_is_black():
    normals = unit_vectors(60).float().view(1, 6, 10, 3)
    albedo = torch.rand(1, 3, 6, 10)
    torch.testing.assert_close(shade(albedo, normals, ambient_light()), albedo)
    assert (shade(albedo, normals, torch.zeros(1, 27)) == 0).all()


def test_compiled_shading_equals_the_formula_and_its_gradients():
    normals = unit_vectors(60).view(2, 5, 6, 3)
    light = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.rand(2, 5, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for kind in (torch.float32, torch.float64):
        n, ll = normals.to(kind).clone().requires_grad_(), light.to(kind).clone().requires_grad_()
        arriving = sh_shading(n, ll)
        (arriving * weights.to(kind)).sum().backward()
        results.append((arriving.double(), n.grad.double(), ll.grad.double()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    expected = torch.einsum("bhwk,bkc->bhwc", sh_basis(normals), light)
    torch.testing.assert_close(results[1][0], expected)


def test_light_from_the_right_brightens_the_right():
    light = ambient_light()
    light[:, 1] = 1.0  # band of x, which points to the right of the picture
    normals = torch.tensor([[[[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 1.0]]]])
    right, left, front = shade(torch.ones(1, 3, 1, 3), normals, light)[0, 0, 0]
    assert right > front > left


def test_normals_equal_an_independent_implementation_and_point_outwards():
    mesh = trimesh.creation.icosphere(3)
    points = torch.tensor(np.array(mesh.vertices), dtype=torch.float32)
    points = torch.stack([points * torch.tensor([1.0, 0.5, 0.8]), points + 0.1 * torch.sin(points * 5)])
    faces = torch.tensor(np.array(mesh.faces))
    normals = vertex_normals(points, faces)
    for vertices, ours in zip(points, normals, strict=True):
        corners = vertices.numpy()[mesh.faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        sums = np.zeros((len(vertices), 3))
        for k in range(3):
            np.add.at(sums, mesh.faces[:, k], cross)
        np.testing.assert_allclose(ours.numpy(), sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-5)
    assert ((normals[0] * points[0]).sum(-1) > 0).all()


def test_normals_are_differentiable_and_zero_without_triangles():
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    vertices = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (vertex_normals(vertices, faces)[:, 4] == 0).all()
    connected = vertices[:, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: vertex_normals(v, faces), (connected,))
    single = connected.detach().float().requires_grad_()
    weights = torch.randn(2, 4, 3)
    (vertex_normals(single, faces) * weights).sum().backward()
    (torch.nn.functional.normalize(_cross_sums(connected, faces), dim=-1) * weights).sum().backward()
    torch.testing.assert_close(single.grad, connected.grad.float(), atol=1e-4, rtol=1e-4)


def test_texture_look_up_hits_texel_centres_and_v_points_up():
    texture = torch.arange(12.0).view(1, 1, 3, 4)  # row 0 is v = 1
    j, i = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    uv = torch.stack([(i + 0.5) / 4, 1 - (j + 0.5) / 3], dim=-1)[None]
    torch.testing.assert_close(sample_texture(texture, uv), texture)
    between = sample_texture(texture, torch.tensor([[[[2 / 4, 0.5]]]]))  # halfway between texels 5 and 6
    torch.testing.assert_close(between.flatten(), torch.tensor([5.5]))
    corner = sample_texture(texture, torch.tensor([[[[0.0, 1.0]]]]))
    assert corner.item() == 0


def test_albedo_is_mean_plus_modes_for_float_and_for_int8_bases():
    data = toy_head_data()
    coefficients = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    expected = data.albedo_mean + np.einsum("ba,ahwc->bhwc", coefficients.numpy(), data.albedo_basis)
    maps = HeadAlbedo(data)(coefficients, clamp=False)
    np.testing.assert_allclose(maps.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)

    scale = (np.abs(data.albedo_basis).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    quantised = np.rint(data.albedo_basis / scale[:, None, None, None]).astype(np.int8)
    small = HeadAlbedo(dataclasses.replace(data, albedo_basis=quantised, albedo_scale=scale))
    assert (small(coefficients, clamp=False) - maps).abs().max() < 4 * 4 * scale.max()
    assert small(coefficients * 100).min() >= 0
    assert small(coefficients * 100).max() <= 1
    torch.testing.assert_close(small(coefficients[:, :2]), small(coefficients * torch.tensor([1.0, 1, 0, 0])))


def test_head_without_albedo_is_refused_by_name():
    data = dataclasses.replace(toy_head_data(), albedo_basis=None)
    with pytest.raises(HeadModelError, match="no albedo basis"):
        HeadAlbedo(data)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(HeadModel(toy_head_data()))


def toy_parameters(batch: int = 2, seed: int = 0) -> FaceParameters:
    random = torch.Generator().manual_seed(seed)
    camera = torch.tensor([6.0, 0.1, 0.2, 0.05, 0.02, -0.03, 0.0]).repeat(batch, 1)
    return FaceParameters(
        shape=torch.randn(batch, 6, generator=random),
        expression=torch.rand(batch, 5, generator=random) * 0.5,
        jaw=torch.zeros(batch, 3),
        camera=camera,
        texture=torch.randn(batch, 4, generator=random),
        light=ambient_light(batch).flatten(1) + torch.randn(batch, 27, generator=random) * 0.1,
    )


def test_a_rendered_head_is_where_the_camera_puts_it(renderer):
    faces = renderer.render(toy_parameters(), size=64)
    assert faces.image.shape == (2, 3, 64, 64)
    for mask, points in zip(faces.mask, faces.projected, strict=True):
        rows, columns = mask.nonzero().T
        centre = lambda index: (index + 0.5) * 2 / 64 - 1  # noqa: E731
        assert abs(centre(columns.min()) - points[:, 0].min()) < 2 / 64
        assert abs(centre(columns.max()) - points[:, 0].max()) < 2 / 64
        assert abs(centre(rows.min()) - points[:, 1].min()) < 2 / 64
        assert abs(centre(rows.max()) - points[:, 1].max()) < 2 / 64
    assert (faces.image.permute(0, 2, 3, 1)[~faces.mask] == 0).all()
    assert torch.allclose(faces.normals[faces.mask].norm(dim=-1), torch.ones(()), atol=1e-5)
    assert (faces.normals[..., 2][faces.mask] > -0.2).all()  # an egg: what is seen faces the viewer


def test_ambient_picture_is_the_albedo_map_seen_through_uv(renderer):
    parameters = toy_parameters().replace(light=ambient_light(2).flatten(1))
    faces = renderer.render(parameters, size=48)
    torch.testing.assert_close(faces.image, faces.albedo)
    expected = sample_texture(renderer.albedo(parameters.texture), faces.uv).permute(0, 2, 3, 1)[faces.mask]
    torch.testing.assert_close(faces.albedo.permute(0, 2, 3, 1)[faces.mask], expected)


def test_region_weights_cover_the_region_alone(renderer):
    faces = renderer.render(toy_parameters(), size=48, vertex_weights=renderer.region_weights("face"))
    assert faces.weight.max() <= 1 + 1e-5
    assert 0 < faces.weight.sum() < faces.mask.sum()
    assert (faces.weight[~faces.mask] == 0).all()
    with pytest.raises(KeyError, match="face"):
        renderer.region_weights("beak")


@pytest.mark.parametrize("component", ["shape", "expression", "camera", "texture", "light"])
def test_gradient_of_every_component_equals_finite_differences(renderer, component):
    """On a smooth window inside the silhouette, through head model, camera, rasteriser, albedo and light."""
    size = 96
    centre = (torch.arange(size) + 0.5) * 2 / size - 1
    window = (1 - (centre[:, None] ** 2 + centre[None] ** 2) / 0.09).clamp(min=0) ** 2
    parameters = toy_parameters(1)
    target = dict(parameters.items())[component]
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(target.shape, generator=generator)
    step = {"camera": 2e-3, "shape": 0.05, "expression": 0.05, "texture": 0.2, "light": 0.1}[component]
    if component == "camera":
        direction = direction * torch.tensor([3.0, 1, 1, 1, 0.3, 0.3, 0])

    def loss(value):
        return (renderer.render(parameters.replace(**{component: value}), size).image.square() * window).sum()

    variable = target.clone().requires_grad_()
    loss(variable).backward()
    analytic = (variable.grad * direction).sum().item()
    with torch.no_grad():
        numeric = (loss(target + step * direction) - loss(target - step * direction)).item() / (2 * step)
    assert abs(analytic - numeric) < 0.03 * abs(numeric) + 1e-3


def test_camera_rotation_turns_the_normals_with_the_head(renderer):
    vertices = renderer.head().vertices
    turned = Camera(torch.tensor([6.0]), torch.tensor([[0.0, 0.6, 0.0]]), torch.zeros(1, 3))
    front = Camera(torch.tensor([6.0]), torch.zeros(1, 3), torch.zeros(1, 3))
    light = ambient_light()
    light[:, 3] = 0.5  # band of z, towards the viewer
    a = renderer.render_vertices(vertices, turned, light, 64)
    b = renderer.render_vertices(turned.rotate(vertices), front, light, 64)
    torch.testing.assert_close(a.normals, b.normals, atol=2e-3, rtol=0)
    torch.testing.assert_close(a.image, b.image, atol=2e-3, rtol=0)
