"""Allow-list of gradio's routes and files: a visitor reaches only their own."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from starlette.requests import cookie_parser
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenface.app.plain_errors import PlainErrors
from tokenface.app.visitors import Session, Visitor, Visitors
from tokenface.core.files import parse_json

logger = logging.getLogger(__name__)

COOKIE = "tokenface"
COOKIE_SECONDS = 86_400 * 30
VISITOR, SESSION = "tokenface.visitor", "tokenface.session"
"""Keys of a request's scope."""
OURS = ("/v1/", "/downloads/", "/viewer/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json")
API = "/gradio_api"
OPEN = frozenset(
    {"/", "/config", "/theme.css", f"{API}/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"}
    | {f"{API}/info", f"{API}/app_id", f"{API}/startup-events"}
)
"""What the page is made of, for GET."""
OPEN_FOLDERS = ("/assets/", "/static/")
PENDING = 8
"""Requests of one session that may wait or run at a time."""
CLIENT_PENDING = 24
"""The same for all sessions of an address."""
JSON_BYTES = 1 << 20
SHOWN = {
    **{"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"},
    **{"mp4": "video/mp4", "webm": "video/webm", "mov": "video/quicktime"},
}
"""Files that a browser may show by itself; all others are downloads."""
RELOAD = "this page is from another time or place; reload it"


class Queue(Protocol):
    """gradio's queue, as far as it is needed here."""

    pending_event_ids_session: Mapping[str, set[str]]
    event_ids_to_events: Mapping[str, object]


class PageGate:
    """ASGI middleware in front of the mounted page.

    Args:
        visitors: who they are.
        problem: what is wrong with values for the function of a number; None where all is well.
        queue: gradio's; the number of requests that wait is its business, whose they are is ours.
    """

    def __init__(
        self, app: ASGIApp, visitors: Visitors, problem: Callable[[int, list], str | None], queue: Callable[[], Queue]
    ) -> None:
        self.app, self.visitors, self.problem, self.queue = app, visitors, problem, queue
        self.page = PlainErrors(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(OURS):
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        visitor = self.visitors.visitor(_cookie(scope))
        scope[VISITOR] = visitor
        if method in ("GET", "HEAD") and (path in OPEN or path.startswith(OPEN_FOLDERS)):
            if path == "/" and visitor is None:
                send = _with_cookie(send, self.visitors.new_token(), scope["scheme"] == "https")
            await self.page(scope, receive, send)
            return
        answer: ASGIApp | None = None
        if (method, path) not in WITH_VISITOR and not (method in ("GET", "HEAD") and path.startswith(FOLDERS)):
            answer = _refusal(404, "there is no such page")
        elif visitor is None:
            answer = _refusal(403, RELOAD)
        elif path == f"{API}/upload":
            await self.app(scope, receive, send)  # our own route
        elif path == f"{API}/upload_progress":  # ours tells none; an error would be the browser console's
            answer = Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")
        elif path.startswith(FILE):
            answer = self._file(visitor, path.removeprefix(FILE))
        elif path == f"{API}/queue/join":
            await self._join(visitor, scope, receive, send)
        elif path == f"{API}/cancel":
            await self._cancel(visitor, scope, receive, send)
        else:
            await self._listen(visitor, scope, receive, send)
        if answer is not None:
            await answer(scope, receive, send)

    def _file(self, visitor: Visitor, path: str) -> ASGIApp:
        if not visitor.owns(path):
            return _refusal(403, "this file is not yours, or gone")
        kind = SHOWN.get(path.rpartition(".")[2].lower())
        headers = {"x-content-type-options": "nosniff", "cache-control": "private, no-store"}
        if kind is not None:
            return FileResponse(path, media_type=kind, headers=headers)
        name = path.rpartition("/")[2]
        return FileResponse(path, media_type="application/octet-stream", filename=name, headers=headers)

    async def _join(self, visitor: Visitor, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = self._request(visitor, parse_json(await _body(receive)))
        except PermissionError as error:
            await _refusal(403, str(error))(scope, receive, send)
            return
        except ValueError as error:
            await _refusal(422, f"not a request of the page: {error}")(scope, receive, send)
            return
        session = self._session(visitor, body["session_hash"], scope)
        if session is None:
            await _refusal(403, RELOAD)(scope, receive, send)
            return
        if self._pending([body["session_hash"]]) >= PENDING or (
            self._pending(self.visitors.of_client(session.client)) >= CLIENT_PENDING
        ):
            await _refusal(429, "too many requests at a time; wait for the answers")(scope, receive, send)
            return
        session.asked()
        scope[SESSION] = session
        await self.page(_sized(scope, data := json.dumps(body).encode()), _replay(data, receive), send)

    async def _cancel(self, visitor: Visitor, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            data = await _body(receive)
            body = parse_json(data)
        except ValueError:
            body = None
        if not isinstance(body, dict) or self._session(visitor, body.get("session_hash"), scope) is None:
            await _refusal(403, RELOAD)(scope, receive, send)
            return
        await self.page(scope, _replay(data, receive), send)

    async def _listen(self, visitor: Visitor, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers and signs of life, which go on while the visitor stays."""
        beats = scope["path"].startswith(HEARTBEAT)
        name = scope["path"].removeprefix(HEARTBEAT) if beats else _query(scope).get("session_hash")
        session = self._session(visitor, name, scope)
        if session is None:
            await _refusal(403, RELOAD)(scope, receive, send)
            return
        if beats:
            await self.page(scope, receive, send)
            return
        session.heard()
        ended = True  # nothing is begun yet

        async def sending(message: Message) -> None:
            nonlocal ended
            ended = not message.get("more_body", message["type"] == "http.response.start")
            await send(message)

        try:
            await self.page(scope, receive, sending)
        except Exception as error:  # gradio says in the stream that nobody asked, and raises that once more
            if ended:
                raise
            logger.debug("a page's stream ended: %s", error)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            session.left()

    def _session(self, visitor: Visitor, name: object, scope: Scope) -> Session | None:
        return self.visitors.session(name, visitor, (scope["client"] or ("",))[0])

    def _pending(self, names: list[str]) -> int:
        queue = self.queue()
        told = queue.pending_event_ids_session  # done, but not fetched, are among them
        return sum(number in queue.event_ids_to_events for name in names for number in told.get(name, ()))

    def _request(self, visitor: Visitor, body: Any) -> dict[str, Any]:
        """The fields that the page uses, with files that are the visitor's.

        Raises:
            ValueError: something else.  PermissionError: a file that is not the visitor's.
        """
        if not isinstance(body, dict):
            raise ValueError("expected an object")
        number, data, session = body.get("fn_index"), body.get("data"), body.get("session_hash")
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError("there is no such function")
        if not isinstance(data, list):
            raise ValueError("expected a list of values")
        if (problem := self.problem(number, data)) is not None:
            raise ValueError(problem)
        if not isinstance(session, str):
            raise ValueError("expected the name of a session")
        trigger = body.get("trigger_id")
        return {
            "data": [_own_files(visitor, value) for value in data],
            "fn_index": number,
            "session_hash": session,
            "trigger_id": trigger if isinstance(trigger, int) else None,
        }


FILE, HEARTBEAT = f"{API}/file=", f"{API}/heartbeat/"
FOLDERS = (FILE, HEARTBEAT)
WITH_VISITOR = frozenset(
    {("POST", f"{API}/upload"), ("POST", f"{API}/queue/join"), ("POST", f"{API}/cancel")}
    | {("GET", f"{API}/queue/data"), ("GET", f"{API}/upload_progress")}
)


def _own_files(visitor: Visitor, value: Any) -> Any:
    """A value of a request, with every file reduced to its path, which must be the visitor's."""
    if isinstance(value, list):
        return [_own_files(visitor, part) for part in value]
    if not isinstance(value, dict):
        return value
    if not {"path", "url", "meta"} & value.keys():
        raise ValueError("an object that is no file")
    if not visitor.owns(value.get("path")):
        raise PermissionError("this file is not yours, or gone; upload it again")
    return {"path": value["path"], "meta": {"_type": "gradio.FileData"}}


def _cookie(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"cookie":
            return cookie_parser(value.decode("latin-1")).get(COOKIE)  # takes others' odd cookies on the same host
    return None


def _with_cookie(send: Send, token: str, secure: bool) -> Send:
    text = f"{COOKIE}={token}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"set-cookie", text.encode())]}
        await send(message)

    return sending


def _query(scope: Scope) -> dict[str, str]:
    from starlette.datastructures import QueryParams

    return dict(QueryParams(scope["query_string"]))


async def _body(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > JSON_BYTES:
            raise ValueError("too long")
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(data: bytes, receive: Receive) -> Receive:
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": data, "more_body": False}

    return receiving


def _sized(scope: Scope, data: bytes) -> Scope:
    headers = [entry for entry in scope["headers"] if entry[0] not in (b"content-length", b"content-type")]
    headers += [(b"content-length", str(len(data)).encode()), (b"content-type", b"application/json")]
    return {**scope, "headers": headers}


def _refusal(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text, "detail": text}, status)
