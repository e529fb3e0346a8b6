"""Downloads and pictures of the web page, `/downloads/<token>/…`, computed on request."""

from __future__ import annotations

import io
from importlib import resources
from typing import Literal

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from PIL import Image

from tokenface.app.limits import Limits
from tokenface.app.photo_sessions import Files, PhotoSession, PhotoSessions, Skin
from tokenface.app.shares import client_of
from tokenface.app.worker import Worker, answer

SCRIPTS = {"viewer.js": "text/javascript", "head.js": "text/javascript", "glb.js": "text/javascript"}
NEVER_STORED = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
Download = Literal["face.glb", "found.glb", "partner.glb", "face-obj.zip", "parameters.json", "all.zip", "overlay.jpg"]
KINDS: dict[str, str] = {
    "glb": "model/gltf-binary",
    "zip": "application/zip",
    "json": "application/json",
    "jpg": "image/jpeg",
}


def download_router(worker: Worker, photo_sessions: PhotoSessions, limits: Limits) -> APIRouter:
    """The routes; all of them are the page's own business, so the schema does not show them."""
    router = APIRouter(include_in_schema=False)

    def known(token: str) -> PhotoSession:
        photo_session = photo_sessions.get(token)
        if not isinstance(photo_session, PhotoSession):
            raise HTTPException(404, "this result is gone; reconstruct the photo again")
        return photo_session

    @router.get("/downloads/{token}/{index}/{name}")
    async def download(
        request: Request, token: str, index: int, name: Download, skin: Skin = "model", hair: bool = False
    ) -> Response:
        photo_session = known(token)
        if not 0 <= index < len(photo_session.faces):
            raise HTTPException(404, "there is no such face")
        future = worker.call(lambda: _make(photo_session, index, name, skin, hair), client_of(request.scope))
        content = await answer(future, limits.seconds, request.is_disconnected)
        return Response(content, media_type=KINDS[name.rpartition(".")[2]], headers=NEVER_STORED)

    @router.get("/downloads/{token}/{name}")
    async def ready(token: str, name: str) -> Response:
        files = photo_sessions.get(token)
        if not isinstance(files, Files) or name not in files.content:
            raise HTTPException(404, "this file is gone; make it again")
        return Response(files.content[name], media_type=KINDS[name.rpartition(".")[2]], headers=NEVER_STORED)

    @router.get("/viewer/{name}")
    async def script(name: str) -> Response:
        if name not in SCRIPTS:
            raise HTTPException(404, "no such file")
        content = (resources.files("tokenface.app") / "static" / name).read_bytes()
        return Response(content, media_type=SCRIPTS[name], headers={"cache-control": "no-cache"})

    return router


def _make(photo_session: PhotoSession, index: int, name: Download, skin: Skin, hair: bool) -> bytes:
    match name:
        case "face.glb":
            return photo_session.glb(index, skin, hair)
        case "found.glb":
            return photo_session.glb(index, skin, hair, as_found=True)
        case "partner.glb":
            partner = photo_session.partner
            if partner is None:
                raise HTTPException(404, "there is nobody to blend with")
            return partner.glb(0, skin, as_found=True)
        case "face-obj.zip":
            return photo_session.obj(index, skin)
        case "parameters.json":
            return photo_session.json()
        case "all.zip":
            return photo_session.everything(skin, hair)
        case "overlay.jpg":
            return jpeg(photo_session.overlay())


def jpeg(image: np.ndarray) -> bytes:
    """[H, W, 3] uint8 as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()
