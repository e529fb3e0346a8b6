"""Prometheus metrics of a running server."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one server (not of the process: tests start several).

    queue: number of waiting jobs.  sessions: number of photo sessions kept; both are read when metrics are scraped.
    """

    def __init__(self, queue: Callable[[], int], sessions: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tokenface_requests", "Requests of the API by path and status.", ("path", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "tokenface_request_seconds",
            "From a request's arrival to its response.",
            ("path",),
            buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60),
            registry=self.registry,
        )
        self.photos = Counter(
            "tokenface_photos", "Photos by outcome: done, no_face, failed.", ("status",), registry=self.registry
        )
        self.faces = Counter("tokenface_faces", "Faces that were reconstructed.", registry=self.registry)
        self.batch = Histogram(
            "tokenface_batch_photos", "Photos done together.", buckets=(1, 2, 4), registry=self.registry
        )
        Gauge("tokenface_queue_length", "Jobs that wait.", registry=self.registry).set_function(queue)
        kept = "Photo sessions kept for the page."
        Gauge("tokenface_sessions", kept, registry=self.registry).set_function(sessions)
        former = "Former name of tokenface_sessions; goes with the next release."
        Gauge("tokenface_visits", former, registry=self.registry).set_function(sessions)
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class Counted:
    """ASGI middleware that counts and times the requests to one path."""

    def __init__(self, app: ASGIApp, metrics: Metrics, path: str) -> None:
        self.app, self.metrics, self.path = app, metrics, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self.path:
            await self.app(scope, receive, send)
            return
        begin, status = time.monotonic(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            self.metrics.requests.labels(self.path, str(status)).inc()
            self.metrics.seconds.labels(self.path).observe(time.monotonic() - begin)
