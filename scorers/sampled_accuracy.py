"""Sampled accuracy: how often a checkpoint answers a row right, from completions that it generates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate.component import Component, Consent
from curate.data.examples import Examples, hash_columns
from curate.evaluation.answers import graded, grading_version
from curate.evaluation.grading import protocol_of
from curate.evaluation.prompts import stops_of
from curate.generators.decoding import sample
from curate.generators.requests import Request, Sampling
from curate.graders import JSON, Tests
from curate.proxy.measures import LiveCheckpoint
from curate.seeds import derive_seed
from curate.tokenization.layouts import Piece, last_completion
from curate.tokenization.templates import renderer
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray
from curate.verify import Verdict
from curate.verify.sandbox import sandbox_layers
from scorers.row_graders import references_of, verifiable


def sampled_accuracy(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    answers: Sequence[str],
    seeds: Sequence[int],
    *,
    samples: int,
    sampling: Sampling,
    batch_size: int,
    graders: Sequence[Any] | None = None,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> FloatArray:
    """(n,) float32 share of right answers among the completions sampled for each of n prompts.

    graders: (n,) what compares with each answer; None = final answers. rows: (n,) cells that graders may read.
    Sample k of a row is seeded by (its seed, k), independent of the other rows. An undecided answer is not right; a
    truncated completion counts only if its answer is marked. NaN for a prompt that the model cannot take.
    """
    requests = [
        (row, Request(prompts[row], sampling, seeds[row], k))
        for row in sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))  # similar lengths in one batch
        for k in range(samples)
    ]
    completions = sample(
        model, tokenizer, [request for _, request in requests], template="plain", batch_size=batch_size
    )
    right = np.zeros(len(prompts), np.float32)  # (prompts,)
    grader_of = [None] * len(prompts) if graders is None else list(graders)
    for grader in {id(grader): grader for grader in grader_of}.values():
        own = [k for k, (row, _) in enumerate(requests) if grader_of[row] is grader]
        row_of_completion = [requests[k][0] for k in own]
        cells = None if rows is None else [rows[row] for row in row_of_completion]
        answered = graded([completions[k] for k in own], [answers[row] for row in row_of_completion], cells, grader)
        for row, answer in zip(row_of_completion, answered, strict=True):
            right[row] += np.nan if answer.completion.finish_reason == "refused" else answer.verdict == Verdict.right
    return right / np.float32(samples)


class SampledAccuracy(Component):
    """Share of right answers among `samples` completions that the checkpoint generates for a row's prompt.

    The prompt is what the proxy was trained to complete: the row in the proxy's template up to its last completion.
    A row is measured if its final answer is known, from the column of that role or from a mark in its completion, and
    the grader accepts its own completion: an answer that the grader cannot parse there it could not parse in a sample.
    Other rows are graded by `JSON` if they are tool calls or other JSON, and by `Tests` if they have tests and
    `run_programs` is on, where that accepts their completion. grader: what grades all rows instead.
    batch_size: completions at a time; part of the cache key, since rounding may depend on it.
    """

    samples: int = Field(default=5, ge=1)
    temperature: float = Field(default=0.8, gt=0, allow_inf_nan=False)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_tokens: int = Field(default=512, ge=1)
    batch_size: int = Field(default=64, ge=1)
    grader: Any = None
    run_programs: bool = False
    added: ClassVar[frozenset[str]] = frozenset(["grader", "run_programs"])
    consents: ClassVar[Mapping[str, Consent]] = {"run_programs": Consent(("--run-programs",))}

    def key_of(self, examples: Examples) -> str:
        """Hash of what rows are graded by, and the version of the graders; see `curate.protocols.Measure`."""
        answers = [(role, examples.column(role)) for role in ("final_answer",) if role in examples.columns]
        key = f"{hash_columns(answers)} {grading_version()}"
        for grader in self.graders():
            row_references = references_of(grader, examples)
            if any(reference is not None for reference in row_references):
                key += f" {hash_columns([('reference', pa.array(row_references, pa.string()))])} {protocol_of(grader)}"
        return key

    def graders(self) -> tuple[Any, ...]:
        """What grades rows besides their final answers, in the order in which it is tried."""
        if self.grader is not None:
            return (self.grader,)
        return (JSON(), Tests()) if self.run_programs else (JSON(),)

    def facts(self) -> dict[str, Any]:
        """The layers of the sandbox around programs, if they are run; see `curate.protocols.Measure`."""
        return {"sandbox": list(sandbox_layers())} if self.run_programs else {}

    def passes(self, rows: int, checkpoints: int) -> float:
        """See `curate.protocols.Measure`; assumes that samples are as long as the rows' own completions."""
        return float(self.samples * checkpoints)

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 1) float32 accuracies; NaN for rows without completion text or without an answer to grade by.

        Sample k of a row is seeded by the run, the step, the row's id and k only.
        """
        gradable = {
            k: graded_by
            for k, graded_by in enumerate(verifiable(examples, self.graders(), answers=self.grader is None))
            if graded_by is not None and checkpoint.tokens.valid[k]
        }
        rows = list(gradable)
        values = np.full((len(examples), 1), np.nan, np.float32)  # (n, 1)
        if not rows:
            return values
        ids, tokenizer = examples.ids.to_pylist(), checkpoint.proxy_training.tokenizer
        template = checkpoint.proxy_training.template
        rendered = renderer(examples.take(np.array(rows)), template, tokenizer)(0, len(rows))
        stop = stops_of(template, tokenizer)
        values[rows, 0] = sampled_accuracy(
            checkpoint.model,
            tokenizer,
            [_prompt(checkpoint.tokens, k, row, tokenizer) for k, row in zip(rows, rendered, strict=True)],
            [answer for _, answer in gradable.values()],
            [derive_seed(checkpoint.seed, "sampled accuracy", checkpoint.step, ids[row]) for row in rows],
            samples=self.samples,
            sampling=Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens, stop=stop),
            batch_size=self.batch_size,
            graders=[grader for grader, _ in gradable.values()],
            rows=examples.take(np.array(rows)).table.to_pylist(),
        )
        return values


def _prompt(tokens: Tokens, row: int, rendered: Sequence[Piece], tokenizer: Any) -> str:
    """The prompt of a row as the proxy saw it, truncated if it was too long. rendered: the pieces of the row."""
    if not tokens.prompt_cut[row]:
        return last_completion(rendered)[0][0]
    low, high = tokens.offsets[row : row + 2]
    supervised = tokens.supervised[low:high]
    prompt = np.flatnonzero(~supervised)
    last = prompt[prompt < np.flatnonzero(supervised)[-1]][-1]  # last token before the last completion
    text: str = tokenizer.decode(tokens.ids[low : low + last + 1].tolist())
    return text
