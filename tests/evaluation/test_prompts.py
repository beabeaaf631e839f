"""A question is asked by the tokens that training put before its answer; shots are seeded and never asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.errors import InputError
from curate.evaluation.config import Evaluation, EvaluationSet
from curate.evaluation.prompts import Form, Shots, draw_shots, generation_prompts, pieces, unshown
from curate.generators.chat import encode_prompt
from curate.tokenization.encoding import encode_rows, tokenize
from tests.fixtures.evaluation import TOKENIZER, asked, table
from tests.fixtures.tokenizers import CHATS, byte_level, metaspace

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
        served = generation_prompts(rows, questions, Form(name, ()), Shots(), tokenizer, by_server=True)
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


def test_what_a_form_does_not_show_is_told() -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "#### 2", "train": True},
    ]
    rows = [{"messages": chat, "tools": [tool]}, {"messages": chat[1:3], "tools": [tool]}]
    questions = asked(
        pa.Table.from_pylist([{"messages": json.dumps(r["messages"]), "tools": json.dumps(r["tools"])} for r in rows])
    )
    said = unshown(questions, Form("question", ())) or ""
    for what in ("tools in 2 rows", "system in 1 rows", "earlier turns in 1 rows", "calls as answers in 1 rows"):
        assert what in said
    assert "--style template --template chat" in said
    assert unshown(questions, Form("chat", ())) is None
    assert unshown(asked(), Form("question", ())) is None
