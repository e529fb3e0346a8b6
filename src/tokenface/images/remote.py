"""Remote photos: `https://…/photo.jpg`, `s3://bucket/photo.jpg`, `s3://bucket/folder`.

For the command line and programs. The server never comes here: it takes uploads, and `load_image` opens no address.
"""

from __future__ import annotations

import http.client
import posixpath
import re
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np

from tokenface.errors import ImageError
from tokenface.images.loading import IMAGE_SUFFIXES, MAX_PIXELS, ImageItem, collect_images, load_image

MAX_DOWNLOAD = 256 << 20
"""Bytes of one photo."""
TIMEOUT = 30.0
"""Seconds without an answer."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_address(source: Any) -> bool:
    """Whether a source is text with a scheme, such as https://…"""
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def collect_photos(source: Any, recursive: bool = False) -> list[ImageItem]:
    """`collect_images`, and addresses of photos and of folders of photos, alone or in lists.

    Raises:
        ImageError: as `collect_images`.  ConfigError: an address that needs a package which is missing.
    """
    if is_address(source):
        return _collect(source, recursive)
    if isinstance(source, list | tuple) and any(is_address(part) for part in source):
        return [item for part in source for item in collect_photos(part, recursive)]
    return collect_images(source, recursive)


@dataclass(frozen=True)
class RemoteItem(ImageItem):
    """`source`: the address as messages and files may show it, without keys.  address: the whole of it."""

    address: str = ""

    @property
    def identity(self) -> str:
        """On the web with the query, which may name the picture; in a bucket that says how to get there."""
        web, shown = self.address.lower().startswith(("http://", "https://")), str(self.source)
        query = urlsplit(self.address).query if web else ""
        return f"{shown}?{query}" if query else shown

    def load(self, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        shown = str(self.source)
        return load_image(_fetch(self.address, shown), max_pixels, encoded=f"'{shown}'")


def _collect(address: str, recursive: bool) -> list[ImageItem]:
    web = address.lower().startswith(("http://", "https://"))
    if web or posixpath.splitext(urlsplit(address).path)[1].lower() in IMAGE_SUFFIXES:
        return [_item(address)]
    from tokenface.images.places import Place

    found = Place(address).pictures(recursive)
    folder, query = address.split("?")[0].rstrip("/"), address.partition("?")[2]
    mark = "?" if query else ""
    return [
        RemoteItem(posixpath.splitext(picture.name)[0], *_both(f"{folder}/{picture.name}{mark}{query}"))
        for picture in found
    ]


def _item(address: str) -> RemoteItem:
    stem = posixpath.splitext(unquote(posixpath.basename(str(urlsplit(address).path))))[0]
    return RemoteItem(stem or "photo", *_both(address))


def _both(address: str) -> tuple[str, str]:
    """The address without user, query and fragment, and the whole of it."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")), address


def _fetch(address: str, label: str) -> bytes:
    try:
        if not address.lower().startswith(("http://", "https://")):
            from tokenface.images.places import Place

            address, _, query = address.partition("?")
            folder, _, name = address.rpartition("/")
            return Place(f"{folder}?{query}" if query else folder).read(name)
        with _web().open(_request(address), timeout=TIMEOUT) as answer:
            data = answer.read(MAX_DOWNLOAD + 1)
    except urllib.error.HTTPError as error:
        raise ImageError(f"cannot read '{label}' (HTTP {error.code} {error.reason}).") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split())[:150]
        raise ImageError(f"cannot read '{label}' ({reason}).") from error
    if len(data) > MAX_DOWNLOAD:
        raise ImageError(f"'{label}' has more than {MAX_DOWNLOAD >> 20} MB; make it smaller.")
    return data


def _request(address: str) -> urllib.request.Request:
    """With the user and the password of the address, which another server that we are sent to does not get."""
    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(
        urlunsplit((parts.scheme, host, parts.path, parts.query, "")), headers={"User-Agent": "tokenface"}
    )
    if user:
        request.add_unredirected_header("Authorization", f"Basic {b64encode(unquote(user).encode()).decode()}")
    return request


def _web() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS alone: nothing on the other side may send us to a file or to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        *(urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()),
        *(urllib.request.HTTPRedirectHandler(), urllib.request.HTTPErrorProcessor()),
        *(urllib.request.HTTPDefaultErrorHandler(), urllib.request.UnknownHandler()),
    ):
        opener.add_handler(handler)
    return opener
