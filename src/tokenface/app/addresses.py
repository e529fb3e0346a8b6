"""Host and origin checks: protection from DNS rebinding and cross-site requests."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def own_names(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """Names that a server listening on `host` answers for, besides addresses of digits, which nobody can redirect.

    Args:
        more: names that the user allows, such as a reverse proxy's.
    """
    names = {"localhost", host.lower(), *(name.lower().rstrip(".") for name in more)}
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host.lower() == "localhost"
    return frozenset(names if loopback else names | {socket.gethostname().lower(), socket.getfqdn().lower()})


class OwnAddress:
    """ASGI middleware. names: of `own_names`.

    A page elsewhere can make a browser ask us, either under its own name that it points to us (DNS rebinding), or
    as a foreign origin. Neither gets an answer.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := self._problem(scope)) is not None:
            status, text = problem
            await JSONResponse({"error": text}, status)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        """Status and words of the refusal; None where all is well."""
        if not scope["path"].startswith("/"):
            return 400, "expected a path that starts with /"
        hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or (name := _name(hosts[0])) is None:
            return 400, "expected one Host header"
        if not (_is_address(name) or name in self.names):
            return 403, f"this server does not answer for the name '{name[:100]}'; start it with --allow-host to let it"
        for value in (value for header, value in scope["headers"] if header == b"origin"):
            if not self._is_own(value.decode("latin-1").lower(), hosts[0]):
                return 403, "requests from other pages are refused"
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):  # "null" too
            return False
        # A proxy may ask us by another name than the browser asked it.
        proxied = _is_address(_name(host) or "") and parts.hostname in self.names - {"localhost"}
        return parts.netloc == host or proxied


def _name(host: str) -> str | None:
    """Name or address in a Host header, without the port; None where it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.netloc != host or parts.username is not None or not parts.hostname:
        return None
    return parts.hostname.rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
