"""Several photos of one person to one head and texture: `tokenface reconstruct --same-person`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenface.errors import ImageError
from tokenface.formats.parameters import write_parameters
from tokenface.images.loading import ImageItem
from tokenface.inference.face import Face
from tokenface.inference.face_document import photo_document
from tokenface.jobs.face_files import write_face, write_overlay
from tokenface.jobs.reconstruct import Run

FOLDER = "person"
VIEWS = 6
"""Photos that the texture is merged from, at most: the best, and those that show most of what it does not."""
TURN = 0.5
"""Radians of yaw between photos that count as different views."""


@dataclass(frozen=True, eq=False)
class Person:
    """folder: of the files.  best: the face whose photo gives expression, light and tone, with everybody's identity.
    photos: that show the person.  failures: (photo, one line) of the others."""

    folder: Path
    best: Face
    photos: int
    failures: list[tuple[str, str]]


def reconstruct_person(run: Run) -> Person:
    """Do the work, with the options of a run that has collected the photos; the largest face of each is the person.

    Writes OUTPUT/person/face_00.glb, .obj, .ply, parameters.json and overlay.png; what lies on a photo (overlay, maps,
    relief) is the best one's.

    Raises:
        ImageError: no photo shows a face.  OutputError: a file cannot be written.
    """
    options, wanted = run.options, run.tree.settings
    faces: list[Face] = []
    images: list[np.ndarray] = []  # of a refinement, which compares with all photos
    failures = list(run.failures)
    for result in run.model.iterate(
        run.items,
        run.boxes_of(run.items),
        batch_size=options.batch_size,
        max_faces=1,
        second_crop=options.second_crop,
        max_pixels=options.max_pixels,
    ):
        if result.error is not None:
            failures.append((result.item.name, str(result.error)))
        elif result.image is not None:
            faces += result.faces
            if options.refine is not None:
                images += [result.image] * len(result.faces)
    if not faces:
        raise ImageError(f"none of the {len(run.items)} photos shows a face; give photos of one person")
    faces = run.model.one_person(faces, *(() if options.refine is None else (images, options.refine)))
    pairs = [(face, face.item.load(options.max_pixels)) for face in chosen_views(faces)]
    best, image = pairs[0]
    with run.tree.renewed(run.root / FOLDER, ImageItem(FOLDER, b"")) as folder:
        write_face(folder, best, image, wanted, pairs[1:])
        if "json" in wanted.formats:
            write_parameters(folder / "parameters.json", photo_document([best], best.item.name))
        if wanted.overlay:
            write_overlay(folder, [best], image)
    return Person(folder, best, len(faces), failures)


def chosen_views(faces: Sequence[Face]) -> list[Face]:
    """At most VIEWS faces, the best first: confident, large and frontal; then one after the other
    the most different in yaw, of like views the larger."""

    def worth(face: Face) -> float:
        return face.confidence * min(1.0, face.crop.size / 400) * np.cos(face.camera.angles[0])

    left = sorted(faces, key=worth, reverse=True)
    chosen = [left.pop(0)]
    while left and len(chosen) < VIEWS:
        yaws = np.array([face.camera.angles[0] for face in chosen])

        def news(face: Face, yaws: np.ndarray = yaws) -> float:
            turned = float(np.abs(yaws - face.camera.angles[0]).min())
            return min(turned / TURN, 2.0) + worth(face)

        chosen.append(left.pop(int(np.argmax([news(face) for face in left]))))
    return chosen
