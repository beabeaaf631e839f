"""Domain science: questions of ARC and OpenBookQA, with the right choice as the completion."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.seeds import derive_seed

# A small model cannot know the answers, so what is measured is the loss on them. Nothing is known of their difficulty
# but where they come from, which stands as the level.

_CHOICES = re.compile(r"\s*Answer\d+:\s*")


def science(path: Path, n: int, part: str, seed: int) -> pa.Table:
    """n rows in random order, with the columns of `problems`.

    part: "pretrain" and "train" share out the training rows by halves, the same for every seed; "balanced" takes as
    many test rows of every source, "mixture" test rows as they come. Fewer rows where there are fewer.
    """
    split = "test" if part in ("balanced", "mixture") else "train"
    rows = [row for row in pq.read_table(path).to_pylist() if row["split"] == split]
    rng = np.random.default_rng(derive_seed(seed, "reproduction", "science", part))
    if split == "train":
        halves = np.random.default_rng(derive_seed(0, "reproduction", "science")).permutation(len(rows))
        half = halves[: len(rows) // 2] if part == "pretrain" else halves[len(rows) // 2 :]
        rows = [rows[i] for i in half]
    order = rng.permutation(len(rows)).tolist()
    if part == "balanced":
        sources = sorted({row["source"] for row in rows})
        rows_by_source = [[i for i in order if rows[i]["source"] == source][: n // len(sources)] for source in sources]
        order = [i for members in rows_by_source for i in members]
    names = ("id", "question", "answer", "final_answer", "source", "level")
    chosen_rows = [_row(rows[i]) for i in order[:n]]
    return pa.table({name: [row[k] for row in chosen_rows] for k, name in enumerate(names)})


def _row(row: dict[str, str]) -> tuple[str, str, str, str, str, str]:
    stem, choices = row["question"].split("\n\n", 1)
    texts = _CHOICES.split(choices.rsplit("\n\n", 1)[0])[1:]
    number = int(row["final_answer"].removeprefix("answer"))
    return row["id"], stem, texts[number - 1].strip(), row["final_answer"], row["source"], row["source"]
