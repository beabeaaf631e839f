"""`curate push`: what is refused before anything is sent."""

import json
from pathlib import Path

import pytest

from curate.cli.main import main


def _result(folder: Path) -> Path:
    rows = [{"prompt": f"{i}?", "completion": "x" * (i % 5 + 1)} for i in range(20)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "recipe.yaml").write_text("scorer: {use: Length}\nclusterer: {use: KMeans}\n")
    done = main(
        ["run", str(folder / "rows.jsonl"), "--recipe", str(folder / "recipe.yaml"), "--out", str(folder / "result")]
    )
    assert done == 0
    return folder / "result"


def test_only_a_whole_result_is_pushed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = _result(tmp_path)

    def refused(status: int, words: str, folder: Path = result, name: str = "org/name") -> None:
        assert main(["push", str(folder), name, "--json"]) == status
        assert words in json.loads(capsys.readouterr().out)["error"]

    capsys.readouterr()
    refused(2, "write ORG/NAME", name="name")
    refused(2, "holds no finished run", folder=tmp_path)
    refused(3, "HF_HUB_OFFLINE is set")
    (result / "data" / "train-00000-of-00001.parquet").write_bytes(b"")
    refused(2, "was changed after it was written")
