"""Validation of a run: cheap measures on held-out photos and rendered people, and sample pictures.

All of them with intervals, and the response to known changes, are `tokenface evaluate photos`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from tokenface.data.record import PhotoRecord
from tokenface.data.synthetic import SyntheticFaces
from tokenface.evaluation.geometry import PeopleScans, compare_with_mean_head
from tokenface.evaluation.landmarks import evaluation_crops, normalised_mean_error
from tokenface.evaluation.photo_movement import movement
from tokenface.evaluation.photo_statistics import photo_figures, predict_all, projected_landmarks
from tokenface.evaluation.rendered_measures import HELD_OUT_SEED, rendered_figures
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.parameters import FaceParameters
from tokenface.render.overlay import PhotoFace, landmarks_over_photo, mesh_over_photo

PANEL = 256
"""Pixels of a panel's side."""


@torch.no_grad()
def sample_sheet(
    predict: Callable[[Tensor], FaceParameters], head: HeadModel, images: Tensor, landmarks: Tensor
) -> np.ndarray:
    """One row per face: the crop; the predicted head and landmarks over it; the true landmarks over it.

    Args:
        predict: crops → parameters on the head's device.
        images: [B, 3, S, S] in [0, 1].  landmarks: [B, 68, 2] crop NDC, the truth.
    Returns:
        [B · 256, 3 · 256, 3] uint8 RGB.
    """
    p = predict(images)
    camera = Camera.from_vector(p.camera)
    vertices = head(p.shape, head.clamp_expression(p.expression), p.jaw).vertices
    points = camera.project(head.landmarks68(vertices, camera.angles()[:, 0]))[..., :2]
    projected, faces = camera.project(vertices), head.faces.cpu().numpy()
    rows = []
    for image, mesh, own, true in zip(images, projected, points, landmarks, strict=True):
        photo = (image.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
        photo = cv2.resize(photo, (PANEL, PANEL), interpolation=cv2.INTER_CUBIC)
        face = PhotoFace(_pixels(mesh), faces, _pixels(own))
        overlay = landmarks_over_photo(mesh_over_photo(photo, [face], alpha=0.65), [face])
        truth = landmarks_over_photo(photo, [PhotoFace(_pixels(mesh), faces, _pixels(true))])
        rows.append(np.concatenate([photo, overlay, truth], axis=1))
    return np.concatenate(rows)


def _pixels(points: Tensor) -> np.ndarray:
    """Crop NDC (and depth in half-widths) to pixels of a panel."""
    scaled = points.cpu().numpy().astype(np.float32) * (PANEL / 2)
    scaled[:, :2] += PANEL / 2
    return scaled


SHOWN = 3
"""Photos and rendered people on the sample pictures, each."""

PHOTO_FIGURES = {
    "photo_nme": "68 points shift removed %",
    "photo_nme_unbiased": "68 points bias removed %",
    "expression_baseline": "expression baseline",
    "mean_prediction_mm": "mean prediction mm",
    "within_between": "within / between",
    "movement_slope": "movement slope",
    "movement_correlation": "movement correlation",
}
RENDERED_FIGURES = {
    "r2_actions": "mean r²",
    "r2_gaze": "gaze",
    "r2_brows": "brows",
    "r2_blink_difference": "blink difference",
    "texture_std": "texture std ratio",
    "cheek_correlation": "cheek correlation",
    "r2_light": "light",
}
"""Columns of the curve → names of `photo_figures`, `movement` and `rendered_figures`."""

Predict = Callable[[Tensor], FaceParameters]
"""Crops [B, 3, S, S] → parameters, both on the CPU; wherever the network is."""


class Validation:
    """Prepared once, run often; every figure is of the network that it is given. All on the CPU but the network.

    Args:
        head: on the CPU.  photos: held out of training.  size: of the crops.  people: rendered ones.
        most: photos to look at.
    """

    def __init__(self, head: HeadModel, photos: list[PhotoRecord], size: int, people: int, most: int = 300):
        self.head = head
        self.photos: tuple[Tensor, Tensor] | None = None
        if photos and most:
            chosen = np.random.default_rng(0).permutation(len(photos))[:most]
            shown = [photos[i] for i in sorted(chosen)]
            self.photos = evaluation_crops(shown, size)
            self.photographed = [record.identity for record in shown]
        batch = SyntheticFaces(head, size).sample(people, seed=HELD_OUT_SEED)
        self.images, self.scans = batch.image, PeopleScans.of(head, batch.neutral)
        self.synthetic_landmarks, self.truth = batch.landmarks68, batch.parameters

    @torch.no_grad()
    def run(self, predict: Predict) -> dict[str, float]:
        """Named figures: NME in per cent of √box, neutral shape as a ratio to the mean head's error, and the columns of
        PHOTO_FIGURES and RENDERED_FIGURES; those that are not finite are left out."""
        figures: dict[str, float] = {}
        if self.photos is not None:
            images, truth = self.photos
            predicted = predict_all(predict, images)
            found, _ = photo_figures(self.head, predicted, self.photographed, truth, truth, intervals=False)
            found |= movement(self.head, predicted, truth, self.photographed, intervals=False)
            figures |= {column: found[name].value for column, name in PHOTO_FIGURES.items() if name in found}
        rendered = predict_all(predict, self.images)
        points = projected_landmarks(self.head, rendered)
        figures["synthetic_nme"] = float(normalised_mean_error(points, self.synthetic_landmarks).mean()) * 100
        figures["shape_rms"] = float(rendered.shape.square().mean().sqrt())
        known, _, _ = rendered_figures(self.head, rendered, self.truth, intervals=False)
        figures |= {column: known[name].value for column, name in RENDERED_FIGURES.items() if name in known}
        result = compare_with_mean_head(self.scans, self.head(rendered.shape).vertices.numpy(), self.head)
        figures["neutral_ratio"] = result.ratio
        figures["neutral_mm"] = result.error
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def sheet(self, predict: Predict) -> np.ndarray:
        """Some held-out photos and rendered people: photo, overlay, truth."""
        images, points = [self.images[:SHOWN]], [self.synthetic_landmarks[:SHOWN]]
        if self.photos is not None:
            images.insert(0, self.photos[0][:SHOWN])
            points.insert(0, self.photos[1][:SHOWN])
        return sample_sheet(predict, self.head, torch.cat(images), torch.cat(points))
