"""Losses of every row under proxies that never saw it, at the proxy's own length and beyond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate.context import Context
from curate.data.examples import Examples, whole
from curate.difficulty.halves import Halves, make_halves, tied_groups
from curate.errors import InputError
from curate.gate.compared_text import compared_texts
from curate.gate.gate import Gate, near_duplicates
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import AUTO, RATIO, Proxy, Schedule
from curate.proxy.trace import measure_held_out, measured_held_out, settled
from curate.proxy.training import ProxyTraining
from curate.types import FloatArray, IntArray

SHORTEST, LONGEST = 1 / 4, 4  # relative to the proxy's length


class HalfProxy(Proxy):
    """A proxy measured on a geometric grid through `own_step`, the full proxy's length, to `last_step`."""

    own_step: int = Field(ge=1)
    last_step: int = Field(ge=1)
    schedule_steps: int = Field(ge=1)

    def schedule(self, rows: int) -> Schedule:
        """See `Proxy.schedule`."""
        return Schedule(grid(self.own_step, self.last_step), self.schedule_steps, rows / self.batch_size)


def grid(own: int, last: int) -> IntArray:
    """(K,) steps own * 2^(j / 2) for whole j, from a quarter of `own`, the length of the proxy, up to `last`."""
    low, high = (int(np.log(ratio) / np.log(RATIO) + 1e-9) for ratio in (1 / SHORTEST, last / own))
    steps = np.round(own * RATIO ** np.arange(-low, high + 1)).astype(np.int64)
    return np.unique(np.maximum(steps, 1))


def half_proxy(proxy: Proxy, rows: int, longest: float = LONGEST, schedule: Schedule | None = None) -> HalfProxy:
    """The proxy for one half of `rows`: as many steps as on all of them, continued to at most `longest` times that.

    schedule: of the proxy on all rows; None = derived from its settings and `rows`.

    The learning rate decays over at least three times the longest run, so that it is nearly the same at every
    checkpoint.
    """
    schedule = proxy.schedule(rows) if schedule is None else schedule
    own_steps = int(schedule.steps[-1])
    last = round(own_steps * longest)
    settings = {name: getattr(proxy, name) for name in Proxy.model_fields}
    settings |= {"score_sample": None, "score_budget": None}  # every row is measured by one of the two
    if schedule.grid is not None:
        del settings["spacing"], settings["stop_on"]
        settings["steps"] = own_steps if proxy.steps == AUTO else proxy.steps
    return HalfProxy(
        **settings, own_step=own_steps, last_step=last, schedule_steps=max(schedule.horizon_steps, 3 * last)
    )


@dataclass(frozen=True)
class HeldOutLosses:
    """Losses in nats per token under the half-proxy that did not see the row; NaN for rows that are not valid.

    halves: of the n rows, with m null rows. steps: (K,); short: index of the proxy's length in it. rows: (n, K);
    null: (m, K). tied: number of rows grouped with others; patterns: number of rows with so many near-duplicates
    that they were not kept together.
    """

    halves: Halves
    steps: IntArray
    short: int
    rows: FloatArray
    null: FloatArray
    tied: int
    patterns: int


class HalfProxies:
    """Two proxies, each trained on half of the rows, which measure the rows of the other half, and null rows.

    parents: (n,) id of the row that each one was made from, None for an original; rows of one parent, equal rows
    and near-duplicates (by `gate`, over prompt and completion) stay in one half. null_rows: see `make_halves`. seed:
    another seed divides the rows differently. Raises InputError for examples without their own completion.
    """

    def __init__(
        self,
        examples: Examples,
        proxy: Proxy,
        context: Context,
        *,
        parents: Sequence[Any] | None = None,
        null_rows: int | None = None,
        longest: float = LONGEST,
        gate: Gate | None = None,
        seed: int = 0,
    ) -> None:
        self.examples, self.context = examples, context
        first = ProxyTraining(examples, proxy, context)
        proxy = first.proxy  # with "auto" resolved on all rows
        proxy = proxy.model_copy(update={"template": first.template})
        lengths = first.tokenized.rows.tokens
        completions = completion_texts(examples)
        ids = examples.ids.to_pylist()
        texts = compared_texts(examples.table, examples.shape, examples.columns, "all").to_pylist()
        groups, self.patterns = like_rows(texts, ids, parents, gate)
        self.tied = int((np.bincount(groups, minlength=1)[groups] > 1).sum())
        self.halves = make_halves(
            ids, lengths, completions, sources=examples.sources(), groups=groups, null_rows=null_rows, seed=seed
        )
        for half in (0, 1):
            if not first.tokenized.rows.valid[self.halves.trained_on(half)].any():
                raise InputError(f"{len(ids)} rows are too few to train a proxy on each half of them; give more rows")
        self.null = null_examples(examples, self.halves)
        schedule = settled(first, examples)  # with steps: auto, this trains the full proxy unless that is done
        self.proxy = half_proxy(proxy, int(first.tokenized.rows.valid.sum()), longest, schedule)
        self.steps = self.proxy.schedule(len(examples)).steps

    def measured(self) -> bool:
        """Whether the cache holds all results of `measure`; loads and runs nothing."""
        return all(
            measured_held_out(trained_on, others, self.proxy, [MeanLoss()], self.context)
            for half in (0, 1)
            for trained_on, held_out in [self._sets(half)]
            for others in held_out
        )

    def measure(self) -> HeldOutLosses:
        """Train and measure. All results are cached: a killed call resumes and a finished one costs nothing."""
        rows_loss = np.full((len(self.examples), len(self.steps)), np.nan, np.float32)  # (n, K)
        null_loss = np.full((len(self.null), len(self.steps)), np.nan, np.float32)  # (m, K)
        for half in (0, 1):
            rows, nulls = self.halves.measured_by(half)
            trained_on, held_out = self._sets(half)
            traces = measure_held_out(trained_on, held_out, self.proxy, [MeanLoss()], self.context)
            rows_loss[rows] = traces[0].losses
            if len(nulls):
                null_loss[nulls] = traces[1].losses
        short = int(np.searchsorted(self.steps, self.proxy.own_step))
        return HeldOutLosses(self.halves, self.steps, short, rows_loss, null_loss, self.tied, self.patterns)

    def _sets(self, half: int) -> tuple[Examples, list[Examples]]:
        """The training rows of one half's proxy, and the rows it measures."""
        rows, nulls = self.halves.measured_by(half)
        held_out = [self.examples.take(rows), *([self.null.take(nulls)] if len(nulls) else [])]
        return self.examples.take(self.halves.trained_on(half)), held_out


def measure_halves(examples: Examples, proxy: Proxy, context: Context, **settings: Any) -> HeldOutLosses:
    """`HalfProxies` of the examples, trained and measured.

    Each of two proxies of the given configuration is trained on one half of the rows and measures the other half. What
    the losses tell about wrong rows is in `curate.difficulty.reducible`.
    """
    return HalfProxies(examples, proxy, context, **settings).measure()


def check_exchangeable(examples: Examples) -> None:
    """Raise InputError if rows have no separate completion that could be exchanged."""
    if examples.content_roles != ("messages",):
        _completion_role(examples)


def completion_texts(examples: Examples) -> list[str]:
    """(n,) completion text of each row; for a conversation in one column, its last answer.

    Raises InputError if rows have no separate completion.
    """
    if examples.content_roles == ("messages",):
        conversations = examples.texts("messages", 0, len(examples))
        answers = [_last_answer(turns) for turns in conversations]
        return ["" if k is None else turns[k]["content"] for turns, k in zip(conversations, answers, strict=True)]
    role = _completion_role(examples)
    return [repr(cell) for cell in examples.texts(role, 0, len(examples))]


def null_examples(examples: Examples, halves: Halves) -> Examples:
    """The m null rows: each with the completion of its donor and a new id.

    In a conversation in one column only the last answer is exchanged, so that only part of several turns is wrong.
    """
    own = examples.take(halves.null)
    ids = pa.array([f"{row_id} with another completion" for row_id in own.ids.to_pylist()], pa.string())
    if examples.content_roles == ("messages",):
        answers = completion_texts(examples)
        conversations = []
        for turns, donor in zip(own.texts("messages", 0, len(own)), halves.donor.tolist(), strict=True):
            last = _last_answer(turns)
            changed = [turn | {"content": answers[donor]} if k == last else turn for k, turn in enumerate(turns)]
            conversations.append(changed)
        kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
        table = pa.table({"messages": pa.array(conversations, kind)})
        return Examples(table, ids, examples.shape, {"messages": "messages"})
    name = examples.columns[_completion_role(examples)]
    donors, place = np.unique(halves.donor, return_inverse=True)
    cells = whole(examples.take(donors).table[name]).take(pa.array(place, pa.int64()))
    table = own.table.set_column(own.table.column_names.index(name), name, cells)
    return Examples(table, ids, examples.shape, examples.columns)


def _last_answer(turns: Sequence[dict[str, str]]) -> int | None:
    """Index of the last assistant turn."""
    answers = [k for k, turn in enumerate(turns) if turn["role"] == "assistant" and turn["content"]]
    return answers[-1] if answers else None


def _completion_role(examples: Examples) -> str:
    for role in ("completion", "output"):
        if role in examples.content_roles:
            return role
    raise InputError(
        f"rows of shape {examples.shape} have no completion apart from the prompt, so none can be exchanged; "
        "give prompts and completions in separate columns"
    )


def like_rows(
    texts: Sequence[str | None], ids: Sequence[str], parents: Sequence[Any] | None = None, gate: Gate | None = None
) -> tuple[IntArray, int]:
    """(n,) group of each row, which must not be divided, and number of rows of a pattern too common to be grouped.

    texts: (n,) full text of each row. parents: see `HalfProxies`. Equal texts, near-duplicates by `gate`, and rows of
    one parent are in one group with it; see `curate.difficulty.halves.tied_groups`.
    """
    # Sorted by text, so that the pairs compared do not depend on the order of the rows.
    order = np.array(sorted(range(len(texts)), key=lambda row: texts[row] or ""), np.int64)  # (n,) of rows
    query, row = near_duplicates([texts[k] or "" for k in order.tolist()], gate)
    same: list[Sequence[Any]] = [texts]
    if parents is not None:
        same.append([row_id if parent is None else parent for row_id, parent in zip(ids, parents, strict=True)])
    return tied_groups(len(texts), same, (order[query], order[row]))
