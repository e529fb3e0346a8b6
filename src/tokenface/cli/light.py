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
    from tokenface.cli.console import out, print_error
    from tokenface.cli.needs import need_one_of, need_photo, words
    from tokenface.inference.face import SAVED

    chosen = words(formats)
    for name in chosen:
        need_one_of("--format", name, SAVED)
    need_photo(*sources)

    from tokenface.core.files import make_folder
    from tokenface.core.threads import given_threads
    from tokenface.errors import TokenFaceError
    from tokenface.formats.parameters import write_parameters
    from tokenface.images.remote import collect_photos
    from tokenface.inference.face_document import photo_document
    from tokenface.jobs.face_files import FaceFiles, write_face
    from tokenface.light import load

    model, failed, wanted = load(weights, given_threads()), 0, FaceFiles(tuple(chosen))
    for item in (item for source in sources for item in collect_photos(source, recursive=recursive)):
        try:
            faces = model.reconstruct(item, max_faces=max_faces)
            folder = output / Path(item.name).stem
            if not faces:
                raise TokenFaceError(f"no face found in '{item.name}'")
            make_folder(folder)
            if "json" in chosen:
                write_parameters(folder / "parameters.json", photo_document(faces, faces[0].item.name))
            for face in faces:
                write_face(folder, face, None, wanted)
            out().print(f"{item.name}: {len(faces)} {'face' if len(faces) == 1 else 'faces'} in {folder}")
        except TokenFaceError as error:
            print_error(str(error))
            failed += 1
    return 1 if failed else 0
