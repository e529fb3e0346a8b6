"""Posed heads, outfits, lights and cameras to images: two layers, shaded per pixel and composed."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.core.device import constant
from tokenface.data.noise import noise_bank
from tokenface.data.sampling import View
from tokenface.data.scene.anatomy import Anatomy, Placement
from tokenface.data.scene.clothes import Body
from tokenface.data.scene.glasses import GlassesMesh
from tokenface.data.scene.hair import Bun, strands_of
from tokenface.data.scene.hats import Brim
from tokenface.data.scene.layers import Drawn, Layer, join
from tokenface.data.scene.lighting import Hemisphere, Light, ShadowTable
from tokenface.data.scene.occluders import OccluderMesh
from tokenface.data.scene.outfit import Outfit, Person
from tokenface.data.scene.paint import CHANNELS, SIZE, FaceMap
from tokenface.data.scene.parts import Look, Shape, Topology, hide
from tokenface.data.scene.shell import Shell
from tokenface.data.scene.surface import (
    HeadSurface,
    Pixels,
    SkinGrain,
    bumpy_normals,
    flat_index,
    head_albedo,
    illuminate,
    look_albedo,
    look_value,
    per_pixel,
    unit,
)
from tokenface.head.model import HeadModel
from tokenface.parsing import regions
from tokenface.render.rasterizer import Backend

KEPT = 4
"""Head models whose measures are kept."""
_measures: OrderedDict[str, tuple[Anatomy, ShadowTable]] = OrderedDict()


def measured(head: HeadModel) -> tuple[Anatomy, ShadowTable]:
    """Anatomy and shadows of the mean head, on the CPU; head models with the same arrays share them.

    Nobody may change them: both `to` give copies.
    """
    key = _content(head)
    if key not in _measures:
        with torch.inference_mode(False), torch.no_grad():  # others may use them with gradients
            anatomy = Anatomy.of(head)
            template, faces = head.template.detach().cpu(), head.faces.cpu()
            _measures[key] = anatomy, ShadowTable(template, faces, ~(anatomy.inside | anatomy.eyeball))
        while len(_measures) > KEPT:
            _measures.popitem(last=False)
    _measures.move_to_end(key)
    return _measures[key]


def _content(head: HeadModel) -> str:
    """Of all that the measures depend on: mean head, triangles, regions, skinning weights, landmarks."""
    data, digest = head.data, hashlib.sha256()
    landmarks = (
        data.static_landmark_faces, data.static_landmark_barycentrics, data.contour_faces, data.contour_barycentrics,
    )  # fmt: skip
    for array in (head.template.detach().cpu().numpy(), data.faces, data.skinning_weights, *landmarks):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    for name, indices in sorted(data.regions.items()):
        digest.update(f"{name} {len(indices)}".encode())
        digest.update(np.ascontiguousarray(indices).tobytes())
    return digest.hexdigest()


HAIR, BUN, HAT, BRIM, FRAME, LENS, HAND, OBJECT = range(8)
HEAD = 0
REGION_OF_COVER = (
    regions.HAIR, regions.HAIR, regions.HAT, regions.HAT, regions.GLASSES, regions.GLASSES, regions.OBJECT,
    regions.OBJECT,
)  # fmt: skip
"""Of the parts of the upper layer."""
INSIDE_SKIN = (0.30, 0.12, 0.10)
"""Surfaces seen from their inner side are the inside of a mouth or a nostril."""


@dataclass(frozen=True)
class Picture:
    """image: [B, 3, S, S] sRGB.  mask: [B, 1, S, S] face skin in sight.  depth: [B, S, S] of head and clothes.
    cover, cover_depth: [B, S, S] opacity and depth of what is in front (hair, glasses, hats, hands).
    regions: [B, S, S] uint8, what each pixel shows (`parsing.regions`); None where nobody asked."""

    image: Tensor
    mask: Tensor
    depth: Tensor
    cover: Tensor
    cover_depth: Tensor
    regions: Tensor | None = None


class Painter:
    """Draws the pictures of one head model; holds what is computed once per head model."""

    def __init__(self, head: HeadModel, size: int, backend: Backend):
        self.size, self.backend = size, backend
        device = head.template.device
        template, faces = head.template.cpu(), head.faces.cpu()
        anatomy, shadows = measured(head)
        face_map = FaceMap(anatomy, template)
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
        self.cheek_uv = _cheek_texture(head, face_map, anatomy)
        self.face_map = face_map.masks.flatten(1).to(device)
        self.bank = noise_bank().to(device)
        self.shadows, self.anatomy = shadows.to(device), anatomy.to(device)

    def _static(self, head: HeadModel, anatomy: Anatomy, face_map: FaceMap, shadows: ShadowTable) -> Tensor:
        """[V + clothes, 8]: place on the face map (2), eyeball, inside, teeth, face, open sky, angle off eye axis."""
        template = head.template.cpu()
        joints = head.joint_template.cpu()
        centre = torch.where(template[:, :1] > 0, joints[3], joints[4])
        off_axis = torch.acos(F.normalize(template - centre, dim=-1)[:, 2].clamp(-1, 1))
        sky = torch.where(
            anatomy.inside, 0.3, torch.where(anatomy.eyeball, shadows.ambient.clamp(min=0.45), shadows.ambient)
        )
        columns = [anatomy.eyeball, anatomy.inside, anatomy.teeth, anatomy.face, sky, off_axis]
        own = torch.cat([face_map.coordinates, torch.stack([c.float() for c in columns], dim=1)], dim=1)
        clothes = torch.zeros(int(self.base.faces.max()) + 1 - len(own), own.shape[1])
        clothes[:, 6] = 1
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
        with_regions: bool = False,
    ) -> Picture:
        """Args: vertices [B, V, 3]; landmarks [B, 68, 3] seen from the front; factor [B] exposure;
        albedo [B, 3, R, R] maps or None; background [B, 3, S, S]; with_regions: for face parsing."""
        place = Placement.of(self.anatomy, vertices, landmarks, view.rotation)
        base = self._draw_base(place, outfit, view, light)
        over = self._draw_over(place, outfit, view)
        hemisphere = Hemisphere(light)
        colour, mask = self._shade_base(base, person, outfit, light, hemisphere, factor, albedo)
        over_colour, alpha = self._shade_over(over, outfit, light, hemisphere, factor)
        picture, hidden = self._compose(base, colour, mask, over, over_colour, alpha, light, background)
        return replace(picture, regions=self._regions(base, over, hidden, outfit)) if with_regions else picture

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
        return self.over.draw(vertices, view.project(vertices), view.rotation, extra, nothing, self.size, self.backend)

    def _shade_base(
        self,
        base: Drawn,
        person: Person,
        outfit: Outfit,
        light: Light,
        hemisphere: Hemisphere,
        factor: Tensor,
        albedo: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """[3, N] sRGB and [N] share of face skin. Cloth is few pixels, shaded apart from skin."""
        rows, is_head = base.rows, base.part == HEAD
        behind = base.behind
        normals = _towards_viewer(base.dynamic[:3], behind)
        eye, inside, teeth, face, sky, off_axis = base.static[2:]
        texels = None if albedo is None else _sample_maps(albedo, rows, base.texture)
        where = HeadSurface(base.static[:2], eye, inside, teeth, off_axis, texels)
        grain = SkinGrain.at(where.place, rows, person.complexion, self.bank)
        hair = outfit.hair
        cropped = torch.where(hair.shown, 0.9, person.complexion.scalp * 0.4)
        skin, gloss = head_albedo(rows, where, grain, person.complexion, hair.colour, cropped, self.face_map)
        mouth = constant(INSIDE_SKIN, device=skin.device)[:, None] * (0.3 + 0.7 * skin)
        skin = torch.where(behind, mouth, skin)
        gloss = gloss * (0.3 + 0.9 * per_pixel(person.complexion.relief, rows))
        bumpy = bumpy_normals(normals, rows, grain, person.complexion)
        normals = torch.where(is_head & ~behind & (eye < 0.5), bumpy, normals)

        looks = Look.stack(list(outfit.clothes.looks))
        worn = (~is_head).nonzero()[:, 0]
        part, wearer = base.part.index_select(0, worn) - 1, rows.index_select(0, worn)
        cloth, _ = look_albedo(looks, part, wearer, base.texture.index_select(1, worn), self.bank)
        skin = skin.index_copy(1, worn, cloth)
        gloss = gloss.index_copy(0, worn, look_value(looks.gloss, flat_index(looks, part, wearer)))
        open_sky = torch.where(behind & is_head, sky * 0.4, sky)
        pixels = Pixels(rows, normals, open_sky, base.dynamic[3], hemisphere)
        return illuminate(skin, gloss, eye > 0.5, pixels, light, factor), face * is_head * ~behind

    def _shade_over(
        self, over: Drawn, outfit: Outfit, light: Light, hemisphere: Hemisphere, factor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[3, N] sRGB and [N] opacity."""
        hair, cloth = outfit.hair.look, outfit.hat.look
        looks = Look.stack([hair, hair, cloth, cloth, *outfit.glasses.looks, *outfit.occluders.looks])
        at = flat_index(looks, over.part, over.rows)
        colour, noise = look_albedo(looks, over.part, over.rows, over.texture, self.bank)
        behind = over.behind
        x, y, z = _towards_viewer(over.dynamic[:3], behind)
        is_lens = over.part == LENS
        sheen, ragged = look_value(looks.sheen, at), look_value(looks.ragged, at)
        # strands and weave tilt the surface a little
        tilt = 0.12 * noise * look_value(looks.contrast, at)
        normals = unit(torch.stack([x + tilt, y + 0.4 * tilt, z]))
        hollow = torch.where(behind & ~is_lens, 0.45, 1.0)
        pixels = Pixels(over.rows, normals, hollow * (1 + 0.15 * noise * sheen).clamp(0.3, 1.5), hollow, hemisphere)
        strands = unit(over.dynamic[3:6])
        shaded = illuminate(colour, look_value(looks.gloss, at), is_lens, pixels, light, factor, strands, sheen)
        tip = (over.dynamic[6] / ragged.clamp(min=1e-4) + 0.55 * noise).clamp(0, 1)
        alpha = look_value(looks.alpha, at) * torch.where(ragged > 0, tip, torch.ones_like(tip))
        # reflections make clear glass opaque where they are
        glare = (alpha + 0.25 * (shaded.mean(0) - 0.75).clamp(min=0)).clamp(0, 1)
        return shaded, torch.where(is_lens, glare, alpha)

    def _regions(self, base: Drawn, over: Drawn, hidden: Tensor, outfit: Outfit) -> Tensor:
        """[B, S, S] uint8. hidden: [N] whether each pixel of the upper layer hides what is behind it."""
        what = torch.zeros(base.depth_map.numel(), dtype=torch.uint8, device=base.depth_map.device)
        what[base.index] = self._base_regions(base, outfit)
        covering = constant(REGION_OF_COVER, what.device, torch.uint8).index_select(0, over.part)
        what[over.index] = torch.where(hidden, covering, what.index_select(0, over.index))
        return what.view(base.depth_map.shape)

    def _base_regions(self, base: Drawn, outfit: Outfit) -> Tensor:
        """[N] uint8 of the lower layer; hair that is painted on a scalp is hair."""
        column, row = (base.static[:2] * SIZE).int().clamp(0, SIZE - 1)
        scalp = self.face_map[CHANNELS.index("scalp")].index_select(0, row * SIZE + column) > 0.5
        hairy = scalp & per_pixel(outfit.hair.shown, base.rows)
        shown = torch.where(hairy, regions.HAIR, regions.SKIN)
        shown = torch.where((base.static[3] > 0.5) | base.behind, regions.MOUTH, shown)
        shown = torch.where(base.static[2] > 0.5, regions.EYES, shown)
        return torch.where(base.part == HEAD, shown, regions.CLOTHES).to(torch.uint8)

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
    ) -> tuple[Picture, Tensor]:
        """The picture, and [N] where the upper layer hides what is behind it."""
        batch, size = background.shape[0], self.size
        depth = base.depth_map.view(-1)
        alpha = alpha * (over.depth < depth.index_select(0, over.index))
        cover = torch.zeros_like(depth)
        cover[over.index] = alpha
        solid = torch.zeros_like(depth)
        solid[over.index] = alpha * (over.part != LENS)
        canvas = background.transpose(0, 1).reshape(3, -1)
        shadow = self._contact_shadow(solid.view(batch, size, size), base, light)
        canvas = canvas.index_copy(1, base.index, colour * shadow)
        canvas = canvas.index_copy(1, over.index, torch.lerp(canvas.index_select(1, over.index), over_colour, alpha))
        skin = torch.zeros_like(depth)
        skin[base.index] = mask
        labels = torch.zeros_like(depth)
        labels[base.index] = 1.0 + base.part
        hidden = alpha > 0.5
        labels[over.index] = torch.where(hidden, 10.0 + over.part, labels.index_select(0, over.index))
        image = canvas.view(3, batch, size, size).transpose(0, 1)
        picture = Picture(
            image=soften_edges(image, labels.view(batch, size, size)),
            mask=(skin * (1 - cover)).view(batch, 1, size, size),
            depth=base.depth_map,
            cover=cover.view(batch, size, size),
            cover_depth=over.depth_map,
        )
        return picture, hidden

    def _contact_shadow(self, solid: Tensor, base: Drawn, light: Light) -> Tensor:
        """[N] factor of the base layer's pixels: hair, hats and hands darken what is beside them, away from it."""
        size = self.size
        soft = F.avg_pool2d(solid[:, None], 4)
        width = max(3, size // 48) | 1
        soft = F.avg_pool2d(soft, width, 1, width // 2, count_include_pad=False)
        soft = F.avg_pool2d(soft, width, 1, width // 2, count_include_pad=False)
        soft = F.interpolate(soft, size=(size, size), mode="bilinear", align_corners=False)
        aside, above = per_pixel(light.direction[:, 0, :2] * (0.04 * size), base.rows).int()
        within = (base.index % (size * size)).int()
        x = (within % size + aside).clamp(0, size - 1)
        y = (within // size - above).clamp(0, size - 1)
        dark = soft.reshape(-1).index_select(0, base.rows.int() * (size * size) + y * size + x)
        return 1 - dark * (0.15 + 0.4 * per_pixel(light.shadow, base.rows))


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


def _towards_viewer(normals: Tensor, behind: Tensor) -> Tensor:
    """Unit normals [3, N] of the side that is seen; smooth ones that lean over the silhouette are leant back."""
    x, y, z = unit(torch.where(behind, -normals, normals))
    return unit(torch.stack([x, y, z.clamp(min=0.02)]))


def _sample_maps(maps: Tensor, rows: Tensor, uv: Tensor) -> Tensor:
    """Bilinear texels of each pixel's own map: maps [B, 3, R, R], rows [N], uv [2, N] → [3, N]."""
    size = maps.shape[-1]
    x = (uv[0] * size - 0.5).clamp(0, size - 1)
    y = ((1 - uv[1]) * size - 0.5).clamp(0, size - 1)
    left, top = x.floor().clamp(max=size - 2), y.floor().clamp(max=size - 2)
    corner = rows * (3 * size * size) + top.long() * size + left.long()
    fx, fy, flat = x - left, y - top, maps.reshape(-1)
    planes = []
    for channel in range(3):
        at = corner + channel * size * size
        upper = torch.lerp(flat.index_select(0, at), flat.index_select(0, at + 1), fx)
        lower = torch.lerp(flat.index_select(0, at + size), flat.index_select(0, at + size + 1), fx)
        planes.append(torch.lerp(upper, lower, fy))
    return torch.stack(planes)


def _cheek_texture(head: HeadModel, face_map: FaceMap, anatomy: Anatomy) -> Tensor:
    """[K, 2] texture coordinates of the cheeks' vertices."""
    size = face_map.masks.shape[-1]
    texel = (face_map.coordinates * size).long().clamp(0, size - 1)
    cheek = (face_map.masks[CHANNELS.index("cheeks")][texel[:, 1], texel[:, 0]] > 0.5) & anatomy.face
    uv = torch.zeros(head.vertex_count, 2)
    uv[head.faces.cpu().flatten()] = torch.as_tensor(head.data.uv).float()[
        torch.as_tensor(head.data.uv_faces).long().flatten()
    ]
    return uv[cheek].to(head.template.device)
