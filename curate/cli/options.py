"""Command-line options shared by several commands."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Sequence
from typing import Any

from curate.errors import InputError, suggestion
from curate.storage.destination import check_result_place
from curate.storage.remote_cache import cache_place, check_cache_place


def add_repeatable(group: argparse._ActionsContainer, option: str, metavar: str, text: str, **settings: Any) -> None:
    """Add an option that may be given several times; its values form a list, empty by default. text: for --help."""
    group.add_argument(option, action="append", metavar=metavar, help=text, **{"default": [], **settings})


def add_consent_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that consent to what a recipe may load, run or send, see `permissions`."""
    add_repeatable(group, "--allow-plugin", "PACKAGE", "package a recipe may load code from")
    group.add_argument(
        "--trust-remote-code", action="store_true", help="let the proxy's repository run its own code here"
    )
    add_repeatable(
        group,
        "--send-key",
        "VARIABLE",
        "environment variable with an API key that servers named by the recipe may receive",
    )


def add_machine_arguments(parser: argparse.ArgumentParser, device: str = "") -> None:
    """Add --cache and --device. device: what the device is used for, if not for everything."""
    group = parser.add_argument_group("where")
    group.add_argument(
        "--cache", type=cache_place, metavar="DIR", help="cache folder or URL ($CURATE_CACHE, else the platform's)"
    )
    group.add_argument(
        "--device",
        default=os.environ.get("CURATE_DEVICE"),
        help=f"{device}cpu, cuda, cuda:1 ($CURATE_DEVICE, else a GPU if there is one)",
    )


def permissions(options: argparse.Namespace) -> tuple[str, ...]:
    """What the options allow a recipe to load, run or send, see `curate.component`: packages, and consents as typed."""
    values = vars(options)
    permitted = ["--" + name.replace("_", "-") for name in ("trust_remote_code", "run_programs") if values.get(name)]
    permitted += [f"--vllm {options.vllm}"] if values.get("vllm") else []
    permitted += [
        f"--{name.replace('_', '-')} {value}" for name in ("url", "send_key") for value in values.get(name) or ()
    ]
    return (*values.get("allow_plugin", ()), *permitted)


def check_places(options: argparse.Namespace) -> None:
    """Reject paths that can never be written, before a command reads or computes anything."""
    for name in ("out", "clean", "cache"):
        if str(getattr(options, name, None)).lower().startswith("memory://"):
            raise InputError(f"--{name}: what is written to memory:// is lost when the command ends; name a folder")
    for name in ("out", "clean"):
        if getattr(options, name, None) is not None:
            check_result_place(getattr(options, name))
    if "cache" in options and options.name != "doctor":  # doctor itself reports what is wrong with a cache
        check_cache_place(options.cache)


def check_text(words: Sequence[str]) -> None:
    """Reject arguments that are not valid text: Arrow cannot open such a path, and no record could name it."""
    for number, word in enumerate(words):
        try:
            word.encode()
        except UnicodeEncodeError as error:
            option = next((word for word in reversed(words[: number + 1]) if word.startswith("--")), "an argument")
            raise InputError(
                f"{option.partition('=')[0]}: {word[:100]!r} is not valid UTF-8; rename the file, or write it in UTF-8"
            ) from error


def check_empty(words: Sequence[str]) -> None:
    """Reject arguments without text, as an unset variable of a shell leaves them; a delimiter may be a space."""
    for number, word in enumerate(words):
        option, equals, value = (
            word.partition("=") if word.startswith("--") else (words[number - 1] if number else "", "", word)
        )
        if word == "--" or (word.startswith("--") and not equals):
            continue
        if not value.strip(" ,\t\n") and not (value and option == "--delimiter"):
            position = f"the argument after {option}" if option else "the first argument"
            name = option if option.startswith("--") else position
            raise InputError(f"{name}: the text is empty; write it, or leave it out")


def check_spelling(words: Sequence[str], commands: dict[str, argparse.ArgumentParser]) -> None:
    """Reject a mistyped command or option by name, and suggest the nearest one.

    argparse would complain first about missing arguments, and cannot suggest names.
    """
    name = words[0] if words else "--help"
    if name.startswith("-") and name not in ("-h", "--help", "--version"):
        raise InputError(f"there is no option {name} before the command; write `curate COMMAND ... {name}`")
    if name.startswith("-"):
        return
    if name not in commands:
        hint = suggestion(name, commands, f"commands are {', '.join(commands)}")
        raise InputError(f"there is no command {name!r}; {hint}")
    option_names = [option for action in commands[name]._actions for option in action.option_strings]
    for word in words[1:]:
        option = word.partition("=")[0]
        if word == "--":
            return
        if option.startswith("--") and option not in option_names:
            near = difflib.get_close_matches(option, option_names, 1)
            hint = f"did you mean {near[0]}?" if near else f"see `curate {name} --help`"
            raise InputError(f"there is no option {option}; {hint}")
