"""Generated input for the commands: how it is run, what every end must be, and how many were tried."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import ROOT

__all__ = ["SCALES", "Answer", "Driver", "Record", "fault", "fuzz", "hostile_text", "mostly"]

# Examples per kind and unit of its weight: the one setting behind the time that all of this takes.
EXAMPLES = int(os.environ.get("CURATE_FUZZ_EXAMPLES", "4"))
# Of every kind at least so many. Of fewer than 20 valid ones 95 % means all, and 15 in a row are hardly ever (4 % of
# the time) taken by a command that refuses one in five; 20 with one refusal would say less.
LEAST, LEAST_VALID = 5, 15
# A file to which failing examples are written, instead of stopping at the first: to count them.
COLLECT = os.environ.get("CURATE_FUZZ_COLLECT")
SECONDS = float(os.environ.get("CURATE_FUZZ_SECONDS", "20"))
BYTES = 4 << 30
LONGEST_LINE = 500
# In CI each kind is tried a little, and by `make test-all` for minutes.
SCALES = pytest.mark.parametrize(
    "scale",
    [pytest.param(1, marks=pytest.mark.slow), pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(0)])],
)
Case = TypeVar("Case")
Record = Callable[[str, object], None]


@dataclass(frozen=True)
class Answer:
    """How a command ended. status: None = killed for time; bytes: resident, beyond what the imports take."""

    arguments: Sequence[str]
    status: int | None
    output: str
    errors: str
    seconds: float
    bytes: int
    left: bool

    @property
    def line(self) -> str:
        """What it said last."""
        return self.errors.rstrip("\n").rpartition("\n")[2]


class Driver:
    """The fork server of `driver.py`; it starts at the first command."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        arguments: Iterable[str | Path],
        folder: Path,
        *,
        environment: Mapping[str, str | None] | None = None,
        keys: str = "",
        until: str | None = None,
        seconds: float = SECONDS,
        room: int = BYTES,
    ) -> Answer:
        """Run a command in a folder, with a cache in it. keys: its stdin; until: interrupted once it prints this."""
        what = {"arguments": [str(word) for word in arguments], "keys": keys, "until": until}
        return self._ask(what, folder, environment or {}, seconds, room)

    def run_program(self, code: str, folder: Path) -> Answer:
        """Run a program in the sandbox; the output is JSON with its `output` and `failure`."""
        what = {"program": code, "arguments": [], "keys": "", "until": None}
        return self._ask(what, folder, {}, SECONDS, BYTES)

    def _ask(
        self, what: dict[str, Any], folder: Path, environment: Mapping[str, str | None], seconds: float, room: int
    ) -> Answer:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.driver"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
                cwd=ROOT,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = what | {
            "folder": str(folder),
            "environment": {"CURATE_CACHE": str(folder / "cache"), **environment},
            "seconds": seconds,
            "bytes": room,
        }
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return Answer(what["arguments"], **json.loads(self._process.stdout.readline()))
        except BaseException:  # a test that is stopped here would leave its answer to the next
            self._process.kill()
            self.close()
            raise

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None


def fault(answer: Answer) -> str | None:
    """What is wrong with how a command ended, or None."""
    if answer.status is None:
        return f"not done after {answer.seconds:.0f} s"
    if answer.status < 0:
        return f"signal {-answer.status}"
    if answer.status not in (0, 2, 3):
        return f"exit {answer.status}: {answer.errors[-2000:]}"
    if answer.left:
        return "processes are left behind"
    said = answer.output + answer.errors
    acting = {character for character in said if _acts(character)}
    if acting:
        return f"control characters {acting!r} in {said[-2000:]!r}"
    if "Traceback (most recent" in said:
        return f"a traceback: {said[-2000:]}"
    return _lines_fault(answer) or _json_fault(answer)


def _acts(character: str) -> bool:
    bidirectional = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    return bidirectional or (character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cs"))


def _lines_fault(answer: Answer) -> str | None:
    """Errors are one line, and it is the last."""
    ours = [line for line in answer.errors.splitlines() if re.match(r"curate: (?!warning: )", line)]
    if len(ours) != (answer.status != 0):
        return f"exit {answer.status} with {len(ours)} error lines: {answer.errors[-2000:]}"
    if ours and (answer.line != ours[0] or len(ours[0]) > LONGEST_LINE):
        return f"{len(ours[0])} characters, or not the last line: {answer.errors[-2000:]}"
    return None


def _json_fault(answer: Answer) -> str | None:
    if "--json" not in answer.arguments:
        return None
    try:
        told = json.loads(answer.output)
    except ValueError:
        return f"not one JSON object: {answer.output[-2000:]!r}"
    return None if (answer.status != 0) == ("error" in told) else f"exit {answer.status} with {told}"


def half_written(folder: Path) -> str | None:
    """What a result folder that says it is finished lacks."""
    if not (folder / "run.json").exists():
        return None
    whole = ("data", "tables", "README.md", "dataset_info.json", "report.html")
    missing = [name for name in whole if not (folder / name).exists()]
    return f"a finished folder without {missing}" if missing else None


def fuzz(
    kind: str,
    cases: st.SearchStrategy[Case],
    attempt: Callable[[Case, Path], Iterable[Answer]],
    record: Record,
    *,
    scale: int,
    weight: float = 1.0,
    valid: bool = False,
    whole: bool = True,
) -> None:
    """Try generated cases, each in an empty folder, until one ends as no command may; valid ones must mostly succeed.

    attempt: makes the case there and yields the answers of its commands; it may assert more about them.
    whole: whether what lies in the folder `out` must be a whole result.
    record: gets the kind with how many were tried, how many failed and how many ended in 0.
    """
    counts: Counter[str] = Counter()

    @settings(
        max_examples=max(LEAST_VALID if valid else LEAST, round(EXAMPLES * weight * scale)),
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def body(case: Case) -> None:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        done = True
        counts["tried"] += 1
        try:
            for answer in attempt(case, folder):
                done = done and answer.status == 0
                problem = fault(answer)
                assert problem is None, f"{answer.arguments}: {problem}"
                if valid and answer.status != 0:
                    counts[answer.line[:160]] += 1
            out = half_written(folder / "out") if whole else None
            assert out is None, out
        except AssertionError as error:
            counts["failed"] += 1
            if not COLLECT:
                raise
            with open(COLLECT, "a") as file:
                file.write(json.dumps({"kind": kind, "fault": str(error)[:3000], "case": repr(case)[:3000]}) + "\n")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        counts["succeeded"] += done

    try:
        body()
    finally:
        record("fuzz", [kind, counts["tried"], counts["failed"], counts["succeeded"]])
    if valid:
        refused = {text: count for text, count in counts.items() if text not in ("tried", "failed", "succeeded")}
        if COLLECT:
            print(kind, refused)
        assert COLLECT or counts["succeeded"] >= 0.95 * counts["tried"], f"valid input is refused: {refused}"


_ODD = [
    "\0",
    "\x1b[31m",
    "\ud800",
    "\u202e",
    "\r\n",
    "'",
    '"',
    "%s",
    "{}",
    "..",
    "/",
    "~",
    "é" * 300,
    "9" * 400,
    "-1",
    "nan",
]


def hostile_text(*, alphabet: str | None = None) -> st.SearchStrategy[str]:
    """Text of any characters, half surrogates included, and what has broken programs before."""
    characters = st.characters() if alphabet is None else st.sampled_from(alphabet)
    anything = st.text(st.one_of(characters, st.characters(categories=["Cs", "Cc", "Cf"])), max_size=20)
    return st.one_of(anything, st.lists(st.one_of(st.sampled_from(_ODD), anything), max_size=4).map("".join))


def mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Of `usual` three times in four: a case that is odd everywhere is refused at the first oddity."""
    return st.integers(0, 3).flatmap(lambda draw: usual if draw else odd)
