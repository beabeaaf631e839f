"""Measure the effect of showing hard rows twice, on small transformers over several seeds and arms."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from benchmarks.reproduction.settings import FROZEN
from benchmarks.reproduction.studies import STUDIES, jobs_of
from benchmarks.reproduction.summary import summarize
from benchmarks.reproduction.work import finished, work_together

_DETAILS = """\
    python -m benchmarks.reproduce --out DIR [--workers 2] [--seeds 0,1,...] [--arms NAME,...] [--time-limit MINUTES]
        [--record FILE]
    python -m benchmarks.reproduce --out DIR --study factor|proxy|features|domain|online|limits [--seeds 0,1,2]
    python -m benchmarks.reproduce --out DIR --gpu|--cpu MODEL [--proxy MODEL] [--seeds 0,1,2] [--time-limit 10]

Every seed has its own problems, its own target and proxy pretrained on an easy-heavy mixture, its own proxy run and
split; all seeds answer the same held-out questions. The arms original, hard, random, easy and final-loss take the same
optimizer steps; hard is also run for as many passes over its rows as original took over its own. Settings were chosen
on seeds from 100 on and are frozen in benchmarks/reproduction/settings.py; the primary outcome is stated in
benchmarks/reproduction/summary.py.

The same command resumes, and several may work on one DIR. DIR/runs holds run folders that
`curate compare` reads, DIR/report.html the comparison.

--gpu fine-tunes a real model, given as a folder, on GSM8K, MATH and word problems instead, --cpu all weights of a
small one on word problems: `curate validate` with one frozen configuration each (benchmarks/reproduction/real.py).
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for models, runs and the report")
    parser.add_argument("--study", choices=STUDIES, help="instead of the reproduction")
    parser.add_argument("--seeds", help="which (0 to 9; of a study 0,1,2)")
    parser.add_argument("--arms", help="only these, at equal steps, separated by commas (all)")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each (1)")
    parser.add_argument("--time-limit", type=float, metavar="MINUTES", help="begin no run after that")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="folder of the data of --study domain, --gpu and --cpu",
    )
    parser.add_argument("--record", type=Path, help="JSON file for the results")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="other settings than the frozen"
    )
    parser.add_argument("--report", action="store_true", help="only summarize the runs that are there")
    real = parser.add_mutually_exclusive_group()
    real.add_argument("--gpu", type=Path, metavar="MODEL", help="folder of a real model to fine-tune")
    real.add_argument("--cpu", type=Path, metavar="MODEL", help="the same for a small model on two cores")
    parser.add_argument("--proxy", type=Path, metavar="MODEL", help="of --gpu and --cpu (the model itself)")
    parser.add_argument("--test-rows", type=int, help="of --gpu: at most so many of each evaluation set (all)")
    options = parser.parse_args(arguments)
    if options.gpu is not None or options.cpu is not None:
        if options.study or options.arms or options.set or options.report or options.workers > 1:
            parser.error("--study, --arms, --set, --report and --workers are not of --gpu and --cpu")
        return _real(options, arguments)
    seeds = [int(each) for each in (options.seeds or ("0,1,2" if options.study else "0,1,2,3,4,5,6,7,8,9")).split(",")]
    settings = FROZEN
    if options.set:
        changes = dict(each.split("=", 1) for each in options.set)
        settings = type(FROZEN).model_validate(FROZEN.model_dump() | changes)
    jobs = jobs_of(options.study, settings, seeds)
    if options.arms is not None:
        names = options.arms.split(",")
        if unknown := set(names) - {job.name for job in jobs}:
            parser.error(f"--arms: {', '.join(sorted(unknown))} not among {', '.join({job.name: 0 for job in jobs})}")
        jobs = [job for job in jobs if job.name in names and job.budget == "steps"]
    deadline = None if options.time_limit is None else time.monotonic() + 60 * options.time_limit
    if not options.report:
        science = options.data / "science_qa.parquet" if options.study == "domain" else None
        work_together(jobs, options.out, workers=options.workers, deadline=deadline, science_file=science)
    done = sum(finished(job, options.out) for job in jobs)
    if len({job.name for job in jobs if finished(job, options.out)}) < 2:
        print(f"{done} of {len(jobs)} runs are done, too few to compare; the same command goes on", file=sys.stderr)
        return 3
    summarize(jobs, options.out, _command(arguments), options.record)
    return 0 if done == len(jobs) else 3


def _command(arguments: list[str] | None) -> str:
    return shlex.join(["python", "-m", "benchmarks.reproduce", *(sys.argv[1:] if arguments is None else arguments)])


def _real(options: argparse.Namespace, given: list[str] | None) -> int:
    from benchmarks.reproduction import real
    from curate.cli.main import main as curate_main

    model, data = options.gpu or options.cpu, options.out / "data"
    if not data.is_dir():
        if options.gpu is not None:
            real.write_data(options.data, data, options.test_rows)
        else:
            real.write_small_data(options.data, data)
    arguments = real.cpu_arguments(data) if options.gpu is None else real.gpu_arguments(data)
    arguments += ["--model", str(model), "--proxy", str(options.proxy or model), "--seeds", options.seeds or "0,1,2"]
    arguments += [] if options.time_limit is None else ["--time-limit", f"{options.time_limit:g}"]
    out = options.out / "validation"
    code = curate_main(["validate", *arguments, "--out", str(out)])
    if options.record is not None and code in (0, 3) and (out / "comparison.json").is_file():  # 3: the time was up
        real.write_record(out, _command(given), options.record)
    return code


if __name__ == "__main__":
    sys.exit(main())
