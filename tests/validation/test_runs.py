"""Runs that workers make are those that this process makes."""

from pathlib import Path

import pytest

from curate.console.progress import Progress
from curate.engine import Ray
from curate.errors import ExternalError, InputError
from curate.finetuning.config import Finetuning
from curate.storage.folders import RECORD
from curate.storage.records import read_record
from curate.validation.validate import validate
from tests.fixtures.ray_cluster import Inline, Notes
from tests.fixtures.validation import Trained, loaded, settings, whole


def test_the_runs_of_all_seeds_are_made_once_and_the_result_is_the_same(tmp_path: Path, trained: Trained) -> None:
    one = whole(tmp_path / "a" / "out")
    first = sorted(trained.calls)
    trained.calls.clear()
    engine = Inline()
    other = whole(tmp_path / "b" / "out", engine=engine)
    assert engine.lost == 1
    assert sorted(trained.calls) == first
    assert [run["name"] for run in other["runs"]] == [run["name"] for run in one["runs"]]
    assert read_record(tmp_path / "b" / "out" / RECORD, "")["seeds"] == [0, 1]
    trained.calls.clear()
    whole(tmp_path / "b" / "out", engine=Inline())  # nothing is left
    assert trained.calls == []


def test_a_failure_on_a_worker_ends_it_and_what_is_done_is_kept(tmp_path: Path, trained: Trained) -> None:
    trained.fails_before = 3
    with pytest.raises(ExternalError, match="disk is full"):
        whole(tmp_path / "out", engine=Inline())
    trained.fails_before = 10**9
    whole(tmp_path / "out", engine=Inline())
    assert len(trained.calls) == len(set(trained.calls)) == 8


def test_a_folder_that_workers_do_not_see_is_refused_before_any_run(tmp_path: Path, trained: Trained) -> None:
    with pytest.raises(InputError, match=r"do not see .*out.*name a folder of shared storage with --out"):
        whole(tmp_path / "out", engine=Inline(sees=False))
    assert trained.calls == []


@pytest.mark.long
@pytest.mark.ray
def test_a_validation_on_a_cluster_compares_as_one_here(ray_engine: Ray, tmp_path: Path) -> None:
    tuning = Finetuning(model="scratch", batch_size=10, max_length=48)
    given = settings(finetuning=tuning, seeds=(0,), arms=("hard",), held_out=0.2, evaluation={"generate": False})
    one = validate(loaded(40), given, tmp_path / "a", cache=tmp_path / "cache", progress=Progress())
    ray_engine.notify(Notes())
    other = validate(loaded(40), given, tmp_path / "b", cache=tmp_path / "cache-b", engine=ray_engine)
    differences = [result["comparison"]["differences"] for result in (one, other)]
    assert differences[0] == differences[1]
