"""Warm-up of a starting server: one photo goes the way that a page's photo goes, and its result is thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec

from tokenface.app.downloads import jpeg
from tokenface.app.limits import Limits
from tokenface.app.photo_sessions import PhotoSession
from tokenface.images.loading import EncodedItem
from tokenface.jobs.examples import SHIPPED, example_photos
from tokenface.model import Reconstructor


def warm_up(model: Callable[[], Reconstructor], limits: Limits, page: bool = False) -> Iterator[str]:
    """What requests need is imported, loaded and compiled, piece by piece: the network, files without and with the
    photo's texture, pictures, a file for other programs, hair.

    Args:
        page: what gradio imports at its first event as well.
    Returns:
        Iterator over the names of the steps that are done; they run where it is advanced.
    Raises:
        ImageError: no face was found, or the photo is larger than the limits.  ModelFileError: as `Reconstructor`.
    """
    if page and find_spec("matplotlib") is not None:
        import_module("matplotlib")
        yield "page"
    data = example_photos()[SHIPPED]
    photos = [EncodedItem(SHIPPED, data)]
    result = next(iter(model().iterate(photos, max_faces=limits.faces, max_pixels=limits.pixels)))
    if result.error is not None or result.image is None:
        raise result.error or AssertionError("a photo with faces has been read")
    session = PhotoSession.of(SHIPPED, data, result.faces, result.image)
    yield "photo"
    session.json()
    session.glb(0, "model", as_found=True)
    yield "file"
    session.glb(0, "photo", as_found=True)
    yield "texture"
    jpeg(session.overlay())
    yield "overlay"
    session.glb(0, "photo")
    yield "download"
    session.glb(0, "photo", hair=True, as_found=True)
    yield "hair"
