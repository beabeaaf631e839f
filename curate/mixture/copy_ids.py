"""Ids of copies: `id#c` for the c-th copy of the row `id`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def copy_ids(ids: pa.Array, copies: npt.NDArray[np.int32]) -> pa.Array:
    """(m,) `id` for the row itself, `id#c` for its c-th copy. ids, copies: (m,)."""
    number = pc.cast(pa.array(copies), pa.string()).cast(ids.type)
    copied = pc.binary_join_element_wise(ids, number, pa.scalar("#", ids.type))
    return pc.if_else(pa.array(copies > 0), copied, ids)


def like_copies(ids: pa.Array) -> list[str]:
    """The ids that look like those of copies."""
    if not pc.any(pc.match_substring(ids, "#")).as_py():  # ten times faster than a pattern
        return []
    matching: list[str] = ids.filter(pc.match_substring_regex(ids, "#[1-9][0-9]{0,8}$")).to_pylist()
    return matching


def taken_by_a_copy(ids: pa.Array, like_copies: list[str], counts: npt.NDArray[np.int32]) -> str | None:
    """The first of the ids `like_copies` that collides with a copy of a row; None if none does.

    ids, counts: (n,) id and planned occurrences of each row.
    """
    if not like_copies:
        return None
    split_names = [name.rpartition("#") for name in like_copies]
    places = pc.index_in(pa.array([name for name, _, _ in split_names], ids.type), value_set=ids).to_pylist()
    for name, (_, _, number), place in zip(like_copies, split_names, places, strict=True):
        if place is not None and counts[place] > int(number):
            return name
    return None
