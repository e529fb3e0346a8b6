"""Photo sessions of the web page: reconstructed photos and their edits, in memory, by an unguessable token."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from tokenface.app.bundle import everything, face_glb, face_obj, faces_json, viewer_glb, zipped
from tokenface.app.editing import Edit, edited
from tokenface.formats.rig import RigPart
from tokenface.hair import Hair
from tokenface.images.loading import load_image
from tokenface.inference.appearance import photo_face
from tokenface.inference.blending import mixed_iris, mixed_skin
from tokenface.inference.face import Face
from tokenface.inference.photo_texture import SERVED, photo_texture
from tokenface.render.overlay import automatic_crop, fit, mesh_over_photo

Skin = Literal["photo", "model"]
TOKEN_BYTES = 16
FACE_BYTES = 4_000_000
"""Memory of a face with its texture, about; hair comes on top where somebody asked for it."""


@dataclass(eq=False)
class PhotoSession:
    """One visitor's photo and its faces.

    data: the encoded photo as it was sent.  small: [h, w, 3] uint8 of at most `overlay.MAX_SIDE` pixels, for pictures.
    pixels: of the photo.  edits: by face.  partner: the photo of somebody to blend with.
    """

    name: str
    data: bytes
    faces: list[Face]
    small: np.ndarray
    pixels: int
    edits: dict[int, Edit] = field(default_factory=dict)
    partner: PhotoSession | None = None
    _textures: dict[int, np.ndarray] = field(default_factory=dict)
    _hairs: dict[int, Hair] = field(default_factory=dict)

    @staticmethod
    def of(name: str, data: bytes, faces: list[Face], image: np.ndarray) -> PhotoSession:
        """image: [H, W, 3], the decoded photo; it is not kept, since it may be large."""
        small, _ = fit(image, [])
        return PhotoSession(name, data, faces, small.copy(), image.shape[0] * image.shape[1])

    @property
    def cost(self) -> int:
        """Bytes of memory, about."""
        own = len(self.data) + self.small.nbytes + FACE_BYTES * len(self.faces)
        for hair in list(self._hairs.values()):  # the worker's thread adds to them
            own += sum(part.texture.nbytes for part in (hair.strands, hair.brows) if part is not None)
        partner = self.partner
        return own + (0 if partner is None else partner.cost)

    def edit(self, index: int, edit: Edit) -> None:
        """Remember the changes to a face; the partner's largest face is who it is blended with."""
        partner = self.partner  # another thread may take it away
        other = None if partner is None else partner.faces[0]
        self.edits[index] = replace(edit, other=other)

    def shown(self, index: int) -> Face:
        """The face with its changes."""
        face = self.faces[index]
        return edited(face, self.edits[index]) if index in self.edits else face

    def glb(self, index: int, skin: Skin, hair: bool = False, as_found: bool = False) -> bytes:
        """as_found: without the changes, for the page's viewer."""
        face = self.faces[index] if as_found else self.shown(index)
        worn = self._worn(face) if hair else ()
        if as_found:
            return viewer_glb(face, self._own_texture(index, skin), worn)
        return face_glb(face, self._texture(index, skin), iris=self._iris(index), hair=worn)

    def obj(self, index: int, skin: Skin) -> bytes:
        """A ZIP: an OBJ is three files."""
        return zipped(face_obj(self.shown(index), self._texture(index, skin)))

    def json(self) -> bytes:
        """All faces, as `parameters.json`."""
        return faces_json(self._all(), self.name)

    def everything(self, skin: Skin, hair: bool = False) -> bytes:
        """A ZIP of all files of all faces."""
        textures = {face.index: self._texture(face.index, skin) for face in self.faces}
        known = {index: texture for index, texture in textures.items() if texture is not None}
        irises = {face.index: self._iris(face.index) for face in self.faces}
        hairs = {face.index: self._worn(face) for face in self._all()} if hair else {}
        return everything(self._all(), self._photo(), self.name, known, irises, hairs)

    def overlay(self) -> np.ndarray:
        """[h, w, 3] uint8: all faces over the photo, or over the part of it where they are."""
        factor = self.small.shape[1] / self.faces[0].camera.photo_size[1]
        heads = [photo_face(face).scaled(factor) for face in self._all()]
        x0, y0, x1, y1 = automatic_crop(self.small, heads) or (0, 0, self.small.shape[1], self.small.shape[0])
        photo = self.small[int(y0) : round(y1), int(x0) : round(x1)]
        return mesh_over_photo(photo, [head.scaled(1.0, (int(x0), int(y0))) for head in heads])

    def _all(self) -> list[Face]:
        return [self.shown(index) for index in range(len(self.faces))]

    def _photo(self) -> np.ndarray:
        return load_image(self.data, self.pixels)

    def _worn(self, face: Face) -> Sequence[RigPart]:
        """The hair that the photo shows, on the face as it is now."""
        if face.index not in self._hairs:
            self._hairs[face.index] = Hair.of(self.faces[face.index], self._photo())
        return self._hairs[face.index].on(face)

    def _iris(self, index: int) -> np.ndarray | None:
        """[3] uint8 sRGB, by the face as it was found: the changed one does not lie on the photo."""
        own, partner = self.faces[index].iris_colour(self._photo()), self.partner
        if partner is None or not (share := self._share(index)):
            return own
        return mixed_iris((self.faces[index], partner.faces[0]), [own, partner._iris(0)], share)

    def _own_texture(self, index: int, skin: Skin) -> np.ndarray | None:
        """[R, R, 3] uint8: the photo on the head's layout; None for the model's albedo."""
        if skin != "photo":
            return None
        if index not in self._textures:
            self._textures[index] = photo_texture(self.faces[index], self._photo(), size=SERVED)
        return self._textures[index]

    def _texture(self, index: int, skin: Skin) -> np.ndarray | None:
        """The same for the face with its changes: blended people have blended photos."""
        texture = self._own_texture(index, skin)
        share, partner = self._share(index), self.partner
        if texture is None or partner is None or share == 0:
            return texture
        other = partner._own_texture(0, skin)
        assert other is not None
        return mixed_skin(texture, other, share)

    def _share(self, index: int) -> float:
        """Of the partner."""
        return self.edits[index].share if index in self.edits else 0.0


@dataclass(frozen=True, eq=False)
class Files:
    """Files that are ready, by name."""

    content: dict[str, bytes]

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return sum(len(data) for data in self.content.values())


class PhotoSessions:
    """Photo sessions and files by token. What was not used for `seconds` goes, and the oldest beyond `limit` bytes."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self._kept: OrderedDict[str, tuple[PhotoSession | Files, float]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, entry: PhotoSession | Files) -> str:
        """Keep a session or files; returns the token."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with self._lock:
            self._kept[token] = entry, time.monotonic()
        self.tidy()
        return token

    def get(self, token: str) -> PhotoSession | Files | None:
        """What the token stands for, or None when it has expired."""
        with self._lock:
            if token not in self._kept:
                return None
            entry, _ = self._kept.pop(token)
            self._kept[token] = entry, time.monotonic()
            return entry

    def forget(self, token: str) -> None:
        with self._lock:
            self._kept.pop(token, None)

    def tidy(self) -> None:
        """Let go of what is too old or too much; the newest one always stays."""
        with self._lock:
            total = sum(entry.cost for entry, _ in self._kept.values())
            for token, (entry, used) in list(self._kept.items())[:-1]:
                if total > self.limit or time.monotonic() - used > self.seconds:
                    total -= entry.cost
                    del self._kept[token]
