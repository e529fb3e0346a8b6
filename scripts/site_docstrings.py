"""Docstrings as the reference reads them: a blank line before each section, which the code's style leaves out."""

from __future__ import annotations

import re

from griffe import Extension, Object

SECTION = re.compile(r"(?<!\n)\n(?=(?:Args|Returns|Yields|Raises):$)", re.MULTILINE)


class BlankLines(Extension):
    def on_object(self, *, obj: Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = SECTION.sub("\n\n", obj.docstring.value)
