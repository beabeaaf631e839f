"""DuckDB database of the rows of a finished run, for paging, filtering and searching."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import ExternalError, InputError
from curate.report.embedded_rows import OWN, is_turns, parent_problems, problem_column
from curate.report.finished_run import look_up, shards
from curate.storage.places import arrow_path
from curate.storage.records import check_files, read_finished

MOST_PER_PAGE = 500
_MOST_POINTS = 3_000
_MOST_CURVES = 60
_KEPT_SEARCHES = 20
_SYSTEM = "^(system|developer): .*?\\n\\nuser: "  # as a regular expression; embedded_rows.js has the same
_CELL_CHARACTERS = 300  # of a cell in a list; a single row is shown in full
_MOST_FACETS = 200
_KNOWN = (*OWN, "noise", "reducible", "tokens", "source_label")
_FLAGS, _CHOICES = ("hard", "noise", "reducible"), ("origin", "cluster", "source_label")


class RowStore:
    """The rows of data/ joined with the tables; read once, after which the database has no access to files.

    columns: of the input, in order. folder: where the database file is kept while it is in use. Raises InputError for
    a folder without a finished run or with files that were changed, ExternalError if duckdb is missing.
    """

    def __init__(self, directory: Path, folder: Path) -> None:
        self.record, self.name = read_finished(directory), directory.name
        check_files(directory, self.record, "rerun the command that wrote it with --fresh")
        files = shards(directory)
        if not files:
            raise InputError(f"{directory} has no data/train-*.parquet; run it again with --fresh")
        try:
            import duckdb
        except ImportError as error:
            raise ExternalError("rows are browsed with duckdb; pip install 'curate-lm[view]'") from error
        schemas = [pq.read_schema(arrow_path(path)) for path in files]
        self._schema = pa.unify_schemas(schemas, promote_options="permissive")
        self.columns = [name for name in self._schema.names if name not in OWN]
        self._problems = parent_problems(directory)
        self._searches: dict[str, str] = {}
        self._searched, self._searching = 0, Lock()
        self._database = duckdb.connect(str(folder / "rows.duckdb"))
        self._fill(directory, files)
        # No query can access files or the network from here on.
        self._database.execute("SET enable_external_access = false; SET lock_configuration = true")

    def close(self) -> None:
        self._database.close()

    def _fill(self, directory: Path, files: Sequence[Path]) -> None:
        tables = directory / "tables"
        names = {name: _columns(tables / f"{name}.parquet") for name in ("split", "scores", "trajectories")}
        self.steps = sorted(int(trajectory[5:]) for trajectory in names["trajectories"] if trajectory[5:].isdecimal())
        name = look_up(self.record, "data", "columns", "source")
        source = f"d.{_quoted(name)}" if name in self.columns else "NULL"
        # Numbered before anything is joined, which keeps no order.
        number = "n" + "_" * max(map(len, self._schema.names))  # as no column is called
        joined = f"(SELECT *, row_number() OVER () - 1 AS {number} FROM read_parquet($files, union_by_name = true)) d"
        expressions = {"noise": "NULL", "reducible": "NULL", "tokens": "NULL"}
        # What is known of an original is known of its copies, and not of a new row that was made from it.
        of = "d.source_id = {}.example_id AND d.origin IN ('original', 'duplicate')"
        split = {"noise": "noise_suspect", "reducible": "reducible"}
        split = {name: column for name, column in split.items() if column in names["split"]}
        if split:
            joined += f" LEFT JOIN read_parquet($split) s ON {of.format('s')}"
            expressions |= {name: f"s.{column}" for name, column in split.items()}
        if "tokens" in names["scores"]:
            joined += f" LEFT JOIN read_parquet($scores) c ON {of.format('c')}"
            expressions["tokens"] = "c.tokens"
        own = ", ".join(
            [f"d.{_quoted(name)}" for name in OWN] + [f"{sql} AS {name}" for name, sql in expressions.items()]
        )
        texts = ", ".join(f"{self._as_text(name)} AS {_text(k)}" for k, name in enumerate(self.columns))
        values: dict[str, Any] = {"files": [str(path) for path in files]}
        values |= {name: str(tables / f"{name}.parquet") for name in ("split", "scores") if f"${name}" in joined}
        self._database.execute(
            f"CREATE TABLE rows AS SELECT d.{number} AS n, {own}, CAST({source} AS VARCHAR) AS "
            f"source_label{', ' if texts else ''}{texts} FROM {joined}",
            values,
        )
        if self.steps:
            losses = ", ".join(f"loss_{step}" for step in self.steps)
            self._database.execute(
                f"CREATE TABLE losses AS SELECT example_id, [{losses}] AS losses FROM read_parquet($file)",
                {"file": str(tables / "trajectories.parquet")},
            )

    def _as_text(self, name: str) -> str:
        """A cell in SQL as text: conversations as "who: what", other nested values as JSON."""
        column, kind = f"d.{_quoted(name)}", self._schema.field(name).type
        if is_turns(kind):
            who, what = (_quoted(field.name) for field in kind.value_type)
            turns = f"list_transform({column}, lambda turn: concat_ws(': ', turn.{who}, turn.{what}))"
            return f"array_to_string({turns}, chr(10) || chr(10))"
        return f"CAST({f'to_json({column})' if pa.types.is_nested(kind) else column} AS VARCHAR)"

    def about(self) -> dict[str, Any]:
        """Columns, facets (sources, origins, clusters) and numbers of rows.

        reducible: None where it is known of no row.
        """
        facets = {
            name: [
                {"value": value, "rows": rows}
                for value, rows in self._all(
                    f"SELECT CAST({name} AS VARCHAR), count(*) FROM rows GROUP BY 1 ORDER BY 2 DESC, 1 "
                    f"LIMIT {_MOST_FACETS}"
                )
            ]
            for name in _CHOICES
        }
        counts = ("count(*)", "count(*) FILTER (hard)", "count(*) FILTER (noise)", "sum(CAST(reducible AS INTEGER))")
        counted = self._all(f"SELECT {', '.join(counts)} FROM rows")[0]
        numbers = dict(zip(("rows", "hard", "noise", "reducible"), counted, strict=True))
        return {"columns": self.columns, "facets": facets, "steps": self.steps, **numbers}

    def page(
        self, query: Mapping[str, Any], page: int, size: int, sort: str | None, descending: bool
    ) -> dict[str, Any]:
        """One page of the rows that match a query (see `_where`), with the total and the number of the last page.

        sort: a column of `about`, or difficulty, tokens and others; None = the order of the result.
        """
        where, values = self._where(query)
        size = max(1, min(size, MOST_PER_PAGE))
        total = self._all(f"SELECT count(*) FROM rows {where}", values)[0][0]
        order = f"{self._sortable(sort)} {'DESC' if descending else 'ASC'} NULLS LAST, n" if sort else "n"
        # Select row numbers first, so that texts are read for one page only.
        chosen = f"SELECT n FROM rows {where} ORDER BY {order} LIMIT {size} OFFSET {size * max(0, page - 1)}"
        numbers = [n for (n,) in self._all(chosen, values)]
        row_of_number = {
            row["n"]: row
            for row in self._rows("WHERE n IN (SELECT unnest($numbers))", {"numbers": numbers}, _CELL_CHARACTERS)
        }
        return {"total": total, "data": [row_of_number[n] for n in numbers], "last_page": max(1, -(-total // size))}

    def points(self, query: Mapping[str, Any]) -> list[list[Any]]:
        """[n, tokens, difficulty, hard] of a sample of the rows that match a query, without copies."""
        where, values = self._where(query)
        both = "tokens IS NOT NULL AND difficulty IS NOT NULL AND copy = 0"
        sql = f"SELECT n, tokens, difficulty, hard FROM rows {where + ' AND ' if where else 'WHERE '}{both}"
        return [list(row) for row in self._all(f"{sql} ORDER BY hash(n) LIMIT {_MOST_POINTS}", values)]

    def losses(self, query: Mapping[str, Any]) -> list[list[Any]]:
        """[n, hard, losses at `steps`] of a sample of the rows that match a query."""
        if not self.steps:
            return []
        where, values = self._where(query)
        chosen = f"SELECT n, hard, source_id FROM rows {where} ORDER BY hash(n) LIMIT {_MOST_CURVES}"
        sql = f"SELECT c.n, c.hard, l.losses FROM ({chosen}) c JOIN losses l ON l.example_id = c.source_id ORDER BY c.n"
        return [list(row) for row in self._all(sql, values)]

    def ids(self, query: Mapping[str, Any]) -> list[str]:
        """The example ids of all rows that match a query."""
        where, values = self._where(query)
        return [identity for (identity,) in self._all(f"SELECT example_id FROM rows {where} ORDER BY n", values)]

    def row(self, n: int) -> dict[str, Any]:
        """One row in full, its original if it is another row, and the losses of the original."""
        rows = self._rows("WHERE n = $n", {"n": n}, None)
        if not rows:
            raise InputError(f"there is no row {n}")
        row = rows[0]
        parents = (
            self._rows("WHERE example_id = $id", {"id": row["source_id"]}, None)
            if row["copy"] or row["source_id"] != row["example_id"]
            else []
        )
        if not parents and row["source_id"] in self._problems:  # only new rows are in the result
            cells: list[str | None] = [None] * len(self.columns)
            cells[problem_column(self.record, self.columns)] = self._problems[row["source_id"]]
            parents = [{"example_id": row["source_id"], "cells": cells}]
        losses = {"losses": self._losses(row["source_id"]), "losses_of": row["source_id"]}
        return {"row": row, "parent": parents[0] if parents else None, **losses}

    def _losses(self, identity: str) -> list[float | None] | None:
        if not self.steps:
            return None
        records = self._all("SELECT losses FROM losses WHERE example_id = $id", {"id": identity})
        return list(records[0][0]) if records else None

    def _rows(self, where: str, values: Mapping[str, Any], limit: int | None) -> list[dict[str, Any]]:
        names = _KNOWN
        texts = [self._listed(k, limit) for k in range(len(self.columns))]
        rows = self._all(f"SELECT n, {', '.join([*map(_quoted, names), *texts])} FROM rows {where}", values)
        own = len(names) + 1
        return [{**dict(zip(["n", *names], row[:own], strict=True)), "cells": list(row[own:])} for row in rows]

    def _listed(self, k: int, limit: int | None) -> str:
        """The k-th text in SQL; in a list its beginning, without the system prompt, which conversations may share."""
        if limit is None:
            return _text(k)
        turns = is_turns(self._schema.field(self.columns[k]).type)
        text = f"regexp_replace({_text(k)}, '{_SYSTEM}', 'user: ', 's')" if turns else _text(k)
        return f"substr({text}, 1, {limit})"

    def _sortable(self, name: str) -> str:
        if name in self.columns:
            return _text(self.columns.index(name))
        if name in (*_KNOWN, "n"):
            return _quoted(name)
        raise InputError(f"there is no column {name!r} to sort by; columns are {', '.join(self.columns)}")

    def _where(self, query: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """WHERE clause and its parameters; parts of a query only ever become parameters, never SQL.

        query: optional keys hard, noise, reducible (bool); origin, cluster, source_label (a value); search (text);
        numbers (row numbers from `points`); ids (example ids).
        """
        parts: list[str] = []
        values: dict[str, Any] = {}
        for name in _FLAGS:
            if isinstance(query.get(name), bool):
                parts.append(f"coalesce({name}, false) = ${name}")
                values[name] = query[name]
        for name in _CHOICES:
            if query.get(name) is not None:
                parts.append(f"CAST({name} AS VARCHAR) = ${name}")
                values[name] = str(query[name])
        if query.get("search"):
            parts.append(f"n IN (SELECT n FROM {self._found(str(query['search']))})")
        if query.get("numbers") is not None:
            parts.append("n IN (SELECT unnest($chosen))")
            values["chosen"] = [int(n) for n in query["numbers"]]
        if query.get("ids") is not None:
            parts.append("example_id IN (SELECT unnest($ids))")
            values["ids"] = [str(row_id) for row_id in query["ids"]]
        return (f"WHERE {' AND '.join(parts)}" if parts else ""), values

    def _found(self, search: str) -> str:
        """Name of a table of the rows that hold a text; searched once, for the total, the page and the points."""
        with self._searching:
            if search not in self._searches:
                columns = [*(_text(k) for k in range(len(self.columns))), "example_id"]
                if set(search) & set("%_\\"):
                    condition, value = "contains(lower({}), $search)", search.lower()
                else:  # a third faster
                    condition, value = "{} ILIKE $search", f"%{search}%"
                name = f"found_{self._searched}"
                where = " OR ".join(map(condition.format, columns))
                self._all(f"CREATE TABLE {name} AS SELECT n FROM rows WHERE {where}", {"search": value})
                self._searches[search] = name
                self._searched += 1
            # Tables that are no longer asked for stay until there are several others: a page may be reading them.
            while len(self._searches) > _KEPT_SEARCHES:
                self._all(f"DROP TABLE {self._searches.pop(next(iter(self._searches)))}")
            return self._searches[search]

    def _all(self, sql: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All results of a statement. Each call has its own cursor, since requests are answered by several threads."""
        cursor = self._database.cursor()
        try:
            return list(cursor.execute(sql, dict(values or {})).fetchall())
        finally:
            cursor.close()


def _columns(path: Path) -> list[str]:
    return list(pq.read_schema(arrow_path(path)).names) if path.is_file() else []


def _quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _text(k: int) -> str:
    """Database name of the k-th input column, whose own name is arbitrary."""
    return f"text_{k}"


def as_json(value: Any) -> bytes:
    """JSON of a response; NaN and infinities become null."""
    return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
