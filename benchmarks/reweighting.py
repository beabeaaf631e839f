"""Compare reweighters that target a domain with equal and fixed importance weights, on a small scale."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from benchmarks.reproduction.preparation import loaded, prepare, tokens_of
from benchmarks.reproduction.problems import LEVELS, problems
from benchmarks.reproduction.settings import FROZEN
from curate.models.scoring import score_losses
from curate.reweighters import ADAPT, DGA, GivenWeights
from curate.reweighters.dga import importance_basis
from curate.seeds import derive_seed
from curate.storage.atomic import publish_file
from curate.tokenization.tokens import Tokens
from curate.training.config import TrainConfig
from curate.training.loop import train
from curate.training.reweighting import TrainingRows

_DETAILS = """\
    python -m benchmarks.reweighting --out DIR [--models DIR] [--seeds 0,1,2] [--record FILE]

Rows are the arithmetic problems of the reproduction, in sixteen domains (four families of four levels); the target is
two of these domains. A small transformer that was pretrained on the two lower levels is fine-tuned on rows of all
domains alike and asked for nats per token on held-out problems of the target.

dga: DGA claims to beat importance sampling where the generic data is small, and where specialized data is scarce. Both,
and a third with enough of each, against equal weights and against fixed importance weights (how often each
domain is the nearest to a row of the target).
adapt: similarity to anchors of the target, against equal weights for as many steps, and for as many operations.

--models: where the reproduction keeps its pretrained models. What is done is kept in DIR; the same command resumes.
"""

TARGET = ("chain-3", "sum-3")
BATCH, STEPS, RATE = 32, 120, 1e-3
ASKED = 240  # held-out problems of the target
# Rows of generic data, and rows of the target that the method sees.
SCENARIOS = {"small generic set": (320, 64), "scarce specialized data": (4800, 6), "enough of both": (4800, 64)}
_DGA = {"target": "target", "domains": "domain", "refresh_every": 5, "eta": 2.0}
METHODS: dict[str, Any] = {
    "uniform": None,
    "importance": GivenWeights(column="importance"),
    "dga": DGA(**_DGA),
    "dga, smoothed": DGA(**_DGA, smoothing=0.3),
    "dga, basis of 4": DGA(**_DGA, basis=4),
}
_ADAPT = {"anchors": "target", "mean_one": True}
ADAPTS: dict[str, Any] = {
    "uniform": None,
    "uniform, as many operations": None,
    "adapt, as published": ADAPT(anchors="target", refresh_every=20),
    "adapt, centered": ADAPT(**_ADAPT, centered=True, tau=0.05, refresh_every=20),
    "adapt, bm25": ADAPT(**_ADAPT, similarity="bm25", centered=True, tau=0.1),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="of the reproduction (made in DIR where they are not there)")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    runs = []
    for seed in (int(each) for each in options.seeds.split(",")):
        for scenario in SCENARIOS:
            runs += [_kept(options, "dga", scenario, name, METHODS[name], seed) for name in METHODS]
        runs += [_kept(options, "adapt", "enough of both", name, ADAPTS[name], seed) for name in ADAPTS]
    record = {
        "command": shlex.join(["python", "-m", "benchmarks.reweighting", *(arguments or sys.argv[1:])]),
        "settings": {"steps": options.steps, "batch": BATCH, "rate": RATE, "target": TARGET, "scenarios": SCENARIOS},
        "summary": summarize(runs),
        "runs": runs,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
    }
    for each in record["summary"]:
        print("{part:<6} {scenario:<24} {method:<28} {nll:.4f}  {change:+.1%}  ({seeds})".format(**each))
    if options.record:
        options.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


def summarize(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per part, scenario and method: mean nll over seeds, and the change against `uniform`, seed by seed."""
    by_run: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        by_run[run["part"], run["scenario"]][run["method"]][run["seed"]] = run["nll"]
    rows = []
    for (part, scenario), methods in by_run.items():
        for method, by_seed in methods.items():
            changes = [nll / methods["uniform"][seed] - 1 for seed, nll in by_seed.items()]
            rows.append(
                {
                    "part": part,
                    "scenario": scenario,
                    "method": method,
                    "nll": float(np.mean(list(by_seed.values()))),
                    "change": float(np.mean(changes)),
                    "seeds": ", ".join(f"{change:+.1%}" for change in changes),
                }
            )
    return rows


def _kept(options: Any, part: str, scenario: str, method: str, reweighter: Any, seed: int) -> dict[str, Any]:
    """A run, from DIR where it is there."""
    path = options.out / f"{part}-{scenario}-{method}-{seed}.json".replace(" ", "-").replace(",", "")
    if not path.is_file():
        models = options.models or options.out / "models"
        prepared = prepare(FROZEN, seed, models / f"seed-{seed}")
        run_record = _run(prepared, part, scenario, method, reweighter, seed, options.steps)
        publish_file(path, json.dumps(run_record) + "\n")
        print(path.stem, f"{run_record['nll']:.4f}", f"{run_record['seconds']:.0f} s", file=sys.stderr, flush=True)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def domains(rows: int, split: str, seed: int, only: tuple[str, ...] | None = None) -> pa.Table:
    """Problems with a column `domain`, as many of each domain; only: of these."""
    some = rows if only is None else rows * 16 // len(only)
    table = problems(max(some, 16), dict.fromkeys(LEVELS, 1.0), split, derive_seed(seed, "reweighting", split, rows))
    names = pc.binary_join_element_wise(table["source"], table["level"], "-")
    table = table.append_column("domain", names)
    return table if only is None else table.filter(pc.is_in(names, pa.array(only))).slice(0, rows)


def _run(
    prepared: Any, part: str, scenario: str, method: str, reweighter: Any, seed: int, steps: int
) -> dict[str, Any]:
    generic, specialized = SCENARIOS[scenario]
    table = domains(generic, "train", seed)
    target = domains(specialized, "pretrain", seed, TARGET)
    tokens, further, asked = (
        tokens_of(loaded(each), prepared.tokenizer, FROZEN)
        for each in (table, target, domains(ASKED, "test", 0, TARGET))
    )
    names = sorted(set(table["domain"].to_pylist()))
    index = np.array([names.index(each) for each in table["domain"].to_pylist()])
    importance = importance_basis(tokens, index, further, 2, seed)[1]
    shares = np.bincount(index, tokens.completion_tokens) / tokens.completion_tokens.sum()
    columns = {"domain": table["domain"].to_pylist(), "importance": (importance / shares)[index].tolist()}
    rows = TrainingRows(columns, "domain", lambda *_: further)
    if method == "uniform, as many operations":
        # An embedding of the anchors every 20 steps is a forward pass; a step is one and a backward pass of two.
        steps = round(steps * (1 + further.lengths.sum() / 20 / (3 * BATCH * tokens.lengths.mean())))
    config = TrainConfig(
        steps=steps, batch_size=BATCH, learning_rate=RATE, precision="float32", seed=seed, micro_batch_tokens=65_536
    )
    model, began = prepared.model(), time.process_time()
    before = _nll(model, asked)
    (last,) = train(model, tokens, config, checkpoint_steps=[steps], reweighter=reweighter, rows=rows)
    found = _nll(model, asked)
    live = None if last.reweighting is None else last.reweighting.live
    mixture = dict(zip(names, live.alpha.round(4).tolist(), strict=True)) if method.startswith("dga") else None
    return {
        "part": part,
        "scenario": scenario,
        "method": method,
        "seed": seed,
        "steps": steps,
        "epochs": round(steps * BATCH / len(table), 2),
        "nll_before": before,
        "nll": found,
        "mixture": mixture,
        "importance": dict(zip(names, importance.round(4).tolist(), strict=True)) if method == "importance" else None,
        "seconds": round(time.process_time() - began, 1),
    }


def _nll(model: Any, asked: Tokens) -> float:
    """Nats per token over all completion tokens of the target's problems."""
    losses = score_losses(model, asked, precision="float32", compile=False)
    return float(losses @ asked.completion_tokens / asked.completion_tokens.sum())


if __name__ == "__main__":
    sys.exit(main())
