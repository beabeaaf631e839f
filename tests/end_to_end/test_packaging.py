"""The wheel holds all that an installed copy needs, and works from where it is installed."""

import importlib.util
import os
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests import ROOT

pytestmark = pytest.mark.slow

PACKAGES = ("curate", "scorers", "augmenters")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline from the source tree, with the build backend that is installed here."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed, so no wheel can be built offline")
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", "--target", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(wheel)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def _run(installed: Path, elsewhere: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command in a folder without the source tree, with the installed copy first on the path."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PATH": f"{installed / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)


def test_every_file_of_the_packages_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if tracked.returncode:
        pytest.skip("not a git checkout, so what belongs to the packages is not known")
    wanted = {name for name in tracked.stdout.splitlines() if (ROOT / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == wanted
    assert {name.partition("/")[0] for name in names} == set(PACKAGES)
    assert any(name.endswith(".yaml") for name in names)
    assert any(name.endswith(".html.j2") for name in names)
    assert any(name.endswith("py.typed") for name in names), "the classifier `Typing :: Typed` needs py.typed"


def test_metadata_license_and_entry_point(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        described = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        license_text = archive.read(f"{info}/licenses/LICENSE").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert described["Name"] == "curate-lm"
    assert described["License-Expression"] == "Apache-2.0"
    assert described["Requires-Python"] == ">=3.11"
    assert "Apache License" in license_text
    assert "curate = curate.cli.main:main" in entry_points
    needed = [line for line in described.get_all("Requires-Dist") if "extra ==" not in line]
    assert "torch>=2.13" in needed
    assert "transformers>=5.23" in needed
    assert not [line for line in needed if line.startswith(("vllm", "ray", "trl", "pytest"))]
    assert str(described.get_payload()).strip(), "the README is the long description"


def test_the_command_runs_from_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, str(installed / "bin" / "curate"), "--help")
    assert done.returncode == 0, done.stderr
    assert "usage: curate" in done.stdout


def test_recipes_and_templates_are_found_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    code = (
        "import curate, scorers, augmenters, sys, numpy as np, pyarrow as pa\n"
        "from curate.recipe import recipe_names\n"
        "print(curate.__file__, scorers.__file__, augmenters.__file__, sep='\\n')\n"
        "model = {'synthesize': 0, 'duplicate-and-synthesize': 1}  # place of the generator that has to be named\n"
        "named = {name: [f'augmenters.{place}.generator.model=m'] for name, place in model.items()}\n"
        "named['stability-gap'] = ['augmenters.1.data=earlier.parquet', 'scorer.reference=good.parquet']\n"
        "print([curate.Pipeline.from_recipe(name, settings=named.get(name, [])).seed for name in recipe_names()])\n"
        "data = curate.read(pa.table({'prompt': ['p'] * 60, 'completion': [f'c{i}' for i in range(60)]}))\n"
        "scores = curate.difficulty.scores.as_scores(np.arange(60) // 40, 60).with_ids(data.examples.ids)\n"
        "curate.Pipeline.from_recipe('quick').run(data, scores=scores, out='out')\n"
    )
    done = _run(installed, tmp_path, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    *places, seeds = done.stdout.splitlines()
    assert len(places) == 3
    assert all(place.startswith(str(installed)) for place in places)
    assert seeds.count("0") >= 4
    assert "</html>" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "run.json").is_file()


def test_the_version_is_that_of_the_distribution() -> None:
    import curate

    assert curate.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
