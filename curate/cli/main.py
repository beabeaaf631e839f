"""Entry point of the `curate` command."""

from __future__ import annotations

import argparse
import errno
import io
import json
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from importlib import import_module
from typing import Any, NoReturn

from curate.cli.options import check_empty, check_places, check_spelling, check_text
from curate.console.formatting import visible
from curate.console.printing import tell
from curate.errors import MEMORY, CurateError, ExternalError, InputError, memory_ran_out
from curate.storage.records import own_version

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, as an InputError."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    Exit status: 0 success; 1 internal error; 2 bad arguments or input; 3 an external part failed, the same command
    resumes; 130 / 143 interrupted or terminated. With --json, stdout holds one object and nothing else.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    previous = signal.signal(signal.SIGTERM, _terminate)
    _terminated.clear()
    _open_streams()
    try:
        parser, commands = _parser(words)
        if not words:  # as click and typer do: the help, and the status of a command line that lacks something
            tell(parser.format_help().rstrip())
            return 2
        check_text(words)
        check_spelling(words, commands)
        check_empty(words)
        options = parser.parse_args(words)
        check_places(options)
        sandbox = options.sandbox(options) if "sandbox" in options else nullcontext()
        engine = options.open_engine(options) if "open_engine" in options else nullcontext()
        with _surroundings(as_json), sandbox, engine as options.workers_of:
            result = options.command(options)
        if as_json and result:  # under torchrun only rank 0 has a result
            print(json.dumps(result, allow_nan=False))
        sys.stdout.flush()
        return int(result.get("status", 0))
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    except (InputError, ExternalError) as error:
        return _failed(error, 2 if isinstance(error, InputError) else 3, as_json)
    except _Terminated:
        return _failed(InterruptedError(_TERMINATED), 143, as_json)
    except KeyboardInterrupt:
        return _failed(InterruptedError("interrupted; rerun the same command to resume"), 130, as_json)
    except BrokenPipeError:
        return 0
    except Exception as error:  # last resort: any other exception is an internal error
        if _terminated.is_set():
            return _failed(InterruptedError(_TERMINATED), 143, as_json)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:  # also of stdout, which may be redirected to a file
            full = ExternalError(
                f"the output cannot be written ({error.strerror}); make room and rerun the same command"
            )
            return _failed(full, 3, as_json)
        if os.environ.get("CURATE_DEBUG"):
            traceback.print_exc()
        kind = "" if isinstance(error, CurateError) else f"{type(error).__name__}: "
        message = f"{kind}{_one_line(error)} (this is a fault of curate; CURATE_DEBUG=1 shows where)"
        fault = RuntimeError(message)
        fault.__cause__ = error
        return _failed(fault, 1, as_json)
    finally:
        _drop_unwritten()
        signal.signal(signal.SIGTERM, previous)


class _Terminated(BaseException):
    """SIGTERM arrived."""


# Set by the signal: what its handler raises may arrive as another exception, such as pydantic's at building classes.
_terminated = threading.Event()
_TERMINATED = "terminated; rerun the same command to resume"


def _terminate(_signal: int, _frame: Any) -> NoReturn:
    _terminated.set()
    raise _Terminated


def _failed(error: BaseException, status: int, as_json: bool) -> int:
    if memory_ran_out(error):
        error, status = ExternalError(MEMORY), 3
    text = _one_line(error)
    if as_json:
        with suppress(OSError):
            print(json.dumps({"error": text, "status": status}))
    tell(f"curate: {text}")
    return status


class _Nowhere(io.TextIOBase):
    """Stands in for a stdout or stderr that the process was started without."""

    def write(self, text: str) -> int:
        return len(text)


def _open_streams() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _Nowhere())


def _drop_unwritten() -> None:
    """Drop output that a full disk or a closed pipe did not take, or the interpreter would fail on it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _one_line(error: BaseException) -> str:
    """The error message; a very long one is cut in the middle, since the remedy is at the end."""
    text = " ".join(str(error).split())
    text = visible(text, len(text))  # it may quote the data, which may hold terminal escapes
    return text if len(text) <= 480 else f"{text[:277]} … {text[-200:]}"


class _VisibleRecord(logging.LogRecord):
    """A log record of any logger, with terminal control characters escaped.

    A library's message may quote a model's files. The record is the one place that all handlers read, including those
    created before this command started or by libraries imported later.
    """

    def getMessage(self) -> str:
        text = super().getMessage()
        return visible(text, len(text))

    @property
    def exc_text(self) -> str | None:
        """The traceback; logging caches it here when the first formatter makes it."""
        return self.__dict__.get("exc_text")

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self.__dict__["exc_text"] = None if text is None else visible(text, len(text))


@contextmanager
def _surroundings(as_json: bool) -> Iterator[None]:
    """Print warnings and log messages as harmless text on stderr; with --json, only our object goes to stdout."""
    # Retries and hints of these two would mix with our lines; a final failure is reported as an error of ours.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a character must not stop us
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


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    tell(f"curate: warning: {_one_line(message)}")


# -- the commands -------------------------------------------------------------------------------------------------


_COMMANDS = {
    "demo": "curate generated math problems of known difficulty and show the result; needs no data",
    "run": "curate a dataset: score, split, rebuild, write the result to a folder",
    "plan": "estimate rows, tokens, disk and cached work of a run; runs nothing",
    "score": "measure difficulty only, as one Parquet file for --scores",
    "synthesize": "synthesize new problems from the solutions of hard rows, and nothing else",
    "review": "review new problems beside their parents: accept, reject, edit, undo",
    "gate": "find near-duplicates between datasets, and rows shared with evaluation sets",
    "finetune": "fine-tune a model on a dataset; one folder per run, resumable",
    "weigh": "add the weights that fine-tuning runs learned as a column of the data",
    "evaluate": "grade the answers of a run or model, and score reference answers",
    "compare": "compare the arms of several fine-tuning runs, with confidence intervals",
    "expo": "extrapolate from a base model past the model tuned from it; sweep how far",
    "validate": "fine-tune on the original data, the curated data and controls; compare",
    "list": "list recipes, components and file formats, one line each",
    "init": "write a commented recipe for a dataset, and the commands that use it",
    "inspect": "show a finished run in the terminal",
    "diff": "show two finished runs side by side: rows, mixture, recipe",
    "view": "browse all rows of a finished run in a web browser (served on this machine only)",
    "forecast": "predict whether copies help: train the proxy over a planned budget, measure held-out rows",
    "report": "rewrite report.html of a finished run",
    "push": "upload a finished run to a dataset repository on the Hugging Face hub",
    "doctor": "check this machine: packages, devices, cache, disk, a tiny run",
}
_ALIASES = {"weigh": ("weight",)}


def _parser(words: Sequence[str]) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and a parser per command by name; only the command given is imported and gets its arguments."""
    parser = _Parser(
        prog="curate",
        allow_abbrev=False,
        description="Find the examples a model learns late and rebuild a fine-tuning dataset around them.",
        epilog="Start with: curate demo, then curate run DATA --out DIR --proxy scratch     (no download needed)",
    )
    parser.add_argument("--version", action="version", version=f"curate {own_version()}")
    subparsers = parser.add_subparsers(dest="name", metavar="COMMAND", parser_class=_Parser, required=True)
    for name, text in _COMMANDS.items():
        description, aliases = text[0].upper() + text[1:] + ".", _ALIASES.get(name, ())
        typed = words[0] if words and words[0] in aliases else name
        options: dict[str, Any] = {"help": text, "description": description, "prog": f"{parser.prog} {typed}"}
        sub = subparsers.add_parser(name, aliases=aliases, allow_abbrev=False, **options)
        sub.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
        if words and words[0] in (name, *aliases):
            module = import_module(f"curate.cli.{name}")
            module.add_arguments(sub)
            sub.set_defaults(command=module.command)
    return parser, dict(subparsers.choices)
