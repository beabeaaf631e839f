"""Rows of the files that the families gym and word_problems draw from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.when.language import Material, with_faults
from benchmarks.when.settings import Setting
from curate.errors import InputError
from curate.seeds import derive_seed

DATA = Path("../shared/data")
Rows = list[dict[str, Any]]


@lru_cache(maxsize=8)
def stored_rows(folder: Path, name: str) -> tuple[dict[str, Any], ...]:
    """The rows of NAME.parquet. InputError where the file is not there."""
    return tuple(pq.read_table(place_of(folder, name)).to_pylist())


def place_of(folder: Path, name: str) -> Path:
    """Path of NAME.parquet. InputError where it is not there."""
    place = folder / f"{name}.parquet"
    if not place.is_file():
        raise InputError(f"{place} is missing; name its folder with --data DIR, or leave its family out (--families)")
    return place


def known_part(row: Mapping[str, Any]) -> bool:
    """Whether a row belongs to the half that models may know beforehand, the same for all seeds."""
    return hashlib.blake2b(row["id"].encode(), digest_size=4).digest()[0] % 2 == 0


def material_of(
    setting: Setting,
    seed: int,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    rare: Sequence[str],
    shares: Mapping[str, float],
    test_rows: int,
) -> Material:
    """A task of rows with id, question, answer, source and group, which are drawn without replacement.

    shares: group -> share of the clean rows. rare: groups that are rare. The rows of frequent groups whose ids are in
    the known half are kept for what models know beforehand. test_rows: of each group, the same for all seeds.
    """
    bounds = np.round(np.cumsum([0.0, *shares.values()]) * setting.rows).astype(int)
    chosen: Rows = []
    for group, count in zip(shares, np.diff(bounds).tolist(), strict=True):
        pool = [row for row in train if row["group"] == group and (group in rare or not known_part(row))]
        if count > len(pool):
            raise InputError(f"{setting.family}: {count} rows of {group} are wanted and there are {len(pool)}")
        generator = np.random.default_rng(derive_seed(seed, "when", "rows", group))
        chosen += [dict(pool[i]) for i in generator.choice(len(pool), count, replace=False)]
    order = np.random.default_rng(derive_seed(seed, "when", "rows")).permutation(len(chosen))
    rows = [chosen[i] | {"rare": chosen[i]["group"] in rare, "fault": ""} for i in order]
    known = [row for row in train if row["group"] in shares and row["group"] not in rare and known_part(row)]
    question_rows: Rows = []
    for group in shares:
        pool = [row for row in test if row["group"] == group]
        places = np.random.default_rng(derive_seed(0, "when", "test", group)).permutation(len(pool))[:test_rows]
        question_rows += [dict(pool[i]) for i in places]
    names = ("id", "question", "answer", "source", "group")
    return Material(
        with_faults(table(rows, (*names, "rare", "fault")), setting.noise, seed),
        dict(shares),
        table(question_rows, names),
        table(known, names),
    )


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pa.Table:
    """The named columns of rows."""
    return pa.table({name: [row[name] for row in rows] for name in names})


def split_shares(frequent: Sequence[str], rare: Sequence[str], share: float) -> dict[str, float]:
    """Group -> share of the rows, the rare groups sharing `share` and the others the rest, each alike."""
    shares = dict.fromkeys(frequent, (1 - share) / len(frequent))
    return shares | dict.fromkeys(rare, share / len(rare))


def corpus(rows: Callable[[], Sequence[Mapping[str, Any]]]) -> Callable[[], pa.Table]:
    """What a tokenizer is made from."""
    return lambda: table(rows(), ("id", "question", "answer"))
