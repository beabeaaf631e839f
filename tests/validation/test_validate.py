"""Validation: arms that differ in their rows alone, runs cut off anywhere, evaluation rows never trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.comparison
import curate.evaluation
import curate.finetuning
import curate.models
import curate.storage.cache
import curate.validation.folder
from augmenters import Duplicate, Replay, Subset, Synthesize
from curate.clusterers import Quantile
from curate.data.readers import Loaded, read
from curate.difficulty.scores import Scores
from curate.errors import ExternalError, InputError
from curate.evaluation import Evaluation, EvaluationSet
from curate.finetuning import Finetuning
from curate.optimizers import SAM
from curate.pipeline import Pipeline
from curate.proxy.proxy import Proxy
from curate.proxy.training import ProxyRun
from curate.run import Run
from curate.tokenization.encoding import tokenize
from curate.tokenization.templates import resolve_template
from curate.validation import ARMS, Addition, Validation, validate
from curate.validation.arms import Arm, Arms
from curate.validation.config import CONTROLS
from curate.validation.estimate import forecast
from curate.validation.evaluation_rows import HELD_OUT, prepare
from curate.validation.schedule import reference_arm, schedule
from curate.validation.validate import begin
from scorers import LossTrajectory
from tests.fixtures.tokenizers import byte_level
from tests.fixtures.validation import Trained, identify_known, load_known, rows

SAME_NUMBER = ("hard", *CONTROLS)


@pytest.fixture(autouse=True)
def known_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.validation.folder, "identify", identify_known)


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    monkeypatch.setattr(curate.models.scratch, "_SCRATCH_SHAPE", {**shape, "num_key_value_heads": 2})
    monkeypatch.setattr(curate.models.scratch, "_SCRATCH_VOCABULARY", 320)


@dataclass(frozen=True)
class Known:
    """A scorer whose final losses stand in a column; tokens grow with them."""

    def score(self, examples, run):
        known = examples.table["known"].to_numpy().astype(np.float32)
        trajectory = np.stack([np.full_like(known, 5), known], axis=1)
        return Scores(
            trajectory, known, np.isfinite(known), trajectory, np.array([1, 2]), (known * 20).astype(np.int32)
        )


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


def loaded(n: int = 100) -> Loaded:
    return read(rows(n))


def pipeline(*augmenters: Any, **fields: Any) -> Pipeline:
    return Pipeline(
        **{"scorer": Known(), "clusterer": Quantile(q=0.25), "augmenters": augmenters or (Duplicate(),)} | fields
    )


def settings(**fields: Any) -> Validation:
    given = {"pipeline": pipeline(), "finetuning": Finetuning(model="m", batch_size=10), "seeds": (0, 1)}
    return Validation(**given | fields)


def arms_of(out: Path, given: Validation | None = None, data: Loaded | None = None) -> Arms:
    data, given = data or loaded(), given or settings()
    return Arms(data, given, out, Run(given.pipeline.proxy, out / "cache"), None)


def table(arm: Arm) -> pa.Table:
    return pq.read_table(Path(arm.data) / "data")


def extra_rows(arm: Arm) -> list[str]:
    found = table(arm)
    return sorted(found.filter(pa.compute.equal(found["origin"], "duplicate"))["source_id"].to_pylist())


# -- which arms there are -------------------------------------------------------------------------------------------


def test_sam_is_no_arm_where_all_are_trained_with_it() -> None:
    tuning = Finetuning(model="scratch", optimizer=SAM())
    assert settings(finetuning=tuning).named_arms() == ("original", *SAME_NUMBER)
    with pytest.raises(InputError, match=r"arm sam: .*two gradients a step already"):
        settings(finetuning=tuning, arms=("hard", "sam"))


def test_the_recipe_decides_which_arms_there_are() -> None:
    assert settings().named_arms() == ("original", *SAME_NUMBER, "sam")
    assert settings(pipeline=pipeline(Subset(size=0.5))).named_arms() == ("original", "sam")
    assert settings(arms=("random", "hard")).named_arms() == ("original", "hard", "random")
    own = Addition(name="mine", data="x.parquet")
    assert settings(arms=("hard",), additions=(own,)).named_arms() == ("original", "hard", "mine")
    assert set(settings().named_arms()) <= set(ARMS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arms": ("hrad",)}, "did you mean 'hard'"),
        ({"arms": ("synthesis",)}, "--generator"),
        ({"arms": ("easy",), "pipeline": Pipeline(scorer=Known(), clusterer=Quantile())}, "use one with Duplicate"),
        ({"pipeline": pipeline(Subset(size=0.5)), "arms": ("original",)}, "no arm to hold against original"),
        ({"seeds": (1, 1)}, "stands twice"),
        ({"budgets": ("epochs",)}, "equal steps in any case"),
        (
            {"sets": (EvaluationSet(data="a/x.parquet", name="x"), EvaluationSet(data="b/x.parquet", name="x"))},
            "one name",
        ),
        ({"sets": (EvaluationSet(data="x.parquet", name="pooled"),)}, "stands for all sets"),
        ({"additions": (Addition(name="a", data="x"), Addition(name="a", data="y"))}, "two arms have one name"),
    ],
)
def test_a_design_that_cannot_be_is_refused_with_the_remedy(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, InputError), match=message):
        settings(**fields)


@pytest.mark.parametrize("fields", [{"name": "hard", "data": "x"}, {"name": "a"}, {"name": "a/b", "data": "x"}])
def test_an_arm_of_the_users_own_has_a_name_and_one_source(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"arm|name"):
        Addition(**fields)


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


def test_cost_of_curation_is_that_of_the_whole_proxy_also_where_it_is_cached(
    tmp_path: Path, small_models: None
) -> None:
    proxy = Proxy(model="scratch", steps=4, checkpoints=2, batch_size=8, max_length=160)
    scored = pipeline(scorer=LossTrajectory(), proxy=proxy)
    half_of = scored.model_copy(update={"augmenters": (Subset(size=0.5),)})
    given = settings(pipeline=scored, additions=(Addition(name="half", recipe=half_of),))
    first, later = (
        Arms(loaded(), given, tmp_path / name, Run(proxy, tmp_path / "cache"), None) for name in ("first", "later")
    )
    one, two = first.get("hard", 0).curation, later.get("hard", 0).curation
    assert one is not None
    assert two is not None
    assert two["tokens"] == one["tokens"] > 0
    assert (one["cached"], two["cached"]) == (False, True)
    assert one["seconds"] > 0
    assert two["seconds"] is None  # nobody wrote down how long the measuring took
    half = first.get("half", 0).curation
    assert half is not None
    assert half["tokens"] == one["tokens"]


def test_a_proxy_trained_by_a_process_that_was_killed_counts_in_seconds(tmp_path: Path, small_models: None) -> None:
    proxy = Proxy(model="scratch", steps=4, checkpoints=2, batch_size=8, max_length=160)
    run = Run(proxy, tmp_path / "cache")
    proxy_run = ProxyRun(loaded().examples, proxy, run.context)
    proxy_run.train()
    facts = proxy_run.facts()
    assert facts["seconds"] > 0
    for path in (tmp_path / "cache").glob("proxies/*/step-*/facts.json"):
        record = json.loads(path.read_text()) | {"seconds": 1000.0}
        path.write_text(json.dumps(record))
        manifest = json.loads((path.parent / "manifest.json").read_text())
        manifest["facts.json"] = curate.storage.cache._checksum(path)
        (path.parent / "manifest.json").write_text(json.dumps(manifest))
    given = settings(pipeline=pipeline(scorer=LossTrajectory(), proxy=proxy))
    cost = Arms(loaded(), given, tmp_path / "out", Run(proxy, tmp_path / "cache"), None).get("hard", 0).curation
    assert cost is not None
    assert cost["seconds"] > 1000


def test_the_hard_arm_costs_the_same_when_a_control_is_made_first(tmp_path: Path, small_models: None) -> None:
    proxy = Proxy(model="scratch", steps=4, checkpoints=2, batch_size=8, max_length=160)
    given = settings(pipeline=pipeline(scorer=LossTrajectory(), proxy=proxy))
    arms = Arms(loaded(), given, tmp_path / "out", Run(proxy, tmp_path / "cache"), None)
    arms.get("random", 0)
    cost = arms.get("hard", 0).curation
    assert cost is not None
    assert cost["seconds"] > 0
    assert cost["tokens"] > 0


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


class Writes:
    """A generator that is never asked."""

    def identity(self) -> str:
        return "writes"

    def serve(self, queue: Any) -> None:
        raise AssertionError("nobody should ask")


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


def test_new_rows_must_not_have_what_is_asked_later(tmp_path: Path) -> None:
    given = settings(pipeline=pipeline(Duplicate(), Synthesize(generator=Writes())), held_out=0.3)
    work = begin(loaded(), given, tmp_path / "out", cache=tmp_path / "cache")
    (asked,) = work.settings.pipeline.gate.evaluation
    assert pq.read_table(asked["data"]).num_rows == 30
    plain = begin(loaded(), settings(held_out=0.3), tmp_path / "plain", cache=tmp_path / "cache")
    assert plain.settings.pipeline.gate.evaluation == ()


# -- what is evaluated ----------------------------------------------------------------------------------------------


def held(out: Path, table: pa.Table | None = None, **fields: Any) -> tuple[Any, list[str]]:
    found = prepare(
        read(rows() if table is None else table), settings(held_out=0.3, **fields), out, Run(cache=out).progress
    )
    return found, pq.read_table(out / HELD_OUT / "rows.parquet")["prompt"].to_pylist()


def test_rows_held_out_are_not_trained_on_and_the_same_every_time(tmp_path: Path) -> None:
    found, questions = held(tmp_path / "a")
    trained = found.loaded.examples.table["prompt"].to_pylist()
    assert len(questions) == 30
    assert sorted([*trained, *questions]) == sorted(rows()["prompt"].to_pylist())
    assert held(tmp_path / "b")[1] == questions
    assert held(tmp_path / "c", pipeline=pipeline(seed=1))[1] != questions
    assert [each.title for each in found.sets] == [HELD_OUT]
    assert [each["reason"] for each in found.loaded.rejected] == ["held out for evaluation"] * 30


def test_more_than_the_share_is_held_out_where_that_is_too_few(tmp_path: Path) -> None:
    found = prepare(read(rows(100)), settings(), tmp_path / "a", Run(cache=tmp_path).progress)
    assert found.facts["held_out"]["rows"] == 20
    assert "20 of 100 rows are held out, more than the share of 0.1" in found.warnings[0]
    assert len(found.loaded.examples) == 80
    enough = prepare(read(rows(200)), settings(), tmp_path / "b", Run(cache=tmp_path).progress)
    assert enough.facts["held_out"]["rows"] == 20
    assert not any("share of" in line for line in enough.warnings)
    with pytest.raises(
        InputError, match=r"18 of 60 rows can be held out, too few .* --evaluation or hold out more with --held-out$"
    ):
        prepare(read(rows(60)), settings(), tmp_path / "c", Run(cache=tmp_path).progress)


def test_what_is_near_to_a_row_that_stays_is_not_asked(tmp_path: Path) -> None:
    once = rows(100).to_pylist()
    twice = pa.Table.from_pylist([*once, *({**row, "prompt": row["prompt"] + " xyz"} for row in once[:40])])
    found, questions = held(tmp_path, twice)
    trained = found.loaded.examples.table["prompt"].to_pylist()
    stems = {text.removesuffix(" xyz") for text in trained}
    assert not any(text.removesuffix(" xyz") in stems for text in questions)
    assert found.facts["held_out"]["near_to_others"] > 0
    pairs = pa.Table.from_pylist([*once[:30], *({**row, "prompt": row["prompt"] + " xyz"} for row in once[:30])])
    with pytest.raises(InputError, match=r"drawn are near to rows .* or allow near-duplicates with --set"):
        held(tmp_path / "pairs", pairs)
    same = pa.Table.from_pylist(once[:25] * 4)
    with pytest.raises(InputError, match=r"too few .* or hold out more with --held-out$"):
        held(tmp_path / "same", same, pipeline=pipeline(gate={"near_duplicate": None}))


def test_without_final_answers_only_losses_are_compared(tmp_path: Path) -> None:
    plain = rows().set_column(
        1, "completion", pa.array([f"it is said that {k} of us came, more or less" for k in range(100)])
    )
    found, _ = held(tmp_path / "a", plain)
    assert not found.evaluation.generate
    assert "no final answer" in found.warnings[0]
    answered = rows().append_column("final_answer", pa.array([str(k) for k in range(100)]))
    assert held(tmp_path / "b", answered)[0].evaluation.generate
    texts = pa.table({"text": rows()["prompt"], "known": rows()["known"]})
    with pytest.raises(InputError, match="--evaluation"):
        held(tmp_path / "c", texts)


def test_rows_that_share_text_with_an_evaluation_set_are_counted_and_dropped_if_asked(tmp_path: Path) -> None:
    pq.write_table(rows().slice(0, 7), tmp_path / "test.parquet")
    sets = (EvaluationSet(data=str(tmp_path / "test.parquet")),)
    progress = Run(cache=tmp_path).progress
    found = prepare(loaded(), settings(sets=sets), tmp_path / "a", progress)
    assert found.facts["contaminated"]["test"]["rows"] == 7
    assert len(found.loaded.examples) == 100
    assert "7 of 100 rows share text with evaluation set test" in found.warnings[0]
    assert "--drop-contaminated" in found.warnings[0]
    clean = prepare(loaded(), settings(sets=sets, drop_contaminated=True), tmp_path / "b", progress)
    assert clean.loaded.examples.table["prompt"].to_pylist() == rows()["prompt"].to_pylist()[7:]
    with pytest.raises(InputError, match="does not exist"):
        prepare(loaded(), settings(sets=(EvaluationSet(data="gone.parquet"),)), tmp_path / "c", progress)


# -- which runs there are -------------------------------------------------------------------------------------------


def planned(given: Validation, **counts: int) -> list[Any]:
    arms = {name.replace("_", "-"): Arm(name.replace("_", "-"), "", {}, n, n, None, None) for name, n in counts.items()}
    both = [name for name in arms if name in ("original", "hard")]
    return schedule(given, 0, arms, arms[reference_arm(given)], both)


def test_every_arm_takes_the_steps_of_the_hard_arm_and_epochs_are_its_own() -> None:
    runs = planned(settings(epochs=3), original=100, hard=140, random=140, sam=100)
    assert {run.name: run.steps for run in runs} == {
        "original-steps-seed0": 42,
        "hard-steps-seed0": 42,
        "random-steps-seed0": 42,
        "sam-steps-seed0": 42,
        "original-epochs-seed0": 30,
        "hard-epochs-seed0": 42,
    }
    assert [run.same_as for run in runs if run.same_as] == ["hard-steps-seed0"]
    assert runs[-1].same_as == "hard-steps-seed0"
    assert {run.budget for run in planned(settings(budgets=("steps",)), original=100, hard=140)} == {"steps"}


# -- the whole, with the model replaced -----------------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    fake = Trained()
    monkeypatch.setattr(curate.finetuning, "finetune", fake.finetune)
    monkeypatch.setattr(curate.evaluation, "evaluate", fake.evaluate)
    monkeypatch.setattr(curate.models, "load_tokenizer", load_known)
    return fake


def whole(out: Path, **fields: Any) -> dict[str, Any]:
    more = {name: fields.pop(name) for name in ("time_limit", "fresh") if name in fields}
    return validate(
        loaded(),
        settings(**{"arms": ("hard", "random"), "held_out": 0.3} | fields),
        out,
        cache=out / ".." / "cache",
        **more,
    )


def test_all_arms_of_the_first_seed_come_first_and_a_comparison_after_each(tmp_path: Path, trained: Trained) -> None:
    compared: list[int] = []
    compare = curate.comparison.compare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            curate.comparison,
            "compare",
            lambda runs, baseline, **more: compared.append(len(runs)) or compare(runs, baseline, **more),
        )
        result = whole(tmp_path / "out")
    one = [("original", "steps"), ("hard", "steps"), ("random", "steps"), ("original", "epochs")]
    assert trained.calls == [(*each, seed) for seed in (0, 1) for each in one]
    assert compared == [5, 10]
    assert result["comparison"]["baseline"] == "original"
    assert json.loads((tmp_path / "out" / "run.json").read_text())["seeds"] == [0, 1]
    assert (tmp_path / "out" / "comparison.json").is_file()
    assert (tmp_path / "out" / "report.html").is_file()
    steps = {run["name"]: run["steps"] for run in result["runs"]}
    assert len({count for name, count in steps.items() if "-steps-" in name}) == 1
    same = [run for run in result["runs"] if run["same_as"]]
    assert [run["name"] for run in same] == ["hard-epochs-seed0", "hard-epochs-seed1"]
    assert {row["budget"] for row in result["comparison"]["differences"] if row["arm"] == "hard"} == {"steps", "epochs"}
    assert trained.curation["hard-steps-seed0"] is not None
    assert trained.curation["original-steps-seed0"] is None


def test_sam_is_the_same_data_and_settings_under_another_optimizer(tmp_path: Path, trained: Trained) -> None:
    whole(tmp_path / "out", arms=("hard", "sam"), rho=0.2, seeds=(0,))
    sam, original = trained.settings["sam-steps-seed0"], trained.settings["original-steps-seed0"]
    assert (type(sam.optimizer).__name__, sam.optimizer.rho, sam.optimizer.base) == ("SAM", 0.2, original.optimizer)
    assert sam.model_copy(update={"optimizer": original.optimizer}) == original


def test_cut_off_anywhere_the_same_call_goes_on(tmp_path: Path, trained: Trained) -> None:
    for failing in (0, 2, 5):
        trained.fails_before = failing
        with pytest.raises(ExternalError, match="disk is full"):
            whole(tmp_path / "out")
        assert not (tmp_path / "out" / "run.json").exists()
    trained.fails_before = 10**9
    whole(tmp_path / "out")
    assert len(trained.calls) == len(set(trained.calls)) == 8
    whole(tmp_path / "out", seeds=(0, 1, 2), arms=("hard", "random", "easy"))
    assert len(trained.calls) == len(set(trained.calls)) == 8 + 2 + 5


def test_a_time_limit_stops_between_runs_and_says_so(tmp_path: Path, trained: Trained) -> None:
    with pytest.raises(ExternalError, match="time limit is reached; the same command goes on"):
        whole(tmp_path / "out", time_limit=1e-6)
    assert not trained.calls
    given: list[float | None] = []
    finetune = trained.finetune

    def limited(*args: Any, time_limit: float | None, **more: Any) -> None:
        given.append(time_limit)
        finetune(*args, **more)

    curate.finetuning.finetune = limited  # type: ignore[assignment]  # the fixture puts it back
    whole(tmp_path / "out", time_limit=1000.0)
    limits = [each for each in given if each is not None]
    assert len(limits) == 8
    assert 0 < limits[-1] < limits[0] < 1000


def test_a_folder_of_another_validation_or_of_anything_else_is_left_alone(tmp_path: Path, trained: Trained) -> None:
    whole(tmp_path / "out", seeds=(0,))
    with pytest.raises(InputError, match=r"another fine-tuning \(epochs\); name another folder, or pass --fresh"):
        whole(tmp_path / "out", seeds=(0,), epochs=5.0)
    with pytest.raises(InputError, match="another dataset"):
        whole(tmp_path / "out", seeds=(0,), held_out=0.4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"other files \(thesis\.txt\)"):
        whole(tmp_path / "mine", seeds=(0,), fresh=True)
    calls = len(trained.calls)
    result = whole(tmp_path / "out", seeds=(0,), epochs=5.0, fresh=True)
    assert len(trained.calls) == 2 * calls
    assert result["epochs"] == 5.0


def test_another_model_of_the_same_size_is_refused_by_name(tmp_path: Path, trained: Trained) -> None:
    whole(tmp_path / "out", seeds=(0,))
    other = Finetuning(model="n", batch_size=10)
    with pytest.raises(InputError, match=r"another model \(m, now n\)"):
        whole(tmp_path / "out", seeds=(0,), finetuning=other)
    assert (tmp_path / "out" / "run.json").is_file()
    assert json.loads((tmp_path / "out" / "validation.json").read_text())["model"]["identity"] == "files:m"


def sets_of(out: Path) -> dict[str, EvaluationSet]:
    """Two evaluation sets; only A shares rows with the data, 7 of them."""
    out.mkdir(exist_ok=True)
    pq.write_table(pa.concat_tables([rows().slice(0, 7), rows(20, seed=7)]), out / "A.parquet")
    pq.write_table(rows(20, seed=8), out / "B.parquet")
    pq.write_table(rows().slice(20, 7), out / "C.parquet")
    return {name: EvaluationSet(data=str(out / f"{name}.parquet")) for name in "ABC"}


def test_sets_may_be_fewer_or_more_with_more_seeds(tmp_path: Path, trained: Trained) -> None:
    sets = sets_of(tmp_path / "sets")
    whole(tmp_path / "out", sets=(sets["A"], sets["B"]), seeds=(0,))
    fewer = whole(tmp_path / "out", sets=(sets["A"],), seeds=(0, 1))
    assert [each["set"] for each in fewer["comparison"]["sets"]] == ["A"]
    both = whole(tmp_path / "out", sets=(sets["A"], sets["B"]), seeds=(0, 1))
    assert [each["set"] for each in both["comparison"]["sets"]] == ["A", "B"]
    pq.write_table(rows(20, seed=9), tmp_path / "sets" / "B.parquet")
    with pytest.raises(InputError, match="other questions in evaluation set 'B'"):
        whole(tmp_path / "out", sets=(sets["B"],), seeds=(0, 1))
    assert len(trained.calls) == len(set(trained.calls)) == 8


def test_runs_without_weights_are_finished_and_cannot_be_asked_anything_else(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = sets_of(tmp_path / "sets")
    whole(tmp_path / "out", sets=(sets["A"],), seeds=(0,), keep_weights=False)
    evaluate = trained.evaluate

    def with_weights(target: str, *given: Any, **more: Any) -> None:
        if not (Path(target) / "model" / "model.safetensors").exists():
            raise InputError("the weights are gone; train it again with --fresh")
        evaluate(target, *given, **more)

    monkeypatch.setattr(curate.evaluation, "evaluate", with_weights)
    whole(tmp_path / "out", sets=(sets["A"],), seeds=(0,))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(InputError, match=r"evaluation set B: the weights of .*seed0 went with --drop-weights"):
        whole(tmp_path / "out", sets=(sets["A"], sets["B"]), seeds=(0,))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == files


def test_a_set_for_which_other_rows_are_dropped_is_refused_and_others_are_not(tmp_path: Path, trained: Trained) -> None:
    sets = sets_of(tmp_path / "sets")
    given: dict[str, Any] = {"drop_contaminated": True, "seeds": (0,)}
    assert whole(tmp_path / "out", sets=(sets["A"],), **given)["data"]["rows"] == 93
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(InputError, match="--drop-contaminated leaves out other rows"):
        whole(tmp_path / "out", sets=(sets["A"], sets["C"]), **given)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == files
    whole(tmp_path / "out", sets=(sets["A"], sets["B"]), **given)
    assert len(trained.calls) == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"finetuning": Finetuning(model="./gone")}, r"model '\./gone' does not exist"),
        ({"sets": "one"}, "evaluation set one has 1 rows with a final answer"),
        ({"pipeline": pipeline(scorer=LossTrajectory(), proxy=Proxy(steps=2))}, "proxy.checkpoints = 5"),
        (
            {
                "pipeline": pipeline(proxy=Proxy(steps=2)),
                "additions": (Addition(name="s", recipe=pipeline(scorer=LossTrajectory())),),
            },
            "arm s: proxy.checkpoints = 5",
        ),
    ],
)
def test_what_is_bound_to_fail_fails_before_the_folder_is_claimed(
    tmp_path: Path, trained: Trained, fields: dict[str, Any], message: str
) -> None:
    if "sets" in fields:
        pq.write_table(rows(1, seed=5), tmp_path / "one.parquet")
        fields = {"sets": (EvaluationSet(data=str(tmp_path / "one.parquet")),)}
    for dry in (True, False):
        with pytest.raises(InputError, match=message):
            begin(loaded(), settings(**{"held_out": 0.3} | fields), tmp_path / "out", cache=tmp_path / "c", dry=dry)
        assert not (tmp_path / "out").exists()
    whole(tmp_path / "out", seeds=(0,))


def test_a_plan_knows_more_as_the_work_goes_on_and_changes_nothing(tmp_path: Path, trained: Trained) -> None:
    given = settings(arms=("hard", "sam"), held_out=0.3)
    out = tmp_path / "out"

    def plan() -> dict[str, Any]:
        return forecast(begin(loaded(), given, out, cache=tmp_path / "cache", dry=True))

    before = plan()
    assert not out.exists()
    assert [each["known"] for each in before["arms"]] == [True, False, True]
    assert before["seconds_left"] is None
    assert before["runs_left"] == 2 * 4
    left = begin(loaded(), given, out, cache=tmp_path / "cache", dry=True).prepared.loaded.examples
    text = resolve_template("auto", left.shape, False)  # the text around a prompt counts too
    per_row = len(tokenize(left, byte_level(vocabulary=300), template=text, max_length=512).ids) / len(left)
    assert per_row > 100
    first = before["runs"][0]
    assert first["tokens"] == round(first["steps"] * 10 * per_row)
    passes = {run["arm"]: run["gradients_per_step"] for run in before["runs"]}
    assert passes == {"original": 1, "hard": 1, "sam": 2}
    sharp = settings(arms=("hard",), held_out=0.3, finetuning=Finetuning(model="m", batch_size=10, optimizer=SAM()))
    doubled = forecast(begin(loaded(), sharp, tmp_path / "sharp", cache=tmp_path / "cache", dry=True))["runs"][0]
    assert doubled["gradients_per_step"] == 2
    assert doubled["tokens"] == pytest.approx(2 * first["tokens"], abs=1)
    trained.fails_before = 6
    with pytest.raises(ExternalError):
        whole(out, arms=("hard", "sam"))
    files = sorted(path for path in out.rglob("*"))
    after = plan()
    assert sorted(path for path in out.rglob("*")) == files
    assert all(each["known"] for each in after["arms"])
    assert after["runs_left"] == 2
    assert after["seconds_left"] > 0
    assert {each["metric"] for each in after["detectable"]} == {"nll"}
    assert after["detectable"][0]["absolute"] > 0


# -- the whole, as it is --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_a_table_to_an_answer_and_again_without_doing_anything_twice(tmp_path: Path, small_models: None) -> None:
    rng = np.random.default_rng(0)
    data = rows(120)
    completions = ["".join(rng.choice(list("qwertyuiop"), 8)) if k % 4 == 0 else "the same" for k in range(120)]
    data = data.drop_columns(["known"]).set_column(1, "completion", pa.array(completions))
    proxy = Proxy(model="scratch", steps=20, horizon=60, checkpoints=2, batch_size=8, max_length=64, learning_rate=5e-3)
    given = settings(
        pipeline=Pipeline(proxy=proxy, scorer=LossTrajectory(), clusterer=Quantile(q=0.75), augmenters=[Duplicate()]),
        finetuning=Finetuning(model="scratch", batch_size=16, max_length=64),
        evaluation=Evaluation(generate=False),
        arms=("hard",),
        epochs=1.0,
        held_out=0.2,
    )
    one = validate(data, given, tmp_path / "out", cache=tmp_path / "cache")
    runs = {run["name"]: run for run in one["runs"]}
    assert len(runs) == 2 * 4
    assert {run["steps"] for name, run in runs.items() if "-steps-" in name} == {runs["hard-steps-seed0"]["steps"]}
    assert all(run["evaluation"][HELD_OUT]["nll"] > 0 for run in runs.values())
    assert runs["hard-epochs-seed1"]["evaluation"] == runs["hard-steps-seed1"]["evaluation"]
    losses = [runs[f"original-steps-seed{seed}"]["evaluation"][HELD_OUT]["nll"] for seed in (0, 1)]
    assert losses[0] != losses[1]
    assert one["arms"]["hard"]["curation"]["tokens"] > 0
    assert one["arms"]["hard"]["curation"]["proxy_parameters"] > 0
    differences = one["comparison"]["differences"]
    assert {(each["arm"], each["budget"]) for each in differences} == {("hard", "steps"), ("hard", "epochs")}
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/model/*.safetensors")}
    again = validate(data, given, tmp_path / "out", cache=tmp_path / "cache")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert again["comparison"] == one["comparison"]
