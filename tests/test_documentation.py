"""What the pages say works: tutorials run block by block, the notebook runs, links lead somewhere, the site builds."""

from __future__ import annotations

import os
import pydoc
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

import tokenface
from tokenface.errors import ModelFileError
from tokenface.images.models import model_path
from tokenface.training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "LICENSES.md", *sorted(DOCS.rglob("*.md"))]
LOSSES = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (DOCS / "reference" / "losses.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and "`tokenface." in line
]
"""Rows of the index of losses: equation (of the paper's), what, function, keys."""
GUIDE_WORDS = 900
NO_GUIDES = {"results.md", "model-card.md"}
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def detector_files() -> None:
    pytest.importorskip("skimage", reason="the tutorials' photo comes with scikit-image")
    try:
        model_path("full_range", quiet=True)
    except ModelFileError as error:
        pytest.skip(f"needs the detector's files ({error})")


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_it_is_written(page, detector_files, tmp_path, monkeypatch):
    if "tables" in page.read_text(encoding="utf-8"):
        pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    names: dict = {"__name__": "__main__"}
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 3
    for block in blocks:
        line = text[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(page), "exec"), names)


def test_the_notebook_runs_headless(detector_files, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="needs the extra 'docs'")
    nbformat = pytest.importorskip("nbformat", reason="needs the extra 'docs'")
    pytest.importorskip("ipykernel", reason="needs the extra 'docs'")
    notebook = nbformat.read(ROOT / "examples" / "colab.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # committed without anybody's output
    source = str(Path(tokenface.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "IPYTHONDIR": str(tmp_path / "ipython")}
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environment)
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert {path.name for path in tmp_path.glob("head.*")} >= {"head.glb", "head.obj"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_that_exist(page):
    generated = {"licences.md", "contributing.md", "index.md"}  # pages that scripts/site_hooks.py makes
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        assert (page.parent / link).exists() or link in generated, f"{page.name} links to {link}"


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        assert page.relative_to(DOCS).as_posix() in text, f"{page.name} is not in mkdocs.yml"


def test_the_site_builds_without_a_warning_and_asks_nobody_else(tmp_path):
    pytest.importorskip("material", reason="needs the extra 'docs'")
    pytest.importorskip("mkdocstrings_handlers.python", reason="needs the extra 'docs'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "A photo in, a 3-D head out" in index
    face = (tmp_path / "site" / "reference" / "faces.html").read_text(encoding="utf-8")
    assert "neutral_vertices" in face  # the reference is made of docstrings
    assert (tmp_path / "site" / "files" / "examples" / "onnx_photo.py").is_file()
    for page in (tmp_path / "site").rglob("*.html"):
        fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text("utf-8"))
        assert not [address for address in fetched if "canonical" not in address], page.name


@pytest.mark.parametrize("row", LOSSES, ids=lambda row: row[-2].strip("`").removeprefix("tokenface."))
def test_the_index_of_losses_names_functions_and_keys_that_exist(row):
    function = pydoc.locate(row[-2].strip("`"))
    assert callable(function), f"{row[-2]} does not exist"
    if len(row) == 4 and row[0].isdigit():
        assert re.search(rf"Eqs?\. .*\b{row[0]}\b", function.__doc__), f"{row[-2]} does not say that it is Eq. {row[0]}"
    for key in re.findall(r"`([^`]+)`", row[-1]):
        kind = TrainConfig
        for name in key.split("."):
            assert name in {field.name for field in fields(kind)}, f"no key {key}"
            kind = get_type_hints(kind)[name]


def test_every_equation_is_in_the_index_of_losses():
    assert {int(row[0]) for row in LOSSES if row[0].isdigit()} == set(range(1, 14))


def test_guides_are_short():
    for page in [*DOCS.glob("*.md"), *(DOCS / "how-to").glob("*.md")]:
        words = len(page.read_text(encoding="utf-8").split())
        if page.name not in NO_GUIDES:
            assert words <= GUIDE_WORDS, f"{page.name} has {words} words; figures go to results.md, experiments to lab/"
