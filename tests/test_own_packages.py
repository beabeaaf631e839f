"""A package of the user's with the name of one of ours is named, never run, and no fault."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from curate.errors import InputError
from curate.own_packages import own_module
from tests import ROOT

RUNS = "raise SystemExit('the package of the user was run')"


def plan(folder: Path, *, path: str, module: bool) -> subprocess.CompletedProcess[str]:
    """`curate plan` in a folder, as a script or as a module; path: PYTHONPATH, in which ours comes last."""
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 12)
    # As the script of the distribution does, the folder of which comes first in sys.path.
    start = ["-m", "curate"] if module else ["-P", "-c", "from curate.cli.main import main; raise SystemExit(main())"]
    return subprocess.run(
        [sys.executable, *start, "plan", "rows.jsonl", "--proxy", "scratch", "--cache", "cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)]))},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", ["scorers", "augmenters"])
@pytest.mark.parametrize("kind", ["package", "module"])
@pytest.mark.parametrize("way", ["working folder", "PYTHONPATH"])
def test_what_is_in_the_way_is_named_in_one_line(name: str, kind: str, way: str, tmp_path: Path) -> None:
    place = tmp_path / (name if kind == "package" else f"{name}.py")
    if kind == "package":
        place.mkdir()
        (place / "__init__.py").write_text(RUNS)
    else:
        place.write_text(RUNS)
    done = plan(tmp_path, path="" if way == "working folder" else str(tmp_path), module=way == "working folder")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    remedy = "run the command in another folder" if way == "working folder" else f"take {tmp_path} out of PYTHONPATH"
    assert line.startswith(f"curate: {place} hides the package {name} of curate")
    assert line.endswith(f"rename it, or {remedy}")
    if (name, kind) == ("scorers", "package"):  # the remedy helps
        place.rename(tmp_path / "mine")
        assert plan(tmp_path, path=str(tmp_path), module=True).returncode == 0


def test_a_folder_that_is_no_package_is_in_nobodys_way(tmp_path: Path) -> None:
    for name in ("scorers", "augmenters", "curate", "benchmarks", "datasets"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").touch()
    for module in (True, False):
        done = plan(tmp_path, path=str(tmp_path), module=module)
        assert done.returncode == 0, done.stderr


def test_one_that_was_imported_before_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scorers.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for each in [name for name in sys.modules if name.partition(".")[0] == "scorers"]:
        monkeypatch.delitem(sys.modules, each)
    import scorers

    assert Path(str(scorers.__file__)).parent == tmp_path
    with pytest.raises(InputError, match="hides the package scorers"):
        own_module("scorers")
    monkeypatch.delitem(sys.modules, "scorers")
