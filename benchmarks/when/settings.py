"""Settings, arms and seeds of the study, as benchmarks/LOG.md states them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

BASELINE = "original"
Knows = Literal["nothing", "frequent"]
Of = Literal["none", "hard", "random", "easy", "late", "source"]


@dataclass(frozen=True)
class Arm:
    """Which rows are shown more often than once.

    of: the hard cluster, or as many "random" or "easy" rows (`curate.mixture.control_rows`); "late": the rows of the
        rare part, by their label, which a user does not have; "source": as many copies as the hard arm has, given
        to the rows of the smallest sources until sources are as equal as that makes them.
    factor: how often such a row is shown. Controls have as many copies as the hard arm of the same factor.
    reducible: only rows that the rule of reducible rows lets through; drop: hard rows that it does not let through are
        left out of the data. front: copies in the first half of the steps only, the rows as they are afterwards.
    """

    name: str
    of: Of = "none"
    factor: int = 1
    reducible: bool = False
    drop: bool = False
    front: bool = False


ARMS = {
    arm.name: arm
    for arm in (
        Arm(BASELINE),
        *(Arm(f"hard x{factor}", "hard", factor) for factor in (2, 3, 5)),
        Arm("random x3", "random", 3),
        Arm("easy x3", "easy", 3),
        Arm("late x3", "late", 3),
        Arm("source x3", "source", 3),
        Arm("hard x3 front", "hard", 3, front=True),
        Arm("hard reducible x3", "hard", 3, reducible=True),
        Arm("random reducible x3", "random", 3, reducible=True),
        Arm("easy reducible x3", "easy", 3, reducible=True),
        Arm("hard reducible x3 drop", "hard", 3, reducible=True, drop=True),
    )
}


@dataclass(frozen=True)
class Setting:
    """One cell of the map: a family of tasks, and what is varied in it.

    knows: what the model has learned before: nothing, or the frequent part.
    share: of the rare part among the clean rows. noise: share of all rows whose completions are shuffled among each
        other. unlearnable: share of all rows that are of a kind without a rule.
    rows, batch_size: of the training data and its optimizer steps.
    unit: optimizer steps that budgets are multiples of: "t_hard", after which the original arm has halved the loss
        of the rare part (in pilot seeds), or an "epoch". budgets: at which the arms are compared.
    proxy: "same" size as the target, "small", or "given": a pretrained model.
    arms: names, see ARMS; the first is the baseline.
    """

    family: str
    knows: Knows
    share: float
    rows: int
    batch_size: int
    unit: int
    unit_name: Literal["t_hard", "epoch"]
    budgets: tuple[float, ...]
    arms: tuple[str, ...]
    noise: float = 0.0
    unlearnable: float = 0.0
    proxy: Literal["same", "small", "given"] = "small"

    @property
    def name(self) -> str:
        """As a folder is called."""
        parts = [f"knows-{self.knows}", f"share-{self.share:g}", f"noise-{self.noise:g}"]
        parts += [f"unlearnable-{self.unlearnable:g}"] if self.unlearnable else []
        return "-".join([*parts, f"proxy-{self.proxy}"])

    def steps(self, budget: float) -> int:
        """Optimizer steps of a budget."""
        return max(1, round(budget * self.unit))

    @property
    def longest(self) -> int:
        """Optimizer steps of the largest budget."""
        return self.steps(max(self.budgets))

    @property
    def written(self) -> dict[str, Any]:
        """As in the records."""
        return asdict(self) | {"budgets": list(self.budgets), "arms": list(self.arms)}
