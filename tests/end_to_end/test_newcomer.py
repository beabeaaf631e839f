"""What a newcomer adds is its file, one line in one `__init__`, and its test: tried on a copy of the project."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

SCORER = '''"""Digits of the completion."""

from typing import Any

import numpy as np

from curate.component import Component
from curate.difficulty.scores import Scores


class Digits(Component):
    """How many digits a completion has."""

    def score(self, examples: Any, run: Any = None) -> Scores:
        """(n,) counts."""
        texts = examples.texts("completion", 0, len(examples))
        return np.array([sum(map(str.isdigit, text)) for text in texts], np.float32)
'''
CLUSTERER = '''"""Two halves."""

from typing import Any

import numpy as np

from curate.component import Component


class Halves(Component):
    """Rows above the median, and the others."""

    def fit_predict(self, X: Any) -> Any:
        """Labels (n,)."""
        value = np.asarray(X).mean(axis=1)
        return (value > np.median(value)).astype(np.int32)
'''
AUGMENTER = '''"""Everything twice."""

from typing import Any

from curate.component import Component


class Double(Component):
    """Every row twice."""

    def plan(self, plan: Any, split: Any, seed: int) -> Any:
        """Twice the counts."""
        return plan.with_counts(plan.counts * 2)
'''
REWEIGHTER = '''"""All alike."""

from typing import Any

from curate.component import Component


class Uniform(Component):
    """Every row counts 1."""

    def weights(self, batch: Any, outputs: Any) -> Any:
        """(b,) ones."""
        return outputs.losses.detach() * 0 + 1
'''
GRADER = '''"""Length alone."""

from typing import Any

from curate.component import Component
from curate.verify import Verdict


class AsLong(Component):
    """Whether a completion is as long as the reference."""

    def grade(self, completion: str, reference: str, row: Any) -> Verdict:
        """Right if it is."""
        return Verdict.right if len(completion) == len(reference) else Verdict.wrong
'''
ADDED = [
    ("scorers", "digits", "Digits", SCORER),
    ("curate/clusterers", "halves", "Halves", CLUSTERER),
    ("augmenters", "double", "Double", AUGMENTER),
    ("curate/reweighters", "uniform", "Uniform", REWEIGHTER),
    ("curate/graders", "as_long", "AsLong", GRADER),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages and their tests with one of each kind added, each by its file and one line."""
    folder = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("curate", "scorers", "augmenters", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package, module, kind, source in ADDED:
        (folder / package / f"{module}.py").write_text(source)
        with (folder / package / "__init__.pyi").open("a") as stub:
            stub.write(f"from .{module} import {kind} as {kind}\n")
    return folder


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True)


def test_help_names_what_was_added(project: Path) -> None:
    for command, name in (("finetune", "uniform"), ("evaluate", "aslong")):
        done = run(project, "-m", "curate", command, "--help")
        assert done.returncode == 0, done.stderr
        assert name in " ".join(done.stdout.split())


def test_a_recipe_names_what_was_added(project: Path) -> None:
    recipe = "{scorer: {use: Digits}, clusterer: {use: Halves}, augmenters: [{use: Double}]}"
    code = f"import curate; print(curate.Pipeline.from_yaml({recipe!r}))"
    done = run(project, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "Digits()" in done.stdout
    assert "Halves()" in done.stdout
    assert "Double()" in done.stdout


@pytest.mark.slow
def test_the_contract_tests_find_what_was_added(project: Path) -> None:
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", "tests/contracts")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for _, _, kind, _ in ADDED:
        assert f"[{kind}]" in done.stdout, kind
