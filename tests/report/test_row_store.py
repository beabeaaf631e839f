"""Pages, filters and searches over all rows say what the tables say; what is asked for only ever becomes a value."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.errors import InputError
from curate.report.row_store import RowStore
from tests.fixtures.views import write_rows

ROWS = 1_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RowStore]:
    folder = tmp_path_factory.mktemp("store")
    write_rows(folder / "out", ROWS)
    found = RowStore(folder / "out", folder)
    yield found
    found.close()


def test_what_there_is_to_choose_from(store: RowStore) -> None:
    about = store.about()
    assert about["columns"] == ["prompt", "completion", "source"]
    assert (about["rows"], about["hard"], about["noise"], about["steps"]) == (1_100, 200, 20, [1, 9])
    assert about["reducible"] == 100
    assert {each["value"]: each["rows"] for each in about["facets"]["origin"]} == {"original": 1_000, "duplicate": 100}
    assert {each["value"]: each["rows"] for each in about["facets"]["source_label"]} == {"left": 600, "right": 500}


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ({}, 1_100),
        ({"hard": True}, 200),
        ({"hard": False}, 900),
        ({"noise": True, "origin": "original"}, 10),
        ({"reducible": True}, 100),
        ({"hard": True, "reducible": False}, 100),
        ({"source_label": "right", "hard": True}, 0),
        ({"search": "QUESTION 77 "}, 1),
        ({"search": "r77"}, 12),
        ({"search": "100%"}, 0),
        ({"search": "question_77"}, 0),
        ({"cluster": "1"}, 200),
        ({"numbers": [0, 5]}, 2),
        ({"search": "' OR 1=1 --"}, 0),
        ({"origin": "x'); DROP TABLE rows; --"}, 0),
    ],
)
def test_filters_leave_the_rows_that_they_name(store: RowStore, query: dict[str, Any], total: int) -> None:
    assert store.page(query, 1, 10, None, False)["total"] == total


def test_pages_stand_one_after_the_other_in_order(store: RowStore) -> None:
    pages = [store.page({"origin": "original"}, page, 300, "difficulty", True) for page in (1, 2, 3, 4)]
    rows = [row for page in pages for row in page["data"]]
    assert [page["last_page"] for page in pages] == [4] * 4
    assert len({row["example_id"] for row in rows}) == ROWS
    assert [row["difficulty"] for row in rows] == sorted((float(k % 997) for k in range(ROWS)), reverse=True)
    with pytest.raises(InputError, match="no column"):
        store.page({}, 1, 10, "n; DROP TABLE rows", False)


def test_rows_stand_as_in_the_result_and_what_is_chosen_is_named(store: RowStore) -> None:
    first = [row["example_id"] for row in store.page({}, 1, 500, None, False)["data"]]
    assert first == [f"r{k}" for k in range(500)]
    assert store.ids({"hard": True, "origin": "original"}) == [f"r{k}" for k in range(0, ROWS, 10)]
    assert store.page({"ids": ["r3", "r20#1", "no row"]}, 1, 10, None, False)["total"] == 2
    assert store.losses({"ids": ["r3", "r20#1"]}) == [[3, False, [5.0, 4.0]], [1002, True, [22.0, 21.0]]]
    assert 0 < len(store.losses({})) <= 60


def test_a_row_stands_beside_its_original_with_its_losses(store: RowStore) -> None:
    (copy,) = store.page({"search": "r70#1"}, 1, 10, None, False)["data"]
    found = store.row(copy["n"])
    assert found["row"]["cells"][0].startswith("question 70 ")
    assert found["parent"]["example_id"] == "r70"
    assert found["losses"] == [72.0, 71.0]
    assert store.row(3)["parent"] is None
    with pytest.raises(InputError, match="no row"):
        store.row(10**6)


def test_points_are_rows_and_no_copies(store: RowStore) -> None:
    points = store.points({"hard": True})
    assert len(points) == 100
    assert all(hard for *_, hard in points)


def test_no_query_reaches_outside(store: RowStore, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="disabled"):
        store._all("SELECT * FROM read_text('/etc/passwd')")
    with pytest.raises(Exception, match=r"disabled|locked"):
        store._all(f"COPY rows TO '{tmp_path}/x.csv'")
    with pytest.raises(Exception, match="locked"):
        store._all("SET enable_external_access = true")
