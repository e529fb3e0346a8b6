"""Server assembly: API and page in one process, shared workers, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenface.app.folder import WorkFolder, work_folder
from tokenface.app.limits import MEGABYTE, Limits
from tokenface.errors import ConfigError, TokenFaceError
from tokenface.model import Reconstructor
from tokenface.version import __version__

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger("tokenface")

TIDY_EVERY = 60.0
"""Seconds."""
VIDEO_PATIENCE = 900.0
"""Seconds that a clip may wait for the clips before it."""
REQUESTS, CLIENT_REQUESTS = 256, 64
"""That are answered at a time: all, and of one address."""


@dataclass(frozen=True)
class ServerOptions:
    """weights, device, runtime, precision: as `tokenface.load`.  page: the page for people beside the API.
    names: that the server is asked by, besides its own.  proxies: addresses whose X-Forwarded-For is believed."""

    host: str = "127.0.0.1"
    port: int = 7860
    weights: str | None = None
    device: str = "auto"
    runtime: str = "auto"
    precision: str = "fp32"
    page: bool = True
    limits: Limits = field(default_factory=Limits)
    names: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")


def serve(options: ServerOptions, ready: Callable[[str], object] = lambda address: None) -> None:
    """Run until interrupted. ready: told the address once connections are taken.

    Raises:
        ConfigError: a package of the extra `web` is missing, or the address is not free.
        CheckpointError, ModelFileError: as `tokenface.load`.
    """
    try:
        import uvicorn

        from tokenface.app.addresses import own_names
        from tokenface.app.connections import PatientProtocol
    except ImportError as error:
        raise _missing(error) from error
    # The order matters: the folder is gone before the signal is forgotten.
    with _stoppable(), _listening(options.host, options.port) as listener, work_folder() as folder:

        def load() -> Reconstructor:
            return Reconstructor.load(options.weights, options.device, options.runtime, options.precision)

        model = load()
        _ = model.detector  # what cannot be had should be said now, not to the first visitor
        names = own_names(options.host, options.names)
        app = create_app(lambda: model, load, folder, options.limits, options.page, names)
        host, port = listener.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        config = uvicorn.Config(
            app,
            http=PatientProtocol,  # refuses headers beyond 64 kB
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            forwarded_allow_ips=list(options.proxies),
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
        )
        uvicorn.Server(config).run(sockets=[listener])


def create_app(
    model: Callable[[], Reconstructor],
    clip_model: Callable[[], Reconstructor],
    folder: WorkFolder,
    limits: Limits,
    page: bool = True,
    names: frozenset[str] = frozenset({"localhost"}),
) -> FastAPI:
    """The application.

    Args:
        model, clip_model: make the models of the two workers, photos and clips, when they are first needed.
        names: of `own_names`.

    Raises:
        ConfigError: a package of the extra `web` is missing.
    """
    # Read when gradio is imported: its uploads belong into our folder, and nothing is told to anybody. With the first
    # event it asks matplotlib for its backend, which would look for a screen.
    os.environ |= {"GRADIO_TEMP_DIR": str(folder.uploads), "GRADIO_ANALYTICS_ENABLED": "False", "MPLBACKEND": "agg"}
    try:
        from fastapi import FastAPI

        from tokenface.app.addresses import OwnAddress
        from tokenface.app.api import add_api
        from tokenface.app.body_limit import BodyLimit
        from tokenface.app.downloads import download_router
        from tokenface.app.metrics import Metrics
        from tokenface.app.shares import ClientShare
        from tokenface.app.warm_up import warm_up
    except ImportError as error:
        raise _missing(error) from error
    from tokenface.app.photo_sessions import PhotoSessions
    from tokenface.app.visitors import Visitors
    from tokenface.app.worker import Worker

    photo_sessions = PhotoSessions(limits.memory_bytes, limits.keep_seconds)
    worker = Worker(model, limits.queue, limits.seconds, limits.pixels, limits.faces)
    clips = Worker(clip_model, limits.video_queue, VIDEO_PATIENCE, limits.pixels, limits.faces, name="tokenface-clips")
    metrics = Metrics(lambda: worker.length, lambda: len(photo_sessions))
    worker.watch = metrics.batch.observe

    often: list[Callable[[], Awaitable[None]]] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.warm_up(warm_up(lambda: worker.model, limits, page))
        tasks = [
            asyncio.create_task(_tidy(folder, photo_sessions, limits)),
            *map(asyncio.create_task, map(_every_second, often)),
        ]
        yield
        for task in tasks:
            task.cancel()
        for one in (worker, clips):
            await asyncio.to_thread(one.close)

    app = FastAPI(
        title="TokenFace",
        description="Photos of people into 3-D heads.",
        version=__version__,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    add_api(app, worker, limits, metrics)
    if page:
        app.include_router(download_router(worker, photo_sessions, limits))
        try:
            from tokenface.app.page import add_page
            from tokenface.app.uploads import upload_router
        except ImportError as error:
            raise _missing(error) from error
        app.include_router(upload_router(folder, limits))
        often.append(add_page(app, worker, clips, photo_sessions, Visitors(folder), folder, limits))
    sizes = {"/": limits.upload_bytes, "/gradio_api": MEGABYTE, "/gradio_api/upload": limits.video_bytes}
    app.add_middleware(BodyLimit, sizes=sizes, seconds=limits.seconds)
    app.add_middleware(ClientShare, total=REQUESTS, each=CLIENT_REQUESTS)
    app.add_middleware(OwnAddress, names=names)
    return app


async def _every_second(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(1)
        try:
            await work()
        except Exception:
            logger.exception("while looking after the visitors")


async def _tidy(folder: WorkFolder, photo_sessions: object, limits: Limits) -> None:
    while True:
        await asyncio.sleep(TIDY_EVERY)
        photo_sessions.tidy()  # type: ignore[attr-defined]
        await asyncio.to_thread(folder.tidy, limits.keep_seconds, limits.disk_bytes)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block in peace, so that what it holds is cleaned up."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=REQUESTS)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}:{port} ({reason}); choose another --port or --host") from error


def _missing(error: ImportError) -> TokenFaceError:
    return ConfigError(f"'{error.name}' is not installed; the server needs pip install 'tokenface[web]'")
