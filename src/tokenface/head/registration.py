"""Registration of one head model's mean head to another's, to transfer annotations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.geometry.similarity import procrustes
from tokenface.head.data import HeadData

REACH = (0.015, 0.010, 0.008, 0.006, 0.005, 0.004)
"""Metres: how far a closest point may lie in each round."""
SMOOTHING = (0.015, 0.012, 0.010, 0.008, 0.006, 0.005)
"""Metres: width over which the rounds' displacements are averaged."""
LANDMARK_WIDTH = 0.005
"""Metres round a landmark that follow it after each round: lids and lips must meet, not only lie close."""
NORMAL_WEIGHT = 0.006
"""Metres that opposite-facing surfaces count as 2× farther apart: keeps the inside of a lip off its outside."""
INTERIOR = ("mouth_interior", "teeth", "upper_teeth", "lower_teeth", "tongue", "gums_and_tongue", "mouth_socket")
SOCKETS = ("left_socket", "right_socket")


@dataclass(frozen=True)
class Layers:
    """The surfaces that must not be confused: [V] bool each."""

    left_eye: np.ndarray
    right_eye: np.ndarray
    teeth: np.ndarray
    mouth: np.ndarray  # interior without teeth
    skin: np.ndarray  # all else, eye sockets too

    @staticmethod
    def of(head: HeadData) -> Layers:
        left, right = (_region(head, f"{side}_eyeball") for side in ("left", "right"))
        if not left.any():
            left, right = (head.skinning_weights[:, joint] > 0.95 for joint in (3, 4))
        teeth = _region(head, "teeth", "upper_teeth", "lower_teeth")
        mouth = _region(head, *INTERIOR) & ~teeth
        return Layers(left, right, teeth, mouth, ~(left | right | teeth | mouth))

    def items(self) -> list[tuple[str, np.ndarray]]:
        return list(vars(self).items())


def _region(head: HeadData, *names: str) -> np.ndarray:
    inside = np.zeros(len(head.template), dtype=bool)
    for name in names:
        if name in head.regions:
            inside[head.regions[name]] = True
    return inside


def landmarks68(head: HeadData) -> np.ndarray:
    """[68, 3] points of the mean head seen from the front."""
    row = int(np.clip(-head.contour_first_yaw, 0, len(head.contour_faces) - 1))
    faces = np.concatenate([head.contour_faces[row], head.static_landmark_faces])
    weights = np.concatenate([head.contour_barycentrics[row], head.static_landmark_barycentrics])
    return np.einsum("kc,kcd->kd", weights.astype(np.float64), head.template[head.faces[faces]].astype(np.float64))


def register(target: HeadData, source: HeadData) -> np.ndarray:
    """Vertices of the target's mean head on the source's: [V, 3], in the source's head space.

    Landmarks start it (similarity, then a smooth warp); closest skin points refine it, round by round nearer and less
    smooth. Eyeballs are laid on each other as spheres.
    """
    from scipy.spatial import cKDTree  # only here: `Layers` serve every photo, which needs none of SciPy's half second

    moved = _landmark_warp(target, source)
    layers, source_layers = Layers.of(target), Layers.of(source)
    source_points = source.template.astype(np.float64)
    source_normals = mesh_normals(source_points, source.faces)
    anchor = np.flatnonzero(source_layers.skin)
    tree = cKDTree(np.c_[source_points[anchor], NORMAL_WEIGHT * source_normals[anchor]])
    skin = np.flatnonzero(layers.skin)
    inner = layers.skin | layers.mouth | layers.teeth
    for reach, width in zip(REACH, SMOOTHING, strict=True):
        normals = mesh_normals(moved, target.faces)
        distance, nearest = tree.query(np.c_[moved[skin], NORMAL_WEIGHT * normals[skin]])
        accepted = distance < reach
        to = anchor[nearest[accepted]]
        # along the source's normal: closest vertices lie up to half an edge beside the closest point
        step = ((source_points[to] - moved[skin[accepted]]) * source_normals[to]).sum(1)[:, None] * source_normals[to]
        moved[inner] += averaged(moved[skin[accepted]], step, moved[inner], width)
        marks = landmarks68(replace(target, template=moved))
        moved[inner] += averaged(marks, landmarks68(source) - marks, moved[inner], LANDMARK_WIDTH, softness=0.3)
    for mine, theirs in ((layers.left_eye, source_layers.left_eye), (layers.right_eye, source_layers.right_eye)):
        if mine.any() and theirs.any():
            moved[mine] = _Eye.of(source.template[theirs]).laid_on(_Eye.of(target.template[mine]))
    return moved


def _landmark_warp(target: HeadData, source: HeadData) -> np.ndarray:
    from scipy.interpolate import RBFInterpolator
    from scipy.spatial import cKDTree

    mine, theirs = landmarks68(target), landmarks68(source)
    pose = procrustes(mine, theirs)
    points = pose.apply(target.template.astype(np.float64))
    mine = pose.apply(mine)
    warp = RBFInterpolator(mine, theirs - mine, kernel="linear", smoothing=1e-3, degree=0)
    # away from the landmarks the warp fades: an extrapolation says nothing about the back of the head
    distance = cKDTree(mine).query(points)[0]
    return points + warp(points) * np.exp(-((distance / 0.06) ** 2))[:, None]


def averaged(
    points: np.ndarray, values: np.ndarray, at: np.ndarray, width: float, softness: float = 1e-3
) -> np.ndarray:
    """Gaussian average of scattered vectors; it fades to 0 where there are none within reach."""
    from scipy.spatial import cKDTree

    if not len(points):
        return np.zeros_like(at)
    distance, nearest = cKDTree(points).query(at, k=min(48, len(points)))
    distance, nearest = distance.reshape(len(at), -1), nearest.reshape(len(at), -1)
    weight = np.exp(-0.5 * (distance / width) ** 2)
    return (weight[..., None] * values[nearest]).sum(1) / (weight.sum(1, keepdims=True) + softness)


@dataclass(frozen=True)
class _Eye:
    """An eyeball as directions from its centre: cornea, iris and sclera need not lie on one sphere."""

    directions: np.ndarray  # [K, 3] unit
    centre: np.ndarray  # [3]
    axis: np.ndarray  # [3] unit, through the pupil
    radius: float

    @staticmethod
    def of(points: np.ndarray) -> _Eye:
        points = points.astype(np.float64)
        outer = np.ones(len(points), dtype=bool)
        for _ in range(3):  # an iris body lies inside the shell that the centre is wanted of
            design = np.c_[2 * points[outer], np.ones(outer.sum())]
            solution = np.linalg.lstsq(design, (points[outer] ** 2).sum(1), rcond=None)[0]
            centre = solution[:3]
            distance = np.linalg.norm(points - centre, axis=1)
            outer = distance > 0.97 * np.median(distance[outer])
        # rings about the optical axis: it is the direction of greatest spread
        axis = np.linalg.eigh(np.cov(points.T))[1][:, 2]
        axis = axis * np.sign(axis[2])
        return _Eye((points - centre) / distance[:, None], centre, axis, float(np.median(distance[outer])))

    def laid_on(self, other: _Eye) -> np.ndarray:
        """The other eye's points on this eye's sphere, pupil on pupil."""
        from scipy.spatial.transform import Rotation

        turn = Rotation.align_vectors(np.stack([self.axis, [0, 1, 0]]), np.stack([other.axis, [0, 1, 0]]), [1e6, 1])[0]
        return self.centre + self.radius * turn.apply(other.directions)
