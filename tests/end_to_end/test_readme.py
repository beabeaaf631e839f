"""The Python of the README and the docs runs as it stands, on a small file and with a shorter proxy run."""

import re
import runpy
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.list import listed
from curate.recipe import recipe_names
from tests import ROOT

README = ROOT / "README.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MOST_WORDS = 1200
COMPLETED = runpy.run_path(str(ROOT / "docs" / "build_site.py"))["completed"]


def _blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"What is {i} + {i % 9}?", "completion": f"{i + i % 9}"} for i in range(60)]
    pq.write_table(pa.Table.from_pylist(rows), "rows.parquet")
    blocks = [block for page in PAGES for block in _blocks(page) if "load_dataset" not in block]
    assert len(blocks) >= 6
    names: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block.replace('model="scratch"', 'model="scratch", steps=6'), "README.md", "exec"), names)
    assert (tmp_path / "curated" / "run.json").exists()
    assert names["dataset"].num_rows > 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_readme_is_read_to_its_end() -> None:
    text = re.sub(r"```.*?```", "", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(text.split()) <= MOST_WORDS


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        *[("scorers.md", kind) for kind in ("scorers", "augmenters", "clusterers", "generators")],
        ("reweighting.md", "reweighters"),
        ("data.md", "formats"),
    ],
)
def test_the_docs_name_every_component(page: str, kind: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert [name for name in listed(kind) if f"`{name}" not in COMPLETED(text)] == []
    (marked,) = [kinds for kinds in re.findall("<!-- further (.*) -->", text) if kind in kinds.split(", ")]
    without = re.sub(rf"(?m)^.*`{next(iter(listed(kind)))}.*\n", "", text)
    assert f"\n| `{next(iter(listed(kind)))}` | " in COMPLETED(without), marked


def test_the_docs_name_every_recipe() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in recipe_names() if f"`{name}`" not in text] == []
