"""Levenberg–Marquardt: damped Gauss–Newton steps on any least-squares system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

FIRST_DAMPING = 1e-3
LARGEST_DAMPING = 1e8

State = TypeVar("State")
Step = TypeVar("Step", covariant=True)


class System(Protocol[Step]):
    """A least-squares problem made linear at one state. cost: the sum of squares there."""

    @property
    def cost(self) -> float: ...

    def step(self, damping: float) -> Step:
        """The step that minimises the linear problem, its diagonal enlarged by the factor 1 + damping."""
        ...


@dataclass(frozen=True)
class Minimum(Generic[State]):
    """state: the best one.  cost: there.  rounds: steps that were tried."""

    state: State
    cost: float
    rounds: int


def minimise(
    state: State,
    linearise: Callable[[State], System[Step]],
    moved: Callable[[State, Step], State],
    rounds: int = 25,
    tolerance: float = 1e-6,
) -> Minimum[State]:
    """Steps that lower the cost, until one lowers it by less than `tolerance` of it or `rounds` are done.

    Args:
        linearise: residuals and derivatives at a state.  moved: a state moved by a step.
    """
    system, damping, done = linearise(state), FIRST_DAMPING, 0
    for done in range(1, rounds + 1):  # noqa: B007
        trial = moved(state, system.step(damping))
        there = linearise(trial)
        if there.cost < system.cost:
            settled = system.cost - there.cost < tolerance * system.cost
            state, system, damping = trial, there, max(damping / 5, 1e-9)
            if settled:
                break
        else:
            damping *= 10
            if damping > LARGEST_DAMPING:
                break
    return Minimum(state, system.cost, done)


@dataclass(frozen=True)
class DenseSystem:
    """normal: JᵀJ [U, U].  gradient: Jᵀr [U], for residuals that a step δ lowers by Jδ."""

    cost: float
    normal: np.ndarray
    gradient: np.ndarray

    @staticmethod
    def of(residual: np.ndarray, jacobian: np.ndarray) -> DenseSystem:
        """Residuals [R] and by how much each falls per unit of every unknown [R, U]."""
        return DenseSystem(float(residual @ residual), jacobian.T @ jacobian, jacobian.T @ residual)

    def step(self, damping: float) -> np.ndarray:
        return np.linalg.solve(self.normal + damping * np.diag(np.diag(self.normal)), self.gradient)


@dataclass(frozen=True)
class SharedSystem:
    """Several dense systems whose first `shared` unknowns are the same, each with unknowns of its own after them.

    The own unknowns are eliminated block by block (Schur complement), so that the work grows with the number of
    blocks, not with its cube.  common: what is known of the shared unknowns by itself [shared, shared], [shared].
    """

    blocks: tuple[DenseSystem, ...]
    common: DenseSystem
    shared: int

    @property
    def cost(self) -> float:
        return self.common.cost + sum(block.cost for block in self.blocks)

    def step(self, damping: float) -> tuple[np.ndarray, list[np.ndarray]]:
        """The shared step [shared], and each block's own."""
        s = self.shared
        grow = 1 + damping
        normal, gradient = self.common.normal.copy(), self.common.gradient.copy()
        diagonal = np.diag(self.common.normal).copy()
        solved = []
        for block in self.blocks:
            inner = block.normal[s:, s:] + damping * np.diag(np.diag(block.normal[s:, s:]))
            both = np.linalg.solve(inner, np.column_stack([block.normal[s:, :s], block.gradient[s:]]))
            solved.append(both)
            normal += block.normal[:s, :s] - block.normal[:s, s:] @ both[:, :-1]
            gradient += block.gradient[:s] - block.normal[:s, s:] @ both[:, -1]
            diagonal += np.diag(block.normal[:s, :s])
        shared = np.linalg.solve(normal + (grow - 1) * np.diag(diagonal), gradient) if s else np.zeros(0)
        return shared, [both[:, -1] - both[:, :-1] @ shared for both in solved]
