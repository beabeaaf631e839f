"""Run the study block by block, in as many processes as are started on it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from filelock import FileLock, Timeout

from benchmarks.when.arms import counts_of, phases_of
from benchmarks.when.family import Family, Outcome, Run, Task
from benchmarks.when.reducible_rows import reducible_rows
from benchmarks.when.settings import ARMS, BASELINE, Setting
from curate import Split, make_split
from curate.clusterers import KMeans
from curate.errors import InputError
from curate.seeds import derive_seed
from curate.storage.atomic import publish_file

# A block is one seed of one setting. DIR/FAMILY/SETTING/seed-N holds facts.json, which says what the proxy found, and a
# file per finished arm. What is there is not done again; a killed process leaves the runs of one block to do.

CURVE_POINTS = 14
CURVE_FROM = 1 / 64  # of the longest budget
HELD_OUT = 4  # one row of so many is held out for the proxy's curves
_PAUSE = 5.0  # seconds until a process looks again whether the others are done


@dataclass(frozen=True)
class Block:
    """One seed of one setting. arms: only these of its arms are wanted; None = all."""

    family: Family
    setting: Setting
    seed: int
    arms: frozenset[str] | None = None

    def folder(self, out: Path) -> Path:
        return out / self.setting.family / self.setting.name / f"seed-{self.seed}"

    def missing(self, out: Path) -> list[str]:
        """Arms without a finished run. InputError where the runs there are of another protocol."""
        folder = self.folder(out)
        facts = folder / "facts.json"
        if facts.is_file() and not _same(json.loads(facts.read_text())["setting"], self.setting.written):
            raise InputError(f"{folder} has runs with other settings; name another --out")
        wanted = [name for name in self.setting.arms if self.arms is None or name in self.arms]
        return [name for name in wanted if not (folder / f"{slug(name)}.json").is_file()]


def slug(name: str) -> str:
    """Of an arm, as its file is called."""
    return name.replace(" ", "-")


def blocks_of(
    families: Sequence[Family],
    seeds: Sequence[int] | None = None,
    arms: Sequence[str] | None = None,
    *,
    quick: bool = False,
) -> list[Block]:
    """All blocks, first seed first, so that whatever the time allows covers the map. seeds, arms: None = all."""
    named = None if arms is None else frozenset(arms)
    blocks = []
    for family in families:
        chosen = family.quick() if quick else family.settings()
        numbers = list(family.seeds())[:1] if quick else list(family.seeds())
        numbers = numbers if seeds is None else [seed for seed in seeds if quick or seed in numbers or seed >= 100]
        blocks += [Block(family, setting, seed, named) for seed in numbers for setting in chosen]
    return blocks


def work(blocks: Sequence[Block], out: Path, cache: Path, deadline: float | None) -> bool:
    """Every run that is not finished and that no other process has in hand; whether all are finished.

    deadline: seconds of the monotonic clock after which no run is begun.
    """
    import torch

    torch.set_num_threads(1)
    while pending := [block for block in blocks if block.missing(out)]:
        busy = True
        for block in pending:
            if deadline is not None and time.monotonic() > deadline:
                return False
            busy &= not _ours(block, out, cache, deadline)
        if busy:
            time.sleep(_PAUSE)
    return True


def _ours(block: Block, out: Path, cache: Path, deadline: float | None) -> bool:
    """Do the block, unless another process has it in hand or has done it; whether it was ours to do."""
    folder = block.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            missing = block.missing(out)
            if missing:
                do(block, missing, folder, cache, deadline)
            return bool(missing)
    except Timeout:
        return False


def do(block: Block, missing: Sequence[str], folder: Path, cache: Path, deadline: float | None) -> None:
    """The missing arms of a block."""
    began = time.process_time()
    setting, seed = block.setting, block.seed
    task = block.family.prepare(setting, seed, cache)
    scores = task.scores()
    split = make_split(scores, KMeans(), ids=task.rows["id"].combine_chunks(), seed=seed)
    reducible, rule = None, None
    if any(ARMS[name].reducible for name in missing):
        reducible, rule = reducible_rows(task, split, seed)
    place = folder / "facts.json"
    facts = json.loads(place.read_text()) if place.is_file() else _facts(task, setting, split, seed)
    if rule is not None or not place.is_file():
        facts |= {"reducible": rule, "seconds": round(time.process_time() - began, 1)}
        publish_file(place, json.dumps(facts) + "\n")
    began = time.process_time()
    for name, outcomes in _trained(task, setting, split, reducible, missing, seed):
        seconds = time.process_time() - began
        publish_file(folder / f"{slug(name)}.json", json.dumps(_record(name, outcomes, seconds)) + "\n")
        began = time.process_time()
        if deadline is not None and time.monotonic() > deadline:
            break
    print(f"{setting.family} {setting.name} seed {seed}", file=sys.stderr, flush=True)


def _trained(
    task: Task,
    setting: Setting,
    split: Split,
    reducible: npt.NDArray[np.bool_] | None,
    names: Sequence[str],
    seed: int,
) -> Iterator[tuple[str, list[Outcome]]]:
    """Arms with their outcomes at the budgets, those of the baseline along its curve too, as they are finished."""
    budgets = [setting.steps(budget) for budget in setting.budgets]
    runs: dict[str, Run] = {}
    for name in names:
        arm = ARMS[name]
        try:
            counts = counts_of(arm, task.rows, split, reducible, seed)
        except InputError:  # a control without a row that could serve
            yield name, []
            continue
        if arm.front:  # what was shown by a given step depends on where the end is: a run for every budget
            for steps in budgets:
                runs[f"{name}@{steps}"] = Run(phases_of(arm, counts, steps), [steps])
        else:
            at = sorted({*budgets, *(grid(setting.longest) if name == BASELINE else ())})
            runs[name] = Run(phases_of(arm, counts, budgets[-1]), at)
    parts: dict[str, list[Outcome]] = {}
    for label, outcomes in task.train(runs):
        name = label.split("@")[0]
        parts.setdefault(name, []).extend(outcomes)
        if not ARMS[name].front or len(parts[name]) == len(budgets):
            yield name, sorted(parts.pop(name), key=lambda outcome: outcome.step)


def grid(longest: int) -> list[int]:
    """Geometric steps of curves, the last one the longest budget."""
    steps = np.round(longest * CURVE_FROM ** np.linspace(1, 0, CURVE_POINTS)).astype(int)
    return sorted({max(1, step) for step in steps.tolist()})


def _facts(task: Task, setting: Setting, split: Split, seed: int) -> dict[str, Any]:
    """What the proxy says, and how true it is; nothing here is known of the arms."""
    groups, rare = np.array(task.rows["group"].to_pylist()), np.array(task.rows["rare"].to_pylist())
    wrong = np.array(task.rows["fault"].to_pylist()) != ""
    hard = split.hard
    by_group = {name: float(hard[groups == name].mean()) for name in np.unique(groups).tolist()}
    return {
        "name": setting.name,
        "setting": setting.written,
        "seed": seed,
        "mixture": {name: _short(share) for name, share in task.mixture.items()},
        "parameters": dict(task.parameters),
        "proxy_steps": task.proxy_steps,
        "hard_share": _short(hard.mean()),
        "hard_share_by_group": {name: _short(share) for name, share in by_group.items()},
        "rare_groups": sorted(set(groups[rare].tolist())),
        "rare_share": _short(rare.mean()),
        "rare_among_hard": _short(rare[hard].mean()) if hard.any() else None,
        "hard_among_rare": _short(hard[rare].mean()),
        "wrong_among_hard": _short(wrong[hard].mean()) if hard.any() else None,
        "curves": curves(task, setting, split, seed),
    }


def curves(task: Task, setting: Setting, split: Split, seed: int) -> dict[str, Any]:
    """Held-out losses by cluster, along the whole budget, of a proxy trained on three quarters of the rows."""
    generator = np.random.default_rng(derive_seed(seed, "when", "held out"))
    order = generator.permutation(len(task.rows))
    out, inside = np.sort(order[: len(order) // HELD_OUT]), np.sort(order[len(order) // HELD_OUT :])
    at = grid(setting.longest)
    measured, train = (task.rows.take(pa.array(rows)) for rows in (out, inside))
    losses = task.proxy_losses(train, measured, at, derive_seed(seed, "when", "curves"))  # (m, G)
    hard = split.hard[out]
    record = {"steps": at, "hard_rows": int(hard.sum()), "easy_rows": int((~hard).sum())}
    for name, rows in (("hard", hard), ("easy", ~hard)):
        record[name] = [_short(x) for x in losses[rows].mean(0)] if rows.any() else None
    return record


def _record(name: str, outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """seconds: of the processor since the run before was finished; of all runs of a block, where they run at once.

    An arm that there is not in this block has no steps.
    """
    groups = list(outcomes[0].groups) if outcomes else []
    tallies = {group: [outcome.groups[group] for outcome in outcomes] for group in groups}
    return {
        "arm": name,
        "steps": [outcome.step for outcome in outcomes],
        "nats": {group: [_short(t.nats / t.tokens) for t in each] for group, each in tallies.items()},
        "right": {group: [t.right for t in each] for group, each in tallies.items()},
        "tokens": {group: each[0].tokens for group, each in tallies.items()},
        "questions": {group: each[0].questions for group, each in tallies.items()},
        "seconds": round(seconds, 1),
    }


def _short(value: Any) -> float:
    return float(f"{float(value):.5g}")


def _same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two settings are the same but for their arms, of which more may be added."""
    plain = [json.loads(json.dumps({k: v for k, v in each.items() if k != "arms"})) for each in (first, second)]
    return bool(plain[0] == plain[1])
