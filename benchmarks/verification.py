"""Benchmark answer checking: plain numbers, algebra against bare math-verify, and inputs that hang."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curate.verify import Verdict, grade, grade_many, reference_answer, same_answer
from curate.verify.numbers import plain_number
from curate.verify.symbolic import close_workers

_DETAILS = """\
    python -m benchmarks.verification [--data FOLDER] [--repeats N] [--out FILE]

FOLDER holds gsm8k.parquet and math.parquet. Prints one JSON object (and writes it to FILE). Rates are medians of
`--repeats` runs: of plain numbers per second of one core, of algebra per second of wall clock; the ratio to math-verify
is of the same pairs in the same run. Accuracy: MATH solutions against their own answers, and answers against those of
other rows.
"""

Row = dict[str, str]
Pair = tuple[str, str]
TOWER = r"\int_0^1 \sin(\cos(x^{99}+e^{x^{88}}))^{77} dx"
WALL_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    gsm8k = rows(options.data / "gsm8k.parquet")
    problems = rows(options.data / "math.parquet")
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.verification {' '.join(sys.argv[1:])}",
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("math-verify", "latex2sympy2_extended", "sympy")},
        "seed": options.seed,
        "repeats": options.repeats,
        "plain": plain(gsm8k, options.repeats),
        "algebra": algebra(rng.sample(problems, 500), rng, options.repeats),
        "hang": hang(),
        "accuracy": accuracy(gsm8k, problems, rng),
    }
    close_workers()
    text = json.dumps(record, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def rows(path: Path) -> list[Row]:
    """Training rows that have an answer."""
    table = pq.read_table(path, columns=["answer", "final_answer", "split"])
    return [row for row in table.to_pylist() if row["final_answer"] and row["split"] == "train"]


def rate(
    work: Callable[[], object], count: int, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Checks per second of each repeat."""
    rates = []
    for _ in range(repeats):
        start = clock()
        work()
        rates.append(round(count / (clock() - start), 1))
    return rates


def plain(gsm8k: list[Row], repeats: int) -> dict[str, Any]:
    """Plain numbers, all different so that no cache helps; and whole solutions with a marker, answers as they come."""
    answers: list[Pair] = [(f"${k},{k % 997:03d}.50", f"{k}{k % 997:03d}.5") for k in range(1, 1000)]
    solutions: list[Pair] = [(f"{row['answer']}\n#### {row['final_answer']}", row["final_answer"]) for row in gsm8k]

    def compare_all() -> None:
        plain_number.cache_clear()
        for pair in answers:
            assert same_answer(*pair) is Verdict.right

    bare = rate(compare_all, len(answers), repeats, time.process_time)
    whole = rate(lambda: [grade(*pair) for pair in solutions], len(solutions), repeats, time.process_time)
    length = statistics.mean(len(text) for text, _ in solutions)
    return {
        "answers_per_second": statistics.median(bare),
        "solutions_per_second": statistics.median(whole),
        "mean_characters_of_a_solution": round(length),
        "runs": {"answers": bare, "solutions": whole},
    }


def algebra(sample: list[Row], rng: random.Random, repeats: int) -> dict[str, Any]:
    """Pairs graded by a fresh worker, against the loop that a script would have; and of them those that need algebra.

    Half of the candidates are the answers of other rows; the other half are their own, with "+ 0" where that makes
    sense, so that equal texts decide nothing.
    """
    answers = [row["final_answer"] for row in sample]
    pairs: list[Pair] = []
    for k, (own, other) in enumerate(zip(answers, rng.sample(answers, len(answers)), strict=True)):
        pairs.append((other if k % 2 else own if re.search(r"[,=<>]|text", own) else f"{own} + 0", own))
    hard = [pair for pair in pairs if not all(plain_number(text) is not None for text in pair)]
    return {"all_pairs": against_bare(pairs, repeats), "not_plain": against_bare(hard, repeats)}


def against_bare(pairs: list[Pair], repeats: int) -> dict[str, Any]:
    ours, bare = [], []
    bare_loop(pairs[:20])
    for _ in range(repeats):
        close_workers()
        same_answer("x+1", "1+x")
        ours += rate(lambda: grade_many([(rf"\boxed{{{a}}}", b) for a, b in pairs]), len(pairs), 1)
        clear_cache()
        bare += rate(lambda: bare_loop(pairs), len(pairs), 1)
    return {
        "pairs": len(pairs),
        "bare_math_verify_per_second": statistics.median(bare),
        "grade_many_per_second": statistics.median(ours),
        "ratio": round(statistics.median(ours) / statistics.median(bare), 2),
        "runs": {"bare": bare, "ours": ours},
    }


def clear_cache() -> None:
    """A worker is new each time, so SymPy must not remember the last run here either."""
    from sympy.core.cache import clear_cache as forget

    forget()


def bare_loop(pairs: list[Pair]) -> list[bool]:
    """math-verify as its documentation shows it, without time limits (it keeps a cache of the last 20 expressions)."""
    import logging

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    from math_verify import parse, verify

    verdicts = []
    for candidate, answer in pairs:
        gold, target = (parse(f"${text}$", parsing_timeout=None) for text in (answer, candidate))
        verdicts.append(verify(gold, target, timeout_seconds=None))
    return verdicts


def hang() -> dict[str, Any]:
    """Time of 100 comparisons with and without one that hangs among them."""
    easy = [(rf"\boxed{{x^2+{k}x}}", f"{k}x+x^2") for k in range(100)]
    close_workers()
    grade_many(easy[:1])
    start = time.perf_counter()
    grade_many(easy)
    without = time.perf_counter() - start
    close_workers()
    grade_many(easy[:1])
    start = time.perf_counter()
    verdicts = grade_many([*easy[:50], (rf"\boxed{{{TOWER}}}", "1"), *easy[50:]], wall_seconds=WALL_SECONDS)
    with_one = time.perf_counter() - start
    return {
        "wall_seconds": WALL_SECONDS,
        "seconds_without": round(without, 3),
        "seconds_with_one_that_hangs": round(with_one, 3),
        "delay_beyond_its_limit": round(with_one - without - WALL_SECONDS, 3),
        "verdict": verdicts[50].value,
        "others_right": sum(verdict is Verdict.right for verdict in verdicts),
    }


def accuracy(gsm8k: list[Row], problems: list[Row], rng: random.Random) -> dict[str, Any]:
    """Verdicts on rows' own answers, and on those of other rows."""
    own = grade_many([(row["answer"], row["final_answer"]) for row in rng.sample(problems, 500)])
    marked = [(reference_answer(f"{row['answer']}\n#### {row['final_answer']}"), row["final_answer"]) for row in gsm8k]
    shuffled: list[Pair] = []
    while len(shuffled) < 2000:
        one, other = rng.choice(problems)["final_answer"], rng.choice(problems)["final_answer"]
        if one != other:
            shuffled.append((one, other))
    found = grade_many([(rf"\boxed{{{one}}}", other) for one, other in shuffled])
    return {
        "math_solutions": count(own),
        "math_references_equal": sum(reference_answer(row["answer"]) == row["final_answer"] for row in problems),
        "math_rows": len(problems),
        "gsm8k_marked": count([same_answer(found or "", answer) for found, answer in marked]),
        "math_other_answers": count(found),
        "taken_as_right": [pair for pair, verdict in zip(shuffled, found, strict=True) if verdict is Verdict.right],
    }


def count(verdicts: list[Verdict]) -> dict[str, int]:
    return {verdict.value: number for verdict, number in Counter(verdicts).most_common()}


if __name__ == "__main__":
    main()
