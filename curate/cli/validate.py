"""`curate validate`: fine-tune on the original data, the curated data and controls, and compare."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from curate.cli.compare import print_comparison
from curate.cli.evaluate import add_grader_argument, given_grader, named_sets
from curate.cli.fields import add_field_options, field_values, offered, options_of
from curate.cli.finetune import add_tuning_arguments, given_component, tuning_settings
from curate.cli.options import add_repeatable, permissions
from curate.cli.steps import (
    add_data_arguments,
    add_generator_arguments,
    loaded_from,
    new_progress,
    pipeline_from,
    scores_from,
    synthesize_place,
)
from curate.console.formatting import count, duration, visible
from curate.console.printing import show
from curate.dataset_reference import named_dataset
from curate.errors import InputError
from curate.evaluation.config import Evaluation, parse_set
from curate.finetuning.config import BUDGETS, Finetuning, finetuning_from
from curate.recipe import apply_settings, construct, grader_from, load_recipe, recipe_names, reweighter_from
from curate.storage.places import local_path
from curate.training.trackers import TRACKERS, tracker_names
from curate.validation.config import ARMS, FRONT, NAMED_ONLY, Addition, Validation
from curate.validation.estimate import estimate_runs
from curate.validation.validate import prepare_experiment, validate

_EVALUATION_HELP = (
    "questions to compare on, repeat for several: a dataset, NAME=DATASET, or in YAML {data: FILE, where: split=test, "
    "columns: {final_answer: COLUMN}, name: NAME, grader: NAME} (a tenth of DATA is held out)"
)
_HELD_OUT = ("held_out", "drop_contaminated")
_DEFAULT_RECIPE = "quick"
_WITH_GENERATOR = "duplicate-and-synthesize"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `curate validate` beyond those of `curate run`."""
    add_data_arguments(parser, evaluation=_EVALUATION_HELP)
    add_generator_arguments(parser, grader=False)
    tuning = parser.add_argument_group("what to fine-tune")
    add_tuning_arguments(tuning, "one that takes two gradients per step leaves no arm sam")
    add_repeatable(tuning, "--finetuning", "PATH=VALUE", "any setting of curate finetune")
    design = parser.add_argument_group("what to compare")
    design.add_argument(
        "--arms",
        metavar="NAME,...",
        help=f"{', '.join(name for name in ARMS if name not in NAMED_ONLY)}, and those of --reweighter (all that the "
        f"recipe allows); if named: {', '.join(NAMED_ONLY)}, and {FRONT}+NAME of a reweighter",
    )
    add_repeatable(
        design,
        "--reweighter",
        "NAME|YAML",
        f"an arm NAME and an arm hard+NAME whose rows it weights: {offered('curate.reweighters')}, or with "
        "settings 'NAME={use: ADAPT, anchors: FILE}', {use: DGA, target: FILE}; repeat for several",
    )
    add_repeatable(
        design, "--arm", "NAME=DATA|RECIPE", "a custom arm: a recipe or a dataset, named as for --evaluation"
    )
    design.add_argument(
        "--seeds", default="3", metavar="S|N,N,...", help="how many seeds of fine-tuning, or which (3, that is 0,1,2)"
    )
    design.add_argument(
        "--budgets",
        default=",".join(BUDGETS),
        metavar="NAME,...",
        help=f"the arms have equal {' or equal '.join(BUDGETS)} (both)",
    )
    add_field_options(design, Validation, options_of(Validation, without=_HELD_OUT), {"epochs": "N", "rho": "RADIUS"})
    evaluation_options = parser.add_argument_group("how models are evaluated")
    add_field_options(evaluation_options, Validation, _HELD_OUT, {"held_out": "SHARE"})
    add_grader_argument(evaluation_options)
    evaluation_options.add_argument("--no-generate", action="store_true", help="compare losses only; draw no answers")
    add_field_options(evaluation_options, Evaluation, ("max_tokens",))
    add_repeatable(evaluation_options, "--evaluate", "PATH=VALUE", "any setting of curate evaluate")
    work = parser.add_argument_group("this command")
    work.add_argument("--out", required=True, type=local_path, metavar="DIR", help="folder for arms, runs and report")
    work.add_argument("--fresh", action="store_true", help="remove another validation that DIR holds")
    work.add_argument("--drop-weights", action="store_true", help="remove the weights of each run once it is evaluated")
    work.add_argument("--log", metavar="NAME,...", help=f"metrics of every run also to {', '.join(TRACKERS)}")
    work.add_argument("--plan", action="store_true", help="show arms, runs, steps, tokens and time; train nothing")
    work.add_argument(
        "--time-limit", type=float, metavar="MINUTES", help="stop cleanly after that; the same command resumes"
    )


def command(options: argparse.Namespace) -> dict[str, Any]:
    """Validate, or resume; returns the object that --json prints."""
    if options.time_limit is not None and not options.time_limit > 0:
        raise InputError(f"--time-limit {options.time_limit:g}: give a number of minutes above 0")
    settings, progress = _settings(options), new_progress()
    loaded = loaded_from(options, settings.pipeline, progress)
    scores = scores_from(options, settings.pipeline, loaded, progress)
    surroundings = {"cache": options.cache, "device": options.device, "progress": progress, "scores": scores}
    if options.plan:
        experiment = prepare_experiment(loaded, settings, options.out, dry=True, fresh=options.fresh, **surroundings)
        result = estimate_runs(experiment)
        if not options.json:
            _print_plan(result)
        return result
    limit = None if options.time_limit is None else 60 * options.time_limit
    log = tracker_names(options.log)
    surroundings["engine"] = options.workers_of
    result = validate(loaded, settings, options.out, time_limit=limit, fresh=options.fresh, log=log, **surroundings)
    if "stopped" in result:
        if not options.json:
            show(f"stopped after the pilot run, {result['stopped']}; rerun without --stop-if to continue")
        return {"directory": str(options.out), **result}
    if not options.json:
        _print(result, options.out)
    return {"directory": str(options.out), "report": str(options.out / "report.html"), **result}


# -- from options to settings ---------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace) -> Validation:

    # The evaluation sets are added to the gate later, as exactly the questions that are asked.
    recipe = argparse.Namespace(**{**vars(options), "evaluation": None})
    if recipe.generator is not None and recipe.recipe == _DEFAULT_RECIPE:
        recipe.recipe = _WITH_GENERATOR
    if synthesize_place(load_recipe(recipe.recipe)) is None:
        recipe.run_programs = None  # --run-programs is about the models that are evaluated
    fields: dict[str, Any] = {
        "pipeline": pipeline_from(recipe),
        "finetuning": _finetuning(options),
        "evaluation": _evaluation(options),
        "sets": tuple(named_sets(options.evaluation or [], "--evaluation", allowed=permissions(options))),
        "arms": None if options.arms is None else _names(options.arms),
        "reweighters": _reweighters(options),
        "additions": tuple(_addition(text, recipe) for text in options.arm),
        "seeds": _seeds(options.seeds),
        "budgets": _names(options.budgets),
        "keep_weights": not options.drop_weights,
    }
    fields |= field_values(options, options_of(Validation))
    validation: Validation = construct(Validation, fields, "validate")
    return validation


def _finetuning(options: argparse.Namespace) -> Finetuning:
    changed = apply_settings(tuning_settings(options), options.finetuning)
    for name, option in (("steps", "--epochs"), ("seed", "--seeds")):
        if name in changed:
            raise InputError(f"--finetuning {name}=...: every run gets its own; use {option}")
    return finetuning_from(changed, permissions(options))


def _evaluation(options: argparse.Namespace) -> Evaluation:
    fields = apply_settings({}, options.evaluate)
    if options.no_generate:
        fields["generate"] = False
    if options.trust_remote_code:
        fields["trust_remote_code"] = True
    if options.max_tokens is not None:
        fields["max_tokens"] = options.max_tokens
    if options.grader is not None:
        fields["grader"] = given_grader(options)
    elif "grader" in fields:
        fields["grader"] = grader_from(fields["grader"], "--evaluate grader", permissions(options))
    if options.run_programs:
        fields["run_programs"] = True
    if isinstance(fields.get("shots_from"), str):
        fields["shots_from"] = parse_set(fields["shots_from"], "--evaluate shots_from")
    for name in ("stop", "vllm_arguments"):
        if isinstance(fields.get(name), list):
            fields[name] = tuple(fields[name])
    evaluation: Evaluation = construct(Evaluation, fields, "--evaluate", permissions(options))
    return evaluation


def _addition(text: str, options: argparse.Namespace) -> Addition:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise InputError(f"--arm {text}: write NAME=DATA or NAME=RECIPE")
    if value in recipe_names() or Path(value).suffix in (".yaml", ".yml"):
        # Other settings are for the main recipe only; the proxy, the seed and consents are for all recipes.
        own = argparse.Namespace(**{**vars(options), "recipe": value, "set": []})
        fields: dict[str, Any] = {"name": name, "recipe": pipeline_from(own)}
    else:
        reading = named_dataset(value, f"--arm {name}")
        own_reading = reading if isinstance(reading, dict) else {"data": reading}
        shared = field_values(options, ("columns", "role", "shape"))  # those of DATA apply unless the arm has its own
        fields = {"name": name, **(shared | own_reading)}
    addition: Addition = construct(Addition, fields, f"--arm {text}")
    return addition


def _reweighters(options: argparse.Namespace) -> dict[str, Any]:
    reweighters: dict[str, Any] = {}
    for text in options.reweighter:
        head, equals, rest = text.partition("=")
        name, value = (head.strip(), rest) if equals and not text.lstrip().startswith("{") else ("", text)
        reweighter = reweighter_from(given_component(value, "--reweighter"), "--reweighter", permissions(options))
        name = name or type(reweighter).__name__.lower()
        if name in reweighters:
            raise InputError(f"--reweighter {text}: there is one called {name} already; write NAME={{use: ...}}")
        reweighters[name] = reweighter
    return reweighters


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _seeds(text: str) -> tuple[int, ...]:
    """`3` means seeds 0, 1, 2; `5,7` and `5,` list them."""
    try:
        if "," in text:
            return tuple(int(name) for name in _names(text))
        count = int(text)
    except ValueError as error:
        raise InputError(f"--seeds {text}: give how many, such as 3, or which, such as 0,1,2") from error
    if count < 1:
        raise InputError(f"--seeds {text}: give at least 1, better 3")
    return tuple(range(count))


# -- on the terminal ------------------------------------------------------------------------------------------------


def _print(result: dict[str, Any], out: Path) -> None:
    print_comparison(result["comparison"])
    show(f"report   {visible(str(out / 'report.html'))}")


def _print_plan(result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title="What this validation would do", title_justify="left")
    for name in ("arm", "at equal", "rows", "steps", "epochs", "runs", "tokens", "time"):
        table.add_column(name, justify="left" if name in ("arm", "at equal") else "right")
    rows = {arm["arm"]: arm for arm in result["arms"]}
    for arm, budget in dict.fromkeys((run["arm"], run["budget"]) for run in result["runs"]):
        runs = [run for run in result["runs"] if (run["arm"], run["budget"]) == (arm, budget)]
        row_count = f"{'' if rows[arm]['known'] else '~'}{rows[arm]['rows']:,}"
        first, done = runs[0], sum(run["done"] for run in runs)
        numbers = [row_count, f"{first['steps']:,}", f"{first['epochs']:g}"]
        if first["same_as"]:
            table.add_row(visible(arm), budget, *numbers, "", "", "as above")
            continue
        seconds = sum(run["seconds"] or 0 for run in runs)
        numbers += [f"{len(runs)}" + (f" ({done} done)" if done else ""), count(sum(run["tokens"] for run in runs))]
        table.add_row(visible(arm), budget, *numbers, duration(seconds) if seconds else "")
    lines = [] if result["pilot"] is None else [f"a pilot run of {result['pilot']['steps']:,} steps comes first"]
    lines += [f"{result['runs_left']} runs are left, about {count(result['tokens_left'])} tokens"]
    if result["seconds_left"] is None:
        lines.append("how long that takes is known when the first run has begun")
    elif result["runs_left"]:
        lines.append(f"about {duration(result['seconds_left'])} at the rate of the runs so far")
    if not all(arm["known"] for arm in result["arms"]):
        lines.append("~ a quarter of the rows is supposed to be hard; the curation, which comes first, will tell")
    for row in result["detectable"]:
        relative = "" if row["relative"] is None else f" ({row['relative']:.1%})"
        lines.append(
            f"{visible(row['set'])}, {row['metric']}: {row['seeds']} seeds can detect a difference of "
            f"{row['absolute']:.4f}{relative}, judging by {row['from_seeds']} runs of the baseline"
        )
    show(table, *lines, *(f"warning: {visible(line)}" for line in result["warnings"]))
