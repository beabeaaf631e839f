"""A fine-tuned model carries its template: whoever is given it later uses that one, or is told."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import transformers

from curate import Proxy, read
from curate.console.progress import Progress
from curate.errors import DataWarning, InputError
from curate.estimate import mean_tokens
from curate.evaluation.config import Evaluation
from curate.evaluation.evaluate import evaluate
from curate.expo.extrapolation import extrapolate
from curate.finetuning.config import Finetuning
from curate.finetuning.finetune import finetune
from curate.finetuning.lora import LoRA, merged
from curate.generators.chat import model_mode, tokenizer_mode
from curate.models import load_tokenizer
from curate.models.trained_template import recorded_template
from curate.proxy.training import ProxyTraining
from curate.run import Run
from curate.tokenization.default_template import JINJA
from scorers import Learnability
from tests.fixtures.models import saved

RNG = random.Random(0)
PAIRS = [(RNG.randrange(9), RNG.randrange(9)) for _ in range(96)]
TABLE = pa.Table.from_pylist([{"prompt": f"What is {a} plus {b}?", "completion": f"It is {a + b}."} for a, b in PAIRS])
CHAT = pa.Table.from_pylist(
    [
        {"messages": [{"role": "user", "content": f"Say {k}"}, {"role": "assistant", "content": str(k)}]}
        for k in range(24)
    ]
)
TEXT = pa.table({"text": [f"The number {k} is a number." for k in range(24)]})
SETTINGS: dict[str, Any] = {"steps": 2, "batch_size": 8, "max_length": 512, "learning_rate": 1e-3}
QUIET = Progress("none")


def tuned(model: str, out: Path, rows: pa.Table = TABLE, **changes: Any) -> dict[str, Any]:
    settings = Finetuning(**{"model": model, **SETTINGS, **changes})
    return finetune(rows, settings, out, progress=QUIET)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/ of a run from scratch that has learned its rows."""
    out = tmp_path_factory.mktemp("runs") / "scratch"
    tuned("scratch", out, steps=150, batch_size=32, learning_rate=3e-3)
    return out / "model"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that nobody fine-tuned here."""
    folder = tmp_path_factory.mktemp("base")
    saved(folder, "llama_tied")
    return str(folder)


# -- where it is kept ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["alpaca", "plain", "chat"])
@pytest.mark.parametrize("lora", [None, LoRA()])
def test_it_is_kept_with_whatever_is_saved(template: Any, lora: LoRA | None, base: str, tmp_path: Path) -> None:
    record = tuned(base, tmp_path / "run", template=template, lora=lora)
    assert record["template"] == template
    found = json.loads((tmp_path / "run" / ("adapter" if lora else "model") / "tokenizer_config.json").read_text())
    assert found["training_template"] == template
    extrapolate(tmp_path / "run", 0.3, tmp_path / "expo", progress=QUIET)
    assert recorded_template(str(tmp_path / "expo")) == template


def test_an_extrapolated_run_of_before_has_it_from_its_record(base: str, tmp_path: Path) -> None:
    tuned(base, tmp_path / "run", template="plain")
    path = tmp_path / "run" / "model" / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "training_template"}))
    extrapolate(tmp_path / "run", 0.3, tmp_path / "expo", progress=QUIET)
    assert recorded_template(str(tmp_path / "expo")) == "plain"


def test_it_outlives_being_loaded_and_saved_by_others(scratch: Path, tmp_path: Path) -> None:
    for saved_model in (transformers.AutoModelForCausalLM.from_pretrained(scratch), merged(scratch.parent)):
        saved_model.save_pretrained(tmp_path)
        transformers.AutoTokenizer.from_pretrained(scratch).save_pretrained(tmp_path)
        assert recorded_template(str(tmp_path)) == "plain"


def test_the_last_one_counts_and_text_has_none(scratch: Path, base: str, tmp_path: Path) -> None:
    assert recorded_template(str(scratch)) == "plain"
    assert recorded_template(base) is None
    tuned(str(scratch), tmp_path / "text", TEXT)
    assert recorded_template(str(tmp_path / "text" / "model")) == "plain"
    tuned(base, tmp_path / "chat", CHAT)
    assert recorded_template(str(tmp_path / "chat" / "model")) == "chat"
    tuned(base, tmp_path / "alone", TEXT)
    assert recorded_template(str(tmp_path / "alone" / "model")) is None


@pytest.mark.parametrize("content", ["", "[]", '{"training_template": "other"}', '{"training_template": 3}', "{}"])
def test_what_is_no_template_is_none(content: str, base: str, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "model")
    (tmp_path / "model" / "tokenizer_config.json").write_text(content)
    assert recorded_template(str(tmp_path / "model")) is None


# -- who uses it -----------------------------------------------------------------------------------------------------


def test_fine_tuning_goes_on_where_it_stopped(scratch: Path, tmp_path: Path) -> None:
    last = json.loads((scratch.parent / "run.json").read_text())["training"]["loss_last"]
    own = tuned(str(scratch), tmp_path / "own", warmup_ratio=0.0)
    assert own["template"] == "plain"
    with pytest.warns(DataWarning, match=r"fine-tuned with template plain and is given alpaca.*set it to plain"):
        other = tuned(str(scratch), tmp_path / "other", template="alpaca")
    assert other["template"] == "alpaca"
    assert own["training"]["loss_first"] < 1.5 * last
    assert other["training"]["loss_first"] > 3 * own["training"]["loss_first"]


def test_a_proxy_a_plan_and_an_evaluation_use_it(scratch: Path, tmp_path: Path) -> None:
    proxy = Proxy(model=str(scratch), steps=1, checkpoints=1)
    examples = read(TABLE).examples
    run = ProxyTraining(examples, proxy, Run(cache=tmp_path / "cache", progress=QUIET).context)
    assert (run.template, run.tokenized.template, run.tokenize(examples).template) == ("plain",) * 3
    plain = proxy.model_copy(update={"template": "plain"})
    assert mean_tokens(examples, proxy, 0)[0] == mean_tokens(examples, plain, 0)[0]

    def loss(**changes: Any) -> float:
        settings = Evaluation(generate=False, **changes)
        found: float = evaluate(scratch, {"q": _questions()}, settings, device="cpu")["q"].summary["nll"]
        return found

    assert loss() == loss(style="template", template="plain")
    assert loss() < 0.5 * loss(style="question")


def _questions() -> pa.Table:
    return pa.table({"question": TABLE["prompt"].slice(0, 12), "answer": TABLE["completion"].slice(0, 12)})


def test_what_is_given_wins_and_one_line_says_so(scratch: Path, base: str, tmp_path: Path) -> None:
    examples, run = read(TABLE).examples, Run(cache=tmp_path / "cache", progress=QUIET)
    with pytest.warns(DataWarning, match="is given alpaca"):
        assert ProxyTraining(examples, Proxy(model=str(scratch), template="alpaca"), run.context).template == "alpaca"
    with pytest.warns(DataWarning, match="messages take the chat template"):
        assert ProxyTraining(read(CHAT).examples, Proxy(model=str(scratch)), run.context).template == "chat"
    with pytest.warns(DataWarning, match=r"is given alpaca.*leave --template out"):
        evaluate(scratch, {"q": _questions()}, Evaluation(template="alpaca", generate=False), device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ProxyTraining(examples, Proxy(model=str(scratch), template="plain"), run.context).template == "plain"
        assert ProxyTraining(read(TEXT).examples, Proxy(model=str(scratch)), run.context).template == "none"
        assert ProxyTraining(examples, Proxy(model=base), run.context).template == "alpaca"
        assert ProxyTraining(examples, Proxy(model="scratch"), run.context).template == "plain"


def test_a_reference_that_knows_another_template_is_told_of(scratch: Path, tmp_path: Path) -> None:
    tuned(str(scratch), tmp_path / "run")
    proxy = Proxy(model=str(scratch), template="plain")
    run = ProxyTraining(read(TABLE).examples, proxy, Run(cache=tmp_path / "cache", progress=QUIET).context)
    (_, measure) = Learnability(reference=str(tmp_path / "run" / "model")).measures()
    measure.check_proxy(run)
    path = tmp_path / "run" / "model" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "training_template": "alpaca"}))
    with pytest.warns(DataWarning, match="fine-tuned with template alpaca and is given plain"):
        measure.check_proxy(run)


# -- a chat template that is lost -------------------------------------------------------------------------------------


def test_a_chat_template_that_is_lost_is_missed_and_role_headings_never_take_its_place(
    base: str, tmp_path: Path
) -> None:
    tuned(base, tmp_path / "run", CHAT)
    model = tmp_path / "run" / "model"
    assert model_mode(str(model), "auto") == "chat"
    (model / "chat_template.jinja").unlink()
    lost = "was fine-tuned with a chat template that is missing"
    with pytest.raises(InputError, match=lost):
        tuned(str(model), tmp_path / "again", CHAT)
    with pytest.raises(InputError, match=lost):
        model_mode(str(model), "auto")
    with pytest.raises(InputError, match=lost):
        tokenizer_mode(load_tokenizer(str(model)), "auto")
    with pytest.raises(InputError, match=lost):
        evaluate(tmp_path / "run", {"q": _questions()}, Evaluation(generate=False), device="cpu")
    assert tokenizer_mode(load_tokenizer(str(model)), "plain") == "plain"
    with pytest.warns(DataWarning, match="was fine-tuned with template chat and is given plain"):
        tuned(str(model), tmp_path / "other", template="plain")  # which is what it has from here on
    assert model_mode(str(tmp_path / "other" / "model"), "auto") == "plain"


def test_a_model_that_learned_role_headings_keeps_them(base: str, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    tuned(str(tmp_path / "bare"), tmp_path / "run", CHAT)
    assert model_mode(str(tmp_path / "run" / "model"), "auto") == "chat"
    assert load_tokenizer(str(tmp_path / "run" / "model")).chat_template == JINJA
    tuned(str(tmp_path / "run" / "model"), tmp_path / "again", CHAT)


def test_a_model_that_learned_chats_without_a_template_carries_the_default_one(tmp_path: Path) -> None:
    tuned("scratch", tmp_path / "run", CHAT)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    rendered = tokenizer.apply_chat_template(CHAT["messages"][3].as_py(), tokenize=False)
    assert rendered == f"### User:\nSay 3\n\n### Assistant:\n3{tokenizer.eos_token}"
    assert recorded_template(str(tmp_path / "run" / "model")) == "chat"
