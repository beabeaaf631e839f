"""Command lines of every command, as its parser says them: ones that work, and options of any value."""

from __future__ import annotations

import argparse
import functools
from typing import Any

from hypothesis import strategies as st

from curate.cli.main import _parser
from tests.fuzz.harness import hostile_text, mostly

__all__ = ["COMMANDS", "FILES", "FOLDERS", "hostile_options", "material", "plain_words", "readers"]

Strategy = st.SearchStrategy[Any]
COMMANDS = tuple(name for name in _parser([])[1] if name != "weight")  # an alias of weigh
# What an argument names, by the word that the help has for it.
_MATERIAL = {
    "DATA": "rows.jsonl",
    "DIR": "out",
    "A": "out",
    "B": "reviewed",
    "RUN": "tuned",
    "RUN|FILE": "tuned",
    "RUN|MODEL": "tuned",
    "TUNED": "further",
    "NAME|FILE": "own.yaml",
    "KIND": "scorers",
    "ORG/NAME": "me/name",
}
FOLDERS = ("out", "reviewed", "tuned", "further", "other")
FILES = ("rows.jsonl", "own.yaml", "scores.parquet")
# Values of options that have to be given, and of those by which a command costs a second; by the option's own name.
_REQUIRED = {"out": "new", "model": "scratch", "weights": "tuned", "data": "rows.jsonl", "alpha": "0.5", "steps": "2"}
_CHEAP = {"recipe": "own.yaml", "max_length": "64", "limit": "12", "arms": "original,hard"}
_CHEAP_DEMO = {"rows": "100"}
_FLAGS = ("no_open", "yes", "no_generate")
# Options that name a finished folder instead of a recipe.
_LIKE = ("reuse", "like")
# A command whose plain words name something else.
_APART = {"review": {"directory": "reviewed"}}
_PLACES = ("out", "reviewed", "tuned", "further", "other", "rows.jsonl", "own.yaml", "scores.parquet", "nowhere", ".")
_ODD_PLACES = ("/dev/null", "/dev/full", "/proc/self/mem", "pipe", "loop", "", "~nobody/x", "x" * 300, "rows.jsonl/x")
_URLS = ("memory://x", "file:///proc/x", "http://127.0.0.1:9/x", "hf://datasets/a/b", "ftp://127.0.0.1:9/x", "x://y")
_NUMBERS = ("0", "-1", "1", "2", "1.5", "nan", "inf", "1e999", "-0", "9" * 30, "0x10", "1,2", "2-1", "1-2", "٣")
_WORDS = ("scratch", "Length", "{use: Length}", "[]", "a=b", "prompt=prompt", "original", "127.0.0.1:9", "auto", "off")


@functools.cache
def actions(name: str) -> tuple[argparse.Action, ...]:
    """The arguments of a command, without --help and --json."""
    _, commands = _parser([name])
    return tuple(action for action in commands[name]._actions if action.dest not in ("help", "json"))


def material(words: tuple[str, ...]) -> tuple[str, ...]:
    """What of ours a command line reads."""
    named = [word.rpartition("=")[2] for word in words[1:] if not word.startswith("--out")]
    return tuple(name for name in named if name in (*FOLDERS, *FILES))


@functools.cache
def readers() -> tuple[tuple[str, ...], ...]:
    """A command line for every argument by which some command reads something of ours."""
    found = []
    for name in COMMANDS:
        plain = plain_words(name)
        found += [plain] if material(plain) else []
        for action in actions(name):
            option = max(action.option_strings, key=len, default="")
            if action.dest in _LIKE:
                found.append((*(word for word in plain if not word.startswith("--recipe")), f"{option}=out"))
            elif option and str(action.metavar).startswith("DATA") and not action.required:
                found.append((*plain, f"{option}=rows.jsonl"))
            elif action.dest == "scores":
                found.append((*plain, f"{option}=scores.parquet"))
    return tuple(found)


@functools.cache
def plain_words(name: str) -> tuple[str, ...]:
    """A command line that ends in 0, or says why this machine cannot."""
    words = [name]
    for action in actions(name):
        if action.option_strings:
            words += _option(name, action)
        elif action.nargs not in ("*", "?"):
            several = ("tuned", "other") if action.nargs == "+" else ()
            words += several or [_APART.get(name, {}).get(action.dest) or _MATERIAL[str(action.metavar)]]
    return tuple(words)


def _option(name: str, action: argparse.Action) -> list[str]:
    option = max(action.option_strings, key=len)
    if action.dest in _FLAGS:
        return [option]
    cheap = _CHEAP_DEMO if name == "demo" else _CHEAP
    value = _REQUIRED[action.dest] if action.required else cheap.get(action.dest)
    suffix = ".parquet" if action.dest == "out" and action.metavar == "FILE" else ""
    return [] if value is None else [f"{option}={value}{suffix}"]


@st.composite
def hostile_options(draw: st.DrawFn, name: str) -> list[str]:
    """Up to three options of a command, mostly ones that it has, with values that mostly are of some kind."""
    known = [action for action in actions(name) if action.option_strings]
    words = []
    for action in draw(st.lists(st.sampled_from(known), min_size=1, max_size=3)) if known else ():
        option = max(action.option_strings, key=len)
        if action.nargs == 0:
            words.append(option)
            continue
        words.append(f"{option}={draw(_value(action))}".replace("\0", ""))
    return words


def _value(action: argparse.Action) -> Strategy:
    places = st.sampled_from((*_PLACES, *_PLACES, *_ODD_PLACES, *_URLS))
    if action.choices:
        return mostly(st.sampled_from(sorted(action.choices)), hostile_text())
    kinds = [places, st.sampled_from(_NUMBERS), st.sampled_from(_WORDS), hostile_text()]
    place = action.metavar in ("DIR", "FILE", "DATA", "RUN", "RUN|FILE", "NAME|FILE", "MODEL")
    return mostly(places, st.one_of(kinds)) if place else st.one_of(*kinds, kinds[1], kinds[1])
