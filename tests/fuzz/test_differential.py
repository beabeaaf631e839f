"""What goes in comes out: generated files of every kind of cell, curated, against the values they were written from.

The generator is the oracle (data_strategies.py, arrow_strategies.py), the comparison is data_oracle.py, and files are
read in a child process (data_driver.py). Outside of pytest this counts how many of N datasets fail:

    PYTHONPATH=. python tests/fuzz/test_differential.py N
"""

from __future__ import annotations

import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests import ROOT
from tests.fuzz.arrow_strategies import arrow_cases
from tests.fuzz.data_oracle import cut_fault, faults, generator_fault, load_faults
from tests.fuzz.data_strategies import Case, csv_cases, json_cases
from tests.fuzz.hostile_strategies import damaged_cases, forbidden_files

# Of every kind of file: the datasets, and how many of 300.
KINDS = {
    "json": (json_cases(), 95),
    "json parts": (json_cases(parts=2), 45),
    "csv": (csv_cases(), 45),
    "csv parts": (csv_cases(parts=2), 35),
    "arrow": (arrow_cases(), 55),
    "arrow parts": (arrow_cases(parts=2), 25),
}
REFUSED = 0.05  # share of valid inputs that may be refused
MESSAGE = 400  # characters that a refusal may have
PLACE = re.compile(r"part-\d|\b(rows?|columns?|line|item|folder)\b")


@dataclass
class Bench:
    """A folder for inputs and outputs, the driver, and one cache of datasets for all outputs, as users have."""

    folder: Path
    driver: Any
    number: int = 0

    def run(self, files: dict[str, bytes], **how: Any) -> tuple[dict[str, Any], Path]:
        """What became of these files, and the folder of the result."""
        self.number += 1
        place = self.folder / str(self.number)
        shutil.rmtree(self.folder / str(self.number - 1), ignore_errors=True)
        (place / "in").mkdir(parents=True)
        for name, content in files.items():
            (place / "in" / name).write_bytes(content)
        path = place / "in" if len(files) > 1 else place / "in" / next(iter(files))
        out = place / "curated"
        self.driver.stdin.write(json.dumps({"path": str(path), "out": str(out), **how}) + "\n")
        self.driver.stdin.flush()
        answer = self.driver.stdout.readline()
        assert answer, "the driver is gone; what it said is on stderr"
        return json.loads(answer), out

    def load(self, out: Path) -> Any:
        return datasets.load_dataset(str(out), split="train", cache_dir=str(self.folder / "cache"))


@dataclass
class Tally:
    """How many datasets were tried, and what became of them.

    Of those that exit 0: done = all cells are right; wrong = some of those in data/ are not; stale = load_dataset gives
    rows of another folder; loaded wrong = it does not give what lies in data/. Of the others: refused, failed.
    """

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    refusals: collections.Counter[str] = field(default_factory=collections.Counter)

    def __str__(self) -> str:
        tried = sum(self.counts.values())
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        return f"{tried} tried: {counts}" + "".join(f"\n  {count} x {text}" for text, count in self.refusals.items())

    def refused(self, text: str) -> None:
        self.counts["refused"] += 1
        self.refusals[re.sub(r"/\S*/|\d+|'[^']*'", "_", text)[:160]] += 1


@contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    datasets.disable_progress_bars()
    command = [sys.executable, "-m", "tests.fuzz.data_driver"]
    environment = {**os.environ, "CURATE_CACHE": str(folder / "curate")}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=ROOT) as driver:
        yield Bench(folder, driver)
        with suppress(BrokenPipeError):
            driver.stdin.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_in(tmp_path_factory.mktemp("differential")) as started:
        yield started


def examined(bench: Bench, case: Case, tally: Tally, **how: Any) -> tuple[str, str]:
    """What became of a valid dataset, in a word, and why: see the counts of a Tally."""
    generated = generator_fault(case)
    assert not generated, f"the generator is at fault: {generated}"
    answer, out = bench.run(case.files, **how)
    name, text = answer["status"], answer["text"]
    if name == "refused":
        tally.refused(text)
        return name, text
    if name == "done":
        found = faults(case, out, answer["notes"])
        late = [] if found else load_faults(case, out, bench.load)
        name = "wrong" if found else "loaded wrong" if late else "done"
        name = "stale" if late and "another curation" in late[0] else name
        text = "; ".join(found or late)
    tally.counts[name] += 1
    return name, text


def one_line(text: str) -> bool:
    """Whether a refusal is one short line that says where."""
    return "\n" not in text and 0 < len(text) < MESSAGE and PLACE.search(text) is not None


def options(examples: int, **more: Any) -> settings:
    """Reproducible: the same datasets in every run."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        **more,
    )


def check_valid(bench: Bench, kind: str, examples: int, **how: Any) -> Tally:
    """Raises where values of a valid dataset do not come out; the smallest such dataset is shown."""
    tally = Tally()

    @options(examples)
    @given(KINDS[kind][0])
    def comes_out(case: Case) -> None:
        name, text = examined(bench, case, tally, **how)
        assert name in ("done", "refused"), f"{name}: {text}"
        assert name == "done" or one_line(text), text

    comes_out()
    print(f"\n{kind}: {tally}")
    return tally


def check_all(bench: Bench, share: float) -> None:
    """share: of 300 datasets."""
    tallies = [check_valid(bench, kind, round(share * count)) for kind, (_, count) in KINDS.items()]
    counts = sum((tally.counts for tally in tallies), collections.Counter[str]())
    assert counts["refused"] <= REFUSED * counts.total(), "\n".join(map(str, tallies))


@pytest.mark.slow
def test_values_come_out_as_they_went_in(bench: Bench) -> None:
    check_all(bench, 1 / 6)


@pytest.mark.long
@pytest.mark.timeout(0)
def test_values_of_many_files_come_out_as_they_went_in(bench: Bench) -> None:
    check_all(bench, 5000 / 300)


@pytest.mark.slow
def test_the_command_line_does_the_same(bench: Bench) -> None:
    for kind in ("json parts", "csv", "arrow"):
        check_valid(bench, kind, 6, command=True)


WRONG = {
    "a cell of another row": lambda table: table.set_column(1, "x", table["x"].take([1, 0, 2])),
    "a number that lost digits": lambda table: table.set_column(1, "x", table["x"].cast(pa.float64(), safe=False)),
    "a key more": lambda table: table.set_column(2, "y", pa.array([{"a": 1, "b": None}] * len(table))),
    "a row less": lambda table: table.slice(1),
    "a column less": lambda table: table.drop(["x"]),
    "a copy of another row": lambda table: table.set_column(3, "source_id", pa.array(["0", "1", "0"])),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_comparison_sees(name: str, tmp_path: Path) -> None:
    rows = [{"text": f"a§{k}§", "x": 2**53 + 1 + k, "y": {"a": 1}} for k in range(2)]
    case = Case("json", {}, rows, "text", {"text": ["", ""], "x": ["", ""], "y": ["", ""]})
    right = pa.Table.from_pylist([*rows, rows[1]])
    ids = {"source_id": ["0", "1", "1"], "example_id": ["0", "1", "1#1"], "origin": [*["original"] * 2, "duplicate"]}
    right = pa.table({**dict(zip(right.column_names, right.columns, strict=True)), **ids})
    for table, wrong in ((right, False), (WRONG[name](right), True)):
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "data" / "train.parquet")
        try:
            assert bool(faults(case, tmp_path, [])) == wrong
        except KeyError:
            assert wrong


def check_hostile(bench: Bench, examples: int) -> None:
    tally = Tally()

    @options(examples)
    @given(forbidden_files())
    def is_refused(files: dict[str, bytes]) -> None:
        answer, _ = bench.run(files)
        tally.counts[answer["status"]] += 1
        assert answer["status"] == "refused", answer
        assert one_line(answer["text"]), answer["text"]

    @options(examples)
    @given(damaged_cases())
    def is_refused_or_read(damaged: tuple[str, Case]) -> None:
        how, case = damaged
        answer, out = bench.run(case.files)
        tally.counts[f"{how}: {answer['status']}"] += 1
        assert answer["status"] in ("refused", "done"), answer
        if answer["status"] == "refused":
            assert one_line(answer["text"]), answer["text"]
        elif how == "cut":
            assert not cut_fault(case, out)

    is_refused()
    is_refused_or_read()
    print(f"\nhostile: {tally}")


@pytest.mark.slow
def test_damaged_files_are_refused_in_a_line(bench: Bench) -> None:
    check_hostile(bench, 30)


@pytest.mark.long
@pytest.mark.timeout(0)
def test_many_damaged_files_are_refused_in_a_line(bench: Bench) -> None:
    check_hostile(bench, 1000)


def survey(bench: Bench, kind: str, examples: int) -> None:
    """Print how many datasets of a kind fail, without looking for the smallest."""
    tally, seen = Tally(), collections.Counter[str]()

    @options(examples, phases=[Phase.generate])
    @given(KINDS[kind][0])
    def count(case: Case) -> None:
        name, text = examined(bench, case, tally)
        if name not in ("done", "refused"):
            seen[f"{name}: " + re.sub(r"'[^']*'|\d+", "_", text)[:90]] += 1

    count()
    print(f"{kind}: {tally}")
    print("".join(f"  {count} x {text}\n" for text, count in seen.most_common()), end="", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, bench_in(Path(place)) as started:
        for each in KINDS:
            survey(started, each, round(int(sys.argv[1]) * KINDS[each][1] / 300))
