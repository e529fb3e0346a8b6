"""One list of floors for the architecture page and the import contract; only the top uses the root package."""

from __future__ import annotations

import re
import sys
import tomllib
import warnings
from pathlib import Path

import grimp
import pytest

from tokenface.moved import MOVED

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_states_the_floors_that_the_contract_enforces():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    enforced = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    stated = re.search(r"## The floors.*?```text\n(.*?)```", page, re.DOTALL)
    assert stated is not None
    assert stated[1].split("\n")[:-1] == enforced


def test_only_the_top_floors_import_the_root_package():
    graph = grimp.build_graph("tokenface", cache_dir=None)
    above = {"tokenface.cli", "tokenface.app", "tokenface.__main__"}
    importers = graph.find_modules_that_directly_import("tokenface")
    assert {name for name in importers if ".".join(name.split(".")[:2]) not in above} == set()


@pytest.mark.parametrize("former", [*MOVED, "tokenface.bulk.table", "tokenface.convert.converter"])
def test_a_documented_former_path_is_the_present_module_and_says_so(former):
    sys.modules.pop(former, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = __import__(former, fromlist=["_"])
    assert module.__name__ not in MOVED
    assert module is sys.modules[module.__name__]
    assert any(former in str(w.message) for w in caught if w.category is DeprecationWarning)
