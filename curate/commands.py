"""What each command does, given its parsed arguments; returns the object that --json prints."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.arguments import permissions
from curate.errors import InputError
from curate.records import read_record

if TYPE_CHECKING:
    from curate.pipeline import Pipeline
    from curate.progress import Progress
    from curate.readers import Loaded
    from curate.run import Run
    from curate.scores import Scores

__all__ = ["doctor", "inspect", "loaded_from", "new_progress", "pipeline_from", "plan", "report", "run", "score"]
__all__ += ["scores_from"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """`curate run`: read, check the folder, curate, write."""
    from curate.output import inputs_fingerprint, write_output
    from curate.result_folder import check_directory

    pipeline, progress = pipeline_from(options), new_progress()
    _check_shape(options.out)
    loaded = loaded_from(options, pipeline, progress)
    scores = scores_from(options, pipeline, loaded, progress)
    if check_directory(options.out, inputs_fingerprint(pipeline, loaded, scores), fresh=options.fresh):
        progress.note(f"{options.out} already holds the result of these inputs; nothing to do (--fresh writes it anew)")
        return _summary(options.out, done_before=True)
    curated = pipeline.stages(loaded, _run(options, pipeline, progress), scores)
    if not _is_first_rank():
        return {}
    write_output(curated, options.out)
    result = _summary(options.out)
    if not options.json:
        _print_summary(result)
    return result


def _check_shape(out: Path) -> None:
    """Refuse a folder that can never serve before any time is spent; a finished run's is looked at later."""
    from curate.result_folder import check_directory

    if not (out / "run.json").exists():
        check_directory(out, "")


def score(options: argparse.Namespace) -> dict[str, Any]:
    """`curate score`: difficulty per example id."""
    from curate.score_files import check_scores_file, write_scores
    from curate.terminal import say

    if options.scores:
        raise InputError("curate score measures; --scores is for curate run and curate plan")
    check_scores_file(options.out)
    pipeline, progress = pipeline_from(options), new_progress()
    loaded = loaded_from(options, pipeline, progress)
    surroundings = _run(options, pipeline, progress)
    surroundings.evaluation_index()  # refused here already: the command that comes next would do so
    pipeline.usable(loaded, surroundings)  # rows left out have a place in the file, which says that they have no score
    scores = pipeline.score(loaded, surroundings)
    if not _is_first_rank():
        return {}
    write_scores(scores, loaded.examples.ids, options.out)
    valid = int(scores.valid.sum())
    if not options.json:
        say(f"{len(scores):,} rows scored ({valid:,} valid) -> {options.out}", f"next: {_next_command(options)}")
    return {"scores": str(options.out), "rows": len(scores), "valid": valid}


def _next_command(options: argparse.Namespace) -> str:
    """The `curate run` that reads the same rows and takes these scores."""
    words = ["curate", "run", options.data]
    for name in ("recipe", "proxy", "where", "columns", "shape", "split", "config", "limit", "seed", "on_bad_row"):
        value = getattr(options, name)
        if value is not None and (name, value) not in (("recipe", "quick"), ("on_bad_row", "error")):
            words.append(f"--{name.replace('_', '-')}={value}")
    words += [f"--evaluation={each}" for each in options.evaluation or ()]
    words += [f"--set={setting}" for setting in options.set]
    words += [f"--allow-plugin={package}" for package in options.allow_plugin]
    words += [f"--send-key={variable}" for variable in options.send_key]
    return shlex.join([*words, "--scores", str(options.out), "--out", "DIR"])


def plan(options: argparse.Namespace) -> dict[str, Any]:
    """`curate plan`: what a run would cost and what is there already."""
    from curate.estimate import estimate

    pipeline, progress = pipeline_from(options), new_progress()
    loaded = loaded_from(options, pipeline, progress)
    scores = scores_from(options, pipeline, loaded, progress)
    result = estimate(pipeline, loaded, _run(options, pipeline, progress), scores=scores, out=options.out)
    if not options.json:
        _print_plan(result)
    return result


def inspect(options: argparse.Namespace) -> dict[str, Any]:
    """`curate inspect`: a finished run in the terminal."""
    from curate.inspection import inspection, print_inspection

    result = inspection(options.directory, options.examples)
    if not options.json:
        print_inspection(result)
    return result


def report(options: argparse.Namespace) -> dict[str, Any]:
    """`curate report`: write report.html anew."""
    from curate.report import write_report
    from curate.terminal import say

    finished(options.directory)
    path = write_report(options.directory)
    if not options.json:
        say(str(path))
    return {"report": str(path)}


def doctor(options: argparse.Namespace) -> dict[str, Any]:
    """`curate doctor`: what works on this machine."""
    from curate.doctor import examine, print_findings

    findings = examine(options.cache)
    if not options.json:
        print_findings(findings)
    bad = [finding["name"] for finding in findings if finding["status"] == "bad"]
    if bad:
        print(f"curate: not usable as it is: {', '.join(bad)}; each finding names its remedy", file=sys.stderr)
    return {"findings": findings, "ok": not bad, "status": 3 if bad else 0}


# -- shared steps ---------------------------------------------------------------------------------------------------


def finished(directory: Path) -> dict[str, Any]:
    """run.json of a finished run."""
    path = directory / "run.json"
    if not path.is_file():
        raise InputError(f"{directory} holds no finished run (no run.json); run `curate run DATA --out {directory}`")
    record = read_record(path, "remove the folder and rerun the command that wrote it, or name another")
    if "inputs" not in record or "kind" in record:
        raise InputError(f"{path} is not that of a run; name the folder that `curate run DATA --out DIR` wrote")
    return record


def pipeline_from(options: argparse.Namespace) -> Pipeline:
    """The recipe with what the options change in it."""
    from curate.gate.command import named_dataset
    from curate.pipeline import Pipeline
    from curate.recipe import load_recipe
    from curate.synthesis.command import recipe_settings

    settings = list(options.set)
    if options.proxy is not None:
        settings.insert(0, f"proxy.model={json.dumps(options.proxy)}")
    if options.seed is not None:
        settings.append(f"seed={options.seed}")
    if options.stability is not None:
        settings.append(f"stability={options.stability}")
    if options.trust_remote_code:
        settings.append("proxy.trust_remote_code=true")
    if options.evaluation:
        named = [named_dataset(each, "--evaluation") for each in options.evaluation]
        settings.append(f"gate.evaluation={json.dumps(named)}")
    settings += recipe_settings(options, load_recipe(options.recipe))
    return Pipeline.from_recipe(options.recipe, settings=settings, allow_plugins=permissions(options))


def loaded_from(options: argparse.Namespace, pipeline: Pipeline, progress: Progress) -> Loaded:
    """The rows of DATA, with notes on what was found."""
    from curate.readers import read

    with progress.stage("read"):
        loaded = read(
            options.data,
            columns=options.columns,
            shape=options.shape,
            where=options.where,
            limit=options.limit,
            seed=pipeline.seed,
            on_bad_row=options.on_bad_row,
            split=options.split,
            config=options.config,
        )
    notes = [f"{len(loaded.examples):,} of {loaded.rows_read:,} rows of {loaded.description}"]
    notes += [f"  {note}" for note in loaded.notes]
    if loaded.rejected:
        notes.append(f"  {len(loaded.rejected):,} unusable rows left out; see tables/rejected.parquet")
    for note in notes:
        progress.note(note)
    return loaded


def scores_from(options: argparse.Namespace, pipeline: Pipeline, loaded: Loaded, progress: Progress) -> Scores | None:
    """Scores given by file, in the order of the rows."""
    from curate.score_files import read_scores
    from curate.split import join_scores

    if options.scores is None:
        return None
    if pipeline.stability > 1:
        progress.note(f"stability {pipeline.stability} has no effect with --scores: no proxy is run")
    return join_scores(read_scores(options.scores), loaded.examples.ids)


def _run(options: argparse.Namespace, pipeline: Pipeline, progress: Progress) -> Run:
    from curate.run import Run

    return Run(pipeline.proxy, options.cache, options.device, pipeline.seed, progress, gate=pipeline.gate)


def new_progress() -> Progress:
    from curate.progress import Progress

    return Progress("auto" if _is_first_rank() else "none")


def _is_first_rank() -> bool:
    import os

    return os.environ.get("RANK", "0") == "0"


def _summary(directory: Path, *, done_before: bool = False) -> dict[str, Any]:
    record = finished(directory)
    return {
        "directory": str(directory),
        "data": str(directory / "data"),
        "report": str(directory / "report.html"),
        "counts": record["counts"],
        "warnings": record["warnings"],
        "synthesis": record.get("synthesis", []),
        "seconds": record["cost"]["seconds"],
        "done_before": done_before,
    }


def _print_summary(result: dict[str, Any]) -> None:
    from curate.synthesis.command import summary
    from curate.terminal import say, show

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
    say(
        f"dataset  {result['data']}   (datasets.load_dataset({result['directory']!r}))",
        f"report   {result['report']}",
    )


def _print_plan(result: dict[str, Any]) -> None:
    from rich.table import Table

    from curate.terminal import show

    table = Table(title="What this run would do", title_justify="left")
    for name in ("stage", "work", "tokens", "time", "disk", "in the cache"):
        table.add_column(name, justify="left" if name in ("stage", "work") else "right")
    for stage in result["stages"]:
        table.add_row(
            stage["stage"],
            stage["work"],
            f"{stage['tokens']:,}" if stage["tokens"] else "",
            _duration(stage["seconds"]),
            _size(stage["bytes"]),
            stage["cached"],
        )
    show(table, *result["notes"])


def _duration(seconds: float | None) -> str:
    if not seconds:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(count: int | None) -> str:
    if not count:
        return ""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"
