"""Make the training data of every arm, based on one proxy run and one split."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.console.progress import Progress
from curate.curated import Curated, inputs_fingerprint, recipe_text
from curate.data.readers import Loaded, read
from curate.data.writers import write_parquet_shards, written_tables
from curate.dataset_reference import in_braces
from curate.difficulty.scores import Scores, Split
from curate.difficulty.split import join_scores
from curate.errors import InputError
from curate.finetuning.data import curated_reading
from curate.mixture.control_rows import evened
from curate.mixture.mixture import Mixture
from curate.mixture.plan import Plan, fold, identity, realize
from curate.mixture.screening import admission
from curate.pipeline import Pipeline, by_forecast
from curate.run import Run
from curate.seeds import derive_seed
from curate.storage.atomic import publish_file, publishing
from curate.storage.folders import check_directory
from curate.storage.records import read_record, record_text
from curate.types import IntArray
from curate.validation.config import (
    BASELINE,
    CONTROLS,
    DRAWN,
    FRONT,
    REDUCIBLE,
    SOURCE_BALANCED,
    SYNTHETIC,
    Addition,
    Validation,
    copying,
    of_reducible_rows,
    synthesizing,
)
from curate.validation.cost import added, curation_cost

_MATCHED = 0.1  # relative difference allowed between the mean lengths of matched rows


@dataclass(frozen=True)
class Arm:
    """One treatment of the data.

    data: the training data, read with `reading` (arguments of `curate.read`). rows: their number. trainable: number of
    rows that can be trained on, as far as the proxy knows.
    curation: cost of finding the rows, see `Arms`; None = nothing. extra: about the rows added to the originals.
    """

    name: str
    data: str
    reading: dict[str, Any]
    rows: int
    trainable: int
    curation: dict[str, Any] | None
    extra: dict[str, Any] | None


class LeftOut(InputError):
    """An arm that turned out to be impossible once the rows were curated; the other arms continue without it."""


class Arms:
    """Makes the data of arms under `out`/arms, each when first requested; existing data is reused.

    The cost of curation ({seconds, tokens, proxy_parameters, requests, generated_tokens, cached}) is that of making the
    data from scratch. `cached`: the proxy had been trained before; its cost is included, as recorded in the cache.
    seconds or tokens None: unknown, as for scores that were given or measured by an earlier process.
    Every arm whose rows depend on the split (all but `random` and `source-balanced`) is charged the cost of `hard`.
    left_out: why requested arms cannot be made, by name; known once they were requested.
    """

    def __init__(self, loaded: Loaded, settings: Validation, out: Path, run: Run, scores: Scores | None) -> None:
        self.loaded, self.settings, self.out = loaded, settings, out
        # Scores of these rows only: held-out rows must not influence the arms.
        self.scores = None if scores is None else join_scores(scores, loaded.examples.ids)
        self.reading = loaded.examples.reading
        self.reading["columns"].pop("id", None)
        # Counts only the stages of curation, not those of fine-tuning.
        self.progress = Progress(run.progress.style, watch=run.progress.watch)
        self.run = replace(run, progress=self.progress)
        self.given = {
            addition.name: _given(addition, settings) for addition in settings.additions if addition.data is not None
        }
        self.left_out: dict[str, str] = {}

    def of_seed(self, seed: int) -> dict[str, Arm]:
        """The arms for the runs of one fine-tuning seed, by name, without those that cannot be made, see `left_out`.

        Raises InputError if none is left to compare with the baseline.
        """
        arms: dict[str, Arm] = {}
        for name in self.settings.named_arms():
            try:
                arms[name] = self.get(name, seed)
            except LeftOut as reason:
                if name not in self.left_out:
                    self.left_out[name] = str(reason)
                    self.progress.note(f"warning: {reason}")
        if len(arms) < 2:
            raise InputError(f"no arm is left to compare with {BASELINE}: {'; '.join(self.left_out.values())}")
        return arms

    def get(self, name: str, seed: int) -> Arm:
        """The arm for the runs of one fine-tuning seed. Raises LeftOut for an arm that these rows do not allow."""
        addition = next((addition for addition in self.settings.additions if addition.name == name), None)
        if name in self.given:
            return self.given[name]
        data = self.settings.data_arm(name)
        if data != name:
            return replace(self.get(data, seed), name=name)
        if name == BASELINE:
            arm = self._data_only(BASELINE, self._recipe(()), BASELINE)
            return replace(arm, trainable=arm.rows - self._invalid())
        if name in CONTROLS:
            by_draw = name in DRAWN
            folder = f"{name}-seed{seed}" if by_draw else name
            return self._data_only(name, self._control(CONTROLS[name], seed if by_draw else 0), folder)
        if name == SOURCE_BALANCED:
            return self._data_only(name, self._own("hard"), f"{name}-seed{seed}", seed)
        if name == FRONT:
            return self._data_only(name, self._own("hard").model_copy(update={"copies": "weights"}), name)
        if name == REDUCIBLE:
            return self._curated(name, of_reducible_rows(self._own("hard")))
        pipeline = addition.recipe if addition is not None and addition.recipe is not None else self._own(name)
        return self._curated(name, pipeline)

    # -- recipes of the arms ------------------------------------------------------------------------------------

    def _recipe(self, augmenters: tuple[Any, ...]) -> Pipeline:
        return self.settings.pipeline.model_copy(update={"augmenters": augmenters})

    def _own(self, name: str) -> Pipeline:
        """The user's recipe, or only its augmenters that copy or write rows."""
        pipeline = self.settings.pipeline
        left_out = {"hard": synthesizing(pipeline), "synthesis": copying(pipeline), "duplicates-synthesis": []}[name]
        return self._recipe(
            tuple(
                augmenter for augmenter in pipeline.augmenters if not any(augmenter is skipped for skipped in left_out)
            )
        )

    def _control(self, control: str, draw: int) -> Pipeline:
        hard = self._own("hard")
        copies = copying(hard)
        changed = [
            augmenter.model_copy(update={"of": control, "draw": draw})
            if any(augmenter is copy for copy in copies)
            else augmenter
            for augmenter in hard.augmenters
        ]
        return self._recipe(tuple(changed))

    # -- making them --------------------------------------------------------------------------------------------

    def _staged(self, pipeline: Pipeline, *, proxy: bool = True) -> tuple[Curated, dict[str, Any]]:
        """Run the stages of a recipe; returns the result and its cost. proxy: whether the proxy's cost is included."""
        started, before = time.monotonic(), len(self.progress.costs)
        curated = pipeline.stages(self.loaded, self.run, self.scores)
        return curated, curation_cost(curated, self.progress.costs[before:], time.monotonic() - started, proxy=proxy)

    @cached_property
    def _hard(self) -> tuple[Curated, dict[str, Any]]:
        """The hard arm in memory: scores and split of all arms of this recipe."""
        curated, cost = self._staged(self._own("hard"))
        if not curated.split.hard.any():
            advice = next((f": {w.message} {w.remedy}" for w in curated.warnings), "; train the proxy for longer")
            raise InputError(f"no row was found hard, so there is nothing to validate{advice}")
        return curated, cost

    @property
    def hard(self) -> Curated:
        """The hard arm in memory, with the split of all arms of this recipe."""
        return self._hard[0]

    def _curated(self, name: str, pipeline: Pipeline) -> Arm:
        """An arm with all the files that `curate run` writes."""
        folder = self.out / "arms" / name
        if not check_directory(folder, inputs_fingerprint(pipeline, self.loaded, self.scores), fresh=False):
            beside_hard = name in (*SYNTHETIC, REDUCIBLE) and copying(self.settings.pipeline)
            shared = self._hard_cost() if beside_hard else None
            curated, cost = self._hard if name == "hard" else self._staged(pipeline, proxy=shared is None)
            if shared is not None:
                cost = added(shared, cost)
            if not self._cost_file(name).is_file():  # otherwise a killed process had already paid
                publish_file(self._cost_file(name), record_text(cost))
            curated.write(folder)
        record = _record(folder / "run.json")
        if name == REDUCIBLE:
            _check_told(record)
        counts = record["counts"]
        new = counts["output"] - counts["original"]
        if not counts["duplicate"] and name == "hard":  # rows that a Subset leaves out are no matter
            curated = self._hard[0]
            augmenters = self.settings.pipeline.augmenters
            decided = next((k for k, augmenter in enumerate(augmenters) if by_forecast(augmenter)), None)
            if decided is not None and curated.budget_forecast is not None:
                raise InputError(
                    "the arm hard has no extra rows, since Duplicate(times: auto) makes none by the forecast; give a "
                    f"number to measure it, such as --set augmenters.{decided}.times=1"
                )
            raise InputError("the arm hard has no extra rows; raise the recipe's cap or lower its noise_guard")
        if not counts["output"]:
            raise InputError(f"arm {name} has no rows; its recipe leaves none")
        cost = _record(self._cost_file(name))
        rows, invalid = counts["output"], counts["invalid"]
        return Arm(name, str(folder), self.reading, rows, rows - invalid, cost, {"rows": new})

    def _data_only(self, name: str, pipeline: Pipeline, folder_name: str, draw: int = 0) -> Arm:
        """An arm of data/ and run.json only; the hard arm's folder describes the rest. draw: of `source-balanced`."""
        folder = self.out / "arms" / folder_name
        inputs = inputs_fingerprint(pipeline, self.loaded, self.scores)
        path = folder / "run.json"
        if not path.is_file() or _record(path).get("inputs") != inputs:
            try:
                mixture, extra = self._mixed(name, pipeline, draw)
            except InputError as error:
                raise InputError(f"arm {name}: {error}; --arms NAME,... takes only those it names") from error
            _write(mixture, folder)
            record: dict[str, Any] = {
                "kind": "arm",
                "arm": name,
                "inputs": inputs,
                "recipe_yaml": recipe_text(pipeline),
                "rows": len(mixture),
                "trainable": len(mixture) - int((~mixture.split.valid & (mixture.plan.counts > 0)).sum()),
                "extra": extra,
                "curation": self._hard_cost() if name in (*CONTROLS, FRONT) and name != "random" else None,
            }
            publish_file(path, record_text(record))
        record = _record(path)
        if name == "random-matched" and (line := (record["extra"] or {}).get("warning")):
            self.progress.note(f"warning: arm {folder_name}: {line}")
        rows, trainable = record["rows"], record["trainable"]
        return Arm(name, str(folder), self.reading, rows, trainable, record["curation"], record["extra"])

    def _mixed(self, name: str, pipeline: Pipeline, draw: int) -> tuple[Mixture, dict[str, Any] | None]:
        if name == BASELINE:
            split = _unscored(self.loaded)
            return Mixture(self.loaded, split, identity(len(split)), [], pipeline.order, pipeline.seed), None
        split, examples = self._hard[0].split, self.loaded.examples
        plan = fold(pipeline.resolved(self._hard[0].budget_forecast), split, pipeline.seed)
        if name == SOURCE_BALANCED:
            plan = _source_balanced(plan, split, examples.sources(), derive_seed(draw, "validation", name))
        admit = admission(
            examples,
            self.run,
            split=split,
            scorer=pipeline.scorer,
            clusterer=pipeline.clusterer,
            measurable=self.scores is None,
        )
        new_rows = realize(plan, examples, self.run, admit=admit)
        copied = np.repeat(np.arange(len(plan)), np.maximum(plan.counts - 1, 0))
        return Mixture(self.loaded, split, plan, new_rows, pipeline.order, pipeline.seed, pipeline.copies), _about(
            name, copied, split
        )

    def _invalid(self) -> int:
        """Number of rows without completion text, according to the proxy's tokenizer."""
        if not copying(self.settings.pipeline):
            return 0
        hard = self._curated("hard", self._own("hard"))
        return hard.rows - hard.trainable

    def _cost_file(self, name: str) -> Path:
        return self.out / "arms" / f"{name}.curation.json"

    def _hard_cost(self) -> dict[str, Any]:
        if not self._cost_file("hard").is_file():
            self._curated("hard", self._own("hard"))
        return _record(self._cost_file("hard"))


def _source_balanced(plan: Plan, split: Split, sources: npt.NDArray[np.object_] | None, seed: int) -> Plan:
    """The plan with the same number of copies, given to the smallest sources, see `evened`. sources: (n,)."""
    assert sources is not None  # checked earlier
    once = np.minimum(plan.counts, 1)
    copies = int((plan.counts - once).sum())
    rows = np.flatnonzero(split.valid & (once > 0))
    counts = once.copy()
    counts[rows] += evened(sources[rows].tolist(), copies, seed).astype(counts.dtype)
    return plan.with_counts(counts)


def _check_told(record: dict[str, Any]) -> None:
    """Raise LeftOut for an arm of reducible rows that would equal the arm `hard` or the original data."""
    reducible = record["diagnostics"]["reducible"]
    if reducible["verdict"] == "cannot tell":
        raise LeftOut(
            f"arm {REDUCIBLE} is left out: which rows can be learned from the others cannot be determined "
            f"({reducible['reason']}), so it would be the arm hard"
        )
    if not record["counts"]["duplicate"]:
        raise LeftOut(f"arm {REDUCIBLE} is left out: no hard row can be learned from the others, so it has no copies")


def _given(addition: Addition, settings: Validation) -> Arm:
    """An arm of a user's dataset, unchanged."""
    reading: dict[str, Any] = {"columns": None, "shape": None, **addition.reading}
    try:
        record = curated_reading(addition.data, {})[1]
        if "output_weighted" in record.get("counts", {}) and settings.finetuning.reweighter is None:
            raise InputError(f"{addition.data} has weights, which these runs ignore; name one with copies as rows")
        if record.get("parts") is not None:
            raise InputError(f"{addition.data} has an order, and these runs shuffle; name one made with order: shuffle")
        rows = len(read(addition.data, allow_curated=True, **reading).examples)
    except InputError as error:
        raise InputError(f"arm {addition.name}: {in_braces(str(error))}") from error
    return Arm(addition.name, str(addition.data), reading, rows, rows, None, None)


def _unscored(loaded: Loaded) -> Split:
    """A split without scores: no row is hard or valid."""
    n = len(loaded.examples)
    nothing = np.zeros(n, np.bool_)
    return Split(loaded.examples.ids, np.full(n, -2, np.int32), nothing, np.full(n, np.nan, np.float32), nothing)


def _about(name: str, copied: IntArray, split: Split) -> dict[str, Any]:
    """How a control's extra rows compare with the hard rows: overlap and length."""
    about: dict[str, Any] = {
        "rows": len(copied),
        "different": len(np.unique(copied)),
        "hard": int(split.hard[copied].sum()),
        "mean_tokens": None if split.tokens is None else round(float(split.tokens[copied].mean()), 2),
        "hard_mean_tokens": None if split.tokens is None else round(float(split.tokens[split.hard].mean()), 2),
    }
    own, hard = about["mean_tokens"], about["hard_mean_tokens"]
    if name == "random-matched" and abs(own - hard) > _MATCHED * hard:
        about["warning"] = (
            f"its extra rows have {own:g} completion tokens on average, hard ones {hard:g}: too few rows that are not "
            "hard are of such lengths, so a difference to the hard arm may be one of length"
        )
    return about


def _write(mixture: Mixture, folder: Path) -> None:
    tables = written_tables(mixture.loaded, mixture.new_rows)

    with publishing(folder / "data") as place:
        write_parquet_shards(tables, mixture.positions, mixture.added, place)


def _record(path: Path) -> dict[str, Any]:
    return read_record(path, f"remove {path.parent} and rerun the same command")
