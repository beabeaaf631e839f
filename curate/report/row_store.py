"""DuckDB database of the rows of a finished run, for paging, filtering and searching."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curate.errors import ExternalError, InputError
from curate.report.finished_run import look_up, shards
from curate.storage.places import arrow_path
from curate.storage.records import check_files, read_finished

MOST_PER_PAGE = 500
_MOST_POINTS = 3_000
_CELL_CHARACTERS = 300  # of a cell in a list; a single row is shown in full
_MOST_FACETS = 200
_OWN = ("example_id", "source_id", "origin", "copy", "difficulty", "cluster", "hard")
_FLAGS, _CHOICES = ("hard", "noise"), ("origin", "cluster", "source_label")


class RowStore:
    """The rows of data/ joined with the tables; read once, after which the database has no access to files.

    columns: of the input, in order. folder: where the database file is kept while it is in use. Raises InputError for
    a folder without a finished run or with files that were changed, ExternalError if duckdb is missing.
    """

    def __init__(self, directory: Path, folder: Path) -> None:
        self.record = read_finished(directory)
        check_files(directory, self.record, "rerun the command that wrote it with --fresh")
        files = shards(directory)
        if not files:
            raise InputError(f"{directory} has no data/train-*.parquet; run it again with --fresh")
        try:
            import duckdb
        except ImportError as error:
            raise ExternalError("rows are browsed with duckdb; pip install 'curate-lm[view]'") from error
        self.columns = [name for name in pq.read_schema(arrow_path(files[0])).names if name not in _OWN]
        self._database = duckdb.connect(str(folder / "rows.duckdb"))
        self._fill(directory, files)
        # No query can access files or the network from here on.
        self._database.execute("SET enable_external_access = false; SET lock_configuration = true")

    def close(self) -> None:
        self._database.close()

    def _fill(self, directory: Path, files: Sequence[Path]) -> None:
        """Create the tables `rows` (data joined with split and scores by source id) and `losses`."""
        tables = directory / "tables"
        names = {name: _columns(tables / f"{name}.parquet") for name in ("split", "scores", "trajectories")}
        self.steps = sorted(int(trajectory[5:]) for trajectory in names["trajectories"] if trajectory[5:].isdecimal())
        source = _quoted(look_up(self.record, "data", "columns", "source") or "") if self._has_source() else "NULL"
        source_tables = "read_parquet($files) d"
        columns = {"noise": "NULL", "tokens": "NULL"}
        if "noise_suspect" in names["split"]:
            source_tables += " LEFT JOIN read_parquet($split) s ON d.source_id = s.example_id"
            columns["noise"] = "s.noise_suspect"
        if "tokens" in names["scores"]:
            source_tables += " LEFT JOIN read_parquet($scores) c ON d.source_id = c.example_id"
            columns["tokens"] = "c.tokens"
        own_columns = ", ".join(f"d.{_quoted(name)}" for name in _OWN)
        texts = ", ".join(f"CAST(d.{_quoted(name)} AS VARCHAR) AS {_text(k)}" for k, name in enumerate(self.columns))
        parameters: dict[str, Any] = {"files": [str(path) for path in files]}
        parameters |= {
            name: str(tables / f"{name}.parquet") for name in ("split", "scores") if f"${name}" in source_tables
        }
        self._database.execute(
            f"CREATE TABLE rows AS SELECT row_number() OVER () - 1 AS n, {own_columns}, {columns['noise']} AS noise, "
            f"{columns['tokens']} AS tokens, CAST({f'd.{source}' if source != 'NULL' else source} AS VARCHAR) "
            f"AS source_label{', ' if texts else ''}{texts} FROM {source_tables}",
            parameters,
        )
        if self.steps:
            losses = ", ".join(f"loss_{step}" for step in self.steps)
            self._database.execute(
                f"CREATE TABLE losses AS SELECT example_id, [{losses}] AS losses FROM read_parquet($file)",
                {"file": str(tables / "trajectories.parquet")},
            )

    def _has_source(self) -> bool:
        return look_up(self.record, "data", "columns", "source") in self.columns

    def about(self) -> dict[str, Any]:
        """Columns, facets (sources, origins, clusters) and numbers of rows."""
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
        totals = self._all("SELECT count(*), count(*) FILTER (hard), count(*) FILTER (noise) FROM rows")[0]
        return {
            "columns": self.columns,
            "facets": facets,
            "steps": self.steps,
            "rows": totals[0],
            "hard": totals[1],
            "noise": totals[2],
        }

    def page(
        self, query: Mapping[str, Any], page: int, size: int, sort: str | None, descending: bool
    ) -> dict[str, Any]:
        """One page of the rows that match a query (see `_where`), with the total and the number of the last page.

        sort: a column of `about`, or difficulty, tokens and the like; None = the order of the result.
        """
        where, values = self._where(query)
        size = max(1, min(size, MOST_PER_PAGE))
        total = self._all(f"SELECT count(*) FROM rows {where}", values)[0][0]
        order = f"{self._sortable(sort)} {'DESC' if descending else 'ASC'} NULLS LAST, n" if sort else "n"
        # Select row numbers first, so that texts are read for one page only.
        chosen = f"SELECT n FROM rows {where} ORDER BY {order} LIMIT {size} OFFSET {size * max(0, page - 1)}"
        numbers = [n for (n,) in self._all(chosen, values)]
        rows_by_number = {
            row["n"]: row
            for row in self._rows("WHERE n IN (SELECT unnest($numbers))", {"numbers": numbers}, _CELL_CHARACTERS)
        }
        return {"total": total, "data": [rows_by_number[n] for n in numbers], "last_page": max(1, -(-total // size))}

    def points(self, query: Mapping[str, Any]) -> list[list[Any]]:
        """[n, tokens, difficulty, hard] of a sample of the rows that match a query, without copies."""
        where, values = self._where(query)
        conditions = "tokens IS NOT NULL AND difficulty IS NOT NULL AND copy = 0"
        sql = f"SELECT n, tokens, difficulty, hard FROM rows {where + ' AND ' if where else 'WHERE '}{conditions}"
        return [list(row) for row in self._all(f"{sql} ORDER BY hash(n) LIMIT {_MOST_POINTS}", values)]

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
        return {"row": row, "parent": parents[0] if parents else None, "losses": self._losses(row["source_id"])}

    def _losses(self, identity: str) -> list[float | None] | None:
        if not self.steps:
            return None
        losses = self._all("SELECT losses FROM losses WHERE example_id = $id", {"id": identity})
        return list(losses[0][0]) if losses else None

    def _rows(self, where: str, values: Mapping[str, Any], limit: int | None) -> list[dict[str, Any]]:
        names = [*_OWN, "noise", "tokens", "source_label"]
        texts = [_text(k) if limit is None else f"substr({_text(k)}, 1, {limit})" for k in range(len(self.columns))]
        rows = self._all(f"SELECT n, {', '.join([*map(_quoted, names), *texts])} FROM rows {where}", values)
        fields = len(names) + 1
        return [{**dict(zip(["n", *names], row[:fields], strict=True)), "cells": list(row[fields:])} for row in rows]

    def _sortable(self, name: str) -> str:
        if name in self.columns:
            return _text(self.columns.index(name))
        if name in (*_OWN, "noise", "tokens", "source_label", "n"):
            return _quoted(name)
        raise InputError(f"there is no column {name!r} to sort by; columns are {', '.join(self.columns)}")

    def _where(self, query: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """WHERE clause and its parameters; parts of a query only ever become parameters, never SQL.

        query: optional keys hard, noise (bool); origin, cluster, source_label (a value); search (text); numbers (row
        numbers from `points`).
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
            texts = [f"contains(lower({_text(k)}), $search)" for k in range(len(self.columns))]
            parts.append("(" + " OR ".join([*texts, "contains(lower(example_id), $search)"]) + ")")
            values["search"] = str(query["search"]).lower()
        if query.get("numbers") is not None:
            parts.append("n IN (SELECT unnest($chosen))")
            values["chosen"] = [int(n) for n in query["numbers"]]
        return (f"WHERE {' AND '.join(parts)}" if parts else ""), values

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
