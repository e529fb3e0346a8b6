"""Cost of following a face: per frame, part by part, beside the image model's; memory along a long clip; cuts found.

python benchmarks/bench_video.py CLIP [--frames 300] [--weights NAME] [--threads 2] [--temporal MODE|rehearsal]
python benchmarks/bench_video.py CLIP --minutes 30            # memory: the clip over and over, as one long one
python benchmarks/bench_video.py CLIP CLIP CLIP … --cuts      # cuts between shots of these clips
python benchmarks/bench_video.py CLIP --steadiness            # jitter per frame, with One-Euro, with --temporal
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch

import tokenface
from tokenface.evaluation.video_metrics import jitter, lag
from tokenface.model import Reconstructor
from tokenface.network.temporal import TemporalTransformer
from tokenface.video import tracker as tracking
from tokenface.video.clip import Clip, Frame
from tokenface.video.cuts import CutDetector
from tokenface.video.face import FaceMaker
from tokenface.video.painter import HeadPainter
from tokenface.video.pipeline import TOGETHER, Pipeline, PipelineOptions
from tokenface.video.prediction import predict_views
from tokenface.video.temporal_weights import choose_temporal

CLOCK = time.perf_counter
WARM = 24
"""Frames after which everything is loaded, and a group of predictions is complete."""
ROUND = 20
"""Frames of a shot in the cut test."""


class Shares:
    """Wall seconds by part; parts inside parts are counted in both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = CLOCK()
        try:
            yield
        finally:
            self.seconds[name] += CLOCK() - start

    def watch(self, owner: object, name: str, label: str) -> None:
        """Count every call of a method."""
        method = getattr(owner, name)

        def timed(*arguments, **options):
            with self.part(label):
                return method(*arguments, **options)

        setattr(owner, name, timed)


def temporal_of(model: Reconstructor, mode: str) -> TemporalTransformer | None:
    """`rehearsal`: an untrained one, which costs what a trained one does."""
    if mode == "rehearsal":
        return TemporalTransformer(model.network.heads.fc["camera"].in_features, 6).eval()  # type: ignore[union-attr]
    return choose_temporal(model, mode)  # type: ignore[arg-type]


def cost(model: Reconstructor, path: Path, frames: int, mode: str) -> None:
    """Tracking alone, against one pass of the image model over the same crop of the same frame, in turn."""
    shares = Shares()
    pipeline = Pipeline(model, model.detector, PipelineOptions(together=TOGETHER), temporal_of(model, mode))
    look = partial(predict_views, model)  # not watched
    painter, maker = HeadPainter(model.head), FaceMaker(model.head, model.origin, path)
    tracker = pipeline.tracker
    for owner, name, label in (
        (tracking, "predict_views", "image model with crop and landmarks"),
        (tracker.finder, "check", "face mesh"),
        (tracker.finder, "search", "search"),
        (tracker.cuts, "step", "cuts"),
        (pipeline, "_release", "temporal transformer, smoothing"),
    ):
        shares.watch(owner, name, label)
    clip = itertools.islice(Clip(path).frames(), frames)
    count, images = 0, deque()
    while True:
        with shares.part("decoding"):
            frame = next(clip, None)
        if frame is None:
            break
        with shares.part("TRACKING"):
            found = pipeline.push(frame)
        if tracker.active:
            with shares.part("ONE PASS"):
                look(frame.image, [tracker.people[tracker.active[0]].crop])
        if count == WARM - 1:
            warm = dict(shares.seconds)
        images.append(frame.image)
        for predictions in found:
            image = images.popleft()
            if predictions.index % 5 == 0:
                shown = maker.frame(predictions, image)
                with shares.part("overlay drawing, a fifth of the frames"):
                    painter.paint(image, shown.faces)
        count += 1
    measured = count - WARM
    if measured < 8:
        raise SystemExit(f"the clip is too short to measure: at least {WARM + 8} frames are needed")
    image_model = (shares.seconds["ONE PASS"] - warm["ONE PASS"]) / measured
    total = shares.seconds["TRACKING"] - warm["TRACKING"]
    print(f"{path.name}: {measured} frames, {torch.get_num_threads()} threads, weights {model.origin.weights}")
    print(f"{'one pass: crop, image model, landmarks':52} {1000 * image_model:8.2f} ms")
    print(f"{'tracking per frame':52} {1000 * total / measured:8.2f} ms   {total / measured / image_model:.2f} ×")
    for name, seconds in shares.seconds.items():
        if not name.isupper():
            per_frame = (seconds - warm.get(name, 0.0)) / measured
            print(f"  {name:50} {1000 * per_frame:8.2f} ms   {100 * per_frame * measured / total:5.1f} %")
    print(f"{'decoding and tracking':52} {measured / (total + shares.seconds['decoding']):8.1f} frames/s")


def memory(model: Reconstructor, path: Path, minutes: float, mode: str) -> None:
    """Resident memory while the clip runs over and over; frames are counted at 30 a second."""
    pipeline = Pipeline(model, model.detector, PipelineOptions(together=TOGETHER), temporal_of(model, mode))
    process, index, marks = psutil.Process(), 0, {}
    while index < minutes * 1800:
        for frame in Clip(path).frames():
            pipeline.push(Frame(index, index / 30, frame.image))
            index += 1
            if index % 1800 == 0 or index == 300:
                marks[index / 1800] = process.memory_info().rss / 2**20
                print(f"minute {index / 1800:6.2f}: {marks[index / 1800]:8.1f} MB", flush=True)
            if index >= minutes * 1800:
                break
    print(f"largest minus smallest: {max(marks.values()) - min(marks.values()):.1f} MB")


def cuts(paths: list[Path], seed: int = 0) -> None:
    """Shots of random places of the clips, one after the other: which joins are found, what else is taken for one."""
    random = np.random.default_rng(seed)
    clips = [[frame.image for frame in Clip(path, fps=15).frames()] for path in paths]
    frames, joins = [], []
    for which in [int(random.integers(len(clips))) for _ in range(3 * len(clips))]:
        start = int(random.integers(max(1, len(clips[which]) - ROUND)))
        if frames:
            joins.append((len(frames), which))
        frames += [(which, image) for image in clips[which][start : start + ROUND]]
    # a jump inside one clip is no cut between shots
    true = {at for at, which in joins if frames[at - 1][0] != which}
    same = {at for at, which in joins if frames[at - 1][0] == which}
    size = (512, 512)
    detector = CutDetector()
    images = [cv2.resize(image, size) for _, image in frames]
    start = CLOCK()
    found = {index for index, image in enumerate(images) if detector.step(image)}
    seconds = CLOCK() - start
    print(f"{len(frames)} frames, {len(true)} cuts: {len(found & true)} found, {len(found - true - same)} false")
    print(f"{len(found & same)} of {len(same)} jumps inside a shot taken for cuts")
    print(f"{1000 * seconds / len(frames):.2f} ms a frame; missed {sorted(true - found)}, false {sorted(found - true)}")
    try:
        from scenedetect import AdaptiveDetector, ContentDetector
    except ImportError:
        return
    for kind in (AdaptiveDetector, ContentDetector):
        theirs = _pyscenedetect(kind(min_scene_len=1), images)
        print(f"PySceneDetect {kind.__name__}: {len(theirs & true)} found, {len(theirs - true - same)} false")


def _pyscenedetect(detector, images: list[np.ndarray]) -> set[int]:
    from scenedetect import FrameTimecode

    found = []
    for index, image in enumerate(images):
        found += detector.process_frame(FrameTimecode(index, 15.0), np.ascontiguousarray(image[..., ::-1]))
    found += detector.post_process(FrameTimecode(len(images), 15.0))
    return {int(getattr(cut, "frame_num", cut)) for cut in found}


def steadiness(model: Reconstructor, path: Path, frames: int, mode: str) -> None:
    """Second differences of the vertices in head space and on the frame (no truth is known), and lag to per-frame."""
    kinds: dict[str, Callable[[], Pipeline]] = {
        "per frame": lambda: Pipeline(model, model.detector, PipelineOptions()),
        "One-Euro": lambda: Pipeline(model, model.detector, PipelineOptions(smooth="one-euro")),
    }
    if mode not in ("off", "auto") or temporal_of(model, mode) is not None:
        kinds["temporal"] = lambda: Pipeline(model, model.detector, PipelineOptions(), temporal_of(model, mode))
    first = None
    for name, make in kinds.items():
        pipeline, maker = make(), FaceMaker(model.head, model.origin, path)
        predictions = [
            a for f in itertools.islice(Clip(path).frames(), frames) for a in pipeline.push(f)
        ] + pipeline.flush()
        faces = [maker.face(a.predictions[0], a) for a in predictions if a.predictions]
        head = np.stack([face.vertices[::7] for face in faces]) * 1000
        scale = np.mean([face.camera.pixels_per_metre for face in faces])
        seen = np.stack([face.camera.project(face.vertices[::7]) for face in faces]) / scale * 1000
        first = seen if first is None else first
        print(
            f"{name:10} {len(faces)} frames  head space {jitter(head):.3f} mm/frame²  on the frame {jitter(seen):.3f} "
            f"mm/frame²  lag to per-frame {lag(seen, first):+.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--temporal", default="off", help="off, auto, causal, centred, or rehearsal")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--cuts", action="store_true")
    parser.add_argument("--steadiness", action="store_true")
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds, for machines that are busy")
    arguments = parser.parse_args()
    if arguments.cpu_time:
        global CLOCK
        CLOCK = time.process_time
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    if arguments.cuts:
        cuts(arguments.clips)
        return
    model = tokenface.load(arguments.weights, "cpu")
    for path in arguments.clips:
        if arguments.minutes:
            memory(model, path, arguments.minutes, arguments.temporal)
        elif arguments.steadiness:
            steadiness(model, path, arguments.frames, arguments.temporal)
        else:
            cost(model, path, arguments.frames, arguments.temporal)


if __name__ == "__main__":
    main()
