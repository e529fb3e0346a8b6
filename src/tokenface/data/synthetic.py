"""Synthetic face generator: seeded, labelled images of any head model, one batched computation.

Labels. A picture is drawn with the true perspective of a random distance; landmarks are where that perspective puts
them. The camera component is the paper's scaled-orthographic camera that fits the projected face best (rotation is
the true one), the light component the harmonics that explain the shading best.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tokenface.data.backgrounds import sample_backgrounds
from tokenface.data.degrade import Degradation, degrade
from tokenface.data.draw import Draw
from tokenface.data.expressions import ExpressionSampler
from tokenface.data.record import FaceBatch
from tokenface.data.sampling import (
    Framing,
    PoseRange,
    View,
    best_orthographic,
    frame_faces,
    sample_distances,
    sample_rotations,
)
from tokenface.data.scene.lighting import auto_exposure, explaining_coefficients, sample_light
from tokenface.data.scene.outfit import Chances, sample_outfit, sample_people
from tokenface.data.scene.parts import repeat_rows
from tokenface.data.scene.picture import Painter, Picture
from tokenface.data.visibility import visible_points
from tokenface.geometry import rotations
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters
from tokenface.render.rasterizer import Backend
from tokenface.render.texture import HeadAlbedo

GENERATOR_VERSION = 2
"""Raised whenever the same seed gives other faces: what was rendered before and kept is then rendered again."""


@dataclass(frozen=True)
class SyntheticConfig:
    """Configuration of the generator."""

    poses: PoseRange = field(default_factory=PoseRange)
    framing: Framing = field(default_factory=Framing)
    chances: Chances = field(default_factory=Chances)
    degradation: Degradation = field(default_factory=Degradation)
    shape_spread: float = 1.0
    texture_spread: float = 1.0
    perspective: bool = True


class SyntheticFaces:
    """A generator of labelled pictures for one head model, image size and device."""

    def __init__(
        self,
        head: HeadModel,
        size: int = 224,
        config: SyntheticConfig | None = None,
        *,
        backgrounds: Tensor | None = None,
        backend: Backend = "auto",
    ):
        """Args: backgrounds: [N, 3, P, P] photographs without faces to put behind heads; None: procedural ones."""
        if size % 8 or size < 32:
            raise ValueError(f"the image size must be a multiple of 8 from 32 on (JPEG blocks), got {size}")
        self.head, self.size = head, size
        self.config = config or SyntheticConfig()
        self.device = head.template.device
        self.backgrounds = None if backgrounds is None else backgrounds.to(self.device)
        self.painter = Painter(head, size, backend)
        self.albedo = HeadAlbedo(head).to(self.device) if self.painter.has_albedo else None
        has_jaw = bool((head.skinning_weights[:, 2] > 0.1).any())
        self.expressions = ExpressionSampler(head.expression_names, head.expression_range, has_jaw)

    @torch.no_grad()
    def sample(
        self,
        batch: int,
        seed: int | torch.Generator,
        images_per_identity: int = 1,
        *,
        shape: Tensor | None = None,
        expression: Tensor | None = None,
        jaw: Tensor | None = None,
        texture: Tensor | None = None,
        rotation: Tensor | None = None,
        distance: Tensor | None = None,
        beards: Tensor | None = None,
        plain: bool = False,
        regions: bool = False,
    ) -> FaceBatch:
        """Draw pictures; the same seed gives the same batch on the same machine.

        Args:
            batch: number of pictures.  seed: an integer, or a generator on the head's device.
            images_per_identity: so many consecutive pictures show one person (shape, skin, hair); the rest changes.
            shape, expression, jaw, texture: [batch, ·] to use instead of drawn ones; rotation: [batch, 3, 3].
            distance: [batch] metres from the lens to the face.
            beards: [batch] factor on drawn beards and moustaches; 0: clean-shaven.
            plain: no hats, glasses, hands or degradation (pictures for people, and for geometry tests).
            regions: what each pixel shows as well, for face parsing; it changes nothing else.
        Raises:
            ValueError: a given tensor has another number of rows.
        """
        given = {"shape": shape, "expression": expression, "jaw": jaw, "texture": texture, "rotation": rotation}
        given |= {"distance": distance, "beards": beards}
        for name, value in given.items():
            if value is not None and value.shape[0] != batch:
                raise ValueError(f"{name} has {value.shape[0]} rows, the batch has {batch}")
        draw, config, head = Draw.seeded(seed, self.device), self.config, self.head
        first = torch.arange(0, batch, images_per_identity, device=self.device)
        person_of = torch.arange(batch, device=self.device) // images_per_identity

        own_shape = draw.normal(len(first), head.sizes.shape, std=config.shape_spread)
        own_texture = draw.normal(len(first), head.sizes.texture, std=config.texture_spread)
        shape = own_shape[person_of] if shape is None else shape
        texture = own_texture[person_of] if texture is None else texture
        skins = None if self.albedo is None else self.albedo(texture[first])
        person = sample_people(draw, len(first), None if skins is None else self.painter.cheek_colour(skins))
        person = repeat_rows(person, person_of)
        if beards is not None:
            drawn = person.complexion
            shaved = replace(drawn, stubble=drawn.stubble * beards, moustache=drawn.moustache * beards)
            person = replace(person, complexion=shaved)

        expressions = self.expressions.sample(draw, batch)
        expression = expressions.weights if expression is None else expression
        jaw = expressions.jaw if jaw is None else jaw
        sampled_rotation = sample_rotations(draw, batch, config.poses)
        rotation = sampled_rotation if rotation is None else rotation
        eyes = None if head.eye_drive is not None else _eye_rotations(expressions.gaze)
        vertices = head(shape, expression, jaw, eyes=eyes).vertices
        neutral = head(shape[first]).vertices[person_of] if given["shape"] is None else head(shape).vertices

        yaw = _turn_of(rotation)
        marks = head.landmarks68(vertices, yaw)
        sampled_distance = sample_distances(draw, batch)
        distance = sampled_distance if distance is None else distance
        view = frame_faces(
            draw, marks, rotation, distance if config.perspective else distance * 0 + 1e4, config.framing
        )
        light = sample_light(draw, batch)
        factor = auto_exposure(light, person.skin.mean(1))
        outfit = sample_outfit(draw, person, rotation, Chances.none() if plain else config.chances)
        background = sample_backgrounds(draw, batch, self.size, self.backgrounds)
        maps = None if skins is None else skins[person_of]
        picture = self.painter.draw(
            vertices, head.landmarks68(vertices), view, light, factor, person, outfit, maps, background, regions
        )
        image = picture.image.clamp(0, 1) if plain else degrade(draw, picture.image, config.degradation)

        landmarks68, visible68 = self._points(marks, view, picture, 0.010)
        landmarks468, visible468 = self._mesh_points(vertices, view, picture)
        parameters = FaceParameters(
            shape=shape,
            expression=expression,
            jaw=jaw,
            camera=best_orthographic(view, marks),
            texture=texture,
            light=explaining_coefficients(light, factor).flatten(1),
        )
        return FaceBatch(
            image=image,
            parameters=parameters,
            vertices=vertices,
            neutral=neutral,
            landmarks68=landmarks68,
            visible68=visible68,
            landmarks468=landmarks468,
            visible468=visible468,
            mask=picture.mask,
            identity=person_of,
            regions=picture.regions,
        )

    def _points(self, points: Tensor, view: View, picture: Picture, slack: float) -> tuple[Tensor, Tensor]:
        """[B, K, 3] head space → crop NDC [B, K, 2] and [B, K] visible; slack in metres of an average head."""
        seen = view.project(points)
        tolerance = slack * self.painter.anatomy.unit * view.scale
        return seen[..., :2], visible_points(seen, picture.depth, picture.cover, picture.cover_depth, tolerance)

    def _mesh_points(self, vertices: Tensor, view: View, picture: Picture) -> tuple[Tensor, Tensor]:
        if self.head.mesh468_faces is None:
            nothing = vertices.new_zeros(vertices.shape[0], 468, 2)
            return nothing, torch.zeros_like(nothing[..., 0], dtype=torch.bool)
        seen, visible = self._points(self.head.landmarks468(vertices), view, picture, 0.006)
        return seen, visible & self.head.mesh468_valid


def _turn_of(rotation: Tensor) -> Tensor:
    """[B] yaw by the camera's own convention, which the jaw-line landmarks follow."""
    one, nothing = torch.ones_like(rotation[:, 0, 0]), torch.zeros_like(rotation[:, 0])
    return Camera(one, rotations.rotmat_to_rotvec(rotation), nothing).angles()[:, 0]


def _eye_rotations(gaze: Tensor) -> Tensor:
    """Gaze [B, 2] (right on the picture, up; radians) → [B, 2, 3] axis-angle of both eyes."""
    turn = torch.stack([-gaze[:, 1], gaze[:, 0], torch.zeros_like(gaze[:, 0])], dim=-1)
    return turn[:, None].expand(-1, 2, -1)
