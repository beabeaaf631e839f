"""Ids of copies, and the ids of rows that are like them."""

import numpy as np
import pyarrow as pa
import pytest

from curate.mixture.copy_ids import copy_ids, like_copies, taken_by_a_copy


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_copy_has_the_id_of_its_row_and_its_number(kind: pa.DataType) -> None:
    found = copy_ids(pa.array(["a", "b#1", "a"], kind), np.array([0, 2, 12], np.int32))
    assert found.to_pylist() == ["a", "b#1#2", "a#12"]
    assert found.type == kind


def test_ids_like_those_of_copies_are_found_and_clash_only_with_copies_that_are_there() -> None:
    ids = pa.array(["a", "a#1", "b#x", "#", "b#01", "c#2", "d##3", "d#", "c", "e#1234567890"])
    assert like_copies(ids) == ["a#1", "c#2", "d##3"]
    assert like_copies(pa.array(["a", "b"])) == []

    def clash(**times: int) -> str | None:
        counts = [times.get(name, 1) for name in ids.to_pylist()]
        return taken_by_a_copy(ids, like_copies(ids), np.array(counts, np.int32))

    assert clash() is None
    assert clash(a=2) == "a#1"
    assert clash(c=2) is None
    assert clash(c=3) == "c#2"
    assert clash(**{"d#": 4}) == "d##3"
    assert taken_by_a_copy(ids, [], np.ones(len(ids), np.int32)) is None
