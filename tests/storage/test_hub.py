"""The Hugging Face hub: results pushed and written there, datasets read from there, against a stand-in on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curate.errors import InputError
from curate.storage.hub import is_repository, repository
from curate.storage.remote import remote
from tests import ROOT
from tests.fixtures.hub import TOKEN, stand_in_hub

RECIPE = "scorer: {use: Length}\nclusterer: {use: KMeans}\naugmenters: [{use: Duplicate}]\n"
# In a process of its own: huggingface_hub asks the environment where the hub is when it is imported.
COMMANDS = """
import contextlib, io, json, os, sys
from curate.cli.main import main

told = []
for words in json.loads(sys.argv[1]):
    if words[0] == "token":
        os.environ["HF_TOKEN"] = words[1]
        continue
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        status = main(words)
    told.append([status, said.getvalue()])
import datasets
rows = datasets.load_dataset("me/run", split="train")
print(json.dumps([told, rows.num_rows]))
"""


def _told(commands: list[list[str]], environment: dict[str, str]) -> Any:
    words = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
    done = subprocess.run(
        words, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_results_go_there_and_data_comes_from_there(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    rows = [{"prompt": f"What is {i} + {i}?", "completion": "well, " * (i % 5) + str(2 * i)} for i in range(40)]
    text = "\n".join(map(json.dumps, rows))
    (tmp_path / "rows.jsonl").write_text(text)
    recipe, result = ["--recipe", str(tmp_path / "recipe.yaml"), "--out"], str(tmp_path / "result")
    with stand_in_hub() as hub:
        card = b"---\nlicense: mit\n---\n"
        hub.repositories["some/data"] = {"train.jsonl": text.encode(), "test.jsonl": b"{}", "README.md": card}
        hub.repositories["me/open"] = {".gitattributes": b""}
        told, loaded = _told(
            [
                ["run", "hf://datasets/some/data", *recipe, result],
                ["push", result, "me/pushed"],
                ["push", result, "me/pushed"],
                ["run", str(tmp_path / "rows.jsonl"), *recipe, "hf://datasets/me/run"],
                ["run", str(tmp_path / "rows.jsonl"), *recipe, "hf://datasets/me/run"],
                ["run", str(tmp_path / "rows.jsonl"), *recipe, "hf://datasets/me/pushed", "--seed", "3"],
                ["push", result, "some/data"],
                ["push", result, "me/open", "--public"],
                ["token", "hf_of-somebody-else"],
                ["push", result, "me/other"],
                ["token", TOKEN],
            ],
            hub.environment(tmp_path / "home"),
        )
    assert [status for status, _ in told] == [0, 0, 0, 0, 0, 2, 2, 0, 3], told
    lines = [said for _, said in told]
    assert "split train of train, test" in lines[0]
    assert "already holds this result" in lines[2]
    assert "nothing to do" in lines[4]
    assert "holds the result of other inputs" in lines[5]
    assert "hf://datasets/some/data holds other files (test.jsonl)" in lines[6]
    assert "set HF_TOKEN to one with write access" in lines[8]
    assert TOKEN not in json.dumps(told)
    assert hub.private == {"me/pushed", "me/run"}
    assert hub.commits == ["me/pushed", "me/run", "me/open"], "one commit each"
    files = {p.relative_to(result).as_posix(): p.read_bytes() for p in Path(result).rglob("*") if p.is_file()}
    assert {k: v for k, v in hub.repositories["me/pushed"].items() if k != ".gitattributes"} == files
    assert b"license: mit" in files["README.md"]
    assert not any(TOKEN.encode() in content for content in files.values())
    assert loaded == json.loads(hub.repositories["me/run"]["run.json"])["counts"]["output"]


def test_only_a_whole_dataset_repository_is_a_place_for_results() -> None:
    assert repository(remote("hf://datasets/org/name/")) == "org/name"
    for url in ("hf://datasets/org/name/folder", "hf://org/name", "hf://datasets/org/name@branch"):
        with pytest.raises(InputError, match="write hf://datasets/ORG/NAME"):
            repository(remote(url))
    assert is_repository("org/name")
    assert not any(map(is_repository, ["name", "org/name/more", "org/-", "/name"]))
