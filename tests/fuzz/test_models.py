"""Damaged and invented model files: planning and scoring with them ends in 0, 2 or 3, in bounded time and memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fixtures.models import tiny_model, write_gguf, write_model
from tests.fixtures.tokenizers import byte_level
from tests.fuzz.damage import KINDS, damage, damages
from tests.fuzz.harness import SCALES, Answer, Driver, Record, fault, fuzz, hostile_text
from tests.fuzz.recipe_strategies import damaged, plain_values, rows_file

PLAN = ["plan", "rows.jsonl", "--proxy=model", "--set=proxy.steps=2", "--set=proxy.checkpoints=2"]
SCORE = ["score", "rows.jsonl", "--limit=8", *PLAN[2:], "--set=proxy.max_length=200", "--out=scores.parquet"]
FAMILIES = ("llama", "gpt2", "gemma3", "qwen3")
BYTES = 1 << 30  # more than any of these little models takes


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per family, and one with a GGUF file."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = byte_level()
    for family in FAMILIES:
        write_model(folder / family, tokenizer, family)
    (folder / "gguf").mkdir()
    write_gguf(folder / "gguf" / "tiny.gguf", tiny_model("llama", vocab_size=len(tokenizer)), tokenizer)
    return folder


def made(folder: Path, models: Path, name: str) -> Path:
    (folder / "rows.jsonl").write_text(rows_file())
    return Path(shutil.copytree(models / name, folder / "model"))


def bounded(answer: Answer) -> Answer:
    assert answer.bytes < BYTES, f"{answer.bytes / 1e6:,.0f} MB for {answer.arguments}"
    return answer


def commands(driver: Driver, folder: Path, *, scored: bool = True) -> Iterable[Answer]:
    """Plan, and score where planning found nothing wrong."""
    planned = bounded(driver.run(PLAN, folder))
    yield planned
    if scored and planned.status == 0:
        yield bounded(driver.run(SCORE, folder))


@SCALES
def test_damaged_model_folders_are_refused_in_a_line(
    driver: Driver, models: Path, scale: int, record_property: Record
) -> None:
    def attempt(case: tuple[str, Any], folder: Path) -> Iterable[Answer]:
        family, harm = case
        damage(made(folder, models, family), harm)
        yield from commands(driver, folder)

    cases = st.tuples(st.sampled_from(FAMILIES), damages())
    fuzz("model folders, damaged", cases, attempt, record_property, scale=scale, weight=1.5)


_NUMBERS = st.sampled_from(
    [0, -1, 1, 3, 10**6, 10**9, 2**31, 2**63, 1e308, 0.5, float("nan"), float("inf"), "8", None, [], {}, [4], True]
)
_MARKS = st.sampled_from(["\x1b[31mred", "llama", "gpt2", "gelu", "silu", "float32", "no_such_type", "bert", "t5", ""])


@SCALES
def test_configurations_with_other_values_are_refused_in_a_line(
    driver: Driver, models: Path, scale: int, record_property: Record
) -> None:
    def attempt(case: tuple[str, list[tuple[int, Any]]], folder: Path) -> Iterable[Answer]:
        family, changes = case
        path = made(folder, models, family) / "config.json"
        config = json.loads(path.read_text())
        for which, value in changes:
            config[sorted(config)[which % len(config)]] = value
        path.write_text(json.dumps(config))
        yield from commands(driver, folder)

    values = st.one_of(_NUMBERS, _NUMBERS, _MARKS, hostile_text(), plain_values())
    change = st.tuples(st.integers(0, 10**6), values)
    cases = st.tuples(st.sampled_from(FAMILIES), st.lists(change, min_size=1, max_size=3))
    fuzz("model configurations", cases, attempt, record_property, scale=scale, weight=2)


def test_escapes_in_a_type_of_model_are_shown_instead_of_sent(driver: Driver, models: Path, tmp_path: Path) -> None:
    path = made(tmp_path, models, "gpt2") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "\x1b[31mred\x08"}))
    answer = driver.run(PLAN, tmp_path)
    assert fault(answer) is None
    assert "␛[31mred␈" in answer.errors


@SCALES
def test_tokenizer_files_with_other_values_are_refused_in_a_line(
    driver: Driver, models: Path, scale: int, record_property: Record
) -> None:
    names = ["tokenizer.json", "tokenizer_config.json"]
    originals = {name: (models / "llama" / name).read_text() for name in names}

    def attempt(case: tuple[str, Any], folder: Path) -> Iterable[Answer]:
        name, value = case
        (made(folder, models, "llama") / name).write_text(json.dumps(value))
        yield from commands(driver, folder)

    def harmed(name: str) -> st.SearchStrategy[Any]:
        whole = json.loads(originals[name])
        if "model" in whole:  # the tables are long; one of their entries is hit rarely
            whole["model"] |= {
                "vocab": dict(list(whole["model"]["vocab"].items())),
                "merges": whole["model"]["merges"][:9],
            }
        return st.tuples(st.just(name), damaged(st.just(whole)))

    fuzz("tokenizer files", st.sampled_from(names).flatmap(harmed), attempt, record_property, scale=scale)


def headers() -> st.SearchStrategy[Any]:
    """Headers of safetensors files: a length, and what is there."""
    types = st.sampled_from(["F32", "F16", "BF16", "I64", "U8", "BOOL", "F4", "F8_E4M3", "nonsense", 5])
    shapes = st.one_of(st.lists(st.sampled_from([0, 1, 32, 64, -1, 2**40, 2**63]), max_size=3), plain_values())
    offsets = st.one_of(
        st.lists(st.sampled_from([0, 4, 128, 4096, -8, 2**50, 2**64]), min_size=2, max_size=2), plain_values()
    )
    entry = st.one_of(st.fixed_dictionaries({"dtype": types, "shape": shapes, "data_offsets": offsets}), plain_values())
    names = st.one_of(st.sampled_from(["model.norm.weight", "lm_head.weight", "__metadata__"]), hostile_text())
    return st.one_of(st.dictionaries(names, entry, max_size=4), plain_values())


@SCALES
def test_headers_of_any_kind_are_refused_in_a_line(
    driver: Driver, models: Path, scale: int, record_property: Record
) -> None:
    def attempt(case: tuple[Any, int | None, int], folder: Path) -> Iterable[Answer]:
        header, length, rest = case
        text = json.dumps(header).encode()
        size = (len(text) if length is None else length) % 2**64
        (made(folder, models, "llama") / "model.safetensors").write_bytes(
            size.to_bytes(8, "little") + text + bytes(rest)
        )
        yield from commands(driver, folder)

    lengths = st.sampled_from([None, None, None, 0, 1, 10**8, 10**9, 2**63, 2**64 - 1])
    cases = st.tuples(headers(), lengths, st.sampled_from([0, 4096, 100_000]))
    fuzz("safetensors headers", cases, attempt, record_property, scale=scale)


@SCALES
def test_damaged_gguf_files_are_refused_in_a_line(
    driver: Driver, models: Path, scale: int, record_property: Record
) -> None:
    kinds = tuple(kind for kind in KINDS if kind not in ("json", "swap"))

    def attempt(harm: Any, folder: Path) -> Iterable[Answer]:
        # Most of the file is weights, where nothing can be noticed; its beginning says what they are.
        near = [
            (which, kind, where % 4000 if where % 3 else where, some, value) for which, kind, where, some, value in harm
        ]
        damage(made(folder, models, "gguf"), near)
        yield from commands(driver, folder)

    fuzz("GGUF files, damaged", damages(kinds), attempt, record_property, scale=scale, weight=1.5)


@SCALES
def test_whole_models_of_any_small_shape_are_scored(driver: Driver, scale: int, record_property: Record) -> None:
    tokenizer = byte_level()

    def attempt(case: tuple[str, dict[str, int]], folder: Path) -> Iterable[Answer]:
        family, shape = case
        (folder / "rows.jsonl").write_text(rows_file())
        write_model(folder / "model", tokenizer, family, **shape)
        yield from commands(driver, folder)

    shapes = st.fixed_dictionaries(
        {}, optional={"hidden_size": st.sampled_from([16, 32, 64]), "intermediate_size": st.integers(8, 64)}
    )
    cases = st.tuples(st.sampled_from(["llama", "qwen2", "mistral", "llama_tied"]), shapes)
    fuzz("models, valid", cases, attempt, record_property, scale=min(scale, 12), weight=0.4, valid=True)


# -- sizes that no model has -----------------------------------------------------------------------------------------


def test_a_million_layers_are_refused_before_any_is_built(driver: Driver, models: Path, tmp_path: Path) -> None:
    for family, key in (("llama", "num_hidden_layers"), ("gpt2", "n_layer"), ("qwen3", "num_hidden_layers")):
        folder = tmp_path / family
        folder.mkdir()
        path = made(folder, models, family) / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: 1_000_000, "layer_types": None}))
        for words in (PLAN, SCORE):
            answer = bounded(driver.run(words, folder))
            assert answer.status == 2
            assert "1,000,000" in answer.line


def test_a_header_of_600_000_tensors_is_refused_before_it_is_read(driver: Driver, models: Path, tmp_path: Path) -> None:
    entries = {
        f"layers.{k}.weight": {"dtype": "F32", "shape": [1], "data_offsets": [4 * k, 4 * k + 4]} for k in range(600_000)
    }
    text = json.dumps(entries).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(4 * len(entries))
    (made(tmp_path, models, "llama") / "model.safetensors").write_bytes(content)
    for words in (PLAN, SCORE):
        answer = driver.run(words, tmp_path)
        assert answer.status == 2, answer.errors
        assert answer.bytes < 100 << 20
        assert "header" in answer.line
