"""Self-training on real photos: bias-corrected pseudo-labels, and photos warped by known changes.

An update of the pseudo-labels predicts every training photo with the averaged weights and takes out what is the same
for everybody: the mean shape (people's mean is the prior's), and the low quantile of each action and of the jaw (at
rest, most are 0). What is left of a person's photos is averaged and becomes the target of their shape.

A network that is taught by itself can learn that nobody on a photo moves or differs: it tells photos from renderings,
and every doubt makes its targets smaller. So an update brings the targets' spread over the photos to a share of the
predictions' spread on rendered faces, action by action, and people's shapes as a whole.

In between, each photo that is drawn is warped as if the person had β + δ and ψ + δψ, and the target moves by δ. Let the
teacher give a share a of the truth b: the student sees b + δ, is told a·b + δ, and does best with (a + 1)/2 of what
it sees; update by update a tends to 1, as far as the picture shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from tokenface.core.files import write_atomically
from tokenface.core.tensors import open_tensors
from tokenface.data.augment import Mirror, Part, colour_jitter, turn_and_zoom
from tokenface.data.photos import PhotoBatch, PhotoTarget, SquareCrop
from tokenface.data.record import PhotoRecord
from tokenface.data.replay import LabelledFaces
from tokenface.data.warping import move_points, warp_faces
from tokenface.errors import CheckpointError
from tokenface.evaluation.photo_movement import person_means
from tokenface.evaluation.rendered_measures import r_squared
from tokenface.head.model import HeadModel
from tokenface.losses.vertex_weights import action_spread
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import COMPONENTS, FaceParameters
from tokenface.training.config import TeachingConfig
from tokenface.training.labelled_movement import LabelledMovement
from tokenface.training.photo_bias import PhotoBias

CROP_SCALE = 1.5
"""Side of the photos' crops over the landmark box: the middle of the training crops."""
BATCH = 32
WARPED_ACTIONS = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "eyeBlinkLeft",
    "eyeBlinkRight", "eyeSquintLeft", "eyeSquintRight", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft",
    "noseSneerRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthLeft",
    "mouthRight", "mouthPucker", "mouthStretchLeft", "mouthStretchRight", "mouthDimpleLeft", "mouthDimpleRight",
    "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight",
)  # fmt: skip
"""Actions whose change a warp can show; opening lips and turning eyes would need pixels that no photo has."""
REST_QUANTILE = 0.15
"""Quantile of each action over the photos that finished weights put at 0. Not the baseline's 0.25: what falls below 0
is lost as movement."""
MOST_GAIN = 3.0
"""Largest factor by which one update stretches the targets; updates follow each other."""
CHANGED = 2.5
"""Actions that a warp changes, on average, where it changes any."""
LIMITED = {"eyeBlinkLeft": 0.45, "eyeBlinkRight": 0.45}
"""How much of an action a warp adds at the most; others 0.7."""


class PseudoLabels(NamedTuple):
    """Pseudo-labels of N photos. raw: predictions as they are.  target: [N, ·] of shape, expression and jaw without
    what all photos share.  reliability: [E] share of each action's variance that the teacher explains on renders."""

    raw: FaceParameters
    shape: Tensor
    expression: Tensor
    jaw: Tensor
    reliability: Tensor


@dataclass
class Debiased:
    """The teacher's bias, in numbers for the curves.

    baseline: sum of the actions' low quantiles.  shape_bias: rms of the mean shape's coefficients.  action_spread,
    shape_spread: spread of the predictions on photos over that on rendered faces.
    """

    baseline: float
    shape_bias: float
    action_spread: float
    shape_spread: float


class Teaching:
    """The photos of a run with their pseudo-labels; batches of them are a function of a seed and the pseudo-labels.

    Args:
        head: on the device of training.  records: training photos.  size: of the crops.  folder: the run's.
    """

    def __init__(
        self, head: HeadModel, records: Sequence[PhotoRecord], size: int, config: TeachingConfig, folder: Path
    ):
        self.head, self.config, self.path = head, config, folder / "lesson.safetensors"
        self.mirror = Mirror(head)
        names = list(head.expression_names)
        self.warped = torch.tensor([names.index(n) for n in WARPED_ACTIONS if n in names], dtype=torch.long)
        gaze = torch.tensor([name.startswith("eyeLook") for name in names])
        self.share = torch.where(gaze, config.gaze_spread, config.action_spread)
        self.limit = torch.tensor([LIMITED.get(n, 0.7) for n in WARPED_ACTIONS if n in names])
        own = head if head.template.device.type == "cpu" else HeadModel(head.data)
        self.movement = LabelledMovement(own, config.action_spread * action_spread(head).cpu())
        crops = [_crop(record, size) for record in records]
        self.images = torch.from_numpy(np.stack([image for image, _ in crops])).permute(0, 3, 1, 2).contiguous()
        self.points = torch.from_numpy(np.stack([points for _, points in crops]))
        people: dict[str, int] = {}
        self.person = torch.tensor([people.setdefault(r.identity, len(people)) for r in records])
        self.pseudo_labels: PseudoLabels | None = None

    def due(self, step: int) -> bool:
        """Whether the pseudo-labels are updated before this step."""
        return self.pseudo_labels is None or (self.config.every > 0 and step % self.config.every == 0)

    @torch.no_grad()
    def teach(self, network: TokenFace, renders: Sequence[LabelledFaces]) -> Debiased:
        """New pseudo-labels from a network in evaluation mode; renders: faces with truth, to see which actions it
        knows."""
        device = next(network.parameters()).device
        raw = self._predicted(network)
        own = person_means(raw.shape, self.person)
        bias = PhotoBias.of(raw, self.person, self.config.quantile)
        jaw = raw.jaw.clone()
        jaw[:, 0] = (jaw[:, 0] - bias.jaw).clamp_min(0)
        rendered = FaceParameters.cat([network(faces.image.to(device)).to("cpu") for faces in renders])
        truth = torch.cat([faces.parameters.expression for faces in renders])
        actions, actions_rendered = self._action_spread(raw.expression), self._action_spread(rendered.expression)
        people = (own - bias.shape).square().mean().sqrt()
        people_rendered = rendered.shape.std(dim=0).square().mean().sqrt()
        expression = ((raw.expression - bias.expression) * gain(actions, actions_rendered, self.share)).clamp(0, 1)
        told = self.movement.correction(raw.replace(expression=expression, jaw=jaw), self.points, self.person)
        self.pseudo_labels = PseudoLabels(
            raw,
            (own - bias.shape) * gain(people, people_rendered, torch.tensor(self.config.shape_spread)),
            (expression + told).clamp(0, 1),
            jaw,
            explained(rendered.expression, truth).clamp(0, 1),
        )
        return Debiased(
            float(bias.expression.sum()),
            float(bias.shape.square().mean().sqrt()),
            float(actions.mean() / actions_rendered.mean().clamp_min(1e-6)),
            float(people / people_rendered.clamp_min(1e-6)),
        )

    def take_out_bias(self, network: TokenFace) -> PhotoBias:
        """Take what a network in evaluation mode says of all the photos out of its prediction heads."""
        bias = PhotoBias.of(self._predicted(network), self.person, REST_QUANTILE).symmetric(self.mirror.expression)
        bias.take_out(network)
        return bias

    def photos(self, seed: int, part: Part) -> PhotoBatch:
        """The rows of a batch: drawn, warped, turned, mirrored, coloured; with targets."""
        assert self.pseudo_labels is not None
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randint(len(self.images), (part.total,), generator=generator)
        shape_change, action_change = self._changes(rows, generator)
        mirrored = torch.rand(part.total, generator=generator) < 0.5
        own = slice(part.start, part.stop)
        rows, mirrored = rows[own], mirrored[own]
        raw, pseudo_labels = self.pseudo_labels.raw[rows], self.pseudo_labels
        image = self.images[rows].float() / 255
        after = raw.replace(shape=raw.shape + shape_change[own], expression=raw.expression + action_change[own])
        moved = warp_faces(image, self.head, raw, after)
        points = move_points(moved.flow, self.points[rows])
        target = raw.replace(
            shape=pseudo_labels.shape[rows] + shape_change[own],
            expression=(pseudo_labels.expression[rows] + action_change[own]).clamp_min(0),
            jaw=pseudo_labels.jaw[rows],
        )
        image, points, target = self.mirror.rows(mirrored, moved.images, points, target)
        image, _, _, points = turn_and_zoom(image, raw.camera, raw.light, points, generator, part=part)
        image = colour_jitter(image, generator, part=part)
        # what was changed is known, whatever the teacher knows of that action
        changed = action_change[own] != 0
        changed = torch.where(mirrored[:, None], changed[:, self.mirror.expression], changed)
        known = torch.maximum(pseudo_labels.reliability.expand_as(target.expression), changed.float())
        return PhotoBatch(image, points, PhotoTarget(target.shape, target.expression, target.jaw, known, changed))

    def save(self) -> None:
        """Write the pseudo-labels, atomically, for a run that goes on."""
        assert self.pseudo_labels is not None
        tensors = {f"raw.{name}": value.contiguous() for name, value in self.pseudo_labels.raw.items()}
        tensors |= {k: v.contiguous() for k, v in self.pseudo_labels._asdict().items() if isinstance(v, Tensor)}
        write_atomically(self.path, save(tensors))

    def restore(self) -> None:
        """The pseudo-labels of the run that is continued.

        Raises:
            CheckpointError: missing, damaged, or of other photos.
        """
        try:
            with open_tensors(self.path) as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            raw = FaceParameters(**{name: tensors.pop(f"raw.{name}") for name in COMPONENTS})
            self.pseudo_labels = PseudoLabels(raw, **tensors)
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise CheckpointError(f"the run's pseudo-labels '{self.path}' are missing or damaged ({error})") from error
        if len(raw) != len(self.images):
            raise CheckpointError(f"'{self.path}' is of {len(raw)} photos, the run has {len(self.images)}")

    @torch.no_grad()
    def _predicted(self, network: TokenFace) -> FaceParameters:
        """Of every photo, on the CPU."""
        device = next(network.parameters()).device
        starts = range(0, len(self.images), BATCH)
        return FaceParameters.cat(
            [network(self.images[i : i + BATCH].to(device).float() / 255).to("cpu") for i in starts]
        )

    def _action_spread(self, expression: Tensor) -> Tensor:
        """[E] standard deviation of each action of [N, E], both sides' mean."""
        spread = expression.std(dim=0)
        return (spread + spread[self.mirror.expression.to(spread.device)]) / 2

    def _changes(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Known changes of shape [B, S] and of actions [B, E] for some photos."""
        assert self.pseudo_labels is not None
        batch, raw = len(rows), self.pseudo_labels.raw[rows]
        spreads = torch.tensor(self.config.shape_warps)
        spread = spreads[torch.randint(len(spreads), (batch,), generator=generator)]
        shape = spread[:, None] * torch.randn(batch, raw.shape.shape[1], generator=generator)
        chosen = torch.rand(batch, len(self.warped), generator=generator) < CHANGED / max(1, len(self.warped))
        chosen &= torch.rand(batch, 1, generator=generator) < self.config.action_share
        amount = torch.rand(batch, len(self.warped), generator=generator) * self.limit
        less = torch.rand(batch, len(self.warped), generator=generator) < 0.3
        present = self.pseudo_labels.expression[rows][:, self.warped]
        amount = torch.where(less, -torch.minimum(present, amount), torch.minimum(amount, 1 - present).clamp_min(0))
        actions = torch.zeros_like(raw.expression)
        actions[:, self.warped] = torch.where(chosen, amount, torch.zeros_like(amount))
        return shape, actions


def explained(predicted: Tensor, truth: Tensor) -> Tensor:
    """[K] r² of each column of [N, K] (`evaluation.rendered_measures.r_squared`); 0 where the truth never changes."""
    return torch.from_numpy(r_squared(predicted.numpy(), truth.numpy())).nan_to_num(0).float()


def gain(spread: Tensor, rendered: Tensor, share: Tensor) -> Tensor:
    """What brings a spread to a share of that on rendered faces, within MOST_GAIN of 1; 1 where the share is 0."""
    wanted = (share * rendered / spread.clamp_min(1e-6)).clamp(1 / MOST_GAIN, MOST_GAIN)
    return torch.where(share > 0, wanted, 1.0)


def _crop(record: PhotoRecord, size: int) -> tuple[np.ndarray, np.ndarray]:
    low, high = record.landmarks.min(0), record.landmarks.max(0)
    crop = SquareCrop((low + high) / 2, float((high - low).mean()) * CROP_SCALE, 0.0, False, size)
    return crop.pixels(record.image), crop.landmarks(record.landmarks)
