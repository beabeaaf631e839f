"""Rows that are longer than the proxy reads: what is learned of them stays, and what was cut is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.cli.main import main


def call(k: int) -> dict[str, Any]:
    return {"type": "function", "id": f"c{k}", "function": {"name": f"tool_{k % 30}", "arguments": {"n": k}}}


def tool(k: int) -> dict[str, Any]:
    properties = {"n": {"type": "integer", "description": "how many pears there are"}}
    function = {"name": f"tool_{k}", "description": "counts pears", "parameters": {"properties": properties}}
    return {"type": "function", "function": function}


def asked(k: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"How many are {k} pears?"}]


def answered(k: int) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": f"There are {k} pears."}]


def looked(k: int, times: int = 2) -> list[dict[str, Any]]:
    said = {"role": "tool", "tool_call_id": f"c{k}", "content": f"{k} pears " * times}
    return [{"role": "assistant", "content": "", "tool_calls": [call(k)]}, said]


LONG = "there are pears on every shelf " * 150
KINDS: dict[str, Any] = {
    "tools": lambda k: {"messages": [*asked(k), *looked(k), *answered(k)], "tools": [tool(j) for j in range(30)]},
    "turns": lambda k: {"messages": [turn for j in range(20) for turn in asked(k + j) + answered(k + j)]},
    "calls": lambda k: {"messages": [*asked(k), *(turn for j in range(40) for turn in looked(j)), *answered(k)]},
    "results": lambda k: {"messages": [*asked(k), *looked(1, 900), *looked(2, 900), *answered(k)]},
    "system": lambda k: {"messages": [{"role": "system", "content": LONG}, *asked(k), *answered(k)]},
    "context": lambda k: {"context": LONG, "question": f"How many are {k} pears?", "answer": f"There are {k} pears."},
    "pair": lambda k: {"prompt": f"{LONG}{k}", "chosen": f"There are {k} pears.", "rejected": "Nobody knows."},
}


@pytest.mark.parametrize("kind", KINDS)
def test_completions_of_long_rows_are_learned_whole(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [KINDS[kind](k) for k in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["run", str(tmp_path / "rows.jsonl"), "--proxy", "scratch", "--cache", str(tmp_path / "cache")]
    words += ["--set", "proxy.steps=2", "--set", "proxy.checkpoints=2", "--set", "proxy.max_length=160", "--json"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    warnings = {each["code"]: each["message"] for each in json.loads(capsys.readouterr().out)["warnings"]}
    scores = pq.read_table(tmp_path / "out" / "tables" / "scores.parquet")
    assert all(scores["valid"].to_pylist())
    assert all(tokens > 0 for tokens in scores["tokens"].to_pylist())
    assert all(cut > 0 for cut in scores["prompt_cut"].to_pylist())
    assert set(scores["completion_cut"].to_pylist()) == {0}
    assert "12 of 12 rows (100.0%)" in warnings["rows_truncated"]
    assert "12 lost older turns" in warnings["rows_truncated"]
    assert "0 the end of their completion" in warnings["rows_truncated"]
