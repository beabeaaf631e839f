"""Digests of files: by content, name and order; what is remembered is forgotten when a file changes."""

import os
from pathlib import Path

import pytest

from curate.storage import hashing
from curate.storage.cache import Cache
from curate.storage.hashing import file_digest


def test_content_names_and_order_count_and_places_do_not(tmp_path: Path) -> None:
    a, b, copy = tmp_path / "a", tmp_path / "b", tmp_path / "copy"
    a.write_text("one")
    b.write_text("two")
    copy.write_text("one")
    digest = file_digest([(a, "x"), (b, "y")])
    assert file_digest([(copy, "x"), (b, "y")]) == digest
    others = [[(b, "x"), (b, "y")], [(a, "z"), (b, "y")], [(b, "y"), (a, "x")], [(a, "x")]]
    assert digest not in [file_digest(files) for files in others]


def test_bytes_are_read_again_only_when_a_file_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cache = tmp_path / "a", Cache(tmp_path / "cache")
    file.write_text("one")
    first = file_digest([(file, "x")], cache)
    assert first == file_digest([(file, "x")])
    monkeypatch.setattr(hashing, "_content_digest", lambda files: "read")
    assert file_digest([(file, "x")], cache) == first
    os.utime(file, ns=(1, 1))
    assert file_digest([(file, "x")], cache) == "read"
