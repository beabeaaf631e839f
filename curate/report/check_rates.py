"""What each check of new problems rejected and what it cost, from the records of synthesis in run.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from curate.console.formatting import as_label, real
from curate.report.finished_run import mapping
from curate.report.reasons import REASONS, Reason, kind_of


@dataclass(frozen=True)
class CheckRate:
    """What one check did: the number of problems it judged and rejected, and the requests and generated tokens
    that it took. reason: what the problems that it rejected have in common."""

    name: str
    reason: Reason
    tried: int
    turned_away: int
    requests: int
    generated: int

    @property
    def rate(self) -> float | None:
        """Share of the problems judged that were rejected; None if none was judged."""
        return self.turned_away / self.tried if self.tried else None


def check_rates(record: dict[str, Any]) -> list[CheckRate]:
    """What each check did, in the order of the record; empty if it has none."""
    rates = []
    for name in mapping(record, "checks"):
        rate = mapping(mapping(record, "checks"), name)
        tried, failed, requests, generated = (
            int(real(rate.get(key)) or 0) for key in ("made", "failed", "requests", "generated")
        )
        reason = kind_of(str(rate.get("reason", "")), REASONS)
        rates.append(CheckRate(as_label(name), reason, tried, failed, requests, generated))
    return rates
