"""`curate finetune`: fine-tune a model on a dataset, in one resumable folder per run."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from curate.cli.fields import add_field_options, add_reading_arguments, field_values, offered, options_of, reading
from curate.cli.options import add_machine_arguments, add_repeatable, permissions
from curate.console.formatting import count, decimal, duration, share, visible
from curate.console.printing import show
from curate.console.progress import Progress
from curate.errors import InputError
from curate.finetuning.config import BUDGETS, Finetuning, finetuning_from
from curate.finetuning.finetune import finetune
from curate.finetuning.lora import LoRA
from curate.recipe import apply_settings, parse_recipe
from curate.storage.places import local_path
from curate.training.trackers import TRACKERS, tracker_names

# Options of every command that fine-tunes; those of this one about the run, and about its training.
_TUNING = ("model", "revision", "batch_size", "learning_rate", "precision", "max_length")
_RUN = ("seed", "log_every", "save_every")
_TRAINING = options_of(Finetuning, without=(*_TUNING, *_RUN, "trust_remote_code"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate finetune`, but for --json, which every command has."""
    parser.add_argument(
        "data", metavar="DATA", help="a file, a folder (also one of `curate run`), or a Hugging Face dataset id"
    )
    _add_model_arguments(parser)
    parser.add_argument("--out", required=True, type=local_path, metavar="RUN", help="folder for the run")
    parser.add_argument("--fresh", action="store_true", help="replace what an earlier run left in RUN")
    about = parser.add_argument_group("about the run")
    about.add_argument("--arm", metavar="NAME", help="how the data was treated, for comparisons (the name of DATA)")
    about.add_argument("--budget", choices=BUDGETS, help="what the arms of a comparison have in common")
    about.add_argument("--log", metavar="NAME,...", help=f"metrics also to {', '.join(TRACKERS)}")
    add_field_options(about, Finetuning, _RUN)
    about.add_argument(
        "--time-limit", type=float, metavar="MINUTES", help="stop cleanly after that; the same command resumes"
    )
    add_reading_arguments(parser)
    add_machine_arguments(parser)


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the model and its training; other settings are set with --set."""
    training = parser.add_argument_group("what to train and how")
    add_tuning_arguments(
        training,
        "their own settings by --set: optimizer.rho=0.1, optimizer.base=muon, and for the hidden matrices of muon "
        "optimizer.learning_rate (2e-4; from scratch 0.02) and optimizer.weight_decay",
    )
    training.add_argument(
        "--lora-targets", metavar="NAME,...", help="modules to adapt, e.g. q_proj,v_proj (all linear layers)"
    )
    training.add_argument(
        "--reweighter",
        metavar="NAME|YAML",
        help=f"how much each row of a batch counts: {offered('curate.reweighters')}, their settings by "
        "--set reweighter.r=0.5; or all in one: '{use: DGA, target: target.parquet, domains: topic}'",
    )
    add_field_options(training, Finetuning, _TRAINING, {"steps": "LENGTH"})
    add_repeatable(training, "--set", "PATH=VALUE", "any setting, e.g. lora.alpha=32, horizon=900 or optimizer.rho=0.1")
    add_repeatable(training, "--allow-plugin", "PACKAGE", "package an optimizer or reweighter may come from")
    add_field_options(training, Finetuning, ("trust_remote_code",))


def add_tuning_arguments(group: argparse._ArgumentGroup, note: str) -> None:
    """Add the options shared by all commands that fine-tune, see `tuning_settings`. note: for --optimizer."""
    add_field_options(group, Finetuning, _TUNING, {"model": "MODEL", "revision": "NAME", "learning_rate": "RATE"})
    group.add_argument("--optimizer", metavar="NAME", help=f"{offered('curate.optimizers')} (adamw); {note}")
    group.add_argument("--lora", action="store_true", help="train low-rank adapters instead of all weights")
    add_field_options(group, LoRA, options_of(LoRA), prefix="lora_")


def tuning_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_tuning_arguments`, and --trust-remote-code, as plain settings for `finetuning_from`."""
    settings = field_values(options, (*_TUNING, "optimizer"))
    if "optimizer" in settings:
        settings["optimizer"] = {"use": settings["optimizer"]}  # so that a path such as optimizer.rho can be set
    adapter = field_values(options, options_of(LoRA), "lora_")
    if options.lora or adapter:
        settings["lora"] = {"use": "LoRA", **adapter}
    if options.trust_remote_code:
        settings["trust_remote_code"] = True
    return settings


def given_component(text: str, option: str) -> dict[str, Any]:
    """Parse an option that takes the name of a component, or a YAML mapping of `use` and its parameters."""
    if not text.lstrip().startswith("{"):
        return {"use": text}

    value = parse_recipe(text, option)
    if "use" not in value:
        raise InputError(f"{option} {text}: name the component, such as {{use: DynamicLoss, r: 0.5}}")
    return value


def given_settings(options: argparse.Namespace) -> Finetuning:
    """Settings from the options of `_add_model_arguments`, plus seed, save_every and log_every if the command has them.

    --set is applied last. Raises InputError that names the setting.
    """
    settings = tuning_settings(options) | field_values(options, (*_TRAINING, *_RUN))
    if options.reweighter is not None:
        settings["reweighter"] = given_component(options.reweighter, "--reweighter")
    if options.lora_targets is not None:
        names = [part.strip() for part in options.lora_targets.split(",") if part.strip()]
        targets = "all-linear" if names == ["all-linear"] else names
        settings["lora"] = {"use": "LoRA", **settings.get("lora", {}), "targets": targets}
    return finetuning_from(apply_settings(settings, options.set), permissions(options))


def command(options: argparse.Namespace) -> dict[str, Any]:
    """Train, or resume training; returns the object that --json prints."""
    import os

    if options.time_limit is not None and not options.time_limit > 0:
        raise InputError(f"--time-limit {options.time_limit:g}: give a number of minutes above 0")
    first = os.environ.get("RANK", "0") == "0"
    record = finetune(
        options.data,
        given_settings(options),
        options.out,
        arm=options.arm,
        budget=options.budget,
        cache=options.cache,
        device=options.device,
        progress=Progress("auto" if first else "none"),
        fresh=options.fresh,
        log=tracker_names(options.log),
        time_limit=None if options.time_limit is None else 60 * options.time_limit,
        **reading(options),
    )
    if not first:
        return {}
    if not options.json:
        _print(record, options.out)
    return {"directory": str(options.out), **record}


def _print(record: dict[str, Any], out: Path) -> None:
    training, model = record["training"], record["model"]
    part = "model" if (out / "model").is_dir() else "adapter"
    of_peak = f", {share(training['peak_share'])} of peak" if training["peak_share"] else ""
    show(
        f"\n{count(training['steps'])} steps, {training['epochs']:.2g} epochs of {count(record['data']['valid'])} "
        f"rows: loss {decimal(training['loss_first'])} -> {decimal(training['loss_last'])} nats per token",
        f"{count(model['trainable'])} of {count(model['parameters'])} parameters trained in "
        f"{duration(training['seconds'])}, {count(training['tokens_per_second'])} tokens/s{of_peak}",
        f"weights  {visible(str(out / part))}",
        *(f"metrics  {visible(str(out / name))}" for name in TRACKERS if (out / name).is_dir()),
        f"next     curate evaluate {visible(shlex.quote(str(out)))} --data DATA",
    )
