"""The band of pass rates: a decision holds whatever the other samples would be."""

from __future__ import annotations

import itertools

import pytest

from curate.verify.verdict import PassRateBand

BANDS = [
    PassRateBand(1, 5, 8),
    PassRateBand(1, 1, 1),
    PassRateBand(2, 3, 4),
    PassRateBand(1, 4, 4),
    PassRateBand(4, 4, 4),
    PassRateBand(3, 6, 7),
]


# -- the band ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("band", BANDS, ids=str)
def test_a_decision_holds_whatever_the_other_samples_would_be(band: PassRateBand) -> None:
    for verdicts in itertools.product("rw", repeat=band.samples):
        final = "too easy" if verdicts.count("r") > band.high else None
        final = final or ("too hard" if verdicts.count("r") < band.low else "in the band")
        for drawn in range(band.samples + 1):
            right = verdicts[:drawn].count("r")
            decision = band.decide(right, 0, drawn)
            assert decision in (None, final)
        assert decision == final


@pytest.mark.parametrize("band", BANDS, ids=str)
def test_an_ungraded_sample_never_decides(band: PassRateBand) -> None:
    """Every decision but "cannot be graded" is the one that either reading of the ungraded samples leads to."""
    for right, undecided in itertools.product(range(band.samples + 1), repeat=2):
        if right + undecided > band.samples:
            continue
        decision = band.decide(right, undecided, band.samples)
        readings = {band.decide(right + lucky, 0, band.samples) for lucky in range(undecided + 1)}
        assert decision == "cannot be graded" or readings == {decision}
        if undecided == 0:
            assert decision != "cannot be graded"


@pytest.mark.parametrize("band", BANDS, ids=str)
def test_rounds_draw_no_sample_that_could_have_been_spared(band: PassRateBand) -> None:
    """A round is the fewest samples that can decide: one fewer never does, whatever they are."""
    for drawn in range(band.samples):
        for right in range(drawn + 1):
            step = band.next_samples(right, 0, drawn)
            decided = band.decide(right, 0, drawn) is not None
            assert (step == 0) == decided
            if decided:
                continue
            assert drawn + step <= band.samples
            outcomes = {band.decide(right + more, 0, drawn + step) for more in range(step + 1)}
            assert outcomes != {None}
            fewer = {band.decide(right + more, 0, drawn + step - 1) for more in range(step)}
            assert fewer == {None}


def test_the_published_band_needs_four_samples_at_first() -> None:
    assert PassRateBand(1, 5, 8).next_samples(0, 0, 0) == 4
