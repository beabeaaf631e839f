"""Every script in examples/ runs as it stands, on 200 rows and with shorter training."""

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate.word_problems.table import generate
from tests import ROOT
from tests.fixtures.domains import CallsWriter, CodeWriter, calls, programs
from tests.fixtures.forked import Forked
from tests.fixtures.models import saved
from tests.fixtures.server import FakeServer, asked

EXAMPLES = ROOT / "examples"
ROWS = 200


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.parquet"
    pq.write_table(generate(n=ROWS), path)
    return path


Run = Callable[..., str]


@pytest.fixture
def run(forked: Forked, tmp_path: Path) -> Run:
    def call(name: str, *arguments: object) -> str:
        cache = {"CURATE_CACHE": str(tmp_path / "cache")}
        done = forked.run(EXAMPLES / name, *arguments, cwd=tmp_path, environment=cache)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return call


def test_the_page_lists_every_script() -> None:
    listed = re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.slow
@pytest.mark.examples
def test_curate_jsonl(data: Path, run: Run, tmp_path: Path) -> None:
    pq.read_table(data).to_pandas().to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    out = run("curate_jsonl.py", tmp_path / "rows.jsonl", tmp_path / "curated", "--steps", 6)
    assert f"{ROWS} rows in" in out
    assert (tmp_path / "curated" / "run.json").is_file()


@pytest.mark.slow
@pytest.mark.examples
def test_chain_by_hand(data: Path, run: Run, tmp_path: Path) -> None:
    out = run("chain_by_hand.py", data, "--steps", 6)
    assert "hard rows" in out
    assert "example_id" in out


@pytest.mark.slow
@pytest.mark.examples
def test_own_scorer(data: Path, run: Run, tmp_path: Path) -> None:
    assert "example_id" in run("own_scorer.py", data, "--steps", 6)


@pytest.mark.slow
@pytest.mark.examples
def test_synthesize_with_server(data: Path, run: Run, tmp_path: Path) -> None:
    with FakeServer(lambda body: "I would rather not.") as server:
        out = run(
            *("synthesize_with_server.py", data, tmp_path / "problems", "--model", server.model, "--url", server.url),
            *("--rows", 4, "--steps", 6),
        )
    assert "no problem in the proposal" in out


@pytest.mark.slow
@pytest.mark.examples
@pytest.mark.parametrize("domain", ["code", "tool_calls"])
def test_synthesize_in_other_domains(domain: str, run: Run, tmp_path: Path) -> None:
    table, writer = (programs(12), CodeWriter()) if domain == "code" else (calls(12), CallsWriter())
    pq.write_table(table, tmp_path / "rows.parquet")
    with FakeServer(lambda body: writer.says(asked(body), body["seed"])) as server:
        arguments = (tmp_path / "rows.parquet", tmp_path / "new", "--model", server.model, "--url", server.url)
        out = run(f"synthesize_{domain}.py", *arguments)
    assert "kept" in out
    new = pq.read_table(tmp_path / "new" / "data").to_pylist()
    assert new
    assert all(row["tests" if domain == "code" else "tools"] for row in new)


@pytest.mark.slow
@pytest.mark.examples
def test_reweight_sft_trainer(data: Path, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pq.read_table(data, columns=["question", "answer"]), folder / "train.parquet")
    saved(tmp_path / "model")
    out = run("reweight_sft_trainer.py", folder, tmp_path / "model", tmp_path / "out", "--steps", 2)
    assert "16 rows drawn" in out


@pytest.mark.slow
@pytest.mark.examples
def test_validate(data: Path, run: Run, tmp_path: Path) -> None:
    out = run("validate.py", data, tmp_path / "proof", "--seeds", 1, "--epochs", 0.2, "--steps", 6)
    assert "hard against original" in out
    assert (tmp_path / "proof" / "report.html").is_file()
