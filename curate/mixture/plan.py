"""The plan: how often each row appears, which new rows are wanted, and why a row is left out.

Planning is free, so `curate plan` can show what a recipe would do; rows are made only when the fold over the
augmenters is complete (`realize`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.console.formatting import count, times
from curate.console.presentation import Facts, Tabular
from curate.data.examples import Examples
from curate.difficulty.scores import Split
from curate.errors import InputError, RunWarning
from curate.mixture.control_rows import stand_ins
from curate.run import Run
from curate.seeds import derive_seed
from curate.types import BoolArray, FloatArray, IntArray

# Which rows an augmenter is about: the hard ones, or a control of as many others; see `curate.mixture.control_rows`.
Kind = Literal["hard", "easy", "random"]
_MOST_FACTS = 5  # of a kind, in a summary
# Which of them: all, or those that a model learns from the other rows, see `curate.difficulty.reducible`.
Only = Literal["reducible"] | None

# Why Subset(drop="irreducible") leaves rows out.
DROPPED = "hard, and not learned from the other rows (Subset.drop)"
NOISE_GUARD = "it takes the rows of highest loss, wrong and rare ones alike; only: reducible tells most of them apart"


@dataclass(frozen=True)
class Demand:
    """Rows that augmenter `augmenter` has promised to make once the fold is complete.

    kind: origin of the rows to come ("replay" or "synthetic").
    share: fraction of the FINAL rows this demand fills (replay), or None.
    count: rows wanted, filled in from the share when everything else is made.
    rows: (m,) int64 positions of the input rows it starts from (synthesis), or None.
    suspects: rows that would have been among them but for a noise guard; unsampled: but for a limit of their number;
        irreducible: but for `only`.
    only_hard: whether of the new rows only those enter that are hard when measured like the input.
    number: of earlier demands of this kind, so that the ids of their rows do not clash.
    seed: of whatever is random in making them.
    """

    augmenter: Any
    kind: str
    seed: int
    share: float | None = None
    count: int | None = None
    rows: IntArray | None = None
    suspects: int = 0
    unsampled: int = 0
    irreducible: int = 0
    only_hard: bool = False
    number: int = 0


@dataclass(frozen=True, repr=False)
class Plan(Tabular):
    """counts: (n,) int32, how often input row i appears in the result; 0 = left out.
    reason: (n,) int16 index into `reasons` for rows left out, -1 elsewhere.
    demands: rows to be made or fetched, in the order of the augmenters.
    suspects: (n,) bool, rows of high final loss that a noise guard marked; None = no guard.
    epochs: how many epochs the counts are of; with more than one, a row stands once in each of `count` of them.
    """

    counts: npt.NDArray[np.int32]
    reason: npt.NDArray[np.int16]
    reasons: tuple[str, ...] = ()
    demands: tuple[Demand, ...] = ()
    suspects: BoolArray | None = None
    epochs: int = 1

    def __len__(self) -> int:
        return len(self.counts)

    def summary(self) -> Facts:
        """How often rows are planned, which are left out and why, and what is still to be made."""
        often, rows = np.unique(self.counts, return_counts=True)
        facts = [(times(each), f"{count(of)} rows") for each, of in zip(often.tolist(), rows.tolist(), strict=True)]
        if len(facts) > _MOST_FACTS:
            facts = [
                ("often", f"{often[0]} to {often[-1]} times"),
                ("left out", f"{count((self.counts == 0).sum())} rows"),
            ]
        for number, reason in enumerate(self.reasons[:_MOST_FACTS]):
            facts.append(("left out", f"{count(int((self.reason == number).sum()))} rows: {reason}"))
        for demand in self.demands[:3]:
            facts.append(("to be made", f"{demand.kind} rows, by {type(demand.augmenter).__name__}"))
        if self.epochs > 1:
            facts.append(("epochs", f"{self.epochs}, each with rows of its own"))
        return Facts(
            f"Plan of {count(len(self))} rows: {count(int(self.counts.sum(dtype=np.int64)))} after it", tuple(facts)
        )

    def to_arrow(self) -> Any:
        """count and reason (null for rows that are not left out), in the order of the rows of the split."""
        reasons = pa.array(list(self.reasons) or [""], pa.string())
        return pa.table({"count": self.counts, "reason": reasons.take(pa.array(self.reason, mask=self.reason < 0))})

    @property
    def planned(self) -> BoolArray:
        """(n,) rows still in the plan: all that Duplicate and Synthesize may see."""
        return self.counts > 0

    def with_counts(self, counts: npt.NDArray[Any]) -> Plan:
        return replace(self, counts=counts.astype(np.int32))

    def leave_out(self, rows: BoolArray, reason: str) -> Plan:
        """Drop the planned rows marked in the (n,) mask, recording why."""
        dropped = rows & self.planned
        number = len(self.reasons)
        return replace(
            self,
            counts=np.where(dropped, 0, self.counts).astype(np.int32),
            reason=np.where(dropped, number, self.reason).astype(np.int16),
            reasons=(*self.reasons, reason),
        )

    def check_one_epoch(self, name: str) -> None:
        """Raise InputError where an augmenter called `name`, which counts within one epoch, follows one of several."""
        if self.epochs > 1:
            raise InputError(
                f"{name} cannot follow Subset(epochs={self.epochs}), whose rows are drawn anew for every epoch; leave "
                "one of them out"
            )

    def demand(self, demand: Demand) -> Plan:
        return replace(self, demands=(*self.demands, demand))

    def choose(self, of: Kind, split: Split, generator: np.random.Generator, only: Only = None) -> IntArray:
        """Sorted positions of the planned rows of a kind, none twice; as many as are hard, or all that there are.

        only: "reducible" leaves no others, hard ones and those that stand in for them alike, see `Split.allowed`.
        """
        planned = self.planned & split.allowed(only)
        hard = np.flatnonzero(split.hard & planned)
        return hard if of == "hard" else np.unique(stand_ins(of, hard, split, planned, generator))

    def mark_suspects(self, rows: IntArray, split: Split, share: float, name: str) -> Plan:
        """The noise guard: of the rows at these positions, mark the `share` of highest final loss (rounded up).

        A row that is still wrong when the proxy stops may be mislabeled, or one of a rare skill. name: of the setting,
        for the error. Raises InputError if the scorer recorded no losses.
        """
        if not share or not len(rows):
            return self
        if split.final_loss is None:
            raise InputError(f"{name} needs losses; use a scorer that records them, or set {name.split('.')[-1]}: 0")
        by_loss = rows[np.argsort(split.final_loss[rows], kind="stable")]
        suspects = np.zeros(len(self), np.bool_) if self.suspects is None else self.suspects.copy()
        suspects[by_loss[len(rows) - int(np.ceil(share * len(rows))) :]] = True
        return replace(self, suspects=suspects)

    def trusted(self, rows: IntArray) -> IntArray:
        """The rows at these positions that no noise guard marked."""
        return rows if self.suspects is None else rows[~self.suspects[rows]]


def identity(n: int) -> Plan:
    """Every one of n rows once."""
    return Plan(np.ones(n, np.int32), np.full(n, -1, np.int16))


@dataclass(frozen=True)
class NewRows:
    """Rows that were not in the input.

    table: Arrow table with the input's columns.
    ids: (m,) example ids; source_ids: (m,) id of the input row each comes from (its own for replay).
    extra: further output columns (provenance of synthetic rows), each (m,).
    measured: difficulty, cluster and hardness, each (m,), of rows that were measured like the input's; None = not.
    """

    table: Any
    ids: list[str]
    source_ids: list[str]
    origin: str
    extra: dict[str, list[Any]] = field(default_factory=dict)
    measured: Measured | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, kept: BoolArray) -> NewRows:
        """The rows marked in the (m,) mask."""
        places = np.flatnonzero(kept)
        return replace(
            self,
            table=self.table.take(places),
            ids=[self.ids[place] for place in places],
            source_ids=[self.source_ids[place] for place in places],
            extra={name: [values[place] for place in places] for name, values in self.extra.items()},
            measured=self.measured and self.measured.take(places),
        )


@dataclass(frozen=True)
class Measured:
    """What the split says of m new rows. difficulty: (m,) float32, NaN where invalid; cluster: (m,) int32, numbered
    like the split's, -2 invalid; hard: (m,) bool; tokens: (m,) int32 completion tokens, where they were counted."""

    difficulty: FloatArray
    cluster: npt.NDArray[np.int32]
    hard: BoolArray
    tokens: npt.NDArray[np.int32] | None = None

    def take(self, rows: IntArray) -> Measured:
        tokens = None if self.tokens is None else self.tokens[rows]
        return Measured(self.difficulty[rows], self.cluster[rows], self.hard[rows], tokens)


@dataclass(frozen=True)
class Screened:
    """What became of new rows after they were made, by their example ids.

    left_out: why a row did not enter, in short (what is counted) and in full.
    measured: (hard, difficulty) of the rows that were measured like the input; difficulty is NaN where invalid.
    """

    left_out: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    measured: Mapping[str, tuple[bool, float]] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """Counts of what was measured, for run.json; empty where nothing was."""
        if not self.measured:
            return {}
        valid = sum(not np.isnan(difficulty) for _, difficulty in self.measured.values())
        hard = sum(hard for hard, _ in self.measured.values())
        return {"rescored": {"measured": valid, "hard": hard, "invalid": len(self.measured) - valid}}


@dataclass(frozen=True)
class Summary:
    """How rows were made.

    record: JSON (counts, settings, cost), for run.json and the report.
    attempts: Arrow table with a row for each thing that was tried, with `example_id` where it became a row.
    warnings: about the settings.
    """

    record: dict[str, Any] = field(default_factory=dict)
    attempts: Any = None
    warnings: Sequence[RunWarning] = ()


@dataclass(frozen=True)
class Realized:
    """New rows, and the rejected ones as dictionaries with a `reason` each.

    summarize: called once, after screening, for `summary`.
    """

    rows: NewRows
    rejected: list[dict[str, Any]] = field(default_factory=list)
    summarize: Callable[[Screened], Summary] = lambda screened: Summary(screened.record)
    screened: Screened = field(default_factory=Screened)

    @cached_property
    def summary(self) -> Summary:
        return self.summarize(self.screened)


def fold(augmenters: Sequence[Augmenter], split: Split, seed: int = 0) -> Plan:
    """Apply the augmenters in order, from the identity plan; each gets a seed of its own."""
    n = len(split.valid)
    plan = identity(n)
    for index, augmenter in enumerate(augmenters):
        name = f"augmenter {index} ({type(augmenter).__name__})"
        plan = _checked(augmenter.plan(plan, split, derive_seed(seed, "augmenter", index)), n, name)
        if not plan.counts.any() and not plan.demands:
            raise InputError(f"after {name} the plan holds no rows; loosen its settings")
    return plan


def _checked(plan: Any, n: int, name: str) -> Plan:
    """The plan that an augmenter returned; a row left out without a reason gets the augmenter's name as one."""
    if not isinstance(plan, Plan) or len(plan) != n:
        raise InputError(f"{name} returned {type(plan).__name__}; its plan method must return a Plan of {n:,} rows")
    if (plan.counts < 0).any():
        row = int(np.argmax(plan.counts < 0))
        raise InputError(f"{name} planned row {row} {int(plan.counts[row])} times; counts start at 0")
    unexplained = (plan.counts == 0) & (plan.reason < 0)
    if not unexplained.any():
        return plan
    reason = np.where(unexplained, len(plan.reasons), plan.reason).astype(np.int16)
    return replace(plan, reason=reason, reasons=(*plan.reasons, f"left out by {name}"))


def share_counts(plan: Plan, made: int) -> tuple[Demand, ...]:
    """The plan's demands with `count` filled in for those that ask for a share of the final rows.

    With N other rows and shares s_1..s_m, demand j gets N * s_j / (1 - sum(s)), rounded.
    """
    total = sum(demand.share or 0.0 for demand in plan.demands)
    if total >= 1:
        raise InputError(f"the shares of all Replay augmenters add up to {total:g}; they must stay below 1")
    others = int(plan.counts.sum()) + made
    return tuple(
        demand if demand.share is None else replace(demand, count=round(others * demand.share / (1 - total)))
        for demand in plan.demands
    )


def realize(
    plan: Plan,
    examples: Examples,
    run: Run | None = None,
    *,
    admit: Callable[[Demand, Realized], Realized] = lambda demand, realized: realized,
) -> list[Realized]:
    """Make the rows that were promised: first those of fixed number, then those that are a share of all.

    admit: what decides which of the new rows enter, before shares are counted.
    """
    run = run or Run()
    done: dict[int, Realized] = {}

    def fulfill(demand: Demand) -> Realized:
        return admit(demand, demand.augmenter.realize(replace(plan, demands=(demand,)), examples, run))

    for index, demand in enumerate(plan.demands):
        if demand.share is None:
            done[index] = fulfill(demand)
    made = sum(len(realized.rows) for realized in done.values())
    for index, demand in enumerate(share_counts(plan, made)):
        if demand.share is not None:
            done[index] = fulfill(demand)
    return [done[index] for index in sorted(done)]


NOT_HARD = "not hard when measured"


@dataclass(frozen=True)
class Price:
    """rows: to start from; skipped: that cannot have variants; stored: requests that the store answers.
    requests: still to be made, at most (every sample of every variant drawn).
    generated_tokens, prompt_tokens: expected for those requests, from the lengths of the parents' texts.
    most_tokens: generated, if each used all it may, or what the budget leaves.
    second: how many of the requests are for a second route to the answer; solving_parents: for the rows themselves.
    """

    rows: int
    skipped: int
    stored: int
    requests: int
    generated_tokens: int
    prompt_tokens: int
    most_tokens: int
    second: int = 0
    solving_parents: int = 0


@runtime_checkable
class Augmenter(Protocol):
    """Changes what the dataset will hold. A left fold: each sees the plan so far. Optional methods:

    check_examples(examples): raises InputError where these examples cannot serve; called before anything is scored.
    check_ready(): raises InputError or ExternalError where something outside is missing, such as a server; also of
        generators; called before anything is scored.
    check_engine(engine): raises InputError where an engine is needed and there is none; also of generators.
    realize(plan, examples, run) -> Realized: makes the rows of the one demand in `plan`, once all plans are folded. May
        call a model or read other data. Needed where `plan` adds a `Demand`.
    needs_reducible() -> bool: whether `plan` asks which rows are reducible (`split.reducible`), which takes two more
        proxies.
    price(plan, examples, run) -> Price: what `realize` would still ask of a model, at most; asks nothing.
    """

    def plan(self, plan: Plan, split: Split, seed: int) -> Plan:
        """A new plan; free and deterministic, calls no model and reads no data."""
        ...
