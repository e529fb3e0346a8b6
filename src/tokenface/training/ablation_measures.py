"""Measures of the ablations: rendered people, and photos of people, that no run has seen."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenface.core.fingerprint import content_hash
from tokenface.data.photos import photo_records
from tokenface.data.synthetic import GENERATOR_VERSION, SyntheticFaces
from tokenface.evaluation.batch import measure_all
from tokenface.evaluation.component_leakage import component_leakage, component_pairs
from tokenface.evaluation.geometry import PeopleScans, face_distances
from tokenface.evaluation.landmarks import evaluation_crops, normalised_mean_error
from tokenface.evaluation.now import NowFolder, now_jobs
from tokenface.evaluation.photo_statistics import photo_figures, predict_all, projected_landmarks
from tokenface.evaluation.predict import PhotoTask, predict_photos
from tokenface.evaluation.rendered_measures import rendered_figures
from tokenface.evaluation.results import summarise
from tokenface.evaluation.scan_to_mesh import Protocol
from tokenface.geometry import rotations
from tokenface.head.model import HeadModel
from tokenface.inference.checkpoint import load_checkpoint
from tokenface.model import Reconstructor
from tokenface.network.backbone import VisionTransformer
from tokenface.network.tokenface import TokenFace
from tokenface.parameters import FaceParameters
from tokenface.training.config import PhotoConfig
from tokenface.training.features import hash_of_frozen


def now_validation(weights: Path, folder: NowFolder) -> dict[str, float]:
    """Median, mean and standard deviation (mm) under "now median", …, non-metrical, as `tokenface evaluate now`.

    Predictions and alignments stay beside the weights.
    """
    images, place = folder.images("validation"), weights.parent / "now"
    tasks = [
        PhotoTask(i.name, folder.photo(i), folder.box(i), place / i.subject / i.challenge / i.stem) for i in images
    ]
    for _ in predict_photos(Reconstructor.load(weights), tasks):
        pass
    protocol = Protocol("NoW, non-metrical")
    outcomes = list(measure_all(now_jobs(folder, images, place), protocol, cache=weights.parent / "now-cache"))
    row = summarise(weights.parent.name, protocol, outcomes).figures["all"]
    return {"now median": row.median, "now mean": row.mean, "now std": row.std, "now coverage": row.coverage}


HELD_OUT_SEED = 192_837_465
"""Rendered people of this seed are neither trained on nor used to watch runs."""
LARGE_POSE = (45.0, 80.0)
"""Degrees of yaw, to either side, at which Fig. 7's comparison is made."""
PHOTOS = 128
"""Of people kept out, drawn alike for every row."""
ACTIONS, LEAKED = "r² of actions", "action leakage"
GROUPS = ("gaze", "brows", "lids", "lips", "blink difference")
"""Figures of `rendered_figures` that go into the results beside their mean."""
PHOTO_FIGURES = {
    "photo points %": "68 points bias removed %",
    "photo baseline": "expression baseline",
    "photo mean head mm": "mean prediction mm",
    "photo within / between": "within / between",
}


class HeldOut:
    """Rendered people that no run has seen, and how far a network's neutral faces are from theirs; NoW's, too, where
    its validation split is at hand.

    Args:
        components: of the people are also asked for every action and for what leaks between components
            (`evaluation/component_leakage.py`); 0: none.
        pairs: people whose components are exchanged.
        photos: whose held-out people are measured, too, where components are.
    """

    def __init__(
        self, head: HeadModel, size: int, people: int, large_pose: bool, now: str | Path | None = None,
        components: int = 0, pairs: int = 0, photos: PhotoConfig | None = None,
    ):  # fmt: skip
        self.head, self.now = head, None if now is None else NowFolder(now)
        if self.now is not None:
            self.now.images("validation")  # what is wrong with it is said before hours are spent
        self.facts = {
            "generator": GENERATOR_VERSION,
            "head": head.data.geometry_hash(),
            "size": size,
            "people": people,
            "large pose": large_pose,
            "now": None if now is None else str(Path(now).resolve()),
        }
        count = max(people, components)
        rotation = _large_turns(count) if large_pose else None
        batch = SyntheticFaces(head, size).sample(count, HELD_OUT_SEED, rotation=rotation)
        self.landmarks, self.truth, self.people = batch.landmarks68, batch.parameters, people
        self.scans = PeopleScans.of(head, batch.neutral[:people])
        self.pictures = {"people": batch.image}
        self.pairs = self.photos = None
        if components:
            self.facts |= {"components": components, "pairs": pairs, "photos": None}
            self.pairs = component_pairs(head, size, pairs, HELD_OUT_SEED + 1)
            self.pictures["pairs"] = self.pairs.image
            records = photo_records(photos)[1] if photos is not None else []
            if photos is not None and records:
                chosen = sorted(np.random.default_rng(0).permutation(len(records))[:PHOTOS])
                shown = [records[i] for i in chosen]
                self.pictures["photos"], points = evaluation_crops(shown, size)
                self.photos = (points, [record.identity for record in shown])
                self.facts["photos"] = [content_hash(photos.tar or ""), len(shown)]
        self._read: dict[tuple[str, str], Tensor] = {}

    def measure(self, weights: Path) -> dict[str, float]:
        """Median, mean and standard deviation of all distances (mm), landmark error (% of √box); the same three of
        NoW under "now median", …; with components the figures of `component_leakage`, of the actions and of photos."""
        model, _, _ = load_checkpoint(weights, self.head)
        predicted = {kind: predict_all(model, self._as_read(model, kind)) for kind in self.pictures}
        own = predicted["people"]
        points = projected_landmarks(self.head, own)
        nme = float(normalised_mean_error(points, self.landmarks).mean()) * 100
        neutral = torch.cat([self.head(part).vertices for part in own.shape[: self.people].split(32)])
        found = {**self._distances(neutral.numpy()), "nme": nme}
        if self.pairs is not None:
            found |= self._components(own, predicted["pairs"])
        if self.photos is not None:
            truth, people = self.photos
            figures, _ = photo_figures(self.head, predicted["photos"], people, truth, truth, intervals=False)
            found |= {name: figures[source].value for name, source in PHOTO_FIGURES.items()}
        found = {name: value for name, value in found.items() if math.isfinite(value)}
        return found if self.now is None else found | now_validation(weights, self.now)

    def mean_head(self) -> dict[str, float]:
        """The same of the mean head, which knows nobody."""
        return self._distances(self.head.template[None].numpy())

    def _components(self, own: FaceParameters, exchanged: FaceParameters) -> dict[str, float]:
        assert self.pairs is not None
        figures, _, leaks = rendered_figures(self.head, own, self.truth, intervals=False)
        spread = self.truth.expression.double().std(0).numpy()
        scaled = leaks * spread[:, None] / np.maximum(spread, 1e-6)
        varies = spread > 1e-3
        scaled = scaled[np.ix_(varies, varies)]
        diagonal = np.diag(scaled)
        between = float(np.sqrt(((scaled - np.diag(diagonal)) ** 2).sum() / max((diagonal**2).sum(), 1e-12)))
        found = {ACTIONS: figures["mean r²"].value, "r² of shape": figures["shape"].value, LEAKED: between}
        found |= {name: figures[name].value for name in GROUPS if name in figures}
        return found | component_leakage(self.head, lambda _: exchanged, self.pairs)

    @torch.no_grad()
    def _as_read(self, model: TokenFace, kind: str) -> Tensor:
        """The pictures; of networks with a `token_entry` what the blocks before it say of them, once for all rows."""
        images = self.pictures[kind]
        if not model.config.token_entry or model.closeups is not None:
            return images
        assert isinstance(model.backbone, VisionTransformer)
        key = (kind, hash_of_frozen(model))
        if key not in self._read:
            self._read[key] = torch.cat([model.backbone.before_tokens(part) for part in images.split(32)])
        return self._read[key]

    def _distances(self, predicted: np.ndarray) -> dict[str, float]:
        distances = np.concatenate(face_distances(self.scans, predicted, self.head))
        return {"median": float(np.median(distances)), "mean": float(distances.mean()), "std": float(distances.std())}


def _large_turns(people: int) -> Tensor:
    """[people, 3, 3] head rotations, evenly over LARGE_POSE, left and right by turns."""
    low, high = (math.radians(angle) for angle in LARGE_POSE)
    yaw = torch.linspace(low, high, people) * torch.where(torch.arange(people) % 2 == 0, 1.0, -1.0)
    return rotations.rotvec_to_rotmat(torch.stack([torch.zeros(people), yaw, torch.zeros(people)], dim=-1))
