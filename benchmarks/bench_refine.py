"""What refinement gains: held-out photos, rendered people whose shape is known, selfies at 30 cm, clips.

    python -m benchmarks.bench_refine [--photos photos.tar] [--count 60] [--people 20] [--weights NAME_OR_PATH]
        [--parts photos,one,five,selfie,clip] [--output FILE.json]

Rendered people come from seeds that neither training nor `tokenface.training.refinement_statistics` uses. Time is
processor time of one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from tokenface.data.record import FaceBatch, PhotoRecord
from tokenface.data.sampling import PoseRange
from tokenface.data.sequences import SyntheticSequences
from tokenface.data.synthetic import SyntheticConfig, SyntheticFaces
from tokenface.evaluation.geometry import PeopleScans, face_error
from tokenface.evaluation.landmarks import normalised_mean_error
from tokenface.evaluation.open_methods import as_photos
from tokenface.evaluation.photo_run import held_out_photos
from tokenface.formats.mp4 import encode_piece
from tokenface.inference.face import Face
from tokenface.inference.people import same_person
from tokenface.inference.refinement import RefineOptions
from tokenface.jobs.track import TrackOptions, TrackRun
from tokenface.model import Reconstructor

ONE_SEED, FIVE_SEED, SELFIE_SEED, CLIP_SEED = 20_251_122, 88_000_000, 99_000_000, 77_000_000
CLIP_FRAMES, CLIP_SIZE = 48, 288
SIZE = 192
SELFIE_METRES = 0.30
POINT_NOISE = 1.0
"""Pixels of the 192 by which given points are made wrong."""
VARIANTS = {
    "views": RefineOptions(steps=0),
    "views and pixels": RefineOptions(),
    "face mesh": RefineOptions(views=1, points="mesh", steps=0),
    "pixels": RefineOptions(views=1, points="none"),
}
ALL = "views and pixels"


def photo_part(
    model: Reconstructor, tar: Path, count: int, variants: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Held-out people's photos: 68-point error (annotations without their known shift), 468-point error, pixels."""
    records = held_out_photos(tar, count).records
    results = model.iterate([record.image for record in records])
    found = [
        (record, face)
        for record, result in zip(records, results, strict=True)
        if (face := _nearest(result.faces, record))
    ]
    rows = {"network": _photo_row(found)}
    for name, options in VARIANTS.items():
        if variants and name not in variants:
            continue
        refined = [(record, model.refine(face, options, photos=[record.image])[0]) for record, face in found]
        rows[name] = _photo_row(refined)
        print(name, {key: round(value, 4) for key, value in rows[name].items()}, flush=True)
    return rows


def _nearest(faces: list[Face], record: PhotoRecord) -> Face | None:
    middle = record.landmarks.mean(0)
    return min(faces, key=lambda face: float(np.linalg.norm(face.landmarks.mean(0) - middle)), default=None)


def _photo_row(found: list[tuple[PhotoRecord, Face]]) -> dict[str, float]:
    truth = torch.from_numpy(np.stack([record.landmarks for record, _ in found])).float()
    points = torch.from_numpy(np.stack([face.landmarks for _, face in found])).float()
    box = (truth.amax(1) - truth.amin(1)).prod(-1).sqrt()
    inner = (points - truth).norm(dim=-1)[:, 17:].mean(-1) / box
    row = {
        "photos": len(found),
        "468 points of the face mesh, %": 100 * float(np.nanmean([_to_mesh(face) for _, face in found])),
        "NME 68, %": 100 * float(normalised_mean_error(points, truth).mean()),
        "NME inner 51, %": 100 * float(inner.mean()),
    }
    return row | _record_row([face for _, face in found])


def _to_mesh(face: Face) -> float:
    """Mean distance to the face mesh's own points, which nothing here has followed but the row of that name."""
    if face.observed468 is None or face.landmarks468 is None:
        return float("nan")
    target = face.observed468[:, :2]
    box = np.sqrt(np.prod(np.ptp(target, axis=0)))
    return float(np.nanmean(np.linalg.norm(face.landmarks468 - target, axis=1)) / box)


def _record_row(faces: list[Face]) -> dict[str, float]:
    """Means of what the refinements say of themselves."""
    records = [face.refined for face in faces if face.refined is not None]
    if not records:
        return {}
    points = [record.points for record in records if record.points is not None]
    grey = [record.photometric for record in records if record.photometric is not None]
    row = {
        "photometric before": float(np.mean([change.before for change in grey])),
        "photometric after": float(np.mean([change.after for change in grey])),
        "shape moved, sd": float(np.mean([record.shape_moved for record in records])),
        "seconds a photo": float(np.mean([record.seconds for record in records])),
    }
    if points:
        row["468 points before, %"] = float(np.mean([change.before for change in points]))
        row["468 points after, %"] = float(np.mean([change.after for change in points]))
    return row


def one_part(model: Reconstructor, people: int, variants: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """One picture of each rendered person."""
    batch = SyntheticFaces(model.head, SIZE).sample(people, ONE_SEED)
    photos = as_photos(batch.image)
    found = _middle_faces(model, photos)
    return _shape_rows(
        model,
        batch.neutral,
        list(found),
        {"network": lambda i: found[i]}
        | {
            name: _with(model, found, photos, options)
            for name, options in VARIANTS.items()
            if not variants or name in variants
        },
    )


def five_part(model: Reconstructor, people: int, variants: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Five pictures of each rendered person: the pooled prediction, and refined together."""
    batch = SyntheticFaces(model.head, SIZE).sample(5 * people, FIVE_SEED, 5)
    photos = as_photos(batch.image)
    found = _middle_faces(model, photos)
    groups = {p: [i for i in range(5 * p, 5 * p + 5) if i in found] for p in range(people)}
    groups = {person: group for person, group in groups.items() if group}

    def together(options: RefineOptions) -> Callable[[int], Face]:
        return lambda p: model.refine(
            [found[i] for i in groups[p]], options, photos=[photos[i] for i in groups[p]], same_person=True
        )[0]

    predictions: dict[str, Callable[[int], Face]] = {
        "network first picture": lambda p: found[groups[p][0]],
        "network pooled": lambda p: same_person([found[i] for i in groups[p]])[0],
        "views": together(VARIANTS["views"]),
        ALL: together(VARIANTS[ALL]),
    }
    return _shape_rows(model, batch.neutral[::5], list(groups), predictions, variants)


def selfie_part(model: Reconstructor, people: int, variants: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Pictures taken from 30 cm: with the true focal length and without, by the face mesh and by points that are
    right to a pixel (as a person or a better detector would give them)."""
    config = SyntheticConfig(poses=PoseRange(frontal=1.0, turned=0.0))
    generator = SyntheticFaces(model.head, SIZE, config)
    batch = generator.sample(people, SELFIE_SEED, distance=torch.full((people,), SELFIE_METRES))
    framed = [_as_taken(model, batch, i) for i in range(people)]
    photos, focals = [photo for photo, _, _ in framed], [f"{focal}px" for _, focal, _ in framed]
    found = _middle_faces(model, photos, [origin for _, _, origin in framed])
    random = np.random.default_rng(0)
    noisy = {
        i: (batch.landmarks468[i].numpy() + 1) * SIZE / 2 + framed[i][2] + POINT_NOISE * random.normal(size=(468, 2))
        for i in found
    }

    def run(perspective: bool, exact: bool, steps: int) -> Callable[[int], Face]:
        def prediction(i: int) -> Face:
            options = RefineOptions(
                focal=focals[i] if perspective else "none",
                point_deviation=POINT_NOISE if exact else None,
                steps=steps,
                views=1 if exact else 8,
                points="none" if exact else "views",
            )
            return model.refine(found[i], options, photos=[photos[i]], points=[noisy[i]] if exact else None)[0]

        return prediction

    return _shape_rows(
        model,
        batch.neutral,
        list(found),
        {
            "network": lambda i: found[i],
            "views and pixels orthographic": run(False, False, 40),
            "views and pixels perspective": run(True, False, 40),
            "points of 1 px orthographic": run(False, True, 0),
            "points of 1 px perspective": run(True, True, 0),
        },
        variants,
    )


def clip_part(model: Reconstructor, people: int, variants: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Clips of rendered people: the tracker's pooled shape, which stays, and what refinement does to the pictures."""
    generator, head = SyntheticSequences(model.head, CLIP_SIZE), model.head
    errors, records = [], []
    for number in range(people):
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "clip.nut"
            sequence = generator.sample(CLIP_FRAMES, CLIP_SEED + number)
            encode_piece(clip, ((i / 30, image) for i, image in enumerate(as_photos(sequence.image))), 30.0)
            options = TrackOptions(refine=True, overlay=False, formats=("npz",))
            run = TrackRun(clip, Path(folder) / "out", options, model)
            for _ in run:
                pass
        if 0 not in run.refined or run.refined[0].record is None:
            continue
        with torch.inference_mode():
            scans = PeopleScans.of(head, head(sequence.shape[:1]).vertices)
            shape = run.refined[0].identity.shape
            shapes = torch.stack([torch.zeros_like(shape), shape])
            errors.append([float(face_error(scans, one[None], head)[0]) for one in head(shapes).vertices.numpy()])
        records.append(run.refined[0].record)
        print(number, [round(error, 4) for error in errors[-1]], records[-1], flush=True)
    mean, pooled = np.array(errors).T
    every = [record["every_frame"] for record in records]
    grey = [record["photometric"] for record in records]
    rows = {
        "refined": {
            "people": len(pooled),
            "error mm": float(pooled.mean()),
            "ratio to mean head": float(pooled.mean() / mean.mean()),
            "photometric before": float(np.mean([one["before"] for one in grey])),
            "photometric after": float(np.mean([one["after"] for one in grey])),
            "points with the clip's shape alone, %": float(np.mean([one["before"] for one in every])),
            "points with every frame fitted, %": float(np.mean([one["after"] for one in every])),
            "seconds a person": float(np.mean([record["seconds"] for record in records])),
            "seconds a frame": float(np.mean([one["seconds"] for one in every])) / CLIP_FRAMES,
        }
    }
    return rows


def _as_taken(model: Reconstructor, batch: FaceBatch, index: int) -> tuple[np.ndarray, float, np.ndarray]:
    """The picture in the middle of a photo whose optical axis is where the generator's was; the focal length, pixels;
    where the picture's corner lies. Scale and axis follow from where the true points were drawn, exactly."""
    head, truth = model.head, batch.parameters[index : index + 1]
    from tokenface.geometry.camera import Camera

    camera = Camera.from_vector(truth.camera)
    turned = camera.rotate(batch.vertices[index : index + 1])
    yaw = camera.angles()[:, 0]
    depth = float(camera.rotate(head.landmarks68(batch.vertices[index : index + 1], yaw))[0, :, 2].mean())
    points = head.landmarks468(turned)[0].double().numpy()
    grown = (SELFIE_METRES / (SELFIE_METRES - (points[:, 2] - depth)))[:, None] * points[:, :2] * [1.0, -1.0]
    one, nothing = np.ones(len(points)), np.zeros(len(points))
    rows = np.concatenate([np.stack([grown[:, 0], one, nothing], 1), np.stack([grown[:, 1], nothing, one], 1)])
    seen = batch.landmarks468[index].double().numpy()
    (scale, x, y), *_ = np.linalg.lstsq(rows, np.concatenate([seen[:, 0], seen[:, 1]]), rcond=None)
    assert np.abs(rows @ [scale, x, y] - np.concatenate([seen[:, 0], seen[:, 1]])).max() < 1e-4
    axis = (np.array([x, y]) + 1) * SIZE / 2
    half = int(np.ceil(np.abs(axis - SIZE / 2).max() + SIZE / 2)) + 1
    corner = np.round(half - axis).astype(int)  # the axis is in the middle to half a pixel
    photo = np.full((2 * half, 2 * half, 3), 127, np.uint8)
    x0, y0 = corner
    photo[y0 : y0 + SIZE, x0 : x0 + SIZE] = as_photos(batch.image[index : index + 1])[0]
    return photo, float(scale * SELFIE_METRES * SIZE / 2), corner.astype(float)


def _middle_faces(
    model: Reconstructor, photos: list[np.ndarray], corners: list[np.ndarray] | None = None
) -> dict[int, Face]:
    """The face nearest to the picture's middle, where one is found with points."""
    found = {}
    for i, result in enumerate(model.iterate(photos)):
        middle = SIZE / 2 + (0 if corners is None else corners[i])
        faces = [face for face in result.faces if face.observed468 is not None]
        if faces:
            found[i] = min(faces, key=lambda face: float(np.abs(face.landmarks.mean(0) - middle).sum()))
    return found


def _with(
    model: Reconstructor, found: dict[int, Face], photos: list[np.ndarray], options: RefineOptions
) -> Callable[[int], Face]:
    return lambda i: model.refine(found[i], options, photos=[photos[i]])[0]


def _shape_rows(
    model: Reconstructor,
    neutral: torch.Tensor,
    chosen: list[int],
    predictions: dict[str, Callable[[int], Face]],
    variants: Sequence[str] = (),
) -> dict[str, dict[str, float]]:
    """Neutral scan-to-mesh error of every way to predict, and its ratio to the mean head's."""
    head, scans = model.head, PeopleScans.of(model.head, neutral[chosen])
    mean = face_error(scans, head.template.numpy()[None], head).mean()
    rows, first = {}, None
    for name, prediction in predictions.items():
        if variants and name not in variants and not name.startswith("network"):
            continue
        began = time.process_time()
        faces = [prediction(i) for i in chosen]
        seconds = (time.process_time() - began) / len(faces)
        error = face_error(scans, np.stack([face.neutral_vertices for face in faces]), head)
        first = error if first is None else first
        rows[name] = {
            "people": len(faces),
            "error mm": float(error.mean()),
            "ratio to mean head": float(error.mean() / mean),
            "better than the first row": float((error < first).mean()),
            "seconds a person": seconds,
        } | _record_row(faces)
        print(name, {key: round(value, 4) for key, value in rows[name].items()}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--weights")
    parser.add_argument("--parts", default="photos,one,five,selfie,clip")
    parser.add_argument("--variants", default="", help="some of the table's rows, comma-separated")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, parts = Reconstructor.load(arguments.weights, "cpu"), arguments.parts.split(",")
    variants = [name for name in arguments.variants.split(",") if name]
    report: dict[str, object] = {"weights": model.origin.weights, "hash": model.origin.weights_hash}
    if "photos" in parts and arguments.photos:
        report["photos"] = photo_part(model, arguments.photos, arguments.count, variants)
        print(json.dumps(report["photos"], indent=1, ensure_ascii=False), flush=True)
    for name, part in (("one", one_part), ("five", five_part), ("selfie", selfie_part), ("clip", clip_part)):
        if name in parts:
            report[name] = part(model, arguments.people, variants)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
