"""The `curate` command.

Exit status: 0 done; 1 our own fault; 2 bad arguments or input; 3 an external part failed, the same command
resumes; 130 / 143 interrupted or terminated. With --json one object on stdout and nothing else there.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from typing import Any, NoReturn

from curate.cli import run as commands
from curate.cli.compare import add_arguments as add_comparison_arguments
from curate.cli.compare import compare_command
from curate.cli.evaluate import add_arguments as add_evaluation_arguments
from curate.cli.evaluate import evaluate_command
from curate.cli.expo import add_arguments as add_expo_arguments
from curate.cli.expo import expo
from curate.cli.finetune import add_arguments as add_finetune_arguments
from curate.cli.finetune import finetune_command
from curate.cli.gate import add_arguments as add_gate_arguments
from curate.cli.gate import gate
from curate.cli.options import (
    add_consent_arguments,
    add_machine_arguments,
    add_reading_arguments,
    check_places,
    check_spelling,
    check_text,
)
from curate.cli.synthesize import add_arguments
from curate.cli.synthesize import add_arguments as add_synthesis_arguments
from curate.cli.validate import EVALUATION_HELP, validate_command
from curate.cli.validate import add_arguments as add_validation_arguments
from curate.cli.weigh import add_arguments as add_weighing_arguments
from curate.cli.weigh import weigh_command
from curate.console.formatting import visible
from curate.errors import MEMORY, CurateError, ExternalError, InputError, memory_ran_out
from curate.storage.places import local_path
from curate.storage.versions import own_version
from curate.verify import weak_sandbox

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, as an InputError."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        parser, commands = _parser()
        check_text(given)
        check_spelling(given, commands)
        options = parser.parse_args(given)
        check_places(options)
        with _surroundings(as_json), _sandbox(options):
            result = options.command(options)
        if as_json and result:  # under torchrun only the first process has something to say
            print(json.dumps(result, allow_nan=False))
        sys.stdout.flush()
        return int(result.get("status", 0))
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    except (InputError, ExternalError) as error:
        return _failed(error, 2 if isinstance(error, InputError) else 3, as_json)
    except _Terminated:
        return _failed(InterruptedError("terminated; the same command goes on from here"), 143, as_json)
    except KeyboardInterrupt:
        return _failed(InterruptedError("interrupted; the same command goes on from here"), 130, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last line of defence: whatever is left is our own fault
        if os.environ.get("CURATE_DEBUG"):
            traceback.print_exc()
        kind = "" if isinstance(error, CurateError) else f"{type(error).__name__}: "
        message = f"{kind}{_one_line(error)} (this is a fault of curate; CURATE_DEBUG=1 shows where)"
        fault = RuntimeError(message)
        fault.__cause__ = error
        return _failed(fault, 1, as_json)
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Terminated(BaseException):
    """SIGTERM arrived."""


def _terminate(_signal: int, _frame: Any) -> NoReturn:
    raise _Terminated


def _failed(error: BaseException, status: int, as_json: bool) -> int:
    if memory_ran_out(error):
        error, status = ExternalError(MEMORY), 3
    text = _one_line(error)
    if as_json:
        print(json.dumps({"error": text, "status": status}))
    print(f"curate: {text}", file=sys.stderr, flush=True)
    return status


def _one_line(error: BaseException) -> str:
    """Its message; of one that quotes more than a person reads, the beginning and the end, where the remedy is."""
    text = " ".join(str(error).split())
    text = visible(text, len(text))  # it may quote the data, and the data may hold terminal escapes
    return text if len(text) <= 480 else f"{text[:277]} … {text[-200:]}"


class _VisibleRecord(logging.LogRecord):
    """A message of any logger, with the characters that act on a terminal spelled out.

    A library's message may quote a model's files. The record is the one place that all of its handlers read, those
    too that were made before we began or are made by what we import later.
    """

    def getMessage(self) -> str:
        text = super().getMessage()
        return visible(text, len(text))

    @property
    def exc_text(self) -> str | None:
        """The traceback, which the first formatter leaves here and prints from here."""
        return self.__dict__.get("exc_text")

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self.__dict__["exc_text"] = None if text is None else visible(text, len(text))


@contextmanager
def _surroundings(as_json: bool) -> Iterator[None]:
    """Warnings and log messages as harmless text on stderr, and with --json nothing but our object on stdout."""
    # Retries and advice of these two would stand between our lines; what fails in the end is an error of ours.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a character is no reason to stop
    records = logging.getLogRecordFactory()
    logging.setLogRecordFactory(_VisibleRecord)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr if as_json else sys.stdout):
            warnings.resetwarnings()
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = _show_warning
            yield
    finally:
        logging.setLogRecordFactory(records)


def _sandbox(options: argparse.Namespace) -> AbstractContextManager[None]:
    """How well programs must be locked in that a command runs."""
    if not getattr(options, "weak_sandbox", False):
        return nullcontext()
    if not options.run_programs:
        raise InputError("--weak-sandbox is about programs, and none is run; add --run-programs, or leave it out")

    return weak_sandbox()


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    print(f"curate: warning: {_one_line(message)}", file=sys.stderr, flush=True)


# -- the commands -------------------------------------------------------------------------------------------------


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and that of each command by name."""
    parser = _Parser(
        prog="curate",
        allow_abbrev=False,
        description="Find the examples a model learns late and rebuild a fine-tuning dataset around them.",
        epilog="Start with: curate run DATA --out DIR --proxy scratch     (no download needed)",
    )
    parser.add_argument("--version", action="version", version=f"curate {own_version()}")
    subparsers = parser.add_subparsers(dest="name", metavar="COMMAND", parser_class=_Parser, required=True)

    def add(name: str, command: Callable[[argparse.Namespace], Any], text: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        sub.set_defaults(command=command)
        sub.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
        return sub

    run = add("run", commands.run, "curate a dataset: score, split, rebuild, write the result to a folder")
    _result_arguments(run, "quick")
    plan = add("plan", commands.plan, "show rows, tokens, disk and what the cache holds for a run; runs nothing")
    _data_arguments(plan)
    add_synthesis_arguments(plan)
    plan.add_argument(
        "--out", type=local_path, metavar="DIR", help="as for run; shows whether the result is there already"
    )
    score = add("score", commands.score, "measure difficulty only, as one Parquet file for --scores")
    _data_arguments(score)
    score.add_argument("--out", required=True, type=local_path, metavar="FILE", help="Parquet file for the scores")
    score.add_argument(
        "--run-programs", action="store_true", default=None, help="take a recipe that runs programs; none is run here"
    )
    synthesize = add("synthesize", commands.run, "write new problems from the solutions of hard rows, and nothing else")
    _result_arguments(synthesize, "synthesize")
    gate_command = add("gate", gate, "find near-duplicates of a dataset in another, and rows that evaluation sets have")
    add_gate_arguments(gate_command)
    _model_commands(add)
    inspect = add("inspect", commands.inspect, "show a finished run in the terminal")
    inspect.add_argument("directory", type=local_path, metavar="DIR")
    inspect.add_argument(
        "--examples",
        type=int,
        default=3,
        metavar="N",
        help="easiest and hardest rows to show, of each (3)",
    )
    report = add("report", commands.report, "write report.html of a finished run anew")
    report.add_argument("directory", type=local_path, metavar="DIR")
    doctor = add("doctor", commands.doctor, "check this machine: packages, devices, cache, disk, a tiny run")
    doctor.add_argument("--cache", type=local_path, metavar="DIR", help="cache folder to check")
    return parser, dict(subparsers.choices)


def _model_commands(add: Callable[[str, Callable[[argparse.Namespace], Any], str], argparse.ArgumentParser]) -> None:
    """Those about models rather than data."""
    finetune = add("finetune", finetune_command, "fine-tune a model on a dataset; one folder per run, resumable")
    add_finetune_arguments(finetune)
    weigh = add("weigh", weigh_command, "write the weights that fine-tuning runs gave as a column of the data")
    add_weighing_arguments(weigh)
    evaluate = add("evaluate", evaluate_command, "grade the answers of a run or model, and score reference answers")
    add_evaluation_arguments(evaluate)
    compare = add("compare", compare_command, "tell which arm of several fine-tuning runs is better, and how surely")
    add_comparison_arguments(compare)
    expo_command = add("expo", expo, "extrapolate from a base model past the model tuned from it; sweep how far")
    add_expo_arguments(expo_command)
    validate = add("validate", validate_command, "fine-tune on the data as it is, curated, and on controls; compare")
    _data_arguments(validate, evaluation=EVALUATION_HELP)
    add_synthesis_arguments(validate)
    add_validation_arguments(validate)


def _result_arguments(parser: argparse.ArgumentParser, recipe: str) -> None:
    """What the two commands take that write a dataset."""
    _data_arguments(parser, recipe)
    add_arguments(parser)
    parser.add_argument("--out", required=True, type=local_path, metavar="DIR", help="folder for the result")
    parser.add_argument("--fresh", action="store_true", help="replace a result of other inputs in DIR")


def _data_arguments(
    parser: argparse.ArgumentParser,
    default: str = "quick",
    evaluation: str = "evaluation set that no new row may share text with; repeat for several",
) -> None:
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
    recipe.add_argument("--seed", type=int, metavar="N", help="seed of everything random (the recipe's, else 0)")
    recipe.add_argument("--stability", type=int, metavar="N", help="repeat the split over N proxy seeds")
    add_consent_arguments(recipe)
    add_reading_arguments(parser)
    add_machine_arguments(parser)


if __name__ == "__main__":
    sys.exit(main())
