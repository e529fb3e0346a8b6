"""`tokenface light`: photos to heads without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def light(
    sources: Annotated[list[str], typer.Argument(help="Photos, folders, addresses.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("out"),
    formats: Annotated[
        str, typer.Option("--format", "-f", help="Comma-separated: glb, obj, ply, stl, vrm, json.")
    ] = "glb,json",
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights by name or path.", show_default=False)
    ] = None,
    max_faces: Annotated[
        int | None, typer.Option(min=1, help="Only the largest faces of each photo.", show_default=False)
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Folders with everything below them.")] = False,
) -> int:
    """Reconstruct photos with onnxruntime and NumPy; torch need not be installed.

    Writes OUTPUT/<photo>/face_00.glb, … and parameters.json: the faces of `reconstruct` with the predicted skin. Exit
    code: 0 all done, 1 some photos failed or show no face.
    """
    from tokenface.cli.console import SOME_FAILED, SUCCESS, out, print_error
    from tokenface.cli.needs import need_one_of, need_photo, words
    from tokenface.inference.face import SAVED

    chosen = words(formats)
    for name in chosen:
        need_one_of("--format", name, SAVED)
    need_photo(*sources)

    from tokenface.core.threads import given_threads
    from tokenface.errors import TokenFaceError
    from tokenface.inference.result import PhotoResult
    from tokenface.jobs.output_tree import OutputTree, Settings
    from tokenface.jobs.sources import collected
    from tokenface.light import load

    items, failures = collected(sources, output.expanduser().resolve(), recursive)
    for _, reason in failures:
        print_error(reason)
    failed = len(failures)
    if not items:
        return SOME_FAILED
    tree = OutputTree(output, Settings(tuple(chosen), overlay=False, texture="model"))
    model = load(weights, given_threads())
    for item in items:
        try:
            faces = model.reconstruct(item, max_faces=max_faces)
            if not faces:
                raise TokenFaceError(f"no face found in '{item.name}'")
            tree.write(PhotoResult(item, faces))
            out().print(f"{item.name}: {len(faces)} {'face' if len(faces) == 1 else 'faces'} in {tree.folder(item)}")
        except TokenFaceError as error:
            print_error(str(error))
            failed += 1
    return SOME_FAILED if failed else SUCCESS
