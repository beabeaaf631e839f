"""`curate synthesize`: write only new problems derived from the solutions of hard rows."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from curate.cli.inspect import print_checks
from curate.cli.run import add_result_arguments
from curate.cli.run import command as run_command
from curate.cli.steps import loaded_from, new_progress, pipeline_from, run_from, scores_from, summary
from curate.component import call_hook
from curate.console.formatting import count
from curate.console.printing import show
from curate.errors import InputError
from curate.mixture.plan import fold
from curate.report.check_rates import check_rates


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate synthesize`."""
    add_result_arguments(parser, "synthesize", required=False)
    parser.add_argument(
        "--preview",
        type=int,
        metavar="N",
        help="make the first N proposals only and show each beside its parent, with verdicts; writes no result, and "
        "what is generated is stored for the run that follows",
    )


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate synthesize`: run it, or preview its first proposals."""
    if options.preview is not None:
        if options.preview < 1:
            raise InputError(f"--preview {options.preview} shows nothing; give a number of proposals, such as 20")
        return preview(options)
    if options.out is None:
        raise InputError("the result needs a folder: add --out DIR, or look at some proposals first with --preview 20")
    return run_command(options)


def preview(options: argparse.Namespace) -> dict[str, Any]:
    """The first proposals of the recipe's first Synthesize: texts, verdicts and cost."""
    pipeline, progress = pipeline_from(options), new_progress()
    loaded = loaded_from(options, pipeline, progress)
    scores = scores_from(options, pipeline, loaded, progress)
    run = run_from(options, pipeline, progress)
    pipeline.check(loaded.examples, scored=scores is not None)
    loaded = loaded if scores is not None else pipeline.usable(loaded, run)
    for augmenter in pipeline.augmenters:
        call_hook(augmenter, "check_ready")
        call_hook(augmenter, "check_engine", run.engine)
    split = pipeline.split(pipeline.score(loaded, run) if scores is None else scores, loaded)
    plan = fold(pipeline.augmenters, split, pipeline.seed)
    demand = next((demand for demand in plan.demands if callable(getattr(demand.augmenter, "preview", None))), None)
    if demand is None:
        raise InputError("--preview is for recipes with Synthesize, such as --recipe synthesize; this one has none")
    preview_rows = demand.augmenter.preview(replace(plan, demands=(demand,)), loaded.examples, run, options.preview)
    proposals = preview_rows.attempts.to_pylist()
    result = {
        "synthesis": preview_rows.record,
        "proposals": [{name: proposal[name] for name in _SHOWN} for proposal in proposals],
        "warnings": [warning.message for warning in preview_rows.warnings if warning.code != "new_rows_not_measured"],
    }
    if not options.json:
        _print_preview(result)
    return result


_SHOWN = (
    *("source_id", "variant", "outcome", "detail", "parent_problem", "problem", "solution", "answer", "drawn", "right"),
    *("second_verdicts", "failed_checks", "difference"),
)


def _print_preview(result: dict[str, Any]) -> None:
    """Print the proposals beside their parents, and the outlook for the whole run."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Proposals beside their parents", title_justify="left", show_lines=True)
    for name, ratio in (("parent", 5), ("new problem", 5), ("verdict", 3)):
        table.add_column(name, ratio=ratio, overflow="fold")
    for proposal in result["proposals"]:
        parent = f"{proposal['parent_problem']}\n-> {proposal['answer']}"
        table.add_row(Text(parent), Text(proposal["problem"] or "(none)"), Text(_verdict(proposal)))
    show(table)
    record = result["synthesis"]
    print_checks(check_rates(record))
    for line in (*summary(record), *_outlook(record)):
        show(line)
    for warning in result["warnings"]:
        show(f"warning: {warning}")


def _verdict(proposal: dict[str, Any]) -> str:
    lines = [str(proposal["outcome"]), *([str(proposal["detail"])] if proposal["detail"] else [])]
    if proposal["drawn"]:
        lines.append(f"{proposal['right']} of {proposal['drawn']} right")
    if proposal["second_verdicts"]:
        right = proposal["second_verdicts"].count("right")
        lines.append(f"second route: {right} of {len(proposal['second_verdicts'])}")
    if proposal["difference"] is not None:
        lines.append(f"difference {proposal['difference']:.2f}")
    return "\n".join(lines)


def _outlook(record: dict[str, Any]) -> list[str]:
    """Extrapolate the cost of the whole run from the preview."""
    yielded, preview_proposals = record["yield"], dict(record["funnel"])["proposals asked for"]
    if not preview_proposals:
        return []
    tokens = sum(cost["generated"] for cost in yielded["cost"].values())
    proposals = record["rows"]["started from"] * record["variants_per_row"]
    whole_tokens = tokens * proposals // preview_proposals
    whole_kept = yielded["kept"] * proposals // preview_proposals
    return [
        f"the whole run is {count(proposals)} proposals: at this rate about {count(whole_tokens)} "
        f"tokens for {count(whole_kept)} problems"
    ]
