"""Result of one photo: faces, or the error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tokenface.errors import ImageError, TokenFaceError
from tokenface.images.loading import ImageItem
from tokenface.inference.face import Face


@dataclass
class PhotoResult:
    """Result of one photo.

    status: "done"; "no_face" when nobody was found; "failed".  error: why, unless done; one line.
    image: [H, W, 3] uint8, None when the photo could not be read.  size: its height and width, (0, 0) without one;
    it stays when the image is given up.
    """

    item: ImageItem
    faces: list[Face] = field(default_factory=list)
    image: np.ndarray | None = field(default=None, repr=False)
    error: TokenFaceError | None = None
    size: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.size = (0, 0) if self.image is None else (self.image.shape[0], self.image.shape[1])

    @property
    def status(self) -> Literal["done", "no_face", "failed"]:
        if self.error is None:
            return "done"
        return "no_face" if isinstance(self.error, NoFaceError) else "failed"


class NoFaceError(ImageError):
    """A picture in which no face was found."""
