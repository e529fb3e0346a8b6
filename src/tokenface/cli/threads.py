"""`--threads`, an option of every command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from tokenface.core.threads import use_threads

Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Processor threads.", show_default="all cores, or $OMP_NUM_THREADS"),
]


def with_threads(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with a further option, which is obeyed before the command imports anything."""

    @functools.wraps(command)
    def run(*arguments: Any, threads: int | None = None, **options: Any) -> Any:
        if threads is not None:
            use_threads(threads)
        return command(*arguments, **options)

    signature = inspect.signature(command, eval_str=True)  # Typer would look its names up in this module
    option = inspect.Parameter("threads", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Threads)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    run.__annotations__ = {name: one.annotation for name, one in run.__signature__.parameters.items()}  # type: ignore[attr-defined]
    return run
