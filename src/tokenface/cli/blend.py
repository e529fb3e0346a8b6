"""`tokenface blend`: heads between two people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def blend(
    first: Annotated[Path, typer.Argument(help="Photo, or parameters.json, of one person.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="The same of another.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder.")] = Path("out/blend"),
    share: Annotated[
        str, typer.Option("--share", "--weight", help="Of the second person, 0 to 1; comma-separated: one head each.")
    ] = "0.5",
    expression: Annotated[str, typer.Option(help="Whose expression: first or second.")] = "first",
    neutral: Annotated[bool, typer.Option("--neutral", help="With a relaxed face.")] = False,
    formats: Annotated[
        str, typer.Option("--format", "-f", help="Comma-separated: glb, obj, ply, json, vrm, stl.")
    ] = "glb,json",
    texture: Annotated[str, typer.Option(help="Skin: photo (both, mixed), or model (the predicted albedo).")] = "photo",
    texture_format: Annotated[str, typer.Option(help="Pictures in a GLB: png, jpeg, webp, or webp+png.")] = "png",
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights of the network.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> int:
    """Blend two people into one: shape, albedo and skin between theirs, the expression of one of them.

    Writes OUTPUT/blend_0.5.glb, one for every share, and parameters.json with all of them.
    """
    from tokenface.cli.console import SUCCESS, err, out
    from tokenface.cli.needs import need_one_of, need_photo, words
    from tokenface.errors import ConfigError

    need_one_of("--expression", expression, ("first", "second"))
    need_one_of("--texture", texture, ("photo", "model"))
    need_one_of("--texture-format", texture_format, ("png", "jpeg", "webp", "webp+png"))
    try:
        shares = tuple(float(part) for part in words(share))
    except ValueError:
        raise ConfigError(f"--share is numbers from 0 to 1, comma-separated, got '{share}'") from None
    for path in (first, second):
        need_photo(path)

    from tokenface.jobs.blend import BlendOptions, blend_files
    from tokenface.model import Reconstructor

    options = BlendOptions(shares, expression, tuple(words(formats)), neutral, texture, texture_format)  # type: ignore[arg-type]
    with err().status("blending"):  # nothing where stderr is no terminal
        files = blend_files(first, second, output, options, lambda: Reconstructor.load(weights, device))
    out().print(f"{', '.join(path.name for path in files)} → {output}")
    return SUCCESS
