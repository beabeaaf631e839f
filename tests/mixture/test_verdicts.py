"""Verdicts: what each kind of curves comes to, and that they are shown only where the judgment allows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from curate.difficulty.held_out_curves import HeldOutCurves, predictions
from curate.mixture.judgment import Judged, Judgment, judgment
from curate.mixture.verdicts import (
    Commands,
    Decision,
    command_for,
    decide,
    forecast_budget,
    is_hopeless,
    verdicts_of,
    withheld,
)
from tests.fixtures.splits import CURVE_STEPS, power_curves

RULE = replace(judgment(), clock=1.0)
BETTER = Judged(right=(0.9, 0.8, 1.0), yes=20, precision=(0.85, 0.7, 0.95), gain=(0.04, 0.01, 0.08))
NO_BETTER = replace(BETTER, gain=(0.04, -0.01, 0.08))


def _decided(found: HeldOutCurves, **settings: Any) -> Decision:
    return decide(found, predictions(found), RULE, **settings)


def _judged(loss: Judged, answers: Judged) -> Judgment:
    return replace(RULE, outcomes={"loss": loss, "answers": answers})


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (power_curves(hard=0.5, other=0.05, share=0.1), "yes"),
        (power_curves(hard=0.1, other=0.45, start=(4.0, 3.0)), "train longer"),
        (power_curves(hard=0.0, other=0.01, share=0.1), "noise or out of reach"),
        (power_curves(hard=0.3, other=0.0, share=0.02, n=2000, start=(4.0, 0.4)), "synthesize"),
        (power_curves(hard=0.12, other=0.05, share=0.8), "no"),
        (power_curves(n=60), "cannot tell"),
    ],
)
def test_each_kind_of_curves_has_its_verdict(found: HeldOutCurves, kind: str) -> None:
    decision = _decided(found)
    assert decision.kind == kind
    assert (decision.times > 1) == (kind == "yes")
    assert decision.reason[0].isupper() or decision.reason[0].isdigit()
    assert decision.reason.endswith(".")


def test_yes_is_the_smallest_factor_whose_lower_bound_helps() -> None:
    found = power_curves(hard=0.5, other=0.05, share=0.05, n=1000)
    predicted = predictions(found)
    wanted = next(each.times for each in predicted if each.high < -RULE.threshold)
    assert _decided(found).times == wanted
    strict = replace(RULE, threshold=-predicted[0].high)
    assert decide(found, predicted, strict).times == 3


def test_intervals_that_reach_from_help_to_harm_cannot_tell() -> None:
    wide = power_curves(hard=0.35, other=0.1, n=120, start=(4.0, 1.0))
    rows = wide.losses.copy()
    # Of the hard rows half fall fast and half rise, so that another dozen of them might do either.
    rows[wide.hard] *= (CURVE_STEPS / CURVE_STEPS[0]) ** np.where(np.arange(12) % 2, 0.4, -0.3)[:, None]
    unsure = replace(wide, losses=rows)
    decision = decide(unsure, predictions(unsure), replace(RULE, threshold=0.01))
    assert decision.kind == "cannot tell"
    assert "between" in decision.reason


def test_a_proxy_that_called_other_rows_hard_was_too_short() -> None:
    found = power_curves()
    other = replace(found, hard=np.roll(found.hard, 200), length=75)
    decision = _decided(other)
    assert decision.kind == "proxy too short"
    assert "75 steps" in decision.reason
    assert _decided(replace(other, of="target")).kind != "proxy too short"


def test_estimated_wrong_rows_stop_it() -> None:
    assert _decided(power_curves(other=0.05), wrong_share=0.05).kind == "yes"
    assert _decided(power_curves(other=0.05), wrong_share=0.5).kind == "noise or out of reach"


def test_verdicts_are_shown_for_the_outcomes_that_were_judged_better() -> None:
    yes = _decided(power_curves(other=0.05))
    (loss,) = verdicts_of(yes, _judged(BETTER, NO_BETTER))
    assert (loss.verdict, loss.outcome, loss.precision) == ("yes", "loss", 0.85)
    assert loss.command == f"curate run DATA --set augmenters.0.times={yes.times - 1} --out DIR"
    both = verdicts_of(replace(yes, kind="train longer", times=1), _judged(BETTER, BETTER))
    assert [each.outcome for each in both] == ["loss", "answers"]
    assert {each.precision for each in both} == {0.9}  # of no: how often it was right
    (kept,) = verdicts_of(yes, _judged(NO_BETTER, NO_BETTER))
    assert (kept.verdict, kept.outcome, kept.precision) == ("withheld", None, None)
    assert kept.command.startswith("curate validate")


def test_what_is_withheld_says_how_often_it_was_right_on_how_many() -> None:
    found = forecast_budget(replace(power_curves(other=0.05), clock=1.0), rule=_judged(NO_BETTER, NO_BETTER))
    assert found.decision.kind == "yes"
    reason = found.to_json()["verdict"]["reason"]
    assert f"90.0 % of {RULE.units} cases of {sum(RULE.settings.values())} settings" in reason
    assert "said yes 20 times, of which 85.0 % were right" in reason
    assert "\u22124.0 % (\u22128.0 % to +1.0 %)" in reason
    assert "never said yes" in withheld(_judged(replace(NO_BETTER, yes=0, precision=None), NO_BETTER))
    assert found.to_json()["times"] == found.decision.times > 1


def test_commands_of_each_kind() -> None:
    commands = Commands(read="r", longer_proxy="p", longer="l", copy="c {extra}", synthesize="s", measure="m")
    said = {
        "yes": "c 2",
        "train longer": "l",
        "proxy too short": "p",
        "noise or out of reach": "r",
        "synthesize": "s",
        "no": "m",
        "cannot tell": "m",
    }
    for kind, command in said.items():
        assert command_for(Decision(kind, "", 3), commands) == command  # type: ignore[arg-type]


def test_it_is_hopeless_where_even_the_better_bound_is_no_fall() -> None:
    assert is_hopeless(predictions(power_curves(hard=0.1, other=0.45, start=(4.0, 3.0))))
    assert not is_hopeless(predictions(power_curves(other=0.05)))
    assert not is_hopeless(())
