"""`curate run`, `score` and `plan`: the folder they write, and when there is nothing to do."""

import argparse
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate import Pipeline
from curate.cli.run import previewed
from tests.fixtures.commands import TINY, Call, Finished, _rows, _with, _write, contents
from tests.fixtures.models import tiny_model


def _tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Name -> (size, time of the last change) of every file below."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- run ---------------------------------------------------------------------------------------------------------


def test_run_writes_the_folder_and_one_json_object(finished: Finished, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out"
    done = call("run", finished.data, "--out", out, *finished.arguments, "--json")
    assert done.status == 0
    assert done.json["counts"]["input"] == 40
    assert done.json["done_before"] is False
    names = ["README.md", "data", "dataset_info.json", "report.html", "run.json", "tables"]
    assert sorted(path.name for path in out.iterdir()) == names
    rows = pq.read_table(out / "data")
    assert rows.num_rows == done.json["counts"]["output"] > 40
    assert set(rows.column("prompt").to_pylist()) == {row["prompt"] for row in _rows()}
    # The proxy came from the cache of another run, and the bytes are those of that run.
    assert contents(out) == contents(finished.out)


def test_progress_is_plain_lines_on_stderr(data: Path, tmp_path: Path, scores: Path, call: Call) -> None:
    done = call("run", data, "--out", tmp_path / "out", "--scores", scores)
    assert done.status == 0
    assert any(line.startswith("write: done in") for line in done.err.splitlines())
    assert "shape prompt_completion: prompt=prompt, completion=completion" in done.err
    assert not {"\x1b", "\r"} & set(done.out + done.err)
    assert f"dataset  {tmp_path / 'out' / 'data'}" in done.out


def test_metrics_go_to_trackers_beside_the_result(finished: Finished, tmp_path: Path, call: Call) -> None:
    pytest.importorskip("tensorboard")
    out = tmp_path / "out"
    done = call("run", finished.data, "--out", out, *finished.arguments, "--log", "tensorboard")
    assert done.status == 0
    assert f"metrics go to {tmp_path / 'out-log'}" in done.err
    assert any((tmp_path / "out-log" / "tensorboard").iterdir())
    assert contents(out) == contents(finished.out)
    refused = call("run", tmp_path / "missing.jsonl", "--out", out, "--log", "neptune")
    assert refused.status == 2
    assert "choose from tensorboard, wandb, mlflow" in refused.error


def test_same_inputs_again_have_nothing_to_do(finished: Finished, call: Call) -> None:
    before = _tree(finished.out), _tree(finished.cache)
    again = call("run", finished.data, "--out", finished.out, *finished.arguments, "--json")
    assert again.status == 0
    assert again.json["done_before"] is True
    assert "nothing to do" in again.err
    assert (_tree(finished.out), _tree(finished.cache)) == before


@pytest.mark.parametrize("change", [["--seed", "1"], ["--set", "augmenters.0.times=2"], ["data"]])
def test_other_inputs_need_fresh(change: list[str], data: Path, tmp_path: Path, scores: Path, call: Call) -> None:
    out = tmp_path / "out"
    arguments = ["--out", out, "--scores", scores]
    assert call("run", data, *arguments).status == 0
    before = _tree(out)
    if change == ["data"]:  # a column that no model reads is part of the output too
        _write(data, [{**row, "topic": "c"} for row in _rows()])
        change = []
    refused = call("run", data, *arguments, *change)
    assert refused.status == 2
    assert "other inputs" in refused.error
    assert "--fresh" in refused.error
    assert _tree(out) == before
    assert call("run", data, *arguments, *change, "--fresh").status == 0
    assert call("run", data, *arguments, *change, "--json").json["done_before"] is True


def test_changed_files_of_a_local_proxy_are_other_inputs(
    data: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.curated import inputs_fingerprint
    from curate.data.readers import read
    from curate.pipeline import Pipeline

    model = tmp_path / "model"
    tiny_model("llama").save_pretrained(model)
    pipeline = Pipeline.from_recipe("quick", settings=[f"proxy.model={model}"])
    before = inputs_fingerprint(pipeline, read(data), None)
    with (model / "config.json").open("a") as file:
        file.write(" ")
    assert inputs_fingerprint(pipeline, read(data), None) != before


def test_out_that_is_a_file(data: Path, tmp_path: Path, scores: Path, call: Call) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refused = call("run", data, "--out", out, "--scores", scores)
        assert refused.status == 2
        assert "file" in refused.error
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("names", [["notes.txt"], ["data/train.parquet", "README.md"], ["run.json"]])
def test_out_with_files_of_somebody_else_is_refused(
    names: list[str], data: Path, tmp_path: Path, scores: Path, call: Call
) -> None:
    """Also where they look like ours: many a dataset is a README.md beside a folder `data`."""
    out = tmp_path / "out"
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("{}")
    before = _tree(out)
    for extra in ([], ["--fresh"]):
        refused = call("run", data, "--out", out, "--scores", scores, *extra)
        assert refused.status == 2
        assert str(out) in refused.error
    assert _tree(out) == before


def test_an_unfinished_run_of_ours_goes_on(
    data: Path, tmp_path: Path, scores: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["run", data, "--scores", scores, "--out"]
    with monkeypatch.context() as patch:
        patch.setattr("curate.curated.dataset_card", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert call(*arguments, tmp_path / "out").status == 130
    assert not (tmp_path / "out" / "run.json").exists()
    assert call(*arguments, tmp_path / "out").status == 0
    assert call(*arguments, tmp_path / "whole").status == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


def test_an_empty_out_is_used(data: Path, tmp_path: Path, scores: Path, call: Call) -> None:
    (tmp_path / "out").mkdir()
    assert call("run", data, "--out", tmp_path / "out", "--scores", scores).status == 0


# --- score, plan, inspect, report, doctor --------------------------------------------------------------------------


def test_rows_that_broke_the_training_are_saved(data: Path, tmp_path: Path, call: Call) -> None:
    refused = call(
        "run", data, "--out", tmp_path / "out", *TINY, "--set", "proxy.learning_rate=1e18", "--cache", tmp_path
    )
    (saved,) = tmp_path.rglob("diverged-at-step-*.json")
    assert str(saved) in refused.error
    from curate.data.readers import read

    ids = json.loads(saved.read_text())["example_ids"]
    assert ids
    assert set(ids) <= set(read(data).examples.ids.to_pylist())


def test_default_proxy_without_a_hub(data: Path, tmp_path: Path, call: Call) -> None:
    refused = call("run", data, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    assert refused.status == 3
    assert "--proxy scratch" in refused.error
    assert not (tmp_path / "out").exists()


# --- hostile and outsized rows ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_outsized_rows_are_tolerated_and_counted(tmp_path: Path, call: Call) -> None:
    rows = _with(3, completion="x" * 10_000_000)
    rows[4]["completion"] = "word " * 5_000
    rows[5]["prompt"] = "word " * 5_000  # of which only the end is read
    path = _write(tmp_path / "d.jsonl", rows)
    done = call("run", path, "--out", tmp_path / "out", *TINY, "--cache", tmp_path / "cache", "--json")
    assert done.status == 0
    assert done.json["counts"]["invalid"] == 0
    assert done.json["counts"]["original"] == 40
    scores = pq.read_table(tmp_path / "out" / "tables" / "scores.parquet").to_pylist()
    assert [bool(row["completion_cut"]) for row in scores[3:6]] == [True, True, False]
    assert [bool(row["prompt_cut"]) for row in scores[3:6]] == [False, False, True]
    proxy = json.loads((tmp_path / "out" / "run.json").read_text())["proxy"]
    assert {name: proxy[name] for name in ("max_length", "prompts_cut", "completions_cut")} == {
        "max_length": 48,
        "prompts_cut": 1,
        "completions_cut": 2,
    }
    written = pq.read_table(tmp_path / "out" / "data").to_pylist()
    assert {len(row["completion"]) for row in written} >= {10_000_000, 25_000}
    kept = next(row for row in written if row["prompt"] == rows[5]["prompt"])
    assert kept["difficulty"] is not None
    assert len(call("inspect", tmp_path / "out", "--examples", "40").out) < 100_000


@pytest.mark.parametrize("name", ["run:1", "s3:x", "at-06:47"])
def test_names_with_a_colon_are_names(
    name: str, data: Path, scores: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyarrow would take them for URLs."""
    monkeypatch.chdir(tmp_path)
    done = call("run", data, "--out", name, "--scores", scores)
    assert (done.status, done.err.count("curate: ")) == (0, 0)
    assert call("inspect", name).status == 0
    assert call("report", name).status == 0
    (tmp_path / f"{name}.parquet").write_bytes(scores.read_bytes())
    assert call("run", data, "--out", "other", "--scores", f"{name}.parquet").status == 0


def test_a_clusterer_with_an_infinite_parameter_is_recorded(
    data: Path, scores: Path, tmp_path: Path, call: Call
) -> None:
    clusterer = "clusterer={use: sklearn.cluster.OPTICS, min_samples: 2}"
    done = call("run", data, "--out", tmp_path / "out", "--scores", scores, "--set", clusterer)
    assert done.status == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["recipe"]["clusterer"]["max_eps"] == "Infinity"


def test_a_preview_is_a_short_run_of_its_own_folder(tmp_path: Path, call: Call) -> None:
    data = _write(tmp_path / "data.jsonl", _rows(60))
    arguments = ("run", data, "--out", tmp_path / "out", "--cache", tmp_path / "cache", *TINY)
    done = call(*arguments, "--preview", 20, "--json")
    assert done.status == 0
    assert done.json["directory"] == str(tmp_path / "out-preview")
    assert done.json["counts"]["input"] == 20
    assert (tmp_path / "out-preview" / "report.html").is_file()
    assert not (tmp_path / "out").exists()
    again = call(*arguments, "--preview", 24)  # replaces the last preview
    assert (again.out + again.err).count("24 of 60 rows") == 1
    assert "at least 10" in call(*arguments, "--preview", 3).error


def test_a_preview_shortens_the_proxy_and_the_new_problems_alone() -> None:
    options = argparse.Namespace(preview=200, limit=None, out=Path("out"), fresh=False)
    pipeline = Pipeline.from_recipe("duplicate-and-synthesize", settings=["augmenters.1.generator.model=m"])
    found = previewed(pipeline, options)
    assert (options.limit, options.out, options.fresh) == (200, Path("out-preview"), True)
    assert found.proxy.steps == 10
    assert found.augmenters[0] == pipeline.augmenters[0]
    assert found.augmenters[1].rows == 3
    whole = Pipeline.from_recipe("s2l")  # three epochs, which its scorer counts
    assert previewed(whole, argparse.Namespace(preview=200, limit=50, out=Path("o"), fresh=False)).proxy == whole.proxy


def test_rows_that_a_file_names_are_left_out(tmp_path: Path, call: Call) -> None:
    data = _write(tmp_path / "data.jsonl", [{"id": f"r{k}", **row} for k, row in enumerate(_rows(30))])
    (tmp_path / "ids.txt").write_text("r3\nr7#1\n")
    arguments = ("run", data, "--out", tmp_path / "out", "--cache", tmp_path / "cache", *TINY, "--columns", "id=id")
    done = call(*arguments, "--exclude", tmp_path / "ids.txt", "--json")
    assert done.json["counts"]["input"] == 28
    rejected = pq.read_table(tmp_path / "out" / "tables" / "rejected.parquet").to_pylist()
    assert [(row["row"], row["example_id"], row["reason"]) for row in rejected] == [
        (3, "r3", "in ids.txt"),
        (7, "r7", "in ids.txt"),
    ]
