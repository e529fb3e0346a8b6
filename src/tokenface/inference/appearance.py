"""Appearance of a face in files and pictures: albedo texture, rig, overlay on the photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from tokenface.formats.rig import Rig
from tokenface.geometry.axis_angle import rotation_matrix
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.arrays import AnyHead
from tokenface.head.data import JAW, JOINT_NAMES, LEFT_EYE, RIGHT_EYE, HeadData
from tokenface.inference.expressions import jaw_displacements
from tokenface.inference.part_rig import iris_of_albedo, parts_of, rig_parts
from tokenface.inference.round_head import round_head
from tokenface.parameters import FaceParameters

if TYPE_CHECKING:
    from tokenface.render.overlay import PhotoFace


def face_rig(
    head: AnyHead,
    parameters: FaceParameters,
    neutral: bool = False,
    *,
    parts: bool = True,
    iris: np.ndarray | None = None,
    rounded: bool = True,
) -> Rig:
    """The rig whose morph weights and joint rotations are the face's own.

    The rest mesh is the person's neutral head. The joints stand where this expression puts them (a head model may
    move them a little with the expression), and pose correctives, if the head model has any, are those of this pose.
    ARKit's jaw actions, which OpenHead leaves to the jaw joint, are added as morph targets of weight 0: the joint
    carries this face's jaw.

    Args:
        head: the head model.
        parameters: of one face, every tensor [N].
        neutral: expression and jaw at rest.
        parts: eyes, teeth and tongue as meshes of their own, where the head model has such parts.
        iris: [3] uint8 sRGB; None: of the predicted albedo.
        rounded: files have a round outline (`round_head`).
    """
    data = head.data
    shape = np.asarray(parameters.shape, np.float64)
    expression = np.asarray(parameters.expression, np.float64) * (0.0 if neutral else 1.0)
    jaw = np.asarray(parameters.jaw, np.float64) * (0.0 if neutral else 1.0)

    rest = data.template.astype(np.float64) + np.tensordot(shape, data.shape_basis[: len(shape)], axes=1)
    joint_shape = data.joint_basis[: data.shape_basis.shape[0]][: len(shape)]
    joint_expression = data.joint_basis[data.shape_basis.shape[0] :]
    joints = data.joint_template.astype(np.float64)
    joints = joints + np.tensordot(shape, joint_shape, axes=1) + np.tensordot(expression, joint_expression, axes=1)

    rotations = np.zeros((len(JOINT_NAMES), 3))
    rotations[JAW] = jaw
    if data.eye_drive is not None:
        rotations[[LEFT_EYE, RIGHT_EYE]] = np.tensordot(expression, data.eye_drive, axes=1)
    if data.pose_basis is not None:
        turned = np.stack([rotation_matrix(rotation) - np.eye(3) for rotation in rotations[1:]])
        rest = rest + np.tensordot(turned.reshape(-1), data.pose_basis, axes=1)

    extra = jaw_displacements(head, np.asarray(parameters.shape))
    own = parts_of(head)
    if own is not None:
        extra = {**extra, "tongueOut": own.tongue_out}
    rig = Rig(
        rest=rest.astype(np.float32),
        joints=joints.astype(np.float32),
        rotations=rotations,
        skinning_weights=data.skinning_weights,
        morph_names=(*data.expression_names, *extra),
        morphs=np.concatenate([data.expression_basis.astype(np.float32), *(m[None] for m in extra.values())]),
        morph_weights=np.concatenate([expression, np.zeros(len(extra))]).astype(np.float32),
        round=round_head(head) if rounded else None,
    )
    if own is None or not parts:
        return rig
    if iris is None:
        iris = iris_of_albedo(head, albedo_image(data, np.asarray(parameters.texture)))
    meshes = rig_parts(head, own, rig.rest, rig.joints, expression, iris)
    return replace(rig, parts=meshes, skin_faces=own.skin_faces)


PLAIN_SKIN = (200, 170, 152)
"""sRGB of a head model that has no albedo basis (FLAME without its texture file)."""


def albedo_image(data: HeadData, texture: np.ndarray) -> np.ndarray:
    """Coefficients [A] → [R, R, 3] uint8 sRGB, row 0 at v = 1; one plain colour where the head has no albedo."""
    if data.albedo_mean is None or data.albedo_basis is None:
        return np.full((8, 8, 3), PLAIN_SKIN, np.uint8)
    albedo = data.albedo_mean.astype(np.float32)
    scales = np.ones(len(texture)) if data.albedo_scale is None else data.albedo_scale
    for weight, scale, mode in zip(texture, scales, data.albedo_basis, strict=False):  # trailing modes may be left out
        albedo += np.float32(weight * scale) * mode
    return (albedo.clip(0, 1) * 255).round().astype(np.uint8)


class PlacedFace(Protocol):
    """Protocol of a face with vertices and camera."""

    @property
    def camera(self) -> FaceCamera: ...
    @property
    def vertices(self) -> np.ndarray: ...
    @property
    def faces(self) -> np.ndarray: ...
    @property
    def landmarks(self) -> np.ndarray: ...


def overlay_picture(photo: np.ndarray, faces: Sequence[PlacedFace]) -> Image.Image:
    """Photo, mesh over photo, shaded mesh, landmarks, as one picture. photo: [H, W, 3] uint8."""
    from tokenface.render.overlay import overlay_strip

    return Image.fromarray(overlay_strip(photo, [photo_face(face) for face in faces]))


def photo_face(face: PlacedFace) -> PhotoFace:
    """A face as the picture makers take it: vertices in photo pixels with depth in pixels."""
    from tokenface.render.overlay import PhotoFace

    depth = face.camera.depth(face.vertices) * face.camera.pixels_per_metre
    vertices = np.column_stack([face.camera.project(face.vertices), depth]).astype(np.float32)
    return PhotoFace(vertices, face.faces, landmarks=face.landmarks.astype(np.float32))
