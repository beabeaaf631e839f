"""Select input rows for inspection: the hardest, the easiest or a random sample, with their texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.console.formatting import count, one_line, share
from curate.console.presentation import Facts
from curate.data.examples import Examples
from curate.data.readers import Loaded
from curate.difficulty.scores import Split
from curate.errors import InputError, RunWarning
from curate.mixture.mixture import Mixture
from curate.mixture.plan import Plan
from curate.seeds import derive_seed
from curate.types import IntArray


def by_difficulty(split: Split, n: int, *, hardest: bool) -> IntArray:
    """(m,) positions of at most n scored rows, hardest (or easiest) first; ties keep the order of rows."""
    scored = np.flatnonzero(split.valid)
    sign = -1 if hardest else 1
    return scored[np.argsort(sign * split.difficulty[scored], kind="stable")[: _count(n)]]


def at_random(split: Split, n: int, *, hard: bool | None, seed: int) -> IntArray:
    """(m,) positions of a random sample of at most n rows. hard: only hard, or only other scored rows; None = all."""
    allowed = np.ones(len(split), np.bool_) if hard is None else split.valid & (split.hard == hard)
    rows = np.flatnonzero(allowed)
    generator = np.random.default_rng(derive_seed(seed, "sample", str(hard)))
    return generator.permutation(rows)[: _count(n)]


def described(examples: Examples, split: Split, plan: Plan, rows: IntArray) -> pa.Table:
    """The rows at `rows` (m,) as a table.

    Columns example_id, difficulty, hard, cluster, count (of the plan), the content columns of the input, and its
    source. Conversations are text, a line for each turn but the system's: so they can be read in a notebook.
    """
    names = list(
        dict.fromkeys(
            examples.columns[role] for role in (*examples.content_roles, "source") if role in examples.columns
        )
    )
    chosen = examples.take(rows)
    columns: dict[str, Any] = {
        "example_id": chosen.ids,
        "difficulty": pa.array(split.difficulty[rows], mask=~split.valid[rows]),
        "hard": split.hard[rows],
        "cluster": split.cluster[rows],
        "count": plan.counts[rows],
    }
    readable = chosen.readable
    columns |= {name: readable[name] for name in names if name not in columns}
    for role in examples.content_roles:
        texts = chosen.texts(role, 0, len(chosen)) if len(chosen) else []
        if any(isinstance(text, list) for text in texts):
            columns[examples.columns[role]] = pa.array([_spoken(text) for text in texts], pa.large_string())
    return pa.table(columns)


def _spoken(cell: Any) -> str | None:
    """A conversation as "role: content", a line per turn; without system turns, which many rows may share."""
    if not isinstance(cell, list):
        return None if cell is None else str(cell)
    turns = [turn for turn in cell if isinstance(turn, dict)]
    shown = [turn for turn in turns if turn.get("role") not in ("system", "developer")] or turns
    return "\n".join(f"{turn.get('role')}: {_content(turn)}" for turn in shown)


def _content(turn: dict[str, Any]) -> str:
    """What a turn says, and otherwise its calls."""
    rest = {key: value for key, value in turn.items() if key != "role" and value is not None}
    content = rest.get("content")
    return content if isinstance(content, str) and content else json.dumps(rest, ensure_ascii=False, default=str)


def first_words(examples: Examples, rows: IntArray, limit: int = 80) -> list[str]:
    """The beginning of the first content column of the rows at `rows` (m,), on one line."""
    role = next(iter(examples.content_roles), None)
    if role is None or not len(rows):
        return [""] * len(rows)
    chosen = examples.take(rows)
    return [one_line(_said(cell), limit) for cell in chosen.texts(role, 0, len(chosen))]


def _said(cell: Any) -> str:
    """The text of a cell; of a conversation, that of its first user turn."""
    if not isinstance(cell, list):
        return "" if cell is None else str(cell)
    turns = [turn for turn in cell if isinstance(turn, dict)]
    user_turns = [turn for turn in turns if turn.get("role") == "user"] or turns
    return str(user_turns[0].get("content") or "") if user_turns else ""


def _count(n: int) -> int:
    if n < 1:
        raise InputError(f"{n} rows cannot be shown; give a number of at least 1")
    return n


def curated_summary(
    loaded: Loaded, split: Split, mixture: Mixture, warnings: Sequence[RunWarning], path: Path | None
) -> Facts:
    """The summary of a result in a few lines. path: its folder, None if it is not written yet."""
    hard, scored = int(split.hard.sum()), int(split.valid.sum())
    origins = pc.value_counts(mixture.columns().column("origin")).to_pylist()
    by_origin = ", ".join(f"{count(origin['counts'])} {origin['values']}" for origin in origins)
    facts = [
        ("data", f"{loaded.description}, shape {loaded.examples.shape}"),
        ("hard", f"{count(hard)} of {count(scored)} scored rows" + (f" ({share(hard / scored)})" if scored else "")),
        ("rows", by_origin),
    ]
    facts += [("warning", f"{warning.message} {warning.remedy}") for warning in warnings[:4]]
    if len(warnings) > 4:
        facts.append(("warning", f"and {len(warnings) - 4} more in .warnings"))
    facts.append(("folder", "not written yet: .write(DIR)" if path is None else str(path)))
    facts.append(("see", ".hardest(10)  .sample(10, hard=True)  .plot()  .forecast()  .to_pandas()  .open_report()"))
    return Facts(f"Curated: {count(len(split))} rows in, {count(len(mixture))} rows out", tuple(facts))
