"""Tiny data sets in the layouts that people have on disk: one generator per data set, pictures of colour noise."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat
from toy_head import toy_head_data


def picture(path: Path, seed: int = 0, size: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    image = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
    done, data = cv2.imencode(path.suffix, image)
    assert done
    path.write_bytes(data.tobytes())
    return path


def video(path: Path, frames: int = 12, size: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (size, size))
    for number in range(frames):
        writer.write(np.full((size, size, 3), 20 * number, np.uint8))
    writer.release()
    return path


def landmarks(seed: int = 0, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).uniform(10, size - 10, (68, 2)).round(2)


def folder(root: Path) -> Path:
    picture(root / "alone.jpg", 1)
    np.savetxt(root / "alone.txt", landmarks(1), fmt="%.2f")
    picture(root / "Ann Ä." / "one.1.png", 2)
    picture(root / "Ann Ä." / "two.webp", 3)
    video(root / "Bob" / "talk.mp4")
    (root / "notes.md").write_text("not a picture")
    return root


def ffhq(root: Path) -> Path:
    entries = {}
    for number in range(4):
        picture(root / "00000" / f"{number:05d}.png", number)
        path = f"images1024x1024/00000/{number:05d}.png"
        entries[str(number)] = {"image": {"file_path": path, "face_landmarks": landmarks(number).tolist()}}
    del entries["3"]
    (root / "ffhq-dataset-v2.json").write_text(json.dumps(entries))
    return root


def celeba(root: Path) -> Path:
    for number in range(1, 5):
        picture(root / "Img" / "img_align_celeba" / f"{number:06d}.jpg", number)
    (root / "Anno").mkdir()
    (root / "Anno" / "identity_CelebA.txt").write_text("000001.jpg 2880\n000002.jpg 7\n000003.jpg 2880\n000004.jpg 9\n")
    return root


def vggface2(root: Path) -> Path:
    for person, count in (("n000002", 3), ("n000003", 2)):
        for number in range(count):
            picture(root / "train" / person / f"{number:04d}_01.jpg", number)
    return root


def voxceleb2(root: Path) -> Path:
    video(root / "dev" / "mp4" / "id00012" / "21Uxsk56VDQ" / "00001.mp4", 12)
    for number in range(9):
        picture(root / "dev" / "mp4" / "id00015" / "abc" / "00007" / f"{number:06d}.png", number)
    return root


def bupt(root: Path) -> Path:
    for race, person in (("African", "m.01"), ("African", "m.02"), ("Asian", "m.01")):
        picture(root / "race_per_7000" / race / person / "1.jpg")
    return root


def aflw2000(root: Path) -> Path:
    for number in (2, 4):
        path = picture(root / f"image{number:05d}.jpg", number)
        points = np.concatenate([landmarks(number).T + 0.5, np.zeros((1, 68))])
        savemat(path.with_suffix(".mat"), {"pt3d_68": points, "Pose_Para": np.zeros((1, 7))})
    return root


def fit(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    np.savez(path, betas=rng.normal(size=400).astype(np.float32), pose=rng.normal(size=15).astype(np.float32) * 0.1)
    return path


def stirling(root: Path) -> Path:
    for actor in ("F1001", "M1024"):
        fit(root / "FLAME_parameters" / "iter1" / actor / "fit.npz", len(actor))
    for name in ("F1001_a.jpg", "F1001_b.jpg", "M1024_a.jpg", "M9999_a.jpg"):
        picture(root / "images" / "Real_images__Subset_2D_FG2018" / "HQ" / name)
    return root


def florence(root: Path) -> Path:
    fit(root / "FLAME_parameters" / "iter1" / "subject_01" / "fit.npz")
    for recording in ("Indoor-Cooperative", "PTZ-Outdoor", "PTZ-Indoor"):
        picture(root / "images" / "subject_01" / recording / "frame_001.jpg")
    return root


def lyhm(root: Path) -> Path:
    for actor in ("00001", "00002"):
        picture(root / actor / "2.png")
        fit(root / actor / "fit.npz")
    return root


def facewarehouse(root: Path) -> Path:
    for number in range(3):
        picture(root / "Images" / "Tester_1" / f"pose_{number}.png", number)
    fit(root / "FLAME_fits" / "Tester_1" / "pose_0.npz", 0)
    fit(root / "FLAME_fits" / "Tester_1" / "pose_2.npz", 2)
    return root


def frgc(root: Path) -> Path:
    fit(root / "FLAME_parameters" / "02463" / "fit.npz")
    for session in ("Fall2003range", "Spring2003range", "Spring2004range"):
        picture(root / "images" / "02463" / session / "02463d546.jpg")
    return root


def mica_list(root: Path, name: str = "LYHM") -> Path:
    """MICA's own form: a pickled list of pictures with paths of somebody else's disk."""
    table = {}
    for actor in ("a1", "a2"):
        picture(root / name / "images" / actor / "x.jpg")
        fit(root / name / "FLAME_parameters" / actor / "fit.npz")
        table[actor] = ([f"/home/somebody/{name}/images/{actor}/x.jpg"], f"{actor}/fit.npz")
    (root / "image_paths").mkdir()
    np.save(root / "image_paths" / f"{name}.npy", np.array(table, dtype=object), allow_pickle=True)
    return root / name


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
    path.write_text("\n".join(lines) + "\n")
    return path


def facescape(root: Path) -> Path:
    head = toy_head_data()
    for expression in ("1_neutral", "2_smile"):
        cameras = {}
        for view in range(3):
            picture(root / "122" / expression / f"{view}.jpg", view)
            cameras |= {
                f"{view}_K": np.eye(3).tolist(),
                f"{view}_Rt": np.eye(4)[:3].tolist(),
                f"{view}_valid": view != 1,
            }
        (root / "122" / expression / "params.json").write_text(json.dumps(cameras))
    write_obj(root / "models_reg" / "122_1_neutral.obj", head.template * 100, head.faces)
    np.savez(root / "landmark_indices.npz", v10=np.arange(68))
    return root


PROJECTION = np.array([[3.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, -1.0, -1.0], [0, 0, -0.02, 0]])
"""Row vectors; the camera looks along −z, as OpenGL's do."""


def wcpa(root: Path) -> Path:
    head = toy_head_data()
    write_obj(root / "resources" / "example.obj", head.template, head.faces)
    np.savetxt(root / "resources" / "projection_matrix.txt", PROJECTION)
    pose = np.eye(4)
    pose[3, :3] = 0.01, 0.02, -0.6
    front = wcpa_vertices()
    clip = np.c_[head.template[front], np.ones(68)] @ pose @ PROJECTION
    ndc = clip[:, :2] / clip[:, 3:]
    pixels = np.stack([(ndc[:, 0] + 1) * 400, (1 - ndc[:, 1]) * 400], axis=1)
    for subject, action in (("000001", "000000"), ("000001", "000003")):
        picture(root / "image" / subject / action / "17_ar.jpg", 1, 800)
        place = root / "info" / subject / action
        place.mkdir(parents=True)
        np.savez(place / "17_info.npz", verts=head.template, R_t=pose)
        points = root / "68landmarks" / subject / action
        points.mkdir(parents=True)
        np.savetxt(points / "17_68landmarks.txt", np.floor(pixels), fmt="%d")
    return root


def wcpa_vertices() -> np.ndarray:
    """[68] vertices of the toy head's front that the landmarks of `wcpa` mark."""
    vertices = toy_head_data().template
    front = np.flatnonzero((vertices[:, 2] > 0.06) & (np.abs(vertices[:, 0]) < 0.06))
    return front[np.linspace(0, len(front) - 1, 68).astype(int)]
