"""Pre-memorization accuracy: its definition by hand, its samples, and what it finds when a proxy recites or solves."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.console.progress import Progress
from curate.data.examples import Examples
from curate.data.readers import read
from curate.errors import InputError
from curate.pipeline import Pipeline
from curate.proxy.proxy import Proxy
from curate.run import Run
from curate.verify.sandbox import sandbox_layers
from scorers import PreMemorizationAccuracy
from scorers.pre_memorization import masked_accuracy, pre_memorization_accuracy
from scorers.sampled_accuracy import SampledAccuracy
from tests.fixtures.graded_rows import TWO_EPOCHS, mixed_tasks, sums

P = -2.3  # nll of 0.1003
LOW, HIGH = 0.05, 0.5

# accuracy and nll at three epochs -> masked, PreMem; one example each, worked out by hand.
BY_HAND = {
    "memorized from the first epoch": ([1, 1, 1], [LOW] * 3, [0, 0, 0], [0, 0, 0]),
    "never memorized": ([0.2, 0.6, 0.8], [HIGH] * 3, [0.2, 0.6, 0.8], [0.2, 0.6, 0.8]),
    "solved, then memorized": ([0.4, 0.6, 1], [HIGH, HIGH, LOW], [0.4, 0.6, 0], [0.4, 0.6, 0.6]),
    "memorized without having been solved": ([0, 1, 1], [HIGH, LOW, LOW], [0, 0, 0], [0, 0, 0]),
    "solved, then forgotten": ([0.8, 0.2, 0.4], [HIGH] * 3, [0.8, 0.2, 0.4], [0.8, 0.2, 0.4]),
    "memorized, then worse than before": ([0.6, 0.4, 1], [HIGH, LOW, LOW], [0.6, 0, 0], [0.6, 0.4, 0.6]),
    "memorized for one epoch only": ([1, 0.2, 0.8], [LOW, HIGH, HIGH], [0, 0.2, 0.8], [0, 0.2, 0.8]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_three_epochs_by_hand(name: str) -> None:
    accuracy, nll, masked, expected = (np.array(each, float)[:, None] for each in BY_HAND[name])
    assert masked_accuracy(accuracy, nll, P).tolist() == masked.tolist()
    assert pre_memorization_accuracy(accuracy, nll, P).tolist() == expected.tolist()


def test_examples_side_by_side_are_as_alone_and_as_the_definition_says() -> None:
    rng = np.random.default_rng(0)
    accuracy, nll = rng.integers(0, 6, (4, 50)) / 5, rng.gamma(1, 0.15, (4, 50))
    found = pre_memorization_accuracy(accuracy, nll, P)
    for i in range(50):
        for m in range(4):
            seen = [accuracy[j, i] if np.log(nll[j, i]) >= P else 0.0 for j in range(m + 1)]
            assert found[m, i] == min(max(seen), accuracy[m, i])
    assert (found <= accuracy).all()
    assert pre_memorization_accuracy(accuracy, nll, -99).tolist() == accuracy.tolist()  # nothing counts as memorized


def test_nan_is_never_a_number() -> None:
    accuracy, nll = np.full((3, 3), 0.5), np.full((3, 3), HIGH)
    accuracy[1, 0], nll[0, 1] = np.nan, np.nan
    found = pre_memorization_accuracy(accuracy, nll, P)
    assert np.isnan(found).tolist() == [[False, True, False], [True, True, False], [True, True, False]]


@pytest.mark.parametrize("shapes", [((3, 2), (2, 3)), ((3,), (3,))])
def test_shapes_must_agree(shapes: tuple) -> None:
    with pytest.raises(InputError, match=r"give both as \(epochs, examples\)"):
        pre_memorization_accuracy(np.zeros(shapes[0]), np.zeros(shapes[1]), P)


def test_programs_are_not_run_unasked() -> None:
    with pytest.raises(ValueError, match="set run_programs"):
        PreMemorizationAccuracy(grader="tests")


def test_tests_alone_ask_for_consent_before_anything_is_trained() -> None:
    programs = mixed_tasks().take(np.array([2, 3]))
    with pytest.raises(InputError, match="--run-programs"):
        PreMemorizationAccuracy().check_examples(programs)
    PreMemorizationAccuracy(run_programs=True).check_examples(programs)
    with pytest.raises(InputError, match="grader JSON finds right none"):
        PreMemorizationAccuracy(grader="json").check_examples(programs)


def test_rows_without_an_answer_to_grade_by_are_invalid_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    completions = [f"#### {k}" for k in range(24)]
    answers: list = [str(k) for k in range(24)]
    completions[3], answers[3] = "about four", "the moon"  # cannot be found in its own completion
    completions[4], answers[4] = "it is 7\n#### 7", None  # marks its answer itself
    completions[5], answers[5] = "it is 7", None
    answers[6] = "99"  # contradicts its completion
    completions[7] = ""
    examples = sums(completion=completions, final_answer=answers)
    run = Run(TWO_EPOCHS, tmp_path, progress=Progress("lines"))
    scores = PreMemorizationAccuracy(samples=1, max_tokens=4).score(examples, run)
    assert np.flatnonzero(~scores.valid).tolist() == [3, 5, 6, 7]
    assert np.isnan(scores.difficulty[[3, 5, 6, 7]]).all()
    assert "3 of 24 rows have no answer to grade by" in capsys.readouterr().err


def test_the_record_names_the_sandbox_where_programs_may_run(tmp_path: Path) -> None:
    examples, run = sums(), Run(TWO_EPOCHS, tmp_path)
    for permitted in (False, True):
        PreMemorizationAccuracy(samples=1, max_tokens=2, run_programs=permitted).score(examples, run)
        facts = run.facts(examples)
        assert facts is not None
        assert facts.get("sandbox") == (list(sandbox_layers()) if permitted else None)
    run.trace(examples, [SampledAccuracy(samples=3, max_tokens=6, batch_size=8)])
    assert run.facts(examples) == facts, "a further measure takes nothing from the record"


@pytest.mark.parametrize(
    ("examples", "says"),
    [
        (read(pa.table({"text": ["one two", "three"]})).examples, "have none; give the data as prompt and completion"),
        (sums(completion=["words"] * 24, final_answer=[None] * 24), "--columns final_answer=COLUMN"),
    ],
    ids=["text", "no answers"],
)
def test_data_that_cannot_be_graded_is_refused_before_anything_is_trained(
    examples: Examples, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.training.train", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(InputError, match=says):
        PreMemorizationAccuracy().score(examples, Run(TWO_EPOCHS, tmp_path))
    pipeline = Pipeline.from_recipe({"scorer": {"use": "PreMemorizationAccuracy"}, "clusterer": {"use": "KMeans"}})
    with pytest.raises(InputError, match=says):
        pipeline.check(examples)


@pytest.mark.parametrize(
    ("settings", "rows", "remedy"),
    [
        ({"steps": "1/3 epoch", "checkpoints": 5, "min_steps": 1}, 800, "'1 epochs', proxy.checkpoints to 1"),
        ({"steps": "3 epochs", "checkpoints": 6, "min_steps": 1}, 800, "'3 epochs', proxy.checkpoints to 3"),
        ({"steps": "3 epochs", "checkpoints": 2, "min_steps": 1}, 800, "'2 epochs', proxy.checkpoints to 2"),
        ({"steps": "3 epochs", "checkpoints": 3}, 80, "'3 epochs', proxy.checkpoints to 3 and proxy.min_steps to 1"),
        ({"steps": "2 epochs", "checkpoints": 2, "min_steps": 1}, 803, None),
        ({"steps": "3 epochs", "checkpoints": 3, "min_steps": 1}, 803, None),
        ({"steps": 75, "checkpoints": 3}, 800, None),
        ({"steps": "12 epochs", "checkpoints": 12}, 8001, None),
    ],
)
def test_checkpoints_must_fall_on_whole_epochs(settings: dict, rows: int, remedy: str | None) -> None:
    schedule = Proxy(model="scratch", **settings).schedule(rows)
    if remedy is None:
        PreMemorizationAccuracy().check_schedule(schedule)
        return
    with pytest.raises(InputError, match="after every whole epoch") as caught:
        PreMemorizationAccuracy().check_schedule(schedule)
    assert remedy in str(caught.value)


def test_other_final_answers_are_other_values_and_another_threshold_samples_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = PreMemorizationAccuracy(samples=1, max_tokens=4)
    examples, unknown = sums(), sums(final_answer=["the moon"] * 12 + [None] * 12)
    run = Run(TWO_EPOCHS, tmp_path)
    assert scorer.score(examples, run).valid.all()
    for again in (run, Run(TWO_EPOCHS, tmp_path)):  # what is remembered, and what is on disk
        assert scorer.score(unknown, again).valid.tolist() == [False] * 12 + [True] * 12
    monkeypatch.setattr("scorers.sampled_accuracy.sampled_accuracy", lambda *a, **k: pytest.fail("sampled again"))
    scorer.model_copy(update={"threshold": -1.0}).score(examples, Run(TWO_EPOCHS, tmp_path))


@pytest.mark.slow
def test_what_is_solved_is_easy_and_what_is_recited_is_hard(tmp_path: Path) -> None:
    """Solutions worded at random, whose answer stands in the question, among two solutions seen 32 times an epoch.

    The losses say the opposite: wording cannot be foreseen, and what is recited has none left.
    """
    rng = np.random.default_rng(0)

    def solution(answer: str) -> str:
        return (
            f"{' '.join(rng.choice(['so', 'then', 'thus', 'hence', 'next', 'now', 'also', 'well'], 6))}\n#### {answer}"
        )

    solved = [(" ".join([digit] * 3), solution(digit), digit) for digit in map(str, rng.integers(0, 10, 96))]
    recited = [("name red", solution("41"), "41"), ("name blue", solution("93"), "93")] * 32
    names = ("prompt", "completion", "final_answer")
    table = pa.table(dict(zip(names, zip(*solved, *recited, strict=True), strict=True)))
    longer = {"steps": "4 epochs", "checkpoints": 4, "horizon": "40 epochs", "learning_rate": 3e-3, "batch_size": 4}
    proxy = TWO_EPOCHS.model_copy(update=longer)
    scorer = PreMemorizationAccuracy(threshold=-0.3, samples=2, max_tokens=16)
    scores = scorer.score(table, Run(proxy, tmp_path, device="cpu"))
    assert scores.valid.all()
    assert scores.features.shape == (160, 4)
    assert scores.difficulty.tolist() == (1 - scores.features[:, -1]).tolist()
    assert scores.trajectory is not None
    assert scores.trajectory[96:, -1].max() < 0.1 < 1.0 < scores.trajectory[:96, -1].mean()
    assert scores.difficulty[:96].mean() < 0.5
    assert scores.difficulty[96:].mean() > 0.8
