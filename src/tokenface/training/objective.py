"""Objective of a training step: full truth for rendered faces, landmarks for photos, the paper's losses for records."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenface.data.photos import PhotoBatch, PhotoTarget
from tokenface.data.replay import LabelledFaces
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.identity.alignment import five_points
from tokenface.losses.landmark import eyelid_loss, landmark_loss, landmark_uncertainty_loss, lip_loss
from tokenface.losses.mesh import aligned_mesh_loss, scale_free_mesh_loss
from tokenface.losses.photometric import face_mask, photometric_loss
from tokenface.losses.pose_aware import PoseAwareWeights, label_angles, landmark_weight
from tokenface.losses.regularisation import (
    coefficient_loss,
    range_loss,
    regularisation_loss,
    sparse_loss,
    standardised_loss,
)
from tokenface.losses.vertex_weights import (
    action_spread,
    albedo_importance,
    light_spread,
    mode_importance,
    supervised_vertices,
)
from tokenface.network.heads import POINT_SCALE
from tokenface.network.labels import adapted
from tokenface.parameters import FaceParameters
from tokenface.render.rasterizer import interpolate, rasterize
from tokenface.render.renderer import Renderer
from tokenface.training.batches import StepBatch
from tokenface.training.config import LossWeights, TrainConfig
from tokenface.training.hybrid import HybridObjective
from tokenface.training.module import Prediction

COVERAGE_WEIGHT = 0.1
"""Of "is the head seen here?" beside the points: hair and hats cover what the bare head's truth calls seen."""


class SurfaceObjective:
    """Compares a network's surface map with the true head, drawn at the map's size."""

    def __init__(self, head: HeadModel):
        self.head = head

    def __call__(self, surface: Tensor, truth: FaceParameters) -> Tensor:
        """surface: [B, 4, H, W] of `SurfaceMap` → [B]; an error of the head's size counts about 1."""
        points, seen = self.truth(truth, surface.shape[-2], surface.shape[-1])
        errors = (surface[:, :3] - points).abs().sum(1) / POINT_SCALE * seen
        coverage = F.binary_cross_entropy_with_logits(surface[:, 3], seen, reduction="none")
        return errors.sum((1, 2)) / seen.sum((1, 2)).clamp_min(1) + COVERAGE_WEIGHT * coverage.mean((1, 2))

    @torch.no_grad()
    def truth(self, truth: FaceParameters, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Points [B, 3, H, W] of the mean head, metres, 0 where none is seen; seen [B, H, W], 1 or 0."""
        vertices = self.head(truth.shape, truth.expression, truth.jaw).vertices
        projected = Camera.from_vector(truth.camera).project(vertices)
        fragments = rasterize(projected, self.head.faces, height, width)
        points = interpolate(fragments, self.head.template, self.head.faces)
        return points.permute(0, 3, 1, 2), fragments.mask.to(points.dtype)


SIZE = 64
"""Pixels of the pictures that are compared: albedo and light of nine harmonics have no finer detail."""


class ColourObjective:
    """Draws faces small and compares their face region with the photos.

    Shape, expression, jaw and camera get no gradient: on photos they follow landmarks and self-training, and pixels
    would pull them towards shadows and hair. What covers the face costs a bounded error (L1).
    """

    def __init__(self, head: HeadModel):
        self.renderer = Renderer(head).to(head.template.device)
        self.face_weights = self.renderer.face_weights()

    def __call__(self, parameters: FaceParameters, images: Tensor) -> Tensor:
        """images: [B, 3, S, S] in [0, 1] → [B], grey levels of 1."""
        held = parameters.detach().replace(texture=parameters.texture, light=parameters.light)
        rendered = self.renderer.render(held, SIZE, vertex_weights=self.face_weights)
        small = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        mask = face_mask(small.new_ones(len(small), 1, SIZE, SIZE), rendered)
        return photometric_loss(rendered.image, small, mask)


HALF_WIDTHS_PER_METRE = 7.0
"""A typical camera scale: brings metric vertex errors to the unit of the picture."""
LEAST_KNOWN = 0.25
"""Weight of actions that self-training's teacher does not know: enough to hold them at rest."""
CONTOUR_WEIGHT = 0.5
"""Annotators place the jaw line loosely (measured on held-out photos), so points 0–16 count half."""


class Objective:
    """The loss of a whole mixed batch, part by part."""

    def __init__(self, head: HeadModel, config: TrainConfig, records: bool):
        """Args: records: there are scans or photos from shards, for the paper's losses."""
        sources = config.network.label_sources
        source = sources.index(config.photos.source) if config.photos.source in sources else None
        self.recipe = RecipeObjective(head, config.losses, source)
        self.surface, self.surface_weight = SurfaceObjective(head), config.losses.surface
        self.hybrid = HybridObjective(head, config.paper, config.network.image_size) if records else None

    def __call__(self, predicted: Prediction, batch: StepBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to descend, and the figures to draw curves of."""
        first = 0
        terms: dict[str, Tensor] = {}
        rows: dict[str, Prediction] = {}
        for name in ("synthetic", "landmark_photos", "scans", "photos_2d"):
            if (part := getattr(batch, name)) is not None:
                rows[name] = predicted[first : first + len(part.image)]
                first += len(part.image)
        if batch.synthetic is not None:
            p = rows["synthetic"]
            terms |= self.recipe.synthetic(p, batch.synthetic)
            if p.surface is not None:
                terms["surface"] = self.surface_weight * self.surface(p.surface, batch.synthetic.parameters).mean()
        if batch.landmark_photos is not None:
            p = rows["landmark_photos"]
            terms |= self.recipe.photos(p, batch.landmark_photos)
        figures = dict(terms)
        if self.hybrid is not None:
            scans = None if batch.scans is None else (rows["scans"].parameters, batch.scans)
            pictures = None if batch.photos_2d is None else (rows["photos_2d"].parameters, batch.photos_2d)
            terms["records"], named = self.hybrid(scans, pictures)
            figures |= {"records": terms["records"], **{f"records_{name}": value for name, value in named.items()}}
        total = torch.stack(list(terms.values())).sum() + predicted.nothing()
        return total, {"total": total, **figures}


class RecipeObjective:
    """Our losses on rendered faces and photos; every method returns named scalars that are already weighted.

    Args:
        source: index of the photos' data source among the network's label offsets; None: labels are taken as they are.
    """

    def __init__(self, head: HeadModel, weights: LossWeights, source: int | None = None):
        self.head, self.weights, self.source = head, weights, source
        self.subset, self.vertex_weights = supervised_vertices(head)
        self.importance = mode_importance(head)
        self.albedo_importance = albedo_importance(head)
        self.action_spread = action_spread(head)
        self.colours = ColourObjective(head) if weights.photo_colours and head.sizes.texture else None
        self.light_spread = light_spread(head.template.device)
        point_weights = torch.ones(68, device=head.template.device)
        point_weights[:17] = CONTOUR_WEIGHT
        self.point_weights = point_weights
        self.mean_points = head.landmarks68(head.template[None])[0]

    def synthetic(self, prediction: Prediction, truth: LabelledFaces) -> dict[str, Tensor]:
        """Vertices, landmarks and parameters against the truth of rendered faces."""
        w, subset, true, predicted = self.weights, self.subset, truth.parameters, prediction.parameters
        with torch.no_grad():
            true_posed, true_neutral = subset.vertices(true), subset.neutral(true.shape)
        posed, neutral = subset.vertices(predicted), subset.neutral(predicted.shape)
        camera, true_camera = Camera.from_vector(predicted.camera), Camera.from_vector(true.camera)
        points = self._landmarks(posed, camera, true_camera.angles()[:, 0])
        terms = {
            "neutral": w.neutral
            * aligned_mesh_loss(neutral, true_neutral, self.vertex_weights)
            * HALF_WIDTHS_PER_METRE,
            "posed": w.posed * scale_free_mesh_loss(posed, true_posed, self.vertex_weights) * HALF_WIDTHS_PER_METRE,
            "projected": w.projected * self._projected(camera.project(posed), true_camera.project(true_posed)),
            "landmarks": w.landmarks * landmark_loss(points, truth.landmarks68, self.point_weights),
            "eyelids": w.eyelids * eyelid_loss(points, truth.landmarks68),
            "lips": w.lips * lip_loss(points, truth.landmarks68),
            "shape": w.shape * coefficient_loss(predicted.shape, true.shape, self.importance),
            "expression": w.expression * standardised_loss(predicted.expression, true.expression, self.action_spread),
            "jaw": w.jaw * (predicted.jaw - true.jaw).abs().sum(-1),
            "light": w.light * standardised_loss(predicted.light, true.light, self.light_spread),
        }
        if self.head.sizes.texture:
            terms["texture"] = w.texture * coefficient_loss(predicted.texture, true.texture, self.albedo_importance)
        return self._means(terms, prediction, points, truth.landmarks68)

    def photos(self, prediction: Prediction, truth: PhotoBatch) -> dict[str, Tensor]:
        """Landmarks of real photos as their annotators put them, self-training's targets, and priors on the rest."""
        w, predicted, target = self.weights, prediction.parameters, truth.target
        camera = Camera.from_vector(predicted.camera)
        points = self._landmarks(self.subset.vertices(predicted), camera, camera.angles()[:, 0])
        if self.source is not None and prediction.labels is not None:
            points = adapted(points, camera, prediction.labels[self.source])
        trust = self._trust(truth.landmarks68) if w.pose_aware else 1.0
        terms = {
            "photo_landmarks": w.photo_landmarks * trust * landmark_loss(points, truth.landmarks68, self.point_weights),
            "photo_eyelids": w.eyelids * eyelid_loss(points, truth.landmarks68),
            "photo_lips": w.lips * lip_loss(points, truth.landmarks68),
            "prior": regularisation_loss(predicted, w.shape_prior, w.expression_prior, w.texture_prior),
        }
        if self.head.expression_range is not None:
            terms["range"] = w.expression_range * range_loss(predicted.expression, *self.head.expression_range)
        if self.colours is not None:
            terms["photo_colours"] = w.photo_colours * self.colours(predicted, truth.image)
        if target is not None:
            terms["photo_shape"] = w.photo_shape * coefficient_loss(predicted.shape, target.shape, self.importance)
            terms["photo_expression"] = w.photo_expression * self._taught_actions(predicted.expression, target)
            terms["photo_jaw"] = w.photo_jaw * (predicted.jaw - target.jaw).abs().sum(-1)
        named = self._means(terms, prediction, points, truth.landmarks68)
        own = ("photo", "prior", "range")
        return {name if name.startswith(own) else f"photo_{name}": value for name, value in named.items()}

    @torch.no_grad()
    def _trust(self, labels: Tensor) -> Tensor:
        """[B] Eq. 12 over its value at the front, by the angles at which the mean head has its points nearest to the
        labels [B, 68, 2]."""
        constants = PoseAwareWeights()
        return landmark_weight(label_angles(self.mean_points, labels), constants) / constants.landmark

    def _taught_actions(self, predicted: Tensor, target: PhotoTarget) -> Tensor:
        """[B] squared error of the actions that a warp changed, the median's loss for what the teacher says."""
        error = ((predicted - target.expression) / self.action_spread).square()
        rest = sparse_loss(predicted, target.expression, self.action_spread)
        return torch.where(target.changed, error, rest * target.known.clamp_min(LEAST_KNOWN)).mean(-1)

    def _means(
        self, terms: dict[str, Tensor], prediction: Prediction, points: Tensor, truth: Tensor
    ) -> dict[str, Tensor]:
        """Means over the faces, with the terms of every kind of face."""
        w = self.weights
        if prediction.log_sigma is not None:
            terms["uncertainty"] = w.uncertainty * landmark_uncertainty_loss(points, truth, prediction.log_sigma)
        if prediction.anchors is not None:
            terms["anchors"] = w.anchors * (prediction.anchors - five_points(truth)).abs().sum(-1).mean(-1)
        return {name: value.mean() for name, value in terms.items()}

    def _landmarks(self, vertices: Tensor, camera: Camera, yaw: Tensor) -> Tensor:
        return camera.project(self.subset.landmarks68(vertices, yaw))[..., :2]

    def _projected(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """L1 on the picture and in depth relative to the face's middle (absolute depth cannot be seen)."""
        difference = predicted - truth
        depth = difference[..., 2:]
        depth = depth - (depth * self.vertex_weights[:, None]).sum(1, keepdim=True)
        return ((difference[..., :2].abs().sum(-1) + depth.abs().sum(-1)) * self.vertex_weights).sum(-1)
