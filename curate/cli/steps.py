"""Steps shared by several commands: recipe, rows and scores from options, and the options of synthesis."""

from __future__ import annotations

import argparse
import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from curate.cli.engine import add_engine_arguments
from curate.cli.fields import (
    add_field_options,
    add_reading_arguments,
    field_values,
    is_range,
    offered,
    options_of,
    reading,
)
from curate.cli.options import add_consent_arguments, add_machine_arguments, add_repeatable, permissions
from curate.console.progress import Progress
from curate.data.known_formats import NAMES
from curate.data.named_rows import named_rows
from curate.data.readers import Loaded, read
from curate.dataset_reference import named_dataset
from curate.difficulty.score_files import read_scores
from curate.difficulty.scores import Scores
from curate.difficulty.split import join_scores
from curate.errors import InputError
from curate.pipeline import Pipeline
from curate.proxy.proxy import Proxy
from curate.recipe import load_recipe, own_module
from curate.run import Run
from curate.storage.destination import result_place
from curate.storage.places import local_path
from curate.verify.sandbox import weak_sandbox


def add_data_arguments(
    parser: argparse.ArgumentParser,
    default: str = "quick",
    evaluation: str = "evaluation set that no new row may share text with; repeat for several",
) -> None:
    """Add the options of commands that curate DATA. default: recipe. evaluation: help of --evaluation."""
    parser.add_argument(
        "data",
        metavar="DATA",
        help=f"{NAMES} file, or a folder of them, also by URL, or a Hugging Face dataset id",
    )
    recipe = parser.add_argument_group("what to do")
    recipe.add_argument(
        "--recipe", default=default, metavar="NAME|FILE", help=f"shipped recipe or YAML file ({default})"
    )
    recipe.add_argument(
        "--proxy", metavar="MODEL", help="model to train briefly: hub id, folder, GGUF file, or scratch"
    )
    recipe.add_argument(
        "--scores", type=result_place, metavar="FILE", help="difficulty measured earlier; no proxy is run"
    )
    add_repeatable(recipe, "--set", "PATH=VALUE", "change the recipe, e.g. proxy.steps=500 or copies=weights")
    add_repeatable(recipe, "--evaluation", "DATA", evaluation, default=None)
    add_field_options(recipe, Pipeline, options_of(Pipeline))
    add_field_options(recipe, Proxy, options_of(Proxy), {"score_budget": "TOKENS"})
    add_consent_arguments(recipe)
    add_reading_arguments(parser)
    for name, text in (("include", "keep only the rows"), ("exclude", "leave out the rows")):
        parser.add_argument(
            f"--{name}", type=local_path, metavar="FILE", help=f"{text} whose ids are in FILE, one per line"
        )
    add_machine_arguments(parser)
    add_engine_arguments(parser)


def pipeline_from(options: argparse.Namespace) -> Pipeline:
    """The recipe, changed as the options say."""
    settings = list(options.set)
    if options.proxy is not None:
        settings.insert(0, f"proxy.model={json.dumps(options.proxy)}")
    for component, path in ((Pipeline, ""), (Proxy, "proxy.")):
        values = field_values(options, options_of(component))
        settings += [_setting(path + name, value) for name, value in values.items()]
    if options.trust_remote_code:
        settings.append("proxy.trust_remote_code=true")
    if options.evaluation:
        evaluations = [named_dataset(evaluation, "--evaluation") for evaluation in options.evaluation]
        settings.append(f"gate.evaluation={json.dumps(evaluations)}")
    settings += recipe_settings(options, load_recipe(options.recipe))
    return Pipeline.from_recipe(options.recipe, settings=settings, allow_plugins=permissions(options))


def loaded_from(options: argparse.Namespace, pipeline: Pipeline, progress: Progress) -> Loaded:
    """The rows of DATA; notes on them are printed."""
    with progress.stage("read") as stage:
        loaded = read(options.data, seed=pipeline.seed, **reading(options))
        loaded = named_rows(loaded, vars(options).get("include"), vars(options).get("exclude"))
        stage.advance(loaded.rows_read)
    notes = [f"{len(loaded.examples):,} of {loaded.rows_read:,} rows of {loaded.description}"]
    # What the line above says already, where nothing but the limit left rows out.
    repeated = f"limit: a sample of {len(loaded.examples):,} of {loaded.rows_read:,} rows"
    notes += [f"  {note}" for note in loaded.notes if note != repeated]
    if loaded.rejected:
        notes.append(f"  {len(loaded.rejected):,} unusable rows left out; see tables/rejected.parquet")
    for note in notes:
        progress.note(note)
    return loaded


def scores_from(options: argparse.Namespace, pipeline: Pipeline, loaded: Loaded, progress: Progress) -> Scores | None:
    """Scores read from a file, in the order of the rows."""
    if options.scores is None:
        return None
    if pipeline.stability > 1:
        progress.note(f"stability {pipeline.stability} has no effect with --scores: no proxy is run")
    return join_scores(read_scores(options.scores), loaded.examples.ids)


def run_from(options: argparse.Namespace, pipeline: Pipeline, progress: Progress) -> Run:
    surroundings = (options.cache, options.device, pipeline.seed, progress)
    return Run(pipeline.proxy, *surroundings, gate=pipeline.gate, engine=options.workers_of)


def new_progress() -> Progress:
    return Progress("auto" if is_first_rank() else "none")


def is_first_rank() -> bool:
    import os

    return os.environ.get("RANK", "0") == "0"


# -- synthesis ----------------------------------------------------------------------------------------------------


def add_generator_arguments(parser: argparse.ArgumentParser, *, grader: bool = True) -> None:
    """Add options for recipes with Synthesize. grader: whether --grader grades its rows, not evaluation sets."""
    group = parser.add_argument_group("new problems (recipes with Synthesize)")
    group.add_argument("--generator", metavar="MODEL", help="model that writes and solves: hub id or folder")
    add_repeatable(
        group, "--url", "URL", "OpenAI-compatible server with that model; repeat to spread the load", default=None
    )
    group.add_argument("--urls-from", metavar="FILE", help="file with such URLs, one per line; reread during the run")
    group.add_argument(
        "--vllm", metavar="PATH", help="vllm executable to start a server with (the one on the PATH), without --url"
    )
    synthesize = own_module("augmenters").Synthesize
    metavars = {"budget": "TOKENS", "checks": "NAME,..", "strategy": "NAME"}
    add_field_options(group, synthesize, options_of(synthesize), metavars)
    if grader:
        group.add_argument(
            "--grader",
            dest="task_grader",
            metavar="NAME|YAML",
            help=f"grader of solutions: {offered('curate.graders')}, with settings as in "
            "'{use: Tests, seconds: 20}', or your own (what fits the rows)",
        )
    add_sandbox_argument(parser, group)


def add_sandbox_argument(parser: argparse.ArgumentParser, group: argparse._ArgumentGroup) -> None:
    """Add the option that goes with --run-programs."""
    group.add_argument(
        "--weak-sandbox",
        action="store_true",
        help="with --run-programs: also where the kernel cannot protect your files",
    )
    parser.set_defaults(sandbox=sandbox)


def sandbox(options: argparse.Namespace) -> AbstractContextManager[None]:
    """The isolation required for programs that a command runs."""
    if not options.weak_sandbox:
        return nullcontext()
    if not options.run_programs:
        raise InputError("--weak-sandbox is about programs, and none is run; add --run-programs, or leave it out")
    return weak_sandbox()


def recipe_settings(options: argparse.Namespace, recipe: dict[str, Any]) -> list[str]:
    """`path=value` settings for the recipe's Synthesize. Raises InputError if options need one and it has none."""
    component = own_module("augmenters").Synthesize
    parameters = options_of(component)
    fields = {name: getattr(options, name, None) for name in ("generator", "url", "urls_from", "vllm", *parameters)}
    fields["grader"] = getattr(options, "task_grader", None)
    fields = {name: value for name, value in fields.items() if value is not None}
    place = synthesize_place(recipe)
    if place is None:
        if isinstance(scorer := recipe.get("scorer"), dict) and scorer.get("run_programs"):
            fields.pop("run_programs", None)
        if fields:
            option = "--" + next(iter(fields)).replace("_", "-")
            raise InputError(f"{option} is for recipes with Synthesize, such as --recipe synthesize; this one has none")
        return []
    ranges = [name for name in parameters if name in fields and is_range(component.model_fields[name])]
    fields |= {name: _range(name, str(fields[name])) for name in ranges}
    if "checks" in fields:
        fields["checks"] = _checks(str(fields["checks"]))
    path = f"augmenters.{place}"
    elsewhere = any(setting.startswith(f"{path}.generator") for setting in getattr(options, "set", None) or ())
    settings = _generator(fields, recipe["augmenters"][place], path, elsewhere)
    if "grader" in fields:
        text = str(fields["grader"])
        settings.append(f"{path}.grader={text}" if text.lstrip().startswith("{") else _setting(f"{path}.grader", text))
    return settings + [_setting(f"{path}.{name}", fields[name]) for name in parameters if name in fields]


def summary(record: dict[str, Any]) -> list[str]:
    """Lines that summarize a synthesis, for the terminal."""
    funnel, tokens = dict(record["funnel"]), record["tokens"]
    proposals, kept = funnel["proposals asked for"], funnel["kept"]
    share = f" ({kept / proposals:.1%})" if proposals else ""
    lines = [f"new problems: {kept:,} of {proposals:,} proposals kept{share}, {tokens['generated']:,} tokens generated"]
    lost = sorted(((count, name) for name, count in record["outcomes"].items() if name != "kept"), reverse=True)
    if lost:
        lines.append("rejected: " + ", ".join(f"{count:,} {name}" for count, name in lost))
    if (yield_record := record.get("yield")) and yield_record["per request"] is not None:
        parts = ", ".join(
            f"{stage} {cost['requests']:,} requests and {cost['generated']:,} tokens"
            for stage, cost in yield_record["cost"].items()
        )
        per = f"{yield_record['per 1,000 generated tokens'] or 0.0:.3g} kept per 1,000 generated tokens"
        lines.append(f"yield: {per}, {yield_record['per request']:.3g} per request ({parts})")
    rescored = record.get("rescored")
    if rescored and rescored["measured"]:
        rate = rescored["hard"] / rescored["measured"]
        lines.append(
            f"measured like the input: {rescored['hard']:,} of {rescored['measured']:,} hard again ({rate:.0%})"
        )
    if record["budget_reached"]:
        lines.append(f"the budget of {record['budget']:,} tokens is spent; a larger --budget resumes from here")
    return lines


def synthesize_place(recipe: dict[str, Any]) -> int | None:
    """Index of the first Synthesize among the recipe's augmenters."""
    augmenters = recipe.get("augmenters")
    for number, augmenter in enumerate(augmenters if isinstance(augmenters, list) else []):
        if isinstance(augmenter, dict) and str(augmenter.get("use", "")).rpartition(".")[2] == "Synthesize":
            return number
    return None


def _generator(fields: dict[str, Any], synthesize: dict[str, Any], path: str, elsewhere: bool) -> list[str]:
    """Settings of the generator. elsewhere: whether --set names one."""
    address = next((name for name in ("url", "urls_from") if name in fields), None)
    if "vllm" in fields and address is not None:
        option = "--" + address.replace("_", "-")
        raise InputError(f"--vllm starts a server and {option} names one that runs; give one of them")
    set_up = synthesize.get("generator")
    model_name = set_up.get("model") if isinstance(set_up, dict) else set_up
    if "generator" not in fields and model_name is None and not elsewhere:
        raise InputError("the recipe names no generator; give the model that writes and solves with --generator MODEL")
    names = {"generator": "model", "url": "url", "urls_from": "urls_from", "vllm": "command"}
    return [_setting(f"{path}.generator.{names[name]}", fields[name]) for name in names if name in fields]


def _range(name: str, text: str) -> list[int]:
    low, dash, high = text.partition("-")
    if not (dash and low.strip().isdigit() and high.strip().isdigit()):
        raise InputError(f"--{name} {text!r} is not of the form LOW-HIGH, such as 1-5")
    return [int(low), int(high)]


def _checks(text: str) -> list[str]:
    """The checks that --checks names: a list, "none", "all", or "-NAME,.." for all except those."""
    every = list(own_module("augmenters").Synthesize.model_fields["checks"].default)
    words = [word.strip() for word in text.split(",") if word.strip()]
    without = bool(words) and all(word.startswith("-") for word in words)
    names = [word.removeprefix("-") for word in words] if without else words
    if names in (["none"], ["all"]):
        return [] if names == ["none"] else every
    unknown = [name for name in names if name not in every]
    if unknown or not names:
        raise InputError(
            f"--checks {text!r}: name some of {', '.join(every)}, separated by commas; or none, all, or -NAME for all "
            "but one"
        )
    return [name for name in every if (name in names) != without]


def _setting(path: str, value: Any) -> str:
    return f"{path}={json.dumps(value)}"
