"""Benchmark one `curate run --scores` over a million rows, and tokenization by itself."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_DETAILS = """\
    python benchmarks/pipeline.py [--rows 1000000] [--before FOLDER] [--folder FOLDER] [--out FILE.json]
    python benchmarks/pipeline.py --state [--rows 100000000] [--out FILE.json]

Makes a Parquet file of rows of about 286 characters and a file of scores, then runs the command in a process of its
own and reports seconds per stage and the largest resident size. --before: a checkout of an earlier state of this
repository, which runs in turn with this one, so that other load on the machine falls on both.

--state makes what a run of so many rows holds besides the rows themselves (ids, five losses, the split, the plan with
copies and new rows, the order of the result), and reports the resident size after each step.
"""

_WORDS = ("apples", "train", "costs", "speed", "ratio", "number", "minutes", "twice", "together", "remaining", "price")
_CHUNK = 100_000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tokenize-rows", type=int, default=50_000)
    parser.add_argument("--tokenizer", help="folder or hub id; without it the scratch proxy's tokenizer is made")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="an earlier checkout to alternate with")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the rows are made, and kept for the next time")
    parser.add_argument("--state", action="store_true", help="only what a run holds besides the rows")
    parser.add_argument("--out", type=Path, help="JSON file for the record")
    options = parser.parse_args()
    record = _machine(options.rows)
    if options.state:
        record["state"] = _state(options.rows)
    else:
        with tempfile.TemporaryDirectory() as name:
            record |= _runs(options.folder or Path(name), options)
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _runs(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Of this tree, and of the earlier one: the run of median seconds; and tokenizing."""
    if (folder / "scores.parquet").exists():
        characters = json.loads((folder / "made.json").read_text())["characters"]
    else:
        folder.mkdir(parents=True, exist_ok=True)
        characters = _make(folder, options.rows)
        (folder / "made.json").write_text(json.dumps({"characters": characters}))
    trees = {"run": Path(__file__).resolve().parents[1]} | ({"before": options.before} if options.before else {})
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    for _ in range(options.repeats):
        for name, tree in trees.items():
            records[name].append(_timed_run(folder, tree))
    record: dict[str, Any] = {"characters_per_row": round(characters, 1)}
    for name, runs in records.items():
        record[name] = sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]
        record[name]["all_seconds"] = [run["seconds"] for run in runs]
        print(
            f"{name}: curate run --scores, {options.rows:,} rows: {record[name]['seconds']:.1f} s, "
            f"{max(run['peak_rss_gb'] for run in runs):.2f} GB resident"
        )
        for stage in record[name]["stages"]:
            print(f"  {stage['name']:<12} {stage['seconds']:>7.1f} s")
    record["tokenize"] = _timed_tokenizing(folder, options.tokenize_rows, options.tokenizer)
    print(f"tokenize: {record['tokenize']['rows_per_second']:,.0f} rows/s")
    return record


def _machine(rows: int) -> dict[str, Any]:
    return {
        "command": shlex.join(["python", *sys.argv]),
        "rows": rows,
        "load_before": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "versions": {each: metadata.version(each) for each in ("pyarrow", "numpy", "scikit-learn", "tokenizers")},
        "python": platform.python_version(),
    }


def _make(folder: Path, rows: int) -> float:
    """rows.parquet and scores.parquet; returns mean characters per row."""
    generator = np.random.default_rng(0)
    words = np.array(_WORDS, object)
    characters = 0
    schema = pa.schema([("prompt", pa.string()), ("completion", pa.string()), ("source", pa.string())])
    with pq.ParquetWriter(folder / "rows.parquet", schema, compression="zstd") as writer:
        for low in range(0, rows, _CHUNK):
            n = min(_CHUNK, rows - low)
            prompts = [
                f"{low + i}: " + " ".join(row) for i, row in enumerate(words[generator.integers(0, 11, (n, 20))])
            ]
            completions = [" ".join(row) for row in words[generator.integers(0, 11, (n, 20))]]
            characters += sum(map(len, prompts)) + sum(map(len, completions))
            sources = [f"source{k}" for k in generator.integers(0, 10, n)]
            writer.write_table(pa.table([prompts, completions, sources], schema=schema))
    from curate.data.readers import read

    ids = read(folder / "rows.parquet").examples.ids
    hard = generator.random(rows) < 0.3
    start = np.where(hard, 3.0, 2.0) + generator.normal(0, 0.2, rows)
    losses = [start - np.where(hard, 0.1, 0.3) * k + generator.normal(0, 0.05, rows) for k in range(1, 7)]
    table: dict[str, Any] = {"example_id": ids, "difficulty": np.mean(losses, axis=0).astype(np.float32)}
    table |= {"valid": np.ones(rows, bool), "tokens": generator.integers(20, 80, rows).astype(np.int32)}
    table |= {f"loss_{500 * (k + 1)}": loss.astype(np.float32) for k, loss in enumerate(losses)}
    order = generator.permutation(rows)  # joined by id, so the order must not matter
    pq.write_table(pa.table(table).take(order), folder / "scores.parquet")
    return characters / rows


def _timed_run(folder: Path, tree: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "curate", "run", str(folder / "rows.parquet")]
    command += ["--scores", str(folder / "scores.parquet"), "--out", str(folder / "out"), "--fresh", "--json"]
    started, tree = time.perf_counter(), tree.resolve()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=output, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            output.seek(0)
            raise SystemExit(f"curate run failed ({os.waitstatus_to_exitcode(status)}): {output.read()[-2000:]}")
    peak = usage.ru_maxrss * 1024
    record = json.loads((folder / "out" / "run.json").read_text())
    return {
        "seconds": round(seconds, 2),
        "peak_rss_gb": round(peak / 1e9, 3),
        "stages": record["cost"]["stages"],
        "counts": record["counts"],
    }


def _state(rows: int) -> list[dict[str, Any]]:
    """Resident bytes per row after each step of making what a run of so many rows holds besides them."""
    from augmenters import Duplicate
    from curate.clusterers import KMeans
    from curate.data.examples import Examples
    from curate.data.readers import Loaded
    from curate.difficulty.scores import Scores
    from curate.difficulty.split import make_split
    from curate.mixture.mixture import Mixture
    from curate.mixture.plan import NewRows, Realized, fold

    steps: list[dict[str, Any]] = []
    begun = _resident()["now"]

    def done(name: str) -> None:
        size = _resident()
        steps.append({"step": name, "gb": round(size["now"] / 1e9, 3), "peak_gb": round(size["peak"] / 1e9, 3)})
        steps[-1]["bytes_per_row"] = round((size["now"] - begun) / rows, 1)
        print(json.dumps(steps[-1]), flush=True)

    generator = np.random.default_rng(0)
    parts = []
    for low in range(0, rows, _CHUNK):
        digits = generator.bytes(16 * min(_CHUNK, rows - low)).hex().encode()
        ends = np.arange(0, len(digits) + 1, 32, dtype=np.int64)
        parts.append(pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(digits)))
    ids = pa.concat_arrays(parts)
    del parts, digits, ends
    pa.default_memory_pool().release_unused()
    done("ids")
    losses = np.empty((rows, 5), np.float32)
    for low in range(0, rows, _CHUNK):
        part = losses[low : low + _CHUNK]
        hard = generator.random((len(part), 1)) < 0.3
        part[:] = (
            np.where(hard, 3.0, 2.0) - np.where(hard, 0.1, 0.3) * np.arange(5) + generator.normal(0, 0.2, part.shape)
        )
    valid, tokens = np.ones(rows, bool), generator.integers(20, 80, rows, dtype=np.int32)
    nothing_cut = np.zeros(rows, np.int32)
    scores = Scores(
        losses, losses.mean(axis=1), valid, losses, np.arange(1, 6), tokens, nothing_cut, nothing_cut.copy(), ids
    )
    done("scores")
    split = make_split(scores, KMeans())
    done("split")
    plan = fold([Duplicate(times=1)], split)
    new = rows // 100
    table = pa.table({"prompt": pa.nulls(new, pa.string()), "completion": pa.nulls(new, pa.string())})
    names = [f"synthetic:{k}" for k in range(new)]
    made = NewRows(table, names, names, "synthetic")
    done("plan and new rows")
    nothing = pa.table({"prompt": pa.nulls(rows), "completion": pa.nulls(rows)})  # the rows themselves are elsewhere
    columns = {"prompt": "prompt", "completion": "completion"}
    examples = Examples(nothing, ids, "prompt_completion", columns)
    loaded = Loaded(examples, [], [], "made", rows, np.arange(rows), "table")
    mixture = Mixture(loaded, split, plan, [Realized(made)], "shuffle", 0)
    assert len(mixture.added.slice(0, _CHUNK)) == _CHUNK
    done("order")
    return steps


def _resident() -> dict[str, int]:
    """Bytes of this process: now, and at most so far."""
    now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return {"now": now, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def _timed_tokenizing(folder: Path, rows: int, name: str | None) -> dict[str, Any]:
    from curate.data.readers import read
    from curate.models.loading import load_tokenizer
    from curate.models.scratch import scratch_tokenizer
    from curate.tokenization.encoding import tokenize
    from curate.tokenization.templates import resolve_template

    examples = read(folder / "rows.parquet", limit=rows).examples
    tokenizer = load_tokenizer(name) if name else scratch_tokenizer(examples, 0)
    template = resolve_template("auto", examples.shape, scratch=name is None)
    started = time.perf_counter()
    tokens = tokenize(examples, tokenizer, template=template, max_length=512)
    seconds = time.perf_counter() - started
    return {
        "rows": len(examples),
        "seconds": round(seconds, 3),
        "rows_per_second": round(len(examples) / seconds),
        "tokens": len(tokens.ids),
        "template": template,
    }


if __name__ == "__main__":
    sys.exit(main())
