"""What a family of tasks gives to the study, whatever its models are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.when.settings import Setting
from curate import Scores

COLUMNS = ("id", "question", "answer", "source", "group", "rare", "fault")
Counts = npt.NDArray[np.int64]
Losses = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tally:
    """Held-out questions of one group: summed nats of the reference completions, their tokens; exact answers right."""

    nats: float
    tokens: int
    right: int
    questions: int


@dataclass(frozen=True)
class Outcome:
    """What a model is worth after so many optimizer steps, by group of clean held-out questions."""

    step: int
    groups: Mapping[str, Tally]


@dataclass(frozen=True)
class Phase:
    """Up to optimizer step `until` (excluded), row i is drawn counts[i] times as often as one that stands once.

    counts: (n,) in the order of the task's rows.
    """

    until: int
    counts: Counts


@dataclass(frozen=True)
class Run:
    """One training. at: increasing steps after which it is tested; it ends with the last phase."""

    phases: Sequence[Phase]
    at: Sequence[int]


class Task(Protocol):
    """One seed of one setting: rows, models and held-out questions.

    rows: training rows with COLUMNS: group = skill or level, rare: of the rare part, fault: "", "shuffled" or
        "unlearnable". Ids are unique; everything else is joined by them.
    mixture: group -> share of the clean training rows; the groups that are tested.
    proxy_steps: after which the proxy is read off. parameters: of the target and of the proxy.
    """

    rows: pa.Table
    mixture: Mapping[str, float]
    proxy_steps: int
    parameters: Mapping[str, int]

    def scores(self) -> Scores:
        """Loss trajectories of the n rows under the proxy, with their ids."""
        ...

    def proxy_losses(self, train: pa.Table, measured: pa.Table, at: Sequence[int], seed: int) -> Losses:
        """(m, len(at)) nats per token of the `measured` rows under a proxy trained on the rows `train` alone.

        A fresh proxy of the same configuration, but for a rate that is constant, read off after each of `at`
        (increasing) steps. Both tables have the columns id, question, answer.
        """
        ...

    def train(self, runs: Mapping[str, Run]) -> Iterator[tuple[str, list[Outcome]]]:
        """Train a fresh target for each run at a constant rate after warm-up, and test it after each of its steps.

        Yields the name of every run with its outcomes as soon as it is finished.
        """
        ...


class Family(Protocol):
    """name: of the family in settings and records. settings: of the map, in the order in which they run."""

    name: str

    def prepare(self, setting: Setting, seed: int, cache: Path) -> Task:
        """The task of a seed. cache: folder for models, shared by all settings of the study."""
        ...

    def settings(self) -> Sequence[Setting]: ...

    def seeds(self) -> Sequence[int]:
        """Judged seeds. Pilots use those from 100 on."""
        ...

    def quick(self) -> Sequence[Setting]:
        """Few and small ones, for a smoke test; may be empty."""
        ...
