"""Context of a run: cache, device, seed and progress, with the proxy and the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

from curate.component import call_hook, fingerprint
from curate.console.progress import Progress, as_progress
from curate.context import Context
from curate.data.examples import Examples
from curate.data.readers import Loaded, read
from curate.devices.precision import Precision
from curate.difficulty.reducible import Gains, gains
from curate.difficulty.scores import Scores, Split
from curate.difficulty.split_warnings import Truncated
from curate.engine.protocol import Engine
from curate.errors import InputError
from curate.gate.gate import Gate, GateIndex
from curate.proxy.held_out import HalfProxies
from curate.proxy.measures import MeanLoss, Measure
from curate.proxy.proxy import Proxy
from curate.proxy.stopping import Stop
from curate.proxy.trace import (
    Trace,
    cached_state,
    measure_checkpoints,
    measure_held_out,
    measure_new_rows,
    measured_held_out,
)
from curate.proxy.untrained import Untrained
from curate.storage.cache import Cache
from curate.storage.places import is_url
from curate.training.trackers import Callback, tracking


@dataclass
class Run:
    """Environment of one run; every field has a default, so that components can be used alone.

    device: "cpu", "cuda", "cuda:1"; None = a GPU if there is one.
    gate: what new rows must not overlap with.
    trained_on: examples that the proxy is trained on; None = those that are measured. Otherwise measured examples must
        begin with these, and further rows are measured on the kept checkpoints.
    engine: its workers train and measure the proxy; None = this process.
    log: called with the step and the metrics of every optimizer step of the proxy, see `curate.training.trackers`; not
        of proxies on parts of the rows, and not where workers of an engine train.
    """

    proxy: Proxy = field(default_factory=Proxy)
    cache: Cache | Path | str | None = None
    device: str | None = None
    seed: int = 0
    progress: Progress = field(default_factory=Progress)
    gate: Gate = field(default_factory=Gate)
    trained_on: Examples | None = None
    engine: Engine | None = None
    log: Callback | None = None
    _traces: dict[str, Trace] = field(default_factory=dict, repr=False)
    _references: dict[str, Trace] = field(default_factory=dict, repr=False)
    _indexes: dict[str, GateIndex] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.cache = self.context.store

    @property
    def context(self) -> Context:
        """Its cache, device, seed, progress and engine."""
        return Context(self.cache, self.device, self.seed, self.progress, self.engine)

    @property
    def store(self) -> Cache:
        assert isinstance(self.cache, Cache)
        return self.cache

    def torch_device(self) -> Any:
        """See `Context.torch_device`."""
        return self.context.torch_device()

    def numerics(self, precision: Precision) -> dict[str, Any]:
        """See `Context.numerics`."""
        return self.context.numerics(precision)

    def trace(self, examples: Examples, measures: Sequence[Measure]) -> Trace:
        """Values of the measures at every checkpoint of the proxy, kept for later calls.

        A pipeline requests the union of its scorers' measures before they request their own, so that one proxy run, and
        one pass over the data per checkpoint, is enough for all of them.
        """
        key = self._key(examples)
        cached = self._traces.get(key)
        missing = {fingerprint(m): m for m in measures if cached is None or fingerprint(m) not in cached.values}
        if cached is None or missing:
            measures_missing = list(missing.values())
            if self.trained_on is None:
                context = replace(self.context, log=self.log)
                trace = measure_checkpoints(examples, self.proxy, measures_missing, context)
            else:
                trace = self._extended(self.trained_on, examples, measures_missing)
            if cached is not None:
                trace.values.update(cached.values)
                trace = replace(trace, facts=cached.facts | trace.facts)
            self._traces[key] = cached = trace
        return cached

    @contextmanager
    def tracked(self, trackers: Sequence[str | Callback], out: Path | str | None, recipe: Any) -> Iterator[None]:
        """Send the metrics of this run to the trackers inside the context; their files are written to OUT-log."""
        folder = Path("curate-log" if out is None else f"{Path(str(out)).name}-log")
        if out is not None and not is_url(out):
            folder = Path(out).parent / folder
        if any(isinstance(tracker, str) for tracker in trackers):
            self.progress.note(f"  metrics go to {folder}")
        with tracking(trackers, folder, folder.name.removesuffix("-log"), recipe) as self.log:
            yield

    def log_result(self, scores: Scores, split: Split, planned: int) -> None:
        """Log what the split came to, at the step of the last checkpoint. planned: rows in the result."""
        if self.log is None:
            return
        valid, hard = split.valid, split.hard & split.valid
        values: dict[str, float] = {"rows": len(valid), "rows_hard": int(hard.sum()), "rows_planned": planned}
        values |= {"hard_share": float(hard.sum() / max(1, valid.sum()))}
        final, steps = scores.final_loss, scores.steps
        for name, side in (("hard", hard), ("easy", valid & ~hard)):
            if final is not None and side.any():
                values[f"loss_{name}"] = float(final[side].mean())
        self.log(int(steps[-1]) if steps is not None and len(steps) else 0, values)

    def reference_trace(self, examples: Examples, reference: Examples | None, proxy: Proxy) -> Trace:
        """Losses of examples under a model that is not trained on them; `facts` then describes that model.

        reference: examples to train `proxy` on; None = its model without training.
        """
        measures = [MeanLoss()]
        if reference is None:
            trace = measure_checkpoints(examples, proxy, measures, self.context, kind=Untrained)
        else:
            (trace,) = measure_held_out(reference, [examples], proxy, measures, self.context)
        trace = replace(trace, facts={**trace.facts, "reference": True})
        self._references[self._key(examples)] = trace
        return trace

    def knows_reference(self, examples: Examples, reference: Examples | None, proxy: Proxy) -> bool:
        """Whether all of `reference_trace` is cached; loads and runs nothing."""
        measures = [MeanLoss()]
        if reference is not None:
            return measured_held_out(reference, examples, proxy, measures, self.context)
        state = cached_state(examples, proxy, measures, self.context, kind=Untrained)
        return state.rows and state.measured == state.shards

    def _extended(self, originals: Examples, examples: Examples, measures: Sequence[Measure]) -> Trace:
        """Measures of `examples`, which begin with `originals`, on the proxy trained on `originals`."""
        n = len(originals)
        if examples.slice(0, n).fingerprint() != originals.fingerprint():
            raise InputError(
                "new rows are measured after the examples that the proxy was trained on, but values of others are "
                "requested; let the scorer pass on the examples that it gets"
            )
        trace = replace(self, trained_on=None).trace(originals, measures)
        new = examples.slice(n, len(examples))
        return measure_new_rows(trace, originals, new, self.proxy, measures, self.context)

    def gains(self, examples: Examples) -> Gains:
        """Gain of each row under proxies not trained on it, for `curate.difficulty.reducible.reducible_rows`.

        Trains two proxies, each on half of the rows; see `curate.proxy.held_out`.
        """
        measured = self.half_proxies(examples).measure()
        return gains(measured.rows, measured.null, measured.halves, measured.short)

    def half_proxies(self, examples: Examples) -> HalfProxies:
        """The two proxies of `gains`, before training."""
        return HalfProxies(examples, self.proxy, self.context, gate=self.gate, seed=self.seed)

    def gate_index(self, examples: Examples) -> GateIndex:
        """The gate over these examples and its evaluation sets; built once."""
        return self._index(examples.fingerprint(), lambda: self.gate.open(examples, engine=self.engine))

    def evaluation_index(self) -> GateIndex | None:
        """The gate over its evaluation sets only; None if it has none."""
        if not self.gate.evaluation:
            return None
        return self._index("", lambda: self.gate.model_copy(update={"near_duplicate": None}).open())

    def new_rows_index(self) -> GateIndex:
        """A new, empty gate against near-duplicates among new rows."""
        return self.gate.model_copy(update={"evaluation": ()}).open()

    def _index(self, key: str, build: Callable[[], GateIndex]) -> GateIndex:
        if key not in self._indexes:
            with self.progress.stage("gate"):
                self._indexes[key] = build()
        return self._indexes[key]

    def facts(self, examples: Examples) -> dict[str, Any] | None:
        """Facts about the proxy run on these examples, or about a reference model; None if there was none."""
        key = self._key(examples)
        trace = self._traces.get(key) or self._references.get(key)
        return None if trace is None else trace.facts

    def truncated(self, examples: Examples) -> Truncated | None:
        """Numbers of rows that were truncated for the proxy; None if there was no proxy run on these examples."""
        facts = self.facts(examples)
        names = ("rows_truncated", "prompts_cut", "completions_cut")
        return None if facts is None else Truncated(*(facts[name] for name in names))

    def capped(self, examples: Examples) -> tuple[int, str] | None:
        """Steps after which a proxy with `steps: auto` stopped before its split had settled, and what still changed.

        None if it had settled.
        """
        facts = dict((self.facts(examples) or {}).get("stop") or {})
        facts.pop("on", None)
        stop = Stop(**facts) if facts else None
        return (stop.step, stop.changing) if stop is not None and stop.capped else None

    def _key(self, examples: Examples) -> str:
        trained_on = None if self.trained_on is None else self.trained_on.fingerprint()
        content = [examples.fingerprint(), examples.labels_fingerprint()]  # a measure may look at both
        return fingerprint([*content, self.proxy, self.seed, trained_on])


def standalone(data: Any, run: Run | None) -> tuple[Examples, Run]:
    """Examples and a Run, for a component that is called directly with a dataset and optionally a Run.

    data: Examples, a result of `curate.read`, or anything that it reads. Without a Run, progress is shown.
    """
    if not isinstance(data, Examples):
        data = (data if isinstance(data, Loaded) else read(data)).examples
    return data, run or Run(progress=as_progress(True))


def trace_for(scorer: Scorer, data: Any, run: Run | None) -> Trace:
    """Trace of the scorer's measures, after its checks of examples and schedule. data, run: see `standalone`."""
    examples, run = standalone(data, run)
    call_hook(scorer, "check_examples", examples)
    trace = run.trace(examples, measures_of(scorer))
    call_hook(scorer, "check_schedule", trace.schedule)
    return trace


@runtime_checkable
class Scorer(Protocol):
    """Computes the difficulty of every example. Optional methods:

    measures() -> sequence of `Measure`: the measures at the proxy's checkpoints that `score` will request from
        `run.trace`. They are declared in advance, so that one proxy run is enough for all scorers.
    check_schedule(schedule): raises InputError, with the remedy, if the proxy's checkpoints are unsuitable.
    identity() -> list: everything besides its parameters that affects scores, such as the content of files.
    pending(examples, run) -> str | None: for a scorer without measures, a description of the work of `score`; None if
        there is none, so that `curate plan` can call it.
    tokenizes() -> bool: whether a scorer without measures uses the proxy's tokens.
    check_examples(examples): raises InputError for data that it cannot score; called before a proxy is trained.
    """

    def score(self, examples: Examples, run: Run) -> Scores | npt.NDArray[Any]:
        """`Scores` for the n examples, or a bare (n,) array of difficulties (higher = learned later)."""
        ...


def measures_of(scorer: Scorer) -> tuple[Measure, ...]:
    """The measures of a scorer, empty if it has none; see `Scorer`."""
    return tuple(call_hook(scorer, "measures") or ())
