"""`curate finetune --reweighter`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import curate.cli.main
from tests.fixtures.finetuning import write_topics


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_topics(folder)
    return folder


def test_the_command_takes_a_reweighter_by_name_or_whole(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["finetune", str(inputs / "rows.parquet"), "--model", str(inputs / "model"), "--steps", "2", "--json"]
    usual += ["--batch-size", "8", "--max-length", "64"]

    def called(*more: str) -> tuple[int, dict[str, Any]]:
        status = curate.cli.main.main([*usual, "--out", str(tmp_path / f"run{len(list(tmp_path.iterdir()))}"), *more])
        return status, json.loads(capsys.readouterr().out)

    status, record = called("--reweighter", "dynamicloss", "--set", "reweighter.r=0.5")
    assert status == 0
    assert record["settings"]["reweighter"]["r"] == 0.5
    status, record = called("--reweighter", f"{{use: ADAPT, anchors: {inputs / 'target.parquet'}, similarity: bm25}}")
    assert (status, record["settings"]["reweighter"]["similarity"]) == (0, "bm25")
    for wrong, message in (
        (["--reweighter", "drift"], "there is no reweighter 'drift'"),
        (["--reweighter", "{r: 2}"], "name the component"),
        (["--reweighter", "dga"], "target"),
        (["--reweighter", "givenweights"], "reads column 'weight', which the data does not have"),
    ):
        status, found = called(*wrong)
        assert status == 2
        assert message in found["error"]["message"] if isinstance(found["error"], dict) else message in found["error"]
