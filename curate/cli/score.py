"""`curate score`: write the difficulty of each example to a file for --scores."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from curate.cli.growing import grown, pipeline_of, read_grown
from curate.cli.steps import add_data_arguments, is_first_rank, loaded_from, new_progress, pipeline_from, run_from
from curate.console.printing import say
from curate.data.named_rows import NAMED
from curate.dataset_reference import READING, FileOptions
from curate.difficulty.score_files import check_scores_file, write_scores
from curate.errors import InputError
from curate.storage.destination import result_place
from curate.storage.places import is_url, local_path, without_secrets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate score`."""
    add_data_arguments(parser)
    parser.add_argument("--out", required=True, type=result_place, metavar="FILE", help="Parquet file for the scores")
    parser.add_argument(
        "--like",
        type=local_path,
        metavar="DIR",
        help="a finished run: rows that it scored keep their scores, new ones are measured on its checkpoints and "
        "assigned by its clusters",
    )
    parser.add_argument(
        "--run-programs",
        action="store_true",
        default=None,
        help="take a recipe that runs programs (a scorer's run here)",
    )


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate score`: write the difficulty of each example id."""
    if options.scores:
        raise InputError("curate score measures; --scores is for curate run and curate plan")
    check_scores_file(options.out)
    if options.like is not None:
        return _like(options)
    pipeline, progress = pipeline_from(options), new_progress()
    loaded = loaded_from(options, pipeline, progress)
    surroundings = run_from(options, pipeline, progress)
    surroundings.evaluation_index()  # fail here already, not in the next command
    pipeline.usable(loaded, surroundings)  # rows left out stay in the file, with no score
    scores = pipeline.score(loaded, surroundings)
    if not is_first_rank():
        return {}
    write_scores(scores, loaded.examples.ids, options.out)
    valid = int(scores.valid.sum())
    if not options.json:
        say(f"{len(scores):,} rows scored ({valid:,} valid) -> {options.out}", f"next: {_next_command(options)}")
    return {"scores": str(options.out), "rows": len(scores), "valid": valid}


def _like(options: argparse.Namespace) -> dict[str, Any]:
    pipeline, progress = pipeline_of(options.like, options, "--like"), new_progress()
    loaded = read_grown(options.like, [options.data], pipeline, options, progress)
    result = grown(options.like, loaded, pipeline, options, progress)
    if not is_first_rank():
        return {}
    write_scores(result.scores, loaded.examples.ids, options.out, result.assigned)
    if not options.json:
        say(f"{len(result.scores):,} rows ({int((~result.known).sum()):,} new) -> {options.out}")
    scored = {"scores": str(options.out), "rows": len(result.scores), "valid": int(result.scores.valid.sum())}
    return scored | result.record()


def _next_command(options: argparse.Namespace) -> str:
    """The `curate run` command that reads the same rows and uses these scores."""
    words = ["curate", "run", without_secrets(options.data) if is_url(options.data) else options.data]
    for name in ("recipe", "proxy", "seed", *READING, *FileOptions.model_fields, *NAMED):
        value = getattr(options, name)
        if value is not None and (name, value) != ("recipe", "quick"):
            words.append(f"--{name.replace('_', '-')}={value}")
    words += [f"--evaluation={evaluation}" for evaluation in options.evaluation or ()]
    words += [f"--set={setting}" for setting in options.set]
    words += [f"--allow-plugin={package}" for package in options.allow_plugin]
    words += [f"--send-key={variable}" for variable in options.send_key]
    return shlex.join([*words, "--scores", str(options.out), "--out", "DIR"])
