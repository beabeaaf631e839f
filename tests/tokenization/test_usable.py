"""Rows that no model can learn from end every command before anything is trained, with a remedy that works."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.main import main
from curate.data.examples import Examples
from curate.data.readers import read
from curate.errors import InputError
from curate.mixture.rescoring import behind
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy
from curate.run import Run
from curate.tokenization.cached import RowValidity
from curate.tokenization.encoding import tokenize
from curate.tokenization.usable import Rules, check_usable
from tests.fixtures.models import write_model
from tests.fixtures.tokenizers import CHATML, FAMILIES, byte_level

BAD = 17  # the row whose turns do not alternate
N = 40


def conversations(*, bad: bool = True) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = []
    for k in range(N):
        asked = {"role": "user", "content": f"What is {k} plus {rng.integers(90)}?"}
        answered = {"role": "assistant", "content": f"The answer is {rng.integers(90)}.\n#### {k}"}
        rows.append([asked, asked, answered] if bad and k == BAD else [asked, answered])
    return pa.table({"messages": rows})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template wants turns to alternate."""
    folder = tmp_path_factory.mktemp("model") / "mistral"
    write_model(folder, byte_level(chat=FAMILIES["mistral"][0]), max_position_embeddings=512)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pq.write_table(conversations(), tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


TINY = ("proxy.steps=2", "proxy.checkpoints=2", "proxy.batch_size=8", "proxy.max_length=96")
Words = Callable[[Path, Path, Path], list[str]]


def with_proxy(*command: str) -> Words:
    def words(data: Path, model: Path, out: Path) -> list[str]:
        settings = [word for setting in TINY for word in ("--set", setting)]
        return [*command, str(data), "--proxy", str(model), "--out", str(out), "--cache", f"{out}.cache", *settings]

    return words


def finetune(data: Path, model: Path, out: Path) -> list[str]:
    return ["finetune", str(data), "--model", str(model), "--out", str(out), "--steps", "2", "--cache", f"{out}.cache"]


def evaluate(data: Path, model: Path, out: Path) -> list[str]:
    asked = ["--data", str(data), "--style", "chat", "--max-tokens", "2", "--cache", f"{out}.cache"]
    return ["evaluate", str(model), "--out", str(out), *asked]


def validate(data: Path, model: Path, out: Path) -> list[str]:
    return [*with_proxy("validate")(data, model, out), "--model", str(model), "--plan", "--held-out", "0.5"]


COMMANDS: dict[str, Words] = {
    "run": with_proxy("run"),
    "plan": with_proxy("plan"),
    "score": with_proxy("score"),
    "finetune": finetune,
    "evaluate": evaluate,
    "validate": validate,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_row_that_the_template_refuses_ends_every_command_with_a_remedy_that_works(
    command: str, data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = COMMANDS[command](data, model, tmp_path / "out")
    assert main(words) == 2
    line = capsys.readouterr().err.rstrip().split("\n")[-1]
    assert line.startswith("curate: ")
    for word in (f"row {BAD} (counted from 0", "alternate", "--on-bad-row drop"):
        assert word in line
    assert not (tmp_path / "out").exists()
    assert main([*words, "--on-bad-row", "drop", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    check(command, result, tmp_path / "out")


def check(command: str, result: dict[str, Any], out: Path) -> None:
    if command == "run":
        assert result["counts"]["input"] == N - 1
        [left_out] = pq.read_table(out / "tables" / "rejected.parquet").to_pylist()
        assert (left_out["row"], left_out["stage"]) == (BAD, "template")
        assert "alternate" in left_out["reason"]
        assert [k for k, turns in enumerate(conversations()["messages"].to_pylist()) if len(turns) == 3] == [BAD]
        assert max(len(turns) for turns in pq.read_table(out / "data")["messages"].to_pylist()) == 2
    elif command == "plan":
        assert result["rows_in"] == N - 1
    elif command == "score":
        table = pq.read_table(out).to_pylist()
        assert [k for k, row in enumerate(table) if not row["valid"]] == [BAD]
        assert table[BAD]["difficulty"] is None
    elif command == "finetune":
        assert (result["data"]["rows"], result["data"]["valid"], result["data"]["refused"]) == (N, N - 1, 1)
        [left_out] = pq.read_table(out / "rejected.parquet").to_pylist()
        assert (left_out["row"], left_out["stage"]) == (BAD, "template")
    elif command == "evaluate":
        [summary] = result["evaluations"].values()
        assert summary["rows"] == N - 1
        assert [each["row"] for each in summary["rejected"]] == [BAD]
    else:
        assert result["arms"][0]["rows"] < N


def test_scores_of_a_run_that_left_rows_out_serve_a_later_run(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores.parquet"
    assert main([*COMMANDS["score"](data, model, scores), "--on-bad-row", "drop"]) == 0
    shown = capsys.readouterr().out
    after = shown.split("next: ")[1].replace("\n", " ")
    words = shlex.split(after)[1:]
    words[words.index("DIR")] = str(tmp_path / "out")
    assert main([*words, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert (counts["input"], counts["invalid"]) == (N, 1)


def test_a_finished_folder_is_known_again_where_rows_were_left_out(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*COMMANDS["run"](data, model, tmp_path / "out"), "--on-bad-row", "drop", "--json"]
    assert [main(words), main(words)] == [0, 0]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["done_before"] is True


def test_new_rows_that_the_template_refuses_are_not_scored_and_end_nothing(model: Path, tmp_path: Path) -> None:
    both = read(conversations()).examples
    old, new = both.slice(0, BAD), both.slice(BAD - 1, N)
    proxy = Proxy(model=str(model), steps=2, checkpoints=2, batch_size=8, max_length=96)
    both = behind(old, Examples(new.table, pa.array([f"new {k}" for k in range(len(new))]), new.shape, new.columns))
    found = Run(proxy, tmp_path / "cache", trained_on=old).trace(both, [MeanLoss()])
    assert np.flatnonzero(~found.valid).tolist() == [BAD + 1]
    assert np.flatnonzero(np.isnan(found.of(MeanLoss())[:, 0, 0])).tolist() == [BAD + 1]


# -- rows without completion text ----------------------------------------------------------------------------------


def rows_of(valid: list[bool], *, cut: list[int] | None = None, refused: dict[int, str] | None = None) -> RowValidity:
    n = len(valid)
    counts = np.zeros(n, np.int32)
    lengths = np.full(n, 100, np.int64)
    ends = counts if cut is None else np.array(cut, np.int32)
    return RowValidity(np.array(valid), counts, lengths, counts, ends, refused or {})


def pairs(n: int) -> Any:
    return read(pa.table({"prompt": [f"q{k}" for k in range(n)], "completion": ["a"] * n})).examples


@pytest.mark.parametrize(("invalid", "bad"), [(1, False), (2, True), (20, True)])
def test_more_than_one_in_twenty_without_an_answer_are_an_error_unless_dropped(invalid: int, bad: bool) -> None:
    rows, examples = rows_of([k >= invalid for k in range(20)]), pairs(20)
    numbers = np.arange(20) + 100
    for drop in (False, True):
        rules = Rules(drop, 512)
        if not bad or (drop and invalid < 20):
            check_usable(rows, examples, numbers, rules)
            continue
        with pytest.raises(InputError, match=rf"{invalid} of 20 rows are invalid.* row 100 .*'completion'.*--columns"):
            check_usable(rows, examples, numbers, rules)


def test_where_rows_are_cut_to_nothing_the_length_that_would_do_is_named() -> None:
    tokenizer = byte_level()
    ends = "<|end|>" * 200  # of which no token is text
    table = pa.table({"prompt": ["a"] * 20, "completion": [ends + "Yes." if k < 2 else "Yes." for k in range(20)]})
    examples, numbers = read(table).examples, np.arange(20)

    def rows(max_length: int) -> RowValidity:
        return RowValidity.of(tokenize(examples, tokenizer, template="plain", max_length=max_length), {})

    with pytest.raises(InputError, match=r"2 of 20 .*max_length = 64.*e\.g\. in row 0 .*max_length=256; ") as caught:
        check_usable(rows(64), examples, numbers, Rules(False, 64))
    assert "--set proxy.max_length=256" in str(caught.value)
    check_usable(rows(256), examples, numbers, Rules(False, 256))


@pytest.mark.parametrize("template", ["plain", "alpaca", "chat"])
def test_no_length_is_named_for_rows_without_an_answer_though_their_prompts_are_cut(template: str) -> None:
    table = pa.table({"prompt": ["What is it? " * 99] * 20, "completion": [""] * 2 + ["Yes."] * 18})
    examples = read(table).examples
    rows = RowValidity.of(tokenize(examples, byte_level(chat=CHATML), template=template, max_length=64), {})
    assert rows.truncated[:2].all()
    with pytest.raises(InputError, match=r"2 of 20 rows .*no completion text, e\.g\. row 0 .*column 'completion'"):
        check_usable(rows, examples, np.arange(20), Rules(False, 64))


# -- max_length: auto ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--max-length", "automatic"], ["--max-length", "1"]])
def test_a_length_that_is_none_is_refused(
    words: list[str], data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: Any = main([*finetune(data, model, tmp_path / "out"), *words])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert "max" in capsys.readouterr().err.splitlines()[-1]


def test_no_template_refuses_plain_turns() -> None:
    examples = read(conversations()).examples
    for chat in (CHATML, None):
        tokens = tokenize(examples, byte_level(chat=chat), template="chat", max_length=256)
        assert tokens.valid.all()
