"""A synthesis without a model: real families, real records and tables, and a generator that rolls dice."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.generation import Completion, Request, Sampling
from curate.plan import NOT_HARD, Demand
from curate.records import record_text
from curate.request_store import RequestStore
from curate.synthesis.families import Family, Method, Parent
from curate.synthesis.parents import Parents
from curate.synthesis.prompts import DEFAULT_SOLUTION_PROMPT, DEFAULT_VARIATION_PROMPT
from curate.synthesis.realize import _record, _rejected
from curate.synthesis.rows import attempts_table
from curate.synthesis.work import Work
from curate.verify import Verdict
from curate.verify.pass_rate import Band

__all__ = ["MODEL", "write_synthesis"]

MODEL = "Qwen/Qwen2.5-Math-1.5B-Instruct"
_GOODS = ("apples", "rolls of tape", "postcards", "bricks", "tickets", "jars of honey", "bus seats", "pencils")
_PEOPLE = ("A baker", "The school library", "Mrs. Okafor", "A small ferry", "Two sisters", "The night watchman")


def _parent(row: int, example_id: str, dice: np.random.Generator, hostile: str) -> Parent:
    crates, each, given = (int(value) for value in dice.integers((3, 6, 2), (12, 40, 5)))
    goods, who = dice.choice(_GOODS), dice.choice(_PEOPLE)
    answer = crates * each - given * crates
    problem = (
        f"{who} buys {crates} crates with {each} {goods} each. From every crate {given} are given away. "
        f"How many {goods} are left?{hostile}"
    )
    solution = (
        f"There are {crates} * {each} = {crates * each} {goods} at first. {given} * {crates} = {given * crates} are "
        f"given away.\nSo {crates * each} - {given * crates} = {answer} are left.\n#### {answer}{hostile}"
    )
    return Parent(row, example_id, problem, solution, str(answer))


class _Dice:
    """Answers requests as a generator would: `faults` of the replies hold no problem, `skill` solve on average."""

    def __init__(self, dice: np.random.Generator, faults: float, skill: float, hostile: str) -> None:
        self.dice, self.faults, self.skill, self.hostile = dice, faults, skill, hostile
        self.asked = 0

    def serve(self, queue: Any) -> None:
        while requests := queue.take(16):
            for request in requests:
                queue.done(request, self._completion(request))

    def _completion(self, request: Request) -> Completion:
        self.asked += 1
        says = request.prompt[0]["content"]
        solving = "Work it out" in says
        text, reason = self._solution(says) if solving else self._proposal(says)
        tokens = len(text) // 4 + int(self.dice.integers(40, 200))
        return Completion(text, reason, len(says) // 4, tokens)

    def _proposal(self, says: str) -> tuple[str, Any]:
        lot, goods, who = self.dice.random(), self.dice.choice(_GOODS), self.dice.choice(_PEOPLE)
        if lot < self.faults:
            return f"Sure! Let us think about the solution step by step. First, note that{self.hostile}", "stop"
        if lot < self.faults + 0.04:
            return "```text\nA train leaves the station with", "length"
        a, b, c = (int(value) for value in self.dice.integers((3, 6, 2), (12, 40, 9)))
        leak = " The answer is 12." if lot > 0.95 else ""
        mark = "SOURCE " if 0.88 < lot < 0.95 else "EVALUATION " if 0.87 < lot < 0.88 else ""
        # Control characters are a reason to reject a problem, other hostile ones are not.
        hostile = "".join(each for each in self.hostile if unicodedata.category(each) != "Cc")
        body = (
            f"{mark}{who} packs {a} boxes of {b} {goods}. Before they leave the house, {c} of every box turn out to be "
            f"broken and are sorted out. In the evening a friend asks how many good {goods} were packed "
            f"(number {self.asked}). What is the right reply?{leak}{hostile}"
        )
        return f"```text\n{body}\n```", "stop"

    def _solution(self, says: str) -> tuple[str, Any]:
        problem = int(says.partition("(number ")[2].partition(")")[0])
        chance = np.random.default_rng(problem).beta(2 * self.skill, 2 * (1 - self.skill))
        lot = self.dice.random()
        if lot > 0.99:
            return "The reply is \\boxed{\\text{some}}", "stop"
        right = "right" if lot < chance else "wrong"
        steps = "".join(f"Step {k}: take box {k} and count what is good in it.\n" for k in range(1, 5))
        return f"{steps}Adding up gives the total.\n\\boxed{{{right}}}{self.hostile}", "stop"


def _grade(text: str, answer: str) -> Verdict:
    return Verdict.right if "{right}" in text else Verdict.wrong if "{wrong}" in text else Verdict.undecided


def _screen(problems: Sequence[str]) -> list[tuple[str, str] | None]:
    return [
        ("near-duplicate of source", "row-0000015 (0.83 of the shingles in common)")
        if problem.startswith("SOURCE")
        else (
            "evaluation 13-gram",
            "gsm8k test 41, “before they leave the house of every box turn out to be broken and”",
        )
        if problem.startswith("EVALUATION")
        else None
        for problem in problems
    ]


def write_synthesis(
    directory: Path,
    *,
    faults: float = 0.08,
    skill: float = 0.5,
    hard_share: float | None = 0.47,
    keep: str = "all",
    budget: int | None = None,
    hostile: str = "",
    seed: int = 0,
) -> dict[str, Any]:
    """Add to the folder of a finished run what synthesis from its hard rows leaves; its record.

    faults: share of replies without a problem. skill: mean share of right solutions. hard_share: of the kept problems,
    None = not measured.
    """
    dice = np.random.default_rng(seed)
    split = pq.read_table(directory / "tables/split.parquet").to_pandas()
    hard = np.flatnonzero(split["hard"])
    started = [_parent(row, split["example_id"][row], dice, hostile) for row in hard[4:-3].tolist()]
    method = Method(
        variants=3,
        band=Band(1, 5, 8),
        variation_sampling=Sampling(max_tokens=512),
        solution_sampling=Sampling(max_tokens=1024),
        variation_prompt=DEFAULT_VARIATION_PROMPT,
        solution_prompt=DEFAULT_SOLUTION_PROMPT,
        longest_problem=2000,
        grade=_grade,
        screen=_screen,
    )
    families = [Family(parent, method, seed) for parent in started]
    store = RequestStore(directory.parent / f"{directory.name}-store" / "requests.sqlite")
    work = Work(families, store, MODEL, budget=budget)
    work.replay()
    _Dice(dice, faults, skill, hostile).serve(work)
    stopped = work.stopped
    work.close()
    work.seconds = 0.021 * work.made  # the clock of the test must not show in the page
    for family in families[::20]:
        for variant in family.variants:
            if variant.outcome == "kept":
                variant.reject("near-duplicate of new", f"{families[0].parent.example_id}~1 (0.91)")
    settings: Any = SimpleNamespace(band=(1, 5), samples=8, variants=3, budget=budget, run_programs=False)
    settings.variation_prompt, settings.solution_prompt = DEFAULT_VARIATION_PROMPT, DEFAULT_SOLUTION_PROMPT
    demand = Demand(SimpleNamespace(of="hard"), "synthetic", seed, rows=hard[4:], suspects=4)
    found = Parents(started, Counter({"no verifiable answer": 2, "not one problem with one solution": 1}))
    record = _record(settings, demand, found, work, stopped, work.model)
    attempts = attempts_table(families, work.model, work.model)
    _add_rejected(directory, _rejected(families))
    if hard_share is not None:
        record, attempts = _measured(record, attempts, split, hard_share, keep, dice)
    pq.write_table(attempts, directory / "tables/synthesis.parquet")
    _add_rows(directory, attempts)
    run = json.loads((directory / "run.json").read_text())
    kept = record["outcomes"].get("kept", 0)
    run["synthesis"] = [record]
    run["counts"]["synthetic"] = kept
    run["counts"]["output"] += kept
    (directory / "run.json").write_text(record_text(run))
    return record


def _measured(
    record: dict[str, Any], attempts: pa.Table, split: Any, hard_share: float, keep: str, dice: np.random.Generator
) -> tuple[dict[str, Any], pa.Table]:
    """As `curate.admission` would leave both, with difficulties drawn from those of the input."""
    kept = np.array([outcome == "kept" for outcome in attempts["outcome"].to_pylist()], bool)
    again = kept & (dice.random(len(kept)) < hard_share)
    known = split.dropna(subset="difficulty")
    pools = {value: known["difficulty"][known["hard"] == value].to_numpy() for value in (True, False)}
    drawn = np.where(again, dice.choice(pools[True], len(kept)), dice.choice(pools[False], len(kept)))
    record = {**record, "rescored": {"measured": int(kept.sum()), "hard": int(again.sum()), "invalid": 0}}
    columns = {
        "rescored_hard": pa.array(again, mask=~kept),
        "difficulty": pa.array(drawn.astype(np.float32), mask=~kept),
    }
    if keep == "hard":
        outcome = np.where(kept & ~again, NOT_HARD, attempts["outcome"].to_pylist())
        columns["outcome"] = pa.array(outcome.tolist())
        record["outcomes"] = dict(sorted(Counter(outcome.tolist()).items()))
        record["funnel"] = [*record["funnel"][:-1], ["kept", int(again.sum())]]
    for name, values in columns.items():
        attempts = attempts.set_column(attempts.schema.get_field_index(name), name, values)
    return record, attempts


def _add_rejected(directory: Path, rejected: list[dict[str, Any]]) -> None:
    path = directory / "tables/rejected.parquet"
    before = pq.read_table(path)
    more = pa.Table.from_pylist(
        [{**dict.fromkeys(before.column_names), **each} for each in rejected], schema=before.schema
    )
    pq.write_table(pa.concat_tables([before, more]), path)


def _add_rows(directory: Path, attempts: pa.Table) -> None:
    path = sorted((directory / "data").iterdir())[-1]
    before = pq.read_table(path)
    new = [
        {
            "question": each["problem"],
            "answer": each["solution"],
            "example_id": each["example_id"],
            "source_id": each["source_id"],
            "origin": "synthetic",
            "difficulty": each["difficulty"],
            "hard": each["rescored_hard"],
            "generator": each["generator"],
            "pass_count": each["right"],
            "verified": True,
            "rescored_hard": each["rescored_hard"],
        }
        for each in attempts.to_pylist()
        if each["outcome"] == "kept"
    ]
    if new:
        pq.write_table(pa.concat_tables([before, pa.Table.from_pylist(new)], promote_options="permissive"), path)
