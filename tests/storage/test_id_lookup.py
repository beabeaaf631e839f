"""Ids by numbers: what a table of strings would say, also where two ids have one number."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate.storage import id_lookup
from curate.storage.id_lookup import id_numbers, places_of, repeated

IDS = [
    "",
    "a",
    "b",
    "a\0",
    "ab",
    "é",
    "x" * 8,
    "x" * 16,
    "x" * 300,
    "x" * 301,
    "y" * 256,
    *(f"row {k}" for k in range(500)),
]


@pytest.fixture(params=["numbers", "one number for many"])
def few_numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_lookup, "_AT_ONCE", 64)
    if request.param != "numbers":
        whole = id_lookup._numbers
        monkeypatch.setattr(id_lookup, "_numbers", lambda ids: whole(ids) % np.uint64(7))


def test_equal_ids_have_equal_numbers_in_every_type_and_company() -> None:
    numbers = id_numbers(pa.array(IDS))
    assert len(np.unique(numbers)) == len(IDS)
    assert np.array_equal(id_numbers(pa.array(IDS, pa.large_string())), numbers)
    backwards = [id_numbers(pa.array([each]))[0] for each in IDS]
    assert backwards == numbers.tolist()
    assert np.array_equal(id_numbers(pa.array(IDS).slice(3, 9)), numbers[3:12])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_places_are_those_that_arrow_finds(few_numbers: None, kind: pa.DataType) -> None:
    ids = pa.array(IDS, kind)
    rng = np.random.default_rng(0)
    wanted = pa.array([*(IDS[k] for k in rng.integers(0, len(IDS), 900)), "row 500", "c"])
    expected = pc.fill_null(pc.index_in(wanted.cast(kind), value_set=ids).cast(pa.int64()), -1).to_pylist()
    assert places_of(wanted, ids).tolist() == expected
    assert places_of(wanted, pa.array([], kind)).tolist() == [-1] * 902
    assert places_of(pa.array(["a"]), pa.array(["b", "a", "a"])).tolist() == [1]


def test_repeated_ids_are_all_that_stand_there_twice(few_numbers: None) -> None:
    assert repeated(pa.array(IDS)).tolist() == []
    again = [*IDS, "a", "row 7", "a"]
    assert [again[row] for row in repeated(pa.array(again))] == ["a", "row 7", "a", "row 7", "a"]
    assert repeated(pa.array(again)).tolist() == sorted(repeated(pa.array(again)).tolist())
    assert repeated(pa.array(IDS), pa.array(["a", "row 7", "a"], pa.large_string())).tolist() == [
        *repeated(pa.array(again)).tolist()
    ]
    assert repeated(pa.array([], pa.string())).tolist() == []
