"""Options and record of a refinement."""

from __future__ import annotations

from dataclasses import InitVar, dataclass

from tokenface.errors import ConfigError
from tokenface.moved import warn_of_former
from tokenface.parameters import COMPONENTS


@dataclass(frozen=True)
class RefineOptions:
    """Options of a refinement; the defaults are what measured best (`docs/refinement.md`).

    components: which of the six may move.
    views: crops of the test-time augmentation (scaled and mirrored) that the shape is averaged over; 1: none.
    points: which 468 points pose and expression follow: "views", the means over the augmented views; "mesh", the face
        mesh's, bias-corrected; "none".
    point_deviation: photo pixels that points given by the caller are right to, one standard deviation: they come before
        both, and the shape follows them too. None: they are as good as the face mesh's.
    steps: of the comparison with the photo's own pixels; 0: none.
    focal: "exif"; "none"; or as a person writes it: 26mm (35-mm equivalent), 3000px. Known, it makes the camera a
        perspective one and solves the distance.
    ipd: distance between the pupils in millimetres, which sets the head's size.
    size: "model" takes the head model's average size; "iris" measures the irises. `ipd` comes before both.
    looks: former name of `views`, as is "looks" for the points.
    """

    components: tuple[str, ...] = COMPONENTS
    views: int = 8
    points: str = "views"
    point_deviation: float | None = None
    steps: int = 40
    focal: str = "exif"
    ipd: float | None = None
    size: str = "model"
    looks: InitVar[int | None] = None

    def __post_init__(self, looks: int | None) -> None:
        if looks is not None:
            warn_of_former("RefineOptions(looks=…)", "views", 4)
            object.__setattr__(self, "views", looks)
        if self.points == "looks":
            warn_of_former("RefineOptions(points=looks)", "views", 4)
            object.__setattr__(self, "points", "views")
        if unknown := sorted(set(self.components) - set(COMPONENTS)):
            raise ConfigError(f"unknown component '{unknown[0]}'; expected some of {', '.join(COMPONENTS)}")
        if not self.components:
            raise ConfigError(f"nothing may be refined; name some of {', '.join(COMPONENTS)}")
        if self.size not in ("model", "iris"):
            raise ConfigError(f"size is 'model' or 'iris', got '{self.size}'")
        if self.points not in ("views", "mesh", "none"):
            raise ConfigError(f"points are 'views', 'mesh' or 'none', got '{self.points}'")
        if self.ipd is not None and not 40 <= self.ipd <= 85:
            raise ConfigError(f"a distance between pupils is 40 to 85 mm, got {self.ipd:g}")
        if self.point_deviation is not None and not self.point_deviation > 0:
            raise ConfigError(f"point_deviation is a positive number of pixels, got {self.point_deviation:g}")
        if not 1 <= self.views <= 8 or self.steps < 0:
            raise ConfigError(f"views are 1 to 8 and steps not negative, got {self.views} and {self.steps}")


@dataclass(frozen=True)
class Change:
    """One figure before and after."""

    before: float
    after: float


@dataclass(frozen=True)
class Refinement:
    """The record of one refined face, as it stands in its files.

    points: mean distance to the visible points that were followed, per cent of the root of their box area; or None.
    photometric: mean absolute difference of rendering and photo over the face's skin, grey levels of 1.
    shape_moved: root mean square of the shape's move, standard deviations of people.
    seconds: processor time, shared evenly among the photos of one person.  photos: how many gave this shape.
    focal: where the focal length comes from; None: orthographic.  distance: metres from the lens to the face, or None.
    size: the head's size over the model's.  size_origin: "model", "ipd" or "iris".
    """

    points: Change | None
    photometric: Change | None
    shape_moved: float
    seconds: float
    photos: int = 1
    focal: str | None = None
    distance: float | None = None
    size: float = 1.0
    size_origin: str = "model"

    @staticmethod
    def from_dict(entry: dict) -> Refinement:
        """Of a `parameters.json`."""
        changes = {name: Change(**entry[name]) if entry[name] else None for name in ("points", "photometric")}
        return Refinement(**{**entry, **changes})
