"""Speed of the rasteriser and the renderer on the shipped head: `python benchmarks/bench_raster.py --threads 1`.

Best of several runs, milliseconds per image; "backward" goes to vertices, albedo and light.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from tokenface.geometry.camera import Camera
from tokenface.head.registry import load_head
from tokenface.render import Renderer, ambient_light, interpolate, rasterize, vertex_normals


def best(run: Callable[[], object], images: int, device: str, repeats: int) -> float:
    """Milliseconds per image of the fastest of some runs, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:]) / images * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 224, 512])
    parser.add_argument("--backends", nargs="+", default=["auto"], choices=["auto", "numba", "triton", "torch"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    head = load_head().to(options.device)
    batch, device, repeats = options.batch, options.device, options.repeats

    vertices = head(torch.zeros(batch, head.sizes.shape, device=device)).vertices
    vertices = vertices - vertices.mean(dim=1, keepdim=True)
    rotation = torch.zeros(batch, 3, device=device)
    rotation[:, 1] = torch.linspace(-1, 1, batch)
    camera = Camera(torch.full((batch,), 6.5, device=device), rotation, torch.zeros(batch, 3, device=device))
    projected, light = camera.project(vertices), ambient_light(batch, device=device)
    faces = head.faces
    print(f"{head.name}: {head.vertex_count} vertices, {len(faces)} triangles; {device}, batch {batch}, ms per image")
    normals = best(lambda: vertex_normals(vertices, faces), batch, device, repeats)
    print(f"vertex normals {normals:.2f}")
    for size in options.sizes:
        for backend in options.backends:
            renderer = Renderer(head, backend).to(device)
            fragments = rasterize(projected, faces, size, size, backend)
            texture = None
            if renderer.albedo is not None:
                texture = renderer.albedo(torch.zeros(batch, head.sizes.texture, device=device)).requires_grad_()
            points, lamp = vertices.clone().requires_grad_(), light.clone().requires_grad_()

            def render(renderer=renderer, size=size, points=points, lamp=lamp, texture=texture):
                return renderer.render_vertices(points, camera, lamp, size, texture).image

            def train(render=render):
                render().square().mean().backward()

            def draw(size=size, backend=backend):
                rasterize(projected, faces, size, size, backend)

            def spread(fragments=fragments):
                interpolate(fragments, vertices, faces)

            with torch.no_grad():
                raster, attribute, forward = (best(f, batch, device, repeats) for f in (draw, spread, render))
            both = best(train, batch, device, repeats)
            print(
                f"{size:4d}² {backend:6s} rasterise {raster:6.2f}  interpolate {attribute:5.2f}  "
                f"render {forward:6.2f}  render + backward {both:6.2f}"
            )


if __name__ == "__main__":
    main()
