"""A small head model for tests: an egg with random smooth bases, five joints, a texture seam and ARKit-like names."""

from __future__ import annotations

import numpy as np

from tokenface.head.data import HeadData

STACKS, SLICES = 20, 24


def toy_head_data(seed: int = 0, shape: int = 6, pose_correctives: bool = False, eyes: bool = True) -> HeadData:
    random = np.random.default_rng(seed)
    template, faces, uv, uv_faces = _egg()
    count = len(template)
    names = ("mouthSmileRight", "mouthSmileLeft", "browInnerUp", "eyeLookUpLeft", "cheekPuff")
    smooth = _smooth_fields(random, template, shape + len(names)) * 0.004
    expression = smooth[shape:]
    # Local actions, as real ones are: most vertices do not move at all.
    for action, centre in enumerate(random.choice(count, len(names))):
        near = np.linalg.norm(template - template[centre], axis=1) < 0.07
        expression[action] *= near[:, None]
    expression[-1] = 0
    weights = np.abs(_smooth_fields(random, template, 2)).transpose(1, 0, 2).reshape(count, 6)[:, :5] + 1e-3
    weights[:, np.arange(count) % 5] *= 1
    weights[np.arange(count), np.arange(count) % 5] = 0  # at most four joints a vertex
    weights /= weights.sum(axis=1, keepdims=True)
    joints = np.array([[0, -0.1, 0], [0, -0.06, -0.02], [0, 0, 0.0], [0.03, 0.05, 0.07], [-0.03, 0.05, 0.07]])
    front = np.flatnonzero(template[faces].mean(axis=1)[:, 2] > 0.06)
    picks = front[np.linspace(0, len(front) - 1, 51).astype(int)]
    contour = np.stack([front[random.choice(len(front), 17, replace=False)] for _ in range(3)])
    eye_drive = np.zeros((len(names), 2, 3))
    eye_drive[3, 0] = (-0.5, 0, 0)
    resolution = 32
    return HeadData(
        name="toy",
        licence="CC0-1.0",
        template=template.astype(np.float32),
        faces=faces.astype(np.int32),
        uv=uv.astype(np.float32),
        uv_faces=uv_faces.astype(np.int32),
        shape_basis=smooth[:shape].astype(np.float32),
        expression_basis=expression.astype(np.float32),
        expression_names=names,
        expression_range=(0.0, 1.0),
        joint_template=joints.astype(np.float32),
        joint_basis=(random.normal(size=(shape + len(names), 5, 3)) * 0.001).astype(np.float32),
        skinning_weights=weights.astype(np.float32),
        static_landmark_faces=picks.astype(np.int32),
        static_landmark_barycentrics=random.dirichlet(np.ones(3), 51).astype(np.float32),
        contour_faces=contour.astype(np.int32),
        contour_barycentrics=random.dirichlet(np.ones(3), (3, 17)).astype(np.float32),
        contour_first_yaw=-1,
        mirror=np.arange(count, dtype=np.int32),
        pose_basis=(random.normal(size=(36, count, 3)) * 1e-3).astype(np.float32) if pose_correctives else None,
        eye_drive=eye_drive.astype(np.float32) if eyes else None,
        mesh468_faces=front[np.linspace(0, len(front) - 1, 468).astype(int)].astype(np.int32),
        mesh468_barycentrics=random.dirichlet(np.ones(3), 468).astype(np.float32),
        albedo_mean=np.tile(np.array([0.8, 0.6, 0.5], np.float32), (resolution, resolution, 1)),
        albedo_basis=(random.normal(size=(4, resolution, resolution, 3)) * 0.02).astype(np.float32),
        regions={"face": np.flatnonzero(template[:, 2] > 0.04).astype(np.int32)},
    )


def _egg() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A closed egg of 0.2 m; its vertices are welded around, its texture coordinates have a seam at the back."""
    rows, columns = np.meshgrid(np.arange(STACKS + 1), np.arange(SLICES + 1), indexing="ij")
    u, v = columns / SLICES, rows / STACKS
    vertex = np.where((rows == 0) | (rows == STACKS), 0, columns % SLICES) + rows * SLICES
    used, welded = np.unique(vertex, return_inverse=True)
    longitude, latitude = (used % SLICES) / SLICES * 2 * np.pi, (used // SLICES) / STACKS * np.pi
    # u = 0.5 is the front (+z); v grows upwards.
    points = np.stack(
        [
            -np.sin(longitude) * np.sin(latitude) * 0.08,
            -np.cos(latitude) * 0.12,
            -np.cos(longitude) * np.sin(latitude) * 0.1,
        ],
        axis=1,
    )
    welded = welded.reshape(rows.shape)
    coordinate = np.arange(rows.size).reshape(rows.shape)
    faces, uv_faces = [], []
    for table, output in ((welded, faces), (coordinate, uv_faces)):
        a, b, c, d = table[:-1, :-1], table[:-1, 1:], table[1:, 1:], table[1:, :-1]
        output.append(np.stack([a, b, c], -1).reshape(-1, 3))
        output.append(np.stack([a, c, d], -1).reshape(-1, 3))
    face_table, uv_table = np.concatenate(faces), np.concatenate(uv_faces)
    solid = np.array([len(set(face)) == 3 for face in face_table.tolist()])
    return points, face_table[solid], np.stack([u, v], -1).reshape(-1, 2), uv_table[solid]


def _smooth_fields(random: np.random.Generator, points: np.ndarray, count: int) -> np.ndarray:
    """[count, V, 3] random low-frequency displacements of order 1."""
    frequency = random.normal(size=(count, 3, 3, 4)) * 15
    phase = random.uniform(0, 2 * np.pi, size=(count, 3, 4))
    waves = np.cos(np.einsum("vi,ncik->nvck", points, frequency.transpose(0, 1, 2, 3)) + phase[:, None])
    return waves.mean(axis=-1)
