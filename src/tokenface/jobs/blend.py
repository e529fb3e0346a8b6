"""`tokenface blend`: heads between two people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tokenface.core.files import separate_folder
from tokenface.errors import ConfigError
from tokenface.formats.glb_textures import TextureFormat
from tokenface.formats.parameters import write_parameters
from tokenface.inference.blending import Shown, blend, check_same_head
from tokenface.inference.face import Face
from tokenface.inference.face_document import photo_document
from tokenface.jobs.reconstruct import known_formats
from tokenface.model import Reconstructor
from tokenface.retarget.performance import largest_face
from tokenface.retarget.sources import Photo, read_source


@dataclass(frozen=True)
class BlendOptions:
    """shares: of the second person, one head each.  expression: whose.  formats: of `face.SAVED`.
    neutral: relaxed.  texture: both photos mixed, or the model's predicted albedo.
    texture_format: of the pictures in a GLB."""

    shares: tuple[float, ...] = (0.5,)
    expression: Shown = "first"
    formats: tuple[str, ...] = ("glb", "json")
    neutral: bool = False
    texture: Literal["photo", "model"] = "photo"
    texture_format: TextureFormat = "png"


def blend_files(
    first: Path, second: Path, output: Path, options: BlendOptions, load: Callable[[], Reconstructor]
) -> list[Path]:
    """Do the work; returns the files: OUTPUT/blend_<share>.<format> and parameters.json.

    Args:
        first, second: photos, whose largest face counts, or parameters.json of photos that were reconstructed before.
        load: gives the network, if a photo wants it.
    Raises:
        TokenFaceError: nobody on a photo, different head models, an impossible share, a file that cannot be written.
    """
    formats = known_formats(options.formats)
    if not options.shares:
        raise ConfigError("no share given; say how much of the second person, for example 0.5")
    stored_before = [path for path in (first, second) if path.suffix.lower() == ".json"]
    folder = separate_folder(output, stored_before)
    model: Reconstructor | None = None
    people: list[Face] = []
    for path in (first, second):
        if path.suffix.lower() == ".json":
            stored = read_source(path)
            assert isinstance(stored, Photo)  # what a .json is, or an error
            people.append(stored.faces[0])
        else:
            model = model or load()
            people.append(largest_face(model, path)[0])
    check_same_head(*people)
    heads = [blend(people[0], people[1], share, options.expression) for share in options.shares]
    files = [
        head.save(
            folder / f"blend_{head.share:g}.{suffix}",
            options.neutral,
            options.texture,
            texture_format=options.texture_format,
        )
        for head in heads
        for suffix in formats
        if suffix != "json"
    ]
    if "json" in formats:
        faces: list[Face] = [replace(head, index=number) for number, head in enumerate(heads)]
        files.append(write_parameters(folder / "parameters.json", photo_document(faces, heads[0].item.name)))
    return files
