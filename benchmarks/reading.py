"""Benchmark reading of Parquet, and of JSON Lines against the reader of `datasets`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_DETAILS = """\
    python benchmarks/reading.py [--rows 1000000] [--repeats 2] [--out FILE.json]

Rows have 286 characters in a prompt and a completion; a second file of JSON Lines, of a tenth of the rows, has a column
of objects with different keys, for which neither reader has a fast path and `datasets` needs about a minute per
million. `read` also gives every row an id (a hash of its content), finds the shape and checks the rows, which
`datasets` does not; the file alone is the same work as theirs. Every reading is a process of its own; times are of
the reading alone, without imports, and the least of the repeats counts. About two minutes on two quiet cores; each
file is reported as soon as it is measured.
"""

_WORDS = ("apples", "train", "costs", "speed", "ratio", "number", "minutes", "twice", "together", "remaining", "price")
_CHUNK = 100_000
_PROMPT, _COMPLETION = 143, 143  # characters

_OURS = """
import sys, time
from curate.data.readers import read
import datasets
started = time.perf_counter()
loaded = read(sys.argv[1])
print(len(loaded.examples), time.perf_counter() - started)
"""
_FILE = """
import sys, time
from pathlib import Path
from curate.data.sources import read_files
import datasets
started = time.perf_counter()
table, _ = read_files([Path(sys.argv[1])], [])
print(len(table), time.perf_counter() - started)
"""
_THEIRS = """
import sys, tempfile, time
import datasets
with tempfile.TemporaryDirectory() as cache:
    started = time.perf_counter()
    found = datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=cache)
    print(len(found), time.perf_counter() - started)
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file for the record")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = _make(Path(name), options.rows)
        results = {}
        for kind, (path, rows) in files.items():
            ours = _seconds(_OURS, path, rows, options.repeats)
            results[kind] = {"rows": rows, "bytes": path.stat().st_size, "seconds": ours}
            beside = ""
            if kind != "parquet":
                results[kind]["datasets_seconds"] = theirs = _seconds(_THEIRS, path, rows, options.repeats)
                results[kind]["file_seconds"] = file = _seconds(_FILE, path, rows, options.repeats)
                results[kind]["ratio"] = round(min(ours) / min(theirs), 3)
                results[kind]["file_ratio"] = round(min(file) / min(theirs), 3)
                beside = f", the file alone {min(file):.2f} s, datasets {min(theirs):.2f} s"
            print(f"{kind}, {rows:,} rows: {min(ours):.2f} s{beside}", flush=True)
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "characters_per_row": _PROMPT + _COMPLETION,
        "results": results,
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "machine": platform.processor() or platform.machine(),
        "versions": {each: metadata.version(each) for each in ("pyarrow", "datasets", "numpy")},
        "python": platform.python_version(),
    }
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _make(folder: Path, rows: int) -> dict[str, tuple[Path, int]]:
    """{kind: (file, its rows)}: the same as Parquet and as JSON Lines, and some with objects of different keys."""
    few = max(1, rows // 10)
    generator = np.random.default_rng(0)
    words = np.array(_WORDS, object)
    paths = {
        "parquet": folder / "rows.parquet",
        "jsonl": folder / "rows.jsonl",
        "nested jsonl": folder / "nested.jsonl",
    }
    schema = pa.schema([("prompt", pa.string()), ("completion", pa.string())])
    with (
        pq.ParquetWriter(paths["parquet"], schema, compression="zstd") as parquet,
        paths["jsonl"].open("w") as plain,
        paths["nested jsonl"].open("w") as nested,
    ):
        for low in range(0, rows, _CHUNK):
            n = min(_CHUNK, rows - low)
            prompts, completions = (_texts(generator, words, low, n, size) for size in (_PROMPT, _COMPLETION))
            parquet.write_table(pa.table([prompts, completions], schema=schema))
            for k, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
                row: dict[str, Any] = {"prompt": prompt, "completion": completion}
                plain.write(json.dumps(row) + "\n")
                if low + k < few:
                    nested.write(json.dumps({**row, "meta": {_WORDS[k % 11]: k}}) + "\n")
    return {kind: (path, few if kind == "nested jsonl" else rows) for kind, path in paths.items()}


def _texts(generator: np.random.Generator, words: Any, low: int, n: int, size: int) -> list[str]:
    """n texts of `size` characters, no two alike."""
    drawn = words[generator.integers(0, len(words), (n, 32))]
    return [f"{low + k}: {' '.join(row)}"[:size].ljust(size, ".") for k, row in enumerate(drawn)]


def _seconds(script: str, path: Path, expected: int, repeats: int) -> list[float]:
    """Seconds of each of `repeats` readings of a file of `expected` rows."""
    readings = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        rows, seconds = done.stdout.split()[-2:]
        if int(rows) != expected:
            raise SystemExit(f"{rows} rows of {expected} were read from {path.name}")
        readings.append(round(float(seconds), 3))
    return readings


if __name__ == "__main__":
    sys.exit(main())
