"""Prediction files as people write them, good and bad, each generated from one small mask.

A file that should be measured has the message None; the others name words that their error must hold.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mask_face import mask_face, npy_bytes, obj_text

VERTICES, FACES, POINTS = mask_face(17)
SIDE = 17
TEXT = obj_text(VERTICES, FACES)


@dataclass(frozen=True)
class Prediction:
    """mesh: file name and content, None: not there.  landmarks: likewise.  message: None if it must be measured."""

    name: str
    mesh: tuple[str, bytes] | None
    landmarks: tuple[str, bytes] | None
    message: str | None


def ply(vertices=VERTICES, faces=FACES, *, form="binary_little_endian", colour=False, double=False, corners=3) -> bytes:
    kind = "double" if double else "float"
    head = ["ply", f"format {form} 1.0", "comment made for a test", f"element vertex {len(vertices)}"]
    head += [f"property {kind} {axis}" for axis in "xyz"]
    head += [f"property uchar {c}" for c in ("red", "green", "blue")] if colour else []
    head += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    start = ("\n".join(head) + "\n").encode()
    if form == "ascii":
        rows = [" ".join(map(str, [*row, *([9, 8, 7] if colour else [])])) for row in np.asarray(vertices).tolist()]
        rows += [" ".join(map(str, [corners, *row])) for row in np.asarray(faces).tolist()]
        return start + ("\n".join(rows) + "\n").encode()
    order = ">" if form == "binary_big_endian" else "<"
    code = order + ("3d" if double else "3f") + ("3B" if colour else "")
    body = b"".join(struct.pack(code, *row, *([9, 8, 7] if colour else [])) for row in np.asarray(vertices).tolist())
    return start + body + b"".join(struct.pack(f"{order}B{corners}i", corners, *row) for row in faces.tolist())


def quads() -> np.ndarray:
    half = len(FACES) // 2
    return np.concatenate([FACES[:half], FACES[half:, 2:]], axis=1)


def text(edit: Callable[[list[str]], list[str]]) -> bytes:
    return ("\n".join(edit(TEXT.splitlines())) + "\n").encode()


def with_vertex(index: int, row: str) -> bytes:
    return text(lambda lines: [row if k == index else line for k, line in enumerate(lines)])


def moved(change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    return obj_text(change(VERTICES.copy()), FACES).encode()


def textured() -> bytes:
    rows = [line for line in TEXT.splitlines() if line.startswith("v ")]
    rows = ["mtllib face.mtl", *rows, *(f"vt {x / 180:.4f} {y / 180:.4f}" for x, y in VERTICES[:, :2])]
    rows += ["usemtl skin", *("f " + " ".join(f"{i + 1}/{i + 1}" for i in face) for face in FACES.tolist())]
    return ("\n".join(rows) + "\n").encode()


def with_normals() -> bytes:
    rows = [line for line in TEXT.splitlines() if line.startswith("v ")]
    rows += ["vn 0 0 1"] + ["f " + " ".join(f"{i + 1}//1" for i in face) for face in FACES.tolist()]
    return ("\n".join(rows) + "\n").encode()


def seams() -> bytes:
    """Twice as many texture coordinates as vertices, so that readers split vertices."""
    rows = [line for line in TEXT.splitlines() if line.startswith("v ")]
    rows += [f"vt {k % 7} {k % 5}" for k in range(2 * len(VERTICES))]
    for number, face in enumerate(FACES.tolist()):
        rows.append("f " + " ".join(f"{i + 1}/{(i + (number % 2) * len(VERTICES)) + 1}" for i in face))
    return ("\n".join(rows) + "\n").encode()


def nan_row(vertices: np.ndarray, value: float, count: int = 1) -> np.ndarray:
    vertices[100 : 100 + count] = value
    return vertices


GOOD_POINTS = ("p.npy", npy_bytes(POINTS))
BINARY = ply()
HEADER = BINARY.index(b"end_header\n") + len(b"end_header\n")

MESHES: list[tuple[str, str, bytes, str | None]] = [
    # as people write them: measured
    ("plain", "p.obj", TEXT.encode(), None),
    ("windows_lines", "p.obj", TEXT.replace("\n", "\r\n").encode(), None),
    ("no_last_newline", "p.obj", TEXT.rstrip().encode(), None),
    ("comments", "p.obj", b"# head\n\n" + TEXT.encode() + b"# end\n", None),
    ("object_groups", "p.obj", b"o face\ng skin\ns 1\n" + TEXT.encode(), None),
    ("vertex_colours", "p.obj", text(lambda rows: [r + " 0.1 0.2 0.3" if r[0] == "v" else r for r in rows]), None),
    ("homogeneous", "p.obj", text(lambda rows: [r + " 1.0" if r[0] == "v" else r for r in rows]), None),
    ("quads", "p.obj", obj_text(VERTICES, quads()).encode(), None),
    ("textured", "p.obj", textured(), None),
    ("normals", "p.obj", with_normals(), None),
    ("seams", "p.obj", seams(), None),
    ("degenerate_some", "p.obj", TEXT.encode() + b"f 1 1 2\nf 5 5 5\n", None),
    ("repeated_faces", "p.obj", TEXT.encode() + TEXT[TEXT.index("f ") :].encode(), None),
    ("non_manifold", "p.obj", TEXT.encode() + b"f 1 2 50\nf 1 2 90\nf 1 2 120\n", None),
    ("unused_vertex", "p.obj", b"v 0 0 0\n" + obj_text(VERTICES, FACES + 1).encode(), None),
    ("unused_nan_vertex", "p.ply", ply(np.vstack([VERTICES, [[np.nan] * 3]]), FACES), None),
    ("flipped", "p.obj", obj_text(VERTICES, FACES[:, ::-1]).encode(), None),
    ("half_the_face", "p.obj", obj_text(VERTICES, FACES[: len(FACES) * 3 // 4]).encode(), None),
    ("centimetres", "p.obj", moved(lambda v: v / 10), None),
    (
        "exponents",
        "p.obj",
        with_vertex(2, "v 1.0e1 2E+1 -3e-1"),
        None,
    ),
    ("upper_case_suffix", "p.OBJ", TEXT.encode(), None),
    ("ply", "p.ply", BINARY, None),
    ("ply_ascii", "p.ply", ply(form="ascii"), None),
    ("ply_big_endian", "p.ply", ply(form="binary_big_endian"), None),
    ("ply_colours", "p.ply", ply(colour=True), None),
    ("ply_ascii_colours", "p.ply", ply(colour=True, form="ascii"), None),
    ("ply_double", "p.ply", ply(double=True), None),
    ("ply_quads", "p.ply", ply(faces=quads(), corners=4), None),
    # damaged: one clear line each
    ("empty", "p.obj", b"", "empty file"),
    ("empty_ply", "p.ply", b"", "empty file"),
    ("blank", "p.obj", b"\n\n\n", ""),
    ("only_comments", "p.obj", b"# nothing here\n", ""),
    ("zeros", "p.obj", bytes(4096), ""),
    ("text", "p.obj", b"this is not a mesh\n" * 30, ""),
    ("html", "p.ply", b"<html><body>404 Not Found</body></html>", "PLY"),
    ("picture", "p.obj", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8, ""),
    ("points_only", "p.obj", text(lambda rows: [r for r in rows if r[0] == "v"]), ""),
    ("faces_only", "p.obj", text(lambda rows: [r for r in rows if r[0] == "f"]), ""),
    ("points_only_ply", "p.ply", ply(faces=FACES[:0]), ""),
    ("nan", "p.obj", moved(lambda v: nan_row(v, np.nan)), "finite"),
    ("infinite", "p.ply", ply(nan_row(VERTICES.copy(), np.inf)), "finite"),
    ("all_nan", "p.ply", ply(VERTICES * np.nan), "finite"),
    ("huge_numbers", "p.obj", moved(lambda v: v * 1e30), "billion"),
    ("one_place", "p.obj", moved(lambda v: v * 0 + 5), "one place"),
    ("one_line", "p.obj", moved(lambda v: v * [1, 0, 0]), "one line"),
    ("all_degenerate", "p.obj", obj_text(VERTICES, FACES[:, [0, 0, 1]]).encode(), "area"),
    ("index_too_large", "p.obj", TEXT.encode() + b"f 1 2 99999\n", ""),
    ("index_zero", "p.obj", TEXT.encode() + b"f 0 1 2\n", "index 0"),
    ("word_in_vertex", "p.obj", with_vertex(7, "v one 2 3"), ""),
    ("two_numbers", "p.obj", with_vertex(7, "v 1 2"), ""),
    ("word_in_face", "p.obj", TEXT.encode() + b"f a b c\n", ""),
    ("cut_in_vertices", "p.obj", TEXT[: len(TEXT) // 4].encode(), ""),
    ("cut_ply_vertices", "p.ply", BINARY[: HEADER + 200], ""),
    ("cut_ply_faces", "p.ply", BINARY[:-400], ""),
    ("cut_ply_header", "p.ply", BINARY[: HEADER // 2], ""),
    ("cut_ply_ascii", "p.ply", ply(form="ascii")[:-900], "cut short"),
    ("ply_wrong_count", "p.ply", BINARY.replace(b"vertex 289", b"vertex 999"), ""),
    ("ply_index_too_large", "p.ply", ply(faces=FACES + 200), ""),
    ("ply_negative_index", "p.ply", ply(faces=FACES - 5), ""),
    ("ply_billions", "p.ply", BINARY.replace(b"vertex 289", b"vertex 2000000000"), ""),
    ("ply_of_zip", "p.ply", b"PK\x03\x04" + bytes(500), "PLY"),
]

LANDMARKS: list[tuple[str, str, bytes, str | None]] = [
    ("txt", "p.txt", ("\n".join(" ".join(map(str, p)) for p in POINTS.tolist())).encode(), None),
    ("txt_commas", "p.txt", ("\n".join(",".join(map(str, p)) for p in POINTS.tolist()) + "\n\n").encode(), None),
    ("single_precision", "p.npy", npy_bytes(POINTS.astype(np.float32)), None),
    ("whole_numbers", "p.npy", npy_bytes(np.round(POINTS).astype(int)), None),
    ("six", "p.npy", npy_bytes(POINTS[:6]), "7 landmarks"),
    ("sixty_eight", "p.npy", npy_bytes(np.zeros((68, 3))), "7 landmarks"),
    ("flat", "p.npy", npy_bytes(POINTS[:, :2]), "7 landmarks"),
    ("landmark_nan", "p.npy", npy_bytes(np.where(POINTS > 30, np.nan, POINTS)), "finite"),
    ("same_place", "p.npy", npy_bytes(POINTS * 0), "one place"),
    ("on_a_line", "p.npy", npy_bytes(np.outer(np.arange(7.0), [1, 2, 3])), "one line"),
    ("empty_npy", "p.npy", b"", "seven landmarks"),
    ("cut_npy", "p.npy", npy_bytes(POINTS)[:-20], "seven landmarks"),
    ("words", "p.txt", b"left eye\nright eye\n", "seven landmarks"),
    ("ragged", "p.txt", b"1 2 3\n4 5\n", "seven landmarks"),
    ("object_npy", "p.npy", npy_bytes(np.array({"a": 1}, dtype=object)), "seven landmarks"),
]


def predictions() -> list[Prediction]:
    """Every file above with a good partner, and the missing ones."""
    found = [Prediction(name, (file, data), GOOD_POINTS, words) for name, file, data, words in MESHES]
    good = ("p.obj", TEXT.encode())
    found += [Prediction(f"landmarks_{name}", good, (file, data), words) for name, file, data, words in LANDMARKS]
    found += [
        Prediction("no_mesh", None, GOOD_POINTS, "no predicted mesh"),
        Prediction("no_landmarks", good, None, "no predicted file of landmarks"),
        Prediction("nothing", None, None, "no predicted mesh"),
    ]
    return found
