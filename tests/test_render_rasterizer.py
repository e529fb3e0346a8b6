"""The rasteriser: who covers a pixel, how its back ends agree, and where gradients go."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import trimesh

from tokenface.core import compiled
from tokenface.render import interpolate, raster_numba, raster_torch, rasterize


def random_mesh(seed: int, batch: int = 2, vertices: int = 60, triangles: int = 100):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(batch, vertices, 3, generator=generator) * 2.6 - 1.3
    return points, torch.randint(0, vertices, (triangles, 3), generator=generator)


def sphere(subdivisions: int = 3, radius: float = 0.8):
    mesh = trimesh.creation.icosphere(subdivisions)
    return torch.tensor(np.array(mesh.vertices), dtype=torch.float32)[None] * radius, torch.tensor(np.array(mesh.faces))


def float_reference(vertices, faces, height, width):
    """Every triangle at every pixel in float64: nearest id, and whether the pixel is too close to call."""
    v = vertices.double().numpy()[faces.numpy()]  # [F, 3, 3]
    x = (np.arange(width) + 0.5) * 2 / width - 1
    y = (np.arange(height) + 0.5) * 2 / height - 1
    px, py = np.meshgrid(x, y)
    area = (v[:, 1, 0] - v[:, 0, 0]) * (v[:, 2, 1] - v[:, 0, 1]) - (v[:, 1, 1] - v[:, 0, 1]) * (v[:, 2, 0] - v[:, 0, 0])
    weights = []
    for a, b in ((1, 2), (2, 0), (0, 1)):
        ex, ey = (v[:, b, 0] - v[:, a, 0])[:, None, None], (v[:, b, 1] - v[:, a, 1])[:, None, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            weights.append(
                (ex * (py - v[:, a, 1][:, None, None]) - ey * (px - v[:, a, 0][:, None, None])) / area[:, None, None]
            )
    weights = np.stack(weights)  # [3, F, H, W]
    weights = np.where(np.isfinite(weights), weights, -1)  # degenerate triangles cover nothing
    depth = np.where(weights.min(0) >= 0, (weights * v[:, :, 2].T[:, :, None, None]).sum(0), np.inf)
    order = np.sort(depth, axis=0)
    ids = np.where(np.isfinite(order[0]), depth.argmin(0), -1)
    with np.errstate(invalid="ignore"):  # inf − inf where nothing is hit
        unsure = (np.abs(weights).min(0) < 2e-2).any(0) | (order[1] - order[0] < 1e-4)
    return ids, unsure


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_nearest_triangle_agrees_with_float64_brute_force(backend):
    checked = 0
    for seed in range(4):
        vertices, faces = random_mesh(seed, batch=1, vertices=24, triangles=16)
        ids = rasterize(vertices, faces, 48, 40, backend).triangle_ids[0].numpy()
        expected, unsure = float_reference(vertices[0], faces, 48, 40)
        assert (ids == expected)[~unsure].all()
        checked += (~unsure & (expected >= 0)).sum()
    assert checked > 1000


@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 57), (1, 1), (9, 128)])
def test_numba_and_torch_choose_the_same_triangles(height, width, cull):
    for seed in range(6):
        vertices, faces = random_mesh(seed)
        a = rasterize(vertices, faces, height, width, "numba", cull_backfaces=cull)
        b = rasterize(vertices, faces, height, width, "torch", cull_backfaces=cull)
        assert torch.equal(a.triangle_ids, b.triangle_ids)
        assert torch.equal(a.barycentrics, b.barycentrics)


def test_triton_kernel_chooses_the_same_triangles():
    """In Triton's interpreter, which has to be switched on before Triton is imported: hence another process."""
    pytest.importorskip("triton")
    code = """
import torch
from tokenface.render import rasterize
for seed, (height, width) in enumerate([(24, 24), (13, 27)]):
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.rand(2, 40, 3, generator=generator) * 2.6 - 1.3
    faces = torch.randint(0, 40, (16, 3), generator=generator)
    a, b = (rasterize(vertices, faces, height, width, x, cull_backfaces=seed == 1) for x in ("numba", "triton"))
    assert a.mask.any() and torch.equal(a.triangle_ids, b.triangle_ids), (seed, "ids differ")
empty = rasterize(vertices + 9, faces, 8, 8, "triton")
assert not empty.mask.any()
print("equal")
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert result.stdout.strip() == "equal", result.stderr[-2000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_triton_on_cuda_agrees_with_numba():
    vertices, faces = random_mesh(0, batch=4, vertices=400, triangles=900)
    a = rasterize(vertices, faces, 128, 96, "numba")
    b = rasterize(vertices.cuda(), faces.cuda(), 128, 96, "triton")
    assert torch.equal(a.triangle_ids, b.triangle_ids.cpu())
    torch.testing.assert_close(a.barycentrics, b.barycentrics.cpu(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_shared_edges_have_no_crack_and_no_double_hit(backend):
    # A jittered sheet over the whole picture, with vertices and edges exactly on pixel centres too.
    n, size = 9, 32
    generator = torch.Generator().manual_seed(3)
    ticks = torch.linspace(-1.25, 1.25, n)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    inner = torch.zeros(n, n, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    jitter = torch.rand(n, n, 2, generator=generator) * 0.2 - 0.1
    x, y = torch.where(inner, x + jitter[..., 0], x), torch.where(inner, y + jitter[..., 1], y)
    x[3:6, 3:6] = (torch.floor((x[3:6, 3:6] + 1) * size / 2) + 0.5) * 2 / size - 1
    y[3:6, 3:6] = (torch.floor((y[3:6, 3:6] + 1) * size / 2) + 0.5) * 2 / size - 1
    vertices = torch.stack([x, y, torch.zeros_like(x)], -1).view(1, -1, 3)
    index = torch.arange(n * n).view(n, n)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    # the second triangles run the other way round: the rule must not depend on winding
    faces = torch.cat([torch.stack([a, b, c], -1).view(-1, 3), torch.stack([a, d, c], -1).view(-1, 3)])

    together = rasterize(vertices, faces, size, size, backend)
    assert together.mask.all()
    hits = sum(rasterize(vertices, face[None], size, size, backend).mask.int() for face in faces)
    assert torch.equal(hits, torch.ones_like(hits))


def test_centre_on_an_edge_goes_to_the_left_and_top_owner():
    # A square with corners on pixel centres of a 4×4 picture: top and left edges are in, bottom and right are out.
    corner = torch.tensor([[-0.75, -0.75, 0.0], [0.25, -0.75, 0.0], [0.25, 0.25, 0.0], [-0.75, 0.25, 0.0]])[None]
    mask = rasterize(corner, torch.tensor([[0, 1, 2], [0, 2, 3]]), 4, 4).mask[0]
    expected = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert torch.equal(mask, expected)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_equal_depth_goes_to_the_lower_index(backend):
    vertices = torch.tensor([[-2.0, -2, 0.3], [4, -2, 0.3], [-2, 4, 0.3], [0, 0, 1.0]])[None]
    ids = rasterize(vertices, torch.tensor([[0, 1, 2], [2, 0, 1]]), 8, 8, backend).triangle_ids
    assert (ids == 0).all()


def test_sphere_has_its_closed_form_depth_and_position():
    vertices, faces = sphere(subdivisions=5)
    size = 96
    fragments = rasterize(vertices, faces, size, size)
    centre = (torch.arange(size) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    radius = (x * x + y * y).sqrt()
    inner = radius < 0.7
    assert fragments.mask[0][radius < 0.79].all()
    assert not fragments.mask[0][radius > 0.8].any()
    expected = -(0.64 - radius**2).clamp(min=0).sqrt()
    assert (fragments.depth[0] - expected)[inner].abs().max() < 2e-3
    position = interpolate(fragments, vertices, faces)[0]
    assert (position - torch.stack([x, y, fragments.depth[0]], -1))[fragments.mask[0]].abs().max() < 1e-5
    assert (fragments.barycentrics.sum(-1)[fragments.mask] - 1).abs().max() < 1e-5


def test_backface_culling_keeps_what_faces_the_viewer():
    vertices, faces = sphere()
    flipped = vertices * torch.tensor([1.0, -1.0, -1.0])  # head space (y up) to crop NDC keeps the surface outward
    plain, culled = rasterize(flipped, faces, 64, 64), rasterize(flipped, faces, 64, 64, cull_backfaces=True)
    assert torch.equal(plain.triangle_ids, culled.triangle_ids)
    inside_out = rasterize(flipped, faces.flip(1), 64, 64, cull_backfaces=True)
    assert (inside_out.depth[inside_out.mask] > 0).all()  # only the far side is left


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_bad_triangles_are_left_out_and_good_ones_drawn(backend):
    vertices = torch.tensor(
        [[-1.0, -1, 0], [1, -1, 0], [0, 1, 0], [float("nan"), 0, 0], [float("inf"), 0, 0], [1e9, 0, 0], [0, 0, -9]]
    )[None]
    good = torch.tensor([[0, 1, 2]])
    bad = torch.tensor([[0, 1, 3], [0, 2, 4], [0, 5, 2], [6, 6, 0], [6, 6, 6]])
    clean = rasterize(vertices[:, [0, 1, 2, 6]], good, 16, 16, backend)
    mixed = rasterize(vertices, torch.cat([bad, good]), 16, 16, backend)
    assert torch.equal(mixed.mask, clean.mask)
    assert torch.isfinite(mixed.depth).all()
    assert not rasterize(vertices[:, :3] + 5, good, 16, 16, backend).mask.any()


def test_attribute_of_a_seam_comes_from_its_own_faces():
    vertices, faces = sphere()
    corners = torch.arange(faces.numel()).view(-1, 3)
    attributes = torch.rand(faces.shape[0], 1, 2).expand(-1, 3, -1).reshape(-1, 2)  # constant per triangle
    fragments = rasterize(vertices, faces, 32, 32)
    image = interpolate(fragments, attributes, corners)
    expected = attributes[corners[fragments.triangle_ids[fragments.mask].long(), 0]]
    torch.testing.assert_close(image[fragments.mask], expected)
    assert (image[~fragments.mask] == 0).all()


@pytest.mark.parametrize("shared", [False, True])
def test_compiled_fragments_equal_the_torch_formulas_and_their_gradients(shared):
    base, faces = sphere()
    generator = torch.Generator().manual_seed(1)
    base = base + torch.randn(3, *base.shape[1:], generator=generator) * 0.05
    colours = torch.randn((base.shape[1], 4) if shared else (3, base.shape[1], 4), generator=generator)
    results = []
    for module in (raster_numba, raster_torch):
        vertices, attributes = base.clone().requires_grad_(), colours.clone().requires_grad_()
        ids = rasterize(vertices, faces, 40, 56).triangle_ids
        pixels = (ids.view(-1) >= 0).nonzero().view(-1)
        weights, depth = module.barycentrics(vertices, faces, ids, pixels)
        image = module.interpolate(attributes, faces, ids, pixels, weights)
        (image.sin().sum() + depth.square().sum() + weights[:, 0].pow(3).sum()).backward()
        results.append((weights, depth, image, vertices.grad, attributes.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 * b.abs().max().item(), rtol=1e-4)


def test_gradients_equal_finite_differences_inside_the_silhouette():
    base, faces = sphere(subdivisions=2)
    base = base.double()
    fragments = rasterize(base, faces, 24, 24)
    ids, pixels = fragments.triangle_ids, fragments.pixels
    attributes = torch.randn(1, base.shape[1], 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    # The ids are held: the derivative is that of the picture between changes of coverage. Pixels whose centre lies
    # on an edge are excluded, where the clamp of the coordinates has a corner.
    inner = fragments.pixel_barycentrics.min(dim=1).values > 0.02
    pixels = pixels[inner]

    def picture(vertices, attributes):
        weights, depth = raster_torch.barycentrics(vertices, faces, ids, pixels)
        return raster_torch.interpolate(attributes, faces, ids, pixels, weights).flatten(), depth

    inputs = (base.clone().requires_grad_(), attributes.requires_grad_())
    assert torch.autograd.gradcheck(picture, inputs, eps=1e-6, atol=1e-6, fast_mode=True)


def test_vertex_gradient_predicts_the_change_of_a_real_render():
    vertices, faces = sphere(subdivisions=4)
    colours = torch.sin(vertices * 4 + torch.tensor([0.3, 1.0, 2.0]))
    vertices = vertices.clone().requires_grad_()
    size = 64
    centre = (torch.arange(size) + 0.5) * 2 / size - 1
    window = (1 - ((centre[:, None] ** 2 + centre[None] ** 2) / 0.36)).clamp(min=0)[None, :, :, None]  # no silhouette

    def loss(points):
        return (interpolate(rasterize(points, faces, size, size), colours, faces) * window).square().sum()

    loss(vertices).backward()
    direction = torch.sin(vertices.detach()[..., [1, 2, 0]] * 3 + 0.5)
    step = 2e-3
    with torch.no_grad():
        numeric = (loss(vertices + step * direction) - loss(vertices - step * direction)) / (2 * step)
    analytic = (vertices.grad * direction).sum()
    assert abs(analytic - numeric) < 0.02 * abs(numeric)


def test_edge_on_triangles_keep_gradients_finite():
    vertices = torch.tensor([[[-0.9, 0.0, 0.0], [0.9, 1e-7, 0.5], [0.9, -1e-7, 1.0], [0.1, 1e-3, 0]]])
    faces = torch.tensor([[0, 1, 2], [0, 1, 3]])
    for shift in torch.linspace(-0.05, 0.05, 41):
        points = (vertices + torch.tensor([0.0, float(shift), 0.0])).requires_grad_()
        fragments = rasterize(points, faces, 33, 33)
        (fragments.depth.sum() + fragments.barycentrics.square().sum()).backward()
        assert torch.isfinite(points.grad).all()
        assert points.grad.abs().max() < 1e5


def test_many_threads_give_the_same_pictures():
    vertices, faces = random_mesh(5, batch=7)
    single = rasterize(vertices, faces, 40, 40).triangle_ids
    torch.set_num_threads(3)
    try:
        assert torch.equal(rasterize(vertices, faces, 40, 40).triangle_ids, single)
        if "fork" in multiprocessing.get_all_start_methods():  # as data loaders do
            context = multiprocessing.get_context("fork")
            queue = context.SimpleQueue()
            worker = context.Process(target=_render_in_child, args=(queue, vertices, faces))
            worker.start()
            worker.join(60)
            assert worker.exitcode == 0
            np.testing.assert_array_equal(queue.get(), single.numpy())
    finally:
        torch.set_num_threads(1)


def test_kernels_compile_where_nothing_can_be_written(monkeypatch):
    real = compiled.njit

    def without_cache(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(compiled, "njit", without_cache)
    out = np.zeros(3)
    compiled.run_over_batch(compiled.kernel(_count), 3, out)
    assert out.tolist() == [0, 1, 2]


def _count(first, last, out):
    for i in range(first, last):
        out[i] = i


def _render_in_child(queue, vertices, faces):
    queue.put(rasterize(vertices, faces, 40, 40).triangle_ids.numpy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(4, 3), torch.zeros(1, 3), 8, 8), "vertices"),
        ((torch.zeros(1, 4, 3), torch.zeros(1, 4), 8, 8), "faces"),
        ((torch.zeros(1, 4, 3), torch.zeros(1, 3), 0, 8), "size"),
        ((torch.zeros(1, 4, 3), torch.zeros(1, 3), 8, 8, "vulkan"), "back end"),
    ],
)
def test_wrong_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        rasterize(*arguments)
