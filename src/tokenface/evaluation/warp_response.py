"""Response to known changes: predictions on photos warped by a shape or expression difference.

The truth of a photo is not known, but its change is. A right prediction moves by the change: slope 1, all of its
movement explained, the other components at rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenface.data.expressions import other_side
from tokenface.data.warping import warp_faces
from tokenface.evaluation.face_space import FaceSpace
from tokenface.evaluation.statistics import Measured, measured_over_people
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.parameters import COMPONENTS, FaceParameters

Predict = Callable[[Tensor], FaceParameters]

SHAPE_MM = 2.2
"""Of the change of identity, rms over the face; people differ by 2.9 mm."""
ACTIONS = {
    "browInnerUp": 0.7,
    "browOuterUpLeft": 0.7,
    "browDownLeft": 0.7,
    "eyeBlinkLeft": 0.4,
    "eyeSquintLeft": 0.6,
    "mouthSmileLeft": 0.6,
    "mouthFrownLeft": 0.6,
    "mouthLeft": 0.6,
    "mouthPucker": 0.6,
    "noseSneerLeft": 0.7,
}
"""Actions that show without inventing content, and by how much they change. An action of the left stands for both
sides: photos take turns, and a turned face moves the side that is seen."""
SEEN_YAW = 0.3
BATCH = 16
SEED = 20


@dataclass(frozen=True)
class Spread:
    """Spread of components between people and between pictures: the unit of comparison.

    expression: [E] standard deviations.  camera: [7].  jaw, texture, light: root of the summed variances.
    """

    expression: np.ndarray
    camera: np.ndarray
    jaw: float
    texture: float
    light: float

    @staticmethod
    def of(parameters: FaceParameters) -> Spread:
        """Args: parameters: the truth of many rendered people."""
        deviations = {name: value.double().std(0).numpy() for name, value in parameters.items()}
        total = {name: float(np.sqrt((d**2).sum())) for name, d in deviations.items()}
        camera = np.maximum(deviations["camera"], 1e-6)
        return Spread(deviations["expression"], camera, total["jaw"], total["texture"], total["light"])


@dataclass(frozen=True)
class Response:
    """Movement of the predictions on N photos. moved: after minus before, what the change itself does to the camera
    already taken out.  wanted: [N, S] or [N, E] change of the shape or the expression."""

    moved: FaceParameters
    wanted: np.ndarray
    people: tuple[str, ...]


def shape_response(
    predict: Predict, head: HeadModel, images: Tensor, before: FaceParameters, people: Sequence[str], seed: int = SEED
) -> Response:
    """Every photo with a random change of identity of SHAPE_MM.

    Args:
        before: predictions on the images.
    """
    generator = torch.Generator().manual_seed(seed)
    change = torch.randn(len(images), head.sizes.shape, generator=generator)
    change = change * torch.from_numpy(SHAPE_MM / FaceSpace(head).rms(change.double().numpy())).float()[:, None]
    moved = _moved(predict, head, images, before, before.replace(shape=before.shape + change))
    return Response(moved, change.double().numpy(), tuple(people))


def action_response(
    predict: Predict, head: HeadModel, images: Tensor, before: FaceParameters, people: Sequence[str], action: str
) -> Response:
    """Every photo with one action of ACTIONS, or its mirror image, done."""
    column, twin = (head.expression_names.index(name) for name in (action, mirrored(action)))
    yaw = Camera.from_vector(before.camera).angles()[:, 0]
    turns = torch.arange(len(images)) % 2 == 1
    on_right = torch.where(yaw.abs() > SEEN_YAW, yaw > 0, turns)  # a face turned to the picture's right shows its right
    change = torch.zeros_like(before.expression)
    change[torch.arange(len(images)), torch.where(on_right, twin, column)] = ACTIONS[action]
    moved = _moved(predict, head, images, before, before.replace(expression=before.expression + change))
    return Response(moved, change.double().numpy(), tuple(people))


def mirrored(action: str) -> str:
    """The action of the other side, or the action itself."""
    return {"mouthLeft": "mouthRight"}.get(action, other_side(action))


def _moved(
    predict: Predict, head: HeadModel, images: Tensor, before: FaceParameters, after: FaceParameters
) -> FaceParameters:
    parts = []
    for i in range(0, len(images), BATCH):
        rows = slice(i, i + BATCH)
        warped = warp_faces(images[rows], head, before[rows], after[rows])
        found = predict(warped.images)
        own = warped.parameters.camera - before[rows].camera  # the similarity that the warp keeps off the picture
        parts.append(FaceParameters(**{
            name: value - dict(before[rows].items())[name] - (own if name == "camera" else 0)
            for name, value in found.items()
        }))  # fmt: skip
    return FaceParameters.cat(parts)


class ResponseTable:
    """Slope, explained share and leakage of responses.

    Args:
        spread: the unit of every component.
    """

    def __init__(self, head: HeadModel, spread: Spread):
        self.space, self.spread = FaceSpace(head), spread
        region = torch.from_numpy(np.asarray(head.data.regions.get("face", np.arange(head.vertex_count)), np.int64))
        modes = head.basis[head.sizes.shape :][:, region].double().flatten(1)
        self.expression_gram = (modes @ modes.T / len(region)).numpy()
        covariance = np.diag(spread.expression**2)
        self.expression_rms = float(np.sqrt(np.trace(covariance @ self.expression_gram)))

    def row(self, response: Response) -> dict[str, Measured]:
        """Figures of a response.

        "slope": of the predicted change on the known one.  "explained": squared correlation of the two.  "own" (of an
        action) and the names of the components: root mean square movement over the population's spread; the own action
        is left out of "expression".  "leak": the largest movement of another component over the own.
        """
        is_shape = response.wanted.shape[1] == self.space.gram.shape[0]
        gram = self.space.gram if is_shape else np.eye(response.wanted.shape[1])
        own = getattr(response.moved, "shape" if is_shape else "expression").double().numpy()
        along = np.einsum("ni,ni->n", own @ gram, response.wanted)
        known = np.einsum("ni,ni->n", response.wanted @ gram, response.wanted)
        predicted = np.einsum("ni,ni->n", own @ gram, own)
        squares = self._squares(response, is_shape)
        name = "shape" if is_shape else "own"

        def figures(rows: np.ndarray) -> dict[str, float]:
            moved = {c: float(np.sqrt(s[rows].mean())) for c, s in squares.items()}
            total = along[rows].sum()
            return {
                "slope": float(total / known[rows].sum()),
                "explained": float(total**2 / max(known[rows].sum() * predicted[rows].sum(), 1e-30)),
                **moved,
                "leak": max(v for c, v in moved.items() if c != name) / max(moved[name], 1e-12),
            }

        return measured_over_people(response.people, figures)

    def _squares(self, response: Response, is_shape: bool) -> dict[str, np.ndarray]:
        """Component → [N] squared movement in units of the population's variance; "own" is the action's."""
        if is_shape:
            return self.squares(response.moved)
        done, expression = response.wanted != 0, response.moved.expression.double().numpy()
        unit = np.maximum(np.tile(self.spread.expression, (len(done), 1))[done], 1e-6)
        others = response.moved.replace(expression=torch.from_numpy(np.where(done, 0, expression)))
        return {"own": (expression[done] / unit) ** 2} | self.squares(others)

    def squares(self, movement: FaceParameters) -> dict[str, np.ndarray]:
        """Component → [N] squared movement in units of the population's variance."""
        moved = {name: value.double().numpy() for name, value in movement.items()}
        spread, expression = self.spread, moved["expression"]
        squares: dict[str, np.ndarray] = {}
        squares["shape"] = (self.space.rms(moved["shape"]) / self.space.spread) ** 2
        displaced = np.einsum("ni,ni->n", expression @ self.expression_gram, expression)
        squares["expression"] = displaced / self.expression_rms**2
        camera = (moved["camera"] / spread.camera)[:, :6]  # the seventh moves nothing on a picture
        squares["camera"] = (camera**2).mean(1)
        for name in ("jaw", "texture", "light"):
            squares[name] = (moved[name] ** 2).sum(1) / max(getattr(spread, name), 1e-6) ** 2
        return {name: squares[name] for name in COMPONENTS}
