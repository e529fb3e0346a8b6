"""Limits on idle and half-open connections."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
"""From the first byte of a header, or from the connection, to the header's end."""
EARLY = 64
"""Connections that may be before the end of a header; the one that has been so longest makes room for the next."""
PER_ADDRESS = 96
"""Connections of one address, unless it is a trusted proxy's."""
CONNECTIONS = 512


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with limits of its own for what comes before a request, and refusals in JSON."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS or self._neighbours() > PER_ADDRESS:
            transport.abort()
            return
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._begin()  # the next header has begun
        elif self.conn.their_state is not h11.IDLE:
            self._end()

    def send_400_response(self, msg: str) -> None:
        body = json.dumps({"error": "this is no HTTP/1.1 request that can be understood"}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _begin(self) -> None:
        if self._timer is not None:
            return
        self._timer = self.loop.call_later(HEADER_SECONDS, self._give_up)
        early = _early(self.server_state)
        early[self] = None
        if len(early) > EARLY:
            next(iter(early))._give_up()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _early(self.server_state).pop(self, None)

    def _give_up(self) -> None:
        self._end()
        self.transport.abort()

    def _neighbours(self) -> int:
        address = self.client[0] if self.client else None
        if address is None or _trusted(address, self.config.forwarded_allow_ips or "127.0.0.1"):
            return 0
        others: Any = self.connections
        return sum(other.client is not None and other.client[0] == address for other in others)


def _trusted(address: str, proxies: str | list[str]) -> bool:
    """Whether an address is a proxy's, which are given as addresses, networks or `*`."""
    names = [name.strip() for name in (proxies.split(",") if isinstance(proxies, str) else proxies)]
    if "*" in names or address in names:
        return True
    for name in names:
        with suppress(ValueError):  # a name that is no network
            if ip_address(address) in ip_network(name):
                return True
    return False


def _early(state: Any) -> dict[PatientProtocol, None]:
    """A server's connections before the end of a header, oldest first."""
    found: dict[PatientProtocol, None] = state.__dict__.setdefault("early_connections", {})
    return found
