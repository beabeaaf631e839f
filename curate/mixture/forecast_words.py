"""Text of forecasts: verdict, cautions, missing information, and the numbers in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.console.formatting import count, decimal, one_line, share, times
from curate.difficulty.exposures import GAIN
from curate.difficulty.scores import Scores
from curate.difficulty.split_warnings import MAX_NOISE_AMONG_HARD
from curate.errors import RunWarning
from curate.mixture.judgment import judgment
from curate.mixture.mixture import Order
from curate.mixture.verdicts import PLACEHOLDERS, Verdict

LARGE_HARD_SHARE = 0.4
MOST_OF_COMMAND = 4000  # characters: a command works whole only
_SHOWN_CLUSTERS = 6
_SHOWN_TIMES = (2, 3, 5, 10)
_NEXT = {
    "proxy too short": "train the proxy longer",
    "noise or out of reach": "read some of them",
    "train longer": "forecast for more steps",
    "yes": "make them",
    "synthesize": "write new ones",
}


NOT_FORECAST = Verdict(
    "not forecast",
    "The losses of a short proxy do not tell whether copies help: continued from there, its curves never said yes "
    "where copies did help.",
    PLACEHOLDERS.measure,
)


def missing(scores: Scores | None, fitted: int, hard: int, unmeasured: int, order: Order) -> Iterator[str]:
    """Missing information of a forecast, with remedies.

    fitted: number of checkpoints that falls are fitted to. unmeasured: number of new rows that were not measured.
    """
    if not hard:
        yield "No row is hard, so there is nothing to show more often."
    if scores is None or scores.trajectory is None:
        yield (
            "The scores hold no losses by checkpoint, so it is not known how fast the clusters fall: use a scorer that "
            "records them (LossTrajectory), or give scores that `curate score` wrote with one."
        )
    elif fitted < 2:
        yield "There are losses of one known step at most, so falls are not known: raise proxy.checkpoints."
    if unmeasured:
        yield f"{unmeasured:,} new rows were not measured like the input's: they are counted apart from the clusters."
    if order == "front":
        yield "Counts are of whole passes: a run that stops earlier has seen the copies and less of the second part."


def cautions(hard_share: float, suspects: float | None, wrong_share: float | None = None) -> Iterator[RunWarning]:
    """Warnings from measured results of fine-tuning on similar data that speak against copies.

    suspects: share of the hard rows whose loss stays high. wrong_share: estimated share of wrong hard rows, which takes
    precedence over `suspects`.
    """
    measured = judgment().cautions
    large, small, wrong = (measured.get(name) for name in ("large", "small", "wrong"))
    changed_by = f"hard rows shown {times(measured.get('times', 0))} changed the loss by"
    if hard_share >= LARGE_HARD_SHARE and large and small:
        early = [change["nats"] for budget, change in large["changes"].items() if float(budget) < 1]
        yield RunWarning(
            "hard_share_large",
            f"{hard_share:.0%} of the scored rows are hard. With {large['hard_share']:.0%} hard and a model that knew "
            f"nothing of them beforehand, {changed_by} {_listed(early)} before the rare skills were half learned and "
            f"by {_listed(_late(large, 'nats'))} from then on; with {small['hard_share']:.0%} hard, by "
            f"{_listed(_late(small, 'nats'))} from then on (symbol tasks, {large['seeds']} seeds).",
            "See whether fewer rows are hard after more steps of the proxy (proxy.steps), or use more clusters with "
            "hard: highest.",
        )
    many = _many_wrong(suspects, wrong_share)
    if many and wrong and small:
        answers = _late(wrong, "exact")
        yield RunWarning(
            "hard_may_be_wrong",
            f"{many} With {wrong['wrong']:.0%} wrong completions in the data, {changed_by} "
            f"{_listed(_late(wrong, 'nats'))} instead of {_listed(_late(small, 'nats'))} (symbol tasks, "
            f"{wrong['seeds']} seeds)" + (", while exact answers still rose." if min(answers, default=0) > 0 else "."),
            "Read some of them before you copy them (report.html lists a few).",
        )


def _many_wrong(suspects: float | None, wrong_share: float | None) -> str | None:
    """Sentence that says that many hard rows may be wrong; None if there is no sign of it. See `cautions`."""
    if wrong_share is not None:
        message = f"{wrong_share:.0%} of the hard rows are estimated to be wrong, or beyond what the other rows teach."
        return message if wrong_share > judgment().most_wrong else None
    if suspects is None or suspects < MAX_NOISE_AMONG_HARD:
        return None
    return f"{suspects:.0%} of the hard rows have a loss that stays high: rare or wrong, this cannot tell."


def copies_by_forecast(times_shown: int, shown: bool) -> RunWarning:
    """Warning about the choice of `Duplicate(times="auto")`.

    times_shown: occurrences of hard rows. shown: whether verdicts are shown.
    """
    rule = judgment()
    purpose = (
        f"Hard rows are shown {times(times_shown)}, the smallest number that is predicted to lower the loss by "
        f"{share(rule.threshold)} by the lower bound."
        if times_shown > 1
        else "No copies are made, so that hard rows appear as often as in the input: no number of them is predicted to "
        f"lower the loss by {share(rule.threshold)} by the lower bound."
    )
    not_shown = "" if shown else " Forecasts like this one have not been shown to be worth following."
    return RunWarning("copies_by_forecast", purpose + not_shown, f"Measure it: `{PLACEHOLDERS.measure}`.")


def _late(setting: Mapping[str, Any], outcome: str) -> list[float]:
    """Changes of an outcome at budgets from which on the rare skills are half learned."""
    return [change[outcome] for budget, change in setting["changes"].items() if float(budget) >= 1]


def _listed(changes: Sequence[float]) -> str:
    """Format relative changes: "+4 and -13 %"."""
    return " and ".join(f"{100 * change:+.0f}" for change in changes) + " %"


def lines(record: Mapping[str, Any]) -> list[str]:
    """At most 20 lines for a terminal. record: from `Forecast.to_json`."""
    result = []
    for number, verdict in enumerate(record.get("verdicts") or [record["verdict"]]):
        outcome = f" ({verdict['outcome']})" if verdict["outcome"] else ""
        precision = (
            "" if verdict["precision"] is None else f" Right in {share(verdict['precision'])} of the cases judged."
        )
        head = "" if number else "Will copies help? "
        result.append(f"{head}{one_line(verdict['verdict'])}{outcome}: {one_line(verdict['reason'], 600)}{precision}")
        result.append(f"  {next_in_words(verdict['verdict'])}: {one_line(verdict['command'], MOST_OF_COMMAND)}")
    result += [f"  {line}" for line in curves_in_words(record)]
    result.append(
        f"  {share(record['hard_share'])} of the scored rows are hard; effective rows "
        f"{count(record['effective_rows'])} of {count(record['distinct_rows'])} ({share(record['effective_share'])})"
    )
    result.append(f"  {needed_in_words(record)}")
    parts = parts_of(record)
    for group in (record["hard"], record["easy"], *parts[:_SHOWN_CLUSTERS]):
        result.append(f"  {_in_words(group, record['in_sample'])}")
    if len(parts) > _SHOWN_CLUSTERS:
        result[-1] += f"; {len(parts) - _SHOWN_CLUSTERS:,} more in run.json"
    notes = [*record["missing"], *(f"{caution['message']} {caution['remedy']}" for caution in record["cautions"])]
    return [*result, *(f"  {one_line(note, 600)}" for note in notes[:3])]


def next_in_words(verdict: str) -> str:
    """Purpose of the command that follows a verdict."""
    return _NEXT.get(verdict, "to measure it")


def curves_in_words(record: Mapping[str, Any]) -> Iterator[str]:
    """Lines about the held-out curves; none without curves."""
    curves = record.get("curves")
    if not curves:
        return
    steps, model_text = curves["steps"], "the model itself" if curves["of"] == "target" else "the proxy"
    if curves["hard"] is None:
        rows = f"{curves['hard_rows']} hard, {curves['other_rows']} others"
        yield f"held-out curves of {model_text}: too few rows of a kind ({rows})"
        return
    ends = " and ".join(
        f"{name} {decimal(curves[kind][0])} -> {decimal(curves[kind][-1])}"
        for kind, name in (("hard", "hard rows"), ("other", "others"))
    )
    yield f"held-out loss of {model_text}, steps {count(steps[0])} to {count(steps[-1])}, nats per token: {ends}"
    selected = [prediction for prediction in record["predictions"] if prediction["times"] in _SHOWN_TIMES]
    changes = "; ".join(
        f"x{prediction['times']} {_signed(prediction['change'])} "
        f"({_signed(prediction['low'])} to {_signed(prediction['high'])})"
        for prediction in selected
    )
    clock = "" if curves["clock"] == 1 else f", read at {decimal(curves['clock'])} times the steps"
    yield f"predicted change of the loss on the mixture by exposures alone{clock}, in %: {changes}"


def _signed(change: float) -> str:
    text = f"{100 * change:+.1f}"
    return text.replace("-", "−") if text.strip("+-0.") else "0"


def parts_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Groups to show besides hard and other rows: clusters if there are more than two, and rows without a cluster."""
    clusters = record["clusters"]
    same = sum(cluster["cluster"] is not None for cluster in clusters) <= 2
    return [cluster for cluster in clusters if not same or cluster["cluster"] is None]


def _in_words(group: Mapping[str, Any], in_sample: bool | None) -> str:
    rows = f"{one_line(group['name'], 60)}: {count(group['rows'])} rows -> {count(group['rows_after'])}"
    if group["steps"] is not None:
        rows += f", seen {_as_often(group['steps'])} at equal steps, {_as_often(group['epochs'])} in as many epochs"
    if group["fall"] is not None:
        rows += f"; loss falls by {decimal(group['fall'])} nats per token and e-fold of passes"
        rows += " (of the proxy, in-sample)" if in_sample else " (of the proxy)"
    return rows


def _as_often(factor: float) -> str:
    """How often rows are seen compared with before: as often, 2 times as often."""
    return "as often" if factor == 1 else f"{decimal(factor)} times as often"


def needed_in_words(record: Mapping[str, Any]) -> str:
    """Sentence about the number of copies for which hard rows have an exposure of `GAIN` at equal steps."""
    needed, hard = record["needed"], record["hard"]["share"]
    if needed is not None:
        return (
            f"for hard rows to be seen {decimal(GAIN)} times as often at equal steps, each has to appear "
            f"{needed['times']} times ({count(needed['extra_rows'])} more rows): hard rows are then seen "
            f"{decimal(needed['hard'])} times as often, all others {decimal(needed['easy'])} times, "
            f"effective rows {share(needed['effective_share'])}"
        )
    if not record["hard"]["rows"]:
        return "no row is hard"
    return (
        f"no number of copies lets hard rows be seen {decimal(GAIN)} times as often at equal steps: they "
        f"are {share(hard)} of all rows, so it stays below {decimal(1 / hard)} times"
    )
