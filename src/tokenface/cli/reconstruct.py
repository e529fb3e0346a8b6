"""`tokenface reconstruct`: photos and folders in, one folder of files per photo out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from tokenface.cli.console import counting_bar, one_line, out, print_error

if TYPE_CHECKING:
    from tokenface.jobs.face_files import Texture
    from tokenface.jobs.reconstruct import Run

TABLES = ("parquet", "npz")
OF_FILES = (
    *("neutral", "texture", "texture_format", "hair", "rounded", "delight", "detail", "maps"),
    *("same_person", "units", "up"),
)
"""Options that tables do not know."""
OF_TABLES = ("workers", "per_shard")


class _Fit(NamedTuple):
    """The options of `--refine` as they are typed."""

    focal: str = "exif"
    ipd: float | None = None
    size: str = "model"
    components: str = "all"
    steps: int = 40


FIT = _Fit()


def reconstruct(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(help="Photos, folders of photos, and their addresses (https://…, s3://…).", show_default=False),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", help="Folder for the results; for tables also a URL.")
    ] = "out",
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="Comma-separated: glb, obj, ply, json, or all of these; vrm, stl; or parquet, npz: tables.",
        ),
    ] = "all",
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights by name or path.", show_default=False)
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Faces per network batch.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    runtime: Annotated[str, typer.Option(help="auto: the fastest; torch, onnx or openvino.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16 (torch, openvino), fp16, int8 (onnx, openvino).")] = "fp32",
    ray: Annotated[
        str | None,
        typer.Option(help="Ray cluster that makes tables: host:port, auto, or local.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Tables: processes; none: 1, or all of Ray's CPUs.", show_default=False)
    ] = None,
    per_shard: Annotated[int, typer.Option(min=1, help="Tables: photos in each.")] = 256,
    max_faces: Annotated[
        int | None, typer.Option(min=1, help="Only the largest faces of each photo.", show_default=False)
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(help="JSON {photo: [[x0, y0, x1, y1], …]}: faces that are known.", show_default=False),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Folders with everything below them.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do finished photos again.")] = False,
    overlay: Annotated[bool, typer.Option(help="Write overlay.png for people to look at.")] = True,
    neutral: Annotated[bool, typer.Option("--neutral", help="Also write every head with a relaxed face.")] = False,
    texture: Annotated[
        str, typer.Option(help="Skin of meshes: photo (hidden parts filled in), or model (the predicted albedo).")
    ] = "photo",
    texture_format: Annotated[
        str, typer.Option(help="Pictures in a GLB: png, jpeg, webp, or webp+png (for readers without WebP).")
    ] = "png",
    hair: Annotated[
        bool, typer.Option("--hair", help="GLB, VRM: hair like the photo's, as a mesh of its own.")
    ] = False,
    rounded: Annotated[
        bool | None,
        typer.Option(
            "--rounded/--no-rounded",
            help="Split long triangles for a round outline.",
            show_default="GLB, VRM, STL: yes; OBJ, PLY: no",
        ),
    ] = None,
    delight: Annotated[bool, typer.Option("--delight", help="With --texture photo: take the light out of it.")] = False,
    detail: Annotated[
        bool, typer.Option("--detail", help="Also write normal and displacement maps from the photo's shading.")
    ] = False,
    same_person: Annotated[
        bool, typer.Option("--same-person", help="All photos show one person: one head, one texture, in OUTPUT/person.")
    ] = False,
    maps: Annotated[
        str,
        typer.Option(
            help="Per-pixel maps, comma-separated: depth, normals, uv, pncc, parts, cutout, axes, points68, points468, "
            "npz; or all.",
            show_default=False,
        ),
    ] = "",
    second_crop: Annotated[bool, typer.Option(help="Crop a second time from the network's own landmarks.")] = True,
    refine: Annotated[
        bool, typer.Option("--refine", help="Fit every face to its photo; the options below say how.")
    ] = False,
    focal: Annotated[
        str, typer.Option(help="Focal length: exif, none, 26mm (35-mm equivalent), 3000px. Known: perspective.")
    ] = FIT.focal,
    ipd: Annotated[
        float | None, typer.Option(help="Millimetres between the pupils: the head's true size.", show_default=False)
    ] = FIT.ipd,
    size: Annotated[str, typer.Option(help="model (average adult) or iris (measured on the photo).")] = FIT.size,
    components: Annotated[
        str, typer.Option(help="What may move: some of shape, expression, jaw, camera, texture, light, or all.")
    ] = FIT.components,
    steps: Annotated[
        int, typer.Option(min=0, help="Comparisons with the photo's pixels; 0: points alone.")
    ] = FIT.steps,
    units: Annotated[str | None, typer.Option(help="OBJ, PLY, STL: m, cm or mm.", show_default="m; STL: mm")] = None,
    up: Annotated[str | None, typer.Option(help="OBJ, PLY, STL: y or z.", show_default="y; STL: z")] = None,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse larger photos: width × height.", show_default="120 million")
    ] = 120_000_000,
) -> int:
    """Reconstruct every face of photos and folders.

    Writes OUTPUT/<photo>/face_00.glb, .obj, .ply, parameters.json and overlay.png. Finished photos are skipped when
    the command is run again. With --format parquet or npz, and with --ray, writes tables of faces instead, one for
    every few hundred photos. Exit code: 0 all done, 1 some photos failed or show no face, 2 nothing to do.
    """
    from tokenface.cli.needs import need, need_one_of, need_photo, need_runtime

    # wrong options are said before missing files; the usual ones have nothing to check, and torch can wait
    skin = _texture(texture, delight)
    need_one_of("--texture-format", texture_format, ("png", "jpeg", "webp", "webp+png"))
    asked = _Fit(focal, ipd, size, components, steps)
    fit = _options(refine, asked) if refine or asked != FIT else None
    need_photo(*sources)
    need_runtime(runtime)
    tables = ray is not None or formats.strip().lower() in TABLES
    need(*(("pyarrow",) if tables else ()), *(("ray",) if ray is not None else ()))
    _no_foreign(context, tables)

    from tokenface.jobs.reconstruct import Options, Run

    axes = _axes(units, up)
    wanted_maps = tuple(part.strip().lower() for part in maps.split(",") if part.strip())
    if tables:
        from tokenface.jobs.bulk.shard import BulkOptions

        return _tables(
            sources,
            output,
            BulkOptions(
                form="parquet" if formats == "all" else formats.strip().lower(),
                per_shard=per_shard,
                weights=weights,
                batch_size=batch,
                device=device,
                runtime=runtime,
                precision=precision,
                max_faces=max_faces,
                second_crop=second_crop,
                refine=fit,
                max_pixels=max_pixels,
                overwrite=overwrite,
            ),
            workers,
            ray,
            recursive,
            boxes,
        )
    run = Run(
        sources,
        output,
        Options(
            formats=tuple(part.strip().lower() for part in formats.split(",") if part.strip()),
            weights=weights,
            batch_size=batch,
            device=device,
            runtime=runtime,
            precision=precision,
            max_faces=max_faces,
            boxes=boxes,
            recursive=recursive,
            overwrite=overwrite,
            overlay=overlay,
            neutral=neutral,
            texture=skin,
            detail=detail,
            second_crop=second_crop,
            refine=fit,
            max_pixels=max_pixels,
            maps=wanted_maps,
            axes=axes,
            texture_format=texture_format,  # type: ignore[arg-type]
            hair=hair,
            rounded=rounded,
        ),
    )
    if same_person and run.items:
        return _person(run)
    with counting_bar() as progress:
        task = progress.add_task("reconstructing", total=len(run.todo))
        for _ in run:
            progress.advance(task)
    return report(run)


def _axes(units: str | None, up: str | None):
    """None: each format's usual ones; what is said holds for all of them."""
    from tokenface.formats.axes import chosen_axes

    return None if units is None and up is None else chosen_axes(units or "m", up or "y")


def _no_foreign(context: typer.Context, tables: bool) -> None:
    """Raises ConfigError: an option is typed that would do nothing."""
    from tokenface.cli.needs import typed
    from tokenface.errors import ConfigError

    options = typed(context, OF_FILES if tables else OF_TABLES)
    if options and tables:
        raise ConfigError(f"tables know no {options}; leave it out, or choose files (--format glb, obj, ply, json)")
    if options:
        raise ConfigError(f"{options} is for tables; leave it out, or add --format parquet, npz or --ray")


def _person(run: Run) -> int:
    from tokenface.cli.console import SOME_FAILED, SUCCESS
    from tokenface.jobs.one_person import reconstruct_person

    person = reconstruct_person(run)
    for label, reason in person.failures:
        print_error(reason if label in reason else f"{label}: {reason}")
    photos = "photo" if person.photos == 1 else "photos"
    out().print(f"one head of {person.photos} {photos} → {one_line(person.folder)}")
    return SOME_FAILED if person.failures else SUCCESS


def _texture(texture: str, delight: bool) -> Texture:
    from tokenface.errors import ConfigError

    if texture not in ("photo", "model", "albedo") or (delight and texture != "photo"):  # albedo: model's older name
        got = f"'{texture}'" + (" with --delight" if delight else "")
        raise ConfigError(f"--texture is photo or model, and --delight goes with photo; got {got}")
    return "delit" if delight else "photo" if texture == "photo" else "model"


def _options(refine: bool, asked: _Fit):
    from tokenface.errors import ConfigError
    from tokenface.images.focal import parse_focal
    from tokenface.inference.refinement import RefineOptions
    from tokenface.parameters import COMPONENTS

    chosen = tuple(part.strip().lower() for part in asked.components.split(",") if part.strip())
    options = RefineOptions(
        components=COMPONENTS if "all" in chosen else chosen,
        steps=asked.steps,
        focal=asked.focal.strip().lower(),
        ipd=asked.ipd,
        size=asked.size,
    )
    if options.focal not in ("exif", "none"):
        parse_focal(asked.focal, 1, 1)  # a wrong word is an error before the first photo
    if not refine:
        if options != RefineOptions():
            raise ConfigError("--focal, --ipd, --size, --components and --steps belong to --refine; add it")
        return None
    return options


def _tables(sources, output, options, workers, ray, recursive, boxes) -> int:
    """Photos by the thousand into tables."""
    from rich.table import Table

    from tokenface.cli.console import SOME_FAILED, SUCCESS, USAGE
    from tokenface.jobs.bulk.run import BulkRun

    if len(sources) != 1 or boxes is not None:
        wrong = "--boxes" if boxes is not None else f"{len(sources)} sources"
        print_error(f"tables are made of one folder or URL without boxes, got {wrong}; see 'tokenface reconstruct -h'")
        return USAGE
    run = BulkRun(sources[0], output, options, workers, ray, recursive)
    with counting_bar() as progress:
        task = progress.add_task("reconstructing", total=run.total)
        for shard in run:
            progress.advance(task, shard.photos)
    what = run.report
    for photo, reason in what.failures:
        print_error(reason if photo in reason else f"{photo}: {reason}")
    table = Table(title=None, box=None, pad_edge=False, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for label, count in (
        ("photos", what.photos),
        ("  in tables that were there", what.found_photos),
        ("reconstructed", what.done),
        ("  faces", what.faces),
        ("no face found", what.without_face),
        ("failed", what.failed),
        ("tables", what.shards),
    ):
        if count or label in ("photos", "tables"):
            table.add_row(label, str(count))
    out().print(table)
    out().print(f"tables: {one_line(output)}")
    return SOME_FAILED if what.failed or what.without_face else SUCCESS


def report(run) -> int:
    """Print what became of the photos; returns the exit code."""
    from rich.table import Table

    from tokenface.cli.console import SOME_FAILED, SUCCESS, USAGE

    for label, reason in run.failures:
        print_error(reason if label in reason else f"{label}: {reason}")
    console = out()
    if len(run.items) == 1 and run.done:
        folder, faces = run.done[0]
        console.print(f"{faces} {'face' if faces == 1 else 'faces'} → {folder}")
    elif run.items:
        table = Table(title=None, box=None, pad_edge=False)
        table.add_column("photos")
        table.add_column("", justify="right")
        rows = [
            ("reconstructed", len(run.done)),
            ("  faces", sum(faces for _, faces in run.done)),
            ("done before, skipped", run.skipped),
            ("no face found", run.without_face),
            ("failed", len(run.failures) - run.without_face),
        ]
        for label, count in rows:
            if count or label == "reconstructed":
                table.add_row(label, str(count))
        console.print(table)
        console.print(f"results: {one_line(run.root)}")
    if not run.items:
        return USAGE
    if run.skipped and not run.todo and not run.failures:
        console.print("nothing new; --overwrite does finished photos again")
    return SOME_FAILED if run.failures else SUCCESS
