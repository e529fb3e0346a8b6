"""What an artefact depends on: equal facts, equal fingerprints; anything else makes it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tokenface.core.fingerprint import (
    content_hash,
    differing,
    fingerprint,
    is_current,
    note_path,
    remove_note,
    remove_stale,
    write_note,
)


@dataclass(frozen=True)
class Options:
    size: int = 3
    names: frozenset[str] = frozenset({"b", "a"})


def test_a_fingerprint_is_of_the_facts_and_not_of_their_order():
    facts = {"options": Options(), "box": np.arange(3.0), "path": Path("a"), "none": None}
    assert fingerprint(facts) == fingerprint(dict(reversed(facts.items())))
    for name, other in (("options", Options(4)), ("box", np.arange(4.0)), ("path", Path("b")), ("none", 0)):
        assert fingerprint({**facts, name: other}) != fingerprint(facts)
    with pytest.raises(TypeError, match="cannot be a object"):
        fingerprint({"what": object()})


def test_contents_count_and_names_do_not(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"12")
    second.write_bytes(b"12")
    assert content_hash(first) == content_hash(second) != ""
    second.write_bytes(b"123")
    assert content_hash(first) != content_hash(second)
    assert content_hash(tmp_path / "nothing") == ""
    before = content_hash(tmp_path)
    second.write_bytes(b"124")
    assert content_hash(tmp_path) != before


def test_an_artefact_is_current_only_with_a_note_of_these_facts(tmp_path):
    artefact = tmp_path / "mesh.ply"
    facts = {"weights": "abc", "box": [1, 2]}
    write_note(artefact, facts)
    assert not is_current(artefact, facts)  # the artefact itself is gone
    artefact.write_bytes(b"mesh")
    assert is_current(artefact, facts)
    assert differing(artefact, {**facts, "weights": "def", "new": 1}) == ["new", "weights"]
    assert not is_current(artefact, {**facts, "weights": "def"})
    note_path(artefact).write_text("{ damaged")
    assert not is_current(artefact, facts)
    write_note(artefact, facts)
    remove_note(artefact)
    assert not is_current(artefact, facts)


def test_what_an_earlier_run_left_goes_and_nothing_else(tmp_path):
    for name in ("00_a.ply", "01_b.ply", "notes.txt"):
        (tmp_path / name).write_text("")
    remove_stale(tmp_path, "[0-9][0-9]_*.ply", [tmp_path / "00_a.ply"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00_a.ply", "notes.txt"]
    remove_stale(tmp_path / "nowhere", "*", [])
