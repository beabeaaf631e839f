"""The pipeline: score, split, plan and realize a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from curate.clusterers.per_source import Clusterer, check_rows
from curate.component import Component, brief, call_hook, describe_in_json, fingerprint
from curate.console.presentation import Facts, chain
from curate.console.progress import Progress, as_progress
from curate.curated import Curated, Stages
from curate.data.examples import Examples
from curate.data.readers import Loaded, read
from curate.data.trainer_forms import check_form
from curate.data.written_form import WriteAs
from curate.difficulty.scores import Scores, Split, as_scores
from curate.difficulty.split import Strata, given_scores, make_split
from curate.difficulty.split_warnings import diagnose
from curate.engine.protocol import Engine
from curate.errors import InputError, suggestion
from curate.gate.gate import Gate
from curate.mixture.judgment import judgment
from curate.mixture.mixture import Copies, Order, check_weight_column
from curate.mixture.plan import DROPPED, Augmenter, Plan, fold, realize
from curate.mixture.screening import admission, contaminated_rows
from curate.mixture.verdicts import BudgetForecast, forecast_budget
from curate.proxy.budget import Budget, ForecastSettings, check_cost
from curate.proxy.held_out import check_exchangeable
from curate.proxy.proxy import Proxy
from curate.proxy.training import ProxyTraining
from curate.recipe import (
    apply_settings,
    construct,
    decode,
    dump_recipe,
    encode,
    load_recipe,
    parse_recipe,
    validation_message,
)
from curate.run import Run, Scorer, measures_of
from curate.seeds import derive_seed
from curate.storage.destination import Destination, check_result_place, result_place
from curate.storage.places import holds_signature, without_secrets
from curate.tokenization.usable import Rules, check_usable, without_refused
from curate.training.trackers import Callback, check_trackers


class Pipeline(Component):
    """A recipe: proxy, scorer, clusterer, which clusters are hard, and augmenters in order.

    hard: "highest" = the cluster of highest mean difficulty (with clustering per source: of each source); m = the
        m highest; "above_mean" = all above the mean.
    strata: "length" clusters within strata of completion length, so that rows are hard for their length, see
        `curate.difficulty.split.make_split`. Off unless set: against published levels it helped on reasoning_gym
        (Spearman 0.23 -> 0.31) and harmed on GSM8K (-0.11 -> -0.27).
    order: "shuffle" = seeded shuffle of the rows (trainers that do not shuffle would otherwise see copies last);
        "keep" = input order, copies after their original, new rows last; "front" = two parts, each shuffled: a random
        half of the rows with ALL copies, then the other half, which is a sample of the original data. Every row occurs
        as often as with "shuffle". A trainer that shuffles destroys the order: turn shuffling off and train for one
        epoch (transformers.Trainer: `train_sampling_strategy="sequential"`, or a sequential sampler), or train on the
        two parts in sequence; `Curated.write` writes them to separate files and splits (config "parts"). For several
        epochs, and for `curate finetune`, set `copies` to "weights": weights then apply in the first half of the steps,
        `GivenWeights(until=0.5)`, and every row counts once afterwards.
    copies: "rows" = a row with count k occurs k times; "weights" = once, with k in a column `weight`, for trainers that
        weight rows. New rows have weight 1.
    stability: number of proxy seeds over which the split is repeated to measure its stability; 1 = not measured. Costs
        one proxy run each.
    gate: what new rows must not overlap with: the named evaluation sets and, for synthetic rows, the input.
    forecast: the planned fine-tuning, for held-out curves to its budget, which `Duplicate(times="auto")` requires; see
        `curate.proxy.budget`. None = no forecast.
    """

    added: ClassVar[frozenset[str]] = frozenset(["strata", "forecast"])

    proxy: Proxy = Field(default_factory=Proxy)
    scorer: Any
    clusterer: Any
    hard: Literal["highest", "above_mean"] | Annotated[int, Field(ge=1)] = "highest"
    strata: Strata = None
    augmenters: tuple[Any, ...] = ()
    order: Order = "shuffle"
    copies: Copies = "rows"
    stability: int = Field(default=1, ge=1, description="repeat the split over N proxy seeds")
    gate: Gate = Field(default_factory=Gate)
    seed: int = Field(default=0, description="seed of everything random (the recipe's, else 0)")
    forecast: ForecastSettings | None = None

    @field_validator("scorer")
    @classmethod
    def _scores(cls, value: Any) -> Any:
        return _fits(value, Scorer, "a scorer has a method score(examples, run)")

    @field_validator("clusterer")
    @classmethod
    def _clusters(cls, value: Any) -> Any:
        return _fits(value, Clusterer, "a clusterer has a method fit_predict(X)")

    @field_validator("augmenters", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return value
        name = value.__name__ if isinstance(value, type) else type(value).__name__
        if isinstance(value, str):
            raise ValueError(f"put it in a list: [{{use: {value}}}]")
        if isinstance(value, Augmenter):
            raise ValueError(f"put it in a list: [{name}()]")
        return value

    @field_validator("augmenters")
    @classmethod
    def _augment(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        for augmenter in value:
            _fits(augmenter, Augmenter, "an augmenter has a method plan(plan, split, seed)")
        return value

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        several = any(getattr(augmenter, "epochs", 1) > 1 for augmenter in self.augmenters)
        if several and (self.order != "shuffle" or self.copies != "rows"):
            raise ValueError(
                "rows that are redrawn for every epoch (Subset.epochs) already have an order; leave out order "
                "and copies"
            )
        return self

    @model_validator(mode="after")
    def _forecast_where_needed(self) -> Self:
        decided = [place for place, augmenter in enumerate(self.augmenters) if by_forecast(augmenter)]
        if self.forecast is None and decided:
            raise ValueError(
                "Duplicate(times: auto) takes what is forecast for the fine-tuning that is planned; name that with "
                "forecast: {steps: N, model: MODEL}, or --set forecast.steps=N --set forecast.model=MODEL"
            )
        fields = [(getattr(augmenter, "of", None), getattr(augmenter, "times", None)) for augmenter in self.augmenters]
        copying = [place for place, (of, times) in enumerate(fields) if of == "hard" and times]
        if set(decided) & set(copying) and len(copying) > 1:
            other = next(place for place in reversed(copying) if place != decided[0])
            raise ValueError(
                "Duplicate(times: auto) decides alone how often hard rows are shown, and augmenters."
                f"{other} copies them too; leave that out, or give both a number"
            )
        return self

    # -- recipes --------------------------------------------------------------------------------------------------

    @classmethod
    def from_recipe(
        cls, recipe: str | dict[str, Any] = "quick", *, settings: Sequence[str] = (), allow_plugins: Sequence[str] = ()
    ) -> Pipeline:
        """The pipeline of a shipped recipe, a recipe file or a mapping, with `path=value` settings applied.

        allow_plugins: packages from which it may load code, and options such as "--trust-remote-code" that allow it to
            run other code, see `curate.component.Consent`.
        """
        mapping = load_recipe(recipe) if isinstance(recipe, str) else recipe
        return _from_mapping(cls, apply_settings(mapping, settings), tuple(allow_plugins))

    @classmethod
    def from_yaml(cls, text: str, *, allow_plugins: Sequence[str] = ()) -> Pipeline:
        return _from_mapping(cls, parse_recipe(text), tuple(allow_plugins))

    def to_yaml(self) -> str:
        """YAML that `from_yaml` turns back into an equal pipeline; defaults are left out."""
        mapping = encode(self)
        mapping.pop("use")
        mapping.setdefault("seed", self.seed)
        for key in ("proxy", "gate", "forecast"):
            if isinstance(mapping.get(key), dict):
                mapping[key].pop("use", None)
        return dump_recipe(mapping)

    # -- display --------------------------------------------------------------------------------------------------

    def summary(self) -> Facts:
        """The components in order, with the parameters that differ from the defaults."""
        links = [(name, brief(getattr(self, name))) for name in ("proxy", "scorer", "clusterer")]
        links += [("augmenter", brief(augmenter)) for augmenter in self.augmenters]
        facts = [*links, ("hard", str(self.hard))]
        if self.gate != Gate():
            facts.append(("gate", brief(self.gate)))
        facts += [(name, str(getattr(self, name))) for name in ("order", "copies", "stability") if self._differs(name)]
        facts.append(("seed", str(self.seed)))
        return Facts("Pipeline", tuple(facts), above=chain([("in", "dataset"), *links, ("out", "dataset")]))

    def _differs(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    def __repr__(self) -> str:
        return str(self.summary())

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    # -- running it -----------------------------------------------------------------------------------------------

    def run(
        self,
        data: Any,
        *,
        out: Path | str | None = None,
        scores: Scores | npt.ArrayLike | None = None,
        cache: Path | str | None = None,
        device: str | None = None,
        progress: Progress | bool = True,
        engine: Engine | None = None,
        write_as: WriteAs = "input",
        log: Sequence[str | Callback] = (),
        **reading: Any,
    ) -> Curated:
        """Curate a dataset.

        data: anything that `curate.read` takes (file, folder, hub id, pandas, Arrow, datasets), or its result;
            `reading` are its arguments (columns, shape, where, limit, on_bad_row), for data that is not read yet.
        out: folder or URL for the full output, replacing an earlier one; None = only return the result, whose
            `dataset` has the type of the input.
        scores: difficulty measured earlier, joined by example id, or an array (n,) in the order of the rows; the
            proxy is then not run.
        progress: True = a bar in a terminal or a notebook and plain lines elsewhere, with the warnings of the result at
            the end; False = silent. All of it also goes to the logger `curate`.
        engine: its workers train and measure the proxy, such as `curate.engine.Ray`; None = this process. Not part of
            any cache key.
        write_as: the form of the rows in `out`: "input" keeps the input's columns, others replace them by those that
            trainers take, see `curate.data.trainer_forms`.
        log: trackers of the proxy's training and, at its last step, of the split: "tensorboard", "wandb", "mlflow",
            whose files are written beside `out` (OUT-log), or functions that are called with a step and its metrics.
        """
        check_trackers(log)
        run = Run(self.proxy, cache, device, self.seed, as_progress(progress), gate=self.gate, engine=engine)
        if isinstance(data, Loaded) and reading:
            raise InputError(f"the data is already read, so {next(iter(reading))}=... has no effect; pass it to read()")
        if out is not None:
            check_result_place(result_place(out))
            Destination.of(out).check("", fresh=True)  # refuses a folder of other files before any work is done
        if not isinstance(data, Loaded):
            with run.progress.stage("read") as stage:
                data = read(data, seed=self.seed, **reading)
                stage.advance(data.rows_read)
        if write_as != "input":
            check_form(data.examples, write_as)
            data = replace(data, write_as=write_as)
        try:
            with run.tracked(log, out, describe_in_json(self)):
                curated = self.stages(data, run, scores)
        except KeyboardInterrupt:  # without the hundred frames of the model that it happened to stop
            raise KeyboardInterrupt("interrupted; the same call resumes where it stopped") from None
        if out is not None:
            curated.write(out)
        for warning in curated.warnings:
            run.progress.warn(f"{warning.message} {warning.remedy}")
        return curated

    def check(self, examples: Examples, *, scored: bool = False) -> None:
        """Raise InputError for anything that would fail on these examples, before any work is done.

        scored: whether the user passed scores, so that no proxy is trained.
        """
        for url in filter(holds_signature, _texts(self)):
            raise InputError(
                f"{without_secrets(url)}: its query gives access, and a recipe is recorded whole; download the file "
                "and name that"
            )
        check_weight_column(examples.table, self.copies)
        check_rows(self.clusterer, len(examples), "source" in examples.columns)
        for part in self.augmenters if scored else (self.scorer, *self.augmenters):
            call_hook(part, "check_examples", examples)
        if not scored and measures_of(self.scorer):
            call_hook(self.scorer, "check_schedule", self.proxy.schedule(len(examples)))
        if not scored and self.needs_reducible:
            check_exchangeable(examples)

    @property
    def needs_reducible(self) -> bool:
        """Whether an augmenter needs reducible rows, for which two more proxies are trained."""
        return any(call_hook(augmenter, "needs_reducible") for augmenter in self.augmenters)

    def check_scores(self, scores: Scores) -> None:
        """Raise InputError if augmenters need reducible rows and the scores that the user passed have none."""
        if self.needs_reducible and scores.gains is None and scores.reducible is None:
            place = next(k for k, augmenter in enumerate(self.augmenters) if call_hook(augmenter, "needs_reducible"))
            raise InputError(
                "the recipe needs reducible rows, but the scores do not include them; write them with `curate score` "
                f"and --set augmenters.{place}.only=reducible, add a column reducible (true or false), or leave out "
                "--scores"
            )

    def usable(self, loaded: Loaded, run: Run) -> Loaded:
        """Drop rows that the proxy's template does not render, if there is a proxy.

        Raises InputError for such a row, and for too many rows without completion text, unless the data was read with
        on_bad_row="drop"; see `curate.tokenization.usable`.
        """
        if not call_hook(self.scorer, "tokenizes") and not measures_of(self.scorer):
            return loaded

        proxy_training = ProxyTraining(loaded.examples, run.proxy, run.context)
        rows = proxy_training.tokenized.rows
        rules = Rules(loaded.on_bad_row == "drop", proxy_training.max_length)
        check_usable(rows, loaded.examples, loaded.rows, rules)
        if rows.refused:
            run.progress.note(f"  {len(rows.refused):,} rows that the proxy's chat template refuses are left out")
        return without_refused(loaded, rows.refused)

    def stages(self, loaded: Loaded, run: Run, scores: Scores | npt.ArrayLike | None = None) -> Curated:
        """Score, split, plan and realize data that is already read."""
        progress, scored = run.progress, scores is not None
        self.check(loaded.examples, scored=scored)
        loaded = loaded if scored else self.usable(loaded, run)
        examples = loaded.examples
        for augmenter in self.augmenters:
            call_hook(augmenter, "check_ready")
            call_hook(augmenter, "check_engine", run.engine)
        contaminated = contaminated_rows(examples, run)
        if scores is not None:
            scores = given_scores(scores, examples.ids)
            self.check_scores(scores)
        scores = self.score(loaded, run) if scores is None else scores
        with progress.stage("split"):
            split = self.split(scores, loaded)
            other_splits = () if scored else self._other_splits(loaded, run)
        budget_forecast = self.budget_forecast(split, examples, run)
        augmenters = self.resolved(budget_forecast)
        with progress.stage("plan"):
            plan = fold(augmenters, split, self.seed)
        if scored and any(demand.only_hard for demand in plan.demands):
            raise InputError(
                "new rows are not measured where scores are given; leave out --scores, or keep all of them"
            )
        with progress.stage("diagnose"):
            diagnostics = diagnose(
                scores,
                split,
                clusterer=self.clusterer,
                hard=self.hard,
                seed=self.seed,
                counts=plan.counts,
                uses_hard=not augmenters or augmenters != self.augmenters or self._uses_hard(augmenters, plan, split),
                truncated=None if scored else run.truncated(examples),
                others=other_splits,
                drops_irreducible=DROPPED in plan.reasons,
                capped=None if scored else run.capped(examples),
            )
        parts = {"scorer": self.scorer, "clusterer": self.clusterer}
        admit = admission(examples, run, split=split, measurable=not scored, **parts)
        with progress.stage("realize"):
            realized = realize(plan, examples, run, admit=admit)
        stages = Stages(
            data=examples.fingerprint(),
            scores=fingerprint([self.scorer, self.proxy, self.seed])
            if not scored
            else fingerprint([scores.difficulty]),
            split=fingerprint([split.cluster, split.hard]),
            plan=fingerprint([plan.counts, list(plan.reasons)]),
        )
        results = (scores, split, diagnostics, plan, realized, stages)
        run.log_result(scores, split, int(plan.counts.sum()))
        return Curated(self, loaded, run, *results, scored, contaminated, budget_forecast=budget_forecast)

    def budget_forecast(self, split: Split, examples: Examples, run: Run) -> BudgetForecast | None:
        """Predictions from held-out curves of the proxy to the budget of `forecast`; None without a forecast.

        Shows their cost first. Raises InputError if it is too high to proceed without consent.
        """
        if self.forecast is None:
            return None
        budget = Budget(examples, split, run.proxy, self.forecast, run.context, self.gate)
        cost = budget.cost()
        run.progress.note(f"  {cost}")
        check_cost(cost, self.forecast.accept_cost, "accept it with --set forecast.accept_cost=true")
        return forecast_budget(budget.curves(judgment().clock), wrong_share=split.wrong_share, seed=self.seed)

    def resolved(self, budget_forecast: BudgetForecast | None) -> tuple[Any, ...]:
        """The augmenters, with the forecast number of copies filled in for `times="auto"`."""
        if budget_forecast is None:
            return self.augmenters
        extra = budget_forecast.decision.times - 1
        return tuple(
            augmenter.with_copies(extra) if by_forecast(augmenter) else augmenter for augmenter in self.augmenters
        )

    def score(self, loaded: Loaded, run: Run) -> Scores:
        """Difficulty of every example; one proxy run provides all measures of the scorer."""
        examples = loaded.examples
        measures = measures_of(self.scorer)
        if measures:
            call_hook(self.scorer, "check_schedule", run.proxy.schedule(len(examples)))
            run.trace(examples, measures)
        scores = as_scores(self.scorer.score(examples, run), len(examples))
        scores = scores if scores.ids is not None else scores.with_ids(examples.ids)
        if self.needs_reducible and scores.gains is None and scores.reducible is None:
            scores = replace(scores, gains=run.gains(examples))
        return scores

    def split(self, scores: Scores, loaded: Loaded) -> Split:
        """Split examples by the pipeline's clusterer and policy."""
        examples = loaded.examples
        return make_split(
            scores,
            self.clusterer,
            ids=examples.ids,
            sources=examples.sources(),
            hard=self.hard,
            seed=self.seed,
            strata=self.strata,
        )

    def _uses_hard(self, augmenters: Sequence[Any], plan: Plan, split: Split) -> bool:
        """Whether the plan depends on hard rows; checked, by planning with all rows hard, only if no row is hard."""
        if split.hard.any():
            return True
        try:
            all_hard = fold(augmenters, replace(split, hard=split.valid), self.seed)
        except InputError:
            return True
        rows = [[demand.rows for demand in candidate.demands] for candidate in (plan, all_hard)]
        same_demands = len(rows[0]) == len(rows[1]) and all(map(np.array_equal, *rows))
        return not (np.array_equal(plan.counts, all_hard.counts) and same_demands)

    def _other_splits(self, loaded: Loaded, run: Run) -> tuple[Split, ...]:
        """Splits under other proxy seeds, for stability; other clusterer seeds alone would agree trivially."""
        splits = []
        for k in range(1, self.stability):
            seed = derive_seed(self.seed, "stability", k)
            again = Run(self.proxy, run.store, run.device, seed, run.progress, engine=run.engine)
            splits.append(self.split(self.score(loaded, again), loaded))
        return tuple(splits)


def curate_dataset(
    data: Any, recipe: str | dict[str, Any] = "quick", *, settings: Sequence[str] = (), **arguments: Any
) -> Any:
    """Curate a dataset in one call: `Pipeline.from_recipe(recipe).run(data).dataset`, in the type of the input."""
    return Pipeline.from_recipe(recipe, settings=settings).run(data, **arguments).dataset


def _texts(value: Any) -> Iterator[str]:
    """All strings in a component, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name))
    elif isinstance(value, dict):
        yield from (text for item in value.values() for text in _texts(item))
    elif isinstance(value, list | tuple):
        yield from (text for item in value for text in _texts(item))


def by_forecast(augmenter: Any) -> bool:
    """Whether an augmenter takes its number of copies from the forecast: `times="auto"` and a method `with_copies`."""
    return getattr(augmenter, "times", None) == "auto" and callable(getattr(augmenter, "with_copies", None))


def _fits(value: Any, protocol: Any, meaning: str) -> Any:
    """Return a component if it implements the protocol. Raises ValueError with `meaning` otherwise."""
    if isinstance(value, type):
        raise ValueError(f"{value.__name__} is a class; give an object of it, {value.__name__}()")
    if isinstance(value, str):
        raise ValueError(f"{value!r} is only a name; write {{use: {value}}}, in Python {value}()")
    if isinstance(value, Pipeline):
        raise ValueError(f"a pipeline cannot be part of another: {meaning}")
    if isinstance(value, dict):
        raise ValueError("the mapping names no component; write {use: NAME, ...}")
    if not isinstance(value, protocol):
        raise ValueError(f"{type(value).__name__} does not fit: {meaning}")
    return value


def _from_mapping(kind: type[Pipeline], mapping: dict[str, Any], allowed: tuple[str, ...]) -> Pipeline:
    """Construct a pipeline from the mapping of a recipe. allowed: see `decode`. Raises InputError."""
    keys = list(kind.model_fields)
    for key in mapping:
        if key not in keys:
            hint = suggestion(str(key), keys, f"keys are {', '.join(keys)}")
            raise InputError(f"recipe: there is no key {key!r}; {hint}")
    for key in ("scorer", "clusterer"):
        if key not in mapping:
            raise InputError(f"recipe: the key {key!r} is missing; add for example `{key}: {{use: ...}}`")
    fields = {key: decode(value, key, allowed) for key, value in mapping.items()}
    for key, part in (("proxy", Proxy), ("gate", Gate), ("forecast", ForecastSettings)):
        if isinstance(fields.get(key), dict):
            fields[key] = construct(part, fields[key], key, allowed)
    if isinstance(fields.get("augmenters"), list):
        fields["augmenters"] = tuple(fields["augmenters"])
    try:
        return kind(**fields)
    except ValidationError as error:
        raise InputError(f"recipe: {validation_message(error)}") from error
