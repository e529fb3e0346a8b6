"""Animation rig of a face: rest mesh, skeleton, named morph targets and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tokenface.geometry.axis_angle import rotation_matrix
from tokenface.geometry.subdivision import Subdivision
from tokenface.head.data import JOINT_NAMES, JOINT_PARENTS

INFLUENCES = 4
"""Joints per vertex in one glTF attribute set; the ones with the largest weights are kept."""


@dataclass(frozen=True)
class PartMaterial:
    """texture: [R, R, 3] uint8 sRGB, row 0 at v = 1; a fourth channel is opacity: pixels below half of it are
    holes, and both sides are seen.  roughness: 0 is a mirror; the highlight of a wet eye is small."""

    name: str
    texture: np.ndarray
    roughness: float


@dataclass(frozen=True)
class RigPart:
    """A mesh of its own on the same skeleton: N vertices, metres, head space.

    rest, faces, uv (v up), skinning_weights, morph_names, morphs [M, N, 3], morph_weights: as of `Rig`.
    fallbacks: the morphs for players that know no joints, weight 0: the joints carry that motion in the file.
    normals: [N, 3] unit vectors to shade it with at rest; None: those of its triangles.
    shade: [N] in [0, 1], what is left of the light in there; None: nothing shades it.
    """

    name: str
    rest: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    skinning_weights: np.ndarray
    morph_names: tuple[str, ...]
    morphs: np.ndarray
    morph_weights: np.ndarray
    fallbacks: frozenset[str]
    material: PartMaterial
    normals: np.ndarray | None = None
    shade: np.ndarray | None = None

    def resized(self, factor: float) -> RigPart:
        """The same part `factor` times as large."""
        return replace(self, rest=self.rest * np.float32(factor), morphs=self.morphs * np.float32(factor))


@dataclass(frozen=True)
class Rig:
    """V vertices, M morph targets, J joints; metres and radians, head space.

    rest: [V, 3] this person's neutral head.  joints: [J, 3] rest positions.  rotations: [J, 3] axis-angle of the pose.
    skinning_weights: [V, J], rows sum to 1.  morphs: [M, V, 3] displacement of the rest mesh per unit of weight.
    morph_weights: [M] the weights that make this face's expression.
    parts: eyes, teeth and tongue as meshes of their own; skin_faces: [S] the triangles of the head that stay beside
    them. Without parts the head is drawn as a whole.
    round: of all triangles of the head, for files with a round outline; None: they are drawn as they are.
    """

    rest: np.ndarray
    joints: np.ndarray
    rotations: np.ndarray
    skinning_weights: np.ndarray
    morph_names: tuple[str, ...]
    morphs: np.ndarray
    morph_weights: np.ndarray
    joint_names: tuple[str, ...] = JOINT_NAMES
    joint_parents: tuple[int, ...] = JOINT_PARENTS
    parts: tuple[RigPart, ...] = ()
    skin_faces: np.ndarray | None = None
    round: Subdivision | None = None

    def resized(self, factor: float) -> Rig:
        """The same person `factor` times as large."""
        if factor == 1:
            return self
        return replace(
            self,
            rest=self.rest * factor,
            joints=self.joints * factor,
            morphs=self.morphs * np.float32(factor),
            parts=tuple(part.resized(factor) for part in self.parts),
        )

    def with_parts(self, parts: Sequence[RigPart]) -> Rig:
        """The same rig and more parts, which show this rig's expression."""
        weights = dict(zip(self.morph_names, self.morph_weights, strict=True))
        shown = (
            replace(part, morph_weights=np.array([weights.get(name, 0) for name in part.morph_names], np.float32))
            for part in parts
        )
        return replace(self, parts=(*self.parts, *shown))

    def posed(self) -> np.ndarray:
        """[V, 3] float64: morph first, then linear blend skinning, as glTF orders them."""
        shown = self.shown_rest()
        world = self.world_matrices()
        moved = np.einsum("jmn,vn->vjm", world[:, :3, :3], shown) + world[None, :, :3, 3]
        return np.einsum("vj,vjm->vm", self.skinning_weights.astype(np.float64), moved)

    def shown_rest(self) -> np.ndarray:
        """[V, 3] float64: the rest mesh with this face's expression, before the joints turn."""
        return self.rest.astype(np.float64) + np.tensordot(self.morph_weights.astype(np.float64), self.morphs, axes=1)

    def world_matrices(self) -> np.ndarray:
        """[J, 4, 4] float64: motion of every joint relative to the rest pose, parents included."""
        world: list[np.ndarray] = []
        for joint, parent in enumerate(self.joint_parents):
            position = self.joints[joint].astype(np.float64)
            motion = np.eye(4)
            motion[:3, :3] = rotation_matrix(self.rotations[joint])
            motion[:3, 3] = position - motion[:3, :3] @ position
            world.append(motion if parent < 0 else world[parent] @ motion)
        return np.stack(world)


def largest_influences(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[V, J] → the INFLUENCES largest per vertex: joints [V, 4] uint8 and weights [V, 4] float32 that sum to 1."""
    padded = np.pad(weights.astype(np.float64), ((0, 0), (0, max(0, INFLUENCES - weights.shape[1]))))
    order = np.argsort(-padded, axis=1, kind="stable")[:, :INFLUENCES]
    kept = np.take_along_axis(padded, order, axis=1)
    kept = np.where(kept < 1e-6, 0.0, kept)
    kept = kept / kept.sum(axis=1, keepdims=True)
    # glTF asks that a joint with weight 0 be joint 0.
    return np.where(kept > 0, order, 0).astype(np.uint8), kept.astype(np.float32)


def quaternion(rotation: Sequence[float] | np.ndarray) -> list[float]:
    """Axis-angle [3] to a unit quaternion `[x, y, z, w]`, glTF's order."""
    vector = np.asarray(rotation, dtype=np.float64)
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return [0.0, 0.0, 0.0, 1.0]
    return [float(c) for c in (*(vector / angle * np.sin(angle / 2)), np.cos(angle / 2))]
