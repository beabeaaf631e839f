"""Count the call edges between our files in one `curate run`."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow.parquet as pq

from benchmarks.size import PACKAGES
from curate.cli.main import main as curate
from curate.word_problems.table import generate

# python -m benchmarks.walk [--edges]
#
# 240 generated word problems, the recipe quick, a scratch proxy of 5 steps, in this process. An edge is a pair of files
# of which one's function calls a function of the other: "direct" without a library between them, "all" with whatever
# stands between. What runs while modules are imported is not counted, and templates are no files here. --edges lists
# the direct ones.

_ROOT = Path(__file__).parents[1]
_HOMES = tuple(f"{_ROOT / package}/" for package in PACKAGES)


class Walk:
    """Counts calls by (file of the caller, file of the called)."""

    def __init__(self) -> None:
        self.direct: Counter[tuple[str, str]] = Counter()
        self.all: Counter[tuple[str, str]] = Counter()
        self.functions: dict[tuple[str, str], set[str]] = {}

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call" or not _is_ours(frame):
            return
        caller, library_between = frame.f_back, False
        while caller is not None and not caller.f_code.co_filename.startswith(_HOMES):
            caller, library_between = caller.f_back, True
        if caller is None or not _is_ours(caller) or caller.f_code.co_filename == frame.f_code.co_filename:
            return
        edge = (_name(caller), _name(frame))
        self.all[edge] += 1
        if not library_between:
            self.direct[edge] += 1
            self.functions.setdefault(edge, set()).add(frame.f_code.co_qualname)


def _is_ours(frame: FrameType) -> bool:
    """Of a function in the packages, and not of a module that is being imported."""
    file = frame.f_code.co_filename
    return file.startswith(_HOMES) and file.endswith(".py") and frame.f_code.co_name != "<module>"


def _name(frame: FrameType) -> str:
    return frame.f_code.co_filename.removeprefix(f"{_ROOT}/")


def main() -> None:
    walk = Walk()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows.parquet")
        pq.write_table(generate(n=240, seed=0), rows)
        words = [*("run", str(rows), "--out", f"{folder}/out", "--cache", f"{folder}/cache")]
        words += ["--proxy", "scratch", "--set", "proxy.steps=5", "--device", "cpu"]
        threading.setprofile(walk)
        sys.setprofile(walk)
        try:
            status = curate(words)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    if status:
        sys.exit(status)
    if "--edges" in sys.argv[1:]:
        for (caller, called), functions in sorted(walk.functions.items()):
            print(f"{caller} -> {called}: {', '.join(sorted(functions))}")
    files = {file for edge in walk.all for file in edge}
    print(f"{len(files)} files; {len(walk.direct)} edges direct, {len(walk.all)} in all")


if __name__ == "__main__":
    main()
