"""Limits of size and time on request bodies, enforced while they stream in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """ASGI middleware. sizes: bytes of a request's body by path prefix (the longest match counts).
    seconds: in which the whole body must arrive."""

    def __init__(self, app: ASGIApp, sizes: Mapping[str, int], seconds: float) -> None:
        self.app, self.seconds = app, seconds
        self.sizes = sorted(sizes.items(), key=lambda entry: -len(entry[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        limit = next((size for prefix, size in self.sizes if scope["path"].startswith(prefix)), 0)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > limit:
            response = JSONResponse({"error": _too_large(limit)}, 413, {"connection": "close"})
            await response(scope, receive, send)
            return
        end, arrived, complete = time.monotonic() + self.seconds, 0, False

        async def limited() -> Message:
            nonlocal arrived, complete
            if complete:  # what follows the body is the client's going away, which may take its time
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(end - time.monotonic(), 0.01))
            except TimeoutError:
                raise HTTPException(408, f"the upload took longer than {self.seconds:.0f} s") from None
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "the upload ended before it was complete")
            if message["type"] == "http.request":
                arrived += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if arrived > limit:
                    raise HTTPException(413, _too_large(limit), {"connection": "close"})
            return message

        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, limited, watched)
        except HTTPException as error:  # from a middleware that read the body itself
            if begun:
                raise
            response = JSONResponse({"error": error.detail}, error.status_code, error.headers)
            await response(scope, receive, send)


def _too_large(limit: int) -> str:
    return f"the upload is larger than {limit / (1 << 20):g} MB; make the picture smaller"
