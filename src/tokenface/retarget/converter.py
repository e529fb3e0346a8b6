"""Conversion between head models, with the residual in millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from tokenface.errors import HeadModelError
from tokenface.geometry.closest import closest_on_mesh, on_triangles
from tokenface.geometry.similarity import Similarity
from tokenface.head.arkit import from_arkit, to_arkit
from tokenface.head.model import HeadModel
from tokenface.inference.expressions import speaks_arkit
from tokenface.retarget.correspondence import correspondence
from tokenface.retarget.solver import ParameterSolver

REGIONS = ("face", "forehead", "eye_region", "nose", "cheeks", "lips", "chin", "ears", "scalp", "neck")
Mode = Literal["auto", "names", "shape"]
AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Performance:
    """N moments of one person. shape: [S].  expression: [N, E].  jaw: [N, 3] axis-angle.
    eyes: [N, 2, 3] axis-angle of the left and right eye; None where the head model's expressions turn them."""

    shape: np.ndarray
    expression: np.ndarray
    jaw: np.ndarray
    eyes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.expression)


@dataclass(frozen=True, eq=False)
class Converted:
    """performance: in the target's words.  place: of the target's head in the source's head space (its scale is the
    global scale).  neutral_mm, posed_mm: region → mean distance to the source's surface, millimetres (posed: the
    moment of the strongest expression)."""

    performance: Performance
    place: Similarity
    neutral_mm: dict[str, float]
    posed_mm: dict[str, float]


class HeadConverter:
    """Prepared once per pair of head models.

    Args:
        expression: "names" exchanges ARKit's weights as they are, "shape" solves for the weights whose shape is
            nearest; "auto" takes the names where both head models have ARKit's.
    Raises:
        HeadModelError: the heads cannot be laid onto each other, or "names" without ARKit's names.
    """

    def __init__(self, source: HeadModel, target: HeadModel, expression: Mode = "auto"):
        self.source, self.target = source, target
        both = speaks_arkit(source) and speaks_arkit(target)
        if expression == "names" and not both:
            strange = source if not speaks_arkit(source) else target
            raise HeadModelError(f"the expressions of '{strange.name}' have no ARKit names; use --expression shape")
        self.by_names = expression == "names" or (expression == "auto" and both)
        self.map = correspondence(target.data, source.data)
        self.solver = ParameterSolver(target, self.map.trust)
        self._same = source.data.geometry_hash() == target.data.geometry_hash()

    def convert(self, performance: Performance) -> Converted:
        """One person's identity and all its moments."""
        if self._same:
            zero = dict.fromkeys(self._regions(), 0.0)
            return Converted(performance, Similarity.identity(), zero, dict(zero))
        shape = torch.from_numpy(np.asarray(performance.shape, np.float32))[None]
        with torch.no_grad():
            neutral = self.source(shape).vertices[0].double().numpy()
        wanted = self.map.carry(neutral)
        person = self.solver.person(wanted)
        expression, jaw = self._moments(performance, neutral, person.shape, person.place)
        eyes = self._eyes(performance)
        result = Performance(person.shape, expression, jaw, None if self.target.data.eye_drive is not None else eyes)
        at_rest = self.residual(neutral, self._vertices(result, None), person.place)
        if not len(performance):
            return Converted(result, person.place, at_rest, {})
        strongest = int(np.abs(performance.expression).sum(1).argmax())
        shown = posed(self.source, performance, slice(strongest, strongest + 1))[0]
        return Converted(
            result, person.place, at_rest, self.residual(shown, self._vertices(result, strongest), person.place)
        )

    def convert_mesh(self, vertices: np.ndarray, neutral: bool = False) -> Converted:
        """A single mesh [V, 3] in the source's topology, in any unit and place."""
        found = self.solver.person(self.map.carry(np.asarray(vertices, np.float64)), neutral=neutral)
        result = Performance(found.shape, found.expression[None], found.jaw[None])
        distance = self.residual(vertices, self._vertices(result, 0), found.place)
        return Converted(result, found.place, distance if neutral else {}, distance)

    def residual(self, original: np.ndarray, converted: np.ndarray, place: Similarity) -> dict[str, float]:
        """Region → mean distance, millimetres of the target's size, of the converted head's vertices to the original's
        surface, where the two heads correspond."""
        faces, own = self.source.data.faces.astype(np.int64), place.undo(np.asarray(original, np.float64))
        vertices = self.solver.vertices
        triangle, weights = closest_on_mesh(converted[vertices], own, faces)
        distance = np.zeros(len(converted))
        distance[vertices] = np.linalg.norm(on_triangles(own, faces, triangle, weights) - converted[vertices], axis=1)
        return {name: 1000 * float(distance[rows].mean()) for name, rows in self._regions().items()}

    def _regions(self) -> dict[str, np.ndarray]:
        used = np.zeros(len(self.target.data.template), bool)
        used[self.solver.vertices] = True
        regions = {name: self.target.data.regions.get(name, np.empty(0, int)) for name in REGIONS}
        return {name: rows[used[rows]] for name, rows in regions.items() if used[rows].any()}

    def _vertices(self, performance: Performance, moment: int | None) -> np.ndarray:
        if moment is None:
            with torch.no_grad():
                return self.target(torch.from_numpy(performance.shape).float()[None]).vertices[0].double().numpy()
        return posed(self.target, performance, slice(moment, moment + 1))[0]

    def _moments(
        self, performance: Performance, neutral: np.ndarray, shape: np.ndarray, place: Similarity
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.by_names:
            e, j = (torch.from_numpy(np.asarray(a, np.float32)) for a in (performance.expression, performance.jaw))
            expression, jaw = from_arkit(self.target, to_arkit(self.source, e, j))
            return self.target.clamp_expression(expression).double().numpy(), jaw.double().numpy()
        rest = self._vertices(Performance(shape, np.zeros((0, 0)), np.zeros((0, 3))), None)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for first in range(0, len(performance), AT_ONCE):
            rows = slice(first, first + AT_ONCE)
            # what the expression moves, not where it ends: the identity's remaining error is no expression
            moved = self.map.carry(posed(self.source, performance, rows) - neutral) @ place.rotation / place.scale
            start = performance.jaw[rows] if "jawOpen" not in self.source.expression_names else None
            found.append(self.solver.performance(shape, rest + moved, start))
        if not found:
            return np.zeros((0, self.target.sizes.expression)), np.zeros((0, 3))
        return np.concatenate([e for e, _ in found]), np.concatenate([j for _, j in found])

    def _eyes(self, performance: Performance) -> np.ndarray | None:
        drive = self.source.data.eye_drive
        if drive is None:
            return performance.eyes
        return np.einsum("ne,eij->nij", performance.expression, drive)


def posed(head: HeadModel, performance: Performance, rows: slice = slice(None)) -> np.ndarray:
    """[N, V, 3] float64 vertices of some moments."""
    e, j = (torch.from_numpy(np.asarray(a[rows], np.float32)) for a in (performance.expression, performance.jaw))
    s = torch.from_numpy(np.asarray(performance.shape, np.float32))[None].expand(len(e), -1)
    eyes = None if performance.eyes is None else torch.from_numpy(np.asarray(performance.eyes[rows], np.float32))
    with torch.no_grad():
        return head(s, e, j, eyes=eyes).vertices.double().numpy()
