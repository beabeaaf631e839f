"""Family symbols: skills learned by a multilayer perceptron on one-hot inputs."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import cross_entropy

from benchmarks.when.design import SYMBOLS_QUICK, SYMBOLS_SETTINGS
from benchmarks.when.family import Losses, Outcome, Phase, Run, Tally
from benchmarks.when.settings import Setting
from benchmarks.when.skills import FREQUENT, SKILLS, SYMBOLS, UNLEARNABLE, drawn, mixture_of, training_rows
from curate import Scores
from curate.seeds import derive_seed
from curate.training.row_order import RowOrder

LENGTH = 3  # symbols of a row
WIDTH = {"target": 128, "same": 128, "small": 64}
RATE = 2e-3
PROXY_STEPS, CHECKPOINTS = 150, 5
PRETRAIN_ROWS, PRETRAIN_BATCH, PRETRAIN_STEPS = 6_000, 64, 600
TEST_ROWS = 3_000
_KINDS = (*SKILLS, UNLEARNABLE)


class Symbols:
    name = "symbols"

    def prepare(self, setting: Setting, seed: int, cache: Path) -> SymbolsTask:
        return SymbolsTask(setting, seed)

    def settings(self) -> Sequence[Setting]:
        return SYMBOLS_SETTINGS

    def seeds(self) -> Sequence[int]:
        return range(5)

    def quick(self) -> Sequence[Setting]:
        return SYMBOLS_QUICK


class SymbolsTask:
    proxy_steps = PROXY_STEPS

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting, self.seed = setting, seed
        self.mixture: Mapping[str, float] = mixture_of(setting.share)
        self.rows = training_rows(setting, LENGTH, seed)
        self.inputs, self.targets = encoded(self.rows)
        self.start = {size: self._start(size) for size in ("target", setting.proxy)}
        self.parameters = {
            "target": _size(self.start["target"]),
            "proxy": _size(self.start[setting.proxy]),
        }
        test = drawn(dict.fromkeys(SKILLS, 1.0), TEST_ROWS, LENGTH, seed, "test")
        self.test_groups, self.test = np.array(test["group"].to_pylist()), encoded(test)

    def scores(self) -> Scores:
        at = [PROXY_STEPS * (k + 1) // CHECKPOINTS for k in range(CHECKPOINTS)]
        trajectory = self.proxy_losses(self.rows, self.rows, at, derive_seed(self.seed, "when", "proxy"))
        n = len(self.rows)
        return Scores(
            features=trajectory,
            difficulty=trajectory.mean(axis=1),
            valid=np.ones(n, bool),
            trajectory=trajectory,
            steps=np.array(at, np.int64),
            tokens=np.full(n, LENGTH, np.int32),
            ids=self.rows["id"].combine_chunks(),
        )

    def proxy_losses(self, train: pa.Table, measured: pa.Table, at: Sequence[int], seed: int) -> Losses:
        inputs, targets = encoded(train)
        questions, answers = encoded(measured)
        wanted_steps, loss_columns = set(at), []

        def look(models: _Networks, step: int) -> None:
            if step in wanted_steps:
                loss_columns.append(_losses(models, questions, answers)[0].mean(1).numpy())  # (m,)

        whole = [Phase(max(at), np.ones(len(train), np.int64))]
        models = _Networks([self.start[self.setting.proxy]])
        models.fit(inputs, targets, [whole], self.setting.batch_size, seed, look)
        return np.stack(loss_columns, axis=1)

    def train(self, runs: Mapping[str, Run]) -> Iterator[tuple[str, list[Outcome]]]:
        """All runs at once, which costs little more than one."""
        outcomes: dict[str, list[Outcome]] = {name: [] for name in runs}

        def look(models: _Networks, step: int) -> None:
            for place, (name, run) in enumerate(runs.items()):
                if step in run.at:
                    outcomes[name].append(Outcome(step, self._tallies(models, place)))

        seed = derive_seed(self.seed, "when", "order")
        models = _Networks([self.start["target"]] * len(runs))
        models.fit(
            self.inputs, self.targets, [run.phases for run in runs.values()], self.setting.batch_size, seed, look
        )
        yield from outcomes.items()

    def _tallies(self, models: _Networks, place: int) -> dict[str, Tally]:
        inputs, targets = self.test
        model = _Networks([models.one(place)])
        losses = _losses(model, inputs, targets)[0].double()  # (t, LENGTH)
        with torch.no_grad():
            right = (model.logits(inputs[None])[0].argmax(-1) == targets).all(1)  # (t,)
        tallies = {}
        for group in self.mixture:
            rows = torch.from_numpy(np.flatnonzero(self.test_groups == group))
            nats = float(losses[rows].sum())
            tallies[group] = Tally(nats, LENGTH * len(rows), int(right[rows].sum()), len(rows))
        return tallies

    def _start(self, size: str) -> list[torch.Tensor]:
        """Weights before the rows are trained on."""
        weights = _initial(WIDTH[size], derive_seed(self.seed, "when", "weights", size))
        if self.setting.knows == "nothing":
            return weights
        rows = drawn(dict.fromkeys(FREQUENT, 1.0), PRETRAIN_ROWS, LENGTH, self.seed, "pretrain")
        whole = [Phase(PRETRAIN_STEPS, np.ones(len(rows), np.int64))]
        models = _Networks([weights])
        seed = derive_seed(self.seed, "when", "pretraining", size)
        models.fit(*encoded(rows), [whole], PRETRAIN_BATCH, seed, lambda *_: None)
        return models.one(0)


def encoded(rows: pa.Table) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, kinds + 8 LENGTH) one-hot inputs, and (n, LENGTH) symbols wanted."""
    kinds, questions = zip(*(question.split(" : ") for question in rows["question"].to_pylist()), strict=True)
    inputs = torch.zeros(len(rows), len(_KINDS) + LENGTH * len(SYMBOLS))
    every = torch.arange(len(rows))
    inputs[every, torch.tensor([_KINDS.index(kind) for kind in kinds])] = 1
    for place, column in enumerate(_symbols(list(questions)).T):
        inputs[every, len(_KINDS) + place * len(SYMBOLS) + column] = 1
    return inputs, _symbols(rows["answer"].to_pylist())


def _symbols(texts: list[str]) -> torch.Tensor:
    """(n, LENGTH) numbers of the symbols."""
    return torch.tensor([[SYMBOLS.index(symbol) for symbol in text.split()] for text in texts])


class _Networks:
    """A networks of one width, trained side by side.

    start: of each, weights (inputs, outputs) and biases (1, outputs) of its layers.
    weights: the same for all, (A, inputs, outputs) and (A, 1, outputs).
    """

    def __init__(self, start: Sequence[Sequence[torch.Tensor]]) -> None:
        layers = zip(*start, strict=True)
        self.weights = [torch.stack(list(layer)).clone().requires_grad_() for layer in layers]

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(A, n, LENGTH, 8) of inputs (A, n, d)."""
        hidden = inputs
        for layer in range(0, len(self.weights), 2):
            if layer:
                hidden = hidden.relu()
            hidden = torch.baddbmm(self.weights[layer + 1], hidden, self.weights[layer])
        return hidden.unflatten(-1, (LENGTH, len(SYMBOLS)))

    def one(self, place: int) -> list[torch.Tensor]:
        """The weights of one network, as of `start`."""
        return [each.detach()[place].clone() for each in self.weights]

    def fit(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        runs: Sequence[Sequence[Phase]],
        batch: int,
        seed: int,
        look: Callable[[_Networks, int], None],
    ) -> None:
        """Adam at RATE, each network over its phases, until the longest ends; look(self, step) before every step."""
        optimizer = torch.optim.Adam(self.weights, lr=RATE, fused=True)
        draws = [_Draw(phases, batch, seed) for phases in runs]
        steps = max(phases[-1].until for phases in runs)
        for step in range(steps + 1):
            look(self, step)
            if step == steps:
                return
            rows = torch.from_numpy(np.stack([draw(step) for draw in draws]))  # (A, batch)
            logits = self.logits(inputs[rows])
            losses = cross_entropy(logits.flatten(0, 2), targets[rows].flatten(), reduction="sum")
            optimizer.zero_grad()
            (losses / (batch * LENGTH)).backward()
            optimizer.step()


class _Draw:
    """The rows of a step, (batch,); those of the last phase once a run is over, which nobody looks at."""

    def __init__(self, phases: Sequence[Phase], batch: int, seed: int) -> None:
        self.ends = [phase.until for phase in phases[:-1]]
        self.orders = [RowOrder(np.repeat(np.arange(len(p.counts)), p.counts), batch, seed) for p in phases]

    def __call__(self, step: int) -> np.ndarray:
        return self.orders[bisect_right(self.ends, step)].batch(step)


def _initial(width: int, seed: int) -> list[torch.Tensor]:
    """As torch.nn.Linear draws them: weights (inputs, outputs) and biases (1, outputs) of three layers."""
    sizes = [len(_KINDS) + LENGTH * len(SYMBOLS), width, width, LENGTH * len(SYMBOLS)]
    generator = torch.Generator().manual_seed(seed)
    weights = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        bound = fan_in**-0.5
        weights += [(2 * torch.rand(rows, fan_out, generator=generator) - 1) * bound for rows in (fan_in, 1)]
    return weights


def _losses(models: _Networks, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(A, n, LENGTH) nats of the rows (n, d) under each network."""
    with torch.no_grad():
        logits = models.logits(inputs.expand(len(models.weights[0]), -1, -1))
        every = targets.expand(len(logits), -1, -1)
        return cross_entropy(logits.flatten(0, 2), every.flatten(), reduction="none").view(every.shape)


def _size(weights: Sequence[torch.Tensor]) -> int:
    return sum(each.numel() for each in weights)
