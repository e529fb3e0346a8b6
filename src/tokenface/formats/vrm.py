"""VRM 1.0: GLB with humanoid skeleton, named expressions and licence, for VTuber tools and virtual worlds.

The specification (`VRMC_vrm`, spec version 1.0) asks for a whole skeleton. The head's own bones are its head, jaw and
eyes; below them stand bones of an average adult without a mesh, so that tools accept the file and can pose it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pygltflib as gltf

from tokenface.core.files import write_atomically
from tokenface.errors import OutputError
from tokenface.formats.glb import finished_bytes, rigged_document
from tokenface.formats.mesh import TexturedMesh
from tokenface.formats.rig import Rig
from tokenface.head.arkit import ARKIT_NAMES

EYE_HEIGHT = 1.6
"""Metres above the ground that head space's origin stands."""
LICENCE_URL = "https://vrm.dev/licenses/1.0/"
BODY: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "hips": (None, (0.0, 0.95, -0.02)),
    "spine": ("hips", (0.0, 1.10, -0.03)),
    "leftUpperLeg": ("hips", (0.09, 0.90, -0.02)),
    "leftLowerLeg": ("leftUpperLeg", (0.09, 0.48, -0.02)),
    "leftFoot": ("leftLowerLeg", (0.09, 0.08, -0.04)),
    "leftUpperArm": ("spine", (0.18, 1.40, -0.03)),
    "leftLowerArm": ("leftUpperArm", (0.45, 1.40, -0.03)),
    "leftHand": ("leftLowerArm", (0.70, 1.40, -0.03)),
    "rightUpperLeg": ("hips", (-0.09, 0.90, -0.02)),
    "rightLowerLeg": ("rightUpperLeg", (-0.09, 0.48, -0.02)),
    "rightFoot": ("rightLowerLeg", (-0.09, 0.08, -0.04)),
    "rightUpperArm": ("spine", (-0.18, 1.40, -0.03)),
    "rightLowerArm": ("rightUpperArm", (-0.45, 1.40, -0.03)),
    "rightHand": ("rightLowerArm", (-0.70, 1.40, -0.03)),
}
"""Bone: parent and place, metres, T-pose; heights of an average adult."""
HEAD_BONES = {"head": "neck", "jaw": "jaw", "leftEye": "left_eye", "rightEye": "right_eye"}
"""VRM's bone: the rig's joint. The rig's neck carries all of the head."""


def _both(**weights: float) -> dict[str, float]:
    return {f"{name}{side}": weight for name, weight in weights.items() for side in ("Left", "Right")}


EXPRESSIONS: dict[str, dict[str, float]] = {
    "happy": _both(mouthSmile=0.9, cheekSquint=0.6, eyeSquint=0.25),
    "angry": {**_both(browDown=0.9, noseSneer=0.4, mouthFrown=0.3, mouthPress=0.4, eyeSquint=0.2)},
    "sad": {**_both(mouthFrown=0.7, eyeSquint=0.15), "browInnerUp": 0.9, "mouthShrugLower": 0.3},
    "relaxed": {**_both(mouthSmile=0.35, eyeBlink=0.15)},
    "surprised": {**_both(eyeWide=0.8, browOuterUp=0.8), "browInnerUp": 0.8, "jawOpen": 0.35},
    "aa": {**_both(mouthLowerDown=0.25, mouthUpperUp=0.15), "jawOpen": 0.65},
    "ih": {**_both(mouthStretch=0.35, mouthUpperUp=0.25, mouthLowerDown=0.3), "jawOpen": 0.15},
    "ou": {"mouthPucker": 0.85, "jawOpen": 0.15},
    "ee": {**_both(mouthStretch=0.5, mouthSmile=0.3, mouthLowerDown=0.35, mouthUpperUp=0.2), "jawOpen": 0.1},
    "oh": {"mouthFunnel": 0.75, "jawOpen": 0.4},
    "blink": _both(eyeBlink=0.8),
    "blinkLeft": {"eyeBlinkLeft": 0.8},
    "blinkRight": {"eyeBlinkRight": 0.8},
    "lookUp": _both(eyeLookUp=1.0),
    "lookDown": _both(eyeLookDown=1.0),
    "lookLeft": {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0},
    "lookRight": {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0},
}
"""VRM's presets as ARKit weights at 1. OpenHead's lids are shut at about 0.75."""
_MOUTH, _BLINK, _LOOK = (
    ("aa", "ih", "ou", "ee", "oh"),
    ("blink", "blinkLeft", "blinkRight"),
    ("lookUp", "lookDown", "lookLeft", "lookRight"),
)


@dataclass(frozen=True)
class VrmLicence:
    """The licence fields of VRM 1.0 (`meta`), as strict as they can be unless the person says otherwise.

    name: of the avatar.  authors: at least one.  avatar_permission: who may perform as it.
    """

    name: str = "head"
    authors: tuple[str, ...] = ("unknown",)
    copyright: str = ""
    avatar_permission: Literal["onlyAuthor", "onlySeparatelyLicensedPerson", "everyone"] = "onlyAuthor"
    commercial_usage: Literal["personalNonProfit", "personalProfit", "corporation"] = "personalNonProfit"
    credit: Literal["required", "unnecessary"] = "required"
    redistribution: bool = False
    modification: Literal["prohibited", "allowModification", "allowModificationRedistribution"] = "prohibited"
    references: tuple[str, ...] = field(default=())

    def document(self) -> dict[str, Any]:
        meta: dict[str, Any] = {
            "name": self.name,
            "authors": list(self.authors),
            "licenseUrl": LICENCE_URL,
            "avatarPermission": self.avatar_permission,
            "allowExcessivelyViolentUsage": False,
            "allowExcessivelySexualUsage": False,
            "allowPoliticalOrReligiousUsage": False,
            "allowAntisocialOrHateUsage": False,
            "commercialUsage": self.commercial_usage,
            "creditNotation": self.credit,
            "allowRedistribution": self.redistribution,
            "modification": self.modification,
        }
        if self.copyright:
            meta["copyrightInformation"] = self.copyright
        if self.references:
            meta["references"] = list(self.references)
        return meta


def write_vrm(path: str | Path, mesh: TexturedMesh, rig: Rig, licence: VrmLicence | None = None) -> Path:
    """Write a person's neutral head as an avatar.

    Args:
        rig: with all ARKit actions, as `Face.rig(neutral=True)` gives it for OpenHead.
        licence: None: strict, by an unknown author.
    Raises:
        OutputError: the head does not speak ARKit, or the file cannot be written.
    """
    return write_atomically(path, vrm_bytes(mesh, rig, licence or VrmLicence()))


def vrm_bytes(mesh: TexturedMesh, rig: Rig, licence: VrmLicence) -> bytes:
    """The file of `write_vrm` as bytes."""
    if missing := sorted({name for weights in EXPRESSIONS.values() for name in weights} - set(rig.morph_names)):
        raise OutputError(f"a VRM needs ARKit's actions; this head has no '{missing[0]}'; use OpenHead")
    at_rest = replace(
        rig,
        rotations=np.zeros_like(rig.rotations),
        morph_weights=np.zeros_like(rig.morph_weights),
        parts=tuple(replace(part, morph_weights=np.zeros_like(part.morph_weights)) for part in rig.parts),
    )
    document, buffer = rigged_document(mesh, at_rest)
    joints = {name: 1 + number for number, name in enumerate(rig.joint_names)}
    bones = _body(document, rig, joints["root"])
    bones |= {bone: joints[joint] for bone, joint in HEAD_BONES.items()}
    document.extensions = {
        "VRMC_vrm": {
            "specVersion": "1.0",
            "meta": licence.document(),
            "humanoid": {"humanBones": {bone: {"node": node} for bone, node in bones.items()}},
            "firstPerson": {
                "meshAnnotations": [
                    {"node": number, "type": "thirdPersonOnly"}
                    for number, node in enumerate(document.nodes)
                    if node.mesh is not None
                ]
            },
            "lookAt": _look_at(rig),
            "expressions": _expressions(document),
        }
    }
    document.extensionsUsed = ["VRMC_vrm"]
    return finished_bytes(document, buffer)


def _body(document: gltf.GLTF2, rig: Rig, root: int) -> dict[str, int]:
    """Append the bones below the head; returns bone → node. The rig's root hangs from the spine."""
    nodes: dict[str, int] = {}
    children: dict[int, list[int]] = {}
    for bone, (parent, place) in BODY.items():
        offset = np.array(place) - (BODY[parent][1] if parent else np.zeros(3))
        nodes[bone] = len(document.nodes)
        document.nodes.append(gltf.Node(name=bone, translation=[float(x) for x in offset]))
        if parent:
            children.setdefault(nodes[parent], []).append(nodes[bone])
    stand = rig.joints[rig.joint_names.index("root")].astype(np.float64) + np.array([0, EYE_HEIGHT, 0])
    document.nodes[root].translation = [float(x) for x in stand - BODY["spine"][1]]
    children.setdefault(nodes["spine"], []).append(root)
    for node, below in children.items():
        document.nodes[node].children = below
    scene = document.scenes[0]
    scene.nodes = [nodes["hips"] if node == root else node for node in scene.nodes]
    document.skins[0].skeleton = nodes["hips"]
    return nodes


def _expressions(document: gltf.GLTF2) -> dict[str, Any]:
    targets: dict[str, list[tuple[int, int]]] = {}
    for number, node in enumerate(document.nodes):
        if node.mesh is not None:
            extras = document.meshes[node.mesh].extras or {}
            for index, name in enumerate(extras.get("targetNames", [])):
                targets.setdefault(name, []).append((number, index))

    def expression(weights: dict[str, float], name: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {
            "isBinary": False,
            "overrideBlink": "block" if name in ("happy", "surprised") else "none",
            "overrideLookAt": "none",
            "overrideMouth": "blend" if name in ("surprised", "happy") else "none",
            "morphTargetBinds": [
                {"node": node, "index": index, "weight": weight}
                for action, weight in weights.items()
                for node, index in targets[action]
            ],
        }
        return found

    preset = {name: expression(weights, name) for name, weights in EXPRESSIONS.items()}
    return {
        "preset": {**preset, "neutral": expression({})},
        "custom": {name: expression({name: 1.0}) for name in ARKIT_NAMES if name in targets},
    }


def _look_at(rig: Rig) -> dict[str, Any]:
    eyes = [rig.joints[rig.joint_names.index(f"{side}_eye")] for side in ("left", "right")]
    offset = np.mean(eyes, axis=0) - rig.joints[rig.joint_names.index("neck")]
    full = {"inputMaxValue": 30.0, "outputScale": 1.0}
    return {
        "offsetFromHeadBone": [float(x) for x in offset],
        "type": "expression",
        "rangeMapHorizontalInner": full,
        "rangeMapHorizontalOuter": full,
        "rangeMapVerticalDown": {"inputMaxValue": 25.0, "outputScale": 1.0},
        "rangeMapVerticalUp": {"inputMaxValue": 25.0, "outputScale": 1.0},
    }
