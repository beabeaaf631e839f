"""`curate gate`: find near-duplicates and evaluation text in a dataset."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.cli.engine import add_engine_arguments
from curate.cli.fields import add_field_options, add_reading_fields, field_values, options_of
from curate.cli.options import add_repeatable
from curate.console.formatting import one_line, visible
from curate.console.printing import show
from curate.console.progress import Progress
from curate.dataset_reference import READING, in_braces, named_dataset
from curate.errors import ExternalError, InputError
from curate.gate.compared_text import Texts, read_texts
from curate.gate.gate import Gate, GateIndex, Hit
from curate.storage.atomic import publish_file
from curate.storage.places import check_place, expanded, files_under, local_path

if TYPE_CHECKING:
    import pyarrow as pa


_WRITTEN = ("near_duplicate", "ngrams")  # options with their own form
_FIELDS = options_of(Gate, without=_WRITTEN)
_SHOWN = 3  # matches of each kind in the terminal
_SET_HELP = "a dataset, or in YAML {data: FILE, where: split=test, columns: text=COLUMN, name: NAME}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate gate`, but for --json, which every command has."""
    parser.add_argument("data", metavar="DATA", help="the rows to check: a file, a folder, or a hub dataset id")
    against = parser.add_argument_group(
        "what to compare DATA with (also with itself; the first near-duplicate is kept)"
    )
    against.add_argument("--against", metavar="DATA2", help=f"rows that DATA must not resemble: {_SET_HELP}")
    add_repeatable(against, "--evaluation", "DATA3", "evaluation set (repeatable), in the same form")
    rules = parser.add_argument_group("rules")
    near_duplicate, ngrams = (Gate.model_fields[name] for name in _WRITTEN)
    rules.add_argument(
        "--near-duplicate",
        default=str(near_duplicate.default),
        metavar="SHARE|off",
        help=f"{near_duplicate.description} ({near_duplicate.default})",
    )
    rules.add_argument("--ngrams", default=",".join(map(str, ngrams.default)), metavar="N,...", help=ngrams.description)
    add_field_options(rules, Gate, _FIELDS)
    rules.add_argument("--no-template", action="store_true", help="allow texts that differ only in numbers")
    results = parser.add_argument_group("results")
    results.add_argument("--out", type=local_path, metavar="FILE", help="Parquet file for the hits, one row each")
    results.add_argument("--clean", type=local_path, metavar="FILE", help="Parquet file for the rows without a hit")
    reading = parser.add_argument_group("how to read DATA")
    add_reading_fields(reading)
    add_engine_arguments(parser)
    reading.add_argument("--seed", type=int, default=0, metavar="N", help="seed of that sample (0)")


def command(options: argparse.Namespace) -> dict[str, Any]:
    """Compare DATA with other datasets and with itself; returns the object that --json prints."""
    for name in ("out", "clean"):
        _check_file(f"--{name}", getattr(options, name))
    _check_results(options)
    progress = Progress()
    with progress.stage("read"):
        texts = read_texts(
            options.data, part=_part(options), **{name: getattr(options, name) for name in (*READING, "seed")}
        )
        index = _index(options)
    progress.note(f"{len(texts.texts):,} rows of {visible(texts.name)}")
    if texts.missing:
        progress.note(f"  {texts.missing:,} rows have no text to compare and are left out")
    ids = texts.ids.to_pylist()
    hits: list[list[Hit]] = []
    with progress.stage("compare", len(ids)) as stage:
        engine = options.workers_of
        step = 16_384 if engine is None else max(len(ids), 1)  # workers get all at once, in pieces
        for low in range(0, len(ids), step):
            hits += index.admit(texts.texts[low : low + step], ids[low : low + step], engine)
            stage.advance(min(step, len(ids) - low))
    result = _result(options, texts, hits, index)
    if options.out is not None:
        _write(_hits_table(hits, ids, texts.loaded.rows.tolist()), options.out)
    if options.clean is not None:
        _write(texts.table.filter([not row_hits for row_hits in hits]), options.clean)
    if not options.json:
        _print(result, texts, hits)
    return result


def _hits_table(hits: list[list[Hit]], ids: list[str], rows: list[int]) -> pa.Table:
    """Columns row (position in the input), example_id, kind, dataset, matched_id, score and matched_text: one per hit.

    hits, ids, rows: (n,) per text.
    """
    import pyarrow as pa

    flat = [(rows[k], ids[k], *hit) for k, row_hits in enumerate(hits) for hit in row_hits]
    names = ("row", "example_id", "kind", "dataset", "matched_id", "score", "matched_text")
    kinds = (pa.int64(), *[pa.string()] * 4, pa.float64(), pa.string())
    columns = zip(*flat, strict=True) if flat else ([] for _ in names)
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names=list(names))


def _part(options: argparse.Namespace) -> Any:
    return options.part or Gate.model_fields["part"].default


def _index(options: argparse.Namespace) -> GateIndex:
    from pydantic import ValidationError

    sets = [named_dataset(text, "--evaluation") for text in options.evaluation]
    settings: dict[str, Any] = {
        "evaluation": sets,
        "near_duplicate": _number(options.near_duplicate),
        "ngrams": [size for size in options.ngrams.split(",") if size.strip()],
        "template": not options.no_template,
        **field_values(options, _FIELDS),
    }
    if settings["near_duplicate"] is None and not sets:
        raise InputError("with --near-duplicate off there is nothing to look for; name a set with --evaluation DATA3")
    if settings["near_duplicate"] is None and options.against:
        raise InputError("--against looks for near-duplicates, but --near-duplicate is off; leave one of them out")
    try:
        gate = Gate(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"--{name}: {message} (given: {first['input']!r}); see `curate gate --help`") from error
    index = gate.open()
    if options.against:
        described = named_dataset(options.against, "--against")
        reading = dict(described) if isinstance(described, dict) else {"data": described}
        try:
            source = read_texts(reading.pop("data", None), part=_part(options), **reading)
        except (InputError, ExternalError) as error:
            raise type(error)(f"--against: {in_braces(str(error))}") from error
        index.add_source(source.texts, source.ids.to_pylist(), source.name, options.workers_of)
    return index


def _number(text: str) -> float | None:
    if text == "off":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--near-duplicate {text}: give a share such as 0.7, or off") from error


def _check_file(option: str, path: Path | None) -> None:
    if path is None:
        return
    if path.is_dir() or path.suffix != ".parquet":
        raise InputError(f"{option} {path} is no Parquet file; give a name that ends in .parquet")
    check_place(path)


def _check_results(options: argparse.Namespace) -> None:
    """Raise InputError if an output file would overwrite the other one or an input."""
    inputs: list[tuple[str, Any]] = [("DATA", options.data)]
    inputs += [("--against", named_dataset(options.against, "--against"))] if options.against else []
    inputs += [("--evaluation", named_dataset(evaluation, "--evaluation")) for evaluation in options.evaluation]
    if options.out is not None and options.clean is not None and _same_file(options.out, options.clean):
        raise InputError(f"--out and --clean both name {options.out}; name two files")
    for option in ("out", "clean"):
        path: Path | None = getattr(options, option)
        if path is None or not path.exists():
            continue
        for role, source in inputs:
            place = expanded(source["data"] if isinstance(source, dict) else source)
            read = list(files_under(place)) if place.is_dir() else [place]
            if any(_same_file(path, file) for file in read):
                raise InputError(f"--{option} {path} would overwrite what {role} reads; name another file")


def _same_file(first: Path, second: Path) -> bool:
    """Whether two paths are the same file, by whatever names and links."""
    if first.exists() and second.exists():
        return first.samefile(second)
    return first.resolve() == second.resolve()


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    publish_file(path, sink.getvalue().to_pybytes())


def _result(options: argparse.Namespace, texts: Texts, hits: list[list[Hit]], index: GateIndex) -> dict[str, Any]:
    rows = len(hits)
    rows_hit = sum(bool(row_hits) for row_hits in hits)
    kinds = Counter((hit.kind, hit.dataset) for row_hits in hits for hit in row_hits)
    return {
        "rows": rows,
        "without_text": texts.missing,
        "rows_with_hits": rows_hit,
        "rows_clean": rows - rows_hit,
        "hits": [
            {"kind": kind, "dataset": dataset, "rows": count}
            for (kind, dataset), count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        ],
        "crowded_searches": index.crowded,
        "out": None if options.out is None else str(options.out),
        "clean": None if options.clean is None else str(options.clean),
    }


def _print(result: dict[str, Any], texts: Texts, hits: list[list[Hit]]) -> None:
    from rich.table import Table

    share = result["rows_with_hits"] / max(result["rows"], 1)
    parts: list[Any] = [f"{result['rows_with_hits']:,} of {result['rows']:,} rows hit something ({share:.1%})"]
    if result["hits"]:
        table = Table()
        for name in ("kind", "dataset", "rows"):
            table.add_column(name, justify="right" if name == "rows" else "left")
        for counted in result["hits"]:
            table.add_row(counted["kind"], visible(counted["dataset"]), f"{counted['rows']:,}")
        parts.append(table)
    for counted in result["hits"]:
        parts.append(f"{counted['kind']}, {visible(counted['dataset'])}:")
        kind = (counted["kind"], counted["dataset"])
        matches = [(k, hit) for k, row in enumerate(hits) for hit in row if hit[:2] == kind]
        for k, hit in matches[:_SHOWN]:
            description = f"similarity {hit.score:.2f}" if hit.text is None else f'"{one_line(hit.text, 60)}"'
            own = one_line(texts.texts[k].as_py(), 70)
            parts.append(f"  {one_line(texts.ids[k].as_py(), 40)} - {one_line(hit.id, 40)}: {description}\n      {own}")
    for name, description in (("out", "hits"), ("clean", "rows without hits")):
        if result[name] is not None:
            parts.append(f"{description} -> {result[name]}")
    show(*parts)
