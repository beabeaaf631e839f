"""The arms of a validation: which there are, what each trains on, and what it costs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augmenters import Duplicate, Replay, Subset, Synthesize
from curate.data.readers import Loaded, read
from curate.difficulty.reducible import Gains
from curate.errors import InputError
from curate.pipeline import Pipeline
from curate.run import Run
from curate.validation.arms import Arm, Arms
from curate.validation.config import CONTROLS, Addition, Validation
from curate.validation.experiment import reference_arm
from curate.validation.validate import validate
from tests.fixtures.validation import (
    Known,
    Writes,
    loaded,
    pipeline,
    rows,
    settings,
)

SAME_NUMBER = ("hard", *CONTROLS)


@dataclass(frozen=True)
class EvenLength:
    """As Known, with rows that are all of one length."""

    def score(self, examples, run):
        return replace(Known().score(examples, run), tokens=np.full(len(examples), 9, np.int32))


@dataclass(frozen=True)
class Bare:
    """A scorer that says nothing but a number per row."""

    def score(self, examples, run):
        return examples.table["known"].to_numpy()


def arms_of(out: Path, given: Validation | None = None, data: Loaded | None = None) -> Arms:
    data, given = data or loaded(), given or settings()
    return Arms(data, given, out, Run(given.pipeline.proxy, out / "cache"), None)


def table(arm: Arm) -> pa.Table:
    return pq.read_table(Path(arm.data) / "data")


def extra_rows(arm: Arm) -> list[str]:
    found = table(arm)
    return sorted(found.filter(pa.compute.equal(found["origin"], "duplicate"))["source_id"].to_pylist())


# -- which arms there are -------------------------------------------------------------------------------------------


# -- the data of the arms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "augmenters", [(Duplicate(),), (Duplicate(times=2, cap=0.3, noise_guard=0.1),), (Subset(size=0.9), Duplicate())]
)
def test_arms_of_the_same_number_have_it_and_keep_every_original(tmp_path: Path, augmenters: tuple[Any, ...]) -> None:
    arms = arms_of(tmp_path, settings(pipeline=pipeline(*augmenters)))
    found = {name: arms.get(name, 0) for name in SAME_NUMBER}
    assert {arm.rows for arm in found.values()} == {found["hard"].rows}
    assert {arm.trainable for arm in found.values()} == {found["hard"].trainable}
    originals = [set(table(arm)["source_id"].to_pylist()) for arm in found.values()]
    assert all(each == originals[0] for each in originals)
    assert {table(arm).num_rows for arm in found.values()} == {found["hard"].rows}


def test_copies_are_counted_and_not_the_rows_that_are_left_out(tmp_path: Path) -> None:
    n = len(rows())
    as_many = settings(pipeline=pipeline(Subset(size=n - 10), Duplicate(cap=10.5 / (n - 10))))
    hard = arms_of(tmp_path / "as many", as_many).get("hard", 0)
    assert (hard.rows, hard.extra) == (n, {"rows": 10})
    none = settings(pipeline=pipeline(Subset(size=n - 10), Duplicate(cap=0.5 / n)))
    with pytest.raises(InputError, match="the arm hard has no extra rows"):
        arms_of(tmp_path / "none", none).get("hard", 0)


def test_the_baseline_is_the_data_and_sam_shares_it(tmp_path: Path) -> None:
    data = loaded()
    arms = arms_of(tmp_path, data=data)
    original, sam = arms.get("original", 0), arms.get("sam", 1)
    assert sorted(table(original)["prompt"].to_pylist()) == sorted(rows()["prompt"].to_pylist())
    assert set(table(original)["origin"].to_pylist()) == {"original"}
    assert (sam.data, sam.curation, original.curation) == (original.data, None, None)


def test_each_control_copies_what_its_name_says(tmp_path: Path) -> None:
    arms = arms_of(tmp_path)
    hard = extra_rows(arms.get("hard", 0))
    by_id = {row["example_id"]: row for row in table(arms.get("hard", 0)).to_pylist()}
    assert all(by_id[name]["hard"] for name in hard)
    for name in ("easy", "random-matched"):
        assert not any(by_id[each]["hard"] for each in extra_rows(arms.get(name, 0)))
    matched = [by_id[each]["source"] for each in extra_rows(arms.get("random-matched", 0))]
    assert sorted(matched) == sorted(by_id[each]["source"] for each in hard)
    losses = sorted((row["known"], row["example_id"]) for row in by_id.values() if row["origin"] == "original")
    assert extra_rows(arms.get("final-loss", 0)) == sorted(name for _, name in losses[-len(hard) :])
    about = arms.get("random", 0).extra
    assert about is not None
    assert 0 < about["hard"] < about["rows"] == len(hard)


def test_what_is_drawn_is_drawn_anew_for_every_seed_and_nothing_else_is(tmp_path: Path) -> None:
    arms = arms_of(tmp_path)
    for name in SAME_NUMBER:
        one, other = arms.get(name, 0), arms.get(name, 1)
        assert (extra_rows(one) != extra_rows(other)) == (name in ("random", "random-matched", "easy"))
        assert (one.data != other.data) == (name in ("random", "random-matched", "easy"))


def test_one_scoring_serves_all_arms_and_what_is_there_is_not_made_again(tmp_path: Path, monkeypatch: Any) -> None:
    calls = []
    stages = Pipeline.stages
    monkeypatch.setattr(Pipeline, "stages", lambda *given: calls.append(1) or stages(*given))
    first = [arms_of(tmp_path).get(name, 0) for name in ("original", *SAME_NUMBER)]
    assert len(calls) <= 1 + len(SAME_NUMBER)
    arms = arms_of(tmp_path)
    calls.clear()
    assert [arms.get(name, 0) for name in ("original", *SAME_NUMBER)] == first
    assert not calls
    one = arms_of(tmp_path / "anew")
    for name in ("original", *SAME_NUMBER):
        one.get(name, 0)
    assert len(calls) == 1


def test_cost_of_curation_goes_to_the_arms_that_need_it(tmp_path: Path) -> None:
    arms = arms_of(tmp_path)
    cost = arms.get("hard", 0).curation
    assert cost is not None
    assert set(cost) == {"seconds", "tokens", "proxy_parameters", "requests", "generated_tokens", "cached"}
    for name in ("easy", "final-loss", "random-matched"):
        assert arms.get(name, 0).curation == cost
    assert arms.get("random", 0).curation is None
    given = arms_of(tmp_path / "given")
    given.scores = Known().score(given.loaded.examples, None)
    known = given.get("hard", 0).curation
    assert known is not None
    assert (known["seconds"], known["tokens"]) == (None, None)  # nobody knows what the scores took


def test_rows_that_are_not_of_like_length_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = arms_of(tmp_path)
    arms.progress.style = "lines"
    extra = arms.get("random-matched", 0).extra
    assert extra is not None
    assert extra["mean_tokens"] < 0.9 * extra["hard_mean_tokens"]  # here all hard rows are longer than any other
    assert "completion tokens on average" in extra["warning"]
    assert "warning: arm random-matched-seed0: its extra rows have" in capsys.readouterr().err
    alike = arms_of(tmp_path / "even", settings(pipeline=pipeline(scorer=EvenLength())))
    found = alike.get("random-matched", 0).extra
    assert found is not None
    assert "warning" not in found


def test_arms_of_the_users_own(tmp_path: Path) -> None:
    pq.write_table(rows(30), tmp_path / "own.parquet")
    own = Addition(name="own", data=str(tmp_path / "own.parquet"))
    half = Addition(name="half", recipe=pipeline(Subset(size=0.5)))
    arms = arms_of(tmp_path / "out", settings(additions=(own, half)))
    assert (arms.get("own", 0).rows, arms.get("half", 0).rows) == (30, 50)
    with pytest.raises(InputError, match=r"arm gone: gone\.parquet does not exist"):
        arms_of(tmp_path / "out", settings(additions=(Addition(name="gone", data="gone.parquet"),)))


def test_an_arm_without_rows_or_measurements_is_an_error_that_names_it(tmp_path: Path) -> None:
    alike = read(rows().drop_columns(["known"]).append_column("known", pa.array([1.0] * 100)))
    with pytest.raises(InputError, match="no row was found hard"):
        arms_of(tmp_path / "a", data=alike).get("hard", 0)
    with pytest.raises(InputError, match=r"arm random-matched: .*needs token counts.*--arms"):
        arms_of(tmp_path / "b", settings(pipeline=pipeline(Duplicate(), scorer=Bare()))).get("random-matched", 0)


def test_replayed_rows_are_in_the_controls_too(tmp_path: Path) -> None:
    pq.write_table(rows(60, seed=5), tmp_path / "other.parquet")
    mixed = pipeline(Duplicate(), Replay(data=str(tmp_path / "other.parquet"), share=0.2))
    arms = arms_of(tmp_path / "out", settings(pipeline=mixed))
    hard, random = arms.get("hard", 0), arms.get("random", 0)
    assert hard.rows == random.rows
    assert table(hard)["origin"].to_pylist().count("replay") == table(random)["origin"].to_pylist().count("replay") > 0


def test_a_recipe_that_copies_and_writes_is_taken_apart_into_arms(tmp_path: Path) -> None:
    copies, writes = Duplicate(times=2), Synthesize(generator=Writes(), noise_guard=0)
    given = settings(pipeline=pipeline(copies, Subset(size=0.9), writes))
    assert given.named_arms() == ("original", *SAME_NUMBER, "synthesis", "duplicates-synthesis", "sam")
    only = settings(pipeline=pipeline(writes))
    assert only.named_arms() == ("original", "synthesis", "sam")
    assert reference_arm(only) == "synthesis"
    parts = {name: arms_of(tmp_path, given)._own(name).augmenters for name in ("hard", "synthesis")}
    assert parts == {"hard": (copies, Subset(size=0.9)), "synthesis": (Subset(size=0.9), writes)}
    controls = arms_of(tmp_path, given)._control("matched", 3).augmenters
    assert controls == (Duplicate(times=2, of="matched", draw=3), Subset(size=0.9))


# -- arms that are made only where they are named --------------------------------------------------------------------


@dataclass(frozen=True)
class Gained:
    """As Known, with gains of halves: of hard rows those of even number gain, the others gain as null rows do."""

    tells: bool = True

    def score(self, examples, run):
        scores = Known().score(examples, run)
        rng, n = np.random.default_rng(0), len(examples)
        nulls, gained = rng.normal(0, 0.01, n), rng.normal(0, 0.01, n)
        gained[:: 2 if self.tells else n] += 1
        short = scores.difficulty.astype(float)
        return replace(scores, gains=Gains(gained, nulls, short, np.full(n, 9.0), (3, 3), (1, 1)))


def test_the_arm_of_reducible_rows_copies_those_alone_or_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = settings(arms=("hard", "reducible"), pipeline=pipeline(Duplicate(noise_guard=0.1), scorer=Gained()))
    arms = arms_of(tmp_path / "a", given, data=loaded(400))
    found = arms.of_seed(0)
    record = json.loads((Path(found["reducible"].data) / "run.json").read_text())
    assert record["diagnostics"]["reducible"]["verdict"] == "estimated"
    hard, own = extra_rows(found["hard"]), extra_rows(found["reducible"])
    split = pq.read_table(Path(found["reducible"].data) / "tables" / "split.parquet").to_pylist()
    assert own == sorted(row["example_id"] for row in split if row["hard"] and row["reducible"])
    assert 0 < len(own) < len(hard)
    untold = given.model_copy(update={"pipeline": pipeline(Duplicate(), scorer=Gained(tells=False))})
    for _ in range(2):  # made anew, and found in the folder
        arms = arms_of(tmp_path / "b", untold, data=loaded(400))
        assert set(arms.of_seed(0)) == {"original", "hard"}
        assert "arm reducible is left out" in arms.left_out["reducible"]
    with pytest.raises(InputError, match=r"no arm is left to compare .* cannot be determined"):
        arms_of(tmp_path / "c", untold.model_copy(update={"arms": ("reducible",)}), data=loaded(400)).of_seed(0)


def test_source_balanced_copies_are_as_many_and_go_to_the_smallest_sources(tmp_path: Path) -> None:
    sources = ["small"] * 10 + ["middle"] * 30 + ["large"] * 60
    data = read(rows().set_column(2, "source", pa.array(sources)))
    arms = arms_of(tmp_path, settings(pipeline=pipeline(Duplicate(times=2))), data=data)
    hard, first, second = arms.get("hard", 0), arms.get("source-balanced", 0), arms.get("source-balanced", 1)
    assert (first.rows, first.trainable, first.curation) == (hard.rows, hard.trainable, None)
    counts = Counter(table(first)["source"].to_pylist())
    assert counts["large"] == 60
    assert abs(counts["small"] - counts["middle"]) <= 1  # 50 copies: 20 to be as many as the next, 15 to each
    assert extra_rows(first) != extra_rows(second)


def test_arms_that_these_rows_do_not_allow_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    without = rows().drop_columns(["source"])
    for bare in (without, without.append_column("source", pa.array(["a"] * 100))):
        with pytest.raises(InputError, match=r"arm source-balanced: .*no two sources.*--columns"):
            validate(read(bare), settings(arms=("hard", "source-balanced")), tmp_path / "a")
    scores = Known().score(loaded().examples, None)
    with pytest.raises(InputError, match=r"arm reducible: .*the scores do not include them"):
        validate(loaded(), settings(arms=("hard", "reducible")), tmp_path / "b", scores=scores)
    with pytest.raises(InputError, match="reducible rows already"):
        settings(arms=("hard", "reducible"), pipeline=pipeline(Duplicate(only="reducible")))
