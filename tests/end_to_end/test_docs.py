"""The documentation site: its sources are staged whole, and every command that a page shows is one."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from curate.cli.main import _parser
from curate.recipe import component_names
from tests import ROOT

PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def _commands(page: Path) -> list[str]:
    """Lines of code blocks that call `curate`, with what continues them."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```(?:bash|console)\n(.*?)```", text, flags=re.DOTALL)
    blocks += re.findall(r"^ {4}curate .*$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("curate ")]


def test_there_are_commands_to_check() -> None:
    assert sum(len(_commands(page)) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_arguments_that_they_are_given(page: Path) -> None:
    for command in _commands(page):
        words = shlex.split(command, comments=True)[1:]
        _parser(words)[0].parse_args(words)  # raises InputError


@pytest.mark.slow
def test_the_site_has_every_component_command_and_page(tmp_path: Path) -> None:
    staged = tmp_path / "source"
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "build_site.py"), str(staged)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    reference = "".join(path.read_text(encoding="utf-8") for path in (staged / "reference").glob("*.md"))
    for module in ("scorers", "augmenters", "curate.clusterers", "curate.reweighters", "curate.optimizers"):
        assert [name for name in component_names(module) if f"## {name}\n" not in reference] == []
    assert [name for name in _parser([""])[1] if name != "weight" and f"## curate {name}\n" not in reference] == []
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = [page for part in site["nav"] for pages in part.values() for each in pages for page in each.values()]
    assert [page for page in named if not (staged / page).is_file()] == []
