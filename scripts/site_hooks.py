"""What the documentation site does beyond MkDocs: pages that live outside docs/, and links to files of the repository.

README.md is the first page, LICENSES.md and CONTRIBUTING.md are pages too: written once, shown in both places. A link
from a page to another file of the repository (an example, a configuration) leads to a copy of it on the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"index.md": "README.md", "licences.md": "LICENSES.md", "contributing.md": "CONTRIBUTING.md"}
COPIES = "files"
"""Folder of the site for files of the repository that pages link to."""
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config) -> Files:
    for name, source in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    for target in sorted(_linked(files)):
        if (ROOT / target).is_file():
            files.append(File.generated(config, f"{COPIES}/{target}", abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page, config, files) -> str:
    return LINK.sub(lambda link: _rewritten(link, page.file.src_uri), markdown)


def _linked(files: Files) -> set[str]:
    found = set()
    for file in files.documentation_pages():
        for link in LINK.finditer(file.content_string):
            target = _repository_path(link[2], file.src_uri)
            if target is not None and not target.startswith("docs/") and target not in PAGES.values():
                found.add(target)
    return found


def _rewritten(link: re.Match, page: str) -> str:
    target = _repository_path(link[2], page)
    if target is None:
        return link[0]
    pages = {source: name for name, source in PAGES.items()}
    place = pages.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else f"{COPIES}/{target}")
    return f"{link[1]}{posixpath.relpath(place, posixpath.dirname(page) or '.')}{link[3] or ''}{link[4]}"


def _repository_path(link: str, page: str) -> str | None:
    """Where a relative link leads in the repository; None for other links, and for what is not there."""
    if "://" in link or link.startswith(("mailto:", "/")):
        return None
    source = PAGES.get(page, f"docs/{page}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return path if (ROOT / path).is_file() or path in PAGES.values() else None
