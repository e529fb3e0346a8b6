"""The head model's formulation, on a toy head: what each parameter does, gradients, landmarks, the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from scipy.spatial.transform import Rotation
from toy_head import toy_head_data

from tokenface.errors import HeadModelError
from tokenface.head import HeadData, HeadModel
from tokenface.head.subset import VertexSubset
from tokenface.parameters import FaceParameters


def normal(*size: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel(toy_head_data(pose_correctives=True))


def random_pose(head: HeadModel, batch: int = 3) -> dict[str, torch.Tensor]:
    return {
        "shape": normal(batch, head.sizes.shape, seed=1),
        "expression": torch.rand(batch, head.sizes.expression, generator=torch.Generator().manual_seed(2)),
        "jaw": normal(batch, 3, seed=3, scale=0.3),
        "neck": normal(batch, 3, seed=4, scale=0.3),
        "eyes": normal(batch, 2, 3, seed=5, scale=0.3),
    }


def reference(data: HeadData, shape, expression, jaw, neck, eyes) -> np.ndarray:
    """One face in plain float64 loops: rest shape, joints, a chain of 4 × 4 matrices, a weighted sum per vertex."""
    coefficients = np.concatenate([shape, expression])
    basis = np.concatenate([data.shape_basis, data.expression_basis]).astype(float)
    rest = data.template + np.tensordot(coefficients, basis, 1)
    joints = data.joint_template + np.tensordot(coefficients, data.joint_basis.astype(float), 1)
    turns = [np.eye(3)] + [Rotation.from_rotvec(r).as_matrix() for r in (neck, jaw, eyes[0], eyes[1])]
    if data.pose_basis is not None:
        feature = np.concatenate([(r - np.eye(3)).ravel() for r in turns[1:]])
        rest = rest + np.tensordot(feature, data.pose_basis.astype(float), 1)
    world = []
    for joint, parent in enumerate((-1, 0, 1, 1, 1)):
        local = np.eye(4)
        local[:3, :3] = turns[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    result = np.zeros_like(rest)
    for joint in range(5):
        moved = (rest - joints[joint]) @ world[joint][:3, :3].T + world[joint][:3, 3]
        result += data.skinning_weights[:, joint, None] * moved
    return result


@pytest.mark.parametrize("correctives", [False, True])
def test_forward_pass_equals_a_plain_reference(correctives):
    data = toy_head_data(seed=7, pose_correctives=correctives)
    head = HeadModel(data)
    pose = random_pose(head)
    ours = head(**pose).vertices.numpy()
    for face in range(3):
        expected = reference(data, *(pose[k][face].numpy().astype(float) for k in pose))
        np.testing.assert_allclose(ours[face], expected, atol=2e-6)


def test_no_parameters_give_the_mean_head(head):
    torch.testing.assert_close(head().vertices[0], head.template, atol=1e-7, rtol=0)
    zeros = head(torch.zeros(2, 0), torch.zeros(2, head.sizes.expression), torch.zeros(2, 3))
    torch.testing.assert_close(zeros.vertices, head.template.expand(2, -1, -1))


def test_missing_trailing_modes_are_zero(head):
    few = normal(2, 3)
    padded = torch.cat([few, torch.zeros(2, head.sizes.shape - 3)], dim=1)
    torch.testing.assert_close(head(few).vertices, head(padded).vertices)


def test_some_vertices_alone_equal_those_of_the_whole(head):
    indices = torch.tensor([5, 0, 311, 5, 77])
    pose = random_pose(head)
    part, whole = head.restricted_to(indices)(**pose), head(**pose)
    torch.testing.assert_close(part.vertices, whole.vertices[:, indices], atol=1e-6, rtol=0)
    torch.testing.assert_close(part.joints, whole.joints)
    assert head(**pose).vertices.shape[1] == head.vertex_count  # the whole head is as it was


def test_landmarks_of_a_subset_equal_those_of_the_whole(head):
    subset = VertexSubset(head, torch.arange(20))
    pose = random_pose(head)
    parameters = FaceParameters(
        pose["shape"], pose["expression"], pose["jaw"], *(torch.zeros(3, n) for n in (7, 4, 27))
    )
    whole = head(parameters.shape, parameters.expression, parameters.jaw).vertices
    part = subset.vertices(parameters)
    assert part.shape[1] < whole.shape[1]
    yaw = torch.tensor([-0.02, 0.0, 0.02])
    torch.testing.assert_close(subset.landmarks68(part, yaw), head.landmarks68(whole, yaw), atol=1e-6, rtol=0)
    torch.testing.assert_close(subset.landmarks468(part), head.landmarks468(whole), atol=1e-6, rtol=0)


def test_gradients_equal_finite_differences():
    data = toy_head_data(pose_correctives=True)
    head = HeadModel(data).double()
    part = head.restricted_to(torch.arange(0, head.vertex_count, 37))
    pose = [value[:1].double().requires_grad_() for value in random_pose(head).values()]

    def evaluate(shape, expression, jaw, neck, eyes):
        mesh = part(shape, expression, jaw, neck=neck, eyes=eyes)
        return mesh.vertices, mesh.joints

    assert torch.autograd.gradcheck(evaluate, pose)


def test_gradients_are_finite_where_nothing_is_rotated(head):
    jaw = torch.zeros(1, 3, requires_grad=True)
    head(jaw=jaw).vertices.square().sum().backward()
    assert torch.isfinite(jaw.grad).all()
    assert jaw.grad.abs().sum() > 0


def test_eyes_follow_the_look_expressions_unless_they_are_given(head):
    up = torch.zeros(1, head.sizes.expression)
    up[0, head.expression_names.index("eyeLookUpLeft")] = 0.8
    eyes = torch.zeros(1, 2, 3)
    eyes[0, 0, 0] = -0.5 * 0.8
    torch.testing.assert_close(head(expression=up).vertices, head(expression=up, eyes=eyes).vertices)
    still = head(expression=up, eyes=torch.zeros(1, 2, 3)).vertices
    assert (still - head(expression=up).vertices).abs().max() > 1e-3


def test_moving_contour_takes_the_row_of_the_nearest_whole_degree_and_clamps(head):
    data = head.data  # three rows: -1°, 0°, 1°
    vertices = head.template[None]
    expected = np.einsum("rkcd,rkc->rkd", data.template[data.faces[data.contour_faces]], data.contour_barycentrics)
    for degrees, row in ((-40, 0), (-1, 0), (-0.6, 0), (-0.4, 1), (0, 1), (0.4, 1), (0.6, 2), (1, 2), (90, 2)):
        points = head.landmarks68(vertices, torch.deg2rad(torch.tensor([float(degrees)])))
        np.testing.assert_allclose(points[0, :17], expected[row], atol=1e-6, err_msg=f"{degrees}°")
    assert torch.equal(head.landmarks68(vertices), head.landmarks68(vertices, torch.zeros(1)))
    both = head.landmarks68(vertices.expand(2, -1, -1), torch.tensor([-0.5, 0.5]))
    np.testing.assert_allclose(both[:, :17], expected[[0, 2]], atol=1e-6)
    assert torch.equal(both[0, 17:], both[1, 17:])


def test_expression_is_clamped_to_the_models_range(head):
    weights = torch.tensor([[-0.5, 0.0, 0.4, 1.0, 1.7]])
    assert head.clamp_expression(weights)[0].tolist() == pytest.approx([0, 0, 0.4, 1, 1])
    data = toy_head_data()
    data.expression_range = None
    assert torch.equal(HeadModel(data).clamp_expression(weights), weights)


def test_saved_file_gives_the_same_head_and_the_same_bytes(tmp_path):
    data = toy_head_data(pose_correctives=True)
    data.facts = {"seed": "7", "anny": "0.6", "ß": "non-ASCII"}
    data.save(tmp_path / "a.safetensors")
    again = HeadData.load(tmp_path / "a.safetensors")
    for name, value in vars(data).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)
            assert getattr(again, name).dtype == value.dtype
        elif name != "regions":
            assert getattr(again, name) == value
    np.testing.assert_array_equal(again.regions["face"], data.regions["face"])
    assert again.geometry_hash() == data.geometry_hash()
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert not list(tmp_path.glob("*.part"))
    assert set(load_file(tmp_path / "a.safetensors")) >= {"template", "region.face"}  # other readers open it


def test_every_save_writes_the_same_bytes():
    """safetensors orders its metadata by chance, anew each time."""
    assert len({toy_head_data().to_bytes() for _ in range(24)}) == 1


def test_hash_changes_with_the_geometry_and_not_with_the_albedo():
    data, other = toy_head_data(), toy_head_data()
    other.albedo_mean = other.albedo_mean * 0.5
    assert data.geometry_hash() == other.geometry_hash()
    other.shape_basis = other.shape_basis * 1.01
    assert data.geometry_hash() != other.geometry_hash()


def _rewrite(path: Path, change) -> None:
    """Change arrays or metadata of a saved head."""
    from safetensors import safe_open

    with safe_open(str(path), framework="np") as file:
        metadata = dict(file.metadata())
    arrays = load_file(path)
    change(arrays, metadata)
    save_file(arrays, path, metadata)


def _whole_basis(arrays: dict, basis: np.ndarray) -> None:
    """Instead of the half of it that a symmetric head's file has."""
    del arrays["shape_half"], arrays["shape_signs"]
    arrays["shape_basis"] = basis


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, m: a.pop("template"), "damaged"),
        (lambda a, m: m.pop("head"), "damaged"),
        (lambda a, m: m.update(head="{"), "damaged"),
        (lambda a, m: m.update(head=json.dumps({"name": "x"})), "damaged"),
        (lambda a, m: m.update(format="other"), "not a tokenface head model"),
        (lambda a, m: a.update(faces=a["faces"] + 10_000), "faces refers"),
        (lambda a, m: a.update(faces=-a["faces"] - 1), "faces refers"),
        (lambda a, m: a.update(uv_faces=a["uv_faces"] + 10_000), "uv_faces refers"),
        (lambda a, m: a.update(contour_faces=a["contour_faces"] + 10_000), "contour_faces refers"),
        (lambda a, m: a.update({"region.face": np.array([10_000], np.int32)}), r"region\.face refers"),
        (lambda a, m: a.update(joint_basis=a["joint_basis"][:-1]), "joint_basis has shape"),
        (lambda a, m: _whole_basis(a, np.zeros((2, len(a["template"]) - 1, 3), np.float32)), "shape_basis has shape"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "head.safetensors"
    toy_head_data().save(path)
    _rewrite(path, change)
    with pytest.raises(HeadModelError, match=message) as caught:
        HeadData.load(path)
    assert "\n" not in str(caught.value)


def test_missing_truncated_and_foreign_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(HeadModelError, match="no head model at"):
        HeadData.load(tmp_path / "none.safetensors")
    path = tmp_path / "head.safetensors"
    toy_head_data().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(HeadModelError, match="damaged"):
        HeadData.load(path)
    path.write_bytes(b"not a head")
    with pytest.raises(HeadModelError, match="damaged"):
        HeadData.load(path)
