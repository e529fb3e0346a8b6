"""GLB (binary glTF 2.0): textured, rigged with joints and skin weights, expressions as named morph targets.

The file's node rotations and morph weights are the face's own values, so a viewer shows the person's expression, and
an animator changes the weights. glTF's axes (+y up, +z forward, +x to the subject's left) are those of head space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib as gltf

from tokenface.core.files import write_atomically
from tokenface.formats.glb_textures import TextureFormat, add_texture
from tokenface.formats.mesh import SeamSplit, TexturedMesh, file_normals, morph_normals, rounded_mesh, split_seams
from tokenface.formats.rig import PartMaterial, Rig, RigPart, largest_influences, quaternion

NEGLIGIBLE = 1e-7
"""Metres: smaller displacements of a morph target are not stored."""
NEGLIGIBLE_TURN = 4e-3
"""Of a unit normal: smaller changes of a morph target are not stored."""
SKIN_ROUGHNESS = 0.6


def write_glb(path: str | Path, mesh: TexturedMesh, rig: Rig, textures: TextureFormat = "png") -> Path:
    """Write one face. `mesh` gives topology, texture and facts; `rig` gives the geometry.

    Args:
        textures: how the pictures are stored (`glb_textures`).

    Raises:
        OutputError: the file cannot be written.
    """
    return write_atomically(path, glb_bytes(mesh, rig, textures))


def glb_bytes(mesh: TexturedMesh, rig: Rig, textures: TextureFormat = "png", *, turning: bool = True) -> bytes:
    """The file of `write_glb` as bytes; turning: see `rigged_document`."""
    return finished_bytes(*rigged_document(mesh, rig, textures, turning=turning))


def rigged_document(
    mesh: TexturedMesh, rig: Rig, textures: TextureFormat = "png", *, turning: bool = True
) -> tuple[gltf.GLTF2, GlbBuffer]:
    """The face as a document and its binary chunk, to which more may be added before `finished_bytes`.

    Node 0 carries the head's skin; joint j of the rig is node 1 + j; the rig's parts follow, each a node and a mesh.

    Args:
        turning: whether morph targets carry normals; a viewer that computes them from the moved vertices needs none.
    """
    mesh, skin = _drawn(mesh, rig)
    split = split_seams(mesh.faces, mesh.uv, mesh.uv_faces)
    buffer = GlbBuffer()
    document = gltf.GLTF2(
        asset=gltf.Asset(version="2.0", generator="TokenFace", extras=dict(mesh.facts)),
        scene=0,
        # A skinned mesh moves with its joints alone, so it stands beside the skeleton, not below it.
        scenes=[gltf.Scene(name=mesh.name, nodes=[0, 1])],
        nodes=[gltf.Node(name=mesh.name, mesh=0, skin=0), *_skeleton(rig, first_node=1)],
        samplers=[gltf.Sampler(magFilter=gltf.LINEAR, minFilter=gltf.LINEAR_MIPMAP_LINEAR)],
    )
    _Surfaces(document, buffer).add(
        mesh.name,
        split,
        file_normals(skin.rest, mesh.faces),
        list(morph_normals(skin.rest, skin.morphs, mesh.faces)) if turning else None,
        skin,
    )
    material = PartMaterial("skin", mesh.texture, SKIN_ROUGHNESS)
    document.materials.append(_material(document, buffer, material, "albedo", textures))
    # The neck is open below; from there the inside should not be invisible.
    document.materials[0].doubleSided = True
    shared: dict[str, int] = {}
    for part in rig.parts:
        if part.material.name not in shared:
            shared[part.material.name] = len(document.materials)
            document.materials.append(_material(document, buffer, part.material, part.material.name, textures))
        document.scenes[0].nodes.append(len(document.nodes))
        document.nodes.append(gltf.Node(name=part.name, mesh=len(document.meshes), skin=0))
        _Surfaces(document, buffer).add(
            part.name,
            split_seams(part.faces, part.uv, part.faces),
            file_normals(part.rest, part.faces) if part.normals is None else part.normals,
            list(morph_normals(part.rest, part.morphs, part.faces)) if turning else None,
            part,
            shared[part.material.name],
        )
    document.skins = [_skin(rig, buffer, first_node=1)]
    return document, buffer


def _drawn(mesh: TexturedMesh, rig: Rig) -> tuple[TexturedMesh, Rig]:
    """The head as it is drawn: round, and without the triangles that parts replace (no other touches those)."""
    drawn = np.arange(len(mesh.faces)) if rig.skin_faces is None else rig.skin_faces
    if rig.round is not None:
        mesh = rounded_mesh(mesh, rig.round)
        drawn = np.flatnonzero(np.isin(rig.round.origin, drawn))
        rig = replace(
            rig,
            rest=rig.round.places(rig.rest),
            skinning_weights=rig.round.along_edges(rig.skinning_weights),
            morphs=np.array([rig.round.places(morph) for morph in rig.morphs], np.float32).reshape(
                len(rig.morphs), -1, 3
            ),
        )
    return replace(mesh, faces=mesh.faces[drawn], uv_faces=mesh.uv_faces[drawn]), rig


@dataclass(frozen=True)
class _Surfaces:
    """Meshes of a document."""

    document: gltf.GLTF2
    buffer: GlbBuffer

    def add(
        self,
        name: str,
        split: SeamSplit,
        normals: np.ndarray,
        turns: list[np.ndarray] | None,
        of: Rig | RigPart,
        material: int = 0,
    ) -> None:
        """Append a mesh. normals: [V, 3] at rest.  turns: [V, 3] of each morph, what it adds; None: left out."""
        joints, weights = largest_influences(of.skinning_weights)
        # glTF measures v downwards, from the first row of the image.
        texture_coordinates = np.stack([split.uv[:, 0], 1 - split.uv[:, 1]], axis=1)
        buffer = self.buffer
        attributes = gltf.Attributes(
            POSITION=buffer.vertices(of.rest[split.source], gltf.VEC3, bounds=True),
            NORMAL=buffer.vertices(normals[split.source], gltf.VEC3),
            TEXCOORD_0=buffer.vertices(texture_coordinates, gltf.VEC2),
            JOINTS_0=buffer.joints(joints[split.source]),
            WEIGHTS_0=buffer.vertices(weights[split.source], gltf.VEC4),
        )
        if isinstance(of, RigPart) and of.shade is not None:
            attributes.COLOR_0 = buffer.greys(of.shade[split.source])
        primitive = gltf.Primitive(attributes=attributes, indices=buffer.triangles(split.faces), material=material)
        targets = []
        for number, morph in enumerate(of.morphs):
            target = {"POSITION": buffer.displacements(morph[split.source])}
            if turns is not None:
                target["NORMAL"] = buffer.displacements(turns[number][split.source], NEGLIGIBLE_TURN)
            targets.append(target)
        primitive.targets = targets or None
        mesh = gltf.Mesh(name=name, primitives=[primitive])
        if of.morph_names:
            mesh.weights = [float(weight) for weight in of.morph_weights]
            mesh.extras = {"targetNames": list(of.morph_names)}
        self.document.meshes.append(mesh)


def finished_bytes(document: gltf.GLTF2, buffer: GlbBuffer) -> bytes:
    """The file."""
    document.accessors, document.bufferViews = buffer.accessors, buffer.views
    document.buffers = [gltf.Buffer(byteLength=len(buffer.data))]
    document.set_binary_blob(bytes(buffer.data))
    return b"".join(document.save_to_bytes())


def _skeleton(rig: Rig, first_node: int) -> list[gltf.Node]:
    nodes = []
    for joint, parent in enumerate(rig.joint_parents):
        origin = np.zeros(3) if parent < 0 else rig.joints[parent].astype(np.float64)
        offset = rig.joints[joint].astype(np.float64) - origin
        children = [first_node + child for child, other in enumerate(rig.joint_parents) if other == joint]
        node = gltf.Node(
            name=rig.joint_names[joint],
            translation=[float(x) for x in offset],
            rotation=quaternion(rig.rotations[joint]),
        )
        if children:
            node.children = children
        nodes.append(node)
    return nodes


def _skin(rig: Rig, buffer: GlbBuffer, first_node: int) -> gltf.Skin:
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(rig.joints), 1, 1))
    inverse_bind[:, :3, 3] = -rig.joints
    # glTF stores matrices column by column.
    columns = np.ascontiguousarray(inverse_bind.transpose(0, 2, 1)).reshape(len(rig.joints), 16)
    accessor = buffer.accessor(columns, gltf.MAT4, gltf.FLOAT, target=None)
    return gltf.Skin(
        name="head",
        inverseBindMatrices=accessor,
        joints=[first_node + joint for joint in range(len(rig.joints))],
        skeleton=first_node,
    )


def _material(
    document: gltf.GLTF2, buffer: GlbBuffer, material: PartMaterial, image: str, textures: TextureFormat
) -> gltf.Material:
    texture = add_texture(document, buffer.append, material.texture, image, textures)
    holes = material.texture.shape[2] == 4
    return gltf.Material(
        name=material.name,
        alphaMode=gltf.MASK if holes else gltf.OPAQUE,
        alphaCutoff=0.5 if holes else None,
        doubleSided=holes or None,
        pbrMetallicRoughness=gltf.PbrMetallicRoughness(
            baseColorTexture=gltf.TextureInfo(index=texture),
            metallicFactor=0.0,
            roughnessFactor=material.roughness,
        ),
    )


class GlbBuffer:
    """The binary chunk and its accessors, grown piece by piece; every piece starts at a multiple of four bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[gltf.BufferView] = []
        self.accessors: list[gltf.Accessor] = []

    def append(self, data: bytes, target: int | None = None) -> int:
        self.data.extend(bytes(-len(self.data) % 4))
        self.views.append(gltf.BufferView(buffer=0, byteOffset=len(self.data), byteLength=len(data), target=target))
        self.data.extend(data)
        return len(self.views) - 1

    def accessor(self, values: np.ndarray, kind: str, component: int, target: int | None, **facts: Any) -> int:
        view = self.append(np.ascontiguousarray(values).tobytes(), target)
        count = values.size if kind == gltf.SCALAR else len(values)
        self.accessors.append(gltf.Accessor(bufferView=view, componentType=component, count=count, type=kind, **facts))
        return len(self.accessors) - 1

    def vertices(self, values: np.ndarray, kind: str, bounds: bool = False) -> int:
        values = values.astype(np.float32)
        facts = _bounds(values) if bounds else {}
        return self.accessor(values, kind, gltf.FLOAT, gltf.ARRAY_BUFFER, **facts)

    def greys(self, values: np.ndarray) -> int:
        """Vertex colours, which multiply the texture: [N] in [0, 1], linear light."""
        grey = np.rint(values * 255).astype(np.uint8)
        colour = np.column_stack([grey, grey, grey, np.full_like(grey, 255)])
        return self.accessor(colour, gltf.VEC4, gltf.UNSIGNED_BYTE, gltf.ARRAY_BUFFER, normalized=True)

    def joints(self, values: np.ndarray) -> int:
        return self.accessor(values.astype(np.uint8), gltf.VEC4, gltf.UNSIGNED_BYTE, gltf.ARRAY_BUFFER)

    def triangles(self, faces: np.ndarray) -> int:
        values, component = _indices(faces.reshape(-1))
        return self.accessor(values, gltf.SCALAR, component, gltf.ELEMENT_ARRAY_BUFFER)

    def displacements(self, values: np.ndarray, negligible: float = NEGLIGIBLE) -> int:
        """A morph target [N, 3]: sparse (moved vertices alone) where that is smaller."""
        values = values.astype(np.float32)
        moved = np.flatnonzero(np.abs(values).max(axis=1) > negligible)
        indices, component = _indices(moved)
        if len(moved) * (indices.itemsize + 12) >= values.nbytes:
            return self.accessor(values, gltf.VEC3, gltf.FLOAT, gltf.ARRAY_BUFFER, **_bounds(values))
        kept = np.zeros_like(values)
        kept[moved] = values[moved]
        accessor = gltf.Accessor(
            byteOffset=None, componentType=gltf.FLOAT, count=len(values), type=gltf.VEC3, **_bounds(kept)
        )
        if len(moved):
            accessor.sparse = gltf.Sparse(
                count=len(moved),
                indices=gltf.AccessorSparseIndices(bufferView=self.append(indices.tobytes()), componentType=component),
                values=gltf.AccessorSparseValues(bufferView=self.append(values[moved].tobytes())),
            )
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _indices(values: np.ndarray) -> tuple[np.ndarray, int]:
    if values.size and values.max() >= 65535:
        return values.astype(np.uint32), gltf.UNSIGNED_INT
    return values.astype(np.uint16), gltf.UNSIGNED_SHORT


def _bounds(values: np.ndarray) -> dict[str, list[float]]:
    return {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
