"""Evaluation: what a model is shown, how its answers count, what its losses are, and what is never done twice."""

from __future__ import annotations

import json
import math
import sqlite3
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curate.checks import check_component
from curate.console.progress import Progress
from curate.data.examples import Examples
from curate.errors import DataWarning, InputError
from curate.evaluation import Evaluation, EvaluationResult, EvaluationSet, evaluate, parse_set, read_evaluations
from curate.evaluation.answers import graded
from curate.evaluation.prompts import Form, Shots, draw_shots, generation_prompts, pieces
from curate.evaluation.sets import Questions, read_set
from curate.evaluation.target import find_target
from curate.generators import Transformers
from curate.generators.decoding import encode_prompt
from curate.generators.requests import Completion, Queue, Request
from curate.models.loading import identify, load_model
from curate.models.scoring import LossEngine
from curate.storage.cache import Cache
from curate.storage.records import record_text
from curate.tokenization.encoding import encode_rows, tokenize
from curate.tokenization.templates import renderer
from tests.fixtures.models import tiny_model
from tests.fixtures.tokenizers import CHATML, CHATS, byte_level, metaspace

QUESTIONS = {
    "question": ["What is 12 plus 30?", "How many are four apples and {three} pears?", "What is 2 times 2?"],
    "answer": ["12 + 30 is 42.\n#### 42", "4 + 3 = 7, so 7.\n#### 7", "2 * 2 = 4.\n#### 4"],
    "source": ["a", "b", "a"],
    "level": ["1", "2", "10"],
}
TOKENIZER = byte_level(vocabulary=300, chat=CHATML)


def table(**changes: list[Any] | None) -> pa.Table:
    columns = {name: column for name, column in {**QUESTIONS, **changes}.items() if column is not None}
    return pa.table(columns)


def asked(rows: pa.Table | None = None, **more: Any) -> Questions:
    return read_set(EvaluationSet(**{"data": table() if rows is None else rows, "name": "q", **more}))


class Said:
    """A generator that says what it is told, by question; counts what it is asked, and may fail on the way."""

    def __init__(self, answers: Callable[[str, int], str] = lambda question, k: "#### 42", *, fails_after: int = 10**9):
        self.answers, self.left = answers, fails_after
        self.asked: list[Request] = []

    def identity(self) -> str:
        return "said"

    def serve(self, queue: Queue) -> None:
        while batch := queue.take(2):
            for request in batch:
                if not self.left:
                    raise RuntimeError("killed")
                self.left -= 1
                self.asked.append(request)
                prompt = str(request.prompt)
                text = self.answers(prompt, request.index)
                reason = "length" if text.endswith("...") else "stop"
                queue.done(request, Completion(text, reason, len(prompt), len(text)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def save_model(place: Path, seed: int = 0) -> Path:
    tiny_model(vocab_size=len(TOKENIZER), seed=seed).save_pretrained(place)
    TOKENIZER.save_pretrained(place)
    return place


def summary(result: dict[str, EvaluationResult], name: str = "q") -> dict[str, Any]:
    return result[name].summary


LOCAL = {"max_tokens": 8, "max_length": 256, "precision": "float32"}


# -- what a model is shown --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [byte_level, metaspace])
@pytest.mark.parametrize("template", ["alpaca", "plain", *CHATS])
def test_a_question_is_asked_by_the_very_tokens_that_training_put_before_its_answer(make: Any, template: str) -> None:
    questions = asked()
    for auto_bos in (False, True):
        tokenizer = make(auto_bos=auto_bos, chat=CHATS.get(template))
        name = "chat" if template in CHATS else template
        trained = tokenize(questions.examples, tokenizer, template=name, max_length=512)
        rows = pieces(questions, Form(name, ()), Shots(), tokenizer)
        scored = encode_rows(rows, tokenizer, 512)
        assert np.array_equal(scored.ids, trained.ids)
        assert np.array_equal(scored.supervised, trained.supervised)
        prompts = generation_prompts(rows, questions, Form(name, ()), Shots(), tokenizer)
        served = generation_prompts(rows, questions, Form(name, ()), Shots(), tokenizer, served=True)
        for k, prompt in enumerate(prompts):
            low, high = int(trained.offsets[k]), int(trained.offsets[k + 1])
            before = int(np.argmax(trained.supervised[low:high]))
            assert encode_prompt(tokenizer, prompt, "plain") == trained.ids[low : low + before].tolist()
            assert tokenizer(served[k])["input_ids"].count(0) == (trained.ids[low : low + before] == 0).sum()


@pytest.mark.parametrize("name", ["question", "alpaca", "plain", "chat"])
@pytest.mark.parametrize("shots", [Shots(), Shots(("What is 9?", "Say {x}"), ("nine", "x"))])
def test_no_prompt_holds_its_own_answer_and_braces_stay_braces(name: str, shots: Shots) -> None:
    rows = table(answer=["secret-one", "secret-two", "secret-three"], final_answer=["42", "7", "4"])
    questions = asked(rows)
    for tokenizer in (TOKENIZER, None):
        shown = None if tokenizer is None else pieces(questions, Form(name, ()), shots, tokenizer)
        prompts = generation_prompts(shown, questions, Form(name, ()), shots, tokenizer)
        texts = [p if isinstance(p, str) else json.dumps(p) for p in prompts]
        assert all("secret" not in text for text in texts)
        assert "{three}" in texts[1]
        assert all(question in text for question, text in zip(questions.texts, texts, strict=True))
        assert all(part in text for text in texts for part in (*shots.questions, *shots.solutions))


def test_shots_are_the_same_for_all_rows_seeded_and_never_asked() -> None:
    pool = asked(
        table(
            question=[f"What is {k}?" for k in range(20)] + ["what is 2  times 2?"],
            answer=[f"it is {k}" for k in range(20)] + ["4, of course"],
            final_answer=[str(k) for k in range(20)] + ["4"],
            source=None,
            level=None,
        )
    )
    questions = asked()
    settings = Evaluation(shots=20, shots_from=EvaluationSet(data="x"))
    found = draw_shots(settings, pool, questions)
    assert sorted(found.questions) == sorted(f"What is {k}?" for k in range(20))  # and not the one that is asked
    assert all(solution == f"it is {q[8:-1]}\n#### {q[8:-1]}" for q, solution in zip(*_pair(found), strict=True))
    few = settings.model_copy(update={"shots": 4})
    assert draw_shots(few, pool, questions) == draw_shots(few, pool, questions)
    assert draw_shots(few, pool, questions) != draw_shots(few.model_copy(update={"seed": 1}), pool, questions)
    with pytest.raises(InputError, match=r"21 shots are asked for, but .* has 20 rows"):
        draw_shots(settings.model_copy(update={"shots": 21}), pool, questions)
    prompts = generation_prompts(None, questions, Form("question", ()), found, None)
    first = [str(prompt).rpartition("Question:")[0] for prompt in prompts]
    assert len(set(first)) == 1
    assert prompts[0] == first[0] + "Question: What is 12 plus 30?\nAnswer:"


def _pair(shots: Shots) -> tuple[Sequence[str], Sequence[str]]:
    return shots.questions, shots.solutions


def test_only_the_last_answer_of_a_conversation_is_asked_for() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 1?"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "And 12 plus 30?"},
        {"role": "assistant", "content": "The answer is 42."},
    ]
    questions = asked(pa.table({"messages": [turns]}))
    assert (questions.texts, questions.answers) == (["And 12 plus 30?"], ["42"])
    rows = pieces(questions, Form("chat", ()), Shots(("q",), ("s",)), TOKENIZER)
    (prompt,) = generation_prompts(rows, questions, Form("chat", ()), Shots(("q",), ("s",)), TOKENIZER)
    before = [turns[0], {"role": "user", "content": "q"}, {"role": "assistant", "content": "s"}, *turns[1:-1]]
    assert prompt == TOKENIZER.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
    assert [text for text, part in rows[0] if part == "completion"] == ["The answer is 42."]
    (plain,) = generation_prompts(
        pieces(questions, Form("alpaca", ()), Shots(), TOKENIZER), questions, Form("alpaca", ()), Shots(), TOKENIZER
    )
    assert "And 12 plus 30?" in str(plain)
    assert "one" not in str(plain)


# -- sets -------------------------------------------------------------------------------------------------------------


def test_final_answers_come_from_their_column_else_from_what_a_solution_marks() -> None:
    rows = table(
        question=["q"] * 5,
        answer=["so 3\n#### 3", "long talk of 3 and 4", "18", None, "The answer is (B)."],
        final_answer=["5", None, None, "9", None],
        source=None,
        level=None,
    )
    found = asked(rows)
    assert found.answers == ["5", None, "18", "9", "(B)"]
    assert found.completions == ["so 3\n#### 3", "long talk of 3 and 4", "18", "9", "The answer is (B)."]
    assert found.answer_only == 2
    for name in ("final_answer", "Answer"):
        for numbers in ([18, 3], [18.0, 3.0]):
            bare = asked(pa.table({"question": ["a", "b"], name: numbers}))
            assert (bare.answers, bare.completions, bare.answer_only) == (["18", "3"], ["18", "3"], 2)


def test_rows_are_chosen_sampled_and_left_out_as_asked() -> None:
    rows = table(
        question=["a", None, "c", "d"],
        answer=["1", "2", None, "4"],
        source=None,
        level=["e", "e", "e", "f"],
        split=["test", "test", "test", "train"],
    )
    with pytest.warns(DataWarning, match=r"\(test 1, train 1\).*where: split=test"):
        assert asked(rows).left_out == 2
    assert asked(rows, where="split=test").texts == ["a"]
    assert asked(rows, where="split=test").levels == ["e"]
    assert asked(rows, where="split=test", level="split").levels == ["test"]
    many = pa.table({"question": [f"q{k}" for k in range(50)], "answer": ["1"] * 50})
    some = [asked(many, limit=9, seed=seed).texts for seed in (0, 0, 1)]
    assert len(some[0]) == 9
    assert some[0] == some[1] != some[2]
    with pytest.raises(InputError, match="no column 'grade' for the level"):
        asked(level="grade")
    with pytest.raises(InputError, match="text alone have no question"):
        asked(pa.table({"text": ["a"]}))
    with pytest.raises(InputError, match=r"evaluation set q .*match no known shape"):
        asked(pa.table({"riddle": ["a"]}))


def test_a_training_split_that_nobody_asked_for_is_warned_of() -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"question": ["1 + 1?", "1 + 2?"], "answer": ["2", "3"]})
    several = datasets.DatasetDict({"train": table, "test": table})
    with pytest.warns(DataWarning, match="sums is read from its split train"):
        read_set(EvaluationSet(data=several, name="sums"))
    # Warnings are errors: none where a split is named, where there is one only, or for solved examples.
    read_set(EvaluationSet(data=several, name="sums", split="train"))
    read_set(EvaluationSet(data=datasets.DatasetDict({"train": table}), name="sums"))
    read_set(EvaluationSet(data=several, name="sums"), asked=False)


def test_sets_are_named_on_the_command_line_by_path_name_or_mapping(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.parquet"
    odd.touch()
    assert parse_set("x.parquet", "--data") == EvaluationSet(data="x.parquet")
    assert parse_set("gsm=x/y.parquet", "--data") == EvaluationSet(data="x/y.parquet", name="gsm")
    assert parse_set(str(odd), "--data").data == str(odd)
    described = parse_set("m={data: x.parquet, where: 'split=test,level!=5', limit: 3}", "--data")
    assert described == EvaluationSet(data="x.parquet", name="m", where="split=test,level!=5", limit=3)
    assert EvaluationSet(data=str(odd)).title == "a-b"
    for text, message in (
        ("{data: x, wher: y}", "no key 'wher'; did you mean 'where'"),
        ("{data: x, name: ../up}", "cannot name a folder"),
        ("{where: x}", "it names no data"),
    ):
        with pytest.raises(InputError, match=message):
            parse_set(text, "--data")


# -- how answers count ------------------------------------------------------------------------------------------------


def test_accuracy_is_the_share_of_right_samples_and_undecided_is_not_right() -> None:
    said = {
        "12 plus": ["#### 42", "The answer is 42.0", "#### 41", "I wonder about all of it"],
        "pears": ["#### 7"] * 4,
    }

    def answers(prompt: str, k: int) -> str:
        return next((texts[k] for key, texts in said.items() if key in prompt), "no idea")

    result = evaluate(
        Said(answers), EvaluationSet(data=table(), name="q"), Evaluation(samples=4, temperature=0.7, nll=False)
    )["q"]
    assert result.rows["accuracy"].to_pylist() == [0.5, 1.0, 0.0]
    assert result.rows["verdicts"].to_pylist()[0] == ["right", "right", "wrong", "undecided"]
    assert result.rows["extracted"].to_pylist()[0] == ["42", "42.0", "41", None]
    assert result.rows["nll"].to_pylist() == [None] * 3
    found = result.summary
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["undecided"] == pytest.approx(5 / 12)
    assert found["nll"] is found["nll_rows"] is None
    assert [(each["level"], each["rows"], each["accuracy"]) for each in found["levels"]] == [
        ("1", 1, 0.5),
        ("2", 1, 1.0),
        ("10", 1, 0.0),
    ]
    assert [(each["source"], each["rows"], each["accuracy"]) for each in found["sources"]] == [
        ("a", 2, 0.25),
        ("b", 1, 1.0),
    ]


def test_letters_sets_and_formulas_are_graded() -> None:
    pairs = [("The answer is (B).", "B"), ("#### 4, 3", "3, 4"), (r"\boxed{\frac12}", "0.5"), ("answer3", "answer3")]
    found = graded([Completion(text, "stop") for text, _ in pairs], [answer for _, answer in pairs])
    assert [each.verdict.value for each in found] == ["right"] * 4


def test_the_last_number_of_a_text_that_was_cut_off_is_no_answer() -> None:
    texts = ["we add 12 and get 42", "#### 42\nand now 13"]
    for reason, verdicts in (("stop", ["right", "right"]), ("length", ["undecided", "right"])):
        found = graded([Completion(text, reason) for text in texts], ["42", "42"])  # type: ignore[arg-type]
        assert [each.verdict.value for each in found] == verdicts
    result = evaluate(Said(lambda prompt, k: "so 42 ..."), {"q": table()}, Evaluation(nll=False))
    assert summary(result)["cut_off"] == 1
    assert summary(result)["accuracy"] == 0


def test_a_row_without_a_final_answer_is_not_asked() -> None:
    rows = table(answer=["talk of this and that and more", "#### 7", "#### 4"])
    said = Said()
    result = evaluate(said, {"q": rows}, Evaluation(nll=False))
    assert len(said.asked) == 2
    assert result["q"].rows["accuracy"].to_pylist() == [None, 0.0, 0.0]
    assert summary(result)["graded"] == 2


# -- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["template", "chat", "question"])
def test_losses_are_those_of_the_reference_completion_alone_end_included(folder: Path, style: Any) -> None:
    settings = Evaluation(style=style, generate=False, **LOCAL)
    result = evaluate(folder, {"q": table()}, settings, device="cpu")["q"]
    model = tiny_model(vocab_size=len(TOKENIZER))
    losses, counts = [], []
    for question, answer in zip(QUESTIONS["question"], QUESTIONS["answer"], strict=True):
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if style == "question":
            before, after = f"Question: {question}\nAnswer:", f" {answer}<|end|>"
        elif style == "chat":
            before = TOKENIZER.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
            after = f"{answer}<|im_end|>"
        else:
            (row,) = renderer(Examples(*_one(question, answer)), "alpaca", None)(0, 1)
            before, after = row[0][0], f"{answer}<|end|>"
        first, second = (TOKENIZER(text, add_special_tokens=False)["input_ids"] for text in (before, after))
        ids = torch.tensor([[*first, *second]])
        logits = model(input_ids=ids).logits[0, len(first) - 1 : -1].log_softmax(-1)
        own = -logits.gather(1, torch.tensor(second)[:, None])[:, 0]
        losses.append(own.mean().item())
        counts.append(len(second))
    assert result.rows["nll_tokens"].to_pylist() == counts
    assert result.rows["nll"].to_pylist() == pytest.approx(losses, abs=1e-4)
    assert result.summary["nll"] == pytest.approx(np.average(losses, weights=counts), abs=1e-4)
    assert result.summary["nll_rows"] == pytest.approx(np.mean(losses), abs=1e-4)
    assert result.summary["tokens"]["scored"] == sum(counts)
    assert result.rows["accuracy"].to_pylist() == [None] * 3


def _one(question: str, answer: str) -> tuple[Any, ...]:
    rows = pa.table({"prompt": [question], "completion": [answer]})
    return rows, pa.array(["0"]), "prompt_completion", {"prompt": "prompt", "completion": "completion"}


def test_what_is_too_long_to_score_is_cut_and_said(folder: Path) -> None:
    rows = table(question=["What? " * 200, "b", "c"])
    found = evaluate(folder, {"q": rows}, Evaluation(generate=False, **{**LOCAL, "max_length": 64}), device="cpu")["q"]
    answer = len(TOKENIZER(f" {rows['answer'][0]}", add_special_tokens=False)["input_ids"]) + 1
    assert found.rows["nll_tokens"].to_pylist()[0] == answer  # the prompt was cut
    assert (found.summary["truncated"], found.summary["completions_cut"]) == (1, 0)
    assert found.summary["nll"] is not None


def test_weights_that_are_not_numbers_are_an_error(tmp_path: Path) -> None:
    model = tiny_model(vocab_size=len(TOKENIZER))
    with torch.no_grad():
        model.get_output_embeddings().weight[5] = torch.nan
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="not finite"):
        evaluate(tmp_path, {"q": table()}, Evaluation(generate=False, **LOCAL), device="cpu")


def test_a_loss_that_is_no_number_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LossEngine, "losses", lambda self, tokens: np.full(len(tokens), np.inf, np.float32))
    with pytest.raises(InputError, match=r"row 0 of q is inf .*damaged or diverged"):
        evaluate(folder, {"q": table()}, Evaluation(generate=False, **LOCAL), device="cpu")


# -- what is never done twice -----------------------------------------------------------------------------------------


def test_a_killed_evaluation_asks_only_for_what_is_not_there(tmp_path: Path) -> None:
    settings = Evaluation(nll=False, samples=3, temperature=1.0)
    killed = Said(fails_after=5)
    with pytest.raises(RuntimeError, match="killed"):
        evaluate(killed, {"q": table()}, settings, out=tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "out" / "q").exists()
    again = Said()
    evaluate(again, {"q": table()}, settings, out=tmp_path / "out", cache=tmp_path / "cache")
    assert len(again.asked) == 9 - 5
    assert not set(again.asked) & set(killed.asked)


def test_a_result_that_is_there_is_not_computed_again_and_another_protocol_does_not_replace_it(tmp_path: Path) -> None:
    settings = Evaluation(nll=False)
    first = Said()
    result = evaluate(first, {"q": table()}, settings, out=tmp_path, cache=tmp_path / "one")
    again = Said()
    found = evaluate(again, {"q": table()}, settings, out=tmp_path, cache=tmp_path / "two")
    assert (len(first.asked), len(again.asked)) == (3, 0)
    assert found["q"].rows.equals(result["q"].rows)
    assert summary(found) == summary(result)
    assert read_evaluations(tmp_path)["q"].rows.equals(result["q"].rows)
    others: list[tuple[Any, Evaluation]] = [
        (table(level=["9"] * 3, question=["other", *QUESTIONS["question"][1:]]), settings),
        (table(), settings.model_copy(update={"max_tokens": 9})),
        (table(), settings.model_copy(update={"style": "template"})),
    ]
    for rows, changed in others:
        with pytest.raises(InputError, match="holds an evaluation asked otherwise; give this one another name"):
            evaluate(again, {"q": rows}, changed, out=tmp_path)
    replaced = evaluate(again, {"q": table()}, others[1][1], out=tmp_path, fresh=True)
    assert summary(read_evaluations(tmp_path)) == summary(replaced) != summary(result)


def test_the_protocol_is_what_is_asked_and_not_how_fast() -> None:
    base = Evaluation(nll=False)

    def protocol(**changes: Any) -> str:
        return str(summary(evaluate(Said(), {"q": table()}, base.model_copy(update=changes)))["protocol"])

    same: list[dict[str, Any]] = [{"batch_size": 3}, {"precision": "float32"}, {"seed": 5}, {"vllm": "elsewhere"}]
    other: list[dict[str, Any]] = [{"max_tokens": 4}, {"style": "chat"}, {"stop": ("x",)}, {"temperature": 0.5}]
    assert {protocol(**changes) for changes in same} == {protocol()}
    assert len({protocol(), *(protocol(**changes) for changes in other)}) == 1 + len(other)
    assert protocol(temperature=0.5, seed=1) != protocol(temperature=0.5)


def test_parts_that_are_asked_for_one_after_the_other_come_together(folder: Path, tmp_path: Path) -> None:
    both = Evaluation(**LOCAL)
    parts = [both.model_copy(update={"generate": False}), both.model_copy(update={"nll": False}), both]
    found = [
        summary(evaluate(folder, {"q": table()}, each, out=tmp_path / "parts", cache=tmp_path / "a", device="cpu"))
        for each in parts
    ]
    whole = evaluate(folder, {"q": table()}, both, out=tmp_path / "whole", cache=tmp_path / "b", device="cpu")
    assert found[0]["accuracy"] is None
    assert found[1] == found[2]
    free = ("seconds", "settings")
    assert {k: v for k, v in found[2].items() if k not in free} == {
        k: v for k, v in summary(whole).items() if k not in free
    }
    assert read_evaluations(tmp_path / "parts")["q"].rows.equals(whole["q"].rows)


def test_answers_of_another_precision_are_drawn_again(folder: Path, tmp_path: Path) -> None:
    found = {
        precision: evaluate(
            folder, {"q": table()}, Evaluation(nll=False, **{**LOCAL, "precision": precision}), cache=tmp_path
        )["q"].summary["generator"]["identity"]
        for precision in ("float32", "bfloat16")
    }
    assert found["float32"].removesuffix("float32") == found["bfloat16"].removesuffix("bfloat16")
    with sqlite3.connect(tmp_path / "requests" / "requests.sqlite") as connection:
        models = connection.execute("SELECT model, count(*) FROM completions GROUP BY model").fetchall()
    assert {model for model, _ in models} == set(found.values())
    assert len({number for _, number in models}) == 1


def test_without_math_verify_expressions_are_undecided_and_that_is_said_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = table(answer=["#### 42", "#### 42", r"\boxed{x+1}"])
    said = Said(lambda question, k: r"\boxed{1+x}")
    whole = evaluate(said, {"q": rows}, Evaluation(nll=False), cache=tmp_path / "a")
    assert "right" in str(whole["q"].rows["verdicts"].to_pylist()[2])
    monkeypatch.setattr("curate.evaluation.answers.algebra_is_here", lambda: False)
    with pytest.warns(DataWarning, match=r"pip install 'curate-lm\[math\]'") as warned, pytest.raises(RuntimeError):
        evaluate(Said(fails_after=0), {"q": rows}, Evaluation(nll=False), cache=tmp_path / "b")
    assert len(warned) == 1
    with pytest.warns(DataWarning):
        found = evaluate(said, {"q": rows}, Evaluation(nll=False), cache=tmp_path / "a")
    assert found["q"].rows["verdicts"].to_pylist()[2] == ["undecided"]
    assert found["q"].summary["protocol"] != whole["q"].summary["protocol"]


def test_answers_are_those_of_the_transformers_generator(folder: Path, tmp_path: Path) -> None:
    settings = Evaluation(nll=False, **LOCAL)
    one = evaluate(folder, {"q": table()}, settings, cache=tmp_path, device="cpu")["q"]
    generator = Transformers(model=str(folder), device="cpu", precision="float32")
    other = evaluate(generator, {"q": table()}, settings, cache=tmp_path / "other", device="cpu")["q"]
    assert one.rows.equals(other.rows)
    assert one.summary["generator"]["identity"] == f"{generator.identity()} float32"
    assert one.summary["tokens"]["generated"] > 0


def test_the_content_of_a_model_is_read_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, cache = save_model(tmp_path / "m"), Cache(tmp_path / "cache")
    first = identify(str(place), None, cache)
    assert first == identify(str(place))
    monkeypatch.setattr("curate.storage.hashing._content_digest", lambda files: "read")
    assert identify(str(place), None, cache) == first
    save_model(place, seed=1)
    assert identify(str(place), None, cache) == "files:read"


# -- fine-tuned runs --------------------------------------------------------------------------------------------------


def write_run(place: Path, *, data: Path, template: str = "plain", seed: int = 0, lora: Path | None = None) -> Path:
    """A run folder as fine-tuning leaves it."""
    from curate.finetuning.data import training_data

    place.mkdir(exist_ok=True)
    rows = training_data(str(data), {})
    if lora is None:
        save_model(place / "model", seed)
        model = {"name": "base", "identity": "x"}
    else:
        save_lora(place / "adapter", lora, seed)
        model = {"name": str(lora), "identity": identify(str(lora))}
    record = {
        "kind": "finetune",
        "arm": "a",
        "seed": seed,
        "settings": {"model": model["name"], "revision": None, "trust_remote_code": False},
        "data": {"description": str(data), "fingerprint": rows.examples.fingerprint(), "reading": {}},
        "model": model,
        "template": template,
    }
    (place / "run.json").write_text(record_text(record))
    return place


def save_lora(place: Path, base: Path, seed: int) -> None:
    from curate.finetuning.lora import LoRA, save_adapter, with_adapter
    from curate.models.loading import load_model

    adapted = with_adapter(load_model(str(base)), LoRA(rank=2), seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05 + seed)
    place.mkdir(parents=True, exist_ok=True)
    save_adapter(adapted, place, str(base), None)
    TOKENIZER.save_pretrained(place)


@pytest.fixture
def trained_on(tmp_path: Path) -> Path:
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"question": ["Who is there, said the miller?"], "answer": ["me"]}), path)
    return path


def test_a_run_is_asked_as_it_was_trained_and_keeps_its_results(tmp_path: Path, trained_on: Path) -> None:
    run = write_run(tmp_path / "run", data=trained_on)
    result = evaluate(run, {"q": table()}, Evaluation(**LOCAL), device="cpu")
    plain = evaluate(
        run / "model", {"q": table()}, Evaluation(style="template", template="plain", **LOCAL), device="cpu"
    )
    assert summary(result)["settings"]["style"] == "plain"
    assert summary(result)["protocol"] == summary(plain)["protocol"]
    assert result["q"].rows.equals(plain["q"].rows)
    assert (run / "evaluation" / "q" / "rows.parquet").is_file()
    assert read_evaluations(run)["q"].summary == summary(result)
    write_run(run, data=trained_on, seed=1)  # trained again: what its earlier weights did is replaced
    again = evaluate(run, {"q": table()}, Evaluation(**LOCAL), device="cpu")
    assert summary(again)["nll"] != summary(result)["nll"]
    assert read_evaluations(run)["q"].summary == summary(again)


def test_an_adapter_is_evaluated_as_the_model_it_makes(tmp_path: Path, trained_on: Path, folder: Path) -> None:
    from curate.finetuning.lora import merged

    run = write_run(tmp_path / "run", data=trained_on, lora=folder)
    settings = Evaluation(**LOCAL)
    result = evaluate(run, {"q": table()}, settings, device="cpu", cache=tmp_path / "one")
    whole = tmp_path / "whole"
    merged(run).save_pretrained(whole)
    TOKENIZER.save_pretrained(whole)
    plain = settings.model_copy(update={"style": "template", "template": "plain"})
    same = evaluate(whole, {"q": table()}, plain, device="cpu", cache=tmp_path / "two")
    base = evaluate(folder, {"q": table()}, plain, device="cpu", cache=tmp_path / "two")
    assert result["q"].rows["completions"] == same["q"].rows["completions"]
    assert result["q"].rows["nll"].to_pylist() == pytest.approx(same["q"].rows["nll"].to_pylist(), abs=1e-5)
    assert abs(summary(base)["nll"] - summary(same)["nll"]) > 0.01
    cache = Cache(tmp_path / "one")
    found = find_target(run, settings, cache)
    served = []
    for _ in range(2):
        with found.folder(cache) as place:  # what a server is given, the same each time
            served.append(identify(place))
            weights = load_model(place).state_dict()
        assert not Path(place).exists()
    assert served[0] == served[1]
    assert all(torch.equal(weights[name], each) for name, each in merged(run).state_dict().items())
    save_lora(run / "adapter", folder, seed=2)
    other = evaluate(run, {"q": table()}, settings, device="cpu", cache=tmp_path / "one")
    assert summary(other)["model"]["identity"] != summary(result)["model"]["identity"]
    assert summary(other)["nll"] != summary(result)["nll"]
    record = json.loads((run / "run.json").read_text())
    record["model"]["identity"] = "files:another"
    (run / "run.json").write_text(record_text(record))
    with pytest.raises(InputError, match="is not the one that was fine-tuned"):
        evaluate(run, {"q": table()}, settings, device="cpu")


def test_training_rows_that_are_asked_are_warned_of_with_counts(tmp_path: Path, trained_on: Path) -> None:
    shared = "how many pears are left in the basket when the miller has sold 7 of the 12 pears that he had?"
    pq.write_table(
        pa.table(
            {
                "question": [shared.upper(), shared.upper(), shared.replace("12", "40"), "something else"],
                "answer": ["5", "5", "33", "x"],
            }
        ),
        trained_on,
    )
    run = write_run(tmp_path / "run", data=trained_on)
    rows = table(question=["What is 12 plus 30?", "How many?", shared])
    with pytest.warns(DataWarning, match=r"at least 1 of its 3 questions \(.*2 exact.*3 template"):
        found = evaluate(run, {"q": rows}, Evaluation(generate=False, **LOCAL), device="cpu")
    assert summary(found)["overlap"]["rules"]["exact"] == {"training_rows": 2, "evaluation_rows": 1}
    clean = evaluate(run, {"clean": table()}, Evaluation(generate=False, **LOCAL), device="cpu")
    assert summary(clean, "clean")["overlap"] == {"rules": {}}
    trained_on.unlink()
    with pytest.warns(DataWarning, match="is unknown: the training data .* is no longer there"):
        evaluate(run, {"later": table()}, Evaluation(generate=False, **LOCAL), device="cpu")
    pq.write_table(pa.table({"question": ["new"], "answer": ["x"]}), trained_on)
    with pytest.warns(DataWarning, match="is no longer what the run was trained on"):
        evaluate(run, {"latest": table()}, Evaluation(generate=False, **LOCAL), device="cpu")


# -- bad input --------------------------------------------------------------------------------------------------------


def test_components_keep_the_contract() -> None:
    check_component(Evaluation())
    check_component(EvaluationSet(data="x.parquet"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"generate": False, "nll": False}, "nothing to evaluate"),
        ({"samples": 2}, "temperature 0 are all the same"),
        ({"shots": 2}, "2 shots come from nowhere"),
        ({"shots_from": EvaluationSet(data="x")}, "no number of shots"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evaluation(**given)


def test_what_cannot_be_evaluated_says_what_to_give(tmp_path: Path, trained_on: Path) -> None:
    settings = Evaluation(generate=False)
    with pytest.raises(InputError, match="its losses are not to be had"):
        evaluate(Said(), {"q": table()}, settings)
    with pytest.raises(InputError, match=r"give a run folder, a model folder, a hub id or a generator"):
        evaluate(3, {"q": table()}, settings)
    with pytest.raises(InputError, match="two evaluation sets are named q"):
        evaluate(Said(), [EvaluationSet(data=table(), name="q")] * 2)
    with pytest.raises(InputError, match="needs a name"):
        evaluate(Said(), [EvaluationSet(data=table())])
    with pytest.raises(InputError, match="there is no evaluation set"):
        evaluate(Said(), [])
    with pytest.raises(InputError, match="holds no evaluation; run `curate evaluate"):
        read_evaluations(tmp_path)
    run = write_run(tmp_path / "run", data=trained_on)
    place = run / "evaluation" / "q"
    place.mkdir(parents=True)
    (place / "summary.json").write_text("{")
    with pytest.raises(InputError, match=r"summary.json is damaged .*; remove .* and evaluate again"):
        evaluate(run, {"q": table()}, settings, device="cpu")
    (run / "run.json").unlink()
    with pytest.raises(InputError):
        evaluate(run, {"q": table()}, settings, device="cpu")


def test_a_question_that_does_not_fit_is_refused_and_counted(folder: Path) -> None:
    rows = table(question=["What? " * 400, *QUESTIONS["question"][1:]])
    with pytest.warns(DataWarning, match="1 of 3 questions were refused and count as not right"):
        found = evaluate(folder, {"q": rows}, Evaluation(nll=False, **LOCAL), device="cpu")
    assert summary(found)["refused"] == 1
    assert found["q"].rows["accuracy"].to_pylist()[0] == 0
    verdicts = found["q"].rows["verdicts"].to_pylist()
    assert verdicts[0] == ["refused"]
    assert "refused" not in [*verdicts[1], *verdicts[2]]


def test_answers_that_the_context_cuts_short_are_counted_and_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Evaluation(nll=False, **{**LOCAL, "max_tokens": 5000})
    found = evaluate(folder, {"q": table()}, settings, device="cpu", progress=Progress("lines"))
    assert (summary(found)["capped"], summary(found)["refused"]) == (3, 0)
    ended = round(summary(found)["cut_off"] * 3)
    assert ended > 0
    assert f"{ended} of 3 answers ended with the model's context, after " in capsys.readouterr().err


def test_numbers_of_a_summary_are_json_and_nothing_is_invented(folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(folder, {"q": table()}, Evaluation(**LOCAL), out=tmp_path, device="cpu")
    found = json.loads((tmp_path / "q" / "summary.json").read_text())
    needed = {"kind", "name", "data", "protocol", "settings", "rows", "accuracy", "undecided", "nll", "nll_rows"}
    assert needed | {"cut_off", "generator", "tokens", "seconds", "versions"} <= set(found)
    assert set(found["tokens"]) == {"prompt", "generated", "scored"}
    assert len(found["protocol"]) == 32
    assert all(math.isfinite(found[name]) for name in ("nll", "nll_rows", "accuracy", "undecided", "cut_off"))
