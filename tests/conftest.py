"""Shared fixtures: where optional data lives, and skipping with a reason when it is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import torch
from made_once import made_once

if TYPE_CHECKING:
    from tokenface.network import TokenFace

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of research data that is not part of the project; TOKENFACE_SHARED names it."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("TOKENFACE_SHARED", default)) / "data"
    if not folder.is_dir():
        pytest.skip("needs the shared research data (set TOKENFACE_SHARED to its folder)")
    return folder


@pytest.fixture(scope="session")
def exported_network(tmp_path_factory) -> tuple[TokenFace, Path]:
    """A tiny network of OpenHead, crops of 64 pixels, and its fp32 ONNX file: half a minute, once for all workers."""
    from tokenface.deploy.onnx_files import export_network
    from tokenface.head.registry import load_head
    from tokenface.network import NetworkConfig, TokenFace

    config = NetworkConfig(backbone="vit_tiny_stem", image_size=64)
    network = TokenFace(config, load_head().sizes, seed=0).eval()
    name = "parameters.fp32.onnx"
    folder = made_once(tmp_path_factory, "exported_network", lambda folder: export_network(network, folder / name))
    return network, folder / name


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """A Ray on this machine with two CPUs, whose processes see the sources and the tests."""
    ray = pytest.importorskip("ray", reason="needs Ray; pip install 'tokenface[cluster]'")
    import tokenface

    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(tokenface.__file__).parents[1]), str(Path(__file__).parent)])
    # Ray's processes step behind all others (nice 15): beside pytest's own they would hardly get a turn
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    try:
        ray.init("local", num_cpus=2, object_store_memory=80 << 20, include_dashboard=False, log_to_driver=False)
    finally:
        os.environ.clear()
        os.environ.update(before)
    yield ray
    ray.shutdown()
