"""Pictures of people to try things on: nothing to download, nobody's rights touched."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import torch
from PIL import Image

from tokenface.errors import ImageError
from tokenface.formats.files import discard, make_folder, write_atomically
from tokenface.head.model import HeadModel

PHOTOS = {
    # name: (package, path inside it)
    "eileen_collins.png": ("skimage", "data/astronaut.png"),  # NASA, public domain
    "grace_hopper.jpg": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),  # US Navy, public domain
}
RENDERED, RENDERED_SIZE, RENDERED_SEED = 2, 320, 12
CLIP_FRAMES, CLIP_SIZE, CLIP_RATE, CLIP_SEED = 36, 256, 24.0, 5


def write_example_photos(folder: str | Path) -> Path:
    """Write the photos that are installed into a folder.

    Raises:
        ImageError: none of the packages is installed.  OutputError: the folder cannot be written.
    """
    photos = _installed()
    if not photos:
        raise ImageError("the example photos come with other packages; run 'pip install scikit-image matplotlib'")
    folder = make_folder(folder)
    for name, data in photos.items():
        write_atomically(folder / name, data)
    return folder


def example_photos(head: HeadModel) -> dict[str, bytes]:
    """Encoded photos by file name: those that are installed, else rendered people."""
    return _installed() or _rendered(head)


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
    for name, (package, inside) in PHOTOS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        source = Path(spec.origin).parent / inside
        if source.is_file():
            found[name] = source.read_bytes()
    return found


def _rendered(head: HeadModel) -> dict[str, bytes]:
    from tokenface.data.sampling import Framing, rotation_from_angles
    from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces

    generator = SyntheticFaces(head, RENDERED_SIZE, SyntheticConfig(framing=Framing(zoom=(2.0, 2.2))))
    yaw = torch.linspace(-0.3, 0.3, RENDERED)
    rotation = rotation_from_angles(yaw, 0 * yaw, 0 * yaw)
    batch = generator.sample(RENDERED, RENDERED_SEED, rotation=rotation, plain=True)
    photos = {}
    for number, image in enumerate(batch.image):
        buffer = io.BytesIO()
        pixels = (image.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu().numpy()
        Image.fromarray(pixels).save(buffer, format="PNG")
        photos[f"rendered_person_{number + 1}.png"] = buffer.getvalue()
    return photos
