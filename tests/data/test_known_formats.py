"""The lists of formats that messages and help texts use."""

from curate.data import formats
from curate.data.known_formats import DELIMITED, ENCODED, FORMATS, NAMES, SUFFIXES
from curate.dataset_reference import Reading


def test_the_lists_are_those_of_the_package() -> None:
    assert tuple(getattr(formats, name) for name in formats.__all__) == FORMATS
    assert {".jsonl", ".parquet", ".csv"} < set(SUFFIXES)
    assert NAMES == "Arrow, CSV, JSON, Parquet or text"


def test_options_are_for_text_and_for_formats_with_a_delimiter() -> None:
    assert ENCODED == ("CSV", "JSON", "text")
    assert DELIMITED == ("CSV",)
    assert (Reading.model_fields["encoding"].description or "").startswith("of CSV, JSON or text files")
