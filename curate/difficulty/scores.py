"""Scores of examples, and splits into hard and easy ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.console.formatting import count, decimal, share
from curate.console.presentation import Facts, Tabular
from curate.difficulty.figures import PlottedRows, Trajectories, Words
from curate.difficulty.panels import panels
from curate.difficulty.reducible import Gains, Reducible
from curate.errors import InputError
from curate.types import BoolArray, FloatArray, IntArray

# Counts of tokens per row.
COUNTS = ("tokens", "prompt_cut", "completion_cut")
_MOST_CLUSTERS = 8  # of a summary


@dataclass(frozen=True, repr=False)
class Scores(Tabular):
    """Difficulty of n examples.

    features: (n, f) float32, the input of clustering; rows of invalid examples are ignored.
    difficulty: (n,) float32, higher = learned later; NaN where invalid.
    valid: (n,) bool.
    trajectory: (n, K) float32 losses in nats per token at the K checkpoints, if the scorer has them.
    steps: (K,) int64 optimizer steps of those checkpoints.
    tokens: (n,) int32 completion tokens (EOS included), if known.
    prompt_cut, completion_cut: (n,) int32 truncated tokens, see `curate.tokenization.tokens.Tokens`, if known.
    ids: (n,) example ids (Arrow strings), so that scores are joined to rows by id and never by position.
    length_difference: (n,) int32 completion tokens of the chosen answer minus those of the rejected one, for preference
        pairs.
    gains: gain of each row under models that were not trained on it, if measured, see `curate.difficulty.reducible`.
    reducible: (n,) bool, rows that can be learned from the others, provided by the user; takes precedence over gains.
    """

    features: FloatArray
    difficulty: FloatArray
    valid: BoolArray
    trajectory: FloatArray | None = None
    steps: IntArray | None = None
    tokens: npt.NDArray[np.int32] | None = None
    prompt_cut: npt.NDArray[np.int32] | None = None
    completion_cut: npt.NDArray[np.int32] | None = None
    ids: Any = field(default=None, repr=False)
    length_difference: npt.NDArray[np.int32] | None = None
    gains: Gains | None = field(default=None, repr=False)
    reducible: BoolArray | None = None

    def __post_init__(self) -> None:
        n = len(self.difficulty)
        if self.gains is not None and len(self.gains.rows) != n:
            raise InputError(
                f"Scores.gains has {len(self.gains.rows)} rows but difficulty has {n}; give one per example"
            )
        for name in ("features", "valid", "trajectory", *COUNTS, "length_difference", "reducible", "ids"):
            value = getattr(self, name)
            if value is not None and len(value) != n:
                raise InputError(
                    f"Scores.{name} has {len(value)} rows but difficulty has {n}; give one row per example"
                )
        if self.features.ndim != 2:
            raise InputError(f"Scores.features has shape {self.features.shape}; it must be (n, f)")
        bad = self.valid & ~np.isfinite(self.difficulty)
        if bad.any():
            raise InputError(
                f"difficulty of row {int(np.flatnonzero(bad)[0])} is not finite although the row is valid; "
                "mark the row invalid or give it a number"
            )

    def __len__(self) -> int:
        return len(self.difficulty)

    @property
    def final_loss(self) -> FloatArray | None:
        """(n,) loss at the last checkpoint in nats per token, if the scorer recorded losses."""
        return None if self.trajectory is None else self.trajectory[:, -1]

    def with_ids(self, ids: Any) -> Scores:
        return replace(self, ids=ids)

    def with_length_difference(self, difference: npt.NDArray[np.int32]) -> Scores:
        return replace(self, length_difference=difference)

    def summary(self) -> Facts:
        """Number of scored rows and range of their difficulty."""
        scored = self.difficulty[self.valid]
        facts = [("difficulty", _range(scored)), ("features", f"{self.features.shape[1]} per row")]
        if self.steps is not None:
            facts.append(("losses", f"nats per token at the steps {', '.join(map(str, self.steps.tolist()))}"))
        if self.tokens is not None:
            facts.append(("tokens", f"{count(int(self.tokens.sum(dtype=np.int64)))} of completions"))
        facts.append(("see", ".plot()  .to_pandas()  [row]  take(rows)"))
        return Facts(f"Scores of {count(len(self))} rows, {count(len(scored))} of them scored", tuple(facts))

    def to_arrow(self) -> Any:
        """example_id (if known), difficulty (null if invalid), valid, counts of tokens, and loss_<step>."""
        columns: dict[str, Any] = {} if self.ids is None else {"example_id": self.ids}
        columns |= {"difficulty": pa.array(self.difficulty, mask=~self.valid), "valid": self.valid}
        for name in (*COUNTS, "length_difference"):
            if getattr(self, name) is not None:
                columns[name] = getattr(self, name)
        if self.trajectory is not None and self.steps is not None:
            for k, step in enumerate(self.steps.tolist()):
                columns[f"loss_{step}"] = pa.array(self.trajectory[:, k], mask=~self.valid)
        return pa.table(columns)

    def plot(self) -> Any:
        """A plotly Figure: bands of the losses, the histogram of difficulty, difficulty against length."""
        hard, cluster = np.zeros(len(self), np.bool_), np.where(self.valid, 0, -2)
        return panels(_plotted(self, hard, cluster, split=False))

    def take(self, rows: IntArray) -> Scores:
        """The given rows, in the given order."""
        arrays = {name: getattr(self, name) for name in ("trajectory", *COUNTS, "length_difference", "reducible")}
        rows_of_arrays = {name: None if value is None else value[rows] for name, value in arrays.items()}
        ids = None if self.ids is None else self.ids.take(rows)
        trajectory = rows_of_arrays["trajectory"]
        # Keep features and trajectory one array if they are.
        features = self.features[rows] if trajectory is None or self.features is not self.trajectory else trajectory
        return replace(
            self,
            features=features,
            difficulty=self.difficulty[rows],
            valid=self.valid[rows],
            ids=ids,
            gains=None if self.gains is None else self.gains.take(rows),
            **rows_of_arrays,
        )


def as_scores(value: Scores | npt.ArrayLike, n: int) -> Scores:
    """`value` as Scores of n examples; a bare (n,) array becomes its own single feature."""
    if isinstance(value, Scores):
        if len(value) != n:
            raise InputError(f"the scorer returned {len(value)} rows for {n} examples; it must return one per example")
        if value.valid.all():
            return value
        # Features of invalid rows are meaningless and must not be recorded.
        return replace(value, features=np.where(value.valid[:, None], value.features, 0).astype(np.float32))
    array = np.asarray(value)  # (n,)
    if array.ndim != 1 or len(array) != n:
        raise InputError(f"the scorer returned an array of shape {array.shape} for {n} examples; expected ({n},)")
    if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
        raise InputError(f"the scorer returned dtype {array.dtype}; difficulties must be numbers")
    difficulty = array.astype(np.float32)
    valid = np.isfinite(difficulty)
    return Scores(np.where(valid, difficulty, 0)[:, None].astype(np.float32), difficulty, valid)


@dataclass(frozen=True, repr=False)
class Split(Tabular):
    """Division of n examples into hard and easy ones, with the properties that augmenters use.

    cluster: (n,) int32; -1 noise, -2 invalid (not clustered). With clustering per source, cluster numbers of
        different sources differ.
    hard: (n,) bool; never true for an invalid row.
    difficulty: (n,) float32, NaN where invalid.
    valid: (n,) bool.
    final_loss: (n,) float32 nats per token, if the scorer recorded losses.
    sources: (n,) source labels (str or None objects), if the data has them.
    tokens: (n,) int32 completion tokens (EOS included), if known.
    ids: (n,) example ids (Arrow strings).
    per_source: whether clustering was done and hard clusters were chosen within each source.
    trajectory, steps: those of the scores, if the scorer recorded losses.
    reducible: rows that can be learned from the others, if known.
    strata: "length" if clustering was done and hard clusters were chosen within strata of completion length.
    """

    ids: Any
    cluster: npt.NDArray[np.int32]
    hard: BoolArray
    difficulty: FloatArray
    valid: BoolArray
    final_loss: FloatArray | None = None
    sources: npt.NDArray[Any] | None = None
    per_source: bool = False
    tokens: npt.NDArray[np.int32] | None = None
    trajectory: FloatArray | None = None
    steps: IntArray | None = None
    reducible: Reducible | None = None
    strata: Literal["length"] | None = None

    def __len__(self) -> int:
        return len(self.cluster)

    def summary(self) -> Facts:
        """Number of hard rows, and size and difficulty of each cluster."""
        hard, scored = int(self.hard.sum()), int(self.valid.sum())
        numbers = np.unique(self.cluster[self.cluster >= -1]).tolist()
        facts = []
        for number in numbers[:_MOST_CLUSTERS]:
            rows = self.cluster == number
            inside = rows & self.hard
            side = "hard" if inside.sum() > rows.sum() / 2 else "easy"
            name = "noise" if number < 0 else f"cluster {number}"
            facts.append((name, f"{count(int(rows.sum()))} rows ({side}), difficulty {_range(self.difficulty[rows])}"))
        if len(numbers) > _MOST_CLUSTERS:
            facts.append(("", f"and {len(numbers) - _MOST_CLUSTERS:,} more clusters"))
        if scored < len(self):
            facts.append(("not scored", f"{count(len(self) - scored)} rows"))
        facts.append(("see", ".plot()  .to_pandas()  [row]"))
        of_scored = f" ({share(hard / scored)} of those scored)" if scored else ""
        return Facts(f"Split of {count(len(self))} rows: {count(hard)} hard{of_scored}", tuple(facts))

    def to_arrow(self) -> Any:
        """example_id, source, tokens and reducible (if known), cluster, hard and difficulty (null if invalid)."""
        columns: dict[str, Any] = {} if self.ids is None else {"example_id": self.ids}
        if self.sources is not None:
            columns["source"] = pa.array(self.sources, pa.string())
        columns |= {"cluster": self.cluster, "hard": self.hard}
        columns["difficulty"] = pa.array(self.difficulty, mask=~self.valid)
        if self.reducible is not None:
            columns["reducible"] = self.reducible.reducible
        if self.tokens is not None:
            columns["tokens"] = self.tokens
        return pa.table(columns)

    @property
    def wrong_share(self) -> float | None:
        """Estimated share of wrong rows among the hard ones, see `Reducible`; None if not known."""
        return None if self.reducible is None else self.reducible.wrong_share

    def allowed(self, only: Literal["reducible"] | None) -> BoolArray:
        """(n,) rows that an augmenter with this `only` may use: all if it is None or the verdict is "cannot tell".

        Raises InputError if reducible rows were not measured.
        """
        if only is None:
            return np.ones(len(self), np.bool_)
        if self.reducible is None:
            raise InputError(
                "only: reducible needs to know which rows can be learned from the others; a pipeline measures it, and "
                "by hand it is curate.difficulty.reducible.reducible_rows(run.gains(examples), split.hard)"
            )
        return np.ones(len(self), np.bool_) if self.reducible.verdict == "cannot tell" else self.reducible.reducible

    def plot(self, words: Words | None = None) -> Any:
        """A plotly Figure: loss trajectories with bands, the histogram of difficulty, difficulty against length.

        words: returns the first words of rows, for tooltips.
        """
        return panels(_plotted(self, self.hard, self.cluster, split=True), words=words)


def _plotted(source: Scores | Split, hard: BoolArray, cluster: Any, *, split: bool) -> PlottedRows:
    return PlottedRows(
        ids=source.ids,
        difficulty=source.difficulty,
        valid=source.valid,
        hard=hard,
        cluster=cluster,
        tokens=source.tokens,
        trajectories=None
        if source.trajectory is None or source.steps is None
        else Trajectories(source.steps, source.trajectory),
        split=split,
    )


def _range(values: FloatArray) -> str:
    """Minimum, maximum and median as text; "unknown" without values."""
    if not len(values):
        return "unknown"
    low, middle, high = np.quantile(values, (0, 0.5, 1)).tolist()
    return f"{decimal(low)} to {decimal(high)}, median {decimal(middle)}"
