"""Table of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenface.cli import (
    blend,
    calibrate,
    convert,
    demo,
    doctor,
    evaluate,
    evaluate_people,
    export,
    head,
    light,
    live,
    models,
    prepare,
    reconstruct,
    report,
    serve,
    track,
    train,
    transfer,
)
from tokenface.cli.threads import with_threads

app = typer.Typer(
    help="Photos of people into 3-D heads.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: Rich's costs a quarter of a second
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("reconstruct")(reconstruct.reconstruct)
app.command("light")(light.light)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("track")(track.track)
app.command("live")(live.live)
app.command("transfer")(transfer.transfer)
app.command("blend")(blend.blend)
app.command("convert")(convert.convert)
app.command("serve")(serve.serve)
app.command("prepare")(prepare.prepare)
app.command("train")(train.train)
app.command("ablate")(train.ablate)
app.command("export")(export.export)
app.command("train-temporal")(train.train_temporal)
app.command("calibrate")(calibrate.calibrate)
app.command("report")(report.report)
evaluate.app.command("confidence")(calibrate.confidence)
evaluate.app.command("photos")(evaluate_people.photos)
evaluate.app.command("scans")(evaluate_people.scans)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(models.app, name="models")
app.add_typer(head.app, name="head")


def _print_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Photos of people into 3-D heads."""


@app.command()
def version() -> None:
    """Print the version."""
    from tokenface.version import __version__

    typer.echo(f"tokenface {__version__}")


for _group in (app, evaluate.app, models.app, head.app):
    for _command in _group.registered_commands:
        assert _command.callback is not None
        _command.callback = with_threads(_command.callback)
