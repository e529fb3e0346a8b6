"""Photos of a command's sources: each once, without those that an earlier run wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenface.errors import ConfigError, ImageError
from tokenface.images.loading import ImageItem
from tokenface.images.remote import collect_photos, is_address


def collected(
    sources: Sequence[str | Path], output: Path, recursive: bool
) -> tuple[list[ImageItem], list[tuple[str, str]]]:
    """Photos, folders and addresses as pictures to load, and (source, one line) of those that give none.

    Args:
        output: folder of the results, resolved; what lies in it is no photo.
    """
    items: dict[str, ImageItem] = {}
    failures: list[tuple[str, str]] = []
    for source in sources:
        try:
            found = _outside(source, output, collect_photos(source, recursive=recursive))
        except (ImageError, ConfigError) as error:
            failures.append((str(source), str(error)))
            continue
        for item in found:  # a photo that is named twice is one photo
            items.setdefault(item.identity, item)
    return list(items.values()), failures


def _outside(source: str | Path, output: Path, items: list[ImageItem]) -> list[ImageItem]:
    """The items that do not lie in the output folder, where that is a folder inside the source.

    Raises:
        ImageError: none is left.
    """
    if (
        is_address(source)
        or not output.is_relative_to(folder := Path(source).expanduser().resolve())
        or output == folder
    ):
        return items
    kept = [item for item in items if not Path(str(item.source)).expanduser().resolve().is_relative_to(output)]
    if not kept:
        raise ImageError(f"no pictures in folder '{source}' outside of the output folder '{output}'")
    return kept
