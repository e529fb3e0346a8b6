"""The shipped OpenHead: a clean mesh, plausible people, actions that do what their names say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tokenface.errors import HeadModelError
from tokenface.geometry.landmarks import LID_PAIRS, LIP_PAIRS, MIRROR68
from tokenface.head.arkit import ARKIT_NAMES, JAW_OPEN_ANGLE, arkit_to_jaw, from_arkit, jaw_to_arkit, to_arkit
from tokenface.head.data import HeadData
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head, shipped_folder

LEFT_EYE, RIGHT_EYE = 3, 4


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("openhead")


def act(head: HeadModel, **weights: float) -> torch.Tensor:
    """Vertices [V, 3] of the mean head with ARKit weights."""
    values = torch.zeros(1, len(ARKIT_NAMES))
    for name, value in weights.items():
        values[0, ARKIT_NAMES.index(name)] = value
    expression, jaw = from_arkit(head, values)
    return head(expression=expression, jaw=jaw).vertices[0]


def points(head: HeadModel, vertices: torch.Tensor) -> np.ndarray:
    return head.landmarks68(vertices[None])[0].numpy()


def random_people(head: HeadModel, count: int, seed: int = 0) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return head(torch.randn(count, head.sizes.shape, generator=generator)).vertices.numpy()


def test_file_is_small_and_complete(head):
    assert (shipped_folder() / "openhead.safetensors").stat().st_size <= 12e6
    data = head.data
    assert head.sizes.shape == 300
    assert head.sizes.texture == 50
    assert set(head.expression_names) == set(ARKIT_NAMES) - {"jawOpen", "jawLeft", "jawRight", "tongueOut"}
    assert data.expression_range == (0.0, 1.0)
    for array in (data.template, data.shape_basis, data.expression_basis, data.joint_basis, data.skinning_weights):
        assert np.isfinite(array.astype(np.float32)).all()
    assert {"face", "lips", "nose", "ears", "scalp", "neck", "left_eyeball", "right_eyeball"} <= set(data.regions)


def test_a_symmetric_basis_is_stored_by_half_and_comes_back_bit_for_bit(head, tmp_path):
    data = head.data
    data.save(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (shipped_folder() / "openhead.safetensors").read_bytes()
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert "shape_basis" not in file.keys()  # noqa: SIM118 (not a dict)
        assert 0.5 < file.get_tensor("shape_half").nbytes / data.shape_basis.nbytes < 0.53  # and the middle
    lopsided = data.shape_basis.copy()
    lopsided[7, int(data.regions["left_eyeball"][0]), 1] += np.float16(1e-3)
    replace(data, shape_basis=lopsided).save(tmp_path / "b.safetensors")
    with safe_open(tmp_path / "b.safetensors", "np") as file:
        assert "shape_half" not in file.keys()  # noqa: SIM118 (not a dict)
    for name, basis in (("a", data.shape_basis), ("b", lopsided)):
        back = HeadData.load(tmp_path / f"{name}.safetensors").shape_basis
        assert back.dtype == basis.dtype
        assert back.tobytes() == basis.tobytes()


def test_half_a_basis_that_does_not_fit_is_a_damaged_file(head, tmp_path):
    tensors = load_file(shipped_folder() / "openhead.safetensors")
    with safe_open(shipped_folder() / "openhead.safetensors", "np") as file:
        facts = file.metadata()
    for name, wrong in (("signs", tensors["shape_signs"][:9]), ("half", tensors["shape_half"][..., :50].copy())):
        save_file({**tensors, f"shape_{name}": wrong}, tmp_path / "a.safetensors", facts)
        with pytest.raises(HeadModelError, match=r"a\.safetensors' is damaged"):
            HeadData.load(tmp_path / "a.safetensors")


def test_mesh_is_manifold_and_its_openings_are_closed_rings(head):
    faces = head.data.faces
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    assert count.max() == 2
    open_edges = unique[count == 1]
    assert (np.bincount(open_edges.ravel())[np.unique(open_edges)] == 2).all()
    collar = set(head.data.regions["boundary"].tolist())
    ring = [edge for edge in open_edges.tolist() if set(edge) <= collar]
    assert len(ring) == len(collar) == 42
    outside_teeth = set(np.unique(open_edges).tolist()) - set(head.data.regions["teeth"].tolist())
    assert outside_teeth == collar


def test_collar_is_smooth(head):
    """Straight on at every vertex: the ring never turns by more than a regular 42-gon would twice over."""
    faces = head.data.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    collar = set(head.data.regions["boundary"].tolist())
    both = {tuple(edge) for edge in edges.tolist()}
    directed = {a: b for a, b in both if a in collar and b in collar and (b, a) not in both}
    ring = [next(iter(directed))]
    while len(ring) < 42:
        ring.append(directed[ring[-1]])
    points = head.data.template[ring].astype(np.float64)
    step = np.roll(points, -1, axis=0) - points
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    turn = np.degrees(np.arccos((step * np.roll(step, 1, axis=0)).sum(1).clip(-1, 1)))
    assert turn.max() < 4 * 360 / 42


def test_everything_is_mirror_symmetric(head):
    data, mirror = head.data, head.data.mirror
    assert np.array_equal(mirror[mirror], np.arange(len(mirror)))
    np.testing.assert_allclose(data.template[mirror] * [-1, 1, 1], data.template, atol=1e-7)
    as_set = {tuple(sorted(face)) for face in data.faces.tolist()}
    assert {tuple(sorted(face)) for face in mirror[data.faces].tolist()} == as_set
    np.testing.assert_allclose(data.skinning_weights[mirror][:, [0, 1, 2, 4, 3]], data.skinning_weights, atol=1e-6)
    rest = head().vertices[0]
    np.testing.assert_allclose(points(head, rest)[list(MIRROR68)] * [-1, 1, 1], points(head, rest), atol=1e-6)
    for name in head.expression_names:
        if name.endswith("Left"):
            left, right = act(head, **{name: 1.0}), act(head, **{name.replace("Left", "Right"): 1.0})
            np.testing.assert_allclose(left.numpy()[mirror] * [-1, 1, 1], right.numpy(), atol=2e-5)


def test_contour_slides_to_the_silhouette_on_the_far_side_alone(head):
    rest = head().vertices
    front = head.landmarks68(rest)[0].numpy()
    face = head.template.numpy()[head.data.regions["face"]]
    for degrees in (15, 30, 45):
        angle = np.radians(degrees)
        turned = head.landmarks68(rest, torch.tensor([angle], dtype=torch.float32))[0].numpy()
        np.testing.assert_allclose(turned[:9], front[:9], atol=1e-7)
        np.testing.assert_allclose(turned[17:], front[17:], atol=1e-7)
        across = [face[:, 0] * np.cos(angle) + face[:, 2] * np.sin(angle), face[:, 1]]
        for point in turned[12:16]:
            beside = np.abs(across[1] - point[1]) < 0.004
            beside &= (face[:, 0] > 0.02) | (face[:, 2] < point[2])  # not the nose in front of it
            edge = across[0][beside].max()
            assert point[0] * np.cos(angle) + point[2] * np.sin(angle) > edge - 0.004
        other = head.landmarks68(rest, torch.tensor([-angle], dtype=torch.float32))[0].numpy()
        np.testing.assert_allclose(other[list(MIRROR68)] * [-1, 1, 1], turned, atol=1e-6)


def test_random_people_have_no_triangle_turned_over(head):
    data = head.data
    hidden = np.concatenate([data.regions[n] for n in ("mouth_interior", "left_socket", "right_socket", "eyeballs")])
    faces = data.faces[~np.isin(data.faces, hidden).any(1)]
    a, b, c = (data.template[faces[:, k]].astype(np.float64) for k in range(3))
    normal = np.cross(b - a, c - a)
    sizeable = np.linalg.norm(normal, axis=1) / 2 > 0.3e-6  # a sliver has no visible side
    people = random_people(head, 50)
    p, q, r = (people[:, faces[:, k]].astype(np.float64) for k in range(3))
    over = (np.cross(q - p, r - p) * normal).sum(-1) < 0
    assert over[:, sizeable].sum() == 0
    assert over.sum() <= 1.0 * len(people)


def test_people_differ_by_millimetres_and_stay_heads(head):
    people = random_people(head, 100)
    face = head.data.regions["face"]
    deviation = np.linalg.norm(people - people.mean(0), axis=2)[:, face]
    assert 0.002 < np.sqrt((deviation**2).mean()) < 0.006
    assert np.percentile(deviation, 99.9) < 0.03
    width = np.ptp(people[..., 0], axis=1)
    assert (width > 0.13).all()
    assert (width < 0.26).all()


def test_eyes_sit_in_their_sockets_in_everybody(head):
    generator = torch.Generator().manual_seed(3)
    mesh = head(torch.randn(40, head.sizes.shape, generator=generator))
    for joint, ball in ((LEFT_EYE, "left_eyeball"), (RIGHT_EYE, "right_eyeball")):
        centre = mesh.vertices[:, head.data.regions[ball]].mean(1)
        assert (centre - mesh.joints[:, joint]).norm(dim=1).max() < 2e-4
        alone = head.data.skinning_weights[head.data.regions[ball]]
        np.testing.assert_allclose(alone[:, joint], 1, atol=1e-6)
    np.testing.assert_allclose(head.data.skinning_weights.sum(1), 1, atol=1e-6)


def test_only_jaw_forward_moves_a_joint(head):
    moved = np.abs(head.data.joint_basis[head.sizes.shape :]).max((1, 2)) > 1e-6
    assert [name for name, yes in zip(head.expression_names, moved, strict=True) if yes] == ["jawForward"]


def test_jaw_opens_the_mouth_and_mouth_close_closes_it(head):
    def gap(vertices: torch.Tensor) -> float:
        p = points(head, vertices)
        return float(np.mean([np.linalg.norm(p[a] - p[b]) for a, b in LIP_PAIRS]))

    rest, opened, closed = (gap(act(head, **w)) for w in ({}, {"jawOpen": 1}, {"jawOpen": 1, "mouthClose": 1}))
    assert opened > 0.020
    assert rest < 0.004
    assert closed < 0.25 * opened
    chin = points(head, act(head, jawOpen=1))[8] - points(head, act(head))[8]
    assert chin[1] < -0.02
    assert points(head, act(head, jawLeft=1))[8, 0] > 0.004
    assert points(head, act(head, jawRight=1))[8, 0] < -0.004
    upper = head.data.regions["scalp"]
    assert (act(head, jawOpen=1) - act(head))[upper].abs().max() < 5e-4


@pytest.mark.parametrize(("side", "pairs"), [("Right", LID_PAIRS[:2]), ("Left", LID_PAIRS[2:])])
def test_blink_closes_its_own_lids_over_the_ball(head, side, pairs):
    def gap(vertices: torch.Tensor, pairs) -> float:
        p = points(head, vertices)
        return float(np.mean([np.linalg.norm(p[a] - p[b]) for a, b in pairs]))

    other = [pair for pair in LID_PAIRS if pair not in pairs]
    rest, shut = act(head), act(head, **{f"eyeBlink{side}": 1.0})
    assert gap(shut, pairs) < 0.3 * gap(rest, pairs)
    assert abs(gap(shut, other) - gap(rest, other)) < 1e-4
    centre = rest[head.data.regions[f"{side.lower()}_eyeball"]].mean(0)
    lids = head.data.regions[f"{side.lower()}_eye_region"]

    def nearest(weight: float) -> float:
        return float((act(head, **{f"eyeBlink{side}": weight})[lids] - centre).norm(dim=1).min())

    # the inner rims of the lids lie inside the ball's surface at rest; half-way down they cut in no deeper than a chord
    assert min(nearest(weight) for weight in (0.25, 0.5, 0.75, 1.0)) > nearest(0.0) - 0.0015


def test_gaze_turns_the_eyeballs_where_the_name_says(head):
    def forward(name: str, side: str) -> np.ndarray:
        vertices = act(head, **{name: 1.0})
        ball = head.data.regions[f"{side}_eyeball"]
        front = ball[np.argsort(-head.data.template[ball, 2])[:4]]
        direction = (vertices[front].mean(0) - vertices[ball].mean(0)).numpy()
        rest = head.data.template[front].mean(0) - head.data.template[ball].mean(0)
        return direction / np.linalg.norm(direction) - rest / np.linalg.norm(rest)

    for side, outward in (("Left", 1), ("Right", -1)):
        assert 0.4 < outward * forward(f"eyeLookOut{side}", side.lower())[0] < 0.6
        assert 0.4 < -outward * forward(f"eyeLookIn{side}", side.lower())[0] < 0.6
        assert 0.3 < forward(f"eyeLookUp{side}", side.lower())[1] < 0.55
        assert 0.3 < -forward(f"eyeLookDown{side}", side.lower())[1] < 0.55


def test_actions_move_the_face_as_they_are_called(head):
    rest = points(head, act(head))

    def moved(**weights: float) -> np.ndarray:
        return points(head, act(head, **weights)) - rest

    smile = moved(mouthSmileLeft=1, mouthSmileRight=1)
    assert min(smile[48, 1], smile[54, 1]) > 0.004
    assert smile[54, 0] - smile[48, 0] > 0.004
    frown = moved(mouthFrownLeft=1, mouthFrownRight=1)
    assert max(frown[48, 1], frown[54, 1]) < -0.002
    pucker = moved(mouthPucker=1)
    assert pucker[54, 0] - pucker[48, 0] < -0.005
    assert moved(browInnerUp=1)[[21, 22], 1].min() > 0.002
    assert moved(browDownLeft=1)[22:27, 1].mean() < -0.001
    assert moved(browOuterUpLeft=1)[25, 1] > 0.001
    wide = moved(eyeWideLeft=1)
    assert (wide[[43, 44], 1] - wide[[47, 46], 1]).mean() > 0.001
    assert moved(jawForward=1)[8, 2] > 0.005
    assert moved(mouthUpperUpLeft=1)[52, 1] > 0.001
    assert moved(mouthLowerDownLeft=1)[56, 1] < -0.001
    assert moved(mouthLeft=1)[51, 0] > 0.002
    puff = act(head, cheekPuff=1) - act(head)
    assert puff[head.data.regions["cheeks"]].norm(dim=1).max() > 0.006


def test_arkit_weights_go_there_and_back(head):
    weights = torch.rand(6, len(ARKIT_NAMES), generator=torch.Generator().manual_seed(1))
    weights[:, ARKIT_NAMES.index("tongueOut")] = 0
    weights[:, ARKIT_NAMES.index("jawRight")] = 0
    expression, jaw = from_arkit(head, weights)
    torch.testing.assert_close(to_arkit(head, expression, jaw), weights)
    assert len(set(ARKIT_NAMES)) == 52


def test_arkit_output_stays_in_range(head):
    wild = to_arkit(head, torch.full((1, head.sizes.expression), 3.0), torch.tensor([[2.0, -1.0, 0.3]]))
    assert float(wild.min()) == 0
    assert float(wild.max()) == 1
    assert float(wild[0, ARKIT_NAMES.index("jawRight")]) == 1
    shut = jaw_to_arkit(torch.tensor([-0.2, 0.0, 0.0]))
    assert all(float(value) == 0 for value in shut.values())
    opened = arkit_to_jaw(torch.tensor(0.5), torch.tensor(0.0), torch.tensor(0.0))
    torch.testing.assert_close(opened, torch.tensor([0.5 * JAW_OPEN_ANGLE, 0.0, 0.0]))


def test_arkit_refuses_a_head_with_other_expressions():
    class Flame:
        name = "flame"
        expression_names = ("expression_0", "expression_1")

    with pytest.raises(HeadModelError, match="no ARKit expressions"):
        to_arkit(Flame(), torch.zeros(1, 2), torch.zeros(1, 3))
