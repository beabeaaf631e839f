"""The rows of the result: their order, their ids, and what they are joined by."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from augmenters import Duplicate, Replay
from curate import InputError
from curate.data.readers import read
from curate.mixture.mixture import rebuild
from curate.mixture.plan import identity
from tests.fixtures.pipelines import (
    _contract_table,
    _known,
    _replay_file,
    _with_known,
)


def test_order_is_a_seeded_shuffle_or_the_input_with_copies_behind_their_row(tmp_path: Path) -> None:
    table = _contract_table()
    replay = Replay(data=_replay_file(tmp_path), share=0.1)
    recipe = {"augmenters": [Duplicate(times=2), replay]}
    kept = _with_known(**recipe, order="keep").run(table).columns()["example_id"].to_pylist()
    old = [name for name in kept if not name.startswith("replay:")]
    assert kept[: len(old)] == old
    assert list(dict.fromkeys(name.split("#")[0] for name in old)) == table["id"].to_pylist()
    assert all(
        later == f"{name.split('#')[0]}#{int(name.partition('#')[2] or 0) + 1}"
        for name, later in itertools.pairwise(old)
        if "#" in later
    )
    one, again = (_with_known(**recipe).run(table).columns()["example_id"].to_pylist() for _ in range(2))
    other = _with_known(**recipe, seed=1).run(table).columns()["example_id"].to_pylist()
    assert one == again
    assert sorted(one) == sorted(kept)
    assert one != kept != other != one
    first, second = (_with_known(seed=seed).run(table).columns()["example_id"].to_pylist() for seed in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)
    late = [place for place, name in enumerate(one) if "#" in name]
    assert 0.35 < np.mean(late) / len(one) < 0.65  # copies are everywhere, not last


def test_a_copy_that_takes_another_rows_id_is_an_error() -> None:
    table = _known([1.0, 1.0, 9.0, 1.0]).set_column(0, "id", [["a", "b", "c", "c#1"]])
    with pytest.raises(InputError, match="'c#1' names two rows"):
        _ = _with_known().run(table).dataset


@pytest.mark.parametrize("part", ["split", "plan"])
def test_rows_are_never_joined_by_position_alone(part: str) -> None:
    loaded = read(_contract_table())
    curated = _with_known().run(loaded)
    split, n = curated.split, len(curated.split)
    if part == "split":
        order = np.arange(n)[::-1]
        split = dataclasses.replace(split, ids=split.ids.take(pa.array(order)))
    plan = identity(n - 1 if part == "plan" else n)
    with pytest.raises(InputError, match="read the data once"):
        rebuild(loaded, split, plan)


def test_in_front_the_second_half_of_the_rows_has_no_copies(tmp_path: Path) -> None:
    table = _contract_table()
    recipe = {"augmenters": [Duplicate(times=2), Replay(data=_replay_file(tmp_path), share=0.1)], "order": "front"}
    curated = _with_known(**recipe).run(table)
    assert curated.parts is not None
    first, second = curated.parts.values()
    columns = curated.columns()
    copies = np.array(columns["copy"].to_pylist())
    themselves = int((copies == 0).sum())
    assert second == themselves // 2
    assert first == themselves - second + int((copies > 0).sum())
    assert not copies[first:].any()
    assert {"original", "replay"} == set(columns["origin"].to_pylist()[first:])
    ids = columns["example_id"].to_pylist()
    shuffled = _with_known(**recipe | {"order": "shuffle"}).run(table)
    assert sorted(ids) == sorted(shuffled.columns()["example_id"].to_pylist())
    assert 0.3 < np.mean(np.flatnonzero(copies > 0)) / first < 0.7  # among the rows, not behind them
    # The second part is a sample of the rows, whether they have copies or not.
    hard = np.array([bool(each) for each in columns["hard"].to_pylist()])
    assert 0.15 < hard[first:].mean() < 0.45
    assert ids == _with_known(**recipe).run(table).columns()["example_id"].to_pylist()
    assert ids != _with_known(**recipe, seed=1).run(table).columns()["example_id"].to_pylist()


def test_weights_have_the_order_of_a_shuffle() -> None:
    table = _contract_table()
    ids = [
        _with_known(order=order, copies="weights").run(table).columns()["example_id"].to_pylist()
        for order in ("shuffle", "front")
    ]
    assert ids[0] == ids[1]
