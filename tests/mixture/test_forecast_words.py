"""What is said beside the numbers: from which shares on, of what is missing, and which clusters are listed."""

from typing import Any

import pytest

from curate.mixture.forecast_words import cautions, missing, needed_in_words, parts_of


@pytest.mark.parametrize(
    ("share", "suspects", "codes"),
    [
        (0.39, 0.09, []),
        (0.4, None, ["hard_share_large"]),
        (0.1, 0.1, ["hard_may_be_wrong"]),
        (0.46, 0.5, ["hard_share_large", "hard_may_be_wrong"]),
    ],
)
def test_cautions_are_from_the_shares_of_the_records_on(share: float, suspects: float | None, codes: list[str]) -> None:
    found = list(cautions(share, suspects))
    assert [each.code for each in found] == codes
    assert all(each.remedy for each in found)


def test_an_estimate_of_wrong_rows_takes_the_place_of_losses_that_stay_high() -> None:
    assert not list(cautions(0.1, 0.5, 0.01))
    (found,) = cautions(0.1, 0.0, 0.3)
    assert found.code == "hard_may_be_wrong"
    assert "30% of the hard rows are estimated to be wrong" in found.message
    assert "cannot tell" not in found.message


def test_nothing_is_missing_that_is_there() -> None:
    assert next(missing(None, 0, 0, 3, "front")).startswith("No row is hard")
    assert len(list(missing(None, 0, 5, 0, "shuffle"))) == 1  # no scores


def _record(needed: dict[str, Any] | None, share: float, rows: int = 10) -> dict[str, Any]:
    return {"needed": needed, "hard": {"share": share, "rows": rows}}


def test_the_factor_in_words() -> None:
    needed = {"times": 3, "extra_rows": 80, "hard": 2.5, "easy": 0.8333, "effective_share": 0.8}
    said = needed_in_words(_record(needed, 0.1))
    assert "each has to appear 3 times (80 more rows): hard rows are then seen 2.50 times as often" in said
    assert "they are 62.5 % of all rows, so it stays below 1.60 times" in needed_in_words(_record(None, 0.625))
    assert needed_in_words(_record(None, 0, 0)) == "no row is hard"


def test_two_clusters_are_not_listed_beside_hard_and_not_hard() -> None:
    clusters = [{"cluster": 0}, {"cluster": 1}, {"cluster": None}]
    assert parts_of({"clusters": clusters}) == [{"cluster": None}]
    assert parts_of({"clusters": [*clusters, {"cluster": 2}]}) == [*clusters, {"cluster": 2}]
