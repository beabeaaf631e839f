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
FORMAT = '''"""Read LaTeX tables."""

import pyarrow as pa

from curate.data.file_format import Format
from curate.errors import InputError


def read_tabular(files, text_columns, delimiter):
    rows = []
    for path, content in files:
        names, *lines = content.to_pybytes().decode().splitlines() or [""]
        if not lines:
            raise InputError(f"{path} has no rows; give a file with a header and at least one row")
        rows += [dict(zip(names.split("&"), line.split("&"))) for line in lines]
    return pa.Table.from_pylist(rows), []


TABULAR = Format("LaTeX", (".tabular",), "a header and a row per line, divided by &", parse=read_tabular)
'''
ADDED = [
    ("scorers", "digits", "Digits", SCORER),
    ("curate/clusterers", "halves", "Halves", CLUSTERER),
    ("augmenters", "double", "Double", AUGMENTER),
    ("curate/reweighters", "uniform", "Uniform", REWEIGHTER),
    ("curate/graders", "as_long", "AsLong", GRADER),
    ("curate/data/formats", "tabular_files", "TABULAR", FORMAT),
]

OPTION = '    {name}: int = Field(default=3, ge=1, description="an option of a newcomer")\n    seed: int = Field('
# Command -> the file whose class gets one more field with a description.
OPTIONS = {
    "finetune": "curate/finetuning/config.py",
    "run": "curate/pipeline.py",
    "evaluate": "curate/evaluation/config.py",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages and their tests with one of each kind added, each by its file and one line."""
    folder = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("curate", "scorers", "augmenters", "tests", "benchmarks", "docs"):
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
    for command, name in (("finetune", "uniform"), ("evaluate", "aslong"), ("run", "LaTeX")):
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


def test_a_file_of_the_format_is_read_and_listed(project: Path) -> None:
    (project / "rows.tabular").write_text("prompt&completion\n1+1&2\n2+2&4\n")
    code = (
        "import curate; from curate.cli.main import main\n"
        "print(curate.read('rows.tabular').examples.texts('completion', 0, 2))\n"
        "main(['list', 'formats'])\n"
        "open('rows.unknown', 'w').close(); main(['run', 'rows.unknown', '--out', 'out'])\n"
        "import runpy; completed = runpy.run_path('docs/build_site.py')['completed']\n"
        "print(completed(open('docs/data.md').read()))"
    )
    done = run(project, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "['2', '4']" in done.stdout
    assert "LaTeX .tabular: a header and a row per line, divided by &" in " ".join(done.stdout.split())
    assert ".tabular" in done.stderr
    assert "\n| `LaTeX` | .tabular: a header and a row per line, divided by & |\n" in done.stdout


def test_a_field_with_a_description_is_an_option(project: Path) -> None:
    for command, file in OPTIONS.items():
        source = (project / file).read_text()
        assert source.count("\n    seed: int = Field(") == 1
        (project / file).write_text(
            source.replace("    seed: int = Field(", OPTION.format(name=f"newcomers_{command}"))
        )
    code = (
        "from curate.cli.main import _parser\n"
        f"for command in {list(OPTIONS)}: print(_parser([command])[1][command].format_help())\n"
        "from curate.cli.finetune import given_settings\n"
        "words = 'finetune rows.jsonl --model m --out run --newcomers-finetune 7'.split()\n"
        "print('set to', given_settings(_parser(words)[0].parse_args(words)).newcomers_finetune)"
    )
    done = run(project, "-c", code)
    assert done.returncode == 0, done.stderr
    for command in OPTIONS:
        assert f"--newcomers-{command} N an option of a newcomer (3)" in " ".join(done.stdout.split())
    assert "set to 7" in done.stdout


@pytest.mark.slow
def test_the_contract_tests_find_what_was_added(project: Path) -> None:
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", "tests/contracts")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for _, _, kind, _ in ADDED:
        assert f"[{kind.replace('TABULAR', 'LaTeX')}]" in done.stdout, kind
    done = run(
        project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contracts/test_formats.py", "-k", "LaTeX"
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
