"""Models, tokenizers and rows that can and cannot be trained on."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import transformers

from curate.console.progress import Progress
from curate.errors import DataWarning, InputError
from curate.finetuning.finetune import finetune
from curate.finetuning.lora import LoRA
from tests.fixtures.finetuning import ROWS, settings, table, write_model
from tests.fixtures.tokenizers import byte_level


def test_a_tokenizer_without_end_of_sequence_is_warned_about(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.eos_token = tokenizer.pad_token = None
    folder = write_model(tmp_path / "model", tokenizer)
    with pytest.warns(DataWarning, match="no end-of-sequence token"):
        finetune(table(), settings(folder, steps=1), tmp_path / "run")
    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert trained.generation_config.eos_token_id is None


def test_messages_need_no_chat_template(model: str, tmp_path: Path) -> None:
    turns = [[{"role": "user", "content": f"{k}?"}, {"role": "assistant", "content": f"{k}."}] for k in range(9)]
    record = finetune(pa.table({"messages": turns}), settings(model, steps=1), tmp_path / "run")
    assert record["data"]["valid"] == 9


def test_tokens_that_the_model_does_not_have_are_named(tmp_path: Path) -> None:
    tokenizer = byte_level()
    folder = write_model(tmp_path / "model", tokenizer, vocab_size=200)
    with pytest.raises(InputError, match="resize_token_embeddings"):
        finetune(table(), settings(folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rows_without_answers_are_refused_where_they_are_many_and_told_where_they_are_few(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = pa.table({"prompt": ["a question"] * 3, "completion": [""] * 3})
    rows = pa.concat_tables([table(), empty])
    says = rf"^3 of {ROWS + 3} rows are invalid \(more than 5%\): .*e\.g\. row {ROWS} .*; --on-bad-row drop continues"
    with pytest.raises(InputError, match=says):
        finetune(rows, settings(model), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for given, options in ((rows, {"on_bad_row": "drop"}), (rows.slice(0, ROWS + 2), {})):
        record = finetune(given, settings(model), tmp_path / "run", progress=Progress("lines"), fresh=True, **options)
        assert record["data"]["valid"] == ROWS
        without = record["data"]["rows"] - ROWS
        said = f"{without} of {record['data']['rows']} rows have no completion text: they are not trained on"
        assert said in capsys.readouterr().err


def test_a_long_prompt_does_not_cost_the_answer(model: str, tmp_path: Path) -> None:
    long = pa.table({"prompt": ["word " * 200] * 20, "completion": ["a short answer"] * 20})
    record = finetune(pa.concat_tables([table(), long]), settings(model), tmp_path / "run")
    assert record["data"]["valid"] == ROWS + 20
    assert record["data"]["prompts_cut"] >= 20
    assert record["data"]["completions_cut"] == 0


def test_a_run_is_not_taken_for_a_model(model: str, tmp_path: Path) -> None:
    finetune(table(), settings(model, steps=1), tmp_path / "whole")
    finetune(table(), settings(model, steps=1, lora=LoRA()), tmp_path / "adapted")
    with pytest.raises(InputError, match=r"is a run, not a model; its weights are --model .*whole/model"):
        finetune(table(), settings(str(tmp_path / "whole")), tmp_path / "out")
    for place in (tmp_path / "adapted", tmp_path / "adapted" / "adapter"):
        with pytest.raises(InputError, match=r"holds an adapter.*curate expo .* --alpha 0"):
            finetune(table(), settings(str(place)), tmp_path / "out")
