"""`curate forecast`: held-out loss curves of a finished run's proxy along a planned budget, and advice on copies."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.cli.fields import add_field_options, field_values, options_of
from curate.cli.options import add_consent_arguments, add_machine_arguments, permissions
from curate.cli.steps import new_progress
from curate.console.formatting import visible
from curate.console.printing import say, show
from curate.data.examples import Examples
from curate.data.named_rows import NAMED
from curate.data.readers import read
from curate.difficulty.scores import Split
from curate.errors import ExternalError, InputError
from curate.mixture.forecast_words import lines
from curate.mixture.judgment import judgment
from curate.mixture.verdicts import Commands, forecast_budget
from curate.pipeline import Pipeline
from curate.proxy.budget import Budget, Cost, ForecastSettings, check_cost, size_in
from curate.proxy.proxy import AUTO
from curate.recipe import construct, dump_recipe, parse_recipe
from curate.report.run_page import write_report
from curate.run import Run
from curate.storage.atomic import publish_file
from curate.storage.folders import RECORD
from curate.storage.places import arrow_path, local_path
from curate.storage.records import check_files, read_finished, record_text
from curate.training.config import DEFAULTS

_FIELDS = options_of(ForecastSettings)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate forecast`."""
    parser.add_argument("directory", type=local_path, metavar="DIR", help="folder that `curate run` wrote")
    parser.add_argument(
        "--proxy", metavar="MODEL", help="model of the curves: hub id, folder, GGUF, or scratch (that of the recipe)"
    )
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
    pipeline = _pipeline(record, directory, options)
    run = Run(pipeline.proxy, options.cache, options.device, pipeline.seed, progress, gate=pipeline.gate)
    with progress.stage("read"):
        split = _split(directory, record)
        examples = _input(record, directory, pipeline, split)
    budget = Budget(examples, split, pipeline.proxy, settings, run.context, pipeline.gate)
    cost = budget.cost()
    progress.note(str(cost))
    if not _agreed(cost, options):
        check_cost(cost, options.yes, "pass --yes")
    commands = _commands(record, options, settings, budget.length)
    wrong = (record["diagnostics"].get("reducible") or {}).get("wrong_share")
    prediction = forecast_budget(
        budget.curves(judgment().clock), commands=commands, wrong_share=wrong, seed=pipeline.seed
    )
    added = prediction.to_json()
    if record["forecast"].get("predictions") and _decided(record):
        del added["times"]  # what is in the data was decided by the forecast of the run
    record["forecast"] |= added
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


def _pipeline(record: dict[str, Any], directory: Path, options: argparse.Namespace) -> Pipeline:
    """The pipeline that scored the run, without its augmenters: they are not needed and may name servers."""
    mapping = parse_recipe(record["recipe_yaml"], f"the recipe of {directory}")
    if options.proxy is not None:
        mapping["proxy"] = {**(mapping.get("proxy") or {}), "model": options.proxy}
    return Pipeline.from_yaml(
        dump_recipe({**mapping, "augmenters": [], "order": "shuffle", "copies": "rows"}),
        allow_plugins=permissions(options),
    )


def _input(record: dict[str, Any], directory: Path, pipeline: Pipeline, split: Split) -> Examples:
    """The rows of the split, read again. InputError if they are missing or have changed."""
    reading = dict(record["data"].get("read") or {})
    data = reading.pop("data", None)
    again = "curate its data again with a `forecast:` section in the recipe (--set forecast.steps=N)"
    if data is None:
        raise InputError(
            f"the input of {directory} is not a dataset that can be read again (it was in memory, or several); {again}"
        )
    for name in NAMED:  # the rows that they leave are those of the split
        reading.pop(name, None)
    try:
        loaded = read(data, seed=pipeline.seed, **reading)
    except (InputError, ExternalError) as error:
        raise type(error)(
            f"the input of {directory} cannot be read again ({error}); put it back, or {again}"
        ) from error
    places = pc.index_in(split.ids, value_set=loaded.examples.ids.cast(split.ids.type))
    examples = loaded.examples if places.null_count else loaded.examples.take(places.to_numpy())
    if examples.fingerprint() != record["data"]["fingerprint"]:
        raise InputError(f"the input of {directory}, {data}, has changed since; curate it again with --fresh")
    return examples


def _split(directory: Path, record: dict[str, Any]) -> Split:
    check_files(directory, record, "rerun the command that wrote it with --fresh", "tables/")
    table = pq.read_table(arrow_path(directory / "tables" / "split.parquet"))
    ids = table["example_id"].combine_chunks()
    difficulty = table["difficulty"].to_numpy(zero_copy_only=False).astype("float32")
    cluster = table["cluster"].to_numpy()
    hard = table["hard"].to_numpy(zero_copy_only=False)
    return Split(ids, cluster, hard, difficulty, table["difficulty"].is_valid().to_numpy(zero_copy_only=False))


def _commands(record: dict[str, Any], options: argparse.Namespace, settings: ForecastSettings, length: int) -> Commands:
    """Commands to try next, with the data and recipe of this folder; they work in any folder."""
    place, data = str(options.directory.absolute()), _data_words(record)
    recipe = parse_recipe(record["recipe_yaml"], "recipe")
    allowed = [word for permission in permissions(options) for word in _permission(permission)]
    scored = [] if record["proxy"] else ["--scores", f"{place}/tables/scores.parquet"]
    like = [*data, "--recipe", place]
    name = settings.model
    target = ["--model", "MODEL" if name is None or size_in(name) else name]  # a size is not the name of a model
    own_proxy = [] if options.proxy is None else ["--proxy", options.proxy]
    plan = ["--steps", _doubled(settings.steps)]
    plan += [] if settings.batch_size == DEFAULTS.batch_size else ["--batch-size", str(settings.batch_size)]
    plan += [] if name is None else ["--model", name]
    longer = [f"proxy.steps={2 * length}"]
    if (recipe.get("proxy") or {}).get("spacing") == "geometric":
        longer.append(f"proxy.horizon={2 * length}")  # it bounds the grid

    def words(*parts: str | list[str], out: str | None = None) -> str:
        flat = [word for part in parts for word in ([part] if isinstance(part, str) else part)]
        return shlex.join(["curate", *flat, *([] if out is None else [*allowed, "--out", place + out])])

    return Commands(
        measure=words("validate", like, scored, _settings(as_validated(recipe)), target, out="-validation"),
        longer_proxy=words("run", like, own_proxy, _settings(longer), out="-longer-proxy"),
        read=words("inspect", place, "--examples", "20"),
        longer=words("forecast", place, plan, own_proxy, allowed),
        copy=words("run", like, scored, _settings(as_copied(recipe, "{extra}")), out="-copies"),
        synthesize=words("synthesize", data, "--generator", "MODEL", own_proxy or _proxy_words(recipe), out="-new"),
    )


def as_validated(recipe: dict[str, Any]) -> list[str]:
    """Settings with which `curate validate` takes a recipe: copies as rows in any order, of a number that is known."""
    changes = [
        f"{key}={value}" for key, value in (("copies", "rows"), ("order", "shuffle")) if recipe.get(key, value) != value
    ]
    copying = _copying(recipe)
    if not copying:
        return [*changes, *as_copied(recipe, "1")]
    auto = [f"augmenters.{k}.times=1" for k in copying if recipe["augmenters"][k].get("times") == AUTO]
    return [*changes, *auto, *(["forecast=null"] if auto else [])]


def as_copied(recipe: dict[str, Any], extra: str) -> list[str]:
    """Settings with which a recipe makes `extra` copies of every hard row."""
    copying = _copying(recipe)
    if len(copying) == 1:
        return [f"augmenters.{copying[0]}.times={extra}"]
    return [f"augmenters=[{{use: Duplicate, times: {extra}}}]"]


def _decided(record: dict[str, Any]) -> bool:
    """Whether the forecast of the run decided its copies."""
    augmenters = parse_recipe(record["recipe_yaml"], "recipe").get("augmenters") or []
    return any(item.get("times") == AUTO for item in augmenters)


def _copying(recipe: dict[str, Any]) -> list[int]:
    """Places of the augmenters that copy hard rows."""
    augmenters = recipe.get("augmenters") or []
    named = [(k, item) for k, item in enumerate(augmenters) if str(item.get("use", "")).endswith("Duplicate")]
    return [k for k, item in named if item.get("of", "hard") == "hard"]


def _settings(changes: list[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def _proxy_words(recipe: dict[str, Any]) -> list[str]:
    model = (recipe.get("proxy") or {}).get("model")
    return [] if model is None else ["--proxy", model]


def _permission(permission: str) -> list[str]:
    """The words with which a permission is given, see `permissions`."""
    return permission.split(" ", 1) if permission.startswith("--") else ["--allow-plugin", permission]


def _doubled(steps: int | str) -> str:
    """Twice as many steps or epochs, in the same words."""
    return re.sub(r"\d+(\.\d+)?", lambda number: f"{2 * float(number[0]):.12g}", str(steps).strip(), count=1)


def _data_words(record: dict[str, Any]) -> list[str]:
    """DATA and its reading options as words of a command line."""
    reading = dict(record["data"].get("read") or {})
    words = [str(reading.pop("data", None) or "DATA")]
    for name, value in reading.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, dict):
            value = ",".join(f"{role}={column}" for role, column in value.items())
        for item in value if isinstance(value, list) else [value]:
            words += [option, str(item)]
    return words
