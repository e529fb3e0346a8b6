"""Output files per person from stored predictions: parameters.npz, parameters.csv, animation.glb."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from tokenface.core.files import discard, make_folder, replacing
from tokenface.errors import OutputError
from tokenface.formats.glb_animation import Animation, write_animated_glb
from tokenface.formats.growing_npz import GrowingNpz
from tokenface.formats.live_link import LiveLinkRow, write_live_link
from tokenface.formats.mesh import TexturedMesh, file_normals
from tokenface.formats.obj import write_obj
from tokenface.formats.usd import import_usd, write_animated_usd
from tokenface.head.arkit import ARKIT_NAMES
from tokenface.head.data import JOINT_NAMES
from tokenface.head.model import JAW, LEFT_EYE, RIGHT_EYE, HeadModel
from tokenface.inference.appearance import albedo_image, face_rig
from tokenface.inference.confidence import CONFIDENCE_FIELDS, confidences
from tokenface.inference.expressions import joint_drive
from tokenface.inference.face import Origin
from tokenface.inference.people import LEAST, pool
from tokenface.parameters import FaceParameters
from tokenface.video.face import FaceMaker
from tokenface.video.sequence import SequenceMaker, live_link_angles
from tokenface.video.store import Store

FORMATS = ("npz", "csv", "glb", "obj", "usd")
USUAL_FORMATS = ("npz", "csv", "glb")
FRAME_TEXTURE = 512
"""Pixels of the texture beside each frame's OBJ."""
NPZ_FORMAT = "tokenface-track-1"


@dataclass(frozen=True)
class Identity:
    """shape [S] and texture [A] of a person, pooled over the clip; frames: that went into it."""

    shape: torch.Tensor
    texture: torch.Tensor
    frames: int


def identities(store: Store) -> dict[int, Identity]:
    """Every person's identity: confidence-weighted mean over all frames, a chunk at a time."""
    sums: dict[int, list[Any]] = {}
    for chunk in store.chunks():
        confidence = confidences(chunk["evidence"]).clip(LEAST)
        for person in np.unique(chunk["person"]):
            own = np.flatnonzero(chunk["person"] == person)
            weights = confidence[own]
            total = sums.setdefault(int(person), [0.0, 0.0, 0.0, 0])
            for place, name in enumerate(("shape", "texture")):
                total[place] = total[place] + pool(chunk[name][own], weights).astype(np.float64) * weights.sum()
            total[2] += float(weights.sum())
            total[3] += len(own)
    return {
        person: Identity(_tensor(shape / weight), _tensor(texture / weight), count)
        for person, (shape, texture, weight, count) in sorted(sums.items())
    }


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))


class PersonWriter:
    """The files of one person in a folder of its own.

    Args:
        work: folder for what is only needed while writing.
        rate: frames per second, for timecodes.
        texture: [R, R, 3] uint8 sRGB, row 0 at v = 1; None: the predicted albedo.
        iris: [3] uint8 sRGB; None: the predicted albedo's.
    """

    def __init__(
        self,
        store: Store,
        head: HeadModel,
        origin: Origin,
        folder: Path,
        work: Path,
        formats: tuple[str, ...],
        rate: float,
        texture: np.ndarray | None = None,
        iris: np.ndarray | None = None,
    ) -> None:
        self.texture, self.iris = texture, iris
        self.store, self.head, self.origin = store, head, origin
        self.folder, self.work, self.formats, self.rate = make_folder(folder), work, formats, rate
        self.sequence = SequenceMaker(head)

    def write(self, person: int, identity: Identity) -> list[Path]:
        """Raises OutputError when a file cannot be written."""
        rows = GrowingNpz(self.work / f"person_{person:02d}")
        for chunk in self.store.chunks():
            if (chunk["person"] == person).any():
                rows.append(self.sequence.rows(chunk, person))
        paths: list[Path] = []
        if "csv" in self.formats and self.sequence.arkit:
            paths.append(self._csv(rows))
        if {"glb", "usd"} & set(self.formats):
            paths += self._animations(rows, identity)
        if "obj" in self.formats:
            paths += self._objs(person, identity)
        if "npz" in self.formats:
            paths.append(rows.finish(self.folder / "parameters.npz", self._facts(identity)))
        for raw in rows.folder.iterdir():
            discard(raw)
        return paths

    def _facts(self, identity: Identity) -> dict[str, np.ndarray]:
        return {
            "format": np.array(NPZ_FORMAT),
            "head": np.array(self.head.name),
            "head_hash": np.array(self.origin.head_hash),
            "weights": np.array(self.origin.weights),
            "weights_hash": np.array(self.origin.weights_hash),
            "rate": np.array(self.rate),
            "identity": identity.shape.numpy(),
            "identity_texture": identity.texture.numpy(),
            "expression_names": np.array(self.head.expression_names),
            "arkit_names": np.array(ARKIT_NAMES),
            "joint_names": np.array(JOINT_NAMES),
            "evidence_names": np.array(CONFIDENCE_FIELDS),
        }

    def _csv(self, rows: GrowingNpz) -> Path:
        path = self.folder / "parameters.csv"
        times, weights = rows.rows("time"), rows.rows("arkit")
        angles = live_link_angles({name: rows.rows(name) for name in ("head_pose_degrees", "pose")})
        lines = (LiveLinkRow(t, w, a) for t, w, a in zip(times, weights, angles, strict=True))
        with replacing(path) as part, part.open("w", newline="", encoding="ascii") as file:
            write_live_link(file, lines, self.rate)
        return path

    def _animations(self, rows: GrowingNpz, identity: Identity) -> list[Path]:
        parameters = self._neutral(identity)
        rig = face_rig(self.head, parameters, neutral=True, iris=self.iris)
        expression = rows.rows("expression")
        pose = rows.rows("pose")
        spare = np.zeros((len(expression), len(rig.morph_names) - expression.shape[1]), np.float32)
        matrices = {
            name: _matrices(pose[:, joint])
            for name, joint in (("jaw", JAW), ("left_eye", LEFT_EYE), ("right_eye", RIGHT_EYE))
        }
        animation = Animation(
            times=rows.rows("time") - rows.rows("time")[0],
            weights=np.concatenate([expression, spare], axis=1),
            rotations={"neck": rows.rows("rotation"), **matrices},
        )
        mesh = self._mesh(rig.rest, identity, {"first_second": float(rows.rows("time")[0])})
        paths = []
        if "glb" in self.formats:
            paths.append(write_animated_glb(self.folder / "animation.glb", mesh, rig, animation))
        if "usd" in self.formats:
            paths.append(write_animated_usd(self.folder / "animation.usdz", mesh, rig, animation, self.rate))
        return paths

    def _objs(self, person: int, identity: Identity) -> list[Path]:
        """A mesh per frame, not turned by the camera; the material and texture stand beside each."""
        maker, paths = FaceMaker(self.head, self.origin, "clip"), []
        small = self.texture  # it stands beside every frame's mesh
        if small is not None and len(small) > FRAME_TEXTURE:
            small = cv2.resize(small, (FRAME_TEXTURE, FRAME_TEXTURE), interpolation=cv2.INTER_AREA)
        make_folder(self.folder / "obj")
        for number in self.store.chunk_numbers():
            for frame in self.store.frames(number):
                for prediction in frame.predictions:
                    if prediction.person == person:
                        one = prediction.parameters.replace(shape=identity.shape, texture=identity.texture)
                        face = maker.face(replace(prediction, parameters=one), frame)
                        path = self.folder / "obj" / f"frame_{frame.index:06d}.obj"
                        write_obj(path, face.textured_mesh(texture=small))
                        paths.append(path)
        return paths

    def _neutral(self, identity: Identity) -> FaceParameters:
        sizes = self.head.sizes
        return FaceParameters(
            shape=identity.shape,
            expression=torch.zeros(sizes.expression),
            jaw=torch.zeros(3),
            camera=torch.tensor([7.0, 0, 0, 0, 0, 0, 0]),
            texture=identity.texture,
            light=torch.zeros(27),
        )

    def _mesh(self, rest: np.ndarray, identity: Identity, facts: dict[str, object]) -> TexturedMesh:
        data = self.head.data
        return TexturedMesh(
            rest,
            data.faces,
            data.uv,
            data.uv_faces,
            file_normals(rest, data.faces),
            albedo_image(self.head.data, identity.texture.numpy()) if self.texture is None else self.texture,
            facts={
                "made_by": "TokenFace",
                "head_model": self.head.name,
                "head_licence": data.licence,
                "weights": self.origin.weights,
                "joint_drive": joint_drive(self.head),
                **facts,
            },
        )


def known_formats(formats: tuple[str, ...]) -> tuple[str, ...]:
    """The formats that are wanted in the usual order; "all" is all.

    Raises:
        OutputError: one is unknown, or needs a package that is not installed.
    """
    chosen = set(FORMATS) if "all" in formats else set(formats)
    if unknown := sorted(chosen - set(FORMATS)):
        raise OutputError(f"unknown format '{unknown[0]}'; expected some of {', '.join(FORMATS)}, or all")
    if "usd" in chosen:
        import_usd()  # before hours of tracking, not after
    return tuple(name for name in FORMATS if name in chosen)


def _matrices(rotations: np.ndarray) -> np.ndarray:
    """[K, 3] axis-angle → [K, 3, 3]."""
    return Rotation.from_rotvec(rotations.astype(np.float64)).as_matrix()
