"""Every runtime and precision beside a ResNet-50 (timm, random weights) of the same input size, in one run.

python benchmarks/bench_runtimes.py [--weights NAME] [--threads 1] [--repeats 10] [--quick]

Milliseconds are processor time of all threads of this process, the least of the repeats, so that a busy machine
disturbs little; ratios are of figures of this run. ResNet-50 is the network that DECA-like tools run; it stands here
for theirs, for one crop. "photo" is `reconstruct` of a portrait from array to parameters: detector, face mesh, two
passes. "video" is `track` of one second (25 frames) of a portrait that moves, decoded from MP4.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import timm
import torch

import tokenface
from benchmarks.bench_detector import portrait
from tokenface.deploy.graph_names import RUNTIME_PRECISIONS
from tokenface.formats.mp4 import encode_piece
from tokenface.model import Reconstructor

FRAMES = 25


def processor_ms(run: Callable[[], object], repeats: int) -> float:
    """Least processor time of one call, after one call to warm up."""
    run()
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return 1000 * best


def resnet50(size: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """One crop through ResNet-50 on every runtime, fp32."""
    from tokenface.graphs.sessions import needed

    network = timm.create_model("resnet50", pretrained=False).eval()
    crop = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))

    def by_torch() -> object:
        with torch.inference_mode():
            return network(crop)

    yield "torch", by_torch
    runtime, openvino = needed("onnxruntime"), needed("openvino")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "resnet50.onnx"
        torch.onnx.export(network, (crop,), file, input_names=["x"], dynamo=True, external_data=False, verbose=False)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        yield "onnx", lambda: session.run(None, {"x": crop.numpy()})
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino.Core().compile_model(str(file), "CPU", settings)
        yield "openvino", lambda: compiled({"x": crop.numpy()})


def moving_clip(path: Path) -> Path:
    """One second of the portrait, drifting a few pixels."""
    photo = portrait()[:480, :480]
    return encode_piece(path, ((n / FRAMES, np.roll(photo, n // 2, axis=1)) for n in range(FRAMES)), FRAMES)


def rows(weights: str | None, repeats: int, quick: bool = False) -> Iterator[tuple[str, str]]:
    """(what, figure) pairs, each measured when it is asked for."""
    size = tokenface.load(weights).crop_size
    reference: dict[str, float] = {}
    for runtime, run in resnet50(size):
        reference[runtime] = processor_ms(run, repeats)
        yield f"ResNet-50, {size} px, {runtime} fp32", f"{reference[runtime]:8.1f} ms"
    photo = portrait()
    crop = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        clip = None if quick else moving_clip(Path(folder) / "clip.mp4")
        for runtime, precisions in RUNTIME_PRECISIONS.items():
            for precision in precisions:
                model = Reconstructor.load(weights, "cpu", runtime, precision)
                yield (
                    f"TokenFace, {runtime} {precision}",
                    _figures(model, crop, photo, clip, repeats, reference[runtime]),
                )


def _figures(model: Reconstructor, crop: torch.Tensor, photo, clip: Path | None, repeats: int, resnet: float) -> str:
    network = processor_ms(lambda: model.predict(crop), repeats)
    text = f"{network:8.1f} ms a crop, {network / resnet:.2f} × ResNet-50 fp32 there"
    text += f"; photo {processor_ms(lambda: model.reconstruct(photo), max(2, repeats // 3)):6.0f} ms"
    if clip is not None:
        text += f"; video {processor_ms(lambda: list(model.track(clip)), 1):6.0f} ms a second"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="no video")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, Python {sys.version.split()[0]}")
    for name, value in rows(arguments.weights, arguments.repeats, arguments.quick):
        print(f"{name:32} {value}", flush=True)


if __name__ == "__main__":
    main()
