"""Terminal output: results on stdout, errors in red on stderr, exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

SUCCESS, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all done; a failure; wrong usage or nothing to do; Ctrl-C or SIGTERM."""


def out() -> Console:
    """Console of stdout, made anew each time (tests replace the stream); no markup, since names may hold brackets."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False, markup=False)


def err() -> Console:
    """Console of stderr."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def counting_bar() -> Progress:
    """Progress of so many of so many on stderr; nothing where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = err()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def print_error(message: str) -> None:
    """One red line on stderr."""
    from rich.text import Text

    err().print(Text(f"error: {one_line(message)}", style="red"))


def one_line(message: object) -> str:
    """Any text as a single line."""
    return " ".join(str(message).split())
