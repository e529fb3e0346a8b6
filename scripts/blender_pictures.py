"""Heads as an artist sees them: a GLB or OBJ in Blender (Cycles), in several expressions and from several sides.

    blender -b --python scripts/blender_pictures.py -- FOLDER me.glb you.glb [--views blink,side] [--size 384]

Writes FOLDER/<stem>_<view>.png. Runs inside Blender (3.4 and later) and needs nothing else.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector

SMILE = {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0}
ASIDE = {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}
BLINK = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}
VIEWS: dict[str, tuple[dict[str, float] | None, float, float, float]] = {
    # weights (None: as the file shows it), camera's yaw and pitch in degrees, height of the picture in metres
    "photo": (None, 0, 0, 0.30),
    "neutral": ({}, 25, 5, 0.30),
    "open": ({"jawOpen": 1.0, **SMILE}, 0, 0, 0.30),
    "mouth": ({"jawOpen": 0.35, **SMILE}, 20, 5, 0.12),
    "shut": ({}, 15, 0, 0.12),
    "aside": (ASIDE, 0, 0, 0.14),
    "blink": (BLINK, 15, 5, 0.14),
    "eye": ({}, 35, 0, 0.10),
    "side": (None, 90, 0, 0.36),
    "back": (None, 180, 0, 0.36),
}
HEIGHT = {"mouth": -0.055, "shut": -0.055, "eye": 0.025, "aside": 0.025, "blink": 0.025}
"""Metres above the head's origin that a close-up looks at."""
FACE = 0.07
"""Metres from the head's origin to there."""


def light(energy: float, size: float, place: tuple[float, float, float]) -> None:
    lamp = bpy.data.objects.new("lamp", bpy.data.lights.new("lamp", "AREA"))
    lamp.data.energy, lamp.data.size, lamp.location = energy, size, place
    lamp.rotation_euler = (-Vector(place)).to_track_quat("-Z", "Y").to_euler()
    bpy.context.scene.collection.objects.link(lamp)


def studio(size: int, samples: int) -> bpy.types.Object:
    """An empty scene with three lamps; its camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples, scene.cycles.use_denoising = "CPU", samples, False
    scene.cycles.max_bounces = 3
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.view_settings.view_transform = "Standard"  # colours as the texture has them
    scene.world = bpy.data.worlds.new("world")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs[0].default_value = (0.30, 0.33, 0.38, 1)
    light(8, 0.5, (-0.7, -1.0, 0.6))
    light(4, 0.8, (0.9, -0.8, 0.1))
    light(6, 0.5, (0.3, 1.2, 0.5))
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.lens, camera.data.sensor_width, camera.data.clip_start = 85, 36, 0.01
    scene.collection.objects.link(camera)
    scene.camera = camera
    return camera


def load(path: Path) -> None:
    np.bool = bool  # type: ignore[misc]  # Blender 3.4's importer names it so; NumPy 1.24 took the name away
    if path.suffix == ".obj":
        getattr(bpy.ops.wm, "obj_import")(filepath=str(path))  # noqa: B009 (Blender finds operators by name)
    else:
        bpy.ops.import_scene.gltf(filepath=str(path))


def pose(weights: dict[str, float]) -> None:
    """Joints at rest; every mesh's shape keys by name, as a player of morph targets sets them."""
    for thing in bpy.data.objects:
        if thing.type == "ARMATURE":
            for bone in thing.pose.bones:
                bone.rotation_mode = "QUATERNION"
                bone.rotation_quaternion = (1, 0, 0, 0)
        keys = thing.data.shape_keys if thing.type == "MESH" else None
        for key in keys.key_blocks[1:] if keys else ():
            key.value = weights.get(key.name, 0.0)


def place(camera: bpy.types.Object, view: str) -> None:
    _, yaw, pitch, height = VIEWS[view]
    distance = height * camera.data.lens / camera.data.sensor_width
    yaw, pitch = math.radians(yaw), math.radians(pitch)
    away = Vector((math.sin(yaw) * math.cos(pitch), -math.cos(yaw) * math.cos(pitch), math.sin(pitch)))
    aim = Vector((0, -FACE if view in HEIGHT else 0, HEIGHT.get(view, 0.0)))
    camera.location = aim + away * distance
    camera.rotation_euler = (-away).to_track_quat("-Z", "Y").to_euler()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--views", default=",".join(VIEWS))
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--samples", type=int, default=16)
    options = parser.parse_args(sys.argv[sys.argv.index("--") + 1 :])
    for path in options.files:
        camera = studio(options.size, options.samples)
        load(path)
        for view in sorted(options.views.split(","), key=list(VIEWS).index):
            if VIEWS[view][0] is not None:
                continue
            shoot(camera, options.folder, path, view)
        for view in options.views.split(","):
            if VIEWS[view][0] is not None:
                pose(VIEWS[view][0])
                shoot(camera, options.folder, path, view)


def shoot(camera: bpy.types.Object, folder: Path, path: Path, view: str) -> None:
    place(camera, view)
    bpy.context.scene.render.filepath = str((folder / f"{path.stem}_{view}.png").resolve())
    bpy.ops.render.render(write_still=True)


main()
