"""What is said beside the numbers of a forecast: verdict, cautions, what is missing; and the numbers in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from curate.console.formatting import count, decimal, one_line, share
from curate.difficulty.exposures import GAIN
from curate.difficulty.scores import Scores
from curate.difficulty.split_warnings import MAX_NOISE_AMONG_HARD
from curate.errors import RunWarning
from curate.mixture.mixture import Order

LARGE_HARD_SHARE = 0.4
_SHOWN_CLUSTERS = 6


@dataclass(frozen=True)
class Verdict:
    """verdict: what is forecast. outcome: what of, the loss or exact answers; None = of neither.

    reason, command: why, and what to run next. precision: how often the verdict was right where it was measured.
    """

    verdict: Literal["not forecast"]
    reason: str
    command: str
    outcome: Literal["loss", "answers"] | None = None
    precision: float | None = None


NOT_FORECAST = Verdict(
    "not forecast",
    "The losses of a short proxy do not tell whether copies help: continued from there, its curves never said yes "
    "where copies did help.",
    "curate validate DATA --model MODEL --out DIR",
)


def missing(scores: Scores | None, fitted: int, hard: int, unmeasured: int, order: Order) -> Iterator[str]:
    """What is not known. fitted: checkpoints that falls are fitted to. unmeasured: new rows that were not measured."""
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
        yield f"{unmeasured:,} new rows were not measured like the input's: they stand apart from the clusters."
    if order == "front":
        yield "Counts are of whole passes: a run that stops earlier has seen the copies and less of the second part."


def cautions(hard_share: float, suspects: float | None) -> Iterator[RunWarning]:
    """What records of fine-tuning with such data say against copies. suspects: of the hard rows, those of high loss."""
    if hard_share >= LARGE_HARD_SHARE:
        yield RunWarning(
            "hard_share_large",
            f"{hard_share:.0%} of the scored rows are hard. With 46 % hard and a model that knew nothing of them "
            "beforehand, hard rows shown three times changed the loss by +4 and +2 % before the rare skills were half "
            "learned and by -13 and -15 % from then on; with 24 % hard, by -38 and -50 % from then on (symbol tasks, 5 "
            "seeds). In arithmetic with 35 to 51 % hard, two or three times changed it by less than 4 % (1 seed).",
            "See whether fewer rows are hard after more steps of the proxy (proxy.steps), or use more clusters with "
            "hard: highest.",
        )
    if suspects is not None and suspects >= MAX_NOISE_AMONG_HARD:
        yield RunWarning(
            "hard_may_be_wrong",
            f"{suspects:.0%} of the hard rows have a loss that stays high: rare or wrong, this cannot tell. With 5 % "
            "wrong completions in the data, hard rows shown three times changed the loss by +18 % instead of -38 % "
            "(symbol tasks, 5 seeds), while exact answers still rose.",
            "Read some of them before you copy them (report.html lists a few).",
        )


def lines(record: Mapping[str, Any]) -> list[str]:
    """At most 15 lines for a terminal, from what `Forecast.to_json` gave."""
    verdict = record["verdict"]
    told = f" ({verdict['outcome']})" if verdict["outcome"] else ""
    found = [f"Will copies help? {one_line(verdict['verdict'])}{told}: {one_line(verdict['reason'], 200)}"]
    found.append(f"  to measure it: {one_line(verdict['command'], 200)}")
    found.append(
        f"  {share(record['hard_share'])} of the scored rows are hard; effective rows "
        f"{count(record['effective_rows'])} of {count(record['distinct_rows'])} ({share(record['effective_share'])})"
    )
    found.append(f"  {needed_in_words(record)}")
    parts = parts_of(record)
    for each in (record["hard"], record["easy"], *parts[:_SHOWN_CLUSTERS]):
        found.append(f"  {_in_words(each, record['in_sample'])}")
    if len(parts) > _SHOWN_CLUSTERS:
        found[-1] += f"; {len(parts) - _SHOWN_CLUSTERS:,} more in run.json"
    notes = [*record["missing"], *(f"{each['message']} {each['remedy']}" for each in record["cautions"])]
    return [*found, *(f"  {one_line(note, 600)}" for note in notes[:3])]


def parts_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What to show beside all hard and all other rows: the clusters where these are not the same, and what is none."""
    clusters = record["clusters"]
    same = sum(each["cluster"] is not None for each in clusters) <= 2
    return [each for each in clusters if not same or each["cluster"] is None]


def _in_words(each: Mapping[str, Any], in_sample: bool | None) -> str:
    rows = f"{one_line(each['name'], 60)}: {count(each['rows'])} rows -> {count(each['rows_after'])}"
    if each["steps"] is not None:
        rows += f", seen x{decimal(each['steps'])} at equal steps, x{decimal(each['epochs'])} at equal epochs"
    if each["fall"] is not None:
        rows += f"; loss falls by {decimal(each['fall'])} nats per token and e-fold of passes"
        rows += " (of the proxy, in-sample)" if in_sample else " (of the proxy)"
    return rows


def needed_in_words(record: Mapping[str, Any]) -> str:
    """How often to show hard rows for them to be seen `GAIN` times as often at equal steps."""
    needed, hard = record["needed"], record["hard"]["share"]
    if needed is not None:
        return (
            f"for hard rows to be seen x{decimal(GAIN)} as often at equal steps, each has to stand {needed['times']} "
            f"times ({count(needed['extra_rows'])} more rows): hard x{decimal(needed['hard'])}, all others "
            f"x{decimal(needed['easy'])}, effective rows {share(needed['effective_share'])}"
        )
    if not record["hard"]["rows"]:
        return "no row is hard"
    return (
        f"no number of copies lets hard rows be seen x{decimal(GAIN)} as often at equal steps: they are "
        f"{share(hard)} of all rows, so it stays below x{decimal(1 / hard)}"
    )
