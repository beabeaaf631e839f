"""Losses are those of the reference completion alone, its end included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from curate.data.examples import Examples
from curate.errors import InputError
from curate.evaluation.config import Evaluation
from curate.evaluation.evaluate import evaluate
from curate.models.scoring import LossEngine
from curate.tokenization.templates import renderer
from tests.fixtures.evaluation import LOCAL, QUESTIONS, TOKENIZER, table
from tests.fixtures.models import tiny_model

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
