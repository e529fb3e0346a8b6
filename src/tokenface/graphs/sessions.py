"""Sessions of onnxruntime and OpenVINO on the CPU: a graph as a function of named arrays."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tokenface.core.threads import waits_asleep
from tokenface.errors import CheckpointError, ConfigError, TokenFaceError

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Runtime → its package, fastest first. In fp32 they are equally fast; onnxruntime is opened in a third of the time
(docs/lab/runtimes.md)."""

_core: Any = None
_core_lock = threading.Lock()

Call = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def needed(package: str) -> Any:
    """The package, or one line that says how to get it."""
    try:
        return __import__(package)
    except ImportError as error:
        raise TokenFaceError(f"this needs the '{package}' package; run pip install 'tokenface[deploy]'") from error


def installed_runtime() -> str:
    """The fastest runtime that is installed.

    Raises:
        ConfigError: there is none.
    """
    for runtime, package in PACKAGES.items():
        if importlib.util.find_spec(package) is not None:
            return runtime
    raise ConfigError("networks need onnxruntime or openvino; run pip install onnxruntime")


def open_graph(
    source: str | Path | bytes,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    threads: int = 0,
    bf16: bool = False,
    runtime: str | None = None,
) -> Call:
    """A graph as a function of named arrays, which several threads may call.

    Args:
        source: a file, `.onnx` or `.xml`, or the bytes of an ONNX model.
        threads: 0: all cores.
        bf16: lets OpenVINO compute so where the processor can.
        runtime: "onnx" or "openvino"; None: as the file's suffix says.
    Raises:
        CheckpointError: no such file, or not one of ours.  TokenFaceError: the runtime is not installed.
    """
    label = "the graph" if isinstance(source, bytes) else f"'{source}'"
    if not isinstance(source, bytes):
        source = Path(source)
        if not source.is_file():
            raise CheckpointError(f"{label} does not exist; make it with 'tokenface export'")
        runtime = runtime or ("openvino" if source.suffix == ".xml" else "onnx")
    try:
        if runtime == "openvino":
            call, names = _openvino(source, outputs, threads, bf16)
        else:
            call, names = _onnx(source, outputs, threads)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{label} cannot be read ({reason}); make it again with 'tokenface export'") from error
    missing = {*inputs, *outputs} - names
    if missing:
        raise CheckpointError(f"{label} lacks {', '.join(sorted(missing))}; make it again with 'tokenface export'")
    return call


def _onnx(source: Path | bytes, outputs: tuple[str, ...], threads: int) -> tuple[Call, set[str]]:
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    for pool in ("intra", "inter"):
        options.add_session_config_entry(f"session.{pool}_op.allow_spinning", "0" if waits_asleep() else "1")
    content = source if isinstance(source, bytes) else str(source)
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base but Exception
        raise RuntimeError(str(error)) from error

    def call(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(outputs, session.run(list(outputs), inputs), strict=True))

    return call, {x.name for x in (*session.get_inputs(), *session.get_outputs())}


def _openvino_core() -> Any:
    """The process's only one, which is never released. Each puts a signal stack of its own under the thread, and two
    that are released in another order leave one there that is freed: the next signal ends the process."""
    global _core
    with _core_lock:
        if _core is None:
            _core = needed("openvino").Core()
        return _core


def _openvino(source: Path | bytes, outputs: tuple[str, ...], threads: int, bf16: bool) -> tuple[Call, set[str]]:
    # fp32 files are meant to be fp32 where a processor would rather compute in bf16
    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"}
    settings["ENABLE_CPU_PINNING"] = False  # a pinned thread waits for its core while others are free
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = _openvino_core()
    model = core.read_model(source if isinstance(source, bytes) else str(source))
    compiled = core.compile_model(model, "CPU", settings)
    requests = threading.local()  # a request serves one call at a time

    def call(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if not hasattr(requests, "own"):
            requests.own = compiled.create_infer_request()
        answer = requests.own.infer(inputs)
        return {name: np.array(answer[name]) for name in outputs}

    return call, {name for port in (*compiled.inputs, *compiled.outputs) for name in port.names}
