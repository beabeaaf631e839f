"""Tests are offline, seeded and on the CPU; several run side by side, so each keeps to one thread."""

import gc
import itertools
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # clusters of tests keep to 127.0.0.1
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # instead of processes that each import torch

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import ROOT
from tests.fixtures.forked import forked  # noqa: F401
from tests.fixtures.ray_cluster import ray_cluster, ray_engine  # noqa: F401

hypothesis.settings.register_profile("seeded", derandomize=True, database=None)
hypothesis.settings.load_profile("seeded")

_CACHES = itertools.count()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache. The folder is made by who needs it, not by thousands who do not."""
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path_factory.getbasetemp() / "caches" / str(next(_CACHES))))


@pytest.fixture(scope="session", autouse=True)
def _unsynced() -> Iterator[None]:
    """What a test writes need not outlive a power cut, and waiting for the disk is a good part of writing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums of torch are taken in the same order on every machine, whatever OMP_NUM_THREADS says."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(1)
    yield
    if torch:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Garbage is looked for in what a module's tests leave, not in all that was imported before (a tenth of a second at
    every run of a trainer, since accelerate asks for it)."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def tiny_scratch() -> Iterator[None]:
    """The scratch proxy at a size that learns what is planted in seconds."""
    from curate.models import scratch

    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "_SCRATCH_SHAPE", shape)
        patch.setattr(scratch, "_SCRATCH_VOCABULARY", 400)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real datasets, where there is one."""
    for place in (os.environ.get("CURATE_SHARED_DATA"), ROOT.parent / "shared" / "data"):
        if place and Path(place).is_dir():
            return Path(place)
    pytest.skip("no folder with real datasets (set CURATE_SHARED_DATA)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that none of the processes is left alone with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many generated inputs were tried, and how many of them ended as no command may."""
    reports = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    found = [value for report in reports for name, value in report.user_properties if name == "fuzz"]
    if found:
        terminalreporter.section("generated inputs")
        for kind, tried, failed, succeeded in sorted(found):
            terminalreporter.line(f"{kind:<32} {tried:>6,} tried {failed:>4,} failed {succeeded:>6,} ended in 0")
