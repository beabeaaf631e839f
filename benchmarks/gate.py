"""Benchmark speed, memory and recall of the gate, and its speed against datasketch."""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import random
import resource
import statistics
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

_DETAILS = """\
    python -m benchmarks.gate [--rows N] [--only PART] [--out FILE]

Word problems of about 200 characters are drawn from seeded templates in which 1 to 5 names and numbers vary, so that
most are near others, above and below the threshold. Each part runs in a process of its own, one thread. Prints a short
table and writes one JSON record to FILE; with --only a part is measured anew and the others in FILE stay. The
comparison needs `pip install datasketch`; without it it is left out.
"""

NAMES = ["Tom", "Ann", "Bob", "Eve", "Jim", "Sue", "Liz", "Max", "Kim", "Ada", "Leo", "Mia", "Ian", "Zoe", "Sam"]
THINGS = ["apples", "pears", "books", "pencils", "marbles", "coins", "stamps", "cards", "shells", "stickers", "cookies"]
THINGS += ["muffins", "bottles", "balls", "ropes", "bricks", "tiles", "seeds", "plants", "lamps"]
VERBS = ["buys", "sells", "gives", "loses", "finds", "packs", "paints", "carries", "collects", "counts"]
WORDS = ["".join(parts) for parts in itertools.product("bklmnrstvw", "aeiou", "dgklmnpr", "aiou", "nrst")]
SAMPLE = 500


def problems(rows: int, seed: int, templates: int, *, by_template: bool = False) -> list[str]:
    """Word problems in random order, or all of one template after those of another."""
    rng = random.Random(seed)
    made = [_template(rng) for _ in range(templates)]
    chosen = (made[k * templates // rows] if by_template else rng.choice(made) for k in range(rows))
    return [
        each.format(
            *(rng.choice(NAMES) for _ in range(3)),
            *(rng.randrange(2, 999) for _ in range(3)),
        )
        for each in chosen
    ]


def _template(rng: random.Random) -> str:
    free = set(rng.sample(range(6), rng.randrange(1, 6)))
    parts = []
    for k in range(3):
        name = f"{{{k}}}" if k in free else rng.choice(NAMES)
        number = f"{{{3 + k}}}" if 3 + k in free else str(rng.randrange(2, 999))
        words = " ".join(rng.sample(WORDS, 3))
        parts.append(f"{name} {rng.choice(VERBS)} {number} {rng.choice(THINGS)} and {words} with {rng.choice(WORDS)}")
    return f"{', then '.join(parts)}. How many {rng.choice(THINGS)} are left after {' '.join(rng.sample(WORDS, 2))}?"


def peak_mib() -> int:
    """Peak resident memory of this process so far."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


class Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": round(time.perf_counter() - self.wall, 2),
            "cpu_seconds": round(time.process_time() - self.cpu, 2),
        }


def admission(rows: int, seed: int, templates: int, by_template: bool) -> dict[str, Any]:
    """Near-duplicates within `rows` problems, and by brute force what a sample of the kept ones should have hit."""
    from curate.gate.gate import Gate

    texts = problems(rows, seed, templates, by_template=by_template)
    before = peak_mib()
    index, clock = Gate().open(), Clock()
    hits = index.admit(texts, [str(k) for k in range(rows)])
    cost = clock.read()
    peak = peak_mib()
    kept = [k for k, row_hits in enumerate(hits) if not row_hits]
    sample = sorted(random.Random(seed).sample(kept, min(SAMPLE, len(kept))))
    missed = sum(best >= 0.7 for best in earlier_similarity([texts[k] for k in kept], kept, sample))
    missed_share = missed / len(sample) * len(kept)
    return {
        "rows": rows,
        "templates": templates,
        "order": "by template" if by_template else "random",
        "mean_characters": round(statistics.mean(map(len, texts[:1000]))),
        **cost,
        "data_rss_mib": before,
        "peak_rss_mib": peak,
        "duplicates": rows - len(kept),
        "kept": len(kept),
        "pairs_compared_exactly": index.compared,
        "crowded_searches": index.crowded,
        "kept_sampled": len(sample),
        "of_those_missed": missed,
        "recall_estimate": round((rows - len(kept)) / (rows - len(kept) + missed_share), 4),
    }


def earlier_similarity(texts: list[str], numbers: list[int], sample: list[int]) -> list[float]:
    """Highest Jaccard similarity of each sampled text with any earlier one, over all pairs."""
    matrix = _matrix(texts)
    place = {number: k for k, number in enumerate(numbers)}
    rows = np.array([place[number] for number in sample])
    similarities = []
    for row, (others, score) in zip(rows.tolist(), _similarities(matrix[rows], matrix), strict=True):
        similarities.append(float(score[others < row].max(initial=0)))
    return similarities


def _matrix(texts: list[str]) -> Any:
    """(n, shingles) 0/1, from strings: shares nothing with what is measured but the definition."""
    from scipy.sparse import csr_array

    known: dict[tuple[str, ...], int] = {}
    columns: list[int] = []
    bounds = [0]
    for text in texts:
        words = text.lower().replace(",", "").replace(".", "").replace("?", "").split()
        windows = {known.setdefault(tuple(words[k : k + 3]), len(known)) for k in range(len(words) - 2)}
        columns += sorted(windows)
        bounds.append(len(columns))
    return csr_array((np.ones(len(columns), np.int32), columns, bounds), shape=(len(texts), len(known)))


def _similarities(some: Any, every: Any) -> Any:
    """Per row of `some` the rows of `every` it shares a shingle with, and the similarities."""
    shared = (some @ every.T).tocsr()
    sizes, own = np.diff(every.indptr), np.diff(some.indptr)
    for row in range(shared.shape[0]):
        part = slice(shared.indptr[row], shared.indptr[row + 1])
        others, count = shared.indices[part], shared.data[part]
        yield others, count / (own[row] + sizes[others] - count)


def recall(rows: int, seed: int, templates: int) -> dict[str, Any]:
    """Of queries that brute force finds near to a source row, the share that `check` finds, by threshold."""
    from curate.gate.gate import Gate

    texts = problems(rows + 2 * SAMPLE, seed, templates)
    source, queries = texts[:rows], texts[rows:]
    matrix = _matrix(texts)
    best = np.array([score.max(initial=0) for _, score in _similarities(matrix[rows:], matrix[:rows])])
    found_shares = []
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        hits = Gate(near_duplicate=threshold).open(source).check(queries)
        scores = np.array([row[0].score if row else 0.0 for row in hits], np.float64)
        due, sure = best >= threshold, best >= threshold + 0.1
        found_shares.append(
            {
                "threshold": threshold,
                "due": int(due.sum()),
                "recall": round(float((scores[due] > 0).mean()), 4),
                "recall_from_threshold_plus_0.1": round(float((scores[sure] > 0).mean()), 4) if sure.any() else None,
                "false": int(((scores > 0) & ((scores < threshold) | (scores > best))).sum()),
                "best_match_found": round(float((scores[due] == best[due]).mean()), 4),
            }
        )
    return {"source_rows": rows, "queries": len(queries), "templates": templates, "by_threshold": found_shares}


def evaluation(rows: int, seed: int, folder: str) -> dict[str, Any]:
    """Contamination alone, in batches; and one text at a time with near-duplicates too."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from curate.gate.gate import Gate

    # Another question at the end: otherwise "with W how many T are left after" would be a hit in every row.
    held_out = [
        text.replace("How many", "Count all").replace("left after", "there")
        for text in problems(20_000, seed + 1, 20_000)
    ]
    texts = problems(rows, seed, rows)
    path = Path(folder) / "held_out.parquet"
    pq.write_table(pa.table({"text": held_out}), path)
    clock = Clock()
    index = Gate(evaluation=(str(path),), near_duplicate=None).open()
    opened = clock.read()
    clock = Clock()
    hits = index.check(texts)
    checked = clock.read()
    full = Gate(evaluation=(str(path),)).open(texts)
    times = []
    for text in texts[:300]:
        begin = time.perf_counter()
        full.check([text])
        times.append(time.perf_counter() - begin)
    return {
        "evaluation_rows": len(held_out),
        "open": opened,
        "rows": rows,
        "check": checked,
        "rows_per_cpu_second": round(rows / checked["cpu_seconds"]),
        "rows_with_hits": sum(bool(row) for row in hits),
        "one_text_against_all_and_source_ms": round(1000 * statistics.median(times), 2),
    }


def beside_datasketch(rows: int, seed: int, templates: int) -> dict[str, Any]:
    """The same greedy deduplication with datasketch: MinHashLSH, each candidate verified on the sets."""
    from datasketch import MinHash, MinHashLSH

    from curate.gate.gate import Gate

    texts, ids = problems(rows, seed, templates), [str(k) for k in range(rows)]
    Gate().open().admit(texts[:10], ids[:10])  # tables that are made once
    clocks: dict[str, list[float]] = {"curate": [], "datasketch": []}
    kept: dict[str, int] = {}
    for _ in range(3):
        clock = Clock()
        kept["curate"] = sum(not row_hits for row_hits in Gate().open().admit(texts, ids))
        clocks["curate"].append(clock.read()["cpu_seconds"])
        clock = Clock()
        lsh, sets = MinHashLSH(threshold=0.7, num_perm=128), {}
        for name, text in zip(ids, texts, strict=True):
            words = text.lower().replace(",", "").replace(".", "").replace("?", "").split()
            windows = frozenset(" ".join(words[k : k + 3]) for k in range(len(words) - 2))
            minhash = MinHash(num_perm=128)
            minhash.update_batch([window.encode() for window in windows])
            shared = ((len(windows & sets[other_id]), len(sets[other_id])) for other_id in lsh.query(minhash))
            if not any(common >= 0.7 * (len(windows) + size - common) for common, size in shared):
                lsh.insert(name, minhash)
                sets[name] = windows
        kept["datasketch"] = len(sets)
        clocks["datasketch"].append(clock.read()["cpu_seconds"])
    medians = {name: statistics.median(times) for name, times in clocks.items()}
    return {
        "rows": rows,
        "templates": templates,
        "cpu_seconds": clocks,
        "kept": kept,
        "ratio": round(medians["datasketch"] / medians["curate"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="PART", help="measure this part alone")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    names = ("numpy", "scipy", "pyarrow", *(["datasketch"] if find_spec("datasketch") else []))
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.gate --rows {options.rows} --seed {options.seed} --out {options.out}",
        "device": f"CPU, {os.cpu_count()} cores, {platform.machine()}; one thread used",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names},
        "seed": options.seed,
        "note": "other work ran on the machine where load_before is well above 1: CPU seconds are the fairer number",
    }
    templates = max(options.rows // 1000, 1)
    parts: dict[str, tuple[Any, ...]] = {
        "near_duplicates": (admission, options.rows, options.seed, templates, False),
        "sorted_by_template": (admission, options.rows // 10, options.seed, max(templates // 10, 1), True),
        "recall": (recall, min(20_000, options.rows), options.seed, 200),
        "evaluation": (evaluation, min(200_000, options.rows), options.seed, os.environ.get("TMPDIR", "/tmp")),
    }
    if find_spec("datasketch"):
        parts["beside_datasketch"] = (beside_datasketch, min(20_000, options.rows), options.seed, 200)
    if options.only is not None and options.only not in parts:
        parser.error(f"--only {options.only}: parts are {', '.join(parts)}")
    context = multiprocessing.get_context("spawn")
    for name, (measure, *arguments) in parts.items():
        if options.only not in (None, name):
            continue
        with context.Pool(1) as pool:
            record[name] = {"load_before": round(os.getloadavg()[0], 2), **pool.apply(measure, arguments)}
        shown = {key: value for key, value in record[name].items() if not isinstance(value, list | dict)}
        print(f"{name:20}", "  ".join(f"{key} {value}" for key, value in shown.items()), flush=True)
    if options.only is not None and options.out and options.out.exists():
        record = {**json.loads(options.out.read_text()), **record}
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
