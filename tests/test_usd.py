"""The USDZ of a performance, read back by USD's own library and posed by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from toy_head import toy_head_data

from tokenface.errors import OutputError
from tokenface.formats.glb_animation import Animation
from tokenface.formats.mesh import TexturedMesh, file_normals
from tokenface.formats.rig import Rig
from tokenface.formats.usd import joint_paths, write_animated_usd
from tokenface.head.model import HeadModel
from tokenface.inference.appearance import face_rig
from tokenface.parameters import FaceParameters
from tokenface.video.outputs import known_formats

FRAMES, RATE = 4, 25.0


def performance() -> tuple[TexturedMesh, Rig, Animation]:
    head = HeadModel(toy_head_data())
    sizes, random = head.sizes, np.random.default_rng(0)
    shape = torch.from_numpy(random.normal(size=sizes.shape)).float()
    zeros = {"camera": torch.zeros(7), "texture": torch.zeros(sizes.texture), "light": torch.zeros(27)}
    rig = face_rig(
        head,
        FaceParameters(shape=shape, expression=torch.zeros(sizes.expression), jaw=torch.zeros(3), **zeros),
        neutral=True,
    )
    data = head.data
    mesh = TexturedMesh(
        rig.rest, data.faces, data.uv, data.uv_faces, file_normals(rig.rest, data.faces),
        np.full((8, 8, 3), 200, np.uint8), facts={"made_by": "TokenFace"},
    )  # fmt: skip
    names = ("neck", "jaw", "left_eye", "right_eye")
    animation = Animation(
        times=np.array([0.0, 0.04, 0.1, 0.12]),
        weights=random.uniform(0, 1, (FRAMES, len(rig.morph_names))).astype(np.float32),
        rotations={name: Rotation.from_rotvec(random.normal(0, 0.3, (FRAMES, 3))).as_matrix() for name in names},
    )
    return mesh, rig, animation


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pxr", reason="USD's library is not installed: pip install 'tokenface[usd]'")
    return write_animated_usd(tmp_path_factory.mktemp("usd") / "animation.usdz", *performance(), RATE)


def test_usds_own_skinning_shows_every_keyframe(package: Path) -> None:
    from pxr import Usd, UsdGeom, UsdSkel, Vt

    _, rig, animation = performance()
    stage = Usd.Stage.Open(str(package))
    surface = UsdGeom.Mesh(stage.GetPrimAtPath("/Head/Face"))
    cache = UsdSkel.Cache()
    root = UsdSkel.Root(stage.GetPrimAtPath("/Head"))
    cache.Populate(root, Usd.PrimDefaultPredicate)
    skinning = cache.GetSkinningQuery(surface.GetPrim())
    skeleton = cache.GetSkelQuery(UsdSkel.Skeleton(stage.GetPrimAtPath("/Head/Skeleton")))
    shapes = UsdSkel.BlendShapeQuery(UsdSkel.BindingAPI(surface.GetPrim()))
    clip = skeleton.GetAnimQuery()
    assert list(skeleton.GetJointOrder()) == joint_paths(rig) == ["root", "root/neck", *joint_paths(rig)[2:]]
    times = [stage.GetTimeCodesPerSecond() * t for t in animation.times]
    np.testing.assert_allclose(clip.GetBlendShapeWeightTimeSamples(), times, rtol=1e-6)
    for index, time in enumerate(clip.GetBlendShapeWeightTimeSamples()):
        points = Vt.Vec3fArray(surface.GetPointsAttr().Get())
        weights, numbers, parts = shapes.ComputeSubShapeWeights(clip.ComputeBlendShapeWeights(time))
        shapes.ComputeDeformedPoints(
            weights,
            numbers,
            parts,
            shapes.ComputeBlendShapePointIndices(),
            shapes.ComputeSubShapePointOffsets(),
            points,
        )
        assert skinning.ComputeSkinnedPoints(skeleton.ComputeSkinningTransforms(time), points, time)
        rotations = np.zeros((len(rig.joint_names), 3))
        for name, matrices in animation.rotations.items():
            rotations[rig.joint_names.index(name)] = Rotation.from_matrix(matrices[index]).as_rotvec()
        posed = Rig(**{**vars(rig), "rotations": rotations, "morph_weights": animation.weights[index]}).posed()
        np.testing.assert_allclose(np.array(points), posed, atol=1e-5)


def test_the_stage_says_what_programs_need_to_know(package: Path) -> None:
    from pxr import Usd, UsdGeom, UsdShade

    mesh, rig, _ = performance()
    stage = Usd.Stage.Open(str(package))
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0.0, pytest.approx(0.12 * RATE, rel=1e-6))
    assert str(stage.GetDefaultPrim().GetPath()) == "/Head"
    face = stage.GetPrimAtPath("/Head/Face")
    st = UsdGeom.PrimvarsAPI(face).GetPrimvar("st")
    np.testing.assert_allclose(np.array(st.ComputeFlattened()).reshape(-1, 3, 2), mesh.uv[mesh.uv_faces], atol=1e-6)
    material, _ = UsdShade.MaterialBindingAPI(face).ComputeBoundMaterial()
    picture = UsdShade.Shader(stage.GetPrimAtPath(material.GetPath().AppendChild("albedo")))
    assert picture.GetInput("file").Get().resolvedPath.endswith("albedo.png]")
    assert len(face.GetAllChildren()) == len(rig.morph_names)


def test_the_package_passes_usds_own_checks_and_is_the_same_twice(package: Path, tmp_path: Path) -> None:
    from pxr import Usd, UsdValidation

    checks = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    found = UsdValidation.ValidationContext(checks).Validate(Usd.Stage.Open(str(package)))
    assert not [f"{error.GetName()}: {error.GetMessage()}" for error in found]
    again = write_animated_usd(tmp_path / "again.usdz", *performance(), RATE)
    assert again.read_bytes() == package.read_bytes()


def test_without_the_library_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pxr", None)
    with pytest.raises(OutputError, match=r"pip install 'tokenface\[usd\]'"):
        known_formats(("usd",))
