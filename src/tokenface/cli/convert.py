"""`tokenface convert`: conversion between head models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="parameters.json, parameters.npz, FLAME parameters (.npz), or a mesh (.obj, .ply) of a head model.",
            show_default=False,
        ),
    ],
    to: Annotated[str, typer.Option("--to", help="Head model: flame2020, openhead, ict, or a file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder.")] = Path("out/convert"),
    head: Annotated[
        str | None, typer.Option("--from", help="Head model of the file, where it does not say.", show_default=False)
    ] = None,
    expression: Annotated[
        str, typer.Option(help="names (ARKit's weights as they are), shape (solved), or auto.")
    ] = "auto",
    neutral: Annotated[bool, typer.Option("--neutral", help="The mesh shows a relaxed face.")] = False,
    formats: Annotated[
        str, typer.Option("--format", "-f", help="For photos; comma-separated: json, glb, obj, ply.")
    ] = "json,glb",
) -> int:
    """Convert faces between head models: FLAME, OpenHead, ICT-FaceKit.

    Writes OUTPUT/parameters.json (or .npz), meshes, and conversion.json with what is left in millimetres per region.
    The correspondence of the two head models is found once and kept.
    """
    from tokenface.cli.console import SUCCESS, err, out
    from tokenface.cli.needs import need_one_of, need_photo, words

    need_one_of("--expression", expression, ("auto", "names", "shape"))
    need_photo(source)

    from tokenface.jobs.convert import ConvertOptions, convert_file

    options = ConvertOptions(head, expression, neutral, tuple(words(formats)))  # type: ignore[arg-type]
    with err().status("converting"):  # nothing where stderr is no terminal
        result = convert_file(source, to, output, options)
    console = out()
    for number, converted in enumerate(result.converted):
        region = "face" if "face" in converted.posed_mm or "face" in converted.neutral_mm else "forehead"
        parts = [
            f"{name} {values[region]:.2f} mm"
            for name, values in (("neutral", converted.neutral_mm), ("posed", converted.posed_mm))
            if region in values
        ]
        console.print(f"face {number}: {', '.join(parts)} off on the {region}; scale {converted.place.scale:.3f}")
    console.print(f"{', '.join(path.name for path in result.files)} → {output}")
    return SUCCESS
