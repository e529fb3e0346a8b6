"""Reconstructed face: prediction, mesh, camera in the photo, and its export."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tokenface.errors import ImageError, OutputError
from tokenface.formats.axes import HEAD_SPACE, Axes
from tokenface.formats.glb import write_glb
from tokenface.formats.glb_textures import TextureFormat, check_texture_format
from tokenface.formats.mesh import TexturedMesh, file_normals, rounded_mesh, split_seams
from tokenface.formats.obj import write_obj
from tokenface.formats.parameters import plain, write_parameters
from tokenface.formats.ply import write_ply
from tokenface.formats.rig import Rig, RigPart
from tokenface.formats.stl import PRINTING, write_stl
from tokenface.formats.vrm import write_vrm
from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.images.loading import ImageItem
from tokenface.inference.appearance import albedo_image, face_rig
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.expressions import arkit_weights, joint_drive
from tokenface.inference.face_document import Origin, camera_entry, face_entry, face_fields, photo_document
from tokenface.inference.refinement import Refinement
from tokenface.inference.round_head import round_head
from tokenface.moved import former_attribute
from tokenface.parameters import FaceParameters

if TYPE_CHECKING:
    import trimesh
    from PIL import Image

    from tokenface.head.model import HeadModel
    from tokenface.inference.maps import FaceMaps

FORMATS = ("glb", "obj", "ply", "json")
"""What `tokenface reconstruct` writes unless told otherwise."""
SAVED = (*FORMATS, "stl", "vrm")
"""What `Face.save` writes, by suffix."""
Skin = np.ndarray | Literal["photo", "model"]
"""Texture of a written mesh: see `Face.save`."""
Iris = np.ndarray | Literal["photo"] | None
"""Colour of the irises of a written head: see `Face.save`."""

logger = logging.getLogger("tokenface")


@dataclass(frozen=True, eq=False)
class Face:
    """A face of a photo. Lengths in metres, head space (`docs/conventions.md`); points on the photo in pixels.

    parameters: the six components; every tensor [size], float32 on the CPU.
    camera: projects head space to the photo.  box: [4] x0, y0, x1, y1, photo pixels.
    confidence: in [0, 1]: probability that the 68 points are right, calibrated with the weights (`ConfidenceFeatures`).
    head: the head model (`HeadArrays` where torch is not at work).  item: the photo that the face was found in.
    observed468: [468, 3] the face mesh's own points on the photo, pixels, which a refinement follows; None without.
    refined: what a refinement did to it; None: it is as the network gave it.
    """

    parameters: FaceParameters
    camera: FaceCamera
    box: np.ndarray
    confidence_features: ConfidenceFeatures
    head: HeadModel = field(repr=False)
    item: ImageItem = field(repr=False)
    origin: Origin = field(repr=False)
    index: int = 0
    observed468: np.ndarray | None = field(default=None, repr=False)
    refined: Refinement | None = None

    @property
    def size(self) -> float:
        """Head size relative to the head model's own; lengths here and in files have it, `parameters` do not."""
        return 1.0 if self.refined is None else self.refined.size

    @property
    def confidence(self) -> float:
        return self.confidence_features.confidence

    evidence = former_attribute("evidence", "confidence_features")

    @property
    def expected_errors(self) -> dict[str, float]:
        """Component → mean error of faces with such features (`ConfidenceFeatures` has units); empty if
        uncalibrated."""
        return self.confidence_features.expected_errors

    @property
    def crop(self) -> Crop:
        """The square of the photo that the network saw."""
        return self.camera.crop

    @cached_property
    def vertices(self) -> np.ndarray:
        """[V, 3] float32, metres: with expression and jaw, in head space (not turned by the camera)."""
        return self._vertices(neutral=False)

    @cached_property
    def neutral_vertices(self) -> np.ndarray:
        """[V, 3] float32, metres: the same person with a relaxed face."""
        return self._vertices(neutral=True)

    @property
    def faces(self) -> np.ndarray:
        """[F, 3] triangles of `vertices`, counter-clockwise seen from outside."""
        return self.head.data.faces

    @cached_property
    def landmarks(self) -> np.ndarray:
        """[68, 2] iBUG landmarks in photo pixels; the jaw line as annotators see it at this yaw."""
        return self.camera.project(self.landmarks3d)

    @cached_property
    def landmarks3d(self) -> np.ndarray:
        """[68, 3] the same points on the head, metres."""
        return self.head.points68(self.vertices, self.camera.angles[0])

    @cached_property
    def landmarks468(self) -> np.ndarray | None:
        """[468, 2] face-mesh points in photo pixels, NaN where the head model has none; None without any."""
        points = self.head.points468(self.vertices)
        return None if points is None else self.camera.project(points)

    @cached_property
    def albedo(self) -> np.ndarray:
        """[R, R, 3] uint8 sRGB: the skin without light, over the head model's texture coordinates."""
        return albedo_image(self.head.data, np.asarray(self.parameters.texture))

    @property
    def expressions(self) -> dict[str, float]:
        """Weights of the head model's expressions, by name."""
        return {
            name: float(weight)
            for name, weight in zip(self.head.expression_names, self.parameters.expression, strict=True)
        }

    @property
    def arkit(self) -> dict[str, float] | None:
        """The 52 ARKit coefficients in [0, 1]; None where the head model has other expressions (FLAME)."""
        return arkit_weights(self.head, self.parameters)

    @property
    def mesh(self) -> trimesh.Trimesh:
        """A `trimesh.Trimesh` with the albedo as texture; vertices are doubled on texture seams."""
        return self.trimesh()

    def trimesh(self, neutral: bool = False) -> trimesh.Trimesh:
        """`mesh`, or the same person with a relaxed face."""
        import trimesh
        from PIL import Image

        data = self.head.data
        split = split_seams(data.faces, data.uv, data.uv_faces)
        vertices = self.neutral_vertices if neutral else self.vertices
        material = trimesh.visual.material.PBRMaterial(
            baseColorTexture=Image.fromarray(self.albedo), metallicFactor=0.0, roughnessFactor=0.6, doubleSided=True
        )
        return trimesh.Trimesh(
            vertices[split.source],
            split.faces,
            vertex_normals=file_normals(vertices, data.faces)[split.source],
            visual=trimesh.visual.TextureVisuals(uv=split.uv, material=material),
            process=False,
        )

    def photo_texture(self, photo: np.ndarray | None = None, *, delight: bool = False) -> np.ndarray:
        """[R, R, 3] uint8 sRGB for `save`: the skin as the photo shows it, filled to match where it does not.

        Args:
            photo: [H, W, 3] uint8; None loads it again from where it came.
            delight: without the light on the face.
        Raises:
            ImageError: the photo is gone.
        """
        from tokenface.inference.photo_texture import photo_texture

        return photo_texture(self, self.item.load() if photo is None else photo, delight=delight)

    @cached_property
    def _own_skin(self) -> np.ndarray:
        """`photo_texture`, or the albedo where the photo cannot be read any more, or a package is not installed."""
        if not can_draw():
            logger.warning("the skin as the photo shows it needs numba and scipy; the skin is the predicted albedo")
            return self.albedo
        try:
            return self.photo_texture(self._own_photo())
        except ImageError as error:
            logger.warning("%s; the skin is the predicted albedo", error)
            return self.albedo

    def _iris(self, wanted: Iris) -> np.ndarray | None:
        return self._own_iris if isinstance(wanted, str) else wanted

    @cached_property
    def _own_iris(self) -> np.ndarray | None:
        """`iris_colour`; None where the photo does not show it or cannot be read any more."""
        if not can_draw():
            return None
        try:
            return self.iris_colour(self._own_photo())
        except ImageError:
            return None

    def _own_photo(self) -> np.ndarray:
        """[H, W, 3] uint8. Raises ImageError: it is gone, or another one of that name stands in its place."""
        photo = self.item.load()
        if photo.shape[:2] != self.camera.photo_size:
            raise ImageError(f"'{self.item.name}' is not the photo that the face was found in")
        return photo

    def textured_mesh(self, neutral: bool = False, texture: np.ndarray | None = None) -> TexturedMesh:
        """The mesh as the file writers take it: vertices in the head model's order, seams in the coordinates.

        Args:
            texture: [R, R, 3] uint8 sRGB instead of the predicted albedo.
        """
        data = self.head.data
        vertices = self.neutral_vertices if neutral else self.vertices
        normals = file_normals(vertices, data.faces)
        return TexturedMesh(
            vertices,
            data.faces,
            data.uv,
            data.uv_faces,
            normals,
            self.albedo if texture is None else texture,
            facts=self._facts(),
        )

    def riggable_mesh(self, neutral: bool = False, texture: np.ndarray | None = None) -> TexturedMesh:
        """`textured_mesh` that also says what turns its joints. texture: [R, R, 3] uint8; None: the albedo."""
        mesh = self.textured_mesh(neutral, texture)
        facts = {**mesh.facts, "joint_drive": joint_drive(self.head), "units": "metres"}
        if self.refined is not None:
            facts["camera"] = plain(camera_entry(self.camera, self.landmarks3d)["opencv"])
        return replace(mesh, facts=facts)

    def rig(
        self, neutral: bool = False, *, parts: bool = True, iris: np.ndarray | None = None, rounded: bool = True
    ) -> Rig:
        """Rest mesh, joints and morph targets, with this face's weights and rotations (zero when neutral).

        Args:
            parts: eyes, teeth and tongue as meshes of their own, as files for animators have them.
            iris: [3] uint8 sRGB (`iris_colour`); None: the predicted albedo's.
            rounded: files made of it have the head's long triangles split, for a round outline.
        """
        rig = face_rig(self.head, self.parameters, neutral, parts=parts, iris=iris, rounded=rounded)
        return rig.resized(self.size)

    def iris_colour(self, photo: np.ndarray | None = None) -> np.ndarray | None:
        """[3] uint8 sRGB of the irises, for `save`; None where the photo does not show it.

        Args:
            photo: [H, W, 3] uint8; None loads it again from where it came.
        Raises:
            ImageError: the photo is gone.
        """
        from tokenface.inference.eye_colour import iris_of_photo

        return iris_of_photo(self, self.item.load() if photo is None else photo)

    def save(
        self,
        path: str | Path,
        neutral: bool = False,
        texture: Skin = "photo",
        iris: Iris = "photo",
        axes: Axes | None = None,
        texture_format: TextureFormat = "png",
        rounded: bool | None = None,
        hair: Sequence[RigPart] = (),
    ) -> Path:
        """Write the face; the suffix chooses the format: .glb (rigged, textured), .vrm (avatar, relaxed), .obj, .ply,
        .stl (for printing) or .json.

        Args:
            neutral: relaxed.
            texture: "photo", the photo that the face was found in (the albedo where it is gone); "model", the predicted
                albedo; or [R, R, 3] uint8 sRGB of one's own (`photo_texture`).
            iris: of .glb and .vrm: "photo", as the photo shows it (`iris_colour`); [3] uint8 sRGB of one's own; None:
                the predicted albedo's.
            axes: unit and up axis of .obj, .ply and .stl; None: metres and y, for .stl millimetres and z.
            texture_format: of the pictures in a .glb: "png", "jpeg", "webp", or "webp+png": both.
            hair: of .glb and .vrm: meshes beside the head's (`tokenface.hair.photo_hair`).
            rounded: a round outline: the head model's long triangles are split, its own vertices come first and stay.
                None: .glb, .vrm and .stl; .obj and .ply keep the head model's vertices.
        Raises:
            OutputError: an unknown suffix or texture format, or a file that cannot be written.
        """
        path, suffix = Path(path).expanduser(), Path(path).suffix.lower()
        check_texture_format(texture_format)
        if suffix == ".json":
            return write_parameters(path, photo_document([self], self.item.name))
        if suffix[1:] not in SAVED:
            raise OutputError(f"cannot save '{path}': suffix '{path.suffix}' is not one of .{', .'.join(SAVED)}")
        if rounded is None:
            rounded = suffix in (".glb", ".vrm", ".stl")
        if suffix == ".stl":  # no colour
            return write_stl(path, self._outlined(self.textured_mesh(neutral), rounded), axes or PRINTING)
        neutral = neutral or suffix == ".vrm"
        skin = self._own_skin if isinstance(texture, str) and texture == "photo" else texture
        mesh = self.riggable_mesh if suffix in (".glb", ".vrm") else self.textured_mesh
        described = mesh(neutral, None if isinstance(skin, str) else skin)
        match suffix:
            case ".glb":
                rig = self.rig(neutral, iris=self._iris(iris), rounded=rounded).with_parts(hair)
                write_glb(path, described, rig, texture_format)
            case ".vrm":
                rig = self.rig(neutral, iris=self._iris(iris), rounded=rounded).with_parts(hair)
                write_vrm(path, described, rig)
            case ".obj":
                write_obj(path, self._outlined(described, rounded), axes or HEAD_SPACE)
            case ".ply":
                write_ply(path, self._outlined(described, rounded), axes or HEAD_SPACE)
        return path

    def _outlined(self, mesh: TexturedMesh, rounded: bool) -> TexturedMesh:
        return rounded_mesh(mesh, round_head(self.head)) if rounded else mesh

    def overlay(self, photo: np.ndarray | None = None) -> Image.Image:
        """Picture for people: photo, mesh over photo, shaded mesh, landmarks.

        Args:
            photo: [H, W, 3] uint8; None loads it again from where it came.
        Raises:
            ImageError: the photo is gone.
        """
        from tokenface.inference.appearance import overlay_picture

        return overlay_picture(self.item.load() if photo is None else photo, [self])

    def maps(self) -> FaceMaps:
        """Depth, normals, texture coordinates, PNCC and part labels on the photo's pixels.

        Raises:
            OutputError: no part of the head lies on the photo.
        """
        from tokenface.inference.maps import face_maps

        return face_maps(self.head.data, self.vertices, self.camera)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and strings: one entry of `parameters.json`."""
        return face_entry(self)

    @staticmethod
    def from_dict(entry: Mapping[str, Any], document: Mapping[str, Any], head: HeadModel) -> Face:
        """A face of a `parameters.json` (see `formats.parameters.read_parameters`).

        Raises:
            TokenFaceError: the document was made with another head model, or lacks something.
        """
        return Face(**face_fields(entry, document, head))

    def _vertices(self, neutral: bool) -> np.ndarray:
        return self.head.posed(self.parameters, neutral) * np.float32(self.size)

    def _facts(self) -> dict[str, object]:
        return {
            "made_by": "TokenFace",
            "head_model": self.head.name,
            "head_licence": self.head.data.licence,
            "weights": self.origin.weights,
            "confidence": round(self.confidence, 4),
            **({} if self.refined is None else {"refined": True, "size": round(self.size, 5)}),
        }


def can_draw() -> bool:
    """Whether the packages that draw heads and fill textures are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("numba", "scipy"))
