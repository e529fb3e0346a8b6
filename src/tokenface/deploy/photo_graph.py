"""End-to-end graph from photos to heads: detector, face mesh, crop, two network passes, head.

It is `Reconstructor.reconstruct` for faces that the detector sees at once, upright or turned by less than about 45°:
the further looks that `images.detector` takes (quarter turns, tiles for tiny faces, faces cut by the edge) need
decisions that a graph of tensors does not take.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tokenface.deploy.mip_crops import MipPhotos, to_photo
from tokenface.deploy.tflite_graph import TFLiteGraph
from tokenface.geometry.camera import Camera
from tokenface.geometry.crop import BOX_LOWERING, LANDMARK_BOX_SCALE
from tokenface.geometry.landmarks import MEDIAPIPE_TO_IBUG68
from tokenface.head.model import HeadModel
from tokenface.images.blazeface import FULL_RANGE, anchors
from tokenface.images.detection import MESH_BOX_SCALE
from tokenface.images.detector import PROPOSAL
from tokenface.images.facemesh import (
    CHIN,
    FOREHEAD,
    LEFT_EYE_CORNERS,
    MESH_MARGIN,
    MESH_SIZE,
    NETWORK_OFFSET,
    RIGHT_EYE_CORNERS,
)
from tokenface.images.models import model_path
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import COMPONENTS, FaceParameters

PHOTOS = "photos"
"""Input: [B, 3, H, W] float32, RGB in [0, 1]; any size from 64 to 8192 pixels, the same within a batch."""
PHOTO_OUTPUTS = ("score", "presence", "box", "crop", *COMPONENTS, "landmarks68", "vertices")
FOUND = 0.5
"""There is a face where `score` and `presence` are so much or more."""
CANDIDATES = 8
"""Faces that are told apart in one photo before the largest are kept."""
OVERLAP = 0.3
"""Intersection over union from which two candidates are one face, as `images.blazeface.weighted_nms`."""
MESH_PRESENCE = 0.5


class Found(NamedTuple):
    """Candidates. score: [B, K].  box: [B, K, 4] x0, y0, x1, y1, photo pixels.  roll: [B, K]."""

    score: Tensor
    box: Tensor
    roll: Tensor


class PhotoGraph(nn.Module):
    """Photos [B, 3, H, W] → one tensor [B, K, …] for each of `PHOTO_OUTPUTS`, the largest face first.

    score: of the detector.  presence: the face mesh's. There is a face where both are FOUND or more.
    box: [4].  crop: [4] centre x, centre y, side, angle of the square that the network saw.
    landmarks68: [68, 2].  All in photo pixels.  vertices: [V, 3], metres, head space.

    Args:
        faces: K, at most CANDIDATES.
    Raises:
        ModelFileError: the detector's files are missing and cannot be fetched.
    """

    def __init__(self, network: TokenFace, head: HeadModel, crop_scale: float, faces: int = 1):
        super().__init__()
        self.network, self.head = network, head
        self.crop_scale, self.faces = crop_scale, faces
        self.detector = TFLiteGraph(model_path(FULL_RANGE.model, quiet=True))
        self.mesh = TFLiteGraph(model_path("face_mesh", quiet=True))
        self.register_buffer("anchors", torch.from_numpy(anchors(FULL_RANGE)).float())
        self.register_buffer("ibug", torch.tensor(MEDIAPIPE_TO_IBUG68))

    anchors: Tensor
    ibug: Tensor

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        mips = MipPhotos(photos)
        found = largest(self._detect(mips, photos.shape[0]), self.faces)
        points, presence = self._mesh_points(mips, found)
        seen = (presence > MESH_PRESENCE)[..., None]
        by_mesh = square_of_points(points[:, :, self.ibug], mesh_roll(points), MESH_BOX_SCALE * self.crop_scale)
        by_box = square_of_box(found.box, found.roll, self.crop_scale, BOX_LOWERING)
        squares = torch.where(seen, by_mesh, by_box)
        _, landmarks, roll, _ = self._answer(mips, squares)
        squares = refined(squares, square_of_points(landmarks, roll, LANDMARK_BOX_SCALE * self.crop_scale))
        parameters, landmarks, _, vertices = self._answer(mips, squares)
        values = dict(parameters.items())
        components = [values[name].unflatten(0, squares.shape[:2]) for name in COMPONENTS]
        return (found.score, presence, found.box, squares, *components, landmarks, vertices)

    def _detect(self, mips: MipPhotos, batch: int) -> Found:
        """All candidates of the whole photo in a square, merged as `weighted_nms` merges them."""
        width, height = mips.sides[0]
        whole = torch.stack([width / 2, height / 2, torch.maximum(width, height), torch.zeros_like(width)])
        whole = whole.expand(batch, 1, 4)
        size = FULL_RANGE.size
        raw, logits = self.detector(mips.crop(whole, size, grey=True)[:, 0] * 2 - 1)
        scores = logits[..., 0].clamp(-50, 50).sigmoid()
        values = raw.unflatten(-1, (8, 2)) / size  # centre, size, six points
        centre, half = values[:, :, 0] + self.anchors, values[:, :, 1] / 2
        flat = torch.cat([centre - half, centre + half, (values[:, :, 2:] + self.anchors[:, None]).flatten(2)], dim=-1)
        kept: list[tuple[Tensor, Tensor]] = []
        left = scores * (scores >= PROPOSAL)
        for _ in range(CANDIDATES):
            best, index = left.max(dim=1, keepdim=True)
            box = flat.gather(1, index[..., None].expand(-1, -1, flat.shape[-1]))[..., :4]
            same = (overlap(box, flat[..., :4]) > OVERLAP) & (left > 0)
            weights = left * same
            merged = (flat * (weights / weights.sum(1, keepdim=True).clamp(min=1e-12))[..., None]).sum(1, keepdim=True)
            kept.append((best, merged))
            left = left * ~same
        score = torch.cat([best for best, _ in kept], dim=1)
        merged = torch.cat([row for _, row in kept], dim=1)
        u, v = (merged[..., axis::2].flatten(1)[:, None] * 2 - 1 for axis in (0, 1))
        x, y = to_photo(whole, u, v)
        points = torch.stack([x[:, 0], y[:, 0]], dim=-1).unflatten(1, (CANDIDATES, 8))
        box = points[:, :, :2].flatten(2)
        middle = torch.tensor([0.25, 0.25, 0.75, 0.75], device=box.device) * whole[..., 2:3]
        box = torch.where((score > 0)[..., None], box, middle)  # nobody there: something finite to crop
        keypoints = points[:, :, 2:]
        eyes = keypoints[:, :, :2].mean(dim=2)
        return Found(score, box, roll_of(keypoints[:, :, 1] - keypoints[:, :, 0], eyes - keypoints[:, :, 3]))

    def _mesh_points(self, mips: MipPhotos, found: Found) -> tuple[Tensor, Tensor]:
        """Face-mesh points [B, K, 468, 2], photo pixels, and presence [B, K]: two passes, as `FaceMesh`."""
        squares = square_of_box(found.box, found.roll, MESH_MARGIN, 0.0)
        first, presence = self._mesh_once(mips, squares)
        squares = square_of_points(first, mesh_roll(first), MESH_MARGIN, longer=True)
        second, again = self._mesh_once(mips, squares)
        better = again >= 0.5 * presence
        return torch.where(better[..., None, None], second, first), torch.where(better, again, presence)

    def _mesh_once(self, mips: MipPhotos, squares: Tensor) -> tuple[Tensor, Tensor]:
        pictures = mips.crop(squares, MESH_SIZE).flatten(0, 1)
        raw, logit = self.mesh(pictures)
        ndc = (raw.reshape(-1, 468, 3)[..., :2] + NETWORK_OFFSET) * (2 / MESH_SIZE) - 1
        ndc = ndc.unflatten(0, squares.shape[:2])
        points = torch.stack(to_photo(squares, ndc[..., 0], ndc[..., 1]), dim=-1)
        return points, logit.reshape(squares.shape[:2]).sigmoid()

    def _answer(self, mips: MipPhotos, squares: Tensor) -> tuple[FaceParameters, Tensor, Tensor, Tensor]:
        """One pass of the network and the head: parameters [B·K, n], landmarks [B, K, 68, 2], roll [B, K] on the
        photo, vertices [B, K, V, 3]."""
        crops = mips.crop(squares, self.network.config.image_size).flatten(0, 1)
        parameters = self.network(crops)
        parameters = parameters.replace(expression=self.head.clamp_expression(parameters.expression))
        vertices = self.head(parameters.shape, parameters.expression, parameters.jaw).vertices
        camera = Camera.from_vector(parameters.camera)
        angles = camera.angles()
        points = camera.project(self.head.landmarks68(vertices, angles[:, 0])).unflatten(0, squares.shape[:2])
        landmarks = torch.stack(to_photo(squares, points[..., 0], points[..., 1]), dim=-1)
        roll = angles[:, 2].unflatten(0, squares.shape[:2]) + squares[..., 3]
        return parameters, landmarks, roll, vertices.unflatten(0, squares.shape[:2])


def example_photos(batch: int = 2) -> Tensor:
    """[B, 3, H, W] of a size that exporters take for any size."""
    return torch.rand(batch, 3, 200, 240, generator=torch.Generator().manual_seed(0))


def largest(found: Found, count: int) -> Found:
    """The largest faces first; what is no face comes last."""
    sides = found.box[..., 2:] - found.box[..., :2]
    order = ((sides.sum(-1) + 1) * (found.score > 0)).argsort(dim=1, descending=True)[:, :count]
    return Found(
        found.score.gather(1, order),
        found.box.gather(1, order[..., None].expand(-1, -1, 4)),
        found.roll.gather(1, order),
    )


def overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of boxes [B, 1, 4] with [B, N, 4] → [B, N]."""
    low, high = torch.maximum(box[..., :2], boxes[..., :2]), torch.minimum(box[..., 2:], boxes[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1) for b in (box, boxes)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-12)


def roll_of(right_to_left: Tensor, chin_to_brow: Tensor) -> Tensor:
    """`images.crop.roll_of` on tensors [..., 2], photo pixels."""
    across, up = right_to_left, chin_to_brow
    return torch.atan2(-across[..., 1] - up[..., 0], across[..., 0] - up[..., 1])


def mesh_roll(points: Tensor) -> Tensor:
    """Mesh points [B, K, 468, 2] → [B, K], as `images.facemesh.mesh_roll`."""
    left, right = (points[:, :, list(corners)].mean(dim=2) for corners in (LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS))
    return roll_of(left - right, points[:, :, FOREHEAD] - points[:, :, CHIN])


def square_of_box(box: Tensor, roll: Tensor, scale: float, lowering: float) -> Tensor:
    """`images.crop.crop_from_box` on tensors: boxes [B, K, 4] → squares [B, K, 4]."""
    size = (box[..., 2] - box[..., 0] + box[..., 3] - box[..., 1]) / 2
    x = (box[..., 0] + box[..., 2]) / 2 + lowering * size * roll.sin()
    y = (box[..., 1] + box[..., 3]) / 2 + lowering * size * roll.cos()
    return torch.stack([x, y, size * scale, roll], dim=-1)


def square_of_points(points: Tensor, roll: Tensor, scale: float, longer: bool = False) -> Tensor:
    """`images.crop.crop_from_landmarks` on tensors: points [B, K, N, 2] → squares [B, K, 4].

    Args:
        longer: the side follows the longer side of the points' box instead of the mean.
    """
    cos, sin = roll.cos()[..., None], roll.sin()[..., None]
    along = torch.stack([points[..., 0] * cos - points[..., 1] * sin, points[..., 0] * sin + points[..., 1] * cos], -1)
    low, high = along.amin(2), along.amax(2)
    sides = high - low
    size = (sides.amax(-1) if longer else sides.mean(-1)).clamp(min=1)
    u, v = ((low + high) / 2).unbind(-1)
    cos, sin = cos[..., 0], sin[..., 0]
    return torch.stack([cos * u + sin * v, -sin * u + cos * v, size * scale, roll], dim=-1)


def refined(first: Tensor, second: Tensor) -> Tensor:
    """The second square where it stayed near the first one."""
    moved = (second[..., :2] - first[..., :2]).norm(dim=-1)
    ratio = second[..., 2] / first[..., 2]
    good = (moved <= first[..., 2] / 2) & (ratio > 0.4) & (ratio < 2.5)
    return torch.where(good[..., None], second, first)
