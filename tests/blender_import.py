"""Run by a Python that has `bpy`: imports each GLB named on the command line and prints what Blender made of it."""

import json
import math
import sys

import bpy


def posed(mesh):
    """Vertices as Blender shows them, with shape keys and bones."""
    bpy.context.view_layer.update()
    evaluated = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return [tuple(evaluated.matrix_world @ v.co) for v in evaluated.data.vertices]


def facts_of(path):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=path)
    meshes = [o for o in bpy.data.objects if o.type == "MESH"]
    mesh = max(meshes, key=lambda o: len(o.data.vertices))  # the skin; eyes, teeth and tongue are smaller
    (skeleton,) = [o for o in bpy.data.objects if o.type == "ARMATURE"]
    keys = mesh.data.shape_keys
    shown = {key.name: key.value for key in keys.key_blocks}
    actions = {}
    for action in bpy.data.actions:
        bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
        lengths = [len(curve.keyframe_points) for bag in bags for curve in bag.fcurves]
        actions[action.name] = {"curves": len(lengths), "keyframes": max(lengths, default=0)}
    for holder in (skeleton, keys):
        holder.animation_data_clear()
    before = posed(mesh)
    bone = skeleton.pose.bones["jaw"]
    bone.rotation_mode = "XYZ"
    bone.rotation_euler[0] += 0.4
    after = posed(mesh)
    return {
        "meshes": sorted(o.name for o in meshes),
        "keys": [key.name for key in keys.key_blocks],
        "shown": shown,
        "bones": [b.name for b in skeleton.data.bones],
        "first": before,
        "uv_layers": len(mesh.data.uv_layers),
        "images": [list(i.size) for i in bpy.data.images if i.size[0] > 0],
        "actions": actions,
        "jaw_moves": max(math.dist(a, b) for a, b in zip(before, after, strict=True)),
    }


print("FOUND " + json.dumps({path: facts_of(path) for path in sys.argv[1:]}))
