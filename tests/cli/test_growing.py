"""`curate score --like` and `curate run --reuse`: only rows that came later cost anything."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate import training
from curate.cli.main import main
from curate.difficulty.score_files import read_scores

PROXY = ["--proxy", "scratch", "--set", "proxy.steps=6", "--set", "proxy.checkpoints=2", "--set", "proxy.batch_size=8"]

pytestmark = pytest.mark.usefixtures("tiny_scratch")


def _rows(count: int, seed: int) -> list[dict[str, str]]:
    drawn = random.Random(seed)
    rows = []
    for k in range(count):
        a, b = drawn.randrange(1000), drawn.randrange(1000)
        long = f"{a} and {b} make {a + b}, as anybody can see who adds."
        rows.append({"prompt": f"What is {a} plus {b}?", "completion": long if k % 3 else f"It is {a + b}."})
    return rows


def _write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run over 90 rows."""
    old = _write(tmp_path / "old.jsonl", _rows(90, 0))
    assert main(["run", old, *PROXY, "--out", str(tmp_path / "kept")]) == 0
    return tmp_path / "kept"


def _told(capsys: pytest.CaptureFixture[str], words: list[str], status: int = 0) -> dict:
    capsys.readouterr()
    assert main([*words, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_new_rows_alone_are_measured_and_assigned(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trains(*_: object, **__: object) -> None:
        raise AssertionError("something is trained")

    monkeypatch.setattr(training, "train", trains)
    like = ["--like", str(finished), "--out"]
    new = _write(tmp_path / "new.jsonl", _rows(12, 1))
    grown = _write(tmp_path / "grown.jsonl", _rows(90, 0) + _rows(12, 1))
    (tmp_path / "old.jsonl").unlink()  # it has grown, under another name
    alone, both = tmp_path / "alone.parquet", tmp_path / "both.parquet"
    told = _told(capsys, ["score", new, *like, str(alone)])
    assert (told["known"], told["new"], told["drift"]["warning"]) == (0, 12, False)
    told = _told(capsys, ["score", grown, *like, str(both)])
    assert (told["known"], told["new"]) == (90, 12)
    scores, kept = read_scores(both), read_scores(finished / "tables" / "scores.parquet")
    assert np.array_equal(scores.difficulty[:90], kept.difficulty)
    assert np.array_equal(scores.difficulty[90:], read_scores(alone).difficulty)
    assert scores.trajectory is not None
    assert scores.trajectory.shape == (102, 2)
    table, split = pq.read_table(both), pq.read_table(finished / "tables" / "split.parquet")
    assert table["hard"].to_pylist()[:90] == split["hard"].to_pylist()
    # Two clusters in one dimension, each row in that of the nearest mean.
    features, cluster = scores.features, table["cluster"].to_numpy()
    means = np.stack([features[:90][cluster[:90] == k].mean(axis=0) for k in (0, 1)])
    nearest = np.linalg.norm(features[90:, None] - means, axis=2).argmin(axis=1)
    assert np.array_equal(cluster[90:], nearest)


def test_a_run_over_old_and_new_data_says_how_many_rows_changed_sides(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = _write(tmp_path / "new.jsonl", _rows(12, 1))
    words = ["run", str(tmp_path / "old.jsonl"), new, "--reuse", str(finished), "--out", str(tmp_path / "both")]
    told = _told(capsys, words)
    assert (told["known"], told["new"], told["counts"]["input"]) == (90, 12, 102)
    before = pq.read_table(finished / "tables" / "split.parquet").to_pydict()
    after = pq.read_table(tmp_path / "both" / "tables" / "split.parquet").to_pydict()
    sides = dict(zip(after["example_id"], after["hard"], strict=True))
    changed = [sides[each] != hard for each, hard in zip(before["example_id"], before["hard"], strict=True)]
    assert told["changed_sides"] == sum(changed) == told["became_hard"] + told["became_easy"]
    assert "changed sides" not in json.dumps(_told(capsys, words))  # it is there already
    error = _told(capsys, ["run", str(tmp_path / "old.jsonl"), new, "--out", str(tmp_path / "c")], 2)["error"]
    assert "--reuse DIR" in error


def test_rows_of_another_kind_are_a_warning(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = _write(tmp_path / "odd.jsonl", [{"prompt": "x", "completion": f"{k} qzx" * 5} for k in range(40)])
    out = str(tmp_path / "odd.parquet")
    assert main(["score", odd, "--like", str(finished), "--out", out]) == 0
    assert "the new rows differ from the rows before (Kolmogorov-Smirnov" in capsys.readouterr().err


def test_what_cannot_be_scored_like_a_run_is_refused_in_one_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = _write(tmp_path / "new.jsonl", _rows(6, 1))
    words = ["score", new, "--like", str(finished), "--out", str(tmp_path / "s.parquet")]
    for option in (["--seed", "3"], ["--proxy", "scratch"], ["--recipe", "reference"]):
        assert f"leave out {option[0]}" in _told(capsys, [*words, *option], 2)["error"]
    other = _write(tmp_path / "other.jsonl", [{"question": "a", "answer": "b"}])
    assert "prompt" in _told(capsys, ["score", other, *words[2:]], 2)["error"]
    cache = tmp_path / "cache"
    error = _told(capsys, [*words, "--cache", str(cache)], 2)["error"]
    assert f"no longer in the cache {cache}; name the cache that has them with --cache" in error
    split = finished / "tables" / "split.parquet"
    split.write_bytes(b"")
    assert "was changed after it was written" in _told(capsys, words, 2)["error"]
    shutil.rmtree(finished)
    assert "no finished run" in _told(capsys, words, 2)["error"]


def _kinds(k: int) -> dict[str, dict]:
    asked, said = {"role": "user", "content": f"q{k}"}, {"role": "assistant", "content": "a" * (k % 7 + 1)}
    function = {"name": "f", "arguments": {"a": k} if k % 2 else {"b": k}}
    call = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}
    return {
        "pairs": {"chosen": [asked, said], "rejected": [asked, {**said, "content": "b"}]},
        "ids and a taken name": {"messages": [asked, said], "difficulty": "x", "id": str(k)},
        "texts in turn": {"conversations": [f"q{k}", "a" * (k % 7 + 1)]},
        "tools": {"messages": [asked, call], "tools": [{"type": "function", "function": {"name": "f"}}]},
    }


@pytest.mark.parametrize("kind", _kinds(0))
def test_rows_of_every_kind_are_known_again(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.yaml").write_text("scorer: {use: Length}\nclusterer: {use: KMeans}\n")
    old = _write(tmp_path / "old.jsonl", [_kinds(k)[kind] for k in range(20)])
    new = _write(tmp_path / "new.jsonl", [_kinds(k)[kind] for k in range(20, 27)])
    kept = str(tmp_path / "kept")
    assert main(["run", old, "--recipe", str(tmp_path / "recipe.yaml"), "--out", kept]) == 0
    (tmp_path / "old.jsonl").rename(tmp_path / "moved.jsonl")
    told = _told(capsys, ["score", new, "--like", kept, "--out", str(tmp_path / "s.parquet")])
    assert (told["known"], told["new"], told["valid"]) == (0, 7, 7)
    words = ["run", str(tmp_path / "moved.jsonl"), new, "--reuse", kept, "--out", str(tmp_path / "both")]
    told = _told(capsys, words)
    assert (told["known"], told["new"], told["changed_sides"]) == (20, 7, 0)


def _ids_and_calls(k: int, called: bool) -> dict:
    row = _kinds(k)
    return {"id": str(k), "messages": row["tools" if called else "ids and a taken name"]["messages"]}


def test_rows_that_changed_under_their_ids_or_are_plainer_than_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text("scorer: {use: Length}\nclusterer: {use: KMeans}\n")
    old = _write(tmp_path / "old.jsonl", [_ids_and_calls(k, k % 2 == 0) for k in range(20)])
    kept = str(tmp_path / "kept")
    assert main(["run", old, "--recipe", str(tmp_path / "recipe.yaml"), "--out", kept]) == 0
    words = ["--like", kept, "--out", str(tmp_path / "s.parquet")]
    changed = _write(tmp_path / "changed.jsonl", [{**_ids_and_calls(9, True), "id": "1"}, _ids_and_calls(2, True)])
    error = _told(capsys, ["score", changed, *words], 2)["error"]
    assert "1 rows have an id" in error
    assert "the first '1'; give changed rows new ids" in error
    told = _told(capsys, ["score", changed, *words, "--columns", "id="])
    assert (told["known"], told["new"]) == (0, 2)
    plain = _write(tmp_path / "plain.jsonl", [_ids_and_calls(k, False) for k in range(20, 24)])
    told = _told(capsys, ["score", plain, "--like", kept, "--out", str(tmp_path / "plain.parquet")])
    assert (told["known"], told["new"], told["valid"]) == (0, 4, 4)
    told = _told(capsys, ["run", old, plain, "--reuse", kept, "--out", str(tmp_path / "both")])
    assert (told["known"], told["new"]) == (20, 4)
