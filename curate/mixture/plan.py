"""Plans: occurrences of each row, demands for new rows, and reasons for dropped rows."""

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

# Rows that an augmenter acts on: the hard ones, or as many control rows; see `curate.mixture.control_rows`.
Kind = Literal["hard", "easy", "random"]
_MOST_FACTS = 5  # of a kind, in a summary
# Restriction of these rows: None, or those that can be learned from the others, see `curate.difficulty.reducible`.
Only = Literal["reducible"] | None

# Reason recorded by Subset(drop="irreducible").
DROPPED = "hard, and not learned from the other rows (Subset.drop)"
NOISE_GUARD = "it takes the rows of highest loss, wrong and rare ones alike; only: reducible tells most of them apart"


@dataclass(frozen=True)
class Demand:
    """New rows that `augmenter` will generate after all augmenters have been applied.

    kind: origin of the new rows ("replay" or "synthetic").
    share: fraction of the FINAL rows that this demand fills (replay), or None.
    count: number of rows, computed from the share once all other rows are generated.
    rows: (m,) int64 positions of the input rows to start from (synthesis), or None.
    suspects, unsampled, irreducible: numbers of rows excluded from `rows` by a noise guard, by a limit on their number,
        and by `only`.
    only_hard: whether only new rows enter that are hard when measured like the input.
    number: number of earlier demands of this kind, so that ids of their rows do not clash.
    seed: for everything random in generating them.
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
    """Occurrences of n input rows in the result, and demands for new rows.

    Planning costs nothing, so `curate plan` can show what a recipe would do; new rows are generated only after all
    augmenters have been applied (`realize`).

    counts: (n,) int32, occurrences of each input row; 0 = left out.
    reason: (n,) int16 index into `reasons` for rows left out, -1 elsewhere.
    demands: rows to generate or fetch, in the order of the augmenters.
    suspects: (n,) bool, rows of high final loss that a noise guard marked; None = no guard.
    epochs: number of epochs that the counts cover; if more than one, a row occurs once in each of `count` of them.
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
        """Occurrences of rows, dropped rows with reasons, and demands."""
        often, rows = np.unique(self.counts, return_counts=True)
        facts = [
            (times(occurrences), f"{count(size)} rows")
            for occurrences, size in zip(often.tolist(), rows.tolist(), strict=True)
        ]
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
            facts.append(("epochs", f"{self.epochs}, each with its own rows"))
        return Facts(
            f"Plan of {count(len(self))} rows: {count(int(self.counts.sum(dtype=np.int64)))} after it", tuple(facts)
        )

    def to_arrow(self) -> Any:
        """count and reason (null for rows that are not left out), in the order of the rows of the split."""
        reasons = pa.array(list(self.reasons) or [""], pa.string())
        return pa.table({"count": self.counts, "reason": reasons.take(pa.array(self.reason, mask=self.reason < 0))})

    @property
    def planned(self) -> BoolArray:
        """(n,) rows still in the plan, on which later augmenters may act."""
        return self.counts > 0

    def with_counts(self, counts: npt.NDArray[Any]) -> Plan:
        """The plan with other numbers of occurrences, (n,) of all rows; use `leave_out` to leave rows out."""
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
        """Raise InputError if the plan covers several epochs. name: of an augmenter that supports only one."""
        if self.epochs > 1:
            raise InputError(
                f"{name} cannot follow Subset(epochs={self.epochs}), whose rows are redrawn for every epoch; leave "
                "one of them out"
            )

    def demand(self, demand: Demand) -> Plan:
        return replace(self, demands=(*self.demands, demand))

    def choose(self, of: Kind, split: Split, generator: np.random.Generator, only: Only = None) -> IntArray:
        """Sorted unique positions of planned rows of a kind, as many as there are hard ones if possible.

        only: "reducible" restricts both hard rows and control rows, see `Split.allowed`.
        """
        planned = self.planned & split.allowed(only)
        hard = np.flatnonzero(split.hard & planned)
        return hard if of == "hard" else np.unique(stand_ins(of, hard, split, planned, generator))

    def mark_suspects(self, rows: IntArray, split: Split, share: float, name: str) -> Plan:
        """Noise guard: mark the `share` (rounded up) of highest final loss among the rows at `rows`.

        A row whose loss is still high when the proxy stops may be mislabeled, or of a rare skill. name: of the setting,
        for messages. Raises InputError if the scorer recorded no losses.
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
        """The positions `rows` without those that a noise guard marked."""
        return rows if self.suspects is None else rows[~self.suspects[rows]]


def identity(n: int) -> Plan:
    """The plan with each of n rows once."""
    return Plan(np.ones(n, np.int32), np.full(n, -1, np.int16))


@dataclass(frozen=True)
class NewRows:
    """m rows that are not in the input.

    table: Arrow table with the input's columns.
    ids: (m,) example ids. source_ids: (m,) id of the input row that each was derived from (its own for replay).
    extra: further output columns (provenance of synthetic rows), (m,) each.
    measured: difficulty, cluster and hardness if they were measured like the input, else None.
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
        places = np.flatnonzero(kept)  # (kept rows,)
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
    """Measurements of m new rows.

    difficulty: (m,) float32, NaN if invalid. cluster: (m,) int32, numbered as in the split, -2 = invalid. hard: (m,)
    bool. tokens: (m,) int32 completion tokens, if they were counted.
    """

    difficulty: FloatArray
    cluster: npt.NDArray[np.int32]
    hard: BoolArray
    tokens: npt.NDArray[np.int32] | None = None

    def take(self, rows: IntArray) -> Measured:
        tokens = None if self.tokens is None else self.tokens[rows]
        return Measured(self.difficulty[rows], self.cluster[rows], self.hard[rows], tokens)


@dataclass(frozen=True)
class Screened:
    """Result of screening new rows, by example id.

    left_out: (short, full) reason for each rejected row; the short one is counted.
    measured: (hard, difficulty) of rows that were measured like the input; difficulty is NaN if invalid.
    """

    left_out: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    measured: Mapping[str, tuple[bool, float]] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """Counts of measured rows, for run.json; empty if there are none."""
        if not self.measured:
            return {}
        valid = sum(not np.isnan(difficulty) for _, difficulty in self.measured.values())
        hard = sum(hard for hard, _ in self.measured.values())
        return {"rescored": {"measured": valid, "hard": hard, "invalid": len(self.measured) - valid}}


@dataclass(frozen=True)
class Summary:
    """Summary of generating rows.

    record: JSON (counts, settings, cost), for run.json and the report.
    attempts: Arrow table with one row per attempt, with `example_id` if it became a row.
    warnings: about the settings.
    """

    record: dict[str, Any] = field(default_factory=dict)
    attempts: Any = None
    warnings: Sequence[RunWarning] = ()


@dataclass(frozen=True)
class Realized:
    """New rows that an augmenter generated. rejected: records with a `reason` each.

    summarize: computes `summary` from the result of screening; called once.
    """

    rows: NewRows
    rejected: list[dict[str, Any]] = field(default_factory=list)
    summarize: Callable[[Screened], Summary] = lambda screened: Summary(screened.record)
    screened: Screened = field(default_factory=Screened)

    @cached_property
    def summary(self) -> Summary:
        return self.summarize(self.screened)


def fold(augmenters: Sequence[Augmenter], split: Split, seed: int = 0) -> Plan:
    """Apply augmenters in order, starting with the identity plan; each gets its own seed."""
    n = len(split.valid)
    plan = identity(n)
    for index, augmenter in enumerate(augmenters):
        name = f"augmenter {index} ({type(augmenter).__name__})"
        plan = _checked(augmenter.plan(plan, split, derive_seed(seed, "augmenter", index)), n, name)
        if not plan.counts.any() and not plan.demands:
            raise InputError(f"after {name} the plan holds no rows; loosen its settings")
    return plan


def _checked(plan: Any, n: int, name: str) -> Plan:
    """Validate the plan that an augmenter returned; rows dropped without a reason get the augmenter's name as one."""
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
    other_rows = int(plan.counts.sum()) + made
    return tuple(
        demand if demand.share is None else replace(demand, count=round(other_rows * demand.share / (1 - total)))
        for demand in plan.demands
    )


def realize(
    plan: Plan,
    examples: Examples,
    run: Run | None = None,
    *,
    admit: Callable[[Demand, Realized], Realized] = lambda demand, realized: realized,
) -> list[Realized]:
    """Generate the demanded rows: first fixed numbers, then shares of all rows.

    admit: screens new rows before shares are computed.
    """
    run = run or Run()
    done: dict[int, Realized] = {}

    def fulfill(demand: Demand) -> Realized:
        return admit(demand, demand.augmenter.realize(replace(plan, demands=(demand,)), examples, run))

    for index, demand in enumerate(plan.demands):
        if demand.share is None:
            done[index] = fulfill(demand)
    generated = sum(len(realized.rows) for realized in done.values())
    for index, demand in enumerate(share_counts(plan, generated)):
        if demand.share is not None:
            done[index] = fulfill(demand)
    return [done[index] for index in sorted(done)]


NOT_HARD = "not hard when measured"


@dataclass(frozen=True)
class Price:
    """Estimated cost of a demand.

    rows: rows to start from. skipped: rows that cannot have variants. stored: requests that the store answers.
    requests: most requests still to be made (every sample of every variant).
    generated_tokens, prompt_tokens: expected for those requests, from the lengths of the parents' texts.
    most_tokens: generated tokens if each request uses its limit, or what the budget leaves.
    second, solving_parents: numbers of requests for a second derivation of the answer, and for solving the rows
    themselves.
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
    """Changes the planned content of the dataset. Augmenters are applied in order, each to the plan so far.

    Optional methods:

    check_examples(examples): raises InputError for unsupported examples; called before anything is scored.
    check_ready(): raises InputError or ExternalError if something external is missing, such as a server; also of
        generators; called before anything is scored.
    check_engine(engine): raises InputError if an engine is required and there is none; also of generators.
    realize(plan, examples, run) -> Realized: generates the rows of the one demand in `plan`, after all augmenters have
        been applied. May call a model or read other data. Required if `plan` adds a `Demand`.
    needs_reducible() -> bool: whether `plan` uses `split.reducible`, which takes two more proxies.
    price(plan, examples, run) -> Price: the most that `realize` would still request of a model; makes no requests.
    """

    def plan(self, plan: Plan, split: Split, seed: int) -> Plan:
        """A new plan; free and deterministic, calls no model and reads no data."""
        ...
