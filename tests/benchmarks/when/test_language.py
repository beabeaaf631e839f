"""Tasks of text: rows drawn as the phases say, exact answers as decoding gives them, completions moved as planned."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.when.arithmetic import TRAINING, material
from benchmarks.when.epoch_design import ARITHMETIC_QUICK
from benchmarks.when.family import Phase, Run
from benchmarks.when.language import LanguageTask, asked, drawn, with_faults
from curate import read
from curate.generators.decoding import sample
from curate.generators.requests import Request, Sampling
from curate.models.loading import load_model, load_tokenizer
from curate.tokenization.encoding import tokenize
from curate.training.config import TrainConfig
from curate.training.loop import train

TINY = replace(TRAINING, shapes={"target": (32, 1), "small": (16, 1)}, pretrain_steps=30, proxy_steps=6, checkpoints=2)
SETTING = replace(ARITHMETIC_QUICK[0], knows="frequent")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> LanguageTask:
    return LanguageTask(SETTING, 100, material(SETTING, 100), TINY, tmp_path_factory.mktemp("when"))


def test_rows_are_drawn_as_often_as_their_counts_say() -> None:
    counts = np.array([1, 3, 0, 2])
    order = drawn([Phase(6, counts), Phase(10, np.array([1, 0, 0, 1]))], 2, 0)
    assert Counter(order[:12].tolist()) == {0: 2, 1: 6, 3: 4}
    assert Counter(order[12:].tolist()) == {0: 4, 3: 4}


def test_training_lowers_the_loss_and_is_the_same_twice(task: LanguageTask) -> None:
    ones = np.ones(len(task.rows), np.int64)
    runs = {name: Run([Phase(40, ones)], [1, 40]) for name in ("first", "again")}
    found = dict(task.train(runs))
    assert found["first"] == found["again"]
    before, after = (sum(t.nats for t in outcome.groups.values()) for outcome in found["first"])
    assert after < before
    assert set(found["first"][0].groups) == set(task.mixture)


def test_copies_change_what_a_model_learns(task: LanguageTask) -> None:
    ones = np.ones(len(task.rows), np.int64)
    rare = task.rows["rare"].to_numpy(zero_copy_only=False)
    runs = {"original": Run([Phase(40, ones)], [40]), "late": Run([Phase(40, ones + 9 * rare)], [40])}
    found = {name: outcomes[0].groups["4"].nats for name, outcomes in task.train(runs)}
    assert found["late"] < found["original"]


def test_exact_answers_are_those_of_greedy_decoding(task: LanguageTask) -> None:
    """Of a model that was trained on half of the rows it is asked."""
    place = str(task._places["target"])
    tokenizer, model = load_tokenizer(place), load_model(place)
    rows = task.material.known.slice(0, 24)
    examples = read(rows, columns="prompt=question,completion=answer,id=id").examples
    tokens = tokenize(examples, tokenizer, template="plain", max_length=64)
    for _ in train(model, tokens.slice(0, 12), TrainConfig(steps=150, learning_rate=0.01), checkpoint_steps=[150]):
        nats, right = asked(model, tokens)
        greedy = Sampling(temperature=0, max_tokens=40)
        requests = [Request(f"{question}\n", greedy, 0) for question in rows["question"].to_pylist()]
        said = [each.text for each in sample(model, tokenizer, requests, template="plain")]
    assert right.tolist() == [text == answer for text, answer in zip(said, rows["answer"].to_pylist(), strict=True)]
    assert 0 < right.sum() < 24
    assert nats[right].mean() < nats[~right].mean()


def test_scores_have_the_ids_of_the_rows_and_proxies_are_read_off_where_asked(task: LanguageTask) -> None:
    scores = task.scores()
    assert scores.ids.to_pylist() == task.rows["id"].to_pylist()
    assert scores.trajectory is not None
    assert scores.trajectory.shape == (160, 2)
    losses = task.proxy_losses(task.rows.slice(0, 100), task.rows.slice(100), [2, 30], 0)
    assert losses.shape == (60, 2)
    assert losses[:, 1].mean() < losses[:, 0].mean()


def test_models_of_a_seed_are_made_once(task: LanguageTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LanguageTask, "_make", lambda *_: pytest.fail("made again"))
    again = LanguageTask(replace(SETTING, noise=0.1), 100, task.material, TINY, task.cache)
    assert again.parameters == task.parameters


def test_small_proxies_are_smaller_than_their_targets(task: LanguageTask, tmp_path: Path) -> None:
    assert task.parameters["proxy"] < task.parameters["target"]
    same = LanguageTask(replace(SETTING, proxy="same"), 100, task.material, TINY, tmp_path)
    assert same.parameters["proxy"] == same.parameters["target"]


def test_completions_move_among_rows_of_their_source_and_of_about_their_length() -> None:
    rows = pa.table(
        {
            "answer": [f"{source}{'x' * (i // 4)}{i}" for source in "ab" for i in range(100)],
            "source": [source for source in "ab" for _ in range(100)],
            "fault": [""] * 200,
        }
    )
    moved = with_faults(rows, 0.3, 0)
    before, after = rows["answer"].to_pylist(), moved["answer"].to_pylist()
    changed = [i for i in range(200) if before[i] != after[i]]
    assert changed == [i for i, fault in enumerate(moved["fault"].to_pylist()) if fault == "shuffled"]
    assert len(changed) == 60
    assert sorted(before) == sorted(after)
    assert all(before[i][0] == after[i][0] for i in changed)
    assert np.mean([abs(len(before[i]) - len(after[i])) for i in changed]) < 4
    assert with_faults(rows, 0.3, 1)["answer"].to_pylist() != after


def test_a_completion_that_equals_the_one_it_replaces_is_no_fault() -> None:
    rows = pa.table({"answer": ["7"] * 20, "source": ["a"] * 20, "fault": [""] * 20})
    assert set(with_faults(rows, 0.5, 0)["fault"].to_pylist()) == {""}
