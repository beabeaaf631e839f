"""From held-out curves to a verdict on copies, and to the number of times that hard rows are to be shown.

The rule says yes to a factor where exposures foretell, by the worse bound of the bootstrap interval, that the loss on
the mixture falls by more than `Judgment.threshold`. Why it says no, and what then, are the branches of `decide`; their
limits are ours and were not judged apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from curate.console.formatting import decimal, share, times
from curate.difficulty.held_out_curves import HeldOutCurves, Prediction, described, falls, predictions, still_hard
from curate.mixture.judgment import Judgment, Outcome, judgment

# Of the rows that are hardest at the end of the budget, this share at least has to be hard for the proxy.
LEAST_STILL_HARD = 0.5
# A loss that falls by no more than this share of itself per e-fold of steps, by the higher bound, stands still.
LEAST_FALL = 0.05
MOST_TIMES = 5  # beyond, there are too few rows of that skill

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
    """verdict: what is forecast, "not forecast" from a short proxy alone, "withheld" where the rule that gives verdicts
    was not shown to be worth following.

    outcome: what of, the loss or exact answers; None = of neither. reason, command: why, and what to run next.
    precision: how often the verdict was right where it was measured.
    """

    verdict: Kind
    reason: str
    command: str
    outcome: Outcome | None = None
    precision: float | None = None


@dataclass(frozen=True)
class Commands:
    """What to type next, of each kind; made for a folder by `curate.cli.forecast`."""

    measure: str = "curate validate DATA --model MODEL --out DIR"
    longer_proxy: str = "curate run DATA --set proxy.steps=N --out DIR"
    read: str = "curate inspect DIR --examples 20"
    longer: str = "curate forecast DIR --steps N"
    copy: str = "curate run DATA --set augmenters.0.times={extra} --out DIR"
    synthesize: str = "curate synthesize DATA --generator MODEL --out DIR"


PLACEHOLDERS = Commands()


@dataclass(frozen=True)
class Decision:
    """kind: of verdict; reason: one sentence with its numbers; times: how often hard rows are to be shown, 1 = once."""

    kind: Kind
    reason: str
    times: int = 1


def decide(
    curves: HeldOutCurves, predicted: Sequence[Prediction], rule: Judgment, *, wrong_share: float | None = None
) -> Decision:
    """wrong_share: estimated share of wrong rows among the hard ones; None = not estimated."""
    if not curves.told:
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
    helping = [each for each in predicted if each.high < -rule.threshold]
    if helping:
        best = helping[0]
        gain = f"the loss on the mixture is foretold to fall by {share(-best.change)}, by {share(-best.high)} at least"
        if best.times > MOST_TIMES:
            return Decision(
                "synthesize",
                f"Hard rows would have to be shown {best.times} times before {gain}: there are too few of them.",
            )
        return Decision("yes", f"With hard rows shown {times(best.times)} {gain}.", best.times)
    return _without_help(curves, predicted, rule)


def _without_help(curves: HeldOutCurves, predicted: Sequence[Prediction], rule: Judgment) -> Decision:
    """Why no number of times is foretold to help by the lower bound."""
    hard_fall, _, hard_high = falls(curves, True)
    other_fall, _, _ = falls(curves, False)
    last = float(curves.mean(True)[-1])
    if hard_high <= LEAST_FALL * last:
        return Decision(
            "noise or out of reach",
            f"The loss of the hard rows, {decimal(last)} nats per token, falls by {decimal(hard_fall)} per e-fold of "
            "steps at the end of the budget: they are wrong, or beyond the model; these curves cannot tell which.",
        )
    if any(each.low < -rule.threshold for each in predicted):
        low = min(predicted, key=lambda each: each.low)
        return Decision(
            "cannot tell",
            f"With hard rows shown {times(low.times)} the change of the loss is foretold to lie between "
            f"{_percent(low.low)} and {_percent(low.high)}.",
        )
    if other_fall >= hard_fall:
        return Decision(
            "train longer",
            f"At the end of the budget the others still fall by {decimal(other_fall)} nats per token and e-fold, hard "
            f"rows by {decimal(hard_fall)}: copies would take steps from what is learned faster.",
        )
    most = min(predicted, key=lambda each: each.change)
    return Decision(
        "no",
        f"No number of copies is foretold to lower the loss on the mixture by {share(rule.threshold)} (hard rows are "
        f"{share(curves.hard_share)} of all): at best it changes by {_percent(most.change)}.",
    )


@dataclass(frozen=True)
class Foretold:
    """What held-out curves say.

    curves: mean losses by kind, see `curate.difficulty.held_out_curves.described`. predictions: of the change of the
    loss, for numbers of times. decision: what they come to, shown or not. verdicts: what is said of it, for each
    outcome on which the rule was shown to be worth following, or one "withheld". hopeless: see `is_hopeless`.
    """

    curves: dict[str, Any]
    predictions: tuple[Prediction, ...]
    decision: Decision
    verdicts: tuple[Verdict, ...]
    hopeless: bool

    def to_json(self) -> dict[str, Any]:
        """The further keys of the record of a forecast; times: how often `Duplicate(times="auto")` shows hard rows."""
        found = {
            "verdict": asdict(self.verdicts[0]),
            "verdicts": [asdict(each) for each in self.verdicts],
            "curves": self.curves,
            "predictions": [asdict(prediction) for prediction in self.predictions],
            "times": self.decision.times,
            "hopeless": self.hopeless,
        }
        plain: dict[str, Any] = json.loads(json.dumps(found))
        return plain


def foretell(
    curves: HeldOutCurves,
    *,
    rule: Judgment | None = None,
    commands: Commands = PLACEHOLDERS,
    wrong_share: float | None = None,
    seed: int = 0,
) -> Foretold:
    """Predictions, decision and verdicts of held-out curves; rule: the committed one unless given."""
    rule = rule or judgment()
    found = predictions(curves, seed=seed)
    decision = decide(curves, found, rule, wrong_share=wrong_share)
    return Foretold(described(curves), found, decision, verdicts_of(decision, rule, commands), is_hopeless(found))


def verdicts_of(decision: Decision, rule: Judgment, commands: Commands = PLACEHOLDERS) -> tuple[Verdict, ...]:
    """One for each outcome on which the rule was shown to be worth following; else one that says that it was not."""
    command = command_for(decision, commands)
    found = []
    for outcome in rule.shown:
        judged = rule.outcomes[outcome]
        right = judged.precision if decision.times > 1 else judged.right
        found.append(Verdict(decision.kind, decision.reason, command, outcome, None if right is None else right[0]))
    return tuple(found) or (Verdict("withheld", withheld(rule), commands.measure),)


def withheld(rule: Judgment) -> str:
    """Why no verdict is given, in one sentence."""
    loss, answers = (rule.outcomes[name] for name in ("loss", "answers"))
    yes = "never said yes"
    if loss.yes and loss.precision is not None:
        yes = f"said yes {loss.yes} times, of which {share(loss.precision[0])} were right"
    change, low, high = (_percent(-each) for each in (loss.gain[0], loss.gain[2], loss.gain[1]))
    cases = f"{rule.units} cases of {sum(rule.settings.values())} settings"
    return (
        f"The rule was right on the loss in {share(loss.right[0])} of {cases} kept back for judging it (on answers in "
        f"{share(answers.right[0])}) and {yes}; following it changed the loss by {change} ({low} to {high}) against "
        "always taking the data as it is, which is no evidence that it is worth following."
    )


def command_for(decision: Decision, commands: Commands) -> str:
    """What to run next."""
    return {
        "proxy too short": commands.longer_proxy,
        "noise or out of reach": commands.read,
        "train longer": commands.longer,
        "yes": commands.copy.replace("{extra}", str(decision.times - 1)),
        "synthesize": commands.synthesize,
    }.get(decision.kind, commands.measure)


def is_hopeless(predicted: Sequence[Prediction]) -> bool:
    """Whether no number of copies lowers the loss even by the better bound of what is foretold."""
    return bool(predicted) and all(each.low >= 0 for each in predicted)


def _percent(change: float) -> str:
    text = f"{100 * change:+.1f}"
    return f"{text.replace('-', '−')} %" if text.strip("+-0.") else "0 %"
