"""`tokenface evaluate photos` and `scans`: component measures on real people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokenface.cli.evaluate import Device, Weights


def photos(
    tar: Annotated[Path, typer.Argument(help="A tar of photos with 68 landmarks.", show_default=False)],
    model: Weights = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for photos.json.")] = Path("runs/photos"),
    quick: Annotated[bool, typer.Option("--quick", help="A third of the photos, a quarter of the people.")] = False,
    device: Device = "auto",
) -> int:
    """Expression baseline, mean prediction, label bias, response to known changes; r² on rendered people kept out."""
    import json
    import time

    import tokenface
    from tokenface.cli.console import err, out
    from tokenface.cli.tables import print_measures
    from tokenface.core.files import write_atomically
    from tokenface.data.held_out import trained_split
    from tokenface.evaluation.open_run import rounded
    from tokenface.evaluation.photo_run import PhotoCounts, held_out_photos, measure_photos
    from tokenface.inference.checkpoint_facts import read_metadata
    from tokenface.weights import find_weights

    begun, worked, console = time.perf_counter(), time.process_time(), err()
    reconstructor = tokenface.load(model, device)
    counts = PhotoCounts.quick() if quick else PhotoCounts()
    chosen = held_out_photos(tar, counts.photos, split=trained_split(read_metadata(find_weights(model))))
    document = measure_photos(
        reconstructor.predict,
        reconstructor.head,
        reconstructor.crop_size,
        chosen,
        counts,
        lambda text: console.print(text) if console.is_terminal else None,
    )
    print_measures(document)
    origin = reconstructor.origin
    document = {"weights": origin.weights, "weights hash": origin.weights_hash, "quick": quick, **document}
    text = json.dumps(rounded(document), indent=1, ensure_ascii=False) + "\n"
    path = write_atomically(output / "photos.json", text.encode())
    seconds = f"{time.perf_counter() - begun:.0f} s, {time.process_time() - worked:.0f} s of processors"
    out().print(f"all figures: {path} ({seconds})")
    return 0


def scans(
    folder: Annotated[
        Path, typer.Argument(help="A folder with a scan, or folders of one scan each.", show_default=False)
    ],
    model: Weights = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for scans.json.")] = Path("runs/scans"),
    device: Device = "auto",
) -> int:
    """Neutral shape of scanned people against their scans, from photos, or from renderings of the textured scan."""
    import json

    import tokenface
    from tokenface.cli.console import err, out
    from tokenface.cli.tables import print_scans
    from tokenface.core.files import write_atomically
    from tokenface.errors import EvaluationError
    from tokenface.evaluation.open_run import rounded
    from tokenface.evaluation.scan_files import read_scans
    from tokenface.evaluation.scan_photos import measure_scans

    reconstructor, console = tokenface.load(model, device), err()

    def shape_of(photo: Path):
        faces = reconstructor.reconstruct(photo, max_faces=1)
        if not faces:
            raise EvaluationError(f"no face found in '{photo}'; remove it from the scan's photos")
        return faces[0].parameters.shape

    document = measure_scans(
        reconstructor.predict,
        reconstructor.head,
        reconstructor.crop_size,
        read_scans(folder, reconstructor.head),
        shape_of,
        lambda text: console.print(text) if console.is_terminal else None,
    )
    print_scans(document)
    origin = reconstructor.origin
    document = {"weights": origin.weights, "weights hash": origin.weights_hash, **document}
    text = json.dumps(rounded(document), indent=1, ensure_ascii=False) + "\n"
    out().print(f"all figures: {write_atomically(output / 'scans.json', text.encode())}")
    return 0
