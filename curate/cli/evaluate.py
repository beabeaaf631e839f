"""`curate evaluate`: what a fine-tuned run or a model can do."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from curate.cli.options import add_machine_arguments, permissions
from curate.console.formatting import share, visible
from curate.console.printing import show
from curate.console.progress import Progress
from curate.errors import InputError
from curate.evaluation.config import Evaluation, EvaluationSet, parse_set
from curate.evaluation.evaluate import evaluate
from curate.evaluation.results import EvaluationResult
from curate.recipe import construct
from curate.storage.places import expanded, local_path

__all__ = ["add_arguments", "add_settings_arguments", "command", "named_sets", "settings_from_options"]

SET_HELP = (
    "a dataset, NAME=DATASET, or in YAML {data: FILE, where: split=test, columns: {final_answer: COLUMN}, "
    "level: COLUMN, name: NAME}"
)
# Option -> the parameter of `Evaluation` it sets.
_PARAMETERS = (
    *("style", "template", "shots", "samples", "temperature", "top_p", "max_tokens", "max_length", "seed", "generator"),
    *("vllm", "batch_size", "precision", "revision"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate evaluate`, but for --json, which every command has."""
    parser.add_argument(
        "target", metavar="RUN|MODEL", help="folder of a fine-tuning run, or a model: folder, GGUF file or hub id"
    )
    parser.add_argument(
        "--data", action="append", required=True, metavar="DATA", help=f"evaluation set (repeatable): {SET_HELP}"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="a seeded sample of N rows of each set")
    parser.add_argument(
        "--on-bad-row",
        choices=("error", "drop"),
        default="error",
        help="what a row does that the model's chat template refuses (error)",
    )
    add_settings_arguments(parser)
    results = parser.add_argument_group("results")
    results.add_argument(
        "--out", type=local_path, metavar="DIR", help="folder for the results, one per set (RUN/evaluation for a run)"
    )
    results.add_argument("--fresh", action="store_true", help="replace results of another protocol or model")
    add_machine_arguments(parser)


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """How answers are asked for, drawn and scored."""
    asked = parser.add_argument_group("how questions are asked")
    asked.add_argument(
        "--style",
        choices=("auto", "template", "chat", "question"),
        help="text around a question: the training template, the chat template, or Question: and Answer: "
        "(the training template where the model's run or folder says it; question for other models)",
    )
    asked.add_argument(
        "--template",
        choices=("alpaca", "plain"),
        help="the training template (what the model was trained with, else alpaca)",
    )
    asked.add_argument("--shots", type=int, metavar="K", help="solved examples before each question (0)")
    asked.add_argument("--shots-from", metavar="DATA", help="where they are drawn from, named as for --data")
    drawn = parser.add_argument_group("how answers are drawn and scored")
    drawn.add_argument("--samples", type=int, metavar="K", help="answers per question (1)")
    drawn.add_argument("--temperature", type=float, metavar="T", help="0 = greedy (0)")
    drawn.add_argument("--top-p", type=float, metavar="P", help="smallest set of tokens of that probability (1)")
    drawn.add_argument("--max-tokens", type=int, metavar="N", help="most tokens of an answer (512)")
    drawn.add_argument("--stop", action="append", metavar="TEXT", help="text that ends an answer (repeatable)")
    drawn.add_argument("--max-length", type=int, metavar="N", help="tokens of question and completion scored (1024)")
    drawn.add_argument("--no-generate", action="store_true", help="score reference completions only")
    drawn.add_argument("--no-nll", action="store_true", help="draw and grade answers only")
    drawn.add_argument("--seed", type=int, metavar="N", help="seed of shots, samples and --limit (0)")
    means = parser.add_argument_group("by what")
    means.add_argument("--generator", choices=("transformers", "vllm"), help="what draws answers (transformers)")
    means.add_argument("--vllm", metavar="PATH", help="vllm executable to start a server with (the one on the PATH)")
    means.add_argument("--url", action="append", metavar="URL", help="vLLM server that has the model; repeatable")
    means.add_argument("--batch-size", type=int, metavar="N", help="answers at a time, without vLLM (32)")
    means.add_argument("--precision", choices=("auto", "float32", "bfloat16"), help="of arithmetic, without vLLM")
    means.add_argument("--revision", metavar="NAME", help="revision of a model from the hub")
    means.add_argument("--trust-remote-code", action="store_true", help="let its repository run its own code here")


def command(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate; returns the object that --json prints."""
    settings = settings_from_options(options)
    sets = named_sets(options.data, "--data", limit=options.limit, seed=settings.seed)
    directory = expanded(options.target)
    if options.out is None and not (directory / "run.json").is_file() and not (directory / "metrics.jsonl").is_file():
        raise InputError(f"{options.target} is no fine-tuning run, so say where results go: --out DIR")
    progress = Progress("auto")
    found = evaluate(
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
        _print(found, place)
    return {"directory": str(place), "evaluations": {name: each.summary for name, each in found.items()}}


def named_sets(given: list[str], option: str, *, limit: int | None = None, seed: int = 0) -> list[EvaluationSet]:
    """Evaluation sets as they are named on the command line; limit, seed: of those that name none themselves."""
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: give a number of rows of at least 1")
    sets = [parse_set(text, option) for text in given]
    return [each if each.limit is not None else each.model_copy(update={"limit": limit, "seed": seed}) for each in sets]


def settings_from_options(options: argparse.Namespace) -> Evaluation:
    """The settings that `add_settings_arguments` reads."""
    if options.vllm is not None and options.url is not None:
        raise InputError("--vllm starts a server and --url names one that runs; give one of them")
    given = {name: getattr(options, name) for name in _PARAMETERS}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if options.vllm is not None or options.url is not None:
        if options.generator == "transformers":
            raise InputError("--vllm and --url are for --generator vllm")
        fields["generator"] = "vllm"
    if options.url is not None:
        fields["url"] = tuple(options.url)
    if options.stop is not None:
        fields["stop"] = tuple(options.stop)
    if options.shots_from is not None:
        fields["shots_from"] = parse_set(options.shots_from, "--shots-from")
    fields["generate"], fields["nll"] = not options.no_generate, not options.no_nll
    fields["trust_remote_code"] = options.trust_remote_code
    found: Evaluation = construct(Evaluation, fields, "evaluation", permissions(options))
    return found


def _print(found: dict[str, EvaluationResult], place: Path) -> None:
    from rich.table import Table

    table = Table()
    table.add_column("set", overflow="fold")  # numbers and their names are never cut, on a narrow screen labels fold
    for name in ("rows", "accuracy", "undecided", "cut off", "nats/token", "by row"):
        table.add_column(name, justify="right", no_wrap=True)
    lines: list[str] = []
    for name, each in found.items():
        summary = each.summary
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
        lines.append(f"{name}: {rows - summary['graded']:,} rows have no final answer to grade by")
    if summary["nll"] is not None and summary["answer_only"]:
        lines.append(f"{name}: {summary['answer_only']:,} rows have no worked solution; their final answer was scored")
    if summary["truncated"]:
        lines.append(
            f"{name}: {summary['truncated']:,} rows were longer than the most tokens scored; "
            f"{summary.get('completions_cut') or 0:,} reference completions lost their end"
        )
    return [visible(line) for line in lines]
