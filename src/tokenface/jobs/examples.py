"""Example photos of the page and the demo: rendered people and the shipped portrait."""

from __future__ import annotations

import importlib.util
from importlib import resources
from pathlib import Path

from tokenface.core.files import discard, make_folder, write_atomically
from tokenface.head.model import HeadModel

SHIPPED = "eileen_collins.jpg"
"""Portrait by NASA, public domain (LICENSES.md): among the assets of the package."""
INSTALLED = {
    # name: (package, path inside it)
    "grace_hopper.jpg": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),  # US Navy, public domain
}
CLIP_FRAMES, CLIP_SIZE, CLIP_RATE, CLIP_SEED = 36, 256, 24.0, 5


def write_example_photos(folder: str | Path) -> Path:
    """Write the example photos into a folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = make_folder(folder)
    for name, data in example_photos().items():
        write_atomically(folder / name, data)
    return folder


def example_photos() -> dict[str, bytes]:
    """Encoded photos by file name: the one that ships with the package, and those that other packages carry."""
    shipped = resources.files("tokenface") / "assets" / SHIPPED
    return {SHIPPED: shipped.read_bytes()} | _installed()


def write_example_clip(path: Path, head: HeadModel) -> Path:
    """A rendered person who moves for a second and a half, as MP4.

    Raises:
        VideoError: the package av is missing.  OutputError: the file cannot be written.
    """
    from tokenface.data.scene.outfit import Chances
    from tokenface.data.sequences import SequenceConfig, SyntheticSequences
    from tokenface.formats.mp4 import encode_piece, join_pieces

    config = SequenceConfig(chances=Chances.none(), noise=0.0)
    frames = SyntheticSequences(head, CLIP_SIZE, config).sample(CLIP_FRAMES, CLIP_SEED).image
    pictures = (frames.permute(0, 2, 3, 1).clamp(0, 1) * 255).round().byte().cpu().numpy()
    piece = path.with_suffix(".nut")
    encode_piece(piece, ((number / CLIP_RATE, picture) for number, picture in enumerate(pictures)), CLIP_RATE)
    join_pieces(path, [piece], None, 0.0, None)
    discard(piece)
    return path


def _installed() -> dict[str, bytes]:
    """Free photos of people that packages carry."""
    found = {}
    for name, (package, inside) in INSTALLED.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        source = Path(spec.origin).parent / inside
        if source.is_file():
            found[name] = source.read_bytes()
    return found
