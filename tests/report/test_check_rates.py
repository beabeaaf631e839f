"""Rates of the checks of new problems, from the record."""

from __future__ import annotations

from pathlib import Path

from curate.report.check_rates import check_rates
from tests.fixtures.synthesis import record_of


def test_what_each_check_turned_away_is_a_share_of_what_it_judged(made: Path) -> None:
    record = record_of(made)
    checks = {
        "grounded": {"reason": "solutions use what the problem does not state", "made": 8, "failed": 2},
        "second_route": {"made": 0, "failed": 0, "requests": 3, "generated": 70},
        "broken": "words",
    }
    grounded, second, broken = check_rates({**record, "checks": checks})
    assert (grounded.rate, grounded.reason.name, grounded.requests) == (0.25, "Solutions use what is not stated", 0)
    assert (second.name, second.rate, second.generated) == ("second route", None, 70)
    assert broken.tried == 0
    band = next(rate for rate in check_rates(record) if rate.name == "band")
    undecided = record["outcomes"].get("cannot be graded", 0)
    out = record["outcomes"]["too easy"] + record["outcomes"]["too hard"]
    assert (band.turned_away, band.requests) == (out + undecided, record["yield"]["cost"]["solving"]["requests"])
