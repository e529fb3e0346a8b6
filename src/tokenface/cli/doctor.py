"""`tokenface doctor`: what is installed, what is missing, and how to get it."""

from __future__ import annotations


def doctor() -> int:
    """Show what is installed, which models and devices there are, and how to get what is missing.

    Exit code 1 if something is missing that photos need.
    """
    from rich.table import Table
    from rich.text import Text

    from tokenface.cli.console import SOME_FAILED, SUCCESS, out
    from tokenface.cli.diagnosis import MARKS, diagnose

    console, findings = out(), diagnose()
    table = Table(box=None, pad_edge=False, show_header=False)
    colours = {"good": "green", "optional": "yellow", "missing": "red"}
    for finding in findings:
        mark = Text(MARKS[finding.state], style=colours[finding.state])
        table.add_row(mark, finding.topic, finding.text)
        if finding.remedy:  # a line of its own, to be copied
            table.add_row("", "", f"→ {finding.remedy}")
    console.print(table)
    missing = [finding for finding in findings if finding.state == "missing"]
    console.print(
        "ready for photos" if not missing else f"{len(missing)} missing: see the lines marked {MARKS['missing']}"
    )
    return SOME_FAILED if missing else SUCCESS
