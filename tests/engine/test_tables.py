"""Tables that workers get are those that were sent."""

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.engine.tables import send_views
from tests.fixtures.mixed_rows import table_of


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ray with the function by which a connected process sends tables, and which refuses views in a test."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'curate-lm[ray]'")
    from ray._private.arrow_serialization import _arrow_table_reduce

    monkeypatch.setitem(ray.cloudpickle.CloudPickler.dispatch, pa.Table, _arrow_table_reduce)
    return ray


def _rows(n: int) -> pa.Table:
    """With views in lists and structs too."""
    nested = pa.list_(pa.struct([("role", pa.string_view()), ("content", pa.binary_view())]))
    turns = [None if k % 5 == 0 else [{"role": "user", "content": b"x" * k}] * (k % 3) for k in range(n)]
    table = table_of(n).append_column(pa.field("chat", nested, metadata={"a": "b"}), pa.array(turns, nested))
    return table.replace_schema_metadata({"about": "rows"})


def test_tables_with_views_arrive_as_they_were(ray: Any) -> None:
    table = pa.concat_tables([_rows(300), _rows(200)])
    with pytest.raises(ValueError, match="Unhandled Arrow array type"):
        ray.cloudpickle.dumps(table)
    send_views(ray)
    send_views(ray)
    sizes = {}
    for low, rows in ((0, 500), (0, 0), (7, 0), (7, 100), (250, 100), (499, 1)):
        part = table.slice(low, rows)
        content = ray.cloudpickle.dumps(part, protocol=5)
        back = pickle.loads(content)
        back.validate(full=True)
        assert back.equals(part)
        assert back.schema.equals(table.schema, check_metadata=True)
        sizes[rows] = len(content)
        for name in table.column_names if rows else ():
            assert [len(chunk) for chunk in back[name].chunks] == [len(chunk) for chunk in part[name].chunks]
    assert sizes[1] < sizes[500] / 10  # a slice is sent without the rest


def test_other_tables_are_sent_as_ray_does(ray: Any) -> None:
    table = pa.table({"text": ["a", "b"], "number": np.arange(2)})
    ordinary = ray.cloudpickle.dumps(table)
    send_views(ray)
    assert ray.cloudpickle.dumps(table) == ordinary
