"""What is recorded of reducible rows, and when it warns."""

from dataclasses import replace

import numpy as np
import pytest

from curate.difficulty.reducible_report import of_reducible, reducible_record, wrong_rows
from tests.fixtures.splits import _split, knowing

SPLIT = _split([0] * 4 + [1] * 6, hard=list(range(4, 10)))
KNOWN = knowing(SPLIT, [0, 5, 6, 7])


def test_the_agreement_is_of_rows_that_are_hard_and_reducible() -> None:
    assert reducible_record([SPLIT]) is None
    alone = reducible_record([KNOWN])
    assert alone is not None
    assert "seed_agreement" not in alone
    assert alone["shares"] == {"hard": 0.5, "easy": 0.25}
    others = [knowing(SPLIT, [6, 7, 8]), knowing(SPLIT, [3, 5, 6, 7], "cannot tell")]
    record = reducible_record([KNOWN, *others])
    assert record is not None
    found = record["seed_agreement"]
    assert found["seeds"] == 3
    assert found["jaccard"] == pytest.approx((2 / 4 + 1 + 2 / 4) / 3)  # {5, 6, 7}, {6, 7, 8}, {5, 6, 7}
    assert found["jaccard_min"] == 0.5
    assert found["verdicts"] == ["estimated", "estimated", "cannot tell"]


@pytest.mark.parametrize(
    ("interval", "drops", "codes"),
    [
        ((0.06, 0.3), True, ["likely_noise"]),
        ((0.06, 0.3), False, ["likely_noise"]),
        ((0.05, 0.3), True, ["irreducible_dropped"]),
        ((0.0, 0.02), False, []),
    ],
)
def test_dropping_is_advised_above_five_percent_alone(interval: tuple[float, float], drops: bool, codes: list) -> None:
    assert KNOWN.reducible is not None
    found = replace(KNOWN.reducible, interval=interval, wrong_share=0.1)
    warnings = [wrong_rows(found), *of_reducible(found, None, drops=drops)]
    assert [each.code for each in warnings if each] == codes
    for each in filter(None, warnings):
        assert "10%" in each.message


def test_what_cannot_be_told_is_said_in_one_line_and_unstable_halves_too() -> None:
    unknown = knowing(SPLIT, [], "cannot tell").reducible
    assert unknown is not None
    (warning,) = of_reducible(unknown, None, drops=True)
    assert warning.code == "reducible_unknown"
    assert "leave no row out" in warning.message
    assert wrong_rows(unknown) is None
    assert list(of_reducible(None, None, drops=False)) == []
    record = reducible_record([KNOWN, knowing(SPLIT, [8, 9])])
    assert [each.code for each in of_reducible(KNOWN.reducible, record, drops=False)] == ["reducible_unstable"]
    assert np.isclose((record or {})["seed_agreement"]["jaccard"], 0)
