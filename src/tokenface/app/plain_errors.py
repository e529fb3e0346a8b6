"""Uniform JSON errors, `{"error": …}`, for gradio's routes (whose scripts read `detail`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNFORESEEN = "something went wrong on the server; its log says what"
MAX_BYTES = 1 << 16

logger = logging.getLogger("tokenface")


class PlainErrors:
    """ASGI middleware: answers of 400 and more become JSON of one line, and exceptions a 500 that says nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, body, begun = 0, b"", False

        async def sending(message: Message) -> None:
            nonlocal status, body, begun
            if message["type"] == "http.response.start" and message["status"] >= 400:
                status = message["status"]
            elif status and message["type"] == "http.response.body":
                body = (body + message.get("body", b""))[:MAX_BYTES]
            else:
                begun = True
                await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            from starlette.exceptions import HTTPException

            if begun or isinstance(error, HTTPException):
                raise
            logger.error("a request of the page failed", exc_info=error)
            status = 500
        if status:
            text = UNFORESEEN if status >= 500 and status != 503 else _words(body)
            await JSONResponse({"error": text, "detail": text}, status)(scope, receive, send)


def _words(body: bytes) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = body.decode("utf-8", "replace")
    if isinstance(document, Mapping):
        document = document.get("detail") or document.get("error") or "refused"
    return " ".join(str(document).split())[:300] or "refused"
