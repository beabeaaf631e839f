"""Plug-ins that are beside the driver only are sent to the workers, or named."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.engine import Ray
from curate.engine.packages import install, package_digest, package_files, package_names
from curate.errors import InputError
from curate.finetuning.config import Finetuning
from curate.proxy.measures import MeanLoss
from curate.proxy.trace import measure_checkpoints
from curate.run import Run
from tests.fixtures.ray_cluster import Notes, Square, items
from tests.fixtures.scored import PROXY, additions

PLUGIN = """
from curate.component import Component
from curate_beside.factors import FACTOR

class Doubled(Component):
    def measure(self, checkpoint, examples):
        return FACTOR * checkpoint.losses()[:, None]
"""


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that only this process can import: its workers were started before."""
    folder = tmp_path / "beside" / "curate_beside"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PLUGIN)
    (folder / "factors.py").write_text("FACTOR = 2\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder.parent)])
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.startswith("curate_beside")]:
        del sys.modules[name]


def test_packages_of_objects_inside_components_are_found(beside: Path) -> None:
    curate_beside = importlib.import_module("curate_beside")
    assert package_names(MeanLoss(), {"a": [1, "x", None, Path(), np.ones(2)]}) == []
    assert package_names({"b": (curate_beside.Doubled(),)}) == ["curate_beside"]
    assert package_names(curate_beside.Doubled) == ["curate_beside"]
    assert package_names(Finetuning(model="m"), Square({}, None)) == ["tests"]  # type: ignore[arg-type]


def test_what_is_sent_is_what_arrives(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, files = package_digest("curate_beside"), package_files("curate_beside")
    assert set(files) == {"curate_beside/__init__.py", "curate_beside/factors.py"}
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(beside.parent)])
    importlib.invalidate_caches()
    assert package_digest("curate_beside") is None
    assert install({"curate_beside": files}, ["curate_beside"]) is None
    assert package_digest("curate_beside") == digest
    assert sys.modules["curate_beside"].FACTOR == 2
    (Path(sys.modules["curate_beside"].__path__[0]) / "factors.py").write_text("FACTOR = 3\n")
    assert package_digest("curate_beside") != digest


def test_what_cannot_be_sent_says_why(beside: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an installed distribution"):
        package_files("pytest")
    with pytest.raises(InputError, match="not here either"):
        package_files("curate_nowhere")
    (beside / f"fast{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    with pytest.raises(InputError, match="compiled modules"):
        package_files("curate_beside")
    (tmp_path / "beside" / "curate_needy.py").write_text("import curate_nowhere\n")
    assert install({}, ["curate_needy"]) == (
        "cannot import the package curate_needy (ModuleNotFoundError: No module named 'curate_nowhere')"
    )


@pytest.mark.slow
@pytest.mark.ray
def test_a_measure_that_is_beside_the_driver_only_is_sent(
    ray_engine: Ray, beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray_engine.numerics("float32")  # the workers are up, and do not look here
    curate_beside = importlib.import_module("curate_beside")
    notes = Notes()
    run = Run(PROXY, tmp_path / "cache", engine=ray_engine)
    context = run.context
    ray_engine.notify(notes)
    doubled: Any = curate_beside.Doubled()
    trace = measure_checkpoints(additions(), PROXY, [doubled, MeanLoss()], context)
    assert trace.of(doubled).tobytes() == (2 * trace.of(MeanLoss())).tobytes()
    assert any("sent to workers that lack it: curate_beside" in note for note in notes)
    # Another copy than the workers have is refused by name.
    (beside / "factors.py").write_text("FACTOR = 3\n")
    ray_engine.pool._required.discard("curate_beside")
    with pytest.raises(InputError, match=r"worker \d+ on \S+ has another version of the package curate_beside"):
        list(ray_engine.map(Square, {}, items(1), stage="square", needs=["curate_beside"]))
    # What nobody asked for by name, and cannot be unpacked there, is one line too.
    (tmp_path / "beside" / "curate_unasked.py").write_text("class Thing: pass\n")
    importlib.invalidate_caches()
    curate_unasked = importlib.import_module("curate_unasked")
    with pytest.raises(InputError, match=r"a worker lacks a package: .*curate_unasked"):
        list(ray_engine.map(Square, {"x": curate_unasked.Thing()}, items(2), stage="square"))
    assert len(list(ray_engine.map(Square, {}, items(4), stage="square"))) == 4
