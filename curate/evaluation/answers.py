"""Final answers: generate, extract and grade them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.component import call_hook
from curate.console.progress import Progress
from curate.devices.precision import resolve_precision
from curate.errors import DataWarning, InputError
from curate.evaluation.config import Evaluation
from curate.evaluation.grading import protocol_of, verdicts
from curate.evaluation.target import Target
from curate.generators import VLLMServer
from curate.generators.chat import tokenizer_mode
from curate.generators.decoding import decode
from curate.generators.requests import Completion, Generator, Prompt, Queue, Request, Sampling
from curate.generators.sampling_parameters import count_refused_parameters, refused_parameters_warning
from curate.graders import Math
from curate.seeds import derive_seed
from curate.storage.cache import Cache
from curate.tokenization.dialect import Tools
from curate.verify.verdict import Verdict

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Answer:
    """One completion with the part of it that was compared (None if there is none) and its verdict."""

    completion: Completion
    extracted: str | None
    verdict: Verdict


def requests_for(
    prompts: Sequence[Prompt],
    ids: Sequence[str],
    answers: Sequence[str | None],
    settings: Evaluation,
    sampling: Sampling,
    tools: Sequence[Tools] | None = None,
) -> list[list[Request]]:
    """(n,) requests per row, `settings.samples` each; empty for a row without a reference answer.

    tools: (n,) tools of chats that are sent as messages.
    Greedy completions do not depend on the seed, so their requests are the same under any seed.
    """
    requests = []
    tools_of_rows = [None] * len(prompts) if tools is None else tools
    for prompt, example_id, answer, row_tools in zip(prompts, ids, answers, tools_of_rows, strict=True):
        seed = derive_seed(settings.seed, "evaluation", example_id) if sampling.temperature else 0
        samples = settings.samples if answer is not None else 0
        requests.append([Request(prompt, sampling, seed, k, tuple(row_tools or ())) for k in range(samples)])
    return requests


def grading_version() -> Any:
    """Version of the grading of final answers."""
    return protocol_of(Math())


def graded(
    completions: Sequence[Completion],
    references: Sequence[str],
    rows: Sequence[Mapping[str, Any]] | None = None,
    grader: Any = None,
) -> list[Answer]:
    """Grade (m,) completions against the references of their rows. grader: None = final answers, by `curate.verify`."""
    grader = Math() if grader is None else grader
    texts = [completion.text for completion in completions]
    cut_off = [completion.finish_reason != "stop" for completion in completions]
    verdict_list = verdicts(grader, texts, references, [{}] * len(texts) if rows is None else rows, cut_off)
    extracted = [call_hook(grader, "extract", *parts) for parts in zip(texts, cut_off, strict=True)]
    return [Answer(*cells) for cells in zip(completions, extracted, verdict_list, strict=True)]


def report_endings(
    requests: Sequence[Request], completions: Sequence[Completion], max_tokens: int, progress: Progress
) -> None:
    """Warn of answers that the model's context refused, note those cut off, and warn of answers generated with other
    sampling parameters than requested."""
    left_out = count_refused_parameters(requests, completions)
    if (warning := refused_parameters_warning(left_out)) is not None:
        warnings.warn(warning, DataWarning, stacklevel=4)
    refused = [completion.refusal for completion in completions if completion.finish_reason == "refused"]
    if refused:
        warnings.warn(
            f"{len(refused):,} of {len(completions):,} questions were refused and count as not right ({refused[0]})",
            DataWarning,
            stacklevel=4,
        )
    ended_by_length = [completion for completion in completions if completion.finish_reason == "length"]
    short = [completion.cap for completion in ended_by_length if completion.cap is not None]
    if short:
        progress.note(
            f"{len(short):,} of {len(completions):,} answers ended with the model's context, after {min(short):,} to "
            f"{max(short):,} of {max_tokens:,} tokens"
        )


@dataclass(frozen=True)
class _InProcess:
    """The target as a generator in this process; its weights are loaded at the first request."""

    target: Target
    device: torch.device
    settings: Evaluation

    def identity(self) -> str:
        """The model, its template and its precision: rounded weights may generate other answers."""
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
    """The generator of the answers, ready for use within the context."""
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
