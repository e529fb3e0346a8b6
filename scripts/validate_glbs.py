"""Khronos' validator over GLB and VRM files: errors and warnings of each, and of all together.

    python scripts/validate_glbs.py out/                        # every .glb and .vrm below the folder
    python scripts/validate_glbs.py photos/ --photos            # heads of these photos, as GLB and VRM

Needs node, and TOKENFACE_GLTF_VALIDATOR: the folder of the npm package gltf-validator. Exit code 1 if anything is
found.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

SCRIPT = """
const validator = require(process.argv[1]), fs = require('fs');
(async () => {
  for (const path of fs.readFileSync(0, 'utf8').split('\\0').filter(Boolean)) {
    const { issues } = await validator.validateBytes(new Uint8Array(fs.readFileSync(path)));
    console.log(JSON.stringify({ path, errors: issues.numErrors, warnings: issues.numWarnings,
      messages: issues.messages.filter(({ severity }) => severity < 2) }));
  }
})();
"""
"""One process for all files; severities are 0 (error), 1 (warning), 2 and 3 (information, hints)."""


def validated(paths: Sequence[Path], validator: str) -> list[dict]:
    """path, errors, warnings and messages of each file.

    Args:
        validator: folder of the npm package gltf-validator.
    """
    command = ["node", "-e", SCRIPT, validator]
    found = subprocess.run(command, input="\0".join(map(str, paths)), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in found.stdout.splitlines()]


def heads_of(photos: Path, folder: Path, count: int | None) -> list[Path]:
    """The largest face of each photo as GLB (with PNG, WebP, and both, in turn) and as VRM."""
    from tokenface import load
    from tokenface.formats.glb_textures import TextureFormat

    forms: tuple[TextureFormat, ...] = ("png", "webp", "webp+png")
    files: list[Path] = []
    done = 0
    for result in load().iterate(photos):
        if result.image is None or not result.faces:
            continue
        for face in result.faces[:1]:
            stem = f"{done:03d}_{face.index}"
            skin, iris = face.photo_texture(result.image), face.iris_colour(result.image)
            form = forms[done % len(forms)]
            files.append(face.save(folder / f"{stem}.glb", texture=skin, iris=iris, texture_format=form))
            files.append(face.save(folder / f"{stem}.vrm", texture=skin, iris=iris))
        done += 1
        if done == count:
            break
    return files


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", action="store_true", help="the folder holds photos")
    parser.add_argument("--count", type=int, help="at most so many photos")
    options = parser.parse_args(None if arguments is None else list(arguments))
    validator = os.environ.get("TOKENFACE_GLTF_VALIDATOR")
    if not validator:
        parser.error("TOKENFACE_GLTF_VALIDATOR names no folder of the npm package gltf-validator")
    with tempfile.TemporaryDirectory() as scratch:
        if options.photos:
            files = heads_of(options.folder, Path(scratch), options.count)
        else:
            files = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in (".glb", ".vrm"))
        reports = validated(files, validator)
    for report in reports:
        if report["errors"] or report["warnings"]:
            codes = Counter(message["code"] for message in report["messages"])
            print(f"{report['path']}: {report['errors']} errors, {report['warnings']} warnings {dict(codes)}")
    errors, warnings = (sum(report[kind] for report in reports) for kind in ("errors", "warnings"))
    print(f"{len(reports)} files: {errors} errors, {warnings} warnings")
    return 0 if reports and not errors and not warnings else 1


if __name__ == "__main__":
    sys.exit(main())
