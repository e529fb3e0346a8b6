"""Former import paths and names: they work for one release more, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

MOVED = {
    "tokenface.bulk": "tokenface.jobs.bulk",
    "tokenface.camera": "tokenface.geometry.camera",
    "tokenface.camera_opencv": "tokenface.geometry.pinhole",
    "tokenface.camera_opengl": "tokenface.geometry.pinhole",
    "tokenface.convert": "tokenface.retarget",
    "tokenface.evaluation.refinement": "tokenface.evaluation.icp",
    "tokenface.geometry.opengl": "tokenface.geometry.pinhole",
    "tokenface.identity.measure": "tokenface.evaluation.recognition",
    "tokenface.images.crop": "tokenface.geometry.crop",
    "tokenface.inference.reconstruct": "tokenface.model",
    "tokenface.losses.coverage": "tokenface.losses.photometric",
    "tokenface.losses.swapping": "tokenface.losses.consistency",
    "tokenface.network.checkpoint": "tokenface.inference.checkpoint",
    "tokenface.network.components": "tokenface.parameters",
    "tokenface.refinement.measure": "tokenface.training.refinement_statistics",
    "tokenface.video.run": "tokenface.jobs.track",
}
"""Former module or package → the present one."""


class FormerPaths(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a former module's present one, and says so."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return None if present(fullname) is None else importlib.machinery.ModuleSpec(fullname, self)

    def get_code(self, fullname: str) -> object:
        """For `python -m`."""
        name = present(fullname)
        assert name is not None
        return compile(f"import runpy; runpy.run_module({name!r}, run_name='__main__')", fullname, "exec")

    def exec_module(self, module: ModuleType) -> None:
        name = present(module.__name__)
        assert name is not None
        warnings.warn(f"'{module.__name__}' is now '{name}'; import that", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(name)


def present(former: str) -> str | None:
    """The present name of a former module, or of one inside a former package; None: it is no former one."""
    for old, new in MOVED.items():
        if former == old or former.startswith(f"{old}."):
            return new + former.removeprefix(old)
    return None


def keep_former_paths() -> None:
    """Let `import` find former paths from now on."""
    if not any(isinstance(finder, FormerPaths) for finder in sys.meta_path):
        sys.meta_path.insert(0, FormerPaths())


def warn_of_former(former: str, now: str, stacklevel: int = 3) -> None:
    """A DeprecationWarning at the line that used a former name."""
    warnings.warn(f"'{former}' is now '{now}'; use that", DeprecationWarning, stacklevel=stacklevel)


def former_attribute(former: str, now: str) -> Any:
    """A read-only property under a former name, which warns and hands on the present one."""

    def get(self: object) -> Any:
        warn_of_former(former, now)
        return getattr(self, now)

    return property(get, doc=f"Former name of `{now}`.")
