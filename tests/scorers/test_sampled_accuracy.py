"""Sampled accuracy: draws of a row alike everywhere, graded by the grader of the row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import curate.proxy.trace as trace_module
from curate.data.examples import Examples, hash_columns
from curate.data.readers import read
from curate.errors import InputError
from curate.evaluation.answers import graded, grading_version
from curate.generators.chat import encode_prompt
from curate.generators.decoding import sample
from curate.generators.requests import Completion, Request, Sampling
from curate.graders import JSON, Exact, Tests
from curate.proxy.proxy import Proxy
from curate.proxy.trace import measure_checkpoints
from curate.proxy.training import ProxyTraining
from curate.run import Run
from scorers.row_graders import verifiable
from scorers.sampled_accuracy import SampledAccuracy, sampled_accuracy
from tests.fixtures.graded_rows import CALL, DOUBLE, TWO_EPOCHS, mixed_tasks, sums
from tests.fixtures.models import tiny_model
from tests.fixtures.tokenizers import byte_level

FEW = SampledAccuracy(samples=3, max_tokens=6, batch_size=8)


def _measured(examples: Examples, cache: Path, proxy: Proxy = TWO_EPOCHS, measure: SampledAccuracy = FEW) -> np.ndarray:
    return measure_checkpoints(examples, proxy, [measure], Run(proxy, cache)).of(measure)[:, :, 0]


def test_a_row_is_sampled_alike_whatever_its_shard_and_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = TWO_EPOCHS.model_copy(update={"steps": "20 epochs", "learning_rate": 3e-3})  # learns some of the sums
    whole = _measured(sums(), tmp_path, proxy)
    assert ((whole > 0) & (whole < 1)).any()  # draws that went otherwise would show
    monkeypatch.setattr(trace_module, "SHARD_ROWS", 7)
    in_parts = _measured(sums(), tmp_path, proxy, FEW.model_copy(update={"batch_size": 5}))
    assert np.array_equal(in_parts, whole)


def test_samples_are_drawn_from_the_row_as_it_was_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompts' tokens are those before the first supervised one of the same rows, in every template."""
    seen = {}

    def spy(model, tokenizer, prompts, answers, seeds, **options):
        seen["prompts"] = [encode_prompt(tokenizer, prompt, "plain") for prompt in prompts]
        seen["stop"] = options["sampling"].stop
        return np.zeros(len(prompts), np.float32)

    monkeypatch.setattr("scorers.sampled_accuracy.sampled_accuracy", spy)
    for template, stop in (("plain", ()), ("alpaca", ("### Instruction:",)), ("chat", ("### User:", "### System:"))):
        proxy = TWO_EPOCHS.model_copy(update={"template": template, "max_length": 256})
        _measured(sums(), tmp_path, proxy)
        tokens = ProxyTraining(sums(), proxy, Run(proxy, tmp_path).context).tokenized.tokens
        ids = [tokens.ids[tokens.offsets[k] : tokens.offsets[k + 1]] for k in range(len(tokens))]
        first = [
            int(np.argmax(tokens.supervised[tokens.offsets[k] : tokens.offsets[k + 1]])) for k in range(len(tokens))
        ]
        assert seen["prompts"] == [row[:end].tolist() for row, end in zip(ids, first, strict=True)]
        assert seen["stop"] == stop


def test_accuracy_is_the_share_of_right_draws(tmp_path: Path) -> None:
    """Against one draw after the other, graded by hand, of a model whose answers are nearly random."""
    tokenizer = byte_level()
    model = tiny_model(vocab_size=len(tokenizer))
    sampling = Sampling(temperature=1.5, max_tokens=3)
    prompts, seeds = ["a", "bb", "ccc", ""], [5, 6, 7, 8]
    texts = [
        [sample(model, tokenizer, [Request(prompt, sampling, seed, k)])[0].text for k in range(4)]
        for prompt, seed in zip(prompts[:3], seeds[:3], strict=True)
    ]
    answers = [texts[0][0], texts[1][2], "no such answer"]
    found = sampled_accuracy(
        model, tokenizer, prompts, [*answers, "x"], seeds, samples=4, sampling=sampling, batch_size=5
    )
    for k in range(3):
        completions = sample(model, tokenizer, [Request(prompts[k], sampling, seeds[k], i) for i in range(4)])
        assert found[k] == np.mean([each.verdict == "right" for each in graded(completions, [answers[k]] * 4)])
    assert np.isnan(found[3])  # an empty prompt is refused, which is not a wrong answer


def test_samples_are_graded_by_the_grader_of_their_row(monkeypatch: pytest.MonkeyPatch) -> None:
    data = mixed_tasks().take(np.arange(3))
    said = {
        "sum": ["#### 2", "#### 3", "It is \\boxed{2}."],
        "call": [
            '<tool_call>{"arguments": {"room": 3.0}, "name": "book"}</tool_call>',
            CALL.replace("3", "4"),
            "Done.",
        ],
        "program": ["def double(x):\n    return x + x", DOUBLE, "def double(x):\n    return x"],
    }

    def answering(model, tokenizer, requests, **options):
        return [Completion(said[request.prompt][request.index], "stop", 1, 1) for request in requests]

    monkeypatch.setattr("scorers.sampled_accuracy.sample", answering)
    found = verifiable(data, (JSON(), Tests()), answers=True)
    accuracy = sampled_accuracy(
        None,
        None,
        list(said),
        [answer for _, answer in found],
        [0, 0, 0],
        samples=3,
        sampling=Sampling(),
        batch_size=8,
        graders=[grader for grader, _ in found],
        rows=data.table.to_pylist(),
    )
    assert accuracy.tolist() == pytest.approx([2 / 3, 1 / 3, 2 / 3])


def test_the_key_of_final_answers_is_that_of_before() -> None:
    examples = sums()
    before = f"{hash_columns([('final_answer', examples.column('final_answer'))])} {grading_version()}"
    assert SampledAccuracy(run_programs=True).key_of(examples) == SampledAccuracy().key_of(examples) == before
    tasks = mixed_tasks()
    plain, asked = SampledAccuracy().key_of(tasks), SampledAccuracy(run_programs=True).key_of(tasks)
    assert len({plain, asked, SampledAccuracy(grader=Exact()).key_of(tasks)}) == 3
    tests = tasks.table.set_column(2, "tests", pa.array(["", "", "assert double(5) == 10", "", ""]))
    assert SampledAccuracy(run_programs=True).key_of(read(tests).examples) != asked


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("Bert", {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}),
        ("Mamba", {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 1, "time_step_rank": 2}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_model_that_no_text_can_be_drawn_from_is_refused(family: str, settings: dict) -> None:
    import transformers

    tokenizer = byte_level()
    config = getattr(transformers, f"{family}Config")(vocab_size=len(tokenizer), **settings)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(InputError, match=f"no text can be drawn from a {family}.*choose a causal language model"):
        sampled_accuracy(model, tokenizer, ["a"], ["1"], [0], samples=1, sampling=Sampling(max_tokens=2), batch_size=1)
