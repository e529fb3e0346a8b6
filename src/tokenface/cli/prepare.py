"""`tokenface prepare`: data sets to shards, and inspection of shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tokenface.prepare.run import Preparation


def prepare(
    dataset: Annotated[str, typer.Argument(help="Name of the data set, or 'check' to look at shards, or 'list'.")],
    path: Annotated[
        Path | None, typer.Argument(help="Folder (or tar) of the data set; of the shards.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the shards.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; none: 1, or all of Ray's CPUs.", show_default=False)
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Ray cluster that does the work: host:port, auto, or local.", show_default=False),
    ] = None,
    head: Annotated[str, typer.Option(help="Head model of geometry, pose and visibility.")] = "openhead",
    flame: Annotated[
        str | None, typer.Option(help="FLAME that parameters belong to; none: of their release.", show_default=False)
    ] = None,
    size: Annotated[int, typer.Option(min=64, help="Largest side of stored crops, pixels.")] = 384,
    dlib_predictor: Annotated[
        Path | None, typer.Option(help="dlib's 68-point predictor (.dat) for the landmarks.", show_default=False)
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of face segmentations <picture's name>.png.", show_default=False)
    ] = None,
    per_shard: Annotated[int, typer.Option(min=1, help="Items per shard.")] = 512,
    smallest_face: Annotated[float, typer.Option(min=0, help="Faces below so many pixels are left out.")] = 48.0,
    sharpness: Annotated[float, typer.Option(min=0, help="Faces blurred beyond this are left out; 0 keeps all.")] = 6.0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many items, spread over the data set.", show_default=False)
    ] = None,
    clip_frames: Annotated[
        int | None,
        typer.Option(
            min=3, help="A record for every so many frames of a video; none: 7 from the middle.", show_default=False
        ),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="check: picture to write the contact sheet to.", show_default=False)
    ] = None,
) -> int:
    """Prepare a data set for training: faces, landmarks, visibility, masks, angles, identities, geometry.

    'tokenface prepare list' names the data sets; 'tokenface prepare check SHARDS' says what is in some shards. The same
    command again goes on where it stopped.
    """
    from tokenface.cli.console import USAGE, print_error
    from tokenface.cli.needs import need

    need(*(("ray",) if ray is not None else ()))

    from tokenface.prepare.options import PrepareOptions, QualityFilter
    from tokenface.prepare.run import Preparation

    if dataset == "list":
        return _list()
    if path is None:
        print_error("give the folder of the data set; 'tokenface prepare list' names the data sets")
        return USAGE
    if dataset == "check":
        return _check(path, sheet)
    if output is None:
        print_error("give the folder of the shards with -o")
        return USAGE
    options = PrepareOptions(
        head=head,
        flame=flame,
        size=size,
        dlib_predictor=None if dlib_predictor is None else str(dlib_predictor),
        masks=None if masks is None else str(masks),
        per_shard=per_shard,
        quality=QualityFilter(smallest_face=smallest_face, sharpness=sharpness),
    )
    return _prepare(Preparation(dataset, path, output, options, workers, limit, ray, clip_frames))


def _prepare(run: Preparation) -> int:
    from tokenface.cli.console import SOME_FAILED, SUCCESS, counting_bar, one_line, out, print_error

    with counting_bar() as progress:
        task = progress.add_task(f"preparing {run.reader.name}", total=run.total)
        for count in run:
            progress.advance(task, count)
    report = run.report
    for source, reason in report.failures[:50]:
        print_error(reason if source in reason else f"{source}: {reason}")
    if len(report.failures) > 50:
        print_error(f"… and {len(report.failures) - 50} more; 'tokenface prepare check {run.output}' lists them all")
    rows = [("records", report.done), ("people", len(report.people)), ("shards", report.shards)]
    rows += [("  finished before", report.skipped_shards)] if report.skipped_shards else []
    rows += [(f"left out: {reason}", count) for reason, count in report.rejections.most_common()]
    rows += [("could not be read", len(report.failures))] if report.failures else []
    _table(rows)
    out().print(f"shards: {one_line(run.output)}")
    return SOME_FAILED if report.failures else SUCCESS


def _check(path: Path, sheet: Path | None) -> int:
    from tokenface.cli.console import SOME_FAILED, SUCCESS, counting_bar, one_line, out, print_error
    from tokenface.data.shards.index import find_shards
    from tokenface.prepare.check import UNKNOWN_WORDS, ShardCheck, check_shards, contact_sheet

    total = sum(len(shard.entries) for shard in find_shards(path))
    check = ShardCheck()
    with counting_bar() as progress:
        task = progress.add_task("checking", total=total)
        for check in check_shards(path):  # the same object, ever fuller
            progress.update(task, completed=check.records + len(check.broken))
    for name, reason in [*check.broken, *check.suspicious, *check.failed]:
        print_error(reason if name in reason else f"{name}: {reason}")
    many = max(check.people.values(), default=0)
    rows: list[tuple[str, object]] = [("shards", check.shards), ("records", check.records)]
    rows += [(f"  {kind}", count) for kind, count in check.kinds.most_common()]
    rows += [(f"  from {name} ({check.licences[name]})", count) for name, count in check.datasets.most_common()]
    rows += [
        ("pictures", check.pictures),
        ("  with 468 points", check.meshes),
        ("  with mask", check.masks),
        ("  landmarks visible", f"{100 * check.visible:.1f} %"),
        ("people", len(check.people)),
        ("  with two records or more", check.groups),
        ("  most records of one", many),
    ]
    rows += [("with geometry", check.geometries), ("  neutral", check.neutral)] if check.geometries else []
    rows += [(f"  {UNKNOWN_WORDS[name]}", count) for name, count in check.unknown.most_common()]
    rows += [(f"yaw {degrees}–{degrees + 15}°", check.yaw[degrees]) for degrees in sorted(check.yaw)]
    rows += [(f"left out: {reason}", count) for reason, count in check.rejected.most_common()]
    rows += [("could not be read from the data set", len(check.failed))] if check.failed else []
    rows += [("broken in the shards", len(check.broken))] if check.broken else []
    _table(rows)
    if sheet is not None:
        from PIL import Image

        from tokenface.core.files import make_folder

        sheet = make_folder(sheet.parent) / sheet.name
        Image.fromarray(contact_sheet(check.samples)).save(sheet)
        out().print(f"contact sheet: {one_line(sheet)}")
    return SOME_FAILED if check.broken or check.suspicious else SUCCESS


def _list() -> int:
    from rich.table import Table

    from tokenface.cli.console import SUCCESS, out
    from tokenface.data.readers.registry import DATASETS

    table = Table(box=None, pad_edge=False)
    for column in ("name", "data set", "layout", "licence"):
        table.add_column(column)
    for reader in DATASETS.values():
        table.add_row(reader.name, reader.title, reader.layout, reader.licence)
    out().print(table)
    return SUCCESS


def _table(rows) -> None:
    from rich.table import Table

    from tokenface.cli.console import out

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for label, value in rows:
        table.add_row(str(label), str(value))
    out().print(table)
