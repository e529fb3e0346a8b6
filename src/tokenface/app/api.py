"""HTTP API: photo in, 3-D heads out; every error is one line of JSON, `{"error": …}`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import resources
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tokenface.app.bundle import everything, face_glb, faces_json
from tokenface.app.limits import Limits
from tokenface.app.metrics import CONTENT_TYPE, Counted, Metrics
from tokenface.app.shares import client_of
from tokenface.app.worker import Busy, TooLate, Worker, answer
from tokenface.errors import TokenFaceError, plain_words
from tokenface.formats.rig import RigPart
from tokenface.hair import photo_hair
from tokenface.inference.face import Face
from tokenface.inference.photo_texture import SERVED, photo_texture, texture_size
from tokenface.inference.result import PhotoResult

Format = Literal["json", "glb", "zip"]
MEDIA: dict[str, Format] = {"application/json": "json", "model/gltf-binary": "glb", "application/zip": "zip"}
"""What the API answers with, by `Accept`."""
MEDIA_TYPE = {form: media for media, form in MEDIA.items()}
PATH = "/v1/reconstruct"


def add_api(app: FastAPI, worker: Worker, limits: Limits, metrics: Metrics) -> None:
    """Put the routes and the handlers of errors on an application."""
    app.include_router(_router(worker, limits, metrics))
    app.router.routes.append(Route(PATH, _WrongMethod()))  # behind the right one, before a page that takes every path
    app.exception_handler(TokenFaceError)(_refusal)
    app.exception_handler(StarletteHTTPException)(_http_error)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(Exception)(_unexpected)
    app.add_middleware(Counted, metrics=metrics, path=PATH)


def _router(worker: Worker, limits: Limits, metrics: Metrics) -> APIRouter:
    router = APIRouter()

    @router.post(
        PATH,
        tags=["faces"],
        summary="Every face of a photo",
        response_class=Response,
        openapi_extra={"requestBody": _BODY},
        responses=_RESPONSES,
    )
    async def reconstruct(
        request: Request,
        format: Literal["json", "glb", "zip"] | None = Query(
            None, description="json: parameters of all faces; glb: one head; zip: all files. Default: as Accept says."
        ),
        face: int = Query(0, ge=0, description="Which face a GLB shows; 0 is the largest."),
        texture: Literal["photo", "model"] = Query(
            "photo", description="Skin of meshes: the photo, hidden parts filled in; or the model's predicted albedo."
        ),
        hair: bool = Query(False, description="GLB files have hair like the photo's, as a mesh of its own."),
        max_faces: int = Query(limits.faces, ge=1, le=limits.faces, description="Only the largest faces."),
    ) -> Response:
        """Finds the faces, reconstructs them and answers with JSON (as `parameters.json`), a rigged and textured GLB,
        or a ZIP of all files."""
        begin = time.monotonic()
        chosen = format or _accepted(request.headers.get("accept", "*/*"))
        name, data = await _photo(request)

        def encoded(result: PhotoResult) -> bytes:
            metrics.photos.labels(result.status).inc()
            metrics.faces.inc(len(result.faces))
            return _encoded(result, name, chosen, face, max_faces, texture, hair)

        future = worker.photo(data, encoded, client_of(request.scope))
        content = await answer(future, begin + limits.seconds - time.monotonic(), request.is_disconnected)
        return Response(content, media_type=MEDIA_TYPE[chosen], headers={"x-content-type-options": "nosniff"})

    @router.get("/healthz", tags=["server"], summary="Whether the server is up, and how busy it is")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "waiting": worker.length}

    @router.get("/readyz", tags=["server"], summary="Whether photos are answered as fast as they will be")
    async def ready() -> Response:
        """For load balancers: 503 while the server warms up, then 200. Photos are taken from the start."""
        return JSONResponse({"status": "ready"}) if worker.warm else JSONResponse({"error": "warming up"}, 503)

    @router.get("/metrics", tags=["server"], summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def figures() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @router.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    async def page() -> str:
        return (resources.files("tokenface.app") / "static" / "api.html").read_text(encoding="utf-8")

    return router


class _WrongMethod:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(405, "send the photo with POST", {"allow": "POST"})


async def _photo(request: Request) -> tuple[str, bytes]:
    """Name and bytes of the multipart field `photo`; the name is only ever written into answers."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise HTTPException(415, "send multipart/form-data with the picture in the field 'photo'")
    async with request.form(max_files=1, max_fields=4, max_part_size=1024) as form:
        photo = form.get("photo")
        if not isinstance(photo, UploadFile):
            raise HTTPException(422, "the form has no file in the field 'photo'")
        name = (photo.filename or "").replace("\\", "/").rpartition("/")[2]
        return "".join(letter for letter in name if letter.isprintable())[:100] or "photo", await photo.read()


def _encoded(
    result: PhotoResult, name: str, form: Format, face: int, max_faces: int, texture: str, hair: bool
) -> bytes:
    if result.error is not None:
        raise result.error
    faces = result.faces[:max_faces]
    if form == "json":
        return faces_json(faces, name)
    image = result.image
    assert image is not None  # a photo with faces has been read

    def skin(one: Face) -> np.ndarray | None:
        return photo_texture(one, image, size=min(texture_size(one), SERVED)) if texture == "photo" else None

    def worn(one: Face) -> Sequence[RigPart]:
        return photo_hair(one, image) if hair else ()

    if form == "zip":
        skins = {one.index: skin(one) for one in faces}
        irises = {one.index: one.iris_colour(image) for one in faces}
        return everything(
            faces,
            image,
            name,
            {i: own for i, own in skins.items() if own is not None},
            irises,
            {one.index: worn(one) for one in faces},
        )
    if face >= len(faces):
        raise TokenFaceError(f"there is no face {face}; the photo has {len(faces)}, counted from 0")
    one = faces[face]
    return face_glb(one, skin(one), iris=one.iris_colour(image), hair=worn(one))


def _accepted(header: str) -> Format:
    """The first of our formats in an Accept header, in the client's order of preference."""
    wishes = []
    for position, part in enumerate(header.split(",")):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        try:
            wishes.append((-float(quality), position, media))
        except ValueError:
            continue
    for negated, _, media in sorted(wishes):
        if negated == 0:
            continue
        if media in MEDIA:
            return MEDIA[media]
        if media in ("*/*", "application/*", ""):
            return "json"
    raise HTTPException(406, f"the API answers with {', '.join(MEDIA)}; ask for one of them with Accept or ?format=")


async def _refusal(request: Request, error: Exception) -> Response:
    if isinstance(error, Busy):
        return JSONResponse({"error": plain_words(error)}, 429, {"retry-after": str(error.retry_after)})
    return JSONResponse({"error": plain_words(error)}, 503 if isinstance(error, TooLate) else 422)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    lines = (f"{'.'.join(str(part) for part in entry['loc'])}: {entry['msg']}" for entry in error.errors())
    return JSONResponse({"error": "; ".join(lines)}, 422)


async def _unexpected(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "something went wrong on the server; its log says what"}, 500)


_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["photo"],
                "properties": {"photo": {"type": "string", "format": "binary", "description": "JPEG, PNG, WebP, …"}},
            }
        }
    },
}
_ERROR = {"content": {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The faces, largest first.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "model/gltf-binary": {"schema": {"type": "string", "format": "binary"}},
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    406: {"description": "None of the formats that Accept names.", **_ERROR},
    408: {"description": "The upload took too long.", **_ERROR},
    413: {"description": "The upload is too large.", **_ERROR},
    415: {"description": "Not multipart/form-data.", **_ERROR},
    422: {"description": "No picture, no face, too many pixels, an impossible parameter.", **_ERROR},
    429: {"description": "The queue is full; Retry-After says when to try again.", **_ERROR},
    503: {"description": "No answer in time.", **_ERROR},
}
