"""`curate forecast`: cost first, asked for where it is much, written into the folder, clear where the input is gone."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.cli.forecast import as_copied, as_validated
from curate.cli.main import main
from curate.finetuning.config import Finetuning
from curate.mixture.judgment import judgment
from curate.pipeline import Pipeline
from curate.recipe import load_recipe
from curate.storage.records import read_finished
from curate.validation.config import Validation, copying
from tests.fixtures.commands import TINY, Call, Finished, _rows, _write


@pytest.fixture
def folder(tmp_path: Path, finished: Finished) -> Path:
    shutil.copytree(finished.out, tmp_path / "out")
    return tmp_path / "out"


def test_it_shows_the_cost_and_refuses_unasked(folder: Path, finished: Finished, call: Call) -> None:
    before = (folder / "run.json").read_bytes()
    for named, words in (((), "not known"), (("--model", "1M"), "of the fine-tuning of 1M")):
        refused = call("forecast", folder, "--steps", "8", *named, "--cache", finished.cache)
        assert refused.status == 2
        assert "a forecast for 8 steps trains the proxy" in refused.err
        assert words in refused.error
        assert "--yes" in refused.error
    assert (folder / "run.json").read_bytes() == before


def test_it_is_written_into_the_folder_and_shown_everywhere(folder: Path, finished: Finished, call: Call) -> None:
    done = call("forecast", folder, "--steps", "16", "--model", "7B", "--cache", finished.cache)
    assert done.status == 0
    assert "< 0.1 % of the fine-tuning of 7B" in done.err
    record = read_finished(folder)["forecast"]
    assert record["curves"]["steps"][-1] == 64  # the proxy takes 8 rows a step
    assert record["verdict"]["verdict"] == "withheld"
    assert record["times"] == 1
    judged = f"{judgment().units} cases of {sum(judgment().settings.values())} settings"
    assert judged in " ".join(done.out.split())
    assert "Will copies help? withheld" in call("inspect", folder).out
    assert judged in " ".join((folder / "report.html").read_text().split())
    again = call("forecast", folder, "--steps", "16", "--cache", finished.cache, "--json")
    assert again.json["cost"]["cached"]
    assert again.json["forecast"] == record | {"verdict": again.json["forecast"]["verdict"]} | {
        "verdicts": again.json["forecast"]["verdicts"]
    }
    # The result is still that of its inputs.
    data = str(finished.data)
    assert main(["run", data, "--out", str(folder), *finished.arguments]) == 0


def test_the_next_command_works_when_it_is_typed(folder: Path, finished: Finished, call: Call) -> None:
    found = call("forecast", folder, "--steps", "8", "--yes", "--cache", finished.cache, "--json").json
    words = shlex.split(found["forecast"]["verdict"]["command"])
    assert words[:3] == ["curate", "validate", str(finished.data)]
    assert words[words.index("--recipe") + 1] == str(folder)
    planned = call("plan", finished.data, "--recipe", folder, "--cache", finished.cache)
    assert planned.status == 0
    assert "40 rows" in planned.out


DUPLICATE = {"use": "Duplicate"}
AUTO = [DUPLICATE | {"times": "auto"}, DUPLICATE | {"of": "easy"}]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"copies": "weights", "order": "front"},
        {"augmenters": []},
        {"augmenters": [{"use": "Subset", "size": 0.5, "epochs": 2}]},
        {"augmenters": [DUPLICATE | {"of": "random"}]},
        {"augmenters": [{"use": "Subset", "size": 0.5}, DUPLICATE, DUPLICATE]},
        {"augmenters": AUTO, "forecast": {"steps": 9}},
    ],
)
def test_every_recipe_can_be_validated_and_copied_as_the_next_command_says(changes: dict[str, Any]) -> None:
    recipe = load_recipe("quick") | changes
    validated = Pipeline.from_recipe(recipe, settings=as_validated(recipe))
    assert "hard" in Validation(pipeline=validated, finetuning=Finetuning(model="scratch")).named_arms()
    copied = Pipeline.from_recipe(recipe, settings=as_copied(recipe, "3"))
    assert [augmenter.times for augmenter in copying(copied)] == [3]


def test_rows_left_out_by_their_ids_stay_out(tmp_path: Path, finished: Finished, call: Call) -> None:
    ids = pq.read_table(finished.out / "tables" / "split.parquet")["example_id"].to_pylist()
    left_out = tmp_path / "some ids.txt"
    left_out.write_text("\n".join(ids[:4]))
    where = ("--exclude", left_out, "--cache", finished.cache)
    assert call("run", finished.data, "--out", tmp_path / "the rest", *TINY, *where).status == 0
    asked = ("--steps", "8", "--model", "7B", "--cache", finished.cache, "--json")
    found = call("forecast", tmp_path / "the rest", *asked)
    assert found.status == 0
    words = shlex.split(found.json["forecast"]["verdict"]["command"])
    assert words[words.index("--exclude") + 1] == str(left_out)
    assert words[words.index("--recipe") + 1] == str(tmp_path / "the rest")


def test_scores_of_a_file_are_forecast_with_any_proxy(tmp_path: Path, finished: Finished, call: Call) -> None:
    scores = finished.out / "tables" / "scores.parquet"
    assert call("run", finished.data, "--out", tmp_path / "out", "--scores", scores).status == 0
    asked = ("--steps", "8", "--model", "7B", "--proxy", "scratch", "--cache", finished.cache, "--json")
    found = call("forecast", tmp_path / "out", *asked)
    assert found.status == 0
    words = shlex.split(found.json["forecast"]["verdict"]["command"])
    assert words[words.index("--scores") + 1] == str(tmp_path / "out" / "tables" / "scores.parquet")


def test_input_that_is_gone_or_changed_is_named(tmp_path: Path, finished: Finished, call: Call) -> None:
    data, out = _write(tmp_path / "data.jsonl", _rows()), tmp_path / "gone"
    arguments = (*TINY, "--cache", str(finished.cache))
    assert main(["run", str(data), "--out", str(out), *arguments]) == 0
    asked = ("forecast", out, "--steps", "8", "--yes", "--cache", finished.cache)
    _write(data, _rows(30))
    changed = call(*asked)
    assert (changed.status, "has changed since" in changed.error) == (2, True)
    data.unlink()
    gone = call(*asked)
    assert (gone.status, "cannot be read again" in gone.error) == (2, True)
    assert str(data) in gone.error


def test_a_recipe_with_a_forecast_decides_the_copies(tmp_path: Path, finished: Finished, call: Call) -> None:
    asked = ("run", finished.data, *TINY, "--cache", finished.cache, "--set", "augmenters.0.times=auto")
    missing = call(*asked, "--out", tmp_path / "out")
    assert (missing.status, "forecast.steps=N" in missing.error) == (2, True)
    asked = (*asked, "--set", "forecast.steps=9", "--out", tmp_path / "out")
    dear = call(*asked)
    assert (dear.status, "--set forecast.accept_cost=true" in dear.error) == (2, True)
    done = call(*asked, "--set", "forecast.accept_cost=true")
    assert done.status == 0
    assert "No copies are made" in done.out
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["forecast"]["times"], record["counts"]["duplicate"]) == (1, 0)
    assert [each["code"] for each in record["warnings"]].count("copies_by_forecast") == 1
    planned = call("plan", *asked[1:], "--set", "forecast.accept_cost=true", "--json").json
    assert {each["stage"]: each["cached"] for each in planned["stages"]}["forecast"] == "yes"
    assert planned["rows_out"] == 40
