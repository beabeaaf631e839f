"""Run and report the confirmatory studies that benchmarks/LOG.md states."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.confirm import flakes, outcome
from benchmarks.confirm.arithmetic import Arithmetic
from benchmarks.confirm.pretrained import Pretrained
from benchmarks.confirm.study import RECORDS, Study, read_facts, record_path, write_record
from benchmarks.confirm.task import Control, Flakes
from benchmarks.when.stored import DATA
from curate.comparison.statistics import holm
from curate.errors import CurateError

_DETAILS = """\
    python -m benchmarks.confirm control|arithmetic|flakes --out DIR [--blocks NAME,...] [--time-limit MINUTES]
    python -m benchmarks.confirm pretrained --model DIR [--data DIR] --out DIR
        # see benchmarks/confirm/pretrained.py
    python -m benchmarks.confirm --report

A block (a task, or a seed) is run whole by one process; its rows then stand in benchmarks/results/confirm, and a block
that stands there is not run again: to be committed as they come, so that any machine goes on. Rows of an unfinished
block are resumed in DIR.
"""

CONFIRMATORY = ("control", "arithmetic", "pretrained")
_OWN_ROWS: Mapping[str, Study] = {each.name: each for each in (Control(), Arithmetic(), Flakes())}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", nargs="?", choices=(*CONFIRMATORY, "flakes"))
    parser.add_argument("--out", type=Path, help="folder for models, runs and caches")
    parser.add_argument("--blocks", help="only these, separated by commas (all of the study)")
    parser.add_argument("--time-limit", type=float, metavar="MINUTES", help="begin no block after that")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the rows (benchmarks/results/confirm)")
    parser.add_argument("--model", type=Path, help="folder of the model of the study pretrained")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data of the study pretrained")
    parser.add_argument("--report", action="store_true", help="only say what the rows so far say")
    options = parser.parse_args(arguments)
    if options.report:
        print(json.dumps(report(options.records), indent=1))
        return 0
    if options.study is None or options.out is None:
        parser.error("name a study and --out, or say --report")
    if (options.study == "pretrained") != (options.model is not None):
        parser.error("--model is of the study pretrained, which needs it")
    study = _OWN_ROWS.get(options.study) or Pretrained(options.model, options.data, options.records)
    blocks = list(study.blocks) if options.blocks is None else options.blocks.split(",")
    if unknown := set(blocks) - set(study.blocks):
        parser.error(f"--blocks: {', '.join(sorted(unknown))} not among {', '.join(study.blocks)}")
    deadline = None if options.time_limit is None else time.monotonic() + 60 * options.time_limit
    left = run(study, blocks, options.out, options.records, deadline)
    if left:
        print(f"{len(left)} of {len(blocks)} blocks are left; the same command goes on", file=sys.stderr)
    return 3 if left else 0


def run(study: Study, blocks: list[str], out: Path, records: Path, deadline: float | None) -> list[str]:
    """Run the blocks that have no record; returns those that are left. One that fails is told, and left."""
    left = []
    for block in blocks:
        path = record_path(study.name, block, records)
        if path.is_file():
            continue
        if deadline is not None and time.monotonic() > deadline:
            left.append(block)
            continue
        began = time.process_time()
        try:
            table, facts = study.run(block, out / study.name / block)
        except CurateError as error:
            print(f"{study.name} {block}: {error}", file=sys.stderr)
            left.append(block)
            continue
        facts = {**facts, "cpu_seconds": round(time.process_time() - began), "machine": platform.machine()}
        write_record(table, facts, path)
        print(f"{study.name} {block}: {facts['cpu_seconds']} s", file=sys.stderr, flush=True)
    return left


def blocks_of(study: str, records: Path) -> dict[str, pa.Table]:
    """The rows of its finished blocks."""
    paths = sorted(records.glob(f"{study}-*.parquet"))
    return {path.stem.removeprefix(f"{study}-"): pq.read_table(path) for path in paths}


def report(records: Path) -> dict[str, Any]:
    """Every study as far as it ran, p adjusted for all three (one that has not run counts as 1), and the flakes."""
    judgments = {name: outcome.judged(blocks) for name in CONFIRMATORY[:2] if (blocks := blocks_of(name, records))}
    if blocks := blocks_of("pretrained", records):
        judgments["pretrained"] = of_forecasts({name: (read_facts(table), table) for name, table in blocks.items()})
    p = [
        judgments[name]["p"] if name in judgments and judgments[name]["p"] is not None else 1.0 for name in CONFIRMATORY
    ]
    for name, adjusted in zip(CONFIRMATORY, holm(p), strict=True):
        if name in judgments:
            judgments[name]["p_holm"] = adjusted
    flake_rates = flakes.rates(blocks) if (blocks := blocks_of("flakes", records)) else None
    return {"studies": judgments, "flakes": flake_rates}


def of_forecasts(blocks: Mapping[str, tuple[Mapping[str, Any], pa.Table]]) -> dict[str, Any]:
    """The study pretrained: the settings forecast to be helped are judged as the other studies are; beside that, of
    every setting whether it was forecast, and whether hard had less than original and than random on average."""
    settings: dict[str, dict[str, pa.Table]] = {}
    forecast: dict[str, bool] = {}
    for name, (facts, table) in blocks.items():
        setting = facts["setting"]["name"]
        settings.setdefault(setting, {})[name] = table
        forecast[setting] = bool(facts["forecast"]["yes"])
    table_of, four = (
        {},
        {f"{forecast_word}, {came}": 0 for forecast_word in ("yes", "no") for came in ("helped", "did not help")},
    )
    for setting, tables in settings.items():
        rows = outcome.judged(tables)["comparisons"]
        chief = [
            row for row in rows if row["arm"] == outcome.TREATED and (row["set"], row["measure"]) == outcome.PRIMARY
        ]
        helped = all(row["difference"] < 0 for row in chief if row["against"] != outcome.BALANCED)
        table_of[setting] = {"forecast": forecast[setting], "helped": helped, "comparisons": chief}
        four[f"{'yes' if forecast[setting] else 'no'}, {'helped' if helped else 'did not help'}"] += 1
    forecast_tables = {
        name: table for setting in settings if forecast[setting] for name, table in settings[setting].items()
    }
    judged = outcome.judged(forecast_tables) if forecast_tables else {"p": None, "success": None}
    return {**judged, "settings": table_of, "forecast_and_outcome": four}


if __name__ == "__main__":
    sys.exit(main())
