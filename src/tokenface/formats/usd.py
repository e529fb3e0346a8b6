"""USDZ: the animated head for Maya, Houdini, Blender, Unreal: mesh, blend shapes, skeleton, animation, texture.

Written by Pixar's own library (`pip install 'tokenface[usd]'`). Axes, units and joints are those of the GLB; USD and
head space both have +y up, and both measure v upwards.
"""

from __future__ import annotations

import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tokenface.core.files import replacing
from tokenface.errors import OutputError
from tokenface.formats.glb import NEGLIGIBLE
from tokenface.formats.glb_animation import Animation, check_times, quaternions
from tokenface.formats.mesh import TexturedMesh, png_bytes
from tokenface.formats.rig import INFLUENCES, Rig, largest_influences

ROOT = "/Head"
TEXTURE = "albedo.png"
ALIGNMENT, LOCAL_HEADER, EXTRA_HEADER, PADDING_FIELD = 64, 30, 4, 0x1986
"""Bytes, and the name of the padding, of USDZ's zip archives."""


def import_usd() -> Any:
    """The `pxr` package.

    Raises:
        OutputError: it is not installed.
    """
    try:
        import pxr
    except ImportError as error:
        raise OutputError("USD needs Pixar's library: pip install 'tokenface[usd]', or leave usd out") from error
    return pxr


def write_animated_usd(path: str | Path, mesh: TexturedMesh, rig: Rig, animation: Animation, rate: float) -> Path:
    """Write one person with a performance as a USDZ package.

    Args:
        rate: time codes per second; a keyframe stands at its time × rate.
    Raises:
        OutputError: USD's library is missing, the file cannot be written, or there is no keyframe.
    """
    import_usd()
    from pxr import UsdSkel

    times = check_times(animation) * rate
    path = Path(path)
    with tempfile.TemporaryDirectory() as scratch, replacing(path) as part:
        layer = Path(scratch) / "head.usdc"
        (Path(scratch) / TEXTURE).write_bytes(png_bytes(mesh.texture))
        stage = _new_stage(layer, mesh, times, rate)
        skeleton = _skeleton(stage, rig)
        surface = _mesh(stage, mesh, rig)
        _blend_shapes(stage, surface, rig)
        binding = UsdSkel.BindingAPI.Apply(surface.GetPrim())
        binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
        _animation(stage, skeleton, rig, animation, times)
        _material(stage, surface)
        stage.GetRootLayer().Save()
        del stage
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as package:
            for member in (layer, layer.with_name(TEXTURE)):  # the layer that is opened stands first
                _pack(package, member.name, member.read_bytes())
    return path


def _new_stage(layer: Path, mesh: TexturedMesh, times: np.ndarray, rate: float) -> Any:
    """An empty stage with units, clock and root."""
    from pxr import Usd, UsdGeom, UsdSkel

    stage = Usd.Stage.CreateNew(str(layer))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetTimeCodesPerSecond(rate)
    stage.SetFramesPerSecond(rate)
    stage.SetStartTimeCode(float(times[0]))
    stage.SetEndTimeCode(float(times[-1]))
    root = UsdSkel.Root.Define(stage, ROOT).GetPrim()
    root.SetCustomData({name: str(value) for name, value in mesh.facts.items() if name != "joint_drive"})
    stage.SetDefaultPrim(root)
    return stage


def _pack(package: zipfile.ZipFile, name: str, data: bytes) -> None:
    """USDZ wants members uncompressed and aligned, so that they can be mapped into memory; without a time of their own,
    so that the same performance gives the same file."""
    entry = zipfile.ZipInfo(name)
    begin = package.start_dir + LOCAL_HEADER + len(name.encode())
    padding = -(begin + EXTRA_HEADER) % ALIGNMENT
    entry.extra = struct.pack("<HH", PADDING_FIELD, padding) + bytes(padding)
    package.writestr(entry, data)


def _skeleton(stage: Any, rig: Rig) -> Any:
    from pxr import Gf, UsdSkel, Vt

    skeleton = UsdSkel.Skeleton.Define(stage, f"{ROOT}/Skeleton")
    bind, rest = [], []
    for joint, parent in enumerate(rig.joint_parents):
        place = rig.joints[joint].astype(np.float64)
        origin = np.zeros(3) if parent < 0 else rig.joints[parent].astype(np.float64)
        bind.append(Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(*place.tolist())))
        rest.append(Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(*(place - origin).tolist())))
    skeleton.CreateJointsAttr(Vt.TokenArray(joint_paths(rig)))
    skeleton.CreateBindTransformsAttr(Vt.Matrix4dArray(bind))
    skeleton.CreateRestTransformsAttr(Vt.Matrix4dArray(rest))
    return skeleton


def joint_paths(rig: Rig) -> list[str]:
    """Joints as USD names them: with all their parents, `root/neck/jaw`."""
    paths: list[str] = []
    for name, parent in zip(rig.joint_names, rig.joint_parents, strict=True):
        paths.append(name if parent < 0 else f"{paths[parent]}/{name}")
    return paths


def _mesh(stage: Any, mesh: TexturedMesh, rig: Rig) -> Any:
    from pxr import Gf, Sdf, UsdGeom, UsdSkel, Vt

    surface = UsdGeom.Mesh.Define(stage, f"{ROOT}/Face")
    points = rig.rest.astype(np.float32)
    surface.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    surface.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    surface.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(mesh.faces.astype(np.int32).reshape(-1)))
    surface.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(mesh.normals.astype(np.float32)))
    surface.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    surface.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    surface.CreateDoubleSidedAttr(True)
    low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    surface.CreateExtentAttr(Vt.Vec3fArray([Gf.Vec3f(*low), Gf.Vec3f(*high)]))
    coordinates = UsdGeom.PrimvarsAPI(surface).CreatePrimvar(
        "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying
    )
    coordinates.Set(Vt.Vec2fArray.FromNumpy(mesh.uv.astype(np.float32)))
    coordinates.SetIndices(Vt.IntArray.FromNumpy(mesh.uv_faces.astype(np.int32).reshape(-1)))
    joints, weights = largest_influences(rig.skinning_weights)
    binding = UsdSkel.BindingAPI.Apply(surface.GetPrim())
    binding.CreateJointIndicesPrimvar(False, INFLUENCES).Set(Vt.IntArray.FromNumpy(joints.astype(np.int32).reshape(-1)))
    binding.CreateJointWeightsPrimvar(False, INFLUENCES).Set(Vt.FloatArray.FromNumpy(weights.reshape(-1)))
    binding.CreateGeomBindTransformAttr(Gf.Matrix4d(1))
    return surface


def _blend_shapes(stage: Any, surface: Any, rig: Rig) -> None:
    from pxr import UsdSkel, Vt

    paths = []
    for name, morph in zip(rig.morph_names, rig.morphs, strict=True):
        shape = UsdSkel.BlendShape.Define(stage, surface.GetPath().AppendChild(name))
        moved = np.flatnonzero(np.abs(morph).max(axis=1) > NEGLIGIBLE)
        shape.CreateOffsetsAttr(Vt.Vec3fArray.FromNumpy(morph[moved].astype(np.float32)))
        shape.CreatePointIndicesAttr(Vt.IntArray.FromNumpy(moved.astype(np.int32)))
        paths.append(shape.GetPath())
    binding = UsdSkel.BindingAPI.Apply(surface.GetPrim())
    binding.CreateBlendShapesAttr(Vt.TokenArray(list(rig.morph_names)))
    binding.CreateBlendShapeTargetsRel().SetTargets(paths)


def _animation(stage: Any, skeleton: Any, rig: Rig, animation: Animation, times: np.ndarray) -> None:
    from pxr import Gf, UsdSkel, Vt

    found = UsdSkel.Animation.Define(stage, skeleton.GetPath().AppendChild(animation.name))
    found.CreateJointsAttr(Vt.TokenArray(joint_paths(rig)))
    found.CreateBlendShapesAttr(Vt.TokenArray(list(rig.morph_names)))
    count = len(rig.joint_names)
    parents = [np.zeros(3) if p < 0 else rig.joints[p].astype(np.float64) for p in rig.joint_parents]
    found.CreateTranslationsAttr(Vt.Vec3fArray.FromNumpy((rig.joints - np.array(parents)).astype(np.float32)))
    found.CreateScalesAttr(Vt.Vec3hArray([Gf.Vec3h(1, 1, 1)] * count))
    rotations = np.tile(np.array([0, 0, 0, 1], np.float32), (len(times), count, 1))
    for name, matrices in animation.rotations.items():
        rotations[:, rig.joint_names.index(name)] = quaternions(matrices)
    turned, weights = found.CreateRotationsAttr(), found.CreateBlendShapeWeightsAttr()
    for time, row, values in zip(times.tolist(), rotations.tolist(), animation.weights, strict=True):
        turned.Set(Vt.QuatfArray([Gf.Quatf(w, x, y, z) for x, y, z, w in row]), time)
        weights.Set(Vt.FloatArray.FromNumpy(values.astype(np.float32)), time)
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([found.GetPath()])


def _material(stage: Any, surface: Any) -> None:
    from pxr import Sdf, UsdShade

    material = UsdShade.Material.Define(stage, f"{ROOT}/skin")

    def shader(name: str, kind: str) -> Any:
        made = UsdShade.Shader.Define(stage, f"{ROOT}/skin/{name}")
        made.CreateIdAttr(kind)
        return made

    reader, picture = shader("st", "UsdPrimvarReader_float2"), shader("albedo", "UsdUVTexture")
    skin = shader("surface", "UsdPreviewSurface")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    picture.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(TEXTURE)
    picture.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
    picture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(
        reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    )
    skin.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(
        picture.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    )
    skin.CreateInput("metallic", Sdf.ValueTypeNames.Float).Set(0.0)
    skin.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(0.6)
    material.CreateSurfaceOutput().ConnectToSource(skin.CreateOutput("surface", Sdf.ValueTypeNames.Token))
    UsdShade.MaterialBindingAPI.Apply(surface.GetPrim()).Bind(material)
