"""Concurrency limits: requests in flight, in total and per client."""

from __future__ import annotations

from collections import Counter

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class ClientShare:
    """ASGI middleware. total: requests that are answered at a time.  each: of one address."""

    def __init__(self, app: ASGIApp, total: int, each: int) -> None:
        self.app, self.total, self.each = app, total, each
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = client_of(scope)
        if self._running.total() >= self.total:
            await _refusal(503, "the server is busy; try again in a moment")(scope, receive, send)
            return
        if self._running[client] >= self.each:
            text = f"more than {self.each} requests at a time from one address; wait for the answers"
            await _refusal(429, text)(scope, receive, send)
            return
        self._running[client] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._running[client] -= 1
            if not self._running[client]:
                del self._running[client]


def client_of(scope: Scope) -> str:
    """Address that a request comes from, as a trusted proxy tells it; empty where there is none."""
    client = scope.get("client")
    return client[0] if client else ""


def _refusal(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status, {"retry-after": "1"})
