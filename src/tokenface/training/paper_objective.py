"""Eqs. 1–13 on a batch of records: every loss of the paper where the batch has the truth for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tokenface.camera import Camera
from tokenface.data.shards.batch import RecordBatch
from tokenface.head.model import HeadModel
from tokenface.identity.encoder import IdentityEncoder
from tokenface.losses.consistency import MeshDistance, vertex_consistency_loss
from tokenface.losses.identity import identity_loss
from tokenface.losses.landmark import eyelid_loss, landmark_loss, lip_loss
from tokenface.losses.mesh import mesh_loss
from tokenface.losses.photometric import face_mask, photometric_loss, shape_consistency_loss
from tokenface.losses.regularisation import regularisation_loss
from tokenface.losses.swapping import SwapPairs, swap_pairs
from tokenface.losses.totals import Mode, PaperWeights, total, total_2d, total_3d
from tokenface.network.components import FaceParameters
from tokenface.render.rasterizer import Backend
from tokenface.render.renderer import RenderedFaces, Renderer
from tokenface.training.supervision import supervised_vertices

MESH_UNITS_PER_METRE = 100.0
"""Vertex errors count in centimetres: about as large as the other terms at λ_mesh = 2; the paper does not say."""


class PaperObjective:
    """The paper's loss of one head model.

    Args:
        weights: λ, ω and the pose-aware constants.  mode: of Table 5.
        encoder: for Eq. 10; None leaves the identity loss out.
        partners: givers per taker in Eqs. 5 and 9; each costs a rendering. None: all M − 1, as the paper.
        distance: of meshes; the paper's is `mesh_loss`. `scale_free_mesh_loss` suits scans without a true size.
    """

    def __init__(
        self,
        head: HeadModel,
        weights: PaperWeights | None = None,
        encoder: IdentityEncoder | None = None,
        mode: Mode = "hybrid",
        partners: int | None = 1,
        distance: MeshDistance = mesh_loss,
        backend: Backend = "auto",
    ):
        self.weights, self.encoder, self.mode, self.partners = weights or PaperWeights(), encoder, mode, partners
        self.distance = distance
        self.subset, self.vertex_weights = supervised_vertices(head)
        self.renderer = Renderer(head, backend).to(head.template.device)
        self.face = self.renderer.region_weights("face") if "face" in head.data.regions else None

    def __call__(self, parameters: FaceParameters, batch: RecordBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss and the mean of every unweighted term, for the log.

        Args:
            parameters: of the batch's B pictures, float32.
        Raises:
            ValueError: the mode needs scans or photos, and the batch has none.
        """
        scans = self.terms_3d(parameters, batch) if self.mode != "2d" else {}
        photos, angles = self.terms_2d(parameters, batch) if self.mode != "3d" else ({}, batch.angles)
        loss = total(
            total_3d(scans, self.weights) if scans else None,
            total_2d(photos, angles, self.weights) if photos else None,
            self.weights,
            self.mode,
        )
        return loss, {name: value.mean() for name, value in (scans | photos).items() if value.numel()}

    def terms_3d(self, parameters: FaceParameters, batch: RecordBatch) -> dict[str, Tensor]:
        """Eqs. 3 and 5 of the batch's scans; a neutral scan is explained by its shape alone. Empty without scans."""
        if batch.geometry is None:
            return {}
        geometry = batch.geometry
        p = parameters[geometry.rows]
        expressive = (~geometry.neutral)[:, None].to(p.expression.dtype)
        p = p.replace(expression=p.expression * expressive, jaw=p.jaw * expressive)
        truth = geometry.vertices[:, self.subset.indices]
        pairs = swap_pairs(batch.identity[geometry.rows], self.partners)
        mesh = self.distance(self.subset.vertices(p), truth, self.vertex_weights)
        consistency = (
            vertex_consistency_loss(self.subset.vertices, p, truth, self.vertex_weights, pairs, self.distance)
            if len(pairs)
            else mesh.new_zeros(0)
        )
        return {"mesh": mesh * MESH_UNITS_PER_METRE, "vertex_consistency": consistency * MESH_UNITS_PER_METRE}

    def terms_2d(self, parameters: FaceParameters, batch: RecordBatch) -> tuple[dict[str, Tensor], Tensor]:
        """The seven terms of Eq. 6 of the batch's photos, and the photos' angles. Empty without photos."""
        rows = self._photo_rows(batch)
        if not len(rows):
            return {}, batch.angles
        p, image, points, visible = (
            parameters[rows],
            batch.image[rows],
            batch.landmarks68[rows],
            batch.visible68[rows].to(batch.image.dtype),
        )
        camera = Camera.from_vector(p.camera)
        projected = camera.project(self.subset.landmarks68(self.subset.vertices(p), camera.angles()[:, 0]))[..., :2]
        draw: Callable[[FaceParameters], RenderedFaces] = partial(
            self.renderer.render, size=image.shape[-1], vertex_weights=self.face
        )
        rendered = draw(p)
        mask = face_mask(batch.mask[rows], rendered)
        pairs: SwapPairs = swap_pairs(batch.identity[rows], self.partners)
        w = self.weights
        terms = {
            "landmarks": landmark_loss(projected, points, visible),
            "eyelids": eyelid_loss(projected, points, visible),
            "lips": lip_loss(projected, points, visible),
            "photometric": photometric_loss(rendered.image, image, mask),
            "shape_consistency": shape_consistency_loss(draw, p, image, batch.mask[rows], pairs),
            "regularisation": regularisation_loss(p, w.shape_prior, w.expression_prior, w.texture_prior),
        }
        if self.encoder is not None:
            terms["identity"] = identity_loss(self.encoder, image, rendered.image, mask, points)
        return terms, batch.angles[rows]

    def _photo_rows(self, batch: RecordBatch) -> Tensor:
        photo = torch.ones(len(batch), dtype=torch.bool, device=batch.image.device)
        if batch.geometry is not None:
            photo[batch.geometry.rows] = False
        return photo.nonzero()[:, 0]
