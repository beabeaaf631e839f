"""The rows that a run trains on, and what is said of those that teach nothing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers

import curate
import curate.training.step
from curate.console.progress import Progress
from curate.errors import DataWarning, InputError
from curate.finetuning import finetune
from curate.storage.records import record_text
from tests.fixtures.finetuning import ROWS, settings, table, write_model
from tests.fixtures.tokenizers import CHATML, byte_level

# -- tokenizers and models of all sorts -----------------------------------------------------------------------------


def test_a_tokenizer_without_end_of_sequence_is_warned_about(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.eos_token = tokenizer.pad_token = None
    folder = write_model(tmp_path / "model", tokenizer)
    with pytest.warns(DataWarning, match="no end-of-sequence token"):
        finetune(table(), settings(folder, steps=1), tmp_path / "run")
    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert trained.generation_config.eos_token_id is None


def test_a_chat_model_stops_where_its_turns_end(tmp_path: Path) -> None:
    """The end of text is another token than the end of a turn, as in base models with a chat template."""
    tokenizer = byte_level(chat=CHATML)
    folder = write_model(tmp_path / "model", tokenizer)
    turns = [
        [{"role": "user", "content": f"What is {k}?"}, {"role": "assistant", "content": f"It is {k}."}]
        for k in range(9)
    ]
    record = finetune(pa.table({"messages": turns}), settings(folder, steps=1, max_length=200), tmp_path / "run")
    assert record["template"] == "chat"
    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    mark = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert trained.generation_config.eos_token_id == [mark, tokenizer.eos_token_id]


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


@pytest.mark.parametrize("family", ["llama", "llama_tied"])
def test_embeddings_beyond_the_vocabulary_do_no_harm(family: str, tmp_path: Path) -> None:
    tokenizer = byte_level()
    folder = write_model(tmp_path / "model", tokenizer, family, vocab_size=len(tokenizer) + 37)
    finetune(table(), settings(folder, steps=1), tmp_path / "run")
    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    tied = trained.get_output_embeddings().weight is trained.get_input_embeddings().weight
    assert tied == (family == "llama_tied")
    assert trained.get_input_embeddings().weight.shape[0] == len(tokenizer) + 37


def test_rows_without_answers_are_refused_where_they_are_many_and_told_where_they_are_few(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = pa.table({"prompt": ["a question"] * 3, "completion": [""] * 3})
    rows = pa.concat_tables([table(), empty])
    says = rf"^3 of {ROWS + 3} rows are invalid \(more than 5%\): .*e\.g\. row {ROWS} .*; --on-bad-row drop goes on"
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


# -- data -----------------------------------------------------------------------------------------------------------


def test_a_curated_folder_is_read_as_it_was_curated(model: str, tmp_path: Path) -> None:
    data = table()
    loaded = curate.read(data)
    folder = tmp_path / "hard"
    (folder / "data").mkdir(parents=True)
    copies = data.slice(0, 4)
    ids = loaded.examples.ids.to_pylist()
    whole = pa.concat_tables([data, copies]).rename_columns(["in", "out"])
    whole = whole.append_column("example_id", pa.array([*ids, *(f"{each}#1" for each in ids[:4])]))
    whole = whole.append_column("origin", pa.array(["original"] * ROWS + ["duplicate"] * 4))
    pq.write_table(whole, folder / "data" / "train-00000-of-00001.parquet")
    stages = [{"name": "train the proxy", "seconds": 2.0, "tokens": 700, "cached": False}]
    record = {
        "data": {"shape": "prompt_completion", "columns": {"prompt": "in", "completion": "out", "id": "gone"}},
        "proxy": {"parameters": 123, "tokens_trained": 700},
        "cost": {"seconds": 3.5, "stages": stages},
        "synthesis": [{"requests": {"made": 2, "from the store": 1}, "tokens": {"generated": 40}}],
    }
    (folder / "run.json").write_text(record_text(record))
    found = finetune(str(folder), settings(model, steps=1), tmp_path / "run")
    assert found["arm"] == "hard"
    assert found["data"]["origins"] == {"duplicate": 4, "original": ROWS}
    assert found["curation"] == {
        "seconds": 3.5,
        "tokens": 700,
        "proxy_parameters": 123,
        "requests": 3,
        "generated_tokens": 40,
    }
    with pytest.raises(InputError, match="is a fine-tuning run, not data"):
        finetune(str(tmp_path / "run"), settings(model), tmp_path / "other")


def test_the_limit_draws_the_same_rows_for_every_seed(model: str, tmp_path: Path) -> None:
    keys = set()
    for seed in (0, 1):
        run = tmp_path / str(seed)
        record = finetune(table(), settings(model, steps=1, seed=seed), run, limit=20)
        assert record["data"]["rows"] == 20
        keys.add(record["data"]["fingerprint"])
    assert len(keys) == 1
