"""Map over families of tasks of when showing hard rows more often helps."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks.reproduction.work import in_processes
from benchmarks.when.families import FAMILIES, families
from benchmarks.when.records import collect, restore
from benchmarks.when.runs import Block, blocks_of, work
from benchmarks.when.settings import ARMS
from benchmarks.when.stored import DATA
from benchmarks.when.tables import write_tables
from curate.errors import InputError

_DETAILS = """\
    python -m benchmarks.when --out DIR [--families symbols,...] [--seeds 0,1,...] [--arms NAME,...]
        [--workers 2] [--time-limit MINUTES] [--data DIR]
    python -m benchmarks.when --out DIR --quick
    python -m benchmarks.when --table

Design and arms are in benchmarks/when, stated in benchmarks/LOG.md. The same command resumes, and
several may work on one DIR. Finished runs are collected into --records (benchmarks/results/when), and what is there is
not run again; --table only makes tables and the figure from the records.
"""

RECORDS = Path("benchmarks/results/when")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for models and runs")
    parser.add_argument("--families", help=f"which ({','.join(FAMILIES)})")
    parser.add_argument("--seeds", help="which (those of the design)")
    parser.add_argument("--arms", help="only these (all)")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each (1)")
    parser.add_argument("--time-limit", type=float, metavar="MINUTES", help="begin no run after that")
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of files that families read ({DATA})")
    parser.add_argument("--proxy-model", type=Path, metavar="DIR", help="a pretrained proxy: adds word_problems_given")
    parser.add_argument("--quick", action="store_true", help="one seed of few small settings, into DIR alone")
    parser.add_argument("--records", type=Path, help=f"folder of records ({RECORDS})")
    parser.add_argument("--table", action="store_true", help="only the tables and the figure of the records")
    options = parser.parse_args(arguments)
    if options.table == (options.out is not None):
        parser.error("give --out DIR to run, or --table")
    records = options.records or (options.out / "records" if options.quick else RECORDS)
    if options.table:
        write_tables(records)
        return 0
    known = families(options.data, options.proxy_model)
    names = options.families.split(",") if options.families else list(known)
    if unknown := set(names) - set(known):
        parser.error(f"--families: {', '.join(sorted(unknown))} not among {', '.join(known)}")
    seeds = None if options.seeds is None else [int(each) for each in options.seeds.split(",")]
    arms = None if options.arms is None else options.arms.split(",")
    if unknown := set(arms or ()) - set(ARMS):
        parser.error(f"--arms: {', '.join(sorted(unknown))} not among {', '.join(ARMS)}")
    try:
        blocks = blocks_of([known[name] for name in names], seeds, arms, quick=options.quick)
    except InputError as error:
        parser.error(str(error))
    deadline = None if options.time_limit is None else time.monotonic() + 60 * options.time_limit
    out, cache = options.out / "runs", options.out / "cache"
    restore(records, out)
    _work_together(blocks, out, cache, options.workers, deadline)
    collect(out, records)
    if options.quick:
        write_tables(records)
    left = sum(len(block.missing(out)) for block in blocks)
    if left:
        print(f"{left} runs are left; the same command goes on", file=sys.stderr)
    return 3 if left else 0


def _work_together(blocks: list[Block], out: Path, cache: Path, workers: int, deadline: float | None) -> None:
    if workers == 1:
        work(blocks, out, cache, deadline)
        return
    in_processes(work, (blocks, out, cache, deadline), workers)


if __name__ == "__main__":
    sys.exit(main())
