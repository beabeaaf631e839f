"""Study pretrained: a small pretrained model as target and proxy, on settings chosen by forecasts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.confirm.study import RECORDS, rows_of_runs
from benchmarks.when.language import with_faults
from benchmarks.when.stored import DATA, stored_rows, table
from curate import Evaluation, EvaluationSet, Finetuning, Pipeline, Run, Validation, read, validate
from curate.difficulty.exposures import of_copied, read_curve
from curate.errors import InputError
from curate.models.loading import load_model, load_tokenizer
from curate.models.scoring import score_losses
from curate.seeds import derive_seed
from curate.storage.atomic import publish_file
from curate.tokenization.encoding import tokenize
from curate.training.loop import train
from curate.validation.config import BASELINE, SOURCE_BALANCED

_DETAILS = """\
    python -m benchmarks.confirm.pretrained --model DIR [--data DIR] --out DIR     # the forecasts, before any arm
    python -m benchmarks.confirm pretrained --model DIR [--data DIR] --out DIR

A block is a setting with a seed: SETTING-SEED. The candidates stand in a fixed order. A pilot seed's curves, of a model
trained on three quarters of the rows and measured on the others by cluster, say yes where exposures at hard x3 predict
a fall of 3 %% or more of nats on the mixture. The first two that say yes and the first two that say no are the
settings; where fewer say yes, those nearest to it stand in.
"""

FORECASTS = "pretrained-forecasts.json"
ARMS = (BASELINE, "hard", "random", SOURCE_BALANCED)
PILOT = 100
SEEDS = range(3)
TIMES = 3  # each hard row is shown
THRESHOLD = 0.03
_GRID = 6  # points of a curve, each twice the one before
_COLUMNS = {"prompt": "question", "completion": "answer", "source": "source"}


@dataclass(frozen=True)
class Candidate:
    """Data: sources with their shares of `rows`, `noise` of whose completions are moved. epochs: of the original."""

    name: str
    shares: Mapping[str, float]
    rows: int = 800
    noise: float = 0.0
    epochs: float = 1.0


CANDIDATES = (
    Candidate("rare-systems", {"asdiv": 0.6, "mawps": 0.3, "simuleq": 0.1}),
    Candidate("rare-gsm8k", {"asdiv": 0.6, "mawps": 0.3, "gsm8k": 0.1}),
    Candidate("gsm8k", {"gsm8k": 1.0}, rows=400),
    Candidate("rare-systems-noise", {"asdiv": 0.6, "mawps": 0.3, "simuleq": 0.1}, noise=0.15),
    Candidate("saturated", {"asdiv": 0.6, "mawps": 0.4}, rows=400, epochs=6.0),
    Candidate("rare-systems-long", {"asdiv": 0.65, "mawps": 0.3, "simuleq": 0.05}, epochs=2.0),
)
_FILES = {"asdiv": "word_problems", "mawps": "word_problems", "simuleq": "simuleq", "gsm8k": "gsm8k"}
_NAMES = ("id", "question", "answer", "source", "group")


@dataclass(frozen=True)
class Recipe:
    """How all of it is trained. batch_size, learning_rate: of target and proxy. questions: of each set."""

    batch_size: int = 16
    learning_rate: float = 2e-5
    proxy_steps: int = 20
    questions: int = 300
    max_length: int = 320


@dataclass
class Pretrained:
    """model: folder of the model. data: of the parquet files. settings: names of four candidates; None = those of the
    forecasts in `records`."""

    model: Path
    data: Path = DATA
    records: Path = RECORDS
    recipe: Recipe = Recipe()
    name: str = "pretrained"

    @property
    def blocks(self) -> Sequence[str]:
        place = self.records / FORECASTS
        if not place.is_file():
            raise InputError(f"{place} is missing; first run `python -m benchmarks.confirm.pretrained`")
        chosen = json.loads(place.read_text(encoding="utf-8"))["settings"]
        return [f"{name}-{seed}" for seed in SEEDS for name in chosen]

    def run(self, block: str, out: Path) -> tuple[pa.Table, Mapping[str, Any]]:
        name, _, number = block.rpartition("-")
        candidate, seed = _candidate(name), int(number)
        forecasts = json.loads((self.records / FORECASTS).read_text(encoding="utf-8"))
        data, sets = self._write(candidate, seed, out / "rows")
        curated = self._pipeline(seed).run(data, cache=out / "cache", **_reading())
        steps = round(candidate.epochs * candidate.rows / self.recipe.batch_size)
        settings = Validation(
            pipeline=self._pipeline(seed),
            finetuning=self._tuning(),
            evaluation=Evaluation(generate=False),
            sets=sets,
            arms=ARMS,
            budgets=("steps",),
            epochs=steps * self.recipe.batch_size / int(curated.plan.counts.sum()),
            seeds=(seed,),
            keep_weights=False,
        )
        validate(data, settings, out / "validation", cache=out / "cache", **_reading())
        runs = [(arm, seed, out / "validation" / "runs" / f"{arm}-steps-seed{seed}") for arm in ARMS]
        facts = {"setting": asdict(candidate), "hard_share": float(curated.split.hard.mean()), "steps": steps}
        return rows_of_runs(runs, "source"), {**facts, "forecast": forecasts["forecasts"][name]}

    def forecast(self, candidate: Candidate, out: Path) -> dict[str, Any]:
        """What exposures foretell for hard copies in this setting, from curves of the pilot seed."""
        recipe = self.recipe
        data, _ = self._write(candidate, PILOT, out / candidate.name / "rows")
        loaded = read(data, **_reading())
        run = Run(self._pipeline(PILOT).proxy, out / candidate.name / "cache", None, PILOT)
        split = self._pipeline(PILOT).stages(loaded, run).split
        tokens = tokenize(
            loaded.examples, load_tokenizer(str(self.model)), template="plain", max_length=recipe.max_length
        )
        order = np.random.default_rng(derive_seed(PILOT, "confirm", "folds")).permutation(len(tokens))
        seen, measured_rows = np.split(order, [3 * len(order) // 4])
        measured_rows = measured_rows[tokens.valid[measured_rows]]
        steps = round(candidate.epochs * candidate.rows / recipe.batch_size)
        share = float(split.hard.mean())
        m_hard, m_easy = of_copied(share, TIMES)
        last = max(steps, round(steps * m_hard))
        grid = sorted({max(1, round(last / 2**k)) for k in range(_GRID)} | {steps})
        config = self._tuning().model_copy(update={"steps": last, "horizon": last}).train_config(len(seen))
        model, losses = load_model(str(self.model)), []
        for _ in train(model, tokens.take(seen), config, checkpoint_steps=grid):
            losses.append(score_losses(model, tokens.take(measured_rows)))  # (m,)
        loss_curves, hard = np.stack(losses, axis=1), split.hard[measured_rows]  # (m, K)
        curves = {"hard": loss_curves[hard].mean(axis=0).tolist(), "easy": loss_curves[~hard].mean(axis=0).tolist()}

        def mixed(of_hard: float, of_easy: float) -> float:
            parts = (
                read_curve(grid, curves["hard"], steps * of_hard),
                read_curve(grid, curves["easy"], steps * of_easy),
            )
            return share * parts[0] + (1 - share) * parts[1]

        change = mixed(m_hard, m_easy) / mixed(1, 1) - 1
        return {"hard_share": share, "steps": grid, **curves, "foretold": change, "yes": bool(change <= -THRESHOLD)}

    # -- rows and settings ------------------------------------------------------------------------------------------

    def _write(self, candidate: Candidate, seed: int, folder: Path) -> tuple[str, tuple[EvaluationSet, ...]]:
        """Training rows, and the sets mixture and balanced, whose rows are in no training set."""
        rows, mixture, balanced = list[Any](), list[Any](), list[Any]()
        for source, share in candidate.shares.items():
            pool = [each for each in stored_rows(self.data, _FILES[source]) if _source(each) == source]
            pool = [each | {"source": source, "group": source} for each in pool if each["answer"]]
            order = np.random.default_rng(derive_seed(0, "confirm", "questions", source)).permutation(len(pool))
            each_set = self.recipe.questions // len(candidate.shares)
            most = max(each_set, round(share * self.recipe.questions))
            test, others = [pool[i] for i in order[:most]], [pool[i] for i in order[most:]]
            balanced += test[:each_set]
            mixture += test[: round(share * self.recipe.questions)]
            count = round(share * candidate.rows)
            if count > len(others):
                raise InputError(f"{candidate.name}: {count} rows of {source} are wanted and there are {len(others)}")
            generator = np.random.default_rng(derive_seed(seed, "confirm", "rows", source))
            rows += [others[i] | {"rare": False, "fault": ""} for i in generator.permutation(len(others))[:count]]
        written = with_faults(table(rows, (*_NAMES, "rare", "fault")), candidate.noise, seed)
        for name, made in {
            "train": written,
            "mixture": table(mixture, _NAMES),
            "balanced": table(balanced, _NAMES),
        }.items():
            sink = pa.BufferOutputStream()
            pq.write_table(made.select(["question", "answer", "source"]), sink)
            publish_file(folder / f"{name}.parquet", sink.getvalue().to_pybytes())
        sets = tuple(
            EvaluationSet(data=str(folder / f"{name}.parquet"), name=name, columns=_COLUMNS)
            for name in ("mixture", "balanced")
        )
        return str(folder / "train.parquet"), sets

    def _tuning(self) -> Finetuning:
        recipe = self.recipe
        return Finetuning(
            model=str(self.model),
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            max_length=recipe.max_length,
            template="plain",
        )

    def _pipeline(self, seed: int) -> Pipeline:
        recipe = self.recipe
        proxy = {
            "model": str(self.model),
            "steps": recipe.proxy_steps,
            "checkpoints": 4,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate,
            "max_length": recipe.max_length,
            "template": "plain",
        }
        augmenters = [{"use": "Duplicate", "times": TIMES - 1}]
        made = {"proxy": proxy, "augmenters": augmenters, "seed": seed}
        return Pipeline.from_recipe({"scorer": {"use": "LossTrajectory"}, "clusterer": {"use": "KMeans"}, **made})


def _reading() -> dict[str, Any]:
    return {"columns": _COLUMNS}


def _source(row: Mapping[str, Any]) -> str:
    return "simuleq" if row["source"] in ("alg514", "draw") else str(row["source"])


def _candidate(name: str) -> Candidate:
    return next(each for each in CANDIDATES if each.name == name)


def chosen(forecasts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Two that say yes and two that say no, the first of each; where fewer say so, those nearest to it."""
    names = list(forecasts)
    by_change = sorted(names, key=lambda name: forecasts[name]["foretold"])
    yes = [name for name in names if forecasts[name]["yes"]][:2]
    yes += [name for name in by_change if name not in yes][: 2 - len(yes)]
    no = [name for name in names if not forecasts[name]["yes"] and name not in yes][:2]
    no += [name for name in by_change[::-1] if name not in (*yes, *no)][: 2 - len(no)]
    return [*yes, *no]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data")
    parser.add_argument("--out", type=Path, required=True, help="folder for rows and caches")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the forecasts")
    options = parser.parse_args(arguments)
    study = Pretrained(options.model, options.data, options.records)
    forecasts = {each.name: study.forecast(each, options.out) for each in CANDIDATES}
    made = {"model": options.model.name, "settings": chosen(forecasts), "forecasts": forecasts}
    publish_file(options.records / FORECASTS, json.dumps(made, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
