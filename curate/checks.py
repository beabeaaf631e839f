"""Contract tests for plug-ins, which all components of curate pass."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.clusterers.per_source import Clusterer, is_per_source, seeded
from curate.component import Component, call_hook, fingerprint
from curate.data.examples import Examples
from curate.data.readers import read
from curate.difficulty.reducible import given_rows
from curate.difficulty.scores import Split, as_scores
from curate.errors import InputError
from curate.evaluation.grading import Grader, protocol_of, references, verdicts
from curate.generators.requests import Completion, Generator, Request, Sampling
from curate.mixture.plan import Augmenter, identity, share_counts
from curate.proxy.proxy import Proxy
from curate.recipe import decode, encode
from curate.run import Run, Scorer, measures_of
from curate.verify.verdict import Verdict

# Each check raises AssertionError with one sentence that names the violated contract:
#
#     from curate.checks import check_scorer
#     check_scorer(MyScorer())

__all__ = [
    "check_augmenter",
    "check_clusterer",
    "check_component",
    "check_generator",
    "check_grader",
    "check_scorer",
    "small_examples",
    "small_split",
]


def small_examples(n: int = 24) -> Examples:
    """n question-answer rows of three sources, one without completion text, for contract tests."""
    words = ["one", "two", "three", "four", "five", "six"]
    rows = {
        "id": [f"row{i}" for i in range(n)],
        "prompt": [f"What comes after {words[i % 6]} times {i}?" for i in range(n)],
        "completion": ["" if i == n - 1 else " ".join(words[: i % 6 + 1]) for i in range(n)],
        "source": [("a", "b", "c")[i % 3] for i in range(n)],
    }
    return read(pa.table(rows)).examples


def small_split(n: int = 24, seed: int = 0) -> Split:
    """A split of n rows with two clusters, one noise row and one invalid row."""
    generator = np.random.default_rng(seed)
    difficulty = generator.gamma(2.0, 1.0, n).astype(np.float32)  # (n,)
    hard = difficulty > np.median(difficulty)  # (n,)
    cluster = hard.astype(np.int32)  # (n,)
    valid = np.ones(n, np.bool_)  # (n,)
    valid[-1], hard[-1], cluster[-1], difficulty[-1] = False, False, -2, np.nan
    hard[0], cluster[0] = False, -1
    return Split(
        ids=pa.array([f"row{i}" for i in range(n)]),
        cluster=cluster,
        hard=hard,
        difficulty=difficulty,
        valid=valid,
        final_loss=difficulty.copy(),
        sources=np.array([("a", "b", "c")[i % 3] for i in range(n)], object),
        tokens=np.arange(n, dtype=np.int32) % 6 + 2,
        reducible=given_rows(valid & (np.arange(n) % 3 > 0), hard),
    )


def check_component(component: Any) -> None:
    """Check that parameters can be read, fingerprinted consistently, pickled, and written to a recipe and back.

    The last two apply only to classes that can be imported, not to those defined in a notebook.
    """
    assert fingerprint(component) == fingerprint(component), "the fingerprint changes from call to call"
    kind = type(component)
    if kind.__module__ == "__main__" or getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind:
        return
    again = pickle.loads(pickle.dumps(component))  # in memory only: curate reads no pickles from disk
    assert fingerprint(again) == fingerprint(component), "pickling changes the fingerprint"
    allowed = (*_packages(encode(component)), *_options(component))
    decoded = decode(encode(component), "component", allowed)
    assert fingerprint(decoded) == fingerprint(component), "writing it into a recipe and back changes it"
    if again == component:  # nested plug-ins may not define equality
        assert decoded == component, "the recipe's component is not equal to the original"


def _options(value: Any) -> set[str]:
    """Options that a recipe of this component may need."""
    if isinstance(value, list | tuple):
        return set().union(*(_options(item) for item in value))
    if not isinstance(value, Component):
        return set()
    consent_options = {
        option.removeprefix("--allow-plugin ") for consent in value.consents.values() for option in consent.options
    }
    parameters = [getattr(value, name) for name in type(value).model_fields]
    # Any string may be the name of an environment variable with a key.
    keys = {f"--send-key {parameter}" for parameter in parameters if isinstance(parameter, str)}
    return consent_options.union({"--trust-remote-code"}, keys, *map(_options, parameters))


def _packages(written: Any) -> set[str]:
    """Packages that the dotted paths in a recipe refer to."""
    if isinstance(written, dict):
        return {str(written.get("use", "")).split(".")[0]}.union(*(_packages(item) for item in written.values()))
    return set().union(*(_packages(item) for item in written)) if isinstance(written, list) else set()


def check_scorer(
    scorer: Any, *, cache: Path | str | None = None, proxy: Proxy | None = None, examples: Examples | None = None
) -> None:
    """Check shapes and dtypes of the scores, determinism, and that inputs are not modified.

    cache: folder for a scorer that runs the proxy (a tiny one from scratch unless `proxy` is given).
    examples: rows to score, for a scorer that needs other columns than those of `small_examples`.
    """
    assert isinstance(scorer, Scorer), "a scorer needs a method score(examples, run)"
    check_component(scorer)
    are_passed, examples = examples is not None, small_examples() if examples is None else examples
    tiny = Proxy(model="scratch", steps=4, checkpoints=2, batch_size=8, max_length=64)
    run = Run(proxy or tiny, cache)
    before = examples.fingerprint()
    try:
        first = as_scores(scorer.score(examples, run), len(examples))
    except InputError as error:
        if are_passed:
            raise
        columns = ", ".join(examples.columns[role] for role in examples.content_roles)
        raise InputError(
            f"{error}. The check scores its own {len(examples)} rows with the columns {columns}; for others pass "
            "examples=curate.read(DATA).examples"
        ) from error
    again = as_scores(scorer.score(examples, run), len(examples))
    n = len(examples)
    assert first.features.shape[0] == n, f"features have {first.features.shape[0]} rows for {n} examples"
    assert first.features.dtype == np.float32, f"features are {first.features.dtype}, not float32"
    assert first.difficulty.shape == (n,), f"difficulty has shape {first.difficulty.shape}, not ({n},)"
    assert first.difficulty.dtype == np.float32, f"difficulty is {first.difficulty.dtype}, not float32"
    assert first.valid.dtype == np.bool_, f"valid is {first.valid.dtype}, not bool"
    assert np.isfinite(first.features[first.valid]).all(), "a valid row has a feature that is not finite"
    assert np.isnan(first.difficulty[~first.valid]).all(), "an invalid row has a difficulty; it must be NaN"
    assert np.array_equal(first.difficulty, again.difficulty, equal_nan=True), "the same call gives another answer"
    assert examples.fingerprint() == before, "the scorer changed the examples"
    call_hook(scorer, "check_schedule", run.proxy.schedule(n))
    for measure in measures_of(scorer):
        assert fingerprint(measure) == fingerprint(measure), "a measure's fingerprint changes from call to call"
        keys = [call_hook(measure, "key_of", examples) for _ in range(2)]
        assert keys[0] == keys[1], "a measure's key changes from call to call"


def check_clusterer(clusterer: Any) -> None:
    """Check labels (one integer per row), determinism, that X is not modified, and degenerate input."""

    def fitted(features: Any) -> Any:
        seeded_clusterer = seeded(clusterer, 7)
        sources = ["a", "b"] * (len(features) // 2)
        return np.asarray(
            seeded_clusterer.fit_predict(features, sources)
            if is_per_source(seeded_clusterer)
            else seeded_clusterer.fit_predict(features)
        )

    assert isinstance(clusterer, Clusterer), "a clusterer needs a method fit_predict(X)"
    generator = np.random.default_rng(0)
    blobs = np.concatenate([generator.normal(0, 0.1, (150, 3)), generator.normal(3, 0.1, (150, 3))])
    X = blobs.astype(np.float32)
    original = X.copy()
    labels = fitted(X)
    assert labels.shape == (300,), f"labels have shape {labels.shape} for 300 rows"
    assert np.issubdtype(labels.dtype, np.integer), f"labels are {labels.dtype}, not integers"
    assert labels.min() >= -1, "a label is below -1; -1 is noise and clusters start at 0"
    assert np.array_equal(X, original), "fit_predict changed X"
    assert np.array_equal(labels, fitted(X)), "the same seed gives other labels"
    constant = X.copy()
    constant[:, 0] = 1.0
    assert len(fitted(constant)) == 300, "a constant column breaks it"


def check_augmenter(augmenter: Any) -> None:
    """Check that the plan keeps its shape, leaves dropped rows alone, and is deterministic for a seed."""
    assert isinstance(augmenter, Augmenter), "an augmenter needs a method plan(plan, split, seed)"
    check_component(augmenter)
    split = small_split()
    start = identity(len(split))
    plan = augmenter.plan(start, split, 3)
    assert len(plan) == len(split), f"the plan has {len(plan)} rows for {len(split)}"
    assert plan.counts.dtype == np.int32, f"counts are {plan.counts.dtype}, not int32"
    assert (plan.counts >= 0).all(), "a count is negative"
    assert (start.counts == 1).all(), "the plan that was passed in was changed; return a new one"
    assert ((plan.counts == 0) == (plan.reason >= 0)).all(), "a row left out has no reason, or a kept row has one"
    again = augmenter.plan(identity(len(split)), split, 3)
    assert np.array_equal(plan.counts, again.counts), "the same seed gives another plan"
    dropped = np.zeros(len(split), np.bool_)  # (n,)
    dropped[: len(split) // 3] = True
    partial = start.leave_out(dropped, "left out before")
    try:
        after = augmenter.plan(partial, split, 3)
    except ValueError as error:
        raise AssertionError(f"a plan with rows left out breaks it: {error}") from error
    assert (after.counts[dropped] == 0).all(), "a row that was left out came back"
    if callable(getattr(augmenter, "realize", None)):
        assert plan.demands, "an augmenter with realize() planned no demand"
        share_counts(plan, 0)


def check_generator(generator: Any) -> None:
    """Check that every request is answered once, follow-up requests too, and that greedy completions are deterministic.

    Requests about twenty short completions of plain text.
    """
    assert isinstance(generator, Generator), "a generator needs methods identity() and serve(queue)"
    check_component(generator)
    assert isinstance(generator.identity(), str), "identity() must be a string"
    assert generator.identity() == generator.identity(), "identity() changes from call to call"
    greedy = Sampling(temperature=0, max_tokens=4)
    requests = [Request(f"{k} and {k} is", greedy if k < 3 else Sampling(max_tokens=4), seed=k) for k in range(9)]
    first, again = _Asked(requests), _Asked(requests)
    generator.serve(first)
    generator.serve(again)
    for queue in (first, again):
        assert not queue.waiting, f"serve returned with {len(queue.waiting)} requests not taken"
        assert not queue.taken, f"serve returned with {len(queue.taken)} requests taken and not answered"
        assert len(queue.answers) == 10, "serve did not take the request that followed from an answer"
    for request in requests[:3]:
        text = [queue.answers[request].text for queue in (first, again)]
        assert text[0] == text[1], f"greedy completions of one prompt differ: {text}"
    for request, completion in first.answers.items():
        reasons = ("stop", "length", "refused")
        assert completion.finish_reason in reasons, f"finish_reason {completion.finish_reason!r} is none of {reasons}"
        most = request.sampling.max_tokens
        assert completion.completion_tokens <= most, f"{completion.completion_tokens} tokens where {most} are allowed"


# Odd completions, none of which may make a grader raise.
_ODD = (
    "",
    " ",
    "\x00",
    "{",
    "[",
    "<think>",
    "</think>",
    "```python\n",
    "\\boxed{",
    "(" * 3000,
    '{"a": ' * 3000,
    "\ud800",
)


def check_grader(grader: Any, rows: Sequence[Mapping[str, Any]] = ({},), rights: Sequence[str] = ()) -> None:
    """Check that every text gets a Verdict, determinism, that rows are not modified, and odd or truncated texts.

    rows: columns of rows as Python values, by name, with a "question" and a "completion". rights: a right completion
    for each row; empty = the row's own completion.
    """
    assert isinstance(grader, Grader), "a grader needs a method grade(completion, reference, row)"
    check_component(grader)
    assert protocol_of(grader) == protocol_of(grader), "protocol() changes from call to call"
    rows = [{"question": "What is 2 plus 2?", "completion": "4", **row} for row in rows]
    rows_before = [dict(row) for row in rows]
    questions, answers = ([str(row[name]) for row in rows] for name in ("question", "completion"))
    row_references = references(grader, questions, answers, [None] * len(rows), rows)
    for number, (row, right) in enumerate(zip(rows, rights or answers, strict=True)):
        reference = row_references[number]
        assert reference is not None, f"row {number} has nothing to grade by"
        verdict = grader.grade(right, reference, row)
        assert verdict is Verdict.right, f"the right completion of row {number} is {verdict}"
        texts = [right, *_ODD]
        expected = [grader.grade(text, reference, row) for text in texts]
        assert all(isinstance(result, Verdict) for result in expected), "grade() must return a curate.verify.Verdict"
        batch_verdicts = verdicts(grader, texts, [reference] * len(texts), [row] * len(texts), [False] * len(texts))
        assert batch_verdicts == expected, "grade_many() and grade(), or two calls, give other verdicts"
        truncated = verdicts(grader, texts, [reference] * len(texts), [row] * len(texts), [True] * len(texts))
        assert all(result is not Verdict.right for result in truncated[1:]), "an odd text that was cut off is right"
        for text in texts:
            call_hook(grader, "extract", text, False)
    assert rows == rows_before, "the grader changed the row"


class _Asked:
    """A request queue that records answers, and adds a follow-up request after the first one."""

    def __init__(self, requests: list[Request]) -> None:
        self.waiting, self.taken = list(requests), set[Request]()
        self.answers: dict[Request, Completion] = {}

    def take(self, most: int) -> list[Request]:
        assert most >= 0, f"take({most}): a number of requests is at least 0"
        some, self.waiting = self.waiting[:most], self.waiting[most:]
        self.taken.update(some)
        return some

    def done(self, request: Request, completion: Completion) -> None:
        assert request in self.taken, "a completion came back for a request that was not taken, or came twice"
        self.taken.remove(request)
        if not self.answers:
            self.waiting.append(Request("One more:", Sampling(max_tokens=4), seed=99))
        self.answers[request] = completion
