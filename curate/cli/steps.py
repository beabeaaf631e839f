"""Steps that several commands share: the recipe, rows and scores that their options name."""

from __future__ import annotations

import argparse
import json

from curate.cli.fields import add_field_options
from curate.cli.generator_options import recipe_settings
from curate.cli.options import add_consent_arguments, add_machine_arguments, add_reading_arguments, permissions, reading
from curate.console.progress import Progress
from curate.data.readers import Loaded, read
from curate.dataset_reference import named_dataset
from curate.difficulty.score_files import read_scores
from curate.difficulty.scores import Scores
from curate.difficulty.split import join_scores
from curate.pipeline import Pipeline
from curate.recipe import load_recipe
from curate.run import Run
from curate.storage.places import local_path


def add_data_arguments(
    parser: argparse.ArgumentParser,
    default: str = "quick",
    evaluation: str = "evaluation set that no new row may share text with; repeat for several",
) -> None:
    """What the commands take that curate DATA. default: recipe. evaluation: help of --evaluation."""
    parser.add_argument(
        "data", metavar="DATA", help="Parquet, JSONL, CSV or Arrow file, a folder of them, or a Hugging Face dataset id"
    )
    recipe = parser.add_argument_group("what to do")
    recipe.add_argument(
        "--recipe", default=default, metavar="NAME|FILE", help=f"shipped recipe or YAML file ({default})"
    )
    recipe.add_argument(
        "--proxy", metavar="MODEL", help="model to train briefly: hub id, folder, GGUF file, or scratch"
    )
    recipe.add_argument(
        "--scores", type=local_path, metavar="FILE", help="difficulty measured earlier; no proxy is run"
    )
    recipe.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change the recipe, e.g. proxy.steps=500 or copies=weights",
    )
    recipe.add_argument(
        "--evaluation",
        action="append",
        metavar="DATA",
        help=evaluation,
    )
    add_field_options(recipe, Pipeline, ("seed", "stability"))
    add_consent_arguments(recipe)
    add_reading_arguments(parser)
    add_machine_arguments(parser)


def pipeline_from(options: argparse.Namespace) -> Pipeline:
    """The recipe with what the options change in it."""
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
    with progress.stage("read"):
        loaded = read(options.data, seed=pipeline.seed, **reading(options))
    notes = [f"{len(loaded.examples):,} of {loaded.rows_read:,} rows of {loaded.description}"]
    notes += [f"  {note}" for note in loaded.notes]
    if loaded.rejected:
        notes.append(f"  {len(loaded.rejected):,} unusable rows left out; see tables/rejected.parquet")
    for note in notes:
        progress.note(note)
    return loaded


def scores_from(options: argparse.Namespace, pipeline: Pipeline, loaded: Loaded, progress: Progress) -> Scores | None:
    """Scores given by file, in the order of the rows."""
    if options.scores is None:
        return None
    if pipeline.stability > 1:
        progress.note(f"stability {pipeline.stability} has no effect with --scores: no proxy is run")
    return join_scores(read_scores(options.scores), loaded.examples.ids)


def run_from(options: argparse.Namespace, pipeline: Pipeline, progress: Progress) -> Run:
    return Run(pipeline.proxy, options.cache, options.device, pipeline.seed, progress, gate=pipeline.gate)


def new_progress() -> Progress:
    return Progress("auto" if is_first_rank() else "none")


def is_first_rank() -> bool:
    import os

    return os.environ.get("RANK", "0") == "0"
