"""ICT-FaceKit Light (USC Institute for Creative Technologies, MIT) as a `HeadData`.

The file has no joints. What is added here is derived from its own geometry: the eyes turn about the centres of their
scleras; the jaw turns about the axis of the rotation that `jawOpen` gives the lower teeth, with weights and a
corrective such that a jaw rotation by that angle *is* `jawOpen`; the neck bends where OpenHead's does, relative to the
eyes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from tokenface.errors import HeadModelError
from tokenface.head.contour import sliding_contour, vertices_as_triangles
from tokenface.head.data import HeadData
from tokenface.head.ict_files import IctSource, read_ict
from tokenface.head.obj_file import triangulate
from tokenface.head.symmetry import mirror_map

LICENCE = "MIT (ICT-FaceKit Light, Copyright 2020 USC Institute for Creative Technologies)"
CENTIMETRE = 0.01
KEPT = 24591
"""Vertices from here on are transparent shells (tear film, blend, occlusion, lashes) that would hide the eyes."""
PARTS = {  # first and last vertex, as published
    "face_area": (0, 9408),
    "narrow_face_area": (0, 6705),
    "head_and_neck": (9409, 11247),
    "mouth_socket": (11248, 13293),
    "left_socket": (13294, 13677),
    "right_socket": (13678, 14061),
    "gums_and_tongue": (14062, 17038),
    "teeth": (17039, 21450),
    "upper_teeth": (17039, 19246),
    "lower_teeth": (19247, 21450),
    "left_eyeball": (21451, 23020),
    "right_eyeball": (23021, 24590),
    "mouth_interior": (11248, 21450),
    "eyeballs": (21451, 24590),
}
LEFT_SCLERA, RIGHT_SCLERA = slice(21451, 22221), slice(23021, 23791)
SKIN_POLYGONS = (0, 11143)
EYE_POLYGONS = {  # cornea and sclera are one shell; the iris body behind it shares their texture tile
    "left_eye": (21496, 22295),
    "left_iris": (22296, 23093),
    "right_eye": (23094, 23893),
    "right_iris": (23894, 24691),
}
KEPT_POLYGONS = 24692
GAZE = {"In": 0.52, "Out": 0.52, "Up": 0.44, "Down": 0.44}
"""Radians that the eye turns at full action: its shapes move the lids alone. OpenHead's angles."""
EYES = np.array([0.0, 0.0255, 0.0399])
"""Where the middle between the eyes lies in OpenHead, metres; the origin is moved so that it lies there too."""
NECK, ROOT = np.array([0.0, -0.069, -0.092]), np.array([0.0, -0.140, -0.112])
"""OpenHead's neck and root joint relative to the middle between the eyes, metres."""
NECK_STIFF, NECK_FREE = -0.127, -0.208
"""Height relative to the eyes from which the skin follows the neck fully, and below which not at all, metres."""
ATLAS = {  # where each material's unit tile goes in the one texture: left, bottom, size
    "face": (0.0, 0.0, 0.62),
    "head": (0.62, 0.0, 0.38),
    "left_eye": (0.62, 0.38, 0.19),
    "right_eye": (0.81, 0.38, 0.19),
    "left_iris": (0.76, 0.62, 0.12),
    "right_iris": (0.88, 0.62, 0.12),
    "gums": (0.0, 0.62, 0.38),
    "teeth": (0.38, 0.62, 0.38),
}
ATLAS_MARGIN = 0.004


def load_ict(paths: Sequence[Path]) -> HeadData:
    """Convert ICT-FaceKit from a clone or its one-file form; `transfer.dress` adds an albedo from OpenHead.

    Raises:
        HeadModelError: files missing, damaged or of an early revision.
    """
    return build_ict(read_ict(paths))


def build_ict(source: IctSource) -> HeadData:
    """The arrays of the files as a head model: metres, FLAME's axes, triangles, ARKit names, joints."""
    points = source.vertices[:KEPT] * CENTIMETRE
    polygons = source.polygons[:KEPT_POLYGONS]
    if polygons.max() >= KEPT:
        raise HeadModelError("ICT-FaceKit's polygons are in another order than published; update the clone")
    centres = np.stack([_sphere_centre(points[s]) for s in (LEFT_SCLERA, RIGHT_SCLERA)])
    shift = EYES - centres.mean(0) * [0, 1, 1]
    points, centres = points + shift, centres + shift
    names, expression = arkit_expressions(source.expression_names, source.expression[:, :KEPT] * CENTIMETRE)
    identity = source.identity[:, :KEPT] * np.float32(CENTIMETRE)
    faces = triangulate(polygons)
    jaw = _Jaw.fit(points, expression[names.index("jawOpen")])
    joints = np.stack([EYES + ROOT, EYES + NECK, jaw.joint, *centres])
    weights = _skinning(points, jaw.weights)
    skin = _triangles_of(polygons, *SKIN_POLYGONS)
    marks = source.landmarks68
    static_faces, static_weights = vertices_as_triangles(faces, marks[17:])
    contour_faces, contour_weights, first_yaw = sliding_contour(points, faces, skin, marks)
    uv, uv_faces = atlas(source.uv, source.uv_polygons[:KEPT_POLYGONS])
    return HeadData(
        name="ict",
        licence=LICENCE,
        template=points.astype(np.float32),
        faces=faces,
        uv=uv,
        uv_faces=uv_faces,
        shape_basis=identity.astype(np.float16),
        expression_basis=expression.astype(np.float16),
        expression_names=names,
        expression_range=(0.0, 1.0),
        joint_template=joints.astype(np.float32),
        joint_basis=_joint_basis(points, identity, joints, len(names)),
        skinning_weights=weights.astype(np.float32),
        static_landmark_faces=static_faces,
        static_landmark_barycentrics=static_weights,
        contour_faces=contour_faces,
        contour_barycentrics=contour_weights,
        contour_first_yaw=first_yaw,
        mirror=mirror_map(points),
        pose_basis=jaw.corrective(points, expression[names.index("jawOpen")], weights),
        eye_drive=_eye_drive(names),
        regions={name: np.arange(first, last + 1, dtype=np.int32) for name, (first, last) in PARTS.items()},
        facts={
            "source": source.origin,
            "jaw": f"jawOpen is a jaw rotation by {np.degrees(jaw.angle):.1f} degrees",
            "left out": "tear film, eye blend, eye occlusion and lash shells (vertices 24591 and on)",
        },
    )


def arkit_expressions(names: Sequence[str], offsets: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """'eyeBlink_L' → 'eyeBlinkLeft'; the two halves of `browInnerUp` and `cheekPuff` become ARKit's single actions.

    Args:
        offsets: [E, V, 3].
    Returns:
        names and [E', V, 3] offsets; 53 → 51, ARKit's 52 without the tongue.
    """
    merged: dict[str, np.ndarray] = {}
    for name, offset in zip(names, offsets, strict=True):
        base, side = re.fullmatch(r"(\w+?)(?:_([LR]))?", name).groups()  # type: ignore[union-attr]
        if base in ("browInnerUp", "cheekPuff"):
            merged[base] = merged.get(base, 0) + offset
        else:
            merged[base + {"L": "Left", "R": "Right", None: ""}[side]] = offset
    missing = {"jawOpen", "eyeLookInLeft", "eyeLookUpRight"} - merged.keys()
    if missing:
        raise HeadModelError(f"ICT-FaceKit lacks the expression {sorted(missing)[0]}; update the clone")
    return tuple(merged), np.stack(list(merged.values()))


def atlas(uv: np.ndarray, uv_polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pack the unit tiles of the materials (u from 0 to 4, both eyes on one tile) into one square.

    Returns:
        [T', 2] in [0, 1] and [F, 3].
    """
    tile = np.floor(uv[uv_polygons].mean(1)[:, 0]).astype(int)
    number = np.arange(len(uv_polygons))
    slots = np.select([tile == 0, tile == 1, tile == 2, tile == 3], ["face", "head", "gums", "teeth"], "")
    for eye, (first, last) in EYE_POLYGONS.items():
        slots = np.where((number >= first) & (number <= last), eye, slots)
    if (slots == "").any():
        raise HeadModelError("ICT-FaceKit's texture tiles are in another order than published; update the clone")
    names = list(ATLAS)
    slot = np.array([names.index(s) for s in slots])
    # a texture coordinate that two materials share becomes two
    keys, inverse = np.unique(slot[:, None] * len(uv) + uv_polygons, return_inverse=True)
    left_bottom_size = np.array([ATLAS[name] for name in names])[keys // len(uv)]
    origin = np.array([{"face": 0, "head": 1, "gums": 2, "teeth": 3}.get(name, 0) for name in names])[keys // len(uv)]
    local = (uv[keys % len(uv)] - np.stack([origin, np.zeros_like(origin)], 1)).clip(0, 1)
    packed = left_bottom_size[:, :2] + ATLAS_MARGIN + local * (left_bottom_size[:, 2:] - 2 * ATLAS_MARGIN)
    return packed.astype(np.float32), triangulate(inverse.reshape(uv_polygons.shape).astype(np.int32))


def _triangles_of(polygons: np.ndarray, first: int, last: int) -> np.ndarray:
    """[F] bool: the triangles that come from polygons first … last."""
    pieces = 1 + (polygons[:, 2] != polygons[:, 3])
    number = np.repeat(np.arange(len(polygons)), pieces)
    return (number >= first) & (number <= last)


def _sphere_centre(points: np.ndarray) -> np.ndarray:
    """[3], least squares: |p|² = 2 p·c + (r² − |c|²)."""
    solution = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], (points**2).sum(1), rcond=None)[0]
    return solution[:3]


class _Jaw:
    """The rotation about the x axis that jawOpen gives the lower teeth, and what of it each vertex takes part in."""

    def __init__(self, joint: np.ndarray, angle: float, weights: np.ndarray):
        self.joint = joint  # [3]
        self.angle = angle  # radians at full action
        self.weights = weights  # [V] in [0, 1]

    @staticmethod
    def fit(points: np.ndarray, opening: np.ndarray) -> _Jaw:
        first, last = PARTS["lower_teeth"]
        teeth = points[first : last + 1]
        moved = teeth + opening[first : last + 1]
        rotation, _ = Rotation.align_vectors(moved - moved.mean(0), teeth - teeth.mean(0))
        angle = float(rotation.as_rotvec()[0])
        turn = Rotation.from_rotvec([angle, 0, 0]).as_matrix()
        still = np.eye(3)[1:, 1:] - turn[1:, 1:]
        joint = np.zeros(3)
        joint[1:] = np.linalg.solve(still, (moved.mean(0) - turn @ teeth.mean(0))[1:])
        rigid = (points - joint) @ turn.T + joint - points
        reach = (rigid**2).sum(1)
        share = (opening * rigid).sum(1) / np.maximum(reach, 1e-12)
        near_axis = np.sqrt(reach) < 0.003  # next to the axis everything stands still: the share says nothing
        return _Jaw(joint, angle, np.where(near_axis, 0, share.clip(0, 1)))

    def corrective(self, points: np.ndarray, opening: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """[36, V, 3] float16: the offset before skinning that makes a jaw turn by `angle` equal `jawOpen`.

        It hangs on the sine of the turn about x, entry (2, 1) of the jaw's R − I, which is 9 + 7 of 36.
        """
        turn = Rotation.from_rotvec([self.angle, 0, 0]).as_matrix()
        jaw = weights[:, 2]
        blend = np.eye(3) + jaw[:, None, None] * (turn - np.eye(3))
        offset = jaw[:, None] * (self.joint - turn @ self.joint)
        rest = np.linalg.solve(blend, (points + opening - offset)[..., None])[..., 0]
        basis = np.zeros((36, *points.shape), dtype=np.float16)
        basis[9 + 7] = (rest - points) / np.sin(self.angle)
        return basis


def _skinning(points: np.ndarray, jaw: np.ndarray) -> np.ndarray:
    """[V, 5]: the eyeballs belong to their joints; all else to root, neck and jaw."""
    height = ((points[:, 1] - EYES[1] - NECK_FREE) / (NECK_STIFF - NECK_FREE)).clip(0, 1)
    neck = height**2 * (3 - 2 * height)
    jaw = jaw * neck
    weights = np.stack([1 - neck, neck - jaw, jaw, np.zeros_like(jaw), np.zeros_like(jaw)], axis=1)
    for joint, name in ((3, "left_eyeball"), (4, "right_eyeball")):
        first, last = PARTS[name]
        weights[first : last + 1] = np.eye(5)[joint]
    return weights


def _joint_basis(points: np.ndarray, identity: np.ndarray, joints: np.ndarray, expressions: int) -> np.ndarray:
    """[S + E, 5, 3]: eyes follow the motion of their spheres' centres, the others the skin beside them."""
    basis = np.zeros((len(identity) + expressions, 5, 3), dtype=np.float32)
    skin = np.arange(len(points)) < PARTS["mouth_socket"][0]
    for joint in range(3):
        away = np.abs(points - joints[joint])
        beside = skin & (away[:, 1] < 0.012) & ((away[:, 2] < 0.02) | (joint < 2))
        basis[: len(identity), joint] = identity[:, beside].mean(1)
        basis[: len(identity), joint, 0] = 0
    for joint, sclera in ((3, LEFT_SCLERA), (4, RIGHT_SCLERA)):
        # offsets of a shifted, scaled sphere are affine in position; their value at the centre is the centre's motion
        design = np.c_[points[sclera] - joints[joint], np.ones(sclera.stop - sclera.start)]
        value_at_centre = np.linalg.pinv(design)[3]
        basis[: len(identity), joint] = np.einsum("v,svc->sc", value_at_centre, identity[:, sclera])
    return basis


def _eye_drive(names: tuple[str, ...]) -> np.ndarray:
    """[E, 2, 3] axis-angle per unit: yaw > 0 turns to the subject's left, a turn about +x looks down."""
    drive = np.zeros((len(names), 2, 3), dtype=np.float32)
    for eye, side in enumerate(("Left", "Right")):
        outward = 1 if side == "Left" else -1
        for direction, axis, sign in (("In", 1, -outward), ("Out", 1, outward), ("Up", 0, -1), ("Down", 0, 1)):
            drive[names.index(f"eyeLook{direction}{side}"), eye, axis] = sign * GAZE[direction]
    return drive
