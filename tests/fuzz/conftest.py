from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.synthesis import write_both
from tests.fuzz.harness import Driver
from tests.fuzz.recipe_strategies import rows_file

RUN = ["run", "rows.jsonl", "--out", "out", "--proxy=scratch", "--set=proxy.steps=4", "--set=proxy.checkpoints=2"]
RUN += ["--set=proxy.max_length=64"]
TUNE = ["finetune", "rows.jsonl", "--model=scratch", "--steps=2", "--max-length=64", "--save-every=1", "--arm=original"]
EVALUATE = ["evaluate", "tuned", "--data=rows.jsonl", "--limit=12", "--max-length=64", "--no-generate"]
_RECIPE = "proxy: {model: scratch, steps: 4, checkpoints: 2, max_length: 64}\nscorer: {use: LossTrajectory}\n"
_RECIPE += "clusterer: {use: KMeans, n_clusters: 2}\naugmenters: [{use: Duplicate, times: 1}]\n"


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    """The fork server of the fuzz tests."""
    driver = Driver()
    yield driver
    driver.close()


@pytest.fixture(scope="session")
def made(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, a recipe and scores; `out`: their curation; `reviewed`: one with new problems and verdicts; runs trained on
    the rows, `tuned` with learned weights, `further` from a base, and what evaluations say; the cache of it all."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "rows.jsonl").write_text(rows_file())
    (folder / "own.yaml").write_text(_RECIPE)
    write_both(folder / "reviewed")
    tuned = [[*TUNE, "--reweighter=IRDRO", "--out=tuned"], EVALUATE]
    other = [[*TUNE, "--arm=hard", "--out=other"], ["evaluate", "other", *EVALUATE[2:]]]
    further = [[*TUNE[:2], "--model=tuned/model", *TUNE[3:], "--out=further"]]
    score = [["score", "rows.jsonl", "--recipe=own.yaml", "--out=scores.parquet"]]
    for words in [RUN, *tuned, *other, *further, *score, ["review", "reviewed"]]:
        answer = driver.run(words, folder, keys="are", environment={"EDITOR": "true"}, seconds=200)
        assert answer.status == 0, answer.errors
    return folder
