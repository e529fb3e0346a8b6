"""A head in FLAME's format for measuring and testing: the public template and landmarks with invented, smooth bases.

FLAME's own bases may not be passed on, its template and landmark embedding are public. Identity and expression are
random fields here: smooth over centimetres, decaying like those of measured heads; expressions act on the face only,
apart on both lips, and leave the eyeballs alone. Such fields know nothing of what faces do; given a head with actions
(ICT-FaceKit, OpenHead), the first modes are random mixtures of them, as FLAME's are of what people showed. The skinning
weights are OpenHead's, carried over; the joints lie a few millimetres off.
"""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import scipy.sparse

from tokenface.head.data import HeadData
from tokenface.head.flame import load_flame
from tokenface.head.obj_file import read_obj, triangulate
from tokenface.head.registry import load_head
from tokenface.retarget.correspondence import correspondence

COMPANIONS = ("landmark_embedding.npy", "FLAME_masks.pkl", "head_template.obj")
WAVES = 48
SHAPE_WIDTHS, EXPRESSION_WIDTHS = (0.08, 0.02), (0.04, 0.012)
"""Metres over which the first and the last mode vary."""
SHAPE_SIZES, EXPRESSION_SIZES = (0.0012, 0.00015), (0.001, 0.0002)
"""Metres, root mean square displacement of the first and the last mode at coefficient 1."""
JOINT_SHIFT = np.array([[0, 0, 0], [0, 0.002, -0.003], [0, 0.003, 0.004], [0.001, 0, 0], [-0.001, 0, 0]])


def flame_stand_in(public: Path, folder: Path, actions: HeadData | None = None, seed: int = 0) -> HeadData:
    """Write the files as a download of FLAME has them into `folder`, and read them.

    Args:
        public: folder of the public files (`head_template.obj`, `landmark_embedding.npy`, `FLAME_masks.pkl`).
        actions: a head whose expressions are mixed into the first modes: ICT-FaceKit or OpenHead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in COMPANIONS:
        shutil.copyfile(public / name, folder / name)
    mesh = read_obj(public / "head_template.obj")
    points, faces = mesh.vertices, triangulate(mesh.polygons)
    weights, joints = np.tile([0.0, 1.0, 0.0, 0.0, 0.0], (len(points), 1)), np.tile(points.mean(0), (5, 1))
    _write(folder, points, faces, np.zeros((len(points), 3, 400)), weights, joints)
    bare = load_flame([folder])
    openhead = load_head("openhead").data
    place = correspondence(bare, openhead)
    weights = place.carry(openhead.skinning_weights)
    back = correspondence(openhead, bare)
    moved = back.carry(bare.template.astype(np.float64))[back.trust > 0.5]
    shift = (moved - openhead.template[back.trust > 0.5]).mean(0)
    for joint, eye in ((3, "left_eyeball"), (4, "right_eyeball")):
        weights[bare.regions[eye]] = np.eye(5)[joint]
    joints = openhead.joint_template + shift + JOINT_SHIFT
    expressions = _expressions(bare, weights, seed + 1)
    if actions is not None:
        mixed = _mixtures(bare, actions, seed + 3)
        expressions[: len(mixed)] = mixed
    basis = np.concatenate([_shapes(bare, seed), expressions])
    _write(folder, points, faces, basis.transpose(1, 2, 0), weights, joints)
    return load_flame([folder])


def _shapes(head: HeadData, seed: int) -> np.ndarray:
    return _fields(head.template.astype(np.float64), 300, SHAPE_WIDTHS, SHAPE_SIZES, seed)


def _expressions(head: HeadData, weights: np.ndarray, seed: int) -> np.ndarray:
    points = head.template.astype(np.float64)
    everywhere = _fields(points, 100, EXPRESSION_WIDTHS, EXPRESSION_SIZES, seed)
    below = _fields(points, 100, EXPRESSION_WIDTHS, EXPRESSION_SIZES, seed + 1)
    face = np.zeros(len(points))
    face[head.regions["face"]] = 1
    fields = (everywhere + below * weights[None, :, 2:3]) * face[:, None]
    fields[:, np.concatenate([head.regions["left_eyeball"], head.regions["right_eyeball"]])] = 0
    return fields


def _mixtures(head: HeadData, source: HeadData, seed: int) -> np.ndarray:
    """[E, V, 3] random orthogonal mixtures of another head's actions, the jaw's left out."""
    kept = [i for i, name in enumerate(source.expression_names) if name not in ("jawOpen", "jawLeft", "jawRight")]
    actions = correspondence(head, source).carry(source.expression_basis[kept].astype(np.float64))
    actions[:, np.concatenate([head.regions["left_eyeball"], head.regions["right_eyeball"]])] = 0
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(kept), len(kept))))[0]
    return 0.5 * np.tensordot(turn, actions, 1)


def _fields(
    points: np.ndarray, modes: int, widths: tuple[float, float], sizes: tuple[float, float], seed: int
) -> np.ndarray:
    """[modes, V, 3] sums of random waves whose width and size fall from the first mode to the last."""
    rng = np.random.default_rng(seed)
    fields = np.empty((modes, len(points), 3))
    for mode, (width, size) in enumerate(zip(np.geomspace(*widths, modes), np.geomspace(*sizes, modes), strict=True)):
        phases = points @ rng.normal(scale=1 / width, size=(3, WAVES)) + rng.uniform(0, 2 * np.pi, WAVES)
        field = np.cos(phases) @ rng.normal(size=(WAVES, 3))
        fields[mode] = field * (size / np.sqrt((field**2).sum(1).mean()))
    return fields


def _write(
    folder: Path, points: np.ndarray, faces: np.ndarray, basis: np.ndarray, weights: np.ndarray, joints: np.ndarray
) -> None:
    """`generic_model.pkl`: every joint is a fixed affine combination of the vertices."""
    regressor = np.zeros((5, len(points)))
    for joint, place in enumerate(joints):
        near = np.argsort(np.linalg.norm(points - place, axis=1))[:200]
        design = np.vstack([points[near].T, np.ones(len(near))])
        regressor[joint, near] = np.linalg.lstsq(design, np.append(place, 1), rcond=None)[0]
    content = {
        "v_template": points,
        "f": faces.astype(np.uint32),
        "shapedirs": basis,
        "posedirs": np.zeros((len(points), 3, 36)),
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "J": joints,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }
    (folder / "generic_model.pkl").write_bytes(pickle.dumps(content, protocol=2))
