"""Visitors of the page: cookie secret, own folder, sessions that expire when their client is gone."""

from __future__ import annotations

import hashlib
import re
import secrets
import tempfile
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from tokenface.app.folder import WorkFolder

TOKEN_BYTES = 24
SESSIONS = 2000
"""Sessions that are remembered; the ones that were not used longest go first."""
FIRST_WORD = 10.0
"""Seconds in which somebody must listen to what was asked for."""
LAST_WORD = 2.0
"""Seconds after a listener has gone in which another may come."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Visitor:
    """One browser. token: its secret, which is nowhere stored.  name: what its folder is called, made of the secret."""

    def __init__(self, token: str, uploads: Path) -> None:
        self.name = hashlib.sha256(token.encode()).hexdigest()[:40]
        self.folder = uploads / self.name

    def new(self) -> Path:
        """An empty folder of the visitor's own."""
        self.folder.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.folder))

    def owns(self, path: object) -> bool:
        """Whether a path names a regular file in the visitor's folder, directly: no links, no detours."""
        if not isinstance(path, str) or "\0" in path:
            return False
        try:
            resolved = Path(path).resolve(strict=True)
            inside = resolved.is_relative_to(self.folder.resolve(strict=True))
            return inside and str(resolved) == path and resolved.is_file()
        except (OSError, RuntimeError, ValueError):
            return False


@dataclass(eq=False)
class Session:
    """One opened page of a visitor. client: address that the requests come from.  gone: set when nobody listens to
    it any more, which stops its work."""

    visitor: Visitor
    client: str
    gone: threading.Event = field(default_factory=threading.Event)
    listeners: int = 0
    quiet_since: float = field(default_factory=time.monotonic)
    patience: float = FIRST_WORD

    def asked(self) -> None:
        """Something was asked for: somebody has to listen soon."""
        self.gone.clear()
        if self.listeners == 0:
            self.quiet_since, self.patience = time.monotonic(), FIRST_WORD

    def heard(self) -> None:
        """A listener has come."""
        self.listeners += 1

    def left(self) -> None:
        """A listener has gone."""
        self.listeners -= 1
        self.quiet_since, self.patience = time.monotonic(), LAST_WORD

    @property
    def abandoned(self) -> bool:
        """Whether it is time to stop its work."""
        return self.listeners == 0 and time.monotonic() - self.quiet_since > self.patience


class Visitors:
    """Visitors by their secret, sessions by the name that the page gave itself; a session belongs to one visitor."""

    def __init__(self, folder: WorkFolder) -> None:
        self._uploads = folder.uploads.resolve()
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    @staticmethod
    def new_token() -> str:
        return secrets.token_urlsafe(TOKEN_BYTES)

    def visitor(self, token: str | None) -> Visitor | None:
        """The visitor with a secret; None for what is none."""
        return Visitor(token, self._uploads) if token is not None and _TOKEN.fullmatch(token) else None

    def session(self, name: object, visitor: Visitor, client: str) -> Session | None:
        """The visitor's session of that name, new or known; None where it is another visitor's or no name."""
        if not isinstance(name, str) or not _SESSION.fullmatch(name):
            return None
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = Session(visitor, client)
            while len(self._sessions) > SESSIONS:
                self._sessions.popitem(last=False)[1].gone.set()
        self._sessions.move_to_end(name)
        return session if session.visitor.name == visitor.name else None

    def of_client(self, client: str) -> list[str]:
        """Names of the sessions of an address."""
        return [name for name, session in self._sessions.items() if session.client == client]

    def abandoned(self) -> list[str]:
        """Names of sessions that nobody listens to; their work is told to stop."""
        names = [name for name, session in self._sessions.items() if session.abandoned and not session.gone.is_set()]
        for name in names:
            self._sessions[name].gone.set()
        return names
