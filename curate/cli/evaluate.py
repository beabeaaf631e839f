"""`curate evaluate`: grade the answers of a run or model and score reference answers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from curate.cli.fields import add_field_options, field_values, offered, options_of
from curate.cli.finetune import given_component
from curate.cli.options import add_machine_arguments, add_repeatable, permissions
from curate.cli.steps import add_sandbox_argument
from curate.console.formatting import share, visible
from curate.console.printing import show
from curate.console.progress import Progress
from curate.errors import InputError
from curate.evaluation.config import Evaluation, EvaluationSet, parse_set
from curate.evaluation.evaluate import evaluate
from curate.evaluation.results import EvaluationResult
from curate.recipe import construct, grader_from
from curate.storage.places import expanded, local_path

SET_HELP = (
    "a dataset, NAME=DATASET, or in YAML {data: FILE, where: split=test, columns: {final_answer: COLUMN}, "
    "level: COLUMN, name: NAME, grader: NAME}"
)
# Options named like the setting that they set.
_ASKED = ("style", "template", "shots")
_MEANS = ("generator", "vllm", "url", "batch_size", "precision", "revision", "trust_remote_code")
_DRAWN = options_of(Evaluation, without=(*_ASKED, *_MEANS))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate evaluate`, but for --json, which every command has."""
    parser.add_argument(
        "target", metavar="RUN|MODEL", help="folder of a fine-tuning run, or a model: folder, GGUF file or hub id"
    )
    add_repeatable(parser, "--data", "DATA", f"evaluation set (repeatable): {SET_HELP}", required=True, default=None)
    parser.add_argument("--limit", type=int, metavar="N", help="a seeded sample of N rows of each set")
    parser.add_argument(
        "--on-bad-row",
        choices=("error", "drop"),
        default="error",
        help="how to handle rows that the chat template refuses (error)",
    )
    add_settings_arguments(parser)
    results = parser.add_argument_group("results")
    results.add_argument(
        "--out", type=local_path, metavar="DIR", help="folder for the results, one per set (RUN/evaluation for a run)"
    )
    results.add_argument("--fresh", action="store_true", help="replace results of another protocol or model")
    add_machine_arguments(parser)


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how questions are prompted, answers drawn, and both scored."""
    question_options = parser.add_argument_group("how questions are asked")
    add_field_options(question_options, Evaluation, _ASKED, {"shots": "K"})
    question_options.add_argument("--shots-from", metavar="DATA", help="where they are drawn from, named as for --data")
    answer_options = parser.add_argument_group("how answers are drawn and scored")
    add_field_options(answer_options, Evaluation, _DRAWN, {"samples": "K", "temperature": "T", "top_p": "P"})
    add_grader_argument(answer_options)
    add_sandbox_argument(parser, answer_options)
    add_repeatable(answer_options, "--allow-plugin", "PACKAGE", "package a grader may be loaded from")
    answer_options.add_argument("--no-generate", action="store_true", help="score reference completions only")
    answer_options.add_argument("--no-nll", action="store_true", help="draw and grade answers only")
    means = parser.add_argument_group("by what")
    add_field_options(means, Evaluation, _MEANS, {"vllm": "PATH", "url": "URL", "revision": "NAME"})


def add_grader_argument(group: argparse._ArgumentGroup) -> None:
    """--grader, see `given_grader`."""
    group.add_argument(
        "--grader",
        metavar="NAME|YAML",
        help=f"grader of answers: {offered('curate.graders')}, with settings as in "
        "'{use: Tests, seconds: 20}', or your own, mypackage.MyGrader (what fits the rows of each set)",
    )


def given_grader(options: argparse.Namespace) -> Any:
    """The grader named by --grader; None without the option."""
    text = options.grader
    value = given_component(text, "--grader") if text is not None and text.lstrip().startswith("{") else text
    return grader_from(value, "--grader", permissions(options))


def command(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate; returns the object that --json prints."""
    settings = settings_from_options(options)
    sets = named_sets(options.data, "--data", limit=options.limit, seed=settings.seed, allowed=permissions(options))
    directory = expanded(options.target)
    if options.out is None and not (directory / "run.json").is_file() and not (directory / "metrics.jsonl").is_file():
        raise InputError(f"{options.target} is not a fine-tuning run, so say where results go: --out DIR")
    progress = Progress("auto")
    results = evaluate(
        options.target,
        sets,
        settings,
        out=options.out,
        cache=options.cache,
        device=options.device,
        progress=progress,
        fresh=options.fresh,
        on_bad_row=options.on_bad_row,
    )
    place = options.out or directory / "evaluation"
    if not options.json:
        _print(results, place)
    return {"directory": str(place), "evaluations": {name: evaluation.summary for name, evaluation in results.items()}}


def named_sets(
    texts: list[str], option: str, *, limit: int | None = None, seed: int = 0, allowed: tuple[str, ...] = ()
) -> list[EvaluationSet]:
    """Evaluation sets named on the command line; limit, seed: defaults for sets that do not give their own.

    allowed: consent for their graders, see `permissions`.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: give a number of rows of at least 1")
    sets = [parse_set(text, option, allowed) for text in texts]
    return [
        evaluation_set
        if evaluation_set.limit is not None
        else evaluation_set.model_copy(update={"limit": limit, "seed": seed})
        for evaluation_set in sets
    ]


def settings_from_options(options: argparse.Namespace) -> Evaluation:
    """The settings that `add_settings_arguments` reads."""
    if options.vllm is not None and options.url is not None:
        raise InputError("--vllm starts a server and --url names one that runs; give one of them")
    fields = field_values(options, options_of(Evaluation))
    if options.vllm is not None or options.url is not None:
        if options.generator == "transformers":
            raise InputError("--vllm and --url are for --generator vllm")
        fields["generator"] = "vllm"
    if options.shots_from is not None:
        fields["shots_from"] = parse_set(options.shots_from, "--shots-from")
    fields["grader"] = given_grader(options)
    fields["generate"], fields["nll"] = not options.no_generate, not options.no_nll
    settings: Evaluation = construct(Evaluation, fields, "evaluation", permissions(options))
    return settings


def _print(results: dict[str, EvaluationResult], place: Path) -> None:
    from rich.table import Table

    table = Table()
    table.add_column("set", overflow="fold")  # numbers and their names are never cut; labels fold on a narrow screen
    for name in ("rows", "accuracy", "undecided", "cut off", "nats/token", "by row"):
        table.add_column(name, justify="right", no_wrap=True)
    lines: list[str] = []
    for name, result in results.items():
        summary = result.summary
        _add(table, name, summary, summary["cut_off"])
        for kind in ("level", "source"):
            groups = summary[f"{kind}s"]
            for group in groups if len(groups) > 1 else ():
                _add(table, f"  {kind} {group[kind]}", group, None)
        lines += _remarks(name, summary)
    show(table, *lines, f"results -> {visible(str(place))}")


def _add(table: Any, label: str, totals: dict[str, Any], cut_off: float | None) -> None:
    cells = [
        f"{totals['rows']:,}",
        *("" if value is None else share(value) for value in (totals["accuracy"], totals["undecided"], cut_off)),
        *("" if value is None else f"{value:.4f}" for value in (totals["nll"], totals["nll_rows"])),
    ]
    table.add_row(visible(label), *cells)


def _remarks(name: str, summary: dict[str, Any]) -> list[str]:
    rows, lines = summary["rows"], []
    if summary["generator"] is not None and summary["graded"] < rows:
        reason = summary.get("loss_only")
        lines.append(
            f"{name}: {rows - summary['graded']:,} rows have nothing to grade by"
            if reason is None
            else f"{name}: loss only: {reason}"
        )
    if summary["nll"] is not None and summary["answer_only"]:
        lines.append(f"{name}: {summary['answer_only']:,} rows have no worked solution; their final answer was scored")
    if summary["truncated"]:
        lines.append(
            f"{name}: {summary['truncated']:,} rows were longer than the most tokens scored; "
            f"{summary.get('completions_cut') or 0:,} reference completions lost their end"
        )
    return [visible(line) for line in lines]
