"""What is bound to fail is refused before anything is measured; what is given wrongly is named."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from augmenters import Duplicate, Replay, Subset
from curate import InputError, Pipeline, Run
from curate.cli.main import main
from curate.clusterers import HDBSCAN, KMeans, PerSource, Quantile
from curate.data.readers import Loaded
from curate.difficulty.scores import as_scores
from curate.estimate import estimate
from scorers import LossTrajectory


class Forbidden:
    """A scorer that must not be asked."""

    def score(self, examples, run):
        raise AssertionError("it was scored although it was bound to fail")


class Rising:
    def score(self, examples, run):
        return np.arange(len(examples))


def _table(n: int = 20, **columns: Any) -> pa.Table:
    return pa.table({"prompt": [f"p{i}" for i in range(n)], "completion": [f"c{i}" for i in range(n)], **columns})


def _pipeline(**changes: Any) -> Pipeline:
    return Pipeline(**{"scorer": Rising(), "clusterer": Quantile(q=0.25), "augmenters": [Duplicate()], **changes})


def _codes(curated: Any) -> set[str]:
    return {warning.code for warning in curated.diagnostics.warnings}


# -- before the proxy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"clusterer": KMeans(per="source")}, "per source but the rows have none"),
        ({"clusterer": HDBSCAN(per="source")}, "per source but the rows have none"),
        ({"clusterer": PerSource(clusterer=KMeans())}, "per source but the rows have none"),
        ({"clusterer": KMeans(n_clusters=21)}, "20 rows cannot make 21 clusters; lower n_clusters"),
        ({"augmenters": [Duplicate(), Subset(size=0.5, per="source")]}, "needs a source column"),
        ({"augmenters": [Subset(size=21)]}, "Subset.size = 21 but the data has 20 rows"),
        ({"augmenters": [Replay(data="no-such-file.parquet", share=0.2)]}, "no-such-file.parquet"),
        ({"scorer": LossTrajectory(features="relative"), "proxy": {"checkpoints": 1}}, "at least 2"),
    ],
)
def test_what_is_bound_to_fail_is_refused_before_it_is_scored(changes: dict[str, Any], says: str) -> None:
    pipeline = _pipeline(**{"scorer": Forbidden(), **changes})
    loaded = curate.read(_table())
    with pytest.raises(InputError, match=says):
        pipeline.run(loaded)
    with pytest.raises(InputError, match=says):
        estimate(pipeline, loaded, Run())


def test_an_augmenter_of_ones_own_may_look_at_the_data_first() -> None:
    class Picky:
        def check_examples(self, examples):
            raise InputError(f"{len(examples)} rows are too few; give more")

        def plan(self, plan, split, seed):
            return plan

    with pytest.raises(InputError, match="20 rows are too few"):
        _pipeline(scorer=Forbidden(), augmenters=[Picky()]).run(_table())


def test_what_fits_is_not_refused() -> None:
    sources = pa.array(["a", "b"] * 10)
    pipeline = _pipeline(
        clusterer=KMeans(n_clusters=10, per="source"), augmenters=[Subset(size=20, per="source"), Duplicate()]
    )
    assert len(pipeline.run(_table(source=sources))) == 22


# -- warnings that need the whole pipeline --------------------------------------------------------------------------


def test_nothing_hard_is_no_warning_where_no_augmenter_asks() -> None:
    class Flat:
        def score(self, examples, run):
            return np.ones(len(examples))

    def codes(augmenters: list[Any]) -> set[str]:
        return _codes(_pipeline(scorer=Flat(), augmenters=augmenters).run(_table()))

    class WithoutHard:
        def plan(self, plan, split, seed):
            return plan.leave_out(split.hard, "hard")  # of all rows being hard nothing is left

    assert "one_cluster" not in codes([Subset(size=5)])
    for augmenters in ([], [Duplicate()], [Subset(size=5), Duplicate(of="easy")], [WithoutHard()]):
        assert "one_cluster" in codes(augmenters)


def test_a_large_share_of_hard_rows_is_counted_in_the_plan() -> None:
    [warning] = _pipeline(clusterer=Quantile(q=0.4)).run(_table()).diagnostics.warnings
    assert warning.message == "40% of the rows are hard; with 1 extra copy each they fill 57% of every batch."
    capped = _pipeline(clusterer=Quantile(q=0.4), augmenters=[Duplicate(times=3, cap=0.15)]).run(_table())
    assert "hard_too_large" not in _codes(capped)


def test_truncated_rows_are_told_by_the_proxy(tmp_path: Path) -> None:
    proxy = {"model": "scratch", "steps": 2, "checkpoints": 2, "batch_size": 4, "max_length": 32}
    table = _table().set_column(1, "completion", [[f"{i} " * (60 if i < 2 else 1) for i in range(20)]])
    curated = _pipeline(scorer=LossTrajectory(), proxy=proxy).run(table, cache=tmp_path)
    [warning] = [warning for warning in curated.diagnostics.warnings if warning.code == "rows_truncated"]
    assert warning.message.startswith("2 of 20 rows (10.0%)")


# -- arguments ------------------------------------------------------------------------------------------------------


def test_arguments_of_reading_are_refused_for_data_that_is_read() -> None:
    loaded = curate.read(_table())
    assert isinstance(loaded, Loaded)
    with pytest.raises(InputError, match=r"where=\.\.\. has no effect; pass it to read"):
        _pipeline().run(loaded, where="prompt=p1")
    assert len(_pipeline().run(_table(), limit=8)) == 10


@pytest.mark.parametrize("kind", [np.array, list, pa.array, pd.Series, lambda values: as_scores(values, 20)])
def test_scores_may_be_an_array(kind: Any) -> None:
    values = np.random.default_rng(0).permutation(20)
    scores = kind(values)
    if isinstance(scores, curate.Scores):
        scores = scores.with_ids(curate.read(_table()).examples.ids)
    curated = _pipeline(scorer=Forbidden()).run(_table(), scores=scores)
    assert np.array_equal(curated.split.hard, values >= 15)
    assert curated.proxy_facts is None


@pytest.mark.parametrize("wrong", ["scores.parquet", Path("s"), np.zeros(3), np.zeros((20, 2)), ["a"] * 20, {}, 1.0])
def test_scores_of_another_kind_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"scores is .*; give Scores .* or an array of 20"):
        _pipeline(scorer=Forbidden()).run(_table(), scores=wrong)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"augmenters": Duplicate()}, r"put it in a list: \[Duplicate\(\)\]"),
        ({"augmenters": Duplicate}, r"put it in a list: \[Duplicate\(\)\]"),
        ({"augmenters": "Duplicate"}, r"put it in a list: \[\{use: Duplicate\}\]"),
        ({"augmenters": ["Duplicate"]}, r"write \{use: Duplicate\}"),
        ({"augmenters": [{"times": 1}]}, r"write \{use: NAME"),
        ({"augmenters": 3}, "tuple"),
        ({"clusterer": "KMeans"}, r"write \{use: KMeans\}"),
        ({"scorer": "LossTrajectory"}, r"write \{use: LossTrajectory\}"),
    ],
)
def test_a_part_written_wrongly_is_told_how_to_write_it(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _pipeline(**changes)


# -- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Pipeline, "score", lambda self, loaded, run: as_scores(range(len(loaded.examples)), 12))
    folder = tmp_path / "my data"
    folder.mkdir()
    pq.write_table(_table(40, kind=["a", "b"] * 20), folder / "d.parquet")
    return folder / "d.parquet"


def test_the_command_that_score_prints_works(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--where", "kind!=a", "--limit", "12", "--seed=3", "--columns", "prompt=prompt,completion=completion"]
    given += ["--on-bad-row", "drop", "--set", "augmenters.0.times=2", "--recipe", "quick", "--proxy", "scratch"]
    scores, out = tmp_path / "the scores.parquet", tmp_path / "out"
    assert main(["score", str(data), "--out", str(scores), *given]) == 0
    printed = capsys.readouterr().out
    command = shlex.split(printed.partition("next: ")[2].strip())
    assert command[:3] == ["curate", "run", str(data)]
    assert "--seed=3" in command
    command[command.index("DIR")] = str(out)
    assert main(command[1:]) == 0
    rows = pq.read_table(out / "data")
    assert set(rows["kind"].to_pylist()) == {"b"}
    assert len(set(rows["source_id"].to_pylist())) == 12
    assert rows["copy"].to_pylist().count(2) > 0


def test_run_tells_of_rows_that_could_not_be_scored_and_of_idle_options(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = curate.read(data)
    difficulty = pa.array([None if i < 3 else float(i) for i in range(40)])
    pq.write_table(pa.table({"example_id": loaded.examples.ids, "difficulty": difficulty}), tmp_path / "s.parquet")
    given = [str(data), "--scores", str(tmp_path / "s.parquet")]
    assert main(["run", *given, "--stability", "3", "--out", str(tmp_path / "one")]) == 0
    shown = capsys.readouterr()
    assert "3 could not be scored" in shown.out
    assert "warning: 3 of 40 rows (7.5%) could not be scored" in shown.out
    assert "stability 3 has no effect with --scores" in shown.err
    pq.write_table(pa.table({"example_id": loaded.examples.ids, "difficulty": np.arange(40.0)}), tmp_path / "s.parquet")
    assert main(["run", *given, "--out", str(tmp_path / "two")]) == 0
    shown = capsys.readouterr()
    assert "could not be scored" not in shown.out
    assert "no effect" not in shown.err
