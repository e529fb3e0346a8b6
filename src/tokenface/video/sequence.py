"""Time series of one person from stored predictions, in chunks."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from tokenface.head.arkit import to_arkit
from tokenface.head.model import JAW, LEFT_EYE, RIGHT_EYE, HeadModel
from tokenface.head.subset import VertexSubset
from tokenface.inference.confidence import confidences
from tokenface.inference.expressions import eye_rotations, speaks_arkit
from tokenface.parameters import COMPONENTS, FaceParameters
from tokenface.video.store import frames_of

LIDS = {"eyeBlinkLeft", "eyeBlinkRight"}


class SequenceMaker:
    """Turns chunks (`store.chunk_arrays`) into named rows of one person."""

    def __init__(self, head: HeadModel) -> None:
        self.head = head
        self.arkit = speaks_arkit(head)
        self._subset = VertexSubset(head, mesh468=False)

    @torch.inference_mode()
    def rows(self, chunk: dict[str, np.ndarray], person: int) -> dict[str, np.ndarray]:
        """One row per frame that shows the person (at least one must).

        frame, time, scene, cut; the six components; crop, evidence, confidence; rotation [n, 3, 3] of the
        head on the frame; head_pose_degrees [n, 3] yaw, pitch, roll; pose [n, 5, 3] axis-angle of root (the head on
        the frame), neck, jaw, left and right eye; gaze_degrees [n, 2] on the frame; blink [n, 2] where the head has
        lids' actions; arkit [n, 52] where it speaks ARKit; landmarks68 [n, 68, 2] and orthographic [n, 3, 4] on the
        frame.
        """
        own = np.flatnonzero(chunk["person"] == person)
        at = chunk["row"][own]
        p = FaceParameters(**{name: torch.from_numpy(chunk[name][own]) for name in COMPONENTS})
        predictions = [a for frame in frames_of(chunk) for a in frame.predictions if a.person == person]
        cameras = [prediction.camera for prediction in predictions]
        rotation = np.stack([camera.rotation for camera in cameras])
        angles = np.array([camera.angles for camera in cameras])
        eyes = eye_rotations(self.head, p.expression)
        vertices = self._subset.vertices(p)
        points = self._subset.landmarks68(vertices, torch.from_numpy(angles[:, 0]).float()).numpy()
        pose = np.zeros((len(own), 5, 3), np.float32)
        pose[:, 0] = Rotation.from_matrix(rotation).as_rotvec()
        pose[:, JAW] = p.jaw.numpy()
        pose[:, [LEFT_EYE, RIGHT_EYE]] = eyes
        rows = {
            "frame": chunk["frame_index"][at],
            "time": chunk["frame_time"][at],
            "scene": chunk["scene"][own],
            **{name: value.numpy() for name, value in p.items()},
            "crop": chunk["crop"][own],
            "evidence": chunk["evidence"][own],
            "confidence": confidences(chunk["evidence"][own]).astype(np.float32),
            "rotation": rotation.astype(np.float32),
            "head_pose_degrees": np.degrees(angles).astype(np.float32),
            "pose": pose,
            "gaze_degrees": _gaze(rotation, eyes),
            "landmarks68": np.stack(
                [camera.project(face) for camera, face in zip(cameras, points, strict=True)]
            ).astype(np.float32),
            "orthographic": np.stack([camera.orthographic() for camera in cameras]).astype(np.float32),
        }
        if self.arkit:
            rows["arkit"] = to_arkit(self.head, p.expression, p.jaw).numpy()
        names = list(self.head.expression_names)
        if set(names) >= LIDS:
            rows["blink"] = p.expression.numpy()[:, [names.index(name) for name in sorted(LIDS)]]
        return rows


def live_link_angles(rows: dict[str, np.ndarray]) -> np.ndarray:
    """[n, 9] radians in the order of `live_link.ANGLES`: head as the subject turns it (yaw to the subject's left is
    positive, as the picture's right), then yaw, pitch and roll of each eye in its head."""
    head = np.radians(rows["head_pose_degrees"].astype(np.float64))
    columns = [head]
    for joint in (LEFT_EYE, RIGHT_EYE):
        turned = rows["pose"][:, joint].astype(np.float64)
        columns.append(np.stack([turned[:, 1], -turned[:, 0], turned[:, 2]], axis=1))
    return np.concatenate(columns, axis=1)


def _gaze(rotation: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """[n, 2] yaw and pitch of both eyes' mean direction on the frame, degrees."""
    forward = Rotation.from_rotvec(eyes.reshape(-1, 3)).apply([0.0, 0.0, 1.0]).reshape(-1, 2, 3).mean(axis=1)
    x, y, z = np.einsum("nij,nj->in", rotation, forward / np.linalg.norm(forward, axis=1, keepdims=True))
    return np.degrees(np.stack([np.arctan2(x, z), np.arcsin(y.clip(-1, 1))], axis=1)).astype(np.float32)
