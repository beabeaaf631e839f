"""Final answers: drawn from a model, extracted and graded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.console.progress import Progress
from curate.devices.precision import resolve_precision
from curate.errors import DataWarning, InputError
from curate.evaluation.config import Evaluation
from curate.evaluation.target import Target
from curate.generators import VLLMServer
from curate.generators.chat import tokenizer_mode
from curate.generators.decoding import decode
from curate.generators.requests import Completion, Generator, Prompt, Queue, Request, Sampling
from curate.generators.sampling_parameters import count_refused_parameters, refused_parameters_warning
from curate.seeds import derive_seed
from curate.storage.cache import Cache
from curate.verify import Verdict, extract
from curate.verify.grading import grade_many
from curate.verify.symbolic import algebra_is_here

if TYPE_CHECKING:
    import torch


_GRADERS = 4
_GRADING = 2  # raise it when answers come to be extracted or compared differently


@dataclass(frozen=True)
class Answer:
    """One completion with the final answer extracted from it, None if there is none, and its verdict."""

    completion: Completion
    extracted: str | None
    verdict: Verdict


def requests_for(
    prompts: Sequence[Prompt],
    ids: Sequence[str],
    answers: Sequence[str | None],
    settings: Evaluation,
    sampling: Sampling,
) -> list[list[Request]]:
    """(n,) requests per row, `settings.samples` each; none for a row without an answer to grade by.

    Greedy completions do not depend on the seed, so that they are the same request under any.
    """
    requests = []
    for prompt, example_id, answer in zip(prompts, ids, answers, strict=True):
        seed = derive_seed(settings.seed, "evaluation", example_id) if sampling.temperature else 0
        samples = settings.samples if answer is not None else 0
        requests.append([Request(prompt, sampling, seed, k) for k in range(samples)])
    return requests


def grading_version() -> int | str:
    """Version of the grading, as part of the protocol by which evaluations are compared."""
    return _GRADING if algebra_is_here() else f"{_GRADING} without algebra"


def check_grading(generate: bool) -> None:
    """Warn, before a model is loaded, where some of the answers could not be graded."""
    if generate and not algebra_is_here():
        warnings.warn(
            "math-verify is not installed: answers that are expressions stay undecided, which counts as not right; "
            "run: pip install 'curate-lm[math]'",
            DataWarning,
            stacklevel=3,
        )


def graded(completions: Sequence[Completion], answers: Sequence[str]) -> list[Answer]:
    """Each completion against the final answer of its row.

    A text that was cut off counts only where it marks its answer: its last number may be that of any step.
    Without math-verify what needs algebra is undecided.
    """
    verdicts: dict[int, Verdict] = {}
    for cut_off in (False, True):
        indices = [k for k, each in enumerate(completions) if (each.finish_reason != "stop") == cut_off]
        pairs = [(completions[k].text, answers[k]) for k in indices]
        processes = min(_GRADERS, os.cpu_count() or 1)
        grades = grade_many(pairs, strong_only=cut_off, processes=processes, algebra=algebra_is_here())
        verdicts.update(zip(indices, grades, strict=True))
    graded_answers = []
    for k, completion in enumerate(completions):
        final = extract(completion.text)
        counts = final is not None and (final.strong or completion.finish_reason == "stop")
        extracted = final.text if final is not None and counts else None
        graded_answers.append(Answer(completion, extracted, verdicts[k]))
    return graded_answers


def report_endings(
    requests: Sequence[Request], completions: Sequence[Completion], max_tokens: int, progress: Progress
) -> None:
    """Report answers that the model's context refused (a warning) or cut short (a note), and those that were not drawn
    as asked for (a warning)."""
    left_out = count_refused_parameters(requests, completions)
    if (told := refused_parameters_warning(left_out)) is not None:
        warnings.warn(told, DataWarning, stacklevel=4)
    refused = [each.refusal for each in completions if each.finish_reason == "refused"]
    if refused:
        warnings.warn(
            f"{len(refused):,} of {len(completions):,} questions were refused and count as not right ({refused[0]})",
            DataWarning,
            stacklevel=4,
        )
    short = [each.cap for each in completions if each.finish_reason == "length" and each.cap is not None]
    if short:
        progress.note(
            f"{len(short):,} of {len(completions):,} answers ended with the model's context, after {min(short):,} to "
            f"{max(short):,} of {max_tokens:,} tokens"
        )


@dataclass(frozen=True)
class _InProcess:
    """The target as a generator in this process; its weights are loaded when the first request comes."""

    target: Target
    device: torch.device
    settings: Evaluation

    def identity(self) -> str:
        """The model, its template and its precision: rounded weights may draw other answers."""
        precision = str(self._dtype).removeprefix("torch.")
        return f"{self.target.identity} {tokenizer_mode(self.target.tokenizer, 'auto')} {precision}"

    @property
    def _dtype(self) -> torch.dtype:
        return resolve_precision(self.settings.precision, self.device)

    def serve(self, queue: Queue) -> None:
        """See `curate.protocols.Generator`."""
        first = queue.take(self.settings.batch_size)
        if not first:
            return

        model = self.target.load(self.device).to(self._dtype)
        tokenizer = self.target.tokenizer
        decode(model, tokenizer, queue, tokenizer_mode(tokenizer, "auto"), self.settings.batch_size, first)


@contextmanager
def generator_for(target: Target, settings: Evaluation, device: torch.device, cache: Cache) -> Iterator[Generator]:
    """The generator that draws the answers, ready within the context."""
    if target.generator is not None:
        yield target.generator
    elif settings.generator == "transformers":
        if settings.url is not None:
            raise InputError("a url names a server; set generator: vllm (--generator vllm)")
        yield _InProcess(target, device, settings)
    else:
        with target.folder(cache) as model:
            server = VLLMServer(
                model=model, url=settings.url, command=settings.vllm, arguments=settings.vllm_arguments, template="auto"
            )
            server.check_ready()
            yield server
