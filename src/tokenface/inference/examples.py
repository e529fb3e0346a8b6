"""Free photos of people that packages carry: nothing to download, nobody's rights touched."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from tokenface.errors import ImageError
from tokenface.formats.files import make_folder, output_error

PHOTOS = {
    # name: (package, path inside it)
    "eileen_collins.png": ("skimage", "data/astronaut.png"),  # NASA, public domain
    "grace_hopper.jpg": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),  # US Navy, public domain
}


def write_example_photos(folder: str | Path) -> Path:
    """Copy the photos that are installed into a folder.

    Raises:
        ImageError: none of the packages is installed.  OutputError: the folder cannot be written.
    """
    folder = make_folder(folder)
    found = False
    for name, (package, inside) in PHOTOS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        source = Path(spec.origin).parent / inside
        if source.is_file():
            try:
                shutil.copyfile(source, folder / name)
            except OSError as error:
                raise output_error(folder / name, error) from error
            found = True
    if not found:
        raise ImageError("the example photos come with other packages; run 'pip install scikit-image matplotlib'")
    return folder
