"""Everything that is not the model: one `curate run --scores` over a million rows, and tokenizing apart.

    python benchmarks/pipeline.py [--rows 1000000] [--out FILE.json]

Makes a Parquet file of rows of about 250 characters and a file of scores, then runs the command in a process of its
own and reports seconds per stage and the largest resident size.
"""

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

_WORDS = ("apples", "train", "costs", "speed", "ratio", "number", "minutes", "twice", "together", "remaining", "price")
_CHUNK = 100_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tokenize-rows", type=int, default=50_000)
    parser.add_argument("--tokenizer", help="folder or hub id; without it the scratch proxy's tokenizer is made")
    parser.add_argument("--out", type=Path, help="JSON file for the record")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        characters = _make(folder, options.rows)
        run = _timed_run(folder)
        tokenizing = _timed_tokenizing(folder, options.tokenize_rows, options.tokenizer)
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "rows": options.rows,
        "characters_per_row": round(characters, 1),
        "run": run,
        "tokenize": tokenizing,
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "versions": {each: metadata.version(each) for each in ("pyarrow", "numpy", "scikit-learn", "tokenizers")},
        "python": platform.python_version(),
    }
    print(f"curate run --scores, {options.rows:,} rows: {run['seconds']:.1f} s, {run['peak_rss_gb']:.2f} GB resident")
    for stage in run["stages"]:
        print(f"  {stage['name']:<12} {stage['seconds']:>7.1f} s")
    print(f"tokenize: {tokenizing['rows_per_second']:,.0f} rows/s")
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


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


def _timed_run(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "curate", "run", str(folder / "rows.parquet")]
    command += ["--scores", str(folder / "scores.parquet"), "--out", str(folder / "out"), "--json"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"curate run failed ({done.returncode}): {done.stderr[-2000:]}")
    # The only child so far: the largest resident size of any child is its.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    record = json.loads((folder / "out" / "run.json").read_text())
    return {
        "seconds": round(seconds, 2),
        "peak_rss_gb": round(peak / 1e9, 3),
        "stages": record["cost"]["stages"],
        "counts": record["counts"],
    }


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
