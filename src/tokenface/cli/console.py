"""What the command line prints: results on stdout, troubles in red on stderr."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text


def out() -> Console:
    """Console of stdout, made anew each time (tests replace the stream); no markup, since names may hold brackets."""
    return Console(soft_wrap=True, highlight=False, markup=False)


def err() -> Console:
    """Console of stderr."""
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def print_error(message: str) -> None:
    """One red line on stderr."""
    err().print(Text(f"error: {one_line(message)}", style="red"))


def one_line(message: object) -> str:
    """Any text as a single line."""
    return " ".join(str(message).split())
