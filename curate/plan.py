"""The plan: which row, how often, from which source, and why a row is left out.

Planning is free, so `curate plan` can show what a recipe would do; rows are only moved when the fold over the
augmenters is complete (`realize`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NewRows", "Plan", "Realized", "Request", "identity"]


@dataclass(frozen=True)
class Request:
    """Rows that augmenter `augmenter` has promised to make once the fold is complete.

    kind: origin of the rows to come ("replay" or "synthetic").
    share: fraction of the FINAL rows this request fills (replay), or None.
    rows: (m,) int64 positions of the input rows it starts from (synthesis), or None.
    seed: of whatever is random in making them.
    """

    augmenter: Any
    kind: str
    seed: int
    share: float | None = None
    rows: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Plan:
    """counts: (n,) int32, how often input row i appears in the result; 0 = left out.
    reason: (n,) int16 index into `reasons` for rows left out, -1 elsewhere.
    requests: rows to be made or fetched, in the order of the augmenters.
    """

    counts: npt.NDArray[np.int32]
    reason: npt.NDArray[np.int16]
    reasons: tuple[str, ...] = ()
    requests: tuple[Request, ...] = ()

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def planned(self) -> npt.NDArray[np.bool_]:
        """(n,) rows still in the plan: all that Duplicate and Synthesize may see."""
        return self.counts > 0

    def with_counts(self, counts: npt.NDArray[Any]) -> Plan:
        return replace(self, counts=counts.astype(np.int32))

    def leave_out(self, rows: npt.NDArray[np.bool_], reason: str) -> Plan:
        """Drop the planned rows marked in the (n,) mask, recording why."""
        dropped = rows & self.planned
        number = len(self.reasons)
        return replace(
            self,
            counts=np.where(dropped, 0, self.counts).astype(np.int32),
            reason=np.where(dropped, number, self.reason).astype(np.int16),
            reasons=(*self.reasons, reason),
        )

    def request(self, request: Request) -> Plan:
        return replace(self, requests=(*self.requests, request))


def identity(n: int) -> Plan:
    """Every one of n rows once."""
    return Plan(np.ones(n, np.int32), np.full(n, -1, np.int16))


@dataclass(frozen=True)
class NewRows:
    """Rows that were not in the input.

    table: Arrow table with the input's columns.
    ids: (m,) example ids; source_ids: (m,) id of the input row each comes from (its own for replay).
    extra: further output columns (provenance of synthetic rows), each (m,).
    """

    table: Any
    ids: list[str]
    source_ids: list[str]
    origin: str
    extra: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Realized:
    """What a Realizer made: the rows, and the rejected ones as dictionaries with a `reason` each."""

    rows: NewRows
    rejected: list[dict[str, Any]] = field(default_factory=list)
