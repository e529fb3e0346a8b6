"""Prose of README.md and docs/ wrapped at 100 columns: `make format` writes, `make lint` checks (`--check`).

python scripts/wrap_docs.py [--check]

Paragraphs and list items are filled; tables, code, headings, pictures and directives stay as they are.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100
ITEM = re.compile(r"^(\s*)([*-]|\d+\.) +(?=\S)")
KEPT = re.compile(r"^(#|\||:::|<|!\[[^\]]*\]\([^)]*\)$|---$)")
"""Beginnings of lines that are blocks of their own."""
MARKUP = re.compile(r"^([-*+>#|]|\d+[.)])")
"""Beginnings of words that would be markup at the beginning of a line."""
WORD = re.compile(r"(?:`[^`]*`|[^\s`])+|`")


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def wrapped(text: str) -> str:
    """The page with filled paragraphs; wrapping twice changes nothing more."""
    out: list[str] = []
    block: list[str] = []
    fence = front = False

    def flush() -> None:
        if block:
            out.extend(_filled(block))
            block.clear()

    lines = text.splitlines()
    for number, line in enumerate(lines):
        if number == 0 and line == "---":
            front = True
        elif front:
            front = line != "---"
        elif line.lstrip().startswith("```"):
            flush()
            fence = not fence
        elif not fence and line.strip() and not KEPT.match(line) and not (not block and line.startswith("    ")):
            if ITEM.match(line):
                flush()
            block.append(line)
            continue
        else:
            flush()
        out.append(line.rstrip())
    flush()
    return "\n".join(out) + "\n"


def _filled(block: list[str]) -> list[str]:
    item = ITEM.match(block[0])
    first = item[0] if item else block[0][: len(block[0]) - len(block[0].lstrip())]
    rest = " " * len(first)
    words: list[str] = []
    for word in WORD.findall(" ".join(line.strip() for line in [block[0][len(first) :], *block[1:]])):
        if words and MARKUP.match(word):
            words[-1] += f" {word}"
        else:
            words.append(word)
    lines, line = [], first
    for word in words:
        if line.strip() != first.strip() and len(line) + 1 + len(word) > WIDTH:
            lines.append(line.rstrip())
            line = rest
        line += word if line in (first, rest) else f" {word}"
    return [*lines, line.rstrip()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="name the pages that would change; exit code 1 if any")
    check = parser.parse_args().check
    changed = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := wrapped(text)) != text:
            changed.append(page.relative_to(ROOT).as_posix())
            if not check:
                page.write_text(new, encoding="utf-8")
    if check and changed:
        print(f"not wrapped at {WIDTH} columns: {', '.join(changed)}; run 'make format'", file=sys.stderr)
    return int(check and bool(changed))


if __name__ == "__main__":
    raise SystemExit(main())
