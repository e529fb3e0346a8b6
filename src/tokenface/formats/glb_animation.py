"""Animated GLB: a rigged face whose morph weights and joints have keyframes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pygltflib as gltf
from scipy.spatial.transform import Rotation

from tokenface.core.files import write_atomically
from tokenface.errors import OutputError
from tokenface.formats.glb import GlbBuffer, finished_bytes, rigged_document
from tokenface.formats.mesh import TexturedMesh
from tokenface.formats.rig import Rig

MESH_NODE, FIRST_JOINT_NODE = 0, 1


@dataclass(frozen=True)
class Animation:
    """K keyframes. times: [K] seconds, growing.  weights: [K, M] of the rig's morph targets.
    rotations: joint name → [K, 3, 3] matrices, relative to the joint's rest pose."""

    times: np.ndarray
    weights: np.ndarray
    rotations: dict[str, np.ndarray]
    name: str = "performance"


def write_animated_glb(path: str | Path, mesh: TexturedMesh, rig: Rig, animation: Animation) -> Path:
    """Write one person with a performance. Players interpolate between keyframes, so gaps are bridged.

    Raises:
        OutputError: the file cannot be written, or there is no keyframe.
    """
    return write_atomically(path, animated_glb_bytes(mesh, rig, animation))


def animated_glb_bytes(mesh: TexturedMesh, rig: Rig, animation: Animation) -> bytes:
    """The file of `write_animated_glb` as bytes."""
    times = check_times(animation)
    document, buffer = rigged_document(mesh, rig)
    # glTF wants keyframes from second 0 on; the clip's own times stay in the facts
    clock = buffer.accessor(
        times, gltf.SCALAR, gltf.FLOAT, None, min=[float(times.min())], max=[float(times.max())]
    )  # fmt: skip
    result = gltf.Animation(name=animation.name)
    if rig.morph_names:
        weights = np.ascontiguousarray(animation.weights, np.float32).reshape(-1)
        _channel(result, buffer, clock, weights, gltf.SCALAR, MESH_NODE, "weights")
    for number, part in enumerate(rig.parts):
        driven = [name for name in part.morph_names if name not in part.fallbacks]
        if driven:  # what the joints carry has no keyframes here either
            rows = np.zeros((len(times), len(part.morph_names)), np.float32)
            for name in driven:
                rows[:, part.morph_names.index(name)] = animation.weights[:, rig.morph_names.index(name)]
            node = FIRST_JOINT_NODE + len(rig.joint_names) + number
            _channel(result, buffer, clock, rows.reshape(-1), gltf.SCALAR, node, "weights")
    for joint, matrices in animation.rotations.items():
        node = FIRST_JOINT_NODE + rig.joint_names.index(joint)
        _channel(result, buffer, clock, quaternions(matrices), gltf.VEC4, node, "rotation")
    document.animations = [result]
    return finished_bytes(document, buffer)


def check_times(animation: Animation) -> np.ndarray:
    """[K] float32 seconds of the keyframes.

    Raises:
        OutputError: there is none, or they do not grow.
    """
    times = np.asarray(animation.times, np.float32)
    if not len(times) or (np.diff(times) <= 0).any():
        raise OutputError("an animation needs at least one keyframe, and times that grow")
    return times


def quaternions(matrices: np.ndarray) -> np.ndarray:
    """[K, 3, 3] → [K, 4] float32 unit quaternions x, y, z, w, each on its predecessor's side (q and −q are one
    rotation, but players interpolate between them)."""
    found = Rotation.from_matrix(matrices).as_quat()
    turns = np.where((found[1:] * found[:-1]).sum(axis=1) < 0, -1.0, 1.0)
    found[1:] *= np.cumprod(turns)[:, None]
    return found.astype(np.float32)


def _channel(
    animation: gltf.Animation, buffer: GlbBuffer, clock: int, values: np.ndarray, kind: str, node: int, path: str
) -> None:
    output = buffer.accessor(values, kind, gltf.FLOAT, None)
    animation.samplers.append(gltf.AnimationSampler(input=clock, output=output, interpolation="LINEAR"))
    animation.channels.append(
        gltf.AnimationChannel(
            sampler=len(animation.samplers) - 1, target=gltf.AnimationChannelTarget(node=node, path=path)
        )
    )
