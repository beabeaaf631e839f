"""Names in messages: short, counted, and with the nearest valid one."""

from pathlib import Path

import pyarrow as pa

from curate.data.sources import format_of
from curate.data.wording import alternatives, first_line, listed, nearest, nearest_path, short, type_name


def test_texts_are_cut_to_one_short_line() -> None:
    assert short("x" * 40) == "x" * 40
    assert short("x" * 41) == "x" * 37 + "..."
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert len(type_name(pa.struct([(f"field{k}", pa.int64()) for k in range(100)]))) == 80
    assert type_name(pa.list_(pa.json_())) == "list<item: JSON>"


def test_lists_of_names_say_how_many_there_are() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(["ä b", "n\nm", "p\0q"]) == r"ä b, 'n\nm', 'p\x00q'"
    many = listed([f"name{k}" for k in range(1_000)])
    assert many.endswith(", ... (1,000 in all)")
    assert len(many) < 150


def test_the_nearest_name_is_offered_and_a_far_one_is_not(tmp_path: Path) -> None:
    assert nearest("Promt", ["prompt", "answer"]) == " (did you mean 'prompt'?)"
    assert nearest("zzz", ["prompt", "answer"]) == ""
    (tmp_path / "train.jsonl").write_text("")
    assert nearest_path(tmp_path / "trian.jsonl", format_of) == f": did you mean {tmp_path / 'train.jsonl'}?"
    assert "no file of a similar name (but train.jsonl)" in nearest_path(tmp_path / "zzz", format_of)
    assert f"there is no folder {tmp_path / 'no'}" in nearest_path(tmp_path / "no" / "train.jsonl", format_of)


def test_alternatives_are_a_phrase() -> None:
    assert alternatives(["a"]) == "a"
    assert alternatives(["a", "b"], "and") == "a and b"
    assert alternatives(["a", "b", "c"]) == "a, b or c"
    assert alternatives([]) == ""
