"""Renderer, parameters of a batch of faces to images: head model, camera, rasteriser, albedo, shading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenface.geometry.camera import Camera
from tokenface.geometry.normals import vertex_normals
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters
from tokenface.render.rasterizer import Backend, Fragments, interpolate, rasterize
from tokenface.render.shading import shade
from tokenface.render.texture import HeadAlbedo, sample_texture

CLAY = 0.6
"""Grey (sRGB) of a head model that has no albedo."""


@dataclass(frozen=True)
class RenderedFaces:
    """Pictures of B faces, S pixels square; zeros where `mask` is False.

    image: [B, 3, S, S], albedo × light, not clamped.  mask: [B, S, S] bool.  weight: [B, S, S] in [0, 1], the mask
    times the interpolated vertex weights that were asked for.  depth: [B, S, S], camera z, smaller is nearer.
    normals: [B, S, S, 3], unit, camera space (x right, y up, z towards the viewer).  uv: [B, S, S, 2], v up.
    albedo: [B, 3, S, S].  vertices: [B, V, 3], metres, head space.  projected: [B, V, 3], crop NDC.
    """

    image: Tensor
    mask: Tensor
    weight: Tensor
    depth: Tensor
    normals: Tensor
    uv: Tensor
    albedo: Tensor
    fragments: Fragments
    vertices: Tensor
    projected: Tensor


class Renderer(nn.Module):
    """Draws a head model; differentiable with respect to every parameter, inside the silhouette."""

    faces: Tensor
    uv: Tensor
    uv_faces: Tensor

    def __init__(self, head: HeadModel, backend: Backend = "auto"):
        super().__init__()
        self.head = head
        self.backend: Backend = backend
        self.albedo = HeadAlbedo(head) if head.data.albedo_basis is not None else None
        for name, array in (("faces", head.data.faces), ("uv_faces", head.data.uv_faces)):
            self.register_buffer(name, torch.from_numpy(np.array(array, np.int64)), persistent=False)
        self.register_buffer("uv", torch.from_numpy(np.array(head.data.uv, np.float32)), persistent=False)

    def render(
        self, parameters: FaceParameters, size: int = 224, *, vertex_weights: Tensor | None = None
    ) -> RenderedFaces:
        """Every component of the parameters to pictures.

        Args:
            parameters: light is taken as it is; `shading.ambient_light` is what shows the albedo unchanged.
            size: pixels of the square crop.
            vertex_weights: [V] for `RenderedFaces.weight`, for example `region_weights("face")`.
        """
        mesh = self.head(parameters.shape, parameters.expression, parameters.jaw)
        texture_map = None if self.albedo is None else self.albedo(parameters.texture)
        camera = Camera.from_vector(parameters.camera)
        return self.render_vertices(mesh.vertices, camera, parameters.light, size, texture_map, vertex_weights)

    def render_vertices(
        self,
        vertices: Tensor,
        camera: Camera,
        light: Tensor,
        size: int = 224,
        texture_map: Tensor | None = None,
        vertex_weights: Tensor | None = None,
    ) -> RenderedFaces:
        """Posed head-space vertices [B, V, 3] (metres) to pictures.

        Args:
            light: [B, 9, 3] or [B, 27], on camera-space normals.
            texture_map: [B, 3, R, R] sRGB, row 0 at v = 1; None: grey.
            vertex_weights: [V] in [0, 1]; None: 1 everywhere.
        """
        projected = camera.project(vertices)
        fragments = rasterize(projected, self.faces, size, size, self.backend)
        attributes = camera.rotate(vertex_normals(vertices, self.faces))
        if vertex_weights is not None:
            weights = vertex_weights.to(attributes)[None, :, None].expand(len(vertices), -1, 1)
            attributes = torch.cat([attributes, weights], dim=-1)
        images = interpolate(fragments, attributes, self.faces)
        normals = F.normalize(images[..., :3], dim=-1)
        uv = interpolate(fragments, self.uv, self.uv_faces)
        mask = fragments.mask
        weight = mask.to(images.dtype) if vertex_weights is None else images[..., 3]

        if texture_map is None:
            albedo = normals.new_full((len(vertices), 3, size, size), CLAY)
        else:
            albedo = sample_texture(texture_map, uv)
        albedo = albedo * mask[:, None]
        return RenderedFaces(
            image=shade(albedo, normals, light),
            mask=mask,
            weight=weight,
            depth=fragments.depth,
            normals=normals,
            uv=uv,
            albedo=albedo,
            fragments=fragments,
            vertices=vertices,
            projected=projected,
        )

    def face_weights(self) -> Tensor | None:
        """[V]: 1 on the face as photos show it (`HeadData.face_vertices`); None where no region is named so."""
        indices = self.head.data.face_vertices()
        if indices is None:
            return None
        weights = torch.zeros(self.head.vertex_count, device=self.faces.device)
        weights[torch.from_numpy(indices).to(weights.device)] = 1
        return weights

    def region_weights(self, *names: str) -> Tensor:
        """[V]: 1 on the vertices of the head model's named regions, 0 elsewhere.

        Raises:
            KeyError: the head model has no such region; the message lists those that it has.
        """
        weights = torch.zeros(self.head.vertex_count, device=self.faces.device)
        for name in names:
            if name not in self.head.data.regions:
                raise KeyError(
                    f"no region {name!r}; '{self.head.name}' has {', '.join(sorted(self.head.data.regions))}"
                )
            indices = np.array(self.head.data.regions[name], np.int64)
            weights[torch.from_numpy(indices).to(weights.device)] = 1
        return weights
