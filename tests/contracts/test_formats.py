"""Every file format keeps the contract of formats, and is named wherever formats are listed."""

from pathlib import Path
from typing import Any

import pytest

from curate.cli.list import listed
from curate.data.encodings import COMPRESSED
from curate.data.file_format import Format
from curate.data.known_formats import DELIMITED, ENCODED, FORMATS, NAMES, SUFFIXES
from curate.data.sources import TextOptions, format_of, read_files
from curate.errors import InputError

EVERY = pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
DAMAGED = [b"", b"\0\1\2\3" * 300, bytes(range(128, 256)), b"<!doctype html><p>Not found</p>"]


def _read(path: Path, options: TextOptions) -> tuple[str | None, Any, Any]:
    """What `read_files` says of a file that it refuses, else None and what it returns."""
    try:
        return None, *read_files([path], [], options)
    except InputError as error:
        return str(error), None, None


@EVERY
def test_a_suffix_belongs_to_one_format(known: Format) -> None:
    assert known.suffixes
    for suffix in known.suffixes:
        assert suffix == suffix.lower()
        assert suffix.startswith(".")
        assert SUFFIXES.count(suffix) == 1
        assert suffix not in (*COMPRESSED, ".zip")
        assert format_of(Path(f"rows{suffix.upper()}")) is known


@EVERY
@pytest.mark.parametrize("content", DAMAGED, ids=["empty", "zeros", "high", "page"])
def test_a_damaged_file_is_read_or_named(known: Format, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"rows{known.suffixes[0]}"
    path.write_bytes(content)
    refused, table, notes = _read(path, TextOptions())
    if refused is None:
        assert table.num_columns > 0
        assert all(name in ("", *table.column_names) for name, _ in notes)
    else:
        assert refused.startswith(str(path))
        assert "\n" not in refused
        assert ";" in refused, "say what to do"


@EVERY
def test_a_format_is_text_or_not_and_heeds_the_options_of_its_kind(known: Format, tmp_path: Path) -> None:
    assert (known.parse is None) is not (known.tables is None)
    path = tmp_path / f"rows{known.suffixes[0]}"
    path.write_bytes(b"a;b\n1;2\n")
    for name, value, fitting in (("encoding", "cp1252", ENCODED), ("delimiter", ";", DELIMITED)):
        refused, _, _ = _read(path, TextOptions(**{name: value}))
        assert (f"--{name} {value} is for" in (refused or "")) is (known.name not in fitting)


@EVERY
def test_a_format_is_named_wherever_formats_are_listed(known: Format, tmp_path: Path) -> None:
    assert known.name in NAMES
    described = listed("formats")[known.name]
    assert all(suffix in described for suffix in known.suffixes)
    assert "\n" not in known.about
    with pytest.raises(InputError) as caught:
        read_files([tmp_path / "rows.unknown"], [])
    assert all(suffix in str(caught.value) for suffix in known.suffixes)
