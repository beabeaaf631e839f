"""What is evaluated: a model, a run as it was trained, an adapter as the model that it makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from curate.errors import InputError
from curate.evaluation.config import Evaluation
from curate.evaluation.evaluate import evaluate
from curate.evaluation.results import read_evaluations
from curate.evaluation.target import find_target
from curate.generators import Transformers
from curate.models import identify, load_model
from curate.storage.cache import Cache
from curate.storage.records import record_text
from tests.fixtures.evaluation import LOCAL, TOKENIZER, save_lora, save_model, summary, table, write_run


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
