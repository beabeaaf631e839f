"""Evaluation of a fine-tuned run, a model or a generator on sets of questions."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from curate.component import call_hook, describe_in_json, fingerprint
from curate.console.progress import Progress, as_progress
from curate.context import Context
from curate.errors import InputError
from curate.evaluation.answers import Answer, generator_for, graded, report_endings, requests_for
from curate.evaluation.config import Evaluation, EvaluationSet
from curate.evaluation.grading import protocol_of
from curate.evaluation.nll import SCORING, CompletionScorer, Scored, scored_tokens
from curate.evaluation.overlap import Overlap, overlap, warn_of_overlap
from curate.evaluation.prompts import (
    Form,
    Shots,
    draw_shots,
    form_of,
    generation_prompts,
    rendered,
    tools_beside,
    unshown,
)
from curate.evaluation.results import EvaluationResult, grouped, read_result, rows_table, totals, write_result
from curate.evaluation.sets import Questions, as_sets, read_set
from curate.evaluation.target import Target, check_out, find_target, with_possible_scores
from curate.generators.request_queue import complete
from curate.generators.request_store import RequestStore
from curate.generators.requests import Request
from curate.generators.sampling_parameters import count_refused_parameters
from curate.storage.cache import Cache
from curate.storage.places import local_path
from curate.storage.records import versions
from curate.tokenization.layouts import Layout, joined
from curate.verify.sandbox import sandbox_layers

if TYPE_CHECKING:
    import torch


_KEPT = ["cut_off", "capped", "refused_parameters", "refused", "generator", "sandbox", "truncated", "completions_cut"]
_PACKAGES = ("curate-lm", "torch", "transformers", "math-verify")


def evaluate(
    target: Any,
    sets: EvaluationSet | Sequence[EvaluationSet | str | Path] | Mapping[str, Any],
    settings: Evaluation | None = None,
    *,
    out: Path | str | None = None,
    cache: Cache | Path | str | None = None,
    device: str | None = None,
    progress: Progress | bool | None = None,
    fresh: bool = False,
    on_bad_row: Literal["error", "drop"] = "error",
) -> dict[str, EvaluationResult]:
    """Generate and grade answers, and score reference completions, on each evaluation set; returns results by set name.

    target: folder of a finished fine-tuning run, model folder, GGUF file, hub id, or a Generator.
    sets: EvaluationSet objects, anything that their `data` accepts, or {name: data}.
    out: folder for the results, one folder per set; None = that of a run, or no folder for other targets. A result of
        the same protocol and weights is not computed again. One of another protocol is an InputError unless `fresh`.
    cache: holds every completion and score; the same call after a kill resumes.
    on_bad_row: raise an error for a row that the model's chat template refuses, or leave it out and record it.
    Raises InputError for what cannot be evaluated and ExternalError if a server, the hub or the disk fails.
    """
    settings = settings or Evaluation()
    context = Context(cache=cache, device=device, progress=as_progress(progress))
    evaluation_sets = as_sets(sets)
    model = find_target(target, settings, context.store)
    settings = with_possible_scores(settings, model, context.progress)
    place = local_path(out) if out is not None else (model.directory / "evaluation" if model.directory else None)
    if place is not None:
        check_out(place)
    with context.progress.stage("read"):
        questions = [read_set(evaluation_set, settings) for evaluation_set in evaluation_sets]
        pool = read_set(settings.shots_from, generates=False) if settings.shots_from is not None else None
    form = form_of(settings, model.template, model.tokenizer)
    jobs = []
    for item in questions:
        if item.left_out:
            context.progress.note(f"{item.name}: {item.left_out:,} rows without a question or an answer are left out")
        if item.loss_only is not None and settings.generate:
            context.progress.note(f"{item.name}: loss only: {item.loss_only}")
        shots = draw_shots(settings, pool, item)
        item, rows = rendered(item, form, shots, model.tokenizer, on_bad_row)
        if item.refused:
            context.progress.note(
                f"{item.name}: {len(item.refused):,} rows that the chat template refuses are left out"
            )
        if (line := unshown(item, form)) is not None:
            context.progress.note(f"{item.name}: {line}")
        jobs.append(_Job(item, rows, model, settings, form, shots))
    for job in jobs:
        job.look_up(place, fresh)
    if any(job.unfinished for job in jobs):
        shared = Overlap({}) if model.run is None else overlap(model.run, [job.questions for job in jobs])
        warn_of_overlap(shared, [job.questions for job in jobs])
        _check_graders(jobs)
        _work(jobs, shared, context, context.torch_device(), place)
    return {job.questions.name: job.result for job in jobs if job.result is not None}


@dataclass
class _Job:
    """The evaluation of one set: its questions and rows, an earlier result if there is one, and the result."""

    questions: Questions
    rows: list[Layout] | None
    target: Target
    settings: Evaluation
    form: Form
    shots: Shots
    known: EvaluationResult | None = None
    result: EvaluationResult | None = None
    generate: bool = field(init=False)
    nll: bool = field(init=False)

    def __post_init__(self) -> None:
        self.generate, self.nll = self.settings.generate, self.settings.nll
        self._tools = tools_beside(self.rows, self.questions, self.form)

    @property
    def unfinished(self) -> bool:
        return self.generate or self.nll

    @property
    def protocol(self) -> str:
        """32 hex digits of all settings that two evaluations must share to be comparable."""
        settings, sampling = self.settings, self.settings.sampling(self.form.stop)
        seed = settings.seed if sampling.temperature else 0
        identity = [self.questions.fingerprint, self.form.name, self.shots.fingerprint()]
        grading = protocol_of(self.questions.grader)
        identity += [] if self._tools is None else ["tools"]  # older releases did not send them
        return fingerprint([grading, SCORING, *identity, sampling, settings.samples, seed, settings.max_length])

    def look_up(self, place: Path | None, fresh: bool) -> None:
        """Use an earlier result; InputError if the folder holds one of another protocol or model."""
        folder = None if place is None else place / self.questions.name
        if folder is None or not folder.exists() or fresh:
            return
        earlier = read_result(folder)
        same_model = earlier.summary["model"]["identity"] == self.target.identity
        if earlier.summary["protocol"] != self.protocol or (not same_model and self.target.run is None):
            difference = "with other settings" if same_model else "of another model"
            raise InputError(
                f"{folder} holds an evaluation {difference}; give this one another name, as in NAME=DATA, or pass "
                "--fresh"
            )
        if not same_model:
            return  # the run was retrained: results of its earlier weights are stale
        self.known = earlier
        self.generate = self.generate and earlier.summary["accuracy"] is None
        self.nll = self.nll and earlier.summary["nll"] is None
        if not self.unfinished:
            self.result = earlier

    def requests(self) -> list[list[Request]]:
        """(n,) requests per row."""
        by_server = self.target.generator is None and self.settings.generator == "vllm"
        rows = None if self.rows is None else [joined(row.pieces(0)) for row in self.rows]
        prompts = generation_prompts(
            rows, self.questions, self.form, self.shots, self.target.tokenizer, by_server=by_server
        )
        ids, sampling = self.questions.examples.ids.to_pylist(), self.settings.sampling(self.form.stop)
        return requests_for(prompts, ids, self.questions.answers, self.settings, sampling, self._tools)


def _check_graders(jobs: Sequence[_Job]) -> None:
    """Run the `check` of each distinct grader before a model is loaded."""
    graders = [job.questions.grader for job in jobs if job.generate and job.questions.grader is not None]
    for grader in {fingerprint(grader): grader for grader in graders}.values():
        call_hook(grader, "check")


def _work(jobs: list[_Job], shared: Overlap, context: Context, device: torch.device, place: Path | None) -> None:
    """Score all sets, then answer all: only one model is in memory at a time, and one server answers all sets."""
    started = time.monotonic()
    settings, target, progress = jobs[0].settings, jobs[0].target, context.progress
    scorer = CompletionScorer(target, settings, device, context.store, progress)
    scored: dict[str, Scored] = {}
    for job in jobs:
        if job.nll and job.rows is not None:
            tokens = scored_tokens(job.rows, target, settings, job.shots)
            scored[job.questions.name] = scorer.score(job.questions.name, tokens)
    scorer.release()
    seconds = {"nll": time.monotonic() - started}
    answers, identity = _answers([job for job in jobs if job.generate], device, context)
    seconds["generation"] = time.monotonic() - started - seconds["nll"]
    for job in jobs:
        if not job.unfinished:
            continue
        name = job.questions.name
        rows = rows_table(
            job.questions, answers.get(name), scored.get(name), None if job.known is None else job.known.rows
        )
        facts = _facts(job, answers.get(name), scored.get(name), identity, str(scorer.dtype).removeprefix("torch."))
        summary = {
            **_described(job),
            **totals(rows),
            **facts,
            "levels": grouped(rows, "level"),
            "sources": grouped(rows, "source"),
            "overlap": None if target.run is None else shared.record(name),
            "seconds": round(sum(seconds.values()), 3),
            "versions": {"python": platform.python_version(), **versions(_PACKAGES)},
        }
        job.result = EvaluationResult(summary, rows)
        if place is not None:
            write_result(job.result, place / name)


def _answers(
    jobs: list[_Job], device: torch.device, context: Context
) -> tuple[dict[str, list[list[Answer]]], str | None]:
    """(n,) answers per row of each set, by set name; and the identity of the generator."""
    if not jobs:
        return {}, None
    target, settings = jobs[0].target, jobs[0].settings
    requests_of_job = [job.requests() for job in jobs]
    flat = [request for rows in requests_of_job for row in rows for request in row]
    # Prompts of similar length are batched together, since rows are padded to the longest of their batch.
    order = sorted(range(len(flat)), key=lambda k: -len(str(flat[k].prompt)))
    with (
        RequestStore.under(context.store) as store,
        generator_for(target, settings, device, context.store) as generator,
    ):
        identity = generator.identity()
        requests = [flat[k] for k in order]
        completed = complete(generator, requests, store, context.progress, context.engine)
    completions = dict(zip(order, completed, strict=True))
    report_endings(requests, completed, settings.max_tokens, context.progress)
    with context.progress.stage("grade", len(flat), "answers") as stage:
        answers: dict[str, list[list[Answer]]] = {}
        done = 0
        for job, rows in zip(jobs, requests_of_job, strict=True):
            row_of_completion = [k for k, row in enumerate(rows) for _ in row]  # (m,) row of each completion
            drawn_for = [completions[done + m] for m in range(len(row_of_completion))]
            finals, cells = [str(job.questions.answers[k]) for k in row_of_completion], job.questions.cells
            graded_answers = iter(
                graded(drawn_for, finals, [cells[k] for k in row_of_completion], job.questions.grader)
            )
            answers[job.questions.name] = [[next(graded_answers) for _ in row] for row in rows]
            done += len(row_of_completion)
            stage.advance(len(row_of_completion))
    return answers, identity


def _described(job: _Job) -> dict[str, Any]:
    """The part of summary.json that is known before any score: data, protocol, settings and model."""
    settings = job.settings.model_dump(mode="json", exclude={"shots_from", "grader"})
    pool = job.settings.shots_from
    settings["shots_from"] = None if pool is None else pool.title
    settings["style"], settings["stop"] = job.form.name, list(job.settings.sampling(job.form.stop).stop)
    return {
        "kind": "evaluation",
        "name": job.questions.name,
        "data": job.questions.record(),
        "rejected": list(job.questions.refused),
        "protocol": job.protocol,
        "grader": describe_in_json(job.questions.grader),
        "loss_only": job.questions.loss_only,
        "settings": settings,
        "model": {"name": job.target.name, "identity": job.target.identity},
    }


def _facts(
    job: _Job, answers: list[list[Answer]] | None, scored: Scored | None, identity: str | None, numerics: str
) -> dict[str, Any]:
    """Facts that the rows do not hold; a part that was not requested now keeps the facts of the earlier result."""
    known_summary = {} if job.known is None else job.known.summary
    tokens = dict(known_summary.get("tokens") or {"prompt": 0, "generated": 0, "scored": 0})
    facts: dict[str, Any] = {name: known_summary.get(name) for name in _KEPT}
    if answers is not None:
        completions = [answer.completion for row in answers for answer in row]
        reasons = [completion.finish_reason for completion in completions]
        tokens["prompt"] = sum(completion.prompt_tokens for completion in completions)
        tokens["generated"] = sum(completion.completion_tokens for completion in completions)
        facts["cut_off"] = reasons.count("length") / len(completions) if completions else None
        facts["capped"] = sum(request.cap is not None for request in completions)
        requests = [completion for row in job.requests() for completion in row]
        facts["refused_parameters"] = dict(count_refused_parameters(requests, completions))
        facts["refused"] = reasons.count("refused")
        generator = job.target.generator
        kind = job.settings.generator if generator is None else type(generator).__name__
        facts["generator"] = {"identity": identity, "kind": kind}
        runs = getattr(job.questions.grader, "runs_programs", False)
        facts["sandbox"] = list(sandbox_layers()) if runs else None  # those around the programs of this evaluation
    if scored is not None:
        tokens["scored"] = int(scored.counts.sum())
        facts["truncated"], facts["completions_cut"] = scored.truncated, scored.completions_cut
    return {**facts, "answer_only": job.questions.answer_only, "numerics": numerics, "tokens": tokens}
