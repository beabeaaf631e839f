"""The table of word problems: right sums, no repeats, and disjoint splits."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from curate.errors import InputError
from curate.word_problems.table import FAMILIES, LEVELS, SPLITS, generate

EQUATION = re.compile(r"(?<![\w.])([\d(][\d./()*+ -]*) = (-?\d+(?:\.\d+|/\d+)?)")
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:/\d+)?")


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return generate(4000, seed=3, mixture={1: 1, 2: 1, 3: 1, 4: 1})


def evaluate(expression: str) -> Fraction:
    """Exact value: every literal becomes a Fraction before Python applies its own precedence."""
    code = re.sub(r"\d+(?:\.\d+)?", r"F('\g<0>')", expression)
    return eval(code, {"__builtins__": {}, "F": Fraction})


def test_same_arguments_same_table_and_other_seeds_differ() -> None:
    first = generate(300, seed=1)
    assert first.equals(generate(300, seed=1))
    assert not first.equals(generate(300, seed=2))
    assert not first.equals(generate(300, seed=1, split="test"))


def test_bytes_stay_the_same_across_versions() -> None:
    row = generate(3, seed=0).to_pylist()[0]
    assert (row["id"], row["final_answer"], row["level"]) == ("mixtures-bd628ec6d6fac68ec124", "24", 2)


def test_columns_and_types(table: pa.Table) -> None:
    assert table.schema.names == ["id", "question", "answer", "final_answer", "source", "level", "steps"]
    assert [str(kind) for kind in table.schema.types] == ["string"] * 5 + ["int8"] * 2
    assert all(column.null_count == 0 for column in table.columns)


@pytest.mark.slow
def test_no_question_and_no_id_twice() -> None:
    big = generate(20_000)
    assert len(set(big["question"].to_pylist())) == len(set(big["id"].to_pylist())) == 20_000


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_level_has_many_questions_even_held_out(family: str) -> None:
    for level in LEVELS:
        for split in SPLITS:
            part = generate(200, families=[family], levels=[level], split=split)
            assert len(set(part["question"].to_pylist())) == 200


def test_splits_share_neither_questions_nor_numbers() -> None:
    seen: dict[str, str] = {}
    for seed, split in enumerate(["train", "validation", "test", "train"]):
        for question in generate(1500, seed=seed, split=split)["question"].to_pylist():
            numbers = " ".join(re.findall(r"\d+", question))
            assert seen.setdefault(numbers, split) == split
    assert set(seen.values()) == set(SPLITS)


def test_mixture_is_exact_to_rounding() -> None:
    default = generate(1000)
    assert Counter(default["level"].to_pylist()) == {1: 400, 2: 300, 3: 200, 4: 100}
    per_level = Counter(zip(default["level"].to_pylist(), default["source"].to_pylist(), strict=True))
    assert all(abs(count - {1: 50, 2: 37.5, 3: 25, 4: 12.5}[level]) < 1 for (level, _), count in per_level.items())
    uneven = generate(101, mixture={4: 2, 1: 1}, families=["ages", "work"])
    counts = Counter(zip(uneven["level"].to_pylist(), uneven["source"].to_pylist(), strict=True))
    assert counts == {(1, "ages"): 17, (1, "work"): 17, (4, "ages"): 34, (4, "work"): 33}
    assert Counter(generate(70, levels=[1, 2])["level"].to_pylist()) == {1: 40, 2: 30}


def test_rows_are_shuffled() -> None:
    levels = np.array(generate(2000)["level"].to_pylist())
    assert abs(levels[:1000].mean() - levels[1000:].mean()) < 0.2


def test_every_equation_holds_and_the_last_one_is_the_answer(table: pa.Table) -> None:
    for row in table.to_pylist():
        *lines, last = row["answer"].split("\n")
        assert last == f"#### {row['final_answer']}"
        equations = [match for line in lines for match in EQUATION.findall(line)]
        assert len(equations) == row["steps"] == row["answer"].count(" = "), row["answer"]
        for left, right in equations:
            assert evaluate(left) == Fraction(right), row["answer"]
        assert equations[-1][1] == row["final_answer"]


def test_every_step_is_needed(table: pa.Table) -> None:
    for row in table.to_pylist():
        equations = EQUATION.findall(row["answer"])
        for position, (_, result) in enumerate(equations[:-1]):
            later = [number for left, _ in equations[position + 1 :] for number in NUMBER.findall(left)]
            assert result in later, row["answer"]


def test_no_negative_numbers(table: pa.Table) -> None:
    assert not re.search(r"(?<!\d )-\s?\d|- -", "\n".join(table["answer"].to_pylist()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "train, validation, test"),
        ({"families": ["chess"]}, "shopping"),
        ({"families": []}, "at least one"),
        ({"levels": [5]}, "1, 2, 3, 4"),
        ({"levels": [1, 1]}, "each once"),
        ({"mixture": {1: 1.0, 2: 0.0}}, "positive"),
        ({"mixture": {1: 1.0, 2: float("nan")}}, "positive"),
        ({"mixture": {1: 1.0}, "levels": [1, 2]}, "give one of them"),
        ({"n": 0}, "at least one row"),
    ],
)
def test_bad_arguments_name_the_remedy(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(**arguments)


def test_import_is_light() -> None:
    heavy = ("torch", "pandas", "sklearn", "datasets")
    code = f"import curate.word_problems.table, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
