"""`curate run`: curate a dataset and write the result into a folder."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from typing import Any

from curate.cli.growing import Grown, grown, pipeline_of, read_grown
from curate.cli.steps import (
    add_data_arguments,
    add_generator_arguments,
    is_first_rank,
    loaded_from,
    new_progress,
    pipeline_from,
    run_from,
    scores_from,
    summary,
)
from curate.component import describe_in_json
from curate.console.printing import say, show
from curate.console.progress import Progress
from curate.curated import inputs_fingerprint
from curate.data.trainer_forms import check_form
from curate.data.written_form import FORMS
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.pipeline import Pipeline
from curate.proxy.proxy import AUTO, length_in_steps
from curate.storage.destination import Destination, result_place
from curate.storage.places import is_url, local_path
from curate.training.trackers import TRACKERS, tracker_names

# Optimizer steps of the proxy in a preview, and rows that new problems are made from.
_PREVIEW_STEPS = {"scratch": 60, "pretrained": 10}
_PREVIEW_PROBLEMS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate run`, but for --json, which every command has."""
    add_result_arguments(parser, "quick")
    parser.add_argument(
        "--preview",
        type=int,
        metavar="N",
        help="first run N rows, drawn at random, through a short version of everything, into DIR-preview (try 200)",
    )
    parser.add_argument(
        "--log", metavar="NAME,...", help=f"metrics of the proxy also to {', '.join(TRACKERS)}, into DIR-log"
    )


def add_result_arguments(parser: argparse.ArgumentParser, recipe: str, *, required: bool = True) -> None:
    """Add the options of commands that write a dataset. required: whether --out must be given."""
    add_data_arguments(parser, recipe)
    add_generator_arguments(parser)
    parser.add_argument(
        "--out", required=required, type=result_place, metavar="DIR", help="folder or URL for the result"
    )
    parser.add_argument(
        "--write-as",
        choices=FORMS,
        default="input",
        metavar="FORM",
        help=f"columns of the result: those of the input ({FORMS[0]}), or in their place those that trainers take: "
        f"{', '.join(FORMS[1:])}",
    )
    parser.add_argument("more", nargs="*", metavar="NEW", help="with --reuse: data added since")
    parser.add_argument(
        "--reuse",
        type=local_path,
        metavar="DIR",
        help="a finished run whose recipe, checkpoints and scores are reused; only rows without a score are measured",
    )
    parser.add_argument("--fresh", action="store_true", help="replace a result of other inputs in DIR")


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate run`: read, check the folder, curate, write."""
    progress, log = new_progress(), tracker_names(vars(options).get("log"))
    if options.reuse is None and options.more:
        raise InputError(f"{options.more[0]}: several datasets are for --reuse DIR; put the files in one folder")
    if options.reuse is not None and options.preview is not None:
        raise InputError("--preview trains a new proxy and --reuse takes a finished one; leave one of them out")
    pipeline = pipeline_from(options) if options.reuse is None else pipeline_of(options.reuse, options, "--reuse")
    if options.preview is not None:
        pipeline = previewed(pipeline, options)
        progress.note("a preview, with few rows and a short proxy: look at it, do not train on it")
    destination = Destination.of(options.out)
    _check_shape(destination)
    reuse, data = options.reuse, [options.data, *options.more]
    if reuse is None:
        loaded = loaded_from(options, pipeline, progress)
    else:
        loaded = read_grown(reuse, data, pipeline, options, progress)
    check_form(loaded.examples, options.write_as)
    loaded = replace(loaded, write_as=options.write_as)
    more = None if reuse is None else grown(reuse, loaded, pipeline, options, progress)
    scores = scores_from(options, pipeline, loaded, progress) if more is None else more.scores
    inputs = inputs_fingerprint(pipeline, loaded, scores)
    if destination.check(inputs, fresh=options.fresh):
        destination.tidy()
        progress.note(f"{destination} already holds the result of these inputs; nothing to do (--fresh rewrites it)")
        return _summary(destination, done_before=True)
    if not options.fresh and is_first_rank() and destination.resume(inputs):
        progress.note(f"the result of these inputs was written before; its upload to {destination} is finished now")
        return _summary(destination, done_before=True)
    run = run_from(options, pipeline, progress)
    with run.tracked(log if is_first_rank() else (), options.out, describe_in_json(pipeline)):
        curated = pipeline.stages(loaded, run, scores)
    if not is_first_rank():
        return {}
    curated.write(options.out)
    result = _summary(destination)
    if more is not None:
        result |= more.record() | _changed(more, curated.split, progress)
    if not options.json:
        _print_summary(result)
        if options.preview is not None:
            say("the real run is the same command without --preview")
    return result


def previewed(pipeline: Pipeline, options: argparse.Namespace) -> Pipeline:
    """The pipeline with a short proxy and few new problems; changes `options` to read few rows and write elsewhere.

    A proxy of several epochs keeps them, since its scorer may count epochs.
    """
    if options.preview < 10:
        raise InputError(f"--preview {options.preview} is too few rows to see anything; give at least 10, such as 200")
    options.limit = min(options.preview, options.limit or options.preview)
    out = options.out
    options.out = f"{out.rstrip('/')}-preview" if is_url(out) else out.with_name(f"{out.name}-preview")
    options.fresh = True
    proxy = pipeline.proxy
    steps = _PREVIEW_STEPS["scratch" if proxy.scratch else "pretrained"]
    if isinstance(proxy.steps, int) or proxy.steps == AUTO or length_in_steps(proxy.steps, 1.0) <= 1.0:
        steps = min(steps, proxy.steps) if isinstance(proxy.steps, int) else steps
        checkpoints = min(proxy.checkpoints, steps)
        proxy = proxy.model_copy(
            update={"steps": steps, "checkpoints": checkpoints, "min_steps": None, "spacing": "even"}
        )
    augmenters = tuple(
        augmenter.model_copy(update={"rows": min(augmenter.rows or _PREVIEW_PROBLEMS, _PREVIEW_PROBLEMS)})
        if "rows" in getattr(type(augmenter), "model_fields", {})
        else augmenter
        for augmenter in pipeline.augmenters
    )
    return pipeline.model_copy(update={"proxy": proxy, "augmenters": augmenters, "stability": 1})


def _changed(more: Grown, split: Split, progress: Progress) -> dict[str, Any]:
    hard, easy = more.changed_sides(split)
    progress.note(
        f"{hard + easy:,} of {int(more.known.sum()):,} rows changed sides: {hard:,} became hard, {easy:,} easy"
    )
    return {"changed_sides": hard + easy, "became_hard": hard, "became_easy": easy}


def _check_shape(out: Destination) -> None:
    """Reject a folder that can never be used before any time is spent; that of a finished run is checked later."""
    if out.place is not None:
        out.check("", fresh=True)
    elif not (out.folder / "run.json").exists():
        out.check("")


def _summary(directory: Destination, *, done_before: bool = False) -> dict[str, Any]:
    record = directory.record()
    return {
        "directory": str(directory),
        "data": f"{directory}/data",
        "report": f"{directory}/report.html",
        "counts": record["counts"],
        "warnings": record["warnings"],
        "synthesis": record.get("synthesis", []),
        "seconds": record["cost"]["seconds"],
        "done_before": done_before,
    }


def _print_summary(result: dict[str, Any]) -> None:
    counts = result["counts"]
    share = counts["hard"] / counts["valid"] if counts["valid"] else 0.0
    unscored = f"; {counts['invalid']:,} could not be scored" if counts["invalid"] else ""
    weighted = f" that count as {counts['output_weighted']:,} by `weight`" if "output_weighted" in counts else ""
    show(
        f"\n{counts['input']:,} rows in, {counts['output']:,} out{weighted}; {counts['hard']:,} hard "
        f"({share:.1%}){unscored}"
    )
    for synthesis in result["synthesis"]:
        for line in summary(synthesis):
            show(f"  {line}")
    for warning in result["warnings"]:
        show(f"  warning: {warning['message']} {warning['remedy']}")
    loads = "" if is_url(result["directory"]) else f"   (datasets.load_dataset({result['directory']!r}))"
    say(
        f"dataset  {result['data']}{loads}",
        f"report   {result['report']}",
        *([f"next     curate review {shlex.quote(result['directory'])}"] if _has_new_problems(result) else []),
    )


def _has_new_problems(result: dict[str, Any]) -> bool:
    """Whether there is something for `curate review`, which reads folders of this machine only."""
    return bool(result["counts"].get("synthetic")) and not is_url(result["directory"])
