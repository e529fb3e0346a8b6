"""Options of the preparation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tokenface.core.fingerprint import content_hash
from tokenface.errors import HeadModelError
from tokenface.head.registry import head_path


@dataclass(frozen=True)
class QualityFilter:
    """Quality thresholds of training examples; 0 or a large number switches a rule off."""

    smallest_face: float = 48.0  # pixels, mean side of the landmark box
    sharpness: float = (
        6.0  # root mean square of the Laplacian of the face at 112 px, grey levels; noise-free blur has 2
    )
    inside: float = 0.85  # share of the landmarks that lie on the picture
    misfit: float = 0.10  # of the mean head's points to the landmarks, root mean square, in box sides
    presence: float = 0.5  # score of the face mesh that a face is there


@dataclass(frozen=True)
class PrepareOptions:
    """head: head model for pose, visibility and geometry.  flame: the head that FLAME parameters belong to; None: any
    installed one.  size: largest side of stored crops, pixels.  margin: their side over the landmark box's, enough for
    the widest training crop and its turn.  dlib_predictor: file of dlib's 68 points, used in place of the face mesh's.
    masks: folder with a segmentation `<name>.png` for each picture, white is face.  per_shard: items per shard."""

    head: str = "openhead"
    flame: str | None = None
    size: int = 384
    margin: float = 2.4
    jpeg_quality: int = 95
    dlib_predictor: str | None = None
    masks: str | None = None
    per_shard: int = 512
    quality: QualityFilter = field(default_factory=QualityFilter)

    def depends_on(self, flame: str | None) -> dict[str, Any]:
        """Facts for `tokenface.core.fingerprint`: the settings, and the contents of the files that they name.

        Args:
            flame: name of the FLAME that a data set's parameters belong to; None: it has none.
        Raises:
            HeadModelError: no such head model.
        """
        facts: dict[str, Any] = {"settings": self, "head file": content_hash(head_path(self.head))}
        if self.dlib_predictor is not None:
            facts["dlib"] = content_hash(self.dlib_predictor)
        if flame is not None:
            try:
                facts["flame file"] = content_hash(head_path(self.flame or flame))
            except HeadModelError:  # the items will say so
                facts["flame file"] = ""
        return facts
