"""Objective on records: 3-D terms on scans (Eq. 2), 2-D terms on photos (Eq. 6), their sum (Eq. 1)."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from tokenface.data.shards.batch import RecordBatch
from tokenface.data.shards.index import wrong_head
from tokenface.errors import ConfigError, DataError
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.identity import load_identity_encoder
from tokenface.losses.consistency import shape_consistency_loss, swap_pairs, vertex_consistency_loss
from tokenface.losses.identity import identity_loss
from tokenface.losses.landmark import eyelid_loss, landmark_loss, lip_loss
from tokenface.losses.mesh import known_mesh_loss
from tokenface.losses.photometric import face_mask, lost_share, photometric_loss, recall_loss
from tokenface.losses.regularisation import regularisation_loss
from tokenface.losses.totals import total, total_2d, total_3d
from tokenface.losses.vertex_weights import supervised_vertices
from tokenface.parameters import FaceParameters
from tokenface.render.renderer import RenderedFaces, Renderer
from tokenface.training.config import PaperConfig


class HybridObjective:
    """All losses of Sec. 3.2 for one head model and crop size."""

    def __init__(self, head: HeadModel, config: PaperConfig, size: int):
        self.config, self.size = config, size
        self.subset, self.vertex_weights = supervised_vertices(head)
        self.geometry = head.data.geometry_hash()
        self.encoder = None
        self.renderer: Renderer | None = None
        if config.mode == "3d":
            return
        self.renderer = Renderer(head).to(head.template.device)
        self.face_weights = self.renderer.face_weights()
        if config.identity_encoder is not None and config.weights.identity:
            self.encoder = load_identity_encoder(config.identity_encoder)
            self.encoder.to(head.template.device)  # type: ignore[attr-defined]

    def __call__(
        self,
        scans: tuple[FaceParameters, RecordBatch] | None,
        pictures: tuple[FaceParameters, RecordBatch] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 1, and every term unweighted by name, for the curves."""
        weights = self.config.weights
        loss_3d = loss_2d = None
        figures: dict[str, Tensor] = {}
        if scans is not None:
            terms = self.three_d(*scans)
            loss_3d = total_3d(terms, weights)
            figures |= _means(terms)
        if pictures is not None:
            terms = self.two_d(*pictures)
            loss_2d = total_2d(terms, pictures[1].angles, weights)
            figures |= _means(terms)
        return total(loss_3d, loss_2d, weights, self.config.mode), figures

    def three_d(self, parameters: FaceParameters, batch: RecordBatch) -> dict[str, Tensor]:
        """Eqs. 3 and 5, in crop half-widths; a neutral scan is explained by its shape alone, a registered one forgives
        the place that its registration guessed, one without a true size that, too."""
        geometry = batch.geometry
        if geometry is None or len(geometry.rows) != len(batch):
            raise DataError("a scan without vertices; prepare the 3-D data sets again")
        if geometry.head != self.geometry:
            raise DataError(wrong_head([geometry.head], self.geometry))
        truth = geometry.vertices[:, self.subset.indices]
        moves = (~geometry.neutral).to(truth)[:, None]
        parameters = parameters.replace(expression=parameters.expression * moves, jaw=parameters.jaw * moves)
        scale = self.config.vertex_scale
        distance = partial(known_mesh_loss, unknown=geometry.unknown.cpu(), metric=self.config.metric)
        terms = {"mesh": scale * distance(self.subset.vertices(parameters), truth, self.vertex_weights)}
        unknown = geometry.unknown.cpu()
        pairs = swap_pairs(batch.identity.cpu(), self.config.partners)
        terms["vertex_consistency"] = truth.new_zeros(0)
        if len(pairs):
            distance = partial(known_mesh_loss, unknown=unknown[pairs.target], metric=self.config.metric)
            pairs = pairs.to(truth.device)
            terms["vertex_consistency"] = scale * vertex_consistency_loss(
                self.subset.vertices, parameters, truth, self.vertex_weights, pairs, distance
            )
        return terms

    def two_d(self, parameters: FaceParameters, batch: RecordBatch) -> dict[str, Tensor]:
        """Eqs. 7 to 11 and the landmark loss, per photo or pair; a head that left the photo's face is called back."""
        w, camera = self.config.weights, Camera.from_vector(parameters.camera)
        vertices = self.subset.vertices(parameters)
        points = camera.project(self.subset.landmarks68(vertices, camera.angles()[:, 0]))[..., :2]
        truth, visible = batch.landmarks68, batch.visible68.to(points)
        rendered = self.draw(parameters)
        mask = face_mask(batch.mask, rendered)
        lost = lost_share(batch.mask, mask)
        terms = {
            "landmarks": landmark_loss(points, truth, visible),
            "eyelids": eyelid_loss(points, truth, visible),
            "lips": lip_loss(points, truth, visible),
            "photometric": photometric_loss(rendered.image, batch.image, mask) + recall_loss(batch.mask, mask, points),
            "regularisation": regularisation_loss(parameters, w.shape_prior, w.expression_prior, w.texture_prior),
        }
        pairs = swap_pairs(batch.identity.cpu(), self.config.partners).to(points.device)
        if w.shape_consistency:
            terms["shape_consistency"] = shape_consistency_loss(self.draw, parameters, batch.image, batch.mask, pairs)
        if self.encoder is not None:
            terms["identity"] = identity_loss(self.encoder, batch.image, rendered.image, mask, truth) + lost
        return terms

    def draw(self, parameters: FaceParameters) -> RenderedFaces:
        """The faces as the photos' crops show them; `weight` is 1 on the face region."""
        if self.renderer is None:
            raise ConfigError("paper.mode '3d' draws nothing")
        return self.renderer.render(parameters, self.size, vertex_weights=self.face_weights)


def _means(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """By name; 0 where a batch has no pair, because all processes must have the same curves."""
    return {name: value.detach().sum() / max(1, value.numel()) for name, value in terms.items()}
