"""Command-line entry point: error handling and exit codes; heavy imports only inside commands."""

from __future__ import annotations

import os
import signal
import sys
import threading

DEBUG_VARIABLE = "TOKENFACE_DEBUG"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit. Errors that a user can mend are one line; TOKENFACE_DEBUG=1 shows where. SIGTERM,
    which schedulers send, stops it as Ctrl-C does."""
    owner = os.getpid()

    def stop(number: int, frame: object) -> None:
        if os.getpid() == owner:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)  # a process of a pool's, which is ended that way
        os.kill(os.getpid(), number)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    import typer

    from tokenface.cli.app import app
    from tokenface.cli.console import INTERRUPTED, SOME_FAILED, SUCCESS, USAGE, print_error
    from tokenface.errors import TokenFaceError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names that are not UTF-8, and consoles that lack a letter
            stream.reconfigure(errors="replace")
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    try:
        code = app(args=arguments, prog_name="tokenface", standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`tokenface … | head`): nothing to report, and nobody to report to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SUCCESS
    except Exception as error:
        if hasattr(error, "format_message"):  # Typer's, or Click's below older Typers: wrong usage
            print_error(f"{error.format_message().rstrip('.')}; see 'tokenface --help'")
            return USAGE
        if debug:
            raise
        if isinstance(error, TokenFaceError):
            print_error(str(error))
            return SOME_FAILED
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            print_error("this needs torch; run pip install torch (photos without --refine and --hair do without)")
            return SOME_FAILED
        if isinstance(error, OSError) and error.filename is not None:
            print_error(f"'{error.filename}': {error.strerror}")
            return SOME_FAILED
        text = " ".join(str(error).split())[:300]
        print_error(f"unexpected {type(error).__name__}: {text}; set {DEBUG_VARIABLE}=1 to see where, and report it")
        return SOME_FAILED
    if code == INTERRUPTED:  # newer Typers turn Ctrl-C into this code by themselves
        print_error("stopped; run the same command again to go on where it stopped")
    return code if isinstance(code, int) else SUCCESS
