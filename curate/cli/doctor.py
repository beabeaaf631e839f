"""`curate doctor`: check this machine; each finding names a remedy."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from curate.console.printing import show, tell
from curate.devices.precision import resolve_precision
from curate.errors import CurateError
from curate.pipeline import Pipeline
from curate.storage.atomic import make_folder
from curate.storage.places import check_cache, files_under
from curate.storage.remote_cache import RemoteCache, cache_place, check_cache_place, open_cache
from curate.storage.temporary import temporary_folder
from curate.verify.sandbox import run_program
from curate.verify.sandbox_child import LAYERS
from curate.word_problems.table import generate

_MINIMUM = {"torch": (2, 11), "transformers": (5, 17)}
_LITTLE_DISK = 5_000_000_000  # five float32 checkpoints of a 135M model take about half of this


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate doctor`."""
    parser.add_argument("--cache", type=cache_place, metavar="DIR", help="cache folder or URL to check")


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`curate doctor`: check what works on this machine."""
    findings = _examine(options.cache)
    if not options.json:
        _print_findings(findings)
    bad = [finding["name"] for finding in findings if finding["status"] == "bad"]
    if bad:
        tell(f"curate: not usable as it is: {', '.join(bad)}; each finding names its remedy")
    return {"findings": findings, "ok": not bad, "status": 3 if bad else 0}


def _examine(cache: Path | str | None = None) -> list[dict[str, str]]:
    """Findings {name, status: good | note | bad, found, remedy}, cheap ones first."""
    checks: list[tuple[str, Callable[[], tuple[str, str, str]]]] = [
        ("python", _python),
        ("torch", lambda: _package("torch")),
        ("transformers", lambda: _package("transformers")),
        ("hdbscan", lambda: _optional("hdbscan", "the HDBSCAN clusterer", "hdbscan")),
        ("gguf", lambda: _optional("gguf", "GGUF proxies", "gguf")),
        ("math-verify", lambda: _optional("math-verify", "answers that are not plain numbers", "math")),
        ("vllm", _vllm),
        ("devices", _devices),
        ("compiler", _compiler),
        ("programs", _programs),
        ("cache", lambda: _cache(cache)),
        ("tiny run", _tiny_run),
    ]
    findings = []
    for name, check in checks:
        try:
            status, finding, remedy = check()
        except Exception as error:  # a check that fails is itself the finding
            kind = "" if isinstance(error, CurateError) else f"{type(error).__name__}: "
            status, finding, remedy = "bad", kind + " ".join(str(error).split()), "see the message"
        findings.append({"name": name, "status": status, "found": finding, "remedy": remedy})
    return findings


def _python() -> tuple[str, str, str]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    good = sys.version_info >= (3, 11)
    return ("good" if good else "bad"), version, "" if good else "install Python 3.11 or newer"


def _package(name: str) -> tuple[str, str, str]:
    minimum = ".".join(str(part) for part in _MINIMUM[name])
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return "bad", "not installed", f"pip install '{name}>={minimum}'"
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
    good = numbers >= _MINIMUM[name]
    return ("good" if good else "bad"), version, "" if good else f"pip install '{name}>={minimum}'"


def _optional(package: str, use: str, extra: str) -> tuple[str, str, str]:
    try:
        return "good", metadata.version(package), ""
    except metadata.PackageNotFoundError:
        return "note", "not installed", f"for {use}: pip install 'curate-lm[{extra}]'"


def _vllm() -> tuple[str, str, str]:
    executable = shutil.which("vllm")
    remedy = "to start servers for new problems: install vLLM in a separate environment and name it with --vllm PATH"
    return ("good", executable, "") if executable else ("note", "not on the PATH", remedy)


def _devices() -> tuple[str, str, str]:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return "good", f"{', '.join(names)}; precision {resolve_precision('auto', torch.device('cuda'))}", ""
    precision = resolve_precision("auto", torch.device("cpu"))
    description = f"CPU with {torch.get_num_threads()} threads, precision {precision}"
    return "note", description, "no GPU: take --proxy scratch, or --limit, for large datasets"


def _compiler() -> tuple[str, str, str]:
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    if compiler:
        return "good", compiler, ""
    return "note", "none", "install a C++ compiler for faster scoring on CPUs; everything works without"


def _programs() -> tuple[str, str, str]:
    """Whether programs written by a model can be run, and which sandbox layers are available."""
    result = run_program("")
    if not result.layers:
        return "note", str(result.failure), "for --run-programs; everything else works without"
    lacking = [name for name in LAYERS if name not in result.layers]
    summary = f"run in a sandbox of {', '.join(result.layers)}"
    return "good", summary + (f"; this kernel has no {', '.join(lacking)}" if lacking else ""), ""


def _cache(directory: Path | str | None) -> tuple[str, str, str]:
    cache = open_cache(directory)
    root = cache.root
    check_cache(root)
    make_folder(root)
    with tempfile.TemporaryDirectory(dir=root):
        pass
    free = shutil.disk_usage(root).free
    used = sum(path.stat().st_size for path in files_under(root))
    summary = f"{root}: {used / 1e9:.1f} GB used, {free / 1e9:.1f} GB free"
    if isinstance(cache, RemoteCache):
        check_cache_place(directory)
        summary = f"{cache} can be written; copies of its entries in {summary}"
    if free < _LITTLE_DISK:
        return "note", summary, "little room for checkpoints: set CURATE_CACHE or pass --cache"
    return "good", summary, ""


def _tiny_run() -> tuple[str, str, str]:
    import time

    started = time.monotonic()
    settings = ["proxy.model=scratch", "proxy.steps=4", "proxy.checkpoints=2", "proxy.batch_size=8"]
    with temporary_folder("curate-doctor-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says of 64 rows and 4 steps is nothing to act on
        curated = Pipeline.from_recipe("quick", settings=settings).run(generate(n=64), cache=folder)
    return "good", f"64 rows in, {len(curated)} out, {time.monotonic() - started:.1f} s", ""


def _print_findings(findings: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    colors = {"good": "green", "note": "yellow", "bad": "red"}
    table = Table(show_header=False, box=None)
    for finding in findings:
        status = Text(finding["status"], style=colors[finding["status"]])
        text = Text(finding["found"])
        if finding["remedy"]:
            text.append(f"\n{finding['remedy']}", style="italic")
        table.add_row(finding["name"], status, text)
    show(table)
