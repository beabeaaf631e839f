"""Results behind a URL: written as a folder is, whole or unfinished, and killed anywhere in between."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from curate.cli.main import main
from curate.data.readers import read
from curate.errors import ExternalError, InputError
from curate.finetuning.data import curated_reading
from curate.storage.destination import Destination, check_result_place
from curate.storage.remote import Remote, remote
from tests import ROOT
from tests.fixtures.s3 import BUCKET, s3_server

RECIPE = "scorer: {use: Length}\nclusterer: {use: KMeans}\naugmenters: [{use: Duplicate}]\n"
KILLED = """
import os, signal, sys
import pytest
from curate.cli.main import main
from curate.data.readers import read
from tests.storage.test_destination import dying

with dying(pytest.MonkeyPatch(), int(sys.argv[1]), lambda: os.kill(os.getpid(), signal.SIGKILL)):
    main(sys.argv[2:])
"""


class Killed(BaseException):
    """In place of a signal: nothing of ours catches it."""


@contextmanager
def dying(patch: pytest.MonkeyPatch, number: int, die: Callable[[], object]) -> Iterator[None]:
    """Die before the call of `Remote` with this number, of those that change something."""
    left = iter(range(number - 1, -1, -1))

    def counted(name: str) -> None:
        real = getattr(Remote, name)

        def call(self: Remote, *arguments: Any) -> Any:
            if next(left, None) == 0:
                die()
            return real(self, *arguments)

        patch.setattr(Remote, name, call)

    with patch.context() as patch:
        for name in ("write", "copy", "remove"):
            counted(name)
        yield


def _raise() -> None:
    raise Killed


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with s3_server():
        yield


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    rows = [{"prompt": f"What is {i} + {i}?", "completion": "well, " * (i % 5) + str(2 * i)} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return ["run", str(tmp_path / "rows.jsonl"), "--recipe", str(tmp_path / "recipe.yaml"), "--out"]


def _contents(url: str) -> dict[str, bytes | None]:
    place = remote(url)
    return {item.name: place.join(item.name).read() for item in place.items()}


def test_what_is_at_the_url_is_what_the_folder_would_hold(words: list[str], tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/result"
    assert main([*words, url]) == 0
    assert main([*words, str(tmp_path / "result")]) == 0
    found = _contents(url)
    files = {
        path.relative_to(tmp_path / "result").as_posix(): path.read_bytes()
        for path in (tmp_path / "result").rglob("*")
        if path.is_file()
    }
    assert sorted(found) == sorted(files)
    for name in files:
        if name not in ("report.html", "run.json"):  # which say when they were made
            assert found[name] == files[name].replace(f"{tmp_path}/".encode(), b"")  # no folder of this machine
        assert str(tmp_path).encode() not in (found[name] or b"")
    assert os.listdir(Path(os.environ["CURATE_CACHE"]) / "uploads") == []


def test_an_existing_result_is_treated_as_a_folder_is(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    url = f"s3://{BUCKET}/again"
    assert main([*words, url]) == 0
    before = _contents(url)
    assert main([*words, url]) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert _contents(url) == before
    assert main([*words, url, "--seed", "5"]) == 2
    assert f"--out {url} holds the result of other inputs" in capsys.readouterr().err
    remote(url).join("tables", "old.parquet").write(b"of an earlier version")
    assert main([*words, url, "--seed", "5", "--fresh"]) == 0
    assert sorted(_contents(url)) == sorted(before)
    remote(url).join("tables", "plan.parquet").remove()
    assert main([*words, url, "--seed", "5"]) == 2
    assert "plan.parquet is missing; pass --fresh" in capsys.readouterr().err


def test_a_folder_of_somebody_else_is_not_touched(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("notes.txt", "README.md"):
        url = f"s3://{BUCKET}/foreign-{name}"
        remote(url).join(name).write(b"mine")
        assert main([*words, url, "--fresh"]) == 2
        assert f"holds other files ({name})" in capsys.readouterr().err
        assert _contents(url) == {name: b"mine"}


# The 1st write marks the folder, the next 6 put data; then 6 copies, the card, run.json, and 7 removals.
@pytest.mark.parametrize("kill", [1, 4, 9, 14, 15, 18])
def test_an_upload_that_was_killed_is_finished_by_the_same_command(
    kill: int, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{BUCKET}/killed-{kill}"
    if kill == 4:
        command = [sys.executable, "-c", KILLED, str(kill), *words, url]
        died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert died.returncode == -signal.SIGKILL, died.stderr
    else:
        with dying(monkeypatch, kill, _raise), pytest.raises(Killed):
            main([*words, url])
    left = _contents(url)
    assert ("run.json" in left) == (kill > 15)
    puts: list[str] = []
    real = Remote.write
    monkeypatch.setattr(Remote, "write", lambda self, content: (puts.append(str(self)), real(self, content))[1])
    assert main([*words, url]) == 0
    found = _contents(url)
    assert "run.json" in found
    assert not [name for name in found if name.startswith(".pending")]
    if kill > 1:
        again = {name for name in left if name.startswith(".pending/") and not name.endswith("upload")}
        assert not [put for put in puts if put.removeprefix(f"{url}/") in again], "what was put was put again"
    record = json.loads(found["run.json"] or b"")
    assert record["files"].keys() <= found.keys()


def test_what_cannot_be_written_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for url, words in {
        "https://host/x": "only read",
        "s3://no-such-bucket/x": "does not exist",
        "hf://org/name": "write hf://datasets/ORG/NAME",
        "gs://bucket/x": "pip install gcsfs",
    }.items():
        with pytest.raises(InputError, match=words):
            check_result_place(url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ExternalError, match="HF_HUB_OFFLINE is set"):
        check_result_place("hf://datasets/org/name")
    with pytest.raises(InputError, match=r"no finished run"):
        Destination.of(f"s3://{BUCKET}/nothing").record()


def test_a_result_at_a_url_is_fine_tuned_on_by_the_columns_it_was_curated_with(
    words: list[str], tmp_path: Path
) -> None:
    for place in (f"s3://{BUCKET}/tuned", str(tmp_path / "tuned")):
        assert main([*words, place, "--columns", "prompt=completion,completion=prompt"]) == 0
    options, record = curated_reading(f"s3://{BUCKET}/tuned", {})
    here, _ = curated_reading(str(tmp_path / "tuned"), {})
    assert (
        options == here == {"columns": {"prompt": "completion", "completion": "prompt"}, "shape": "prompt_completion"}
    )
    assert record["counts"]["output"] == len(read(f"s3://{BUCKET}/tuned", allow_curated=True, **options).examples)
    assert curated_reading(f"s3://{BUCKET}/nothing", {}) == ({}, {})
