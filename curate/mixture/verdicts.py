"""Derive verdicts on copies, and the number of copies of hard rows, from held-out curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from curate.console.formatting import decimal, share, times
from curate.difficulty.held_out_curves import HeldOutCurves, Prediction, described, falls, predictions, still_hard
from curate.mixture.judgment import Judgment, Outcome, judgment

# At least this share of the hardest rows at the end of the budget must be hard for the proxy.
LEAST_STILL_HARD = 0.5
# A loss is flat if it falls by at most this share of itself per e-fold of steps, by the upper bound.
LEAST_FALL = 0.05
MOST_TIMES = 5  # if more occurrences are needed, there are too few hard rows

Kind = Literal[
    "not forecast",
    "withheld",
    "proxy too short",
    "noise or out of reach",
    "cannot tell",
    "train longer",
    "yes",
    "no",
    "synthesize",
]


@dataclass(frozen=True)
class Verdict:
    """Verdict on copies of hard rows.

    verdict: the forecast; "not forecast" from a short proxy alone, "withheld" if following the rule was not shown to be
    worthwhile. outcome: the outcome that it is about, loss or exact answers; None = neither. reason, command: the
    reason, and the command to run next. precision: measured share of right verdicts.
    """

    verdict: Kind
    reason: str
    command: str
    outcome: Outcome | None = None
    precision: float | None = None


@dataclass(frozen=True)
class Commands:
    """Next commands by purpose; `curate.cli.forecast` fills them in for a folder."""

    measure: str = "curate validate DATA --model MODEL --out DIR"
    longer_proxy: str = "curate run DATA --set proxy.steps=N --out DIR"
    read: str = "curate inspect DIR --examples 20"
    longer: str = "curate forecast DIR --steps N"
    copy: str = "curate run DATA --set augmenters.0.times={extra} --out DIR"
    synthesize: str = "curate synthesize DATA --generator MODEL --out DIR"


PLACEHOLDERS = Commands()


@dataclass(frozen=True)
class Decision:
    """Decision of the rule. kind: of verdict. reason: one sentence with numbers. times: occurrences of hard rows."""

    kind: Kind
    reason: str
    times: int = 1


def decide(
    curves: HeldOutCurves, predicted: Sequence[Prediction], rule: Judgment, *, wrong_share: float | None = None
) -> Decision:
    """Apply the rule. wrong_share: estimated share of wrong rows among the hard ones; None = not estimated.

    The rule says yes to a factor if exposures predict, by the worse bound of the bootstrap interval, that the loss on
    the mixture falls by more than `Judgment.threshold`. The branches of `decide` give the reason and the next step
    otherwise; their limits were chosen by judgment and not validated separately.
    """
    if not curves.sufficient:
        return Decision(
            "cannot tell", "Too few of the rows that were held out are hard, or too few are not, for a curve of each."
        )
    agreement = still_hard(curves)
    if curves.of == "proxy" and agreement < LEAST_STILL_HARD:
        length = "" if curves.length is None else f" of {curves.length:,} steps"
        return Decision(
            "proxy too short",
            f"Of the rows that are hardest after {int(curves.steps[-1]):,} steps {share(agreement)} were hard for the "
            f"proxy{length}: with more steps it calls other rows hard.",
        )
    if wrong_share is not None and wrong_share > rule.most_wrong:
        return Decision(
            "noise or out of reach",
            f"{share(wrong_share)} of the hard rows are estimated to be wrong or beyond the model.",
        )
    helping = [prediction for prediction in predicted if prediction.high < -rule.threshold]
    if helping:
        best = helping[0]
        gain = f"the loss on the mixture is predicted to fall by {share(-best.change)}, by {share(-best.high)} at least"
        if best.times > MOST_TIMES:
            return Decision(
                "synthesize",
                f"Hard rows would have to be shown {best.times} times before {gain}: there are too few of them.",
            )
        return Decision("yes", f"With hard rows shown {times(best.times)} {gain}.", best.times)
    return _without_help(curves, predicted, rule)


def _without_help(curves: HeldOutCurves, predicted: Sequence[Prediction], rule: Judgment) -> Decision:
    """The decision if no number of copies is predicted to help by the lower bound."""
    hard_fall, _, hard_high = falls(curves, True)
    other_fall, _, _ = falls(curves, False)
    last = float(curves.mean(True)[-1])
    if hard_high <= LEAST_FALL * last:
        return Decision(
            "noise or out of reach",
            f"The loss of the hard rows, {decimal(last)} nats per token, falls by {decimal(hard_fall)} per e-fold of "
            "steps at the end of the budget: they are wrong, or beyond the model; these curves cannot tell which.",
        )
    if any(prediction.low < -rule.threshold for prediction in predicted):
        low = min(predicted, key=lambda prediction: prediction.low)
        return Decision(
            "cannot tell",
            f"With hard rows shown {times(low.times)} the change of the loss is predicted to lie between "
            f"{_percent(low.low)} and {_percent(low.high)}.",
        )
    if other_fall >= hard_fall:
        return Decision(
            "train longer",
            f"At the end of the budget the others still fall by {decimal(other_fall)} nats per token and e-fold, hard "
            f"rows by {decimal(hard_fall)}: copies would take steps from what is learned faster.",
        )
    most = min(predicted, key=lambda prediction: prediction.change)
    return Decision(
        "no",
        f"No number of copies is predicted to lower the loss on the mixture by {share(rule.threshold)} (hard rows are "
        f"{share(curves.hard_share)} of all): at best it changes by {_percent(most.change)}.",
    )


@dataclass(frozen=True)
class BudgetForecast:
    """Forecast from held-out curves.

    curves: mean losses by kind, see `curate.difficulty.held_out_curves.described`. predictions: change of the loss for
    each number of occurrences. decision: of the rule, whether or not it is shown. verdicts: one for each outcome for
    which the rule was shown to be worthwhile, or a single "withheld". hopeless: see `is_hopeless`.
    """

    curves: dict[str, Any]
    predictions: tuple[Prediction, ...]
    decision: Decision
    verdicts: tuple[Verdict, ...]
    hopeless: bool

    def to_json(self) -> dict[str, Any]:
        """Further keys of a forecast's record. times: occurrences of hard rows that `Duplicate(times="auto")` uses."""
        record = {
            "verdict": asdict(self.verdicts[0]),
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "curves": self.curves,
            "predictions": [asdict(prediction) for prediction in self.predictions],
            "times": self.decision.times,
            "hopeless": self.hopeless,
        }
        plain: dict[str, Any] = json.loads(json.dumps(record))
        return plain


def forecast_budget(
    curves: HeldOutCurves,
    *,
    rule: Judgment | None = None,
    commands: Commands = PLACEHOLDERS,
    wrong_share: float | None = None,
    seed: int = 0,
) -> BudgetForecast:
    """Predictions, decision and verdicts from held-out curves. rule: None = the committed one."""
    rule = rule or judgment()
    predicted = predictions(curves, seed=seed)
    decision = decide(curves, predicted, rule, wrong_share=wrong_share)
    return BudgetForecast(
        described(curves), predicted, decision, verdicts_of(decision, rule, commands), is_hopeless(predicted)
    )


def verdicts_of(decision: Decision, rule: Judgment, commands: Commands = PLACEHOLDERS) -> tuple[Verdict, ...]:
    """One verdict for each outcome for which the rule was shown to be worthwhile; else a single "withheld"."""
    command = command_for(decision, commands)
    verdicts = []
    for outcome in rule.shown:
        judged = rule.outcomes[outcome]
        right = judged.precision if decision.times > 1 else judged.right
        verdicts.append(Verdict(decision.kind, decision.reason, command, outcome, None if right is None else right[0]))
    return tuple(verdicts) or (Verdict("withheld", withheld(rule), commands.measure),)


def withheld(rule: Judgment) -> str:
    """Sentence that says why no verdict is given."""
    loss, answers = (rule.outcomes[name] for name in ("loss", "answers"))
    yes = "never said yes"
    if loss.yes and loss.precision is not None:
        yes = f"said yes {loss.yes} times, of which {share(loss.precision[0])} were right"
    change, low, high = (_percent(-change_of_loss) for change_of_loss in (loss.gain[0], loss.gain[2], loss.gain[1]))
    cases = f"{rule.units} cases of {sum(rule.settings.values())} settings"
    return (
        f"The rule was right on the loss in {share(loss.right[0])} of {cases} kept back for judging it (on answers in "
        f"{share(answers.right[0])}) and {yes}; following it changed the loss by {change} ({low} to {high}) against "
        "always taking the data as it is, which is not evidence that it is worth following."
    )


def command_for(decision: Decision, commands: Commands) -> str:
    """The command to run next."""
    return {
        "proxy too short": commands.longer_proxy,
        "noise or out of reach": commands.read,
        "train longer": commands.longer,
        "yes": commands.copy.replace("{extra}", str(decision.times - 1)),
        "synthesize": commands.synthesize,
    }.get(decision.kind, commands.measure)


def is_hopeless(predicted: Sequence[Prediction]) -> bool:
    """Whether no number of copies is predicted to lower the loss, even by the better bound."""
    return bool(predicted) and all(prediction.low >= 0 for prediction in predicted)


def _percent(change: float) -> str:
    text = f"{100 * change:+.1f}"
    return f"{text.replace('-', '−')} %" if text.strip("+-0.") else "0 %"
