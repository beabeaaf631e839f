"""`curate forecast`: held-out loss curves of a finished run's proxy along a planned budget, and advice on copies."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curate.cli.fields import add_field_options, field_values, options_of
from curate.cli.options import add_consent_arguments, add_machine_arguments, permissions
from curate.cli.steps import new_progress
from curate.console.formatting import visible
from curate.console.printing import say, show
from curate.data.readers import Loaded, read
from curate.difficulty.scores import Split
from curate.errors import ExternalError, InputError
from curate.mixture.forecast_words import lines
from curate.mixture.judgment import judgment
from curate.mixture.verdicts import Commands, forecast_budget
from curate.pipeline import Pipeline
from curate.proxy.budget import Budget, Cost, ForecastSettings, check_cost
from curate.recipe import construct, dump_recipe, parse_recipe
from curate.report.run_page import write_report
from curate.run import Run
from curate.storage.atomic import publish_file
from curate.storage.folders import RECORD
from curate.storage.places import arrow_path, local_path
from curate.storage.records import check_files, read_finished, record_text

_FIELDS = options_of(ForecastSettings)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate forecast`."""
    parser.add_argument("directory", type=local_path, metavar="DIR", help="folder that `curate run` wrote")
    planned = parser.add_argument_group("the fine-tuning that is planned")
    add_field_options(planned, ForecastSettings, _FIELDS, {"steps": "N", "model": "MODEL"})
    parser.add_argument(
        "--yes", action="store_true", help="do not ask if it costs above 5 %% of the fine-tuning, or an unknown share"
    )
    add_consent_arguments(parser.add_argument_group("permissions of the recipe"))
    add_machine_arguments(parser)


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate forecast`: show the cost, ask for consent if it is high, train, and add the forecast to the folder."""
    directory, progress = options.directory, new_progress()
    settings: ForecastSettings = construct(ForecastSettings, field_values(options, _FIELDS), "forecast")
    record = read_finished(directory)
    if not record.get("forecast"):
        raise InputError(f"{directory} is of an earlier version of curate; run `curate run` again with --fresh")
    pipeline = _pipeline(record, directory, permissions(options))
    run = Run(pipeline.proxy, options.cache, options.device, pipeline.seed, progress, gate=pipeline.gate)
    with progress.stage("read"):
        loaded = _input(record, directory, pipeline, run)
        split = _split(directory, record, loaded)
    budget = Budget(loaded.examples, split, pipeline.proxy, settings, run.context, pipeline.gate)
    cost = budget.cost()
    progress.note(str(cost))
    if not _agreed(cost, options):
        check_cost(cost, options.yes, "pass --yes")
    commands = _commands(directory, record, settings, budget.length)
    wrong = (record["diagnostics"].get("reducible") or {}).get("wrong_share")
    prediction = forecast_budget(
        budget.curves(judgment().clock), commands=commands, wrong_share=wrong, seed=pipeline.seed
    )
    record["forecast"] |= prediction.to_json()
    publish_file(directory / RECORD, record_text(record), replace=True)
    report = write_report(directory)
    if not options.json:
        show(visible("\n".join(lines(record["forecast"]))))
        say(f"report   {report}")
    return {"directory": str(directory), "report": str(report), "cost": vars(cost), "forecast": record["forecast"]}


def _agreed(cost: Cost, options: argparse.Namespace) -> bool:
    """Whether the user was asked at a terminal and agreed."""
    if not cost.asked_for or options.yes or options.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print("continue? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    raise InputError("canceled; pass --yes, or lower --steps")


def _pipeline(record: dict[str, Any], directory: Path, allowed: tuple[str, ...]) -> Pipeline:
    """The pipeline that scored the run, without its augmenters: they are not needed and may name servers."""
    mapping = parse_recipe(record["recipe_yaml"], f"the recipe of {directory}")
    return Pipeline.from_yaml(
        dump_recipe({**mapping, "augmenters": [], "order": "shuffle", "copies": "rows"}), allow_plugins=allowed
    )


def _input(record: dict[str, Any], directory: Path, pipeline: Pipeline, run: Run) -> Loaded:
    """The rows that the run read, read again. InputError if they are missing or have changed."""
    reading = dict(record["data"].get("read") or {})
    data = reading.pop("data", None)
    again = "curate its data again with a `forecast:` section in the recipe (--set forecast.steps=N)"
    if data is None:
        raise InputError(f"the input of {directory} was an object in memory, which is gone; {again}")
    try:
        loaded = read(data, seed=pipeline.seed, **reading)
    except (InputError, ExternalError) as error:
        raise type(error)(
            f"the input of {directory} cannot be read again ({error}); put it back, or {again}"
        ) from error
    if loaded.examples.fingerprint() != record["data"]["fingerprint"]:
        loaded = pipeline.usable(loaded, run)
    if loaded.examples.fingerprint() != record["data"]["fingerprint"]:
        raise InputError(f"the input of {directory}, {data}, has changed since; curate it again with --fresh")
    return loaded


def _split(directory: Path, record: dict[str, Any], loaded: Loaded) -> Split:
    check_files(directory, record, "rerun the command that wrote it with --fresh", "tables/")
    table = pq.read_table(arrow_path(directory / "tables" / "split.parquet"))
    ids = table["example_id"].combine_chunks()
    if ids.to_pylist() != loaded.examples.ids.to_pylist():
        raise InputError(
            f"{directory}/tables/split.parquet is of other rows; rerun the command that wrote it with --fresh"
        )
    difficulty = table["difficulty"].to_numpy(zero_copy_only=False).astype("float32")
    cluster = table["cluster"].to_numpy()
    hard = table["hard"].to_numpy(zero_copy_only=False)
    return Split(ids, cluster, hard, difficulty, table["difficulty"].is_valid().to_numpy(zero_copy_only=False))


def _commands(directory: Path, record: dict[str, Any], settings: ForecastSettings, length: int) -> Commands:
    """Commands to try next, with the data and recipe of this folder."""
    data, place = _data_words(record), shlex.quote(str(directory))
    model_name = settings.model or "MODEL"
    model = shlex.quote(model_name if not model_name[:1].isdigit() else "MODEL")  # a size is not the name of a model
    augmenters = parse_recipe(record["recipe_yaml"], "recipe").get("augmenters") or []
    position = next((k for k, item in enumerate(augmenters) if str(item.get("use", "")).endswith("Duplicate")), None)
    copies = (
        f"augmenters.{position}.times={{extra}}"
        if position is not None
        else "'augmenters=[{use: Duplicate, times: {extra}}]'"
    )
    again = "" if settings.model is None else f" --model {shlex.quote(settings.model)}"
    steps = 2 * settings.steps if isinstance(settings.steps, int) else "N"
    return Commands(
        measure=f"curate validate {data} --recipe {place} --model {model} --out {place}-validation",
        longer_proxy=f"curate run {data} --recipe {place} --set proxy.steps={2 * length} --out {place}-longer-proxy",
        read=f"curate inspect {place} --examples 20",
        longer=f"curate forecast {place} --steps {steps}{again}",
        copy=f"curate run {data} --recipe {place} --set {copies} --out {place}-copies",
        synthesize=f"curate synthesize {data} --generator MODEL --out {place}-new",
    )


def _data_words(record: dict[str, Any]) -> str:
    """DATA and its reading options as words of a command line."""
    reading = dict(record["data"].get("read") or {})
    words = [str(reading.pop("data", None) or "DATA")]
    for name, value in reading.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, dict):
            value = ",".join(f"{role}={column}" for role, column in value.items())
        for item in value if isinstance(value, list) else [value]:
            words += [option, str(item)]
    return shlex.join(words)
