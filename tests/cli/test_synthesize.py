"""`curate synthesize` against a server: what a person sees, and what happens when something goes wrong."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.main import main
from tests.fixtures.server import FakeServer, Fault, asked

KEY = "sk-never-to-be-seen-1234567890"
PLACES = ["harbour", "library", "market", "museum", "station", "bakery", "garden"]


def rows(path: Path, n: int = 40) -> Path:
    seed = random.Random(0)
    pairs = [(seed.randrange(10**5), seed.randrange(10**5)) if k % 2 else (seed.randrange(9), 3) for k in range(n)]
    table = {
        "question": [
            f"Ann number {k} has {a} coins and gets {b} more of them. How many?" for k, (a, b) in enumerate(pairs)
        ],
        "answer": [f"She has {a} and {b}, and {a} + {b} = {a + b}.\n#### {a + b}" for a, b in pairs],
    }
    pq.write_table(pa.table(table), path)
    return path


def answer(body: dict[str, Any]) -> str:
    """A model that follows the format and solves about half of what it wrote."""
    text, chance = asked(body), random.Random(body["seed"])
    if "<solution>" in text:
        a, b = re.findall(r"(\d+) \+ (\d+)", text)[0]
        place = chance.choice(PLACES)
        return (
            f"```text\nAt the {place} numbered {chance.randrange(1000)} {a} visitors come before noon, and in the "
            f"afternoon there are {b} of them. What is the total over the whole day at that {place}?\n```"
        )
    a, b = re.findall(r"(\d+) visitors.* (\d+) of them", text)[0]
    return f"We add {a} and {b}. So \\boxed{{{int(a) + int(b) + chance.randrange(2)}}}."


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows, and beside them a cache with their proxy; nothing has been generated yet."""
    folder = tmp_path_factory.mktemp("scored")
    words = arguments(rows(folder / "data.parquet"), "http://127.0.0.1:9")
    words[words.index("--out") + 1] = str(folder / "scores.parquet")
    assert main(["score", *words[1 : words.index("--generator")]]) == 0
    return folder


@pytest.fixture
def data(scored: Path, tmp_path: Path) -> Path:
    shutil.copytree(scored, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data.parquet"


@pytest.fixture
def fresh(scored: Path, tmp_path: Path) -> Path:
    """The rows without anything beside them."""
    return Path(shutil.copy(scored / "data.parquet", tmp_path))


def arguments(data: Path, url: str, *more: str, out: str = "out") -> list[str]:
    """The command on a small proxy; `--set` keeps it quick."""
    settings = ["proxy.steps=8", "proxy.checkpoints=2", "proxy.batch_size=8"]
    return [
        *("synthesize", str(data), "--out", str(data.parent / out), "--cache", str(data.parent / "cache")),
        *("--columns", "prompt=question,completion=answer", "--proxy", "scratch"),
        *(word for setting in settings for word in ("--set", setting)),
        *("--generator", "fake-model", "--url", url),
        *more,
    ]


def test_new_problems_and_nothing_else(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from datasets import load_dataset

    with FakeServer(answer) as server:
        assert main(arguments(data, server.url)) == 0
    said = capsys.readouterr()
    assert re.search(r"new problems: \d+ of \d+ proposals kept", said.out)
    assert "hard again" in said.out
    folder = data.parent / "out"
    made = load_dataset(str(folder), cache_dir=str(data.parent / "hub"))["train"]
    assert set(made["origin"]) == {"synthetic"}
    assert {"question", "answer", "generator", "request", "pass_count", "verified", "rescored_hard"} <= set(
        made.column_names
    )
    assert set(server.answered.values()) == {1}
    record = json.loads((folder / "run.json").read_text())["synthesis"][0]
    assert record["requests"]["made"] == server.answered.total()


def test_the_same_command_again_has_nothing_to_do_and_more_pays_the_difference(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(answer) as server:
        assert main(arguments(data, server.url)) == 0
        first = server.answered.total()
        assert main(arguments(data, server.url)) == 0
        assert "nothing to do" in capsys.readouterr().err
        assert main(arguments(data, server.url, "--variants", "3", out="more")) == 0
        assert main(arguments(data, server.url, "--variants", "3", "--fresh", out="more")) == 0
    assert set(server.answered.values()) == {1}
    assert server.answered.total() > first


def test_a_server_with_a_temperature_of_its_own_is_in_the_record(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "Unsupported value: 'temperature' does not support 0.7. Only the default (1) value is supported."
    with FakeServer(answer, lambda body, _: Fault("status", 400, message) if "temperature" in body else None) as server:
        more = ("--set", "augmenters.0.solution_sampling.temperature=0.7")
        assert main(arguments(data, server.url, *more)) == 0
    assert f"does not take temperature ({message}); asking without" in capsys.readouterr().err
    record = json.loads((data.parent / "out" / "run.json").read_text())
    assert set(record["synthesis"][0]["refused_parameters"]) == {"temperature=0.7", "temperature=1"}
    (warning,) = [each for each in record["warnings"] if each["code"] == "sampling_refused"]
    assert "drawn by its own values" in warning["message"]


def test_a_budget_stops_it_cleanly(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(answer) as server:
        assert main(arguments(data, server.url, "--budget", "3000")) == 0
    said = capsys.readouterr().out
    assert "a larger --budget resumes from here" in said
    record = json.loads((data.parent / "out" / "run.json").read_text())["synthesis"][0]
    assert record["tokens"]["generated"] <= 3000
    assert record["outcomes"]["budget reached"] > 0


def test_plan_tells_requests_and_tokens_and_asks_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(answer) as server:
        known = arguments(data, server.url)
        planned = ["plan", *known[1:], "--recipe", "synthesize", "--json"]
        capsys.readouterr()
        assert main(planned) == 0
        before = json.loads(capsys.readouterr().out)
        assert server.requests == []
        assert main(known) == 0
        made = server.answered.total()
        capsys.readouterr()
        assert main([word for word in planned if word not in ("--out", str(data.parent / "out"))]) == 0
        after = json.loads(capsys.readouterr().out)
    (stage,) = [stage for stage in before["stages"] if stage["stage"] == "synthesize"]
    most = int(re.search(r"at most ([\d,]+) requests", stage["work"])[1].replace(",", ""))  # type: ignore[index]
    assert made <= most
    assert stage["tokens"] > 0
    (stage,) = [stage for stage in after["stages"] if stage["stage"] == "synthesize"]
    assert "at most 0 requests" in stage["work"]
    assert stage["cached"] == f"{made} requests"


def test_a_preview_shows_parents_and_proposals_and_is_paid_for_once(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(answer) as server:
        words = arguments(data, server.url, "--preview", "5")
        at = words.index("--out")
        assert main([*words[:at], *words[at + 2 :], "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        asked_for = server.answered.total()
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert server.answered.total() == asked_for  # the same proposals, from the store
        assert not (data.parent / "out").exists()
        assert main(arguments(data, server.url)) == 0
    assert set(server.answered.values()) == {1}
    record = json.loads((data.parent / "out" / "run.json").read_text())["synthesis"][0]
    assert record["requests"]["from the store"] == asked_for
    proposals = result["proposals"]
    assert len(proposals) == 6  # whole rows, of two variants each
    assert all("Ann number" in each["parent_problem"] and each["outcome"] for each in proposals)
    assert sum(each["requests"] for each in result["synthesis"]["yield"]["cost"].values()) == asked_for
    for line in ("Proposals beside their parents", "per 1,000 generated tokens", "the whole run is"):
        assert line in shown


def test_a_key_is_never_written_or_shown(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FakeServer(answer, key=KEY) as server:
        assert main(arguments(data, server.url)) == 0
        monkeypatch.setenv("OPENAI_API_KEY", KEY + "x")
        assert main(arguments(data, server.url, "--variants", "3", out="other")) == 2
    said = capsys.readouterr()
    assert KEY not in said.out + said.err
    for path in data.parent.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--url", "http://example.org:8000"], "https"),
        (["--vllm", "vllm"], "give one of them"),
        (["--band", "five"], "LOW-HIGH"),
        (["--band", "0-5"], "band 0..5"),
        (["--parents", "9-9"], "parents 9..9"),
        (["--checks", "grounded,nonsense"], "name some of answer_hidden"),
        (["--second-route", "program"], "second_route: program runs programs"),
        (["--preview", "0"], "--preview 0 shows nothing"),
        (["--recipe", "quick"], "is for recipes with Synthesize"),
        (["--evaluation", "nowhere.parquet"], "nowhere.parquet"),
    ],
)
def test_mistakes_end_before_anything_is_trained(
    fresh: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert main(arguments(fresh, "http://127.0.0.1:9", *more)) == 2
    said = capsys.readouterr().err
    assert message in said.splitlines()[-1]
    assert not (fresh.parent / "cache" / "proxies").exists()


def test_a_server_of_another_model_is_an_error_before_anything_is_trained(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(answer, model="another") as server:
        assert main(arguments(fresh, server.url)) == 2
    assert not (fresh.parent / "cache" / "proxies").exists()
    last = capsys.readouterr().err.splitlines()[-1]
    assert "another" in last
    assert "fake-model" in last


def test_a_model_that_never_follows_the_format_is_told_of(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(lambda body: "the and of a in to") as server:
        assert main(arguments(data, server.url)) == 0
    said = capsys.readouterr()
    assert "no problem in the proposal" in said.out
    assert "nstruct" in said.out  # instruction-tuned, as the remedy says
    record = json.loads((data.parent / "out" / "run.json").read_text())
    assert [warning["code"] for warning in record["warnings"]].count("proposals_without_problem") == 1
    assert record["counts"]["output"] == 0


def test_killed_in_the_middle_it_resumes_without_paying_twice(data: Path) -> None:
    """kill -9 of the command, and of the server, then the same command on the same server's port."""
    with FakeServer(answer, delay=0.02, most=4) as server:
        command = [sys.executable, "-m", "curate", *arguments(data, server.url)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            deadline = time.monotonic() + 120
            while server.answered.total() < 25 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            assert process.poll() is None, "it was over before it could be killed"
            process.send_signal(signal.SIGKILL)
        paid = server.answered.total()
        server.stop()
        server.start()
        assert main(arguments(data, server.url)) == 0
        again = {key: count for key, count in server.answered.items() if count > 1}
    # What was under way when it was killed is asked again: never more than was in flight.
    assert len(again) <= 8
    record = json.loads((data.parent / "out" / "run.json").read_text())["synthesis"][0]
    assert record["requests"]["from the store"] >= paid - 8
    with FakeServer(answer) as server:
        shutil.rmtree(data.parent / "cache" / "requests")
        assert main(arguments(data, server.url, out="whole")) == 0
    for name in ("data", "tables"):
        for path in (data.parent / "whole" / name).iterdir():
            if path.stem not in ("rejected", "synthesis"):  # they name the requests' keys, not the url; all else too
                assert path.read_bytes() == (data.parent / "out" / name / path.name).read_bytes(), path.name


def test_faults_of_the_server_change_nothing(data: Path) -> None:
    kinds = [
        Fault("status", 429, headers={"Retry-After": "0"}),
        Fault("status", 500),
        Fault("drop"),
        Fault("truncate"),
        Fault("close_midway"),
    ]

    def faults(body: dict[str, Any], attempt: int) -> Fault | None:
        chance = random.Random(f"{body['seed']}")
        return chance.choice(kinds) if attempt == 0 and chance.random() < 0.3 else None

    with FakeServer(answer, faults) as server:
        assert main(arguments(data, server.url)) == 0
    shutil.rmtree(data.parent / "cache" / "requests")
    with FakeServer(answer) as sound:
        assert main(arguments(data, sound.url, out="sound")) == 0
    (part,) = (data.parent / "out" / "data").iterdir()
    assert part.read_bytes() == (data.parent / "sound" / "data" / part.name).read_bytes()
