"""From posed heads, outfits, lights and cameras to pictures: two layers, shaded per pixel and composed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.data.noise import noise_bank
from tokenface.data.sampling import View
from tokenface.data.scene.anatomy import Anatomy
from tokenface.data.scene.clothes import Body
from tokenface.data.scene.glasses import GlassesMesh
from tokenface.data.scene.hair import Bun, strands_of
from tokenface.data.scene.hats import Brim
from tokenface.data.scene.layers import Drawn, Layer, join
from tokenface.data.scene.lighting import Light, ShadowTable
from tokenface.data.scene.occluders import OccluderMesh
from tokenface.data.scene.outfit import Outfit, Person
from tokenface.data.scene.paint import CHANNELS, FaceMap
from tokenface.data.scene.parts import Look, Shape, Topology, hide
from tokenface.data.scene.placement import Placement
from tokenface.data.scene.shell import Shell
from tokenface.data.scene.surface import Pixels, bumpy_normals, head_albedo, illuminate, look_albedo
from tokenface.head.model import HeadModel
from tokenface.render.rasterizer import Backend

HAIR, BUN, HAT, BRIM, FRAME, LENS, HAND, OBJECT = range(8)
HEAD = 0
INSIDE_SKIN = (0.30, 0.12, 0.10)
"""Surfaces seen from their inner side are the inside of a mouth or a nostril."""


@dataclass(frozen=True)
class Picture:
    """image: [B, 3, S, S] sRGB.  mask: [B, 1, S, S] face skin in sight.  depth: [B, S, S] of head and clothes.
    cover, cover_depth: [B, S, S] opacity and depth of what is in front (hair, glasses, hats, hands)."""

    image: Tensor
    mask: Tensor
    depth: Tensor
    cover: Tensor
    cover_depth: Tensor


class Painter:
    """Draws the pictures of one head model; holds what is computed once per head model."""

    def __init__(self, head: HeadModel, size: int, backend: Backend):
        self.size, self.backend = size, backend
        device = head.template.device
        template, faces = head.template.cpu(), head.faces.cpu()
        anatomy = Anatomy.of(head)
        face_map = FaceMap(anatomy, template)
        shadows = ShadowTable(template, faces, ~(anatomy.inside | anatomy.eyeball))
        self.has_albedo = head.data.albedo_mean is not None
        self.body, self.bun, self.brim = Body(), Bun(), Brim()
        self.hair_shell, self.hat_shell = Shell(16, 9), Shell(8, 6)
        self.glasses, self.occluders = GlassesMesh(), OccluderMesh()
        own = Topology(faces, face_map.coordinates)
        uv = torch.as_tensor(head.data.uv).float() if self.has_albedo else None
        uv_faces = torch.as_tensor(head.data.uv_faces).long() if self.has_albedo else None
        self.base = Layer([own, self.body.garment, self.body.panel, self.body.tie], uv_faces, uv).to(device)
        self.over = Layer(
            [
                self.hair_shell.topology, self.bun.topology, self.hat_shell.topology, self.brim.topology,
                self.glasses.frame, self.glasses.lenses, self.occluders.hand, self.occluders.object,
            ]
        ).to(device)  # fmt: skip
        self.static = self._static(head, anatomy, face_map, shadows).to(device)
        self.cheek_uv = _cheek_texture(head, face_map, anatomy) if self.has_albedo else None
        self.face_map = face_map.masks.flatten(1).T.contiguous().to(device)
        self.bank = noise_bank().to(device)
        self.shadows, self.anatomy = shadows.to(device), anatomy.to(device)

    def _static(self, head: HeadModel, anatomy: Anatomy, face_map: FaceMap, shadows: ShadowTable) -> Tensor:
        """[V + clothes, 7]: place on the face map (2), eyeball, inside, face, open sky, angle off the eye's axis."""
        template = head.template.cpu()
        joints = head.joint_template.cpu()
        centre = torch.where(template[:, :1] > 0, joints[3], joints[4])
        off_axis = torch.acos(F.normalize(template - centre, dim=-1)[:, 2].clamp(-1, 1))
        sky = torch.where(anatomy.inside, 0.4, torch.where(anatomy.eyeball, shadows.ambient.clamp(min=0.65), shadows.ambient))
        columns = [anatomy.eyeball, anatomy.inside, anatomy.face, sky, off_axis]
        own = torch.cat([face_map.coordinates, torch.stack([c.float() for c in columns], dim=1)], dim=1)
        clothes = torch.zeros(self.base.faces.max().item() + 1 - len(own), own.shape[1])
        clothes[:, 5] = 1
        return torch.cat([own, clothes])

    def cheek_colour(self, maps: Tensor) -> Tensor:
        """[n, 3] mean skin colour of albedo maps [n, 3, R, R]."""
        size = maps.shape[-1]
        column = (self.cheek_uv[:, 0] * size).long().clamp(0, size - 1)
        row = ((1 - self.cheek_uv[:, 1]) * size).long().clamp(0, size - 1)
        return maps[:, :, row, column].mean(-1)

    def draw(
        self,
        vertices: Tensor,
        landmarks: Tensor,
        view: View,
        light: Light,
        factor: Tensor,
        person: Person,
        outfit: Outfit,
        albedo: Tensor | None,
        background: Tensor,
    ) -> Picture:
        """Args: vertices [B, V, 3]; landmarks [B, 68, 3] seen from the front; factor [B] exposure;
        albedo [B, 3, R, R] maps or None; background [B, 3, S, S]."""
        place = Placement.of(self.anatomy, vertices, landmarks, view.rotation)
        base = self._draw_base(place, outfit, view, light)
        over = self._draw_over(place, outfit, view)
        colour, mask = self._shade_base(base, person, outfit, light, factor, albedo)
        over_colour, alpha = self._shade_over(over, outfit, light, factor)
        return self._compose(base, colour, mask, over, over_colour, alpha, light, background)

    def _draw_base(self, place: Placement, outfit: Outfit, view: View, light: Light) -> Drawn:
        garment, panel, tie = self.body.shapes(place, outfit.clothes)
        vertices, _, _ = join([Shape(place.vertices), garment, panel, tie])
        to_lamp = torch.einsum("bij,bi->bj", view.rotation, light.direction[:, 0])  # camera space to head space
        lit = self.shadows.lit(to_lamp)
        lit = torch.cat([lit, lit.new_ones(len(lit), vertices.shape[1] - lit.shape[1])], dim=1)
        return self.base.draw(
            vertices, view.project(vertices), view.rotation, lit[..., None], self.static, self.size, self.backend
        )

    def _draw_over(self, place: Placement, outfit: Outfit, view: View) -> Drawn:
        hair, hat = outfit.hair, outfit.hat
        hat_shell = self.hat_shell.shape(place, hat.shell)
        shapes = [
            strands_of(hair, self.hair_shell.shape(place, hair.shell)),
            self.bun.shape(place, hair),
            Shape(hide(hat_shell.vertices, hat.shown)),
            self.brim.shape(place, hat, hat_shell, self.hat_shell.rows),
            *self.glasses.shapes(place, outfit.glasses),
            *self.occluders.shapes(place, outfit.occluders),
        ]
        vertices, tangents, end = join(shapes)
        extra = torch.cat([tangents @ view.rotation.transpose(1, 2), end[..., None]], dim=-1)
        nothing = vertices.new_zeros(vertices.shape[1], 1)
        return self.over.draw(
            vertices, view.project(vertices), view.rotation, extra, nothing, self.size, self.backend
        )

    def _shade_base(
        self, base: Drawn, person: Person, outfit: Outfit, light: Light, factor: Tensor, albedo: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """[N, 3] sRGB and [N] share of face skin."""
        normals = F.normalize(base.dynamic[:, :3], dim=-1)
        behind = normals[:, 2] < 0
        normals = torch.where(behind[:, None], -normals, normals)
        place, (eye, inside, face, sky, off_axis) = base.static[:, :2], base.static[:, 2:].unbind(1)
        is_head = base.part == HEAD
        pixels = Pixels(base.rows, normals, behind, sky, base.dynamic[:, 3])
        hair = outfit.hair
        cropped = torch.where(hair.shown, 0.9, person.complexion.scalp * 0.4)
        texels = None if albedo is None else _sample_maps(albedo, base.rows, base.texture)
        skin, gloss = head_albedo(
            pixels, person.complexion, hair.colour, cropped, self.face_map, place, eye, inside, off_axis, texels, self.bank
        )
        mouth = skin.new_tensor(INSIDE_SKIN) * (0.3 + 0.7 * skin)
        skin = torch.where((behind & is_head)[:, None], mouth, skin)
        looks = Look.stack(list(outfit.clothes.looks))
        cloth, _ = look_albedo(looks, (base.part - 1).clamp(min=0), base.rows, base.texture, self.bank)
        surface = torch.where(is_head[:, None], skin, cloth)
        cloth_gloss = looks.gloss[base.rows, (base.part - 1).clamp(min=0)]
        bumpy = bumpy_normals(pixels, place, person.complexion, self.bank)
        rough = (is_head & ~behind)[:, None] & (eye[:, None] < 0.5)
        smooth = torch.where(eye > 0.5, 90.0, 14.0)
        gloss = torch.where(is_head, gloss * (0.3 + 0.9 * person.complexion.relief[base.rows]), cloth_gloss)
        pixels = Pixels(
            base.rows,
            torch.where(rough, bumpy, normals),
            behind,
            torch.where(behind & is_head, sky * 0.4, sky),
            pixels.lit,
        )
        return illuminate(surface, gloss, smooth, pixels, light, factor), face * is_head * ~behind

    def _shade_over(self, over: Drawn, outfit: Outfit, light: Light, factor: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3] sRGB and [N] opacity."""
        hair_look, cloth_look = outfit.hair.look, outfit.hat.look
        looks = Look.stack(
            [hair_look, hair_look, cloth_look, cloth_look, *outfit.glasses.looks, *outfit.occluders.looks]
        )
        at = (over.rows, over.part)
        colour, noise = look_albedo(looks, over.part, over.rows, over.texture, self.bank)
        normals = F.normalize(over.dynamic[:, :3] + 1e-9, dim=-1)
        behind = normals[:, 2] < 0
        normals = torch.where(behind[:, None], -normals, normals)
        is_lens = over.part == LENS
        sheen = looks.sheen[at]
        # strands and weave tilt the surface a little
        normals = F.normalize(normals + (0.12 * noise * looks.contrast[at])[:, None] * normals.new_tensor([1.0, 0.4, 0]), dim=-1)
        tangents = F.normalize(over.dynamic[:, 3:6] + 1e-9, dim=-1)
        ones = torch.ones_like(noise)
        hollow = torch.where(behind & ~is_lens, 0.45, 1.0)
        pixels = Pixels(over.rows, normals, behind, hollow * (1 + 0.15 * noise * sheen).clamp(0.3, 1.5), hollow)
        sharpness = torch.where(sheen > 0.5, 24.0, torch.where(is_lens, 40.0, 12.0)) * ones
        shaded = illuminate(colour, looks.gloss[at], sharpness, pixels, light, factor, tangents, sheen)
        ragged = looks.ragged[at]
        tip = ((over.dynamic[:, 6] / ragged.clamp(min=1e-4)) + 0.55 * noise).clamp(0, 1)
        alpha = looks.alpha[at] * torch.where(ragged > 0, tip, ones)
        # reflections make clear glass opaque where they are
        alpha = torch.where(is_lens, (alpha + 0.25 * (shaded.mean(-1) - 0.75).clamp(min=0)).clamp(0, 1), alpha)
        return shaded, alpha

    def _compose(
        self,
        base: Drawn,
        colour: Tensor,
        mask: Tensor,
        over: Drawn,
        over_colour: Tensor,
        alpha: Tensor,
        light: Light,
        background: Tensor,
    ) -> Picture:
        batch, size = background.shape[0], self.size
        canvas = background.permute(0, 2, 3, 1).reshape(-1, 3).clone()
        depth = base.depth_map.view(-1)
        alpha = alpha * (over.depth < depth[over.index])
        cover = torch.zeros_like(depth)
        cover[over.index] = alpha
        solid = torch.zeros_like(depth)
        solid[over.index] = alpha * (over.part != LENS)
        canvas[base.index] = colour * self._contact_shadow(solid.view(batch, size, size), base, light)[:, None]
        canvas[over.index] = torch.lerp(canvas[over.index], over_colour, alpha[:, None])
        skin = torch.zeros_like(depth)
        skin[base.index] = mask.to(depth.dtype)
        skin = skin * (1 - cover)
        labels = torch.zeros(batch * size * size, device=depth.device)
        labels[base.index] = 1.0 + base.part
        labels[over.index] = torch.where(alpha > 0.5, 10.0 + over.part, labels[over.index])
        image = canvas.view(batch, size, size, 3).permute(0, 3, 1, 2)
        return Picture(
            image=soften_edges(image, labels.view(batch, size, size)),
            mask=skin.view(batch, 1, size, size),
            depth=base.depth_map,
            cover=cover.view(batch, size, size),
            cover_depth=over.depth_map,
        )

    def _contact_shadow(self, solid: Tensor, base: Drawn, light: Light) -> Tensor:
        """[N] factor: hair, hats and hands darken what is next to them, on the side away from the key lamp."""
        size = self.size
        width = max(3, size // 16) | 1
        soft = F.avg_pool2d(solid[:, None], width, 1, width // 2, count_include_pad=False)
        soft = F.avg_pool2d(soft, width, 1, width // 2, count_include_pad=False)[:, 0]
        shift = light.direction[:, 0, :2] * size * 0.04
        within = base.index % (size * size)
        x = (within % size + shift[base.rows, 0]).round().long().clamp(0, size - 1)
        y = (within // size - shift[base.rows, 1]).round().long().clamp(0, size - 1)
        dark = soft.reshape(-1)[base.rows * size * size + y * size + x]
        return 1 - dark * (0.15 + 0.4 * light.shadow[base.rows])


def soften_edges(image: Tensor, labels: Tensor) -> Tensor:
    """Smooth the staircase between surfaces: pixels beside a change of label take a 3 × 3 binomial mean."""
    across = F.pad((labels[:, :, 1:] != labels[:, :, :-1]).float(), [0, 1, 0, 0])
    down = F.pad((labels[:, 1:] != labels[:, :-1]).float(), [0, 0, 0, 1])
    edge = torch.maximum(across, down)
    edge = torch.maximum(edge, torch.maximum(across.roll(1, 2), down.roll(1, 1)))[:, None]
    padded = F.pad(image, [1, 1, 1, 1], mode="replicate")
    rows = 0.25 * padded[:, :, :-2] + 0.5 * padded[:, :, 1:-1] + 0.25 * padded[:, :, 2:]
    smooth = 0.25 * rows[..., :-2] + 0.5 * rows[..., 1:-1] + 0.25 * rows[..., 2:]
    return torch.lerp(image, smooth, edge)


def _sample_maps(maps: Tensor, rows: Tensor, uv: Tensor) -> Tensor:
    """Bilinear texels of each pixel's own map: maps [B, 3, R, R], rows [N], uv [N, 2] → [N, 3]."""
    size = maps.shape[-1]
    flat = maps.permute(0, 2, 3, 1).reshape(-1, 3)
    x = (uv[:, 0] * size - 0.5).clamp(0, size - 1)
    y = ((1 - uv[:, 1]) * size - 0.5).clamp(0, size - 1)
    left, top = x.floor().clamp(max=size - 2), y.floor().clamp(max=size - 2)
    corner = rows * (size * size) + top.long() * size + left.long()
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    upper = torch.lerp(flat[corner], flat[corner + 1], fx)
    lower = torch.lerp(flat[corner + size], flat[corner + size + 1], fx)
    return torch.lerp(upper, lower, fy)


def _cheek_texture(head: HeadModel, face_map: FaceMap, anatomy: Anatomy) -> Tensor:
    """[K, 2] texture coordinates of the cheeks' vertices."""
    size = face_map.masks.shape[-1]
    texel = (face_map.coordinates * size).long().clamp(0, size - 1)
    cheek = (face_map.masks[CHANNELS.index("cheeks")][texel[:, 1], texel[:, 0]] > 0.5) & anatomy.face
    uv = torch.zeros(head.vertex_count, 2)
    uv[head.faces.cpu().flatten()] = torch.as_tensor(head.data.uv).float()[torch.as_tensor(head.data.uv_faces).long().flatten()]
    return uv[cheek].to(head.template.device)
