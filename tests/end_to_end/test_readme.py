"""The README's Python runs as it stands, on a small file and with a shorter proxy run."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import ROOT

README = ROOT / "README.md"


def _blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"What is {i} + {i % 9}?", "completion": f"{i + i % 9}"} for i in range(60)]
    pq.write_table(pa.Table.from_pylist(rows), "rows.parquet")
    blocks = [block for block in _blocks() if "load_dataset" not in block]
    assert len(blocks) >= 4
    names: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block.replace('model="scratch"', 'model="scratch", steps=6'), "README.md", "exec"), names)
    assert (tmp_path / "curated" / "run.json").exists()
    assert names["dataset"].num_rows > 60


def test_links_of_the_readme_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("http"):
            assert (README.parent / target).exists(), target
