"""Arrow tables on their way to workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from curate.storage.arrow_types import in_types, storable

Reduced = tuple[Callable[..., Any], tuple[Any, ...]]  # as `object.__reduce__` returns


def send_views(ray: Any) -> None:
    """Make Ray send tables with views of strings or bytes, which its own serializer refuses. Call it when connected.

    They travel in the large types, of which a slice is sent without the rest, and arrive in their own.
    """
    dispatch = ray.cloudpickle.CloudPickler.dispatch
    ordinary = dispatch.get(pa.Table)
    if ordinary is None or isinstance(ordinary, _Reducer):  # none: a client, whose tables are pickled by Arrow
        return
    dispatch[pa.Table] = _Reducer(ordinary)


class _Reducer:
    """Reduces a table to what is pickled. ordinary: Ray's own function for it."""

    def __init__(self, ordinary: Callable[[pa.Table], Reduced]) -> None:
        self.ordinary = ordinary

    def __call__(self, table: pa.Table) -> Reduced:
        sent = pa.schema([field.with_type(storable(field.type)) for field in table.schema], table.schema.metadata)
        return self.ordinary(table) if sent.equals(table.schema) else (in_types, (in_types(table, sent), table.schema))
