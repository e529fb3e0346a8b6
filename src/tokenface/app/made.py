"""Where the page's pictures and downloads come from: `/made/<token>/…`, made when somebody asks."""

from __future__ import annotations

import io
from importlib import resources
from typing import Literal

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from PIL import Image

from tokenface.app.limits import Limits
from tokenface.app.shares import client_of
from tokenface.app.visits import Files, Skin, Visit, Visits
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


def made_router(worker: Worker, visits: Visits, limits: Limits) -> APIRouter:
    """The routes; all of them are the page's own business, so the schema does not show them."""
    router = APIRouter(include_in_schema=False)

    def known(token: str) -> Visit:
        visit = visits.get(token)
        if not isinstance(visit, Visit):
            raise HTTPException(404, "this result is gone; reconstruct the photo again")
        return visit

    @router.get("/made/{token}/{index}/{name}")
    async def made(request: Request, token: str, index: int, name: Download, skin: Skin = "model") -> Response:
        visit = known(token)
        if not 0 <= index < len(visit.faces):
            raise HTTPException(404, "there is no such face")
        if name == "partner.glb" and visit.partner is None:
            raise HTTPException(404, "there is nobody to blend with")
        future = worker.call(lambda: _make(visit, index, name, skin), client_of(request.scope))
        content = await answer(future, limits.seconds, request.is_disconnected)
        return Response(content, media_type=KINDS[name.rpartition(".")[2]], headers=NEVER_STORED)

    @router.get("/made/{token}/{name}")
    async def ready(token: str, name: str) -> Response:
        files = visits.get(token)
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


def _make(visit: Visit, index: int, name: Download, skin: Skin) -> bytes:
    match name:
        case "face.glb":
            return visit.glb(index, skin)
        case "found.glb":
            return visit.glb(index, skin, as_found=True)
        case "partner.glb":
            assert visit.partner is not None
            return visit.partner.glb(0, skin, as_found=True)
        case "face-obj.zip":
            return visit.obj(index, skin)
        case "parameters.json":
            return visit.json()
        case "all.zip":
            return visit.everything(skin)
        case "overlay.jpg":
            return jpeg(visit.overlay())


def jpeg(image: np.ndarray) -> bytes:
    """[H, W, 3] uint8 as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()
