"""Read the training rows of a fine-tuning run with their curation cost, and offer them to reweighters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.component import Component
from curate.data.examples import Examples
from curate.data.readers import Loaded, read
from curate.dataset_reference import FurtherData
from curate.errors import InputError
from curate.storage.places import expanded, is_url, without_secrets
from curate.storage.records import parse_record, peek, read_record
from curate.storage.remote import Remote, remote
from curate.tokenization.tokens import Tokens
from curate.training.reweighting import TrainingRows
from curate.types import IntArray

_REMEDY = "rerun the command that wrote it with --fresh"


@dataclass(frozen=True)
class TrainingData:
    """examples: training rows. name: short name of the data, the default of `arm`. origins: number of rows by origin.

    curation: cost of making the data, in the form of a fine-tuning run's run.json; None if it was not curated by us.
    notes: lines to show to the user. reading: options of `curate.read` that give these rows again.
    weighted: whether curation gave the rows weights that only GivenWeights uses. front: whether copies,
    or those weights, are for the first part of training. epochs: number of epochs that the rows make up.
    rows: (n,) int64 position of each example in the input as read. drop: whether unusable rows are left out instead
    of raising an error. rejected: records of rows left out, see `curate.data.readers.Loaded`.
    """

    examples: Examples
    description: str
    name: str
    origins: dict[str, int]
    curation: dict[str, Any] | None
    rows: IntArray
    notes: tuple[str, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)
    weighted: bool = False
    front: bool = False
    epochs: int = 1
    drop: bool = False
    rejected: tuple[dict[str, Any], ...] = ()


def training_data(data: Any, reading: Mapping[str, Any]) -> TrainingData:
    """Read `data`: anything that `curate.read` accepts with its options, Examples, or the result of `curate.read`.

    A folder written by `curate run` is read with the columns and shape it was curated with.
    """
    if isinstance(data, Examples):
        return TrainingData(data, "examples", "data", _origins(data.table), None, np.arange(len(data)))
    record: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if not isinstance(data, Loaded):
        options, record = curated_reading(data, reading)
        data, name = read(data, allow_curated=True, **options), _name(data)
    else:
        name = _name(data.description)
    return TrainingData(
        data.examples,
        data.description,
        name,
        origins=_origins(data.examples.table),
        curation=_curation(record) if record else None,
        rows=data.rows,
        notes=tuple(data.notes),
        reading={key: value for key, value in options.items() if value is not None},
        weighted="output_weighted" in record.get("counts", {}),
        front=_in_front(record),
        epochs=1 if _in_front(record) else len(record.get("parts") or [None]),
        drop=data.on_bad_row == "drop",
        rejected=tuple(data.rejected),
    )


def curated_reading(data: Any, reading: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of `curate.read` for the data, and its run.json if `curate run` wrote the folder (else empty).

    Such a folder is read with the columns and shape it was curated with, unless `reading` names others.
    """
    options = dict(reading)
    record = _curated(data) if isinstance(data, str | Path) else {}
    if record and options.get("columns") is None and options.get("shape") is None:
        options |= {"columns": _columns(record), "shape": record["data"]["shape"]}
    return options, record


def _name(data: Any) -> str:
    """File or folder name without its ending; for a hub id, its last part."""
    if not isinstance(data, str | Path):
        return "data"
    path = Path(without_secrets(str(data))) if is_url(data) else expanded(data)
    path = path.resolve() if path.exists() else path
    return (path.name if path.is_dir() else path.stem) or "data"


def _origins(table: pa.Table) -> dict[str, int]:
    """Number of rows by origin; rows count as originals unless the data say otherwise."""
    if "origin" not in table.column_names or not pa.types.is_string(table.schema.field("origin").type):
        return {"original": table.num_rows}
    counts = pc.value_counts(table["origin"].combine_chunks()).to_pylist()
    return dict(sorted((str(count["values"]), int(count["counts"])) for count in counts))


def _curated(data: str | Path) -> dict[str, Any]:
    """The run.json of a folder, or of one behind a URL, written by `curate run`; else empty."""
    if is_url(data):
        return _curated_at(remote(str(data)))
    folder = expanded(data)
    path = folder / "run.json"
    if not path.is_file():
        return {}
    record = peek(path)
    if record.get("kind") == "finetune":
        raise InputError(f"{folder} is a fine-tuning run, not data; name a dataset")
    if not isinstance(record.get("data"), dict) or "shape" not in record["data"]:
        return {}
    return read_record(path, _REMEDY)


def _curated_at(place: Remote) -> dict[str, Any]:
    content = None if place.is_web or place.is_pattern else place.join("run.json").read()
    if content is None:
        return {}
    record = parse_record(content, f"{place}/run.json", _REMEDY)
    return record if "shape" in (record.get("data") or {}) else {}


def _in_front(record: dict[str, Any]) -> bool:
    recipe = record.get("recipe")
    return isinstance(recipe, dict) and recipe.get("order") == "front"


def _columns(record: dict[str, Any]) -> dict[str, str]:
    # Ids are those of curation: copies share the id of the input.
    return {role: name for role, name in record["data"].get("columns", {}).items() if role != "id"}


def _curation(record: dict[str, Any]) -> dict[str, Any]:
    """Cost of curation: wall time of that run, tokens through its proxy, requests and tokens of its generator.

    Work read from the cache counts in tokens but not in seconds.
    """
    cost, proxy = record.get("cost") or {}, record.get("proxy") or {}
    synthesis = record.get("synthesis") or []
    stages = sum(int(stage.get("tokens") or 0) for stage in cost.get("stages") or [] if not stage.get("cached"))
    return {
        "seconds": cost.get("seconds"),
        "tokens": max(stages, int(proxy.get("tokens_trained") or 0)),
        "proxy_parameters": proxy.get("parameters", cost.get("parameters")),
        "requests": sum(sum(stage["requests"].values()) for stage in synthesis if "requests" in stage),
        "generated_tokens": sum(int(stage["tokens"]["generated"]) for stage in synthesis if "tokens" in stage),
    }


def training_rows(examples: Examples, tokenize: Callable[[Examples], Tokens]) -> TrainingRows:
    """The columns of a run's rows that a reweighter may read. tokenize: tokenizes further examples like the rows."""

    def further(data: Any, reading: Mapping[str, Any]) -> Tokens:
        return tokenize(read(data, allow_curated=True, **reading).examples)

    return TrainingRows(_Columns(examples.table), examples.columns.get("source"), further)


class _Columns(Mapping[str, list[Any]]):
    """The columns of a table by name, converted to Python values on access."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self.table.column_names:
            raise KeyError(name)
        return list(self.table[name].to_pylist())

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.column_names)

    def __len__(self) -> int:
        return len(self.table.column_names)


def further_data(reweighter: Any) -> dict[str, str]:
    """Name of each parameter that is a dataset -> fingerprint of its rows, so that a changed file makes another run."""
    if not isinstance(reweighter, Component):
        return {}
    values = {name: getattr(reweighter, name) for name in type(reweighter).model_fields}
    keys = {
        name: read(value.data, allow_curated=True, **value.reading).examples.fingerprint()
        for name, value in values.items()
        if isinstance(value, FurtherData)
    }
    for name, value in values.items():  # a reweighter nested in another one has its own data
        keys |= {f"{name}.{inner}": key for inner, key in further_data(value).items()}
    return keys
