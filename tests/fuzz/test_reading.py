"""Whatever columns hold and whatever is asked of them, a command ends in 0, 2 or 3 with at most one line of error."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.fuzz.harness import SCALES, Answer, Driver, Record, fuzz, hostile_text, mostly
from tests.fuzz.recipe_strategies import ROWS, rows_file

CHEAP = "--set=scorer={use: Length}"
_ROLES = ["prompt", "completion", "source", "id", "final_answer", "text", "messages", "instruction", "input", "output"]
_COLUMNS = ["prompt", "completion", "source", "id", "split", "level", "final_answer", "odd"]
Strategy = st.SearchStrategy[Any]


def _arrays() -> dict[str, Any]:
    """Columns of ROWS cells of every type that Parquet keeps, and of those that few programs know."""
    numbers, n = list(range(ROWS)), ROWS
    text = [f"t{k}" for k in numbers]
    zones = {f"zone {zone}": pa.array(numbers, pa.timestamp("us", zone)) for zone in ("UTC", "Mars/Olympus", "+99:99")}
    return zones | {
        "timestamp": pa.array([-(2**53)] * n, pa.timestamp("s")),
        "date": pa.array(numbers, pa.date32()),
        "time": pa.array(numbers, pa.time64("ns")),
        "duration": pa.array(numbers, pa.duration("ms")),
        "decimal": pa.array([Decimal("1.50")] * n, pa.decimal128(38, 10)),
        "half": pa.array(numbers, pa.float32()).cast(pa.float16()),
        "nan": pa.array([float("nan"), float("inf")] * (n // 2)),
        "unsigned": pa.array([2**64 - 1] * n, pa.uint64()),
        "boolean": pa.array([True, None] * (n // 2)),
        "null": pa.nulls(n),
        "binary": pa.array([b"\xff\xfe"] * n),
        "no utf-8": pa.Array.from_buffers(pa.string(), n, pa.array([b"\xff"] * n, pa.binary()).buffers()),
        "dictionary": pa.array(["a", "b"] * (n // 2)).dictionary_encode(),
        "struct": pa.array([{"a": k, "b": [None]} for k in numbers]),
        "list": pa.array([[k, None] for k in numbers]),
        "fixed list": pa.array([[k, k] for k in numbers], pa.list_(pa.int8(), 2)),
        "map": pa.array([[("k", k)] for k in numbers], pa.map_(pa.string(), pa.int64())),
        "view": pa.array(text, pa.string_view()),
        "escapes": pa.array(["\x1b[31mred\x1b[0m\0\u202e"] * n),
        "long": pa.array(["x" * 10_000] * n),
        "text": pa.array(text),
        "same": pa.array(["same"] * n),
        "numbers": pa.array(numbers),
    }


_KINDS = _arrays()


def table_file(path: Path, name: str, kind: str, extra: dict[str, Any]) -> None:
    """The usual rows as Parquet, with a column `name` of a kind in place of, or beside, theirs."""
    import json

    rows = [json.loads(line) for line in rows_file().splitlines()]
    columns = {key: pa.array([row[key] for row in rows]) for key in rows[0]} | extra
    columns[name] = _KINDS[kind]
    pq.write_table(pa.table(columns), path)


# A name must survive the writing of the file: that is Arrow's rule, not ours.
_NAMES = mostly(
    st.sampled_from(_COLUMNS), hostile_text().filter(lambda name: not any("\ud800" <= c <= "\udfff" for c in name))
)


@SCALES
def test_columns_of_any_type_are_read_or_refused(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(case: tuple[str, str, bool], folder: Path) -> Iterable[Answer]:
        name, kind, drop = case
        table_file(folder / "rows.parquet", name, kind, {})
        words = ["run", "rows.parquet", CHEAP, "--out", "out", *(["--on-bad-row=drop"] if drop else [])]
        answer = driver.run(words, folder)
        yield answer
        if answer.status == 0:
            yield driver.run(["inspect", "out"], folder)

    cases = st.tuples(_NAMES, st.sampled_from(sorted(_KINDS)), st.booleans())
    fuzz("columns of any type", cases, attempt, record_property, scale=scale, weight=1.5)


def conditions() -> Strategy:
    operators = st.sampled_from(["=", "!=", " = ", "", "==", "~"])
    one = st.tuples(mostly(st.sampled_from(_COLUMNS), hostile_text()), operators, hostile_text()).map("".join)
    return st.lists(st.one_of(one, st.sampled_from(["split=train", "level!=2", "source=a"])), max_size=3).map(",".join)


@SCALES
def test_conditions_of_any_kind_are_fulfilled_or_refused(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(case: tuple[str, str, str], folder: Path) -> Iterable[Answer]:
        where, name, kind = case
        table_file(folder / "rows.parquet", name, kind, {})
        yield driver.run(["plan", "rows.parquet", CHEAP, f"--where={where}"], folder)

    no_null = conditions().map(lambda where: where.replace("\0", ""))
    cases = st.tuples(no_null, st.just("odd"), st.sampled_from(sorted(_KINDS)))
    fuzz("--where, hostile", cases, attempt, record_property, scale=scale, weight=2)


@SCALES
def test_conditions_that_rows_fulfill_are_taken(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(where: str, folder: Path) -> Iterable[Answer]:
        (folder / "rows.jsonl").write_text(rows_file())
        yield driver.run(["plan", "rows.jsonl", CHEAP, "--where", where], folder)

    one = st.sampled_from(["split=train", "split!=test", "level!=2", "level=1", "source=a", " source = a ", "id!=row3"])
    cases = st.lists(one, min_size=1, max_size=3, unique_by=lambda each: each.strip()[:5]).map(",".join)
    fuzz("--where, valid", cases, attempt, record_property, scale=scale, weight=0.5, valid=True)


@SCALES
def test_roles_of_any_kind_are_taken_or_refused(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(case: tuple[str, str, str | None], folder: Path) -> Iterable[Answer]:
        columns, kind, shape = case
        table_file(folder / "rows.parquet", "odd", kind, {})
        words = ["plan", "rows.parquet", CHEAP, f"--columns={columns}", *([f"--shape={shape}"] if shape else [])]
        yield driver.run(words, folder)

    role = mostly(st.sampled_from(_ROLES), hostile_text())
    pair = st.tuples(
        role, st.sampled_from(["=", "=", "=", "", "=="]), mostly(st.sampled_from(_COLUMNS), hostile_text())
    )
    columns = st.lists(pair.map("".join), min_size=1, max_size=4).map(lambda some: ",".join(some).replace("\0", ""))
    shapes = st.sampled_from([None, None, None, "text", "prompt_completion", "messages", "nonsense"])
    cases = st.tuples(columns, st.sampled_from(sorted(_KINDS)), shapes)
    fuzz("--columns, hostile", cases, attempt, record_property, scale=scale, weight=2)


@SCALES
def test_roles_that_columns_can_have_are_taken(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(columns: str, folder: Path) -> Iterable[Answer]:
        (folder / "rows.jsonl").write_text(rows_file())
        yield driver.run(["plan", "rows.jsonl", CHEAP, "--columns", columns], folder)

    whole = st.permutations(["prompt", "completion"]).map(lambda two: f"prompt={two[0]},completion={two[1]}")
    more = st.sampled_from(["", ",source=level", ",source=split", ",id=id", ",final_answer=level", ",id=prompt"])
    cases = st.tuples(whole, more).map("".join)
    fuzz("--columns, valid", cases, attempt, record_property, scale=scale, weight=0.5, valid=True)


# -- scores --------------------------------------------------------------------------------------------------------


def scores_tables(*, valid: bool) -> Strategy:
    """{column: array} of a file for --scores, of ROWS rows in any order."""
    ids = [f"row{k}" for k in range(ROWS)]
    orders = st.permutations(range(ROWS))
    finite = st.lists(st.floats(0, 100, width=32), min_size=ROWS, max_size=ROWS)

    def good(parts: tuple[Any, list[float], bool, bool]) -> dict[str, Any]:
        order, numbers, losses, tokens = parts
        columns = {"example_id": pa.array([ids[k] for k in order]), "difficulty": pa.array(numbers)}
        columns |= {f"loss_{step}": pa.array(numbers, pa.float32()) for step in (5, 10) if losses}
        return columns | ({"tokens": pa.array(range(ROWS), pa.int32())} if tokens else {})

    whole = st.tuples(orders, finite, st.booleans(), st.booleans()).map(good)
    if valid:
        return whole
    names = st.sampled_from(
        ["example_id", "difficulty", "valid", "tokens", "loss_5", "feature_0", "loss_x", "feature_", "loss_²"]
    )
    change = st.tuples(names, st.sampled_from([None, *sorted(_KINDS)]))
    return st.tuples(whole, st.lists(change, min_size=1, max_size=3)).map(_changed)


def _changed(case: tuple[dict[str, Any], list[tuple[str, str | None]]]) -> dict[str, Any]:
    columns = dict(case[0])
    for name, kind in case[1]:
        if kind is None:
            columns.pop(name, None)
        else:
            columns[name] = _KINDS[kind]
    return columns


def with_scores(driver: Driver, columns: dict[str, Any], folder: Path) -> Answer:
    (folder / "rows.jsonl").write_text(rows_file())
    pq.write_table(pa.table(columns), folder / "scores.parquet")
    return driver.run(["run", "rows.jsonl", "--scores", "scores.parquet", "--out", "out", "--json"], folder)


@SCALES
def test_scores_of_any_type_are_taken_or_refused(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(columns: dict[str, Any], folder: Path) -> Iterable[Answer]:
        yield with_scores(driver, columns, folder)

    fuzz("scores files, hostile", scores_tables(valid=False), attempt, record_property, scale=scale, weight=2)


@SCALES
def test_scores_of_every_row_are_taken(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(columns: dict[str, Any], folder: Path) -> Iterable[Answer]:
        yield with_scores(driver, columns, folder)

    fuzz(
        "scores files, valid", scores_tables(valid=True), attempt, record_property, scale=scale, weight=0.5, valid=True
    )
