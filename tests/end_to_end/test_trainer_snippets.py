"""The code that a card shows for TRL is run, as it stands there, on the folder that it is in."""

from __future__ import annotations

import functools
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from augmenters import Duplicate, Subset
from curate.clusterers import KMeans
from curate.data.readers import read
from curate.errors import DataWarning
from curate.models.scratch import scratch_tokenizer
from curate.pipeline import Pipeline
from scorers import Length
from tests.fixtures.trainers import others_may_warn

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% for t in tools or [] %}{{ 'tool: ' + t['function']['name'] + '\n' }}{% endfor %}"
    "{% for m in messages %}{{ m['role'] + ': ' + (m['content'] or '') }}"
    "{% for c in m['tool_calls'] or [] %}"
    "{% set a = c['function']['arguments'] %}{{ c['function']['name'] + (a if a is string else a | tojson) }}"
    "{% endfor %}"
    "{{ eos_token if m['role'] == 'assistant' else '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def _said(role: str, text: str, keys: tuple[str, str] = ("role", "content")) -> dict[str, str]:
    return {keys[0]: role, keys[1]: text}


def _row(k: int) -> dict[str, dict[str, Any]]:
    question, answer, wrong = f"What is {k}?", f"It is {k}." + " Surely." * (6 * (k > 7)), f"It is {k + 1}."
    asked, said = [_said("user", question)], [_said("assistant", answer)]
    speak = functools.partial(_said, keys=("from", "value"))
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    arguments = {"a": k} if k % 2 else {"b": k}
    calls = [{"type": "function", "function": {"name": "add", "arguments": arguments}}]
    used = [{"role": "assistant", "content": None, "tool_calls": calls}, _said("tool", str(k))]
    return {
        "text": {"text": f"{question} {answer}", "label": str(k)},
        "text of another name": {"content": f"{question} {answer}"},
        "prompt and completion": {"prompt": question, "completion": answer, "source": "a"},
        "question and answer": {"question": question, "answer": answer, "level": k},
        "instruction": {"instruction": "Answer.", "input": question if k % 2 else "", "output": answer},
        "messages": {"prompt": question, "messages": [*asked, *said]},
        "messages in two columns": {"prompt": asked, "completion": said},
        "messages and an answer of text": {"prompt": asked, "completion": answer},
        "conversations": {"conversations": [speak("human", question), speak("gpt", answer)]},
        "pairs": {"prompt": question, "chosen": answer, "rejected": wrong},
        "pairs of messages": {"prompt": asked, "chosen": said, "rejected": [_said("assistant", wrong)]},
        "implicit pairs": {"chosen": [*asked, *said], "rejected": [*asked, _said("assistant", wrong)], "score": 1.5},
        "pairs of ShareGPT": {
            "conversations": [speak("human", question)],
            "chosen": speak("gpt", answer),
            "rejected": speak("gpt", wrong),
        },
        "pairs with other names": {"question": question, "response_j": answer, "response_k": wrong},
        "pairs of instructions": {"instruction": question, "input": "x", "chosen": answer, "rejected": wrong},
        "tools": {"messages": [*asked, *used, *said], "tools": [tool]},
        "tools in text": {"messages": [*asked, *used, *said], "tools": json.dumps([tool])},
        "tools and two columns": {"prompt": [*asked, *used], "completion": said, "tools": json.dumps([tool])},
        "tools of ShareGPT": {
            "conversations": [
                speak("human", question),
                speak("function_call", json.dumps({"name": "add", "arguments": arguments})),
                speak("observation", str(k)),
                speak("gpt", answer),
            ],
            "functions": json.dumps([tool]),
        },
        "labels": {"prompt": question, "completion": wrong if k % 2 else answer, "label": not k % 2},
        "labels of another name": {"question": question, "answer": wrong if k % 2 else answer, "kto_tag": not k % 2},
    }


SHAPES = list(_row(0))
TOOLS = [shape for shape in SHAPES if shape.startswith("tools")]
FORMS = ("messages", "prompt_completion", "alpaca", "sharegpt")
WRITTEN: list[Any] = [(shape, "input") for shape in SHAPES]
WRITTEN += [(shape, form) for shape in ("conversations", "pairs", "labels of another name") for form in FORMS]
WRITTEN += [("tools of ShareGPT", form) for form in FORMS if form != "alpaca"]
# What is written does not depend on the form that was read; these say so at length.
OTHERS = [(shape, form) for shape in ("instruction", "pairs of ShareGPT") for form in FORMS]
OTHERS += [("tools and two columns", form) for form in FORMS if form != "alpaca"]
WRITTEN += [pytest.param(*each, marks=pytest.mark.long) for each in OTHERS]


def _snippet(card: str) -> str:
    found = re.search(r"TRL:\n\n```python\n(.*?)```", card, re.DOTALL)
    assert found
    return found[1]


def _write_model(folder: Path, data: Path) -> None:
    tokenizer = scratch_tokenizer(read(data).examples, 0)
    tokenizer.chat_template = TEMPLATE
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _trained(
    pipeline: Pipeline, shape: str, form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> dict[str, Any]:
    """What the snippet of the card leaves, on a result of 12 rows. more: arguments of the trainers."""
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    pytest.importorskip("accelerate", reason="TRL needs accelerate")
    import datasets

    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps(_row(k)[shape]) + "\n" for k in range(12)), encoding="utf-8")
    with warnings.catch_warnings():
        # Where a call is followed by an answer, two are learned, and one form keeps the last: said, and no fault here.
        warnings.filterwarnings("ignore", "--write-as prompt_completion: .* several answers", DataWarning)
        pipeline.run(data, out=out, write_as=form)
    snippet = _snippet((out / "README.md").read_text(encoding="utf-8"))
    _write_model(tmp_path / "model", data)
    small = more | {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no"}
    small |= {"per_device_train_batch_size": 4, "learning_rate": 1e-2}
    for name in ("SFTConfig", "DPOConfig", "KTOConfig"):
        monkeypatch.setattr(trl, name, functools.partial(getattr(trl, name), **small))
    monkeypatch.setattr(
        datasets, "load_dataset", functools.partial(datasets.load_dataset, cache_dir=str(tmp_path / "c"))
    )
    monkeypatch.chdir(tmp_path)
    code = snippet.replace("path/to/this/folder", str(out)).replace("MODEL", str(tmp_path / "model"))
    names: dict[str, Any] = {}
    with others_may_warn():
        exec(compile(code, "snippet", "exec"), names)  # what the card says, as it says it
    return names


@pytest.mark.parametrize(("shape", "form"), WRITTEN)
def test_the_snippet_of_a_card_trains_on_its_folder(
    shape: str, form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[Duplicate()])
    names = _trained(pipeline, shape, form, tmp_path, monkeypatch, max_steps=1)
    trainer = names["trainer"]
    assert trainer.state.global_step == 1
    assert len(names["rows"]) == len(read(tmp_path / "out", allow_curated=True).examples) > 12
    kind = "KTO" if "label" in shape and shape != "text" else "DPO" if "pairs" in shape else "SFT"
    assert type(trainer).__name__ == f"{kind}Trainer"
    if kind == "SFT":
        batch = next(iter(trainer.get_train_dataloader()))
        shown = trainer.processing_class.batch_decode(batch["input_ids"])
        assert all("What is" in text or "Answer." in text for text in shown)
        assert all("It is" in text for text in shown)
        if shape in TOOLS:
            assert all("tool: add" in text and 'add{"' in text for text in shown)


@pytest.mark.parametrize("augmenter", [Duplicate(), Subset(size=0.5, epochs=2)])
def test_the_snippet_keeps_an_order_that_matters(
    augmenter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = "front" if isinstance(augmenter, Duplicate) else "shuffle"
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[augmenter], order=order)
    names = _trained(pipeline, "question and answer", "input", tmp_path, monkeypatch, logging_steps=1)
    trainer, rows = names["trainer"], names["rows"]
    assert trainer.state.global_step == -(-len(rows) // 4)  # once
    shown = [ids for batch in trainer.get_train_dataloader() for ids in batch["input_ids"]]
    texts = trainer.processing_class.batch_decode(shown, skip_special_tokens=True)
    assert [row["prompt"].strip() in text for row, text in zip(rows, texts, strict=True)] == [True] * len(rows)
    whole = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "disable_shuffling: true" in whole
    assert "curriculum_sampling: true" in whole


def test_the_snippet_uses_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(
        scorer=Length(), clusterer=KMeans(), augmenters=[Duplicate(times=2)], order="front", copies="weights"
    )
    names = _trained(pipeline, "question and answer", "input", tmp_path, monkeypatch, max_steps=2)
    assert sorted(set(names["rows"]["weight"])) == [1, 3]
    whole = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "reweight(trainer, GivenWeights(until=0.5))" in whole
    assert "undoes the copies" not in whole
