"""Micro-batches of a trainer: collated rows with their positions, and their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from curate.data.readers import read
from curate.devices import distributed
from curate.errors import DivergenceError, InputError
from curate.models.batches import Batch
from curate.tokenization.encoding import encode_rows, tokenize
from curate.tokenization.templates import renderer
from curate.tokenization.tokens import Tokens
from curate.training.reweighting import BatchOutputs, OptimizerBatch, ReweightingState

ROW = "curate_row"  # key of a row's position among its fields
_ROWS_AT_ONCE = 64
_KNOWN = {"input_ids", "labels", "attention_mask"}


def has_positions(dataset: Any) -> bool:
    """Whether the dataset has a length, so that rows have positions."""
    return isinstance(dataset, Sized) and not isinstance(dataset, torch.utils.data.IterableDataset)


def numbered(dataset: Any) -> Any:
    """The dataset with each row's position under `ROW`; a `datasets` dataset stays one."""
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        return _Numbered(dataset)
    plain = dataset.format["type"] != "custom" and set(dataset.format["columns"]) == set(dataset.column_names)
    return dataset.add_column(ROW, np.arange(len(dataset))) if plain else _Numbered(dataset)


class _Numbered(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.dataset[row], ROW: row}

    def __getitems__(self, rows: list[int]) -> list[dict[str, Any]]:
        at_once = getattr(self.dataset, "__getitems__", None)
        items = [self.dataset[row] for row in rows] if at_once is None else at_once(rows)
        return [{**item, ROW: row} for item, row in zip(items, rows, strict=True)]


class RowCollator:
    """A collator that wraps another one and hides the rows' positions from it."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> Any:
        batch = self.collate([{name: value for name, value in row.items() if name != ROW} for row in features])
        batch[ROW] = torch.tensor([int(row[ROW]) for row in features])
        return batch


@dataclass(frozen=True)
class MicroBatch:
    """b collated rows, padded on the right.

    lengths: (b,) int64 tokens of each, without padding. counts: (b,) int64 tokens in the loss. broken: () bool, whether
    the attention mask of a row has a hole. rows: (b,) int64 positions in the dataset, where known.
    """

    batch: Batch
    lengths: torch.Tensor
    counts: torch.Tensor
    broken: torch.Tensor
    rows: torch.Tensor | None


def micro_batch(inputs: Mapping[str, Any], device: torch.device | str, rows: torch.Tensor | None = None) -> MicroBatch:
    """The micro-batch of these inputs of a causal language model; left padding is moved to the right.

    Tokens with attention mask 0 are not in the loss, nor is a row's first token, which nothing predicts (with left
    padding, only padding does). Raises InputError if rows are not separate, or the inputs are not those of a
    causal language model.
    """
    for name in ("input_ids", "labels"):
        if not isinstance(inputs.get(name), torch.Tensor):
            raise InputError(
                f"the trainer's batches have no {name}, so the loss of an example is unknown; use a collator that "
                "gives input_ids and labels"
            )
    ids, labels = inputs["input_ids"].to(device), inputs["labels"].to(device)  # (b, T)
    unknown = sorted(set(inputs) - _KNOWN)
    if unknown or ids.ndim != 2 or labels.shape != ids.shape or (rows is not None and len(rows) != len(ids)):
        problem = f"also hold {', '.join(unknown)}" if unknown else "do not hold one example per row"
        raise InputError(
            f"the trainer's batches {problem}; weights are for padded text: turn packing and padding_free off, and "
            "leave only input_ids, labels and attention_mask"
        )
    mask = inputs.get("attention_mask")
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.to(device) != 0  # (b, T)
    if real.shape != ids.shape:
        raise InputError("the trainer's attention masks are not (rows, tokens); use a collator that pads")
    order = (~real).to(torch.uint8).argsort(dim=1, stable=True)  # (b, T), padding last
    labels = labels.masked_fill(~real, -100).gather(1, order)  # (b, T)
    begins = real & ~torch.nn.functional.pad(real, (1, 0))[:, :-1]  # (b, T) first token of each run of real ones
    numbers = torch.arange(len(ids), device=device) if rows is None else rows.to(device)  # (b,)
    return MicroBatch(
        Batch(ids.gather(1, order), labels, numbers),
        real.sum(1),
        (labels[:, 1:] != -100).sum(1),
        (begins.sum(1) > 1).any(),
        None if rows is None else numbers,
    )


def collated_tokens(dataset: Any, collate: Callable[[list[Any]], Any], fields: Sequence[str] | None) -> Tokens:
    """Tokens of all rows as collated. fields: of a row, passed to the collator; None = all.

    Raises InputError as `micro_batch`, and if labels are not the tokens themselves.
    """
    ids, supervised, lengths = [], [], []
    for low in range(0, len(dataset), _ROWS_AT_ONCE):
        items = [dict(dataset[row]) for row in range(low, min(low + _ROWS_AT_ONCE, len(dataset)))]
        if fields is not None:
            items = [{name: value for name, value in item.items() if name in fields} for item in items]
        part = micro_batch(collate(items), "cpu")
        counted = part.batch.labels != -100  # (b, T)
        if bool((counted & (part.batch.labels != part.batch.input_ids)).any()):
            raise InputError("labels differ from their tokens; use a collator for causal language models")
        counted[:, 0] = False
        real = torch.arange(counted.shape[1]) < part.lengths[:, None]  # (b, T)
        ids.append(part.batch.input_ids[real].numpy().astype(np.int32))
        supervised.append(counted[real].numpy())
        lengths.append(part.lengths.numpy())
    flat = np.concatenate(supervised)  # (t,)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    running = np.concatenate([[0], np.cumsum(flat)])  # (t + 1,) supervised tokens before each
    valid = running[offsets[1:]] > running[offsets[:-1]]
    return Tokens(np.concatenate(ids), flat, offsets, valid, *np.zeros((2, len(valid)), np.int32))


def further_tokens(processing_class: Any, max_length: int, data: Any, reading: Mapping[str, Any]) -> Tokens:
    """Tokens of a further dataset: prompts and completions concatenated unchanged, messages by the chat template.

    processing_class: of a trainer; a tokenizer, or an object that has one. data, reading: arguments of `curate.read`.
    """
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    if tokenizer is None:
        raise InputError(
            "the trainer has no processing_class to tokenize a further dataset with; give it one, or pass "
            "rows=TrainingRows(columns, tokenize=...)"
        )
    examples = read(data, allow_curated=True, **reading).examples
    if examples.shape in ("messages", "text"):
        template = "chat" if examples.shape == "messages" else "none"
        return tokenize(examples, tokenizer, template=template, max_length=max_length)
    pieces = [
        [(text.removesuffix("\n") if part == "prompt" else text, part) for text, part in row]
        for row in renderer(examples, "plain", tokenizer)(0, len(examples))
    ]
    return encode_rows(pieces, tokenizer, max_length)


class Columns(Mapping[str, Sequence[Any]]):
    """Columns of a dataset by name, read on access."""

    def __init__(self, dataset: Any) -> None:
        import datasets

        self.table = dataset.with_format(None) if isinstance(dataset, datasets.Dataset) else None
        self.dataset = dataset
        self.names = tuple(dataset[0]) if self.table is None else tuple(self.table.column_names)

    def __getitem__(self, name: str) -> Sequence[Any]:
        if name not in self.names:
            raise KeyError(name)
        if self.table is not None:
            return list(self.table[name])
        return [self.dataset[row].get(name) for row in range(len(self.dataset))]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def batch_weights(
    reweighting: ReweightingState,
    parts: Sequence[MicroBatch],
    outputs: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
    step: int,
    learning_rate: float,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """(b,) weights of the rows of each of this rank's micro-batches, and () completion tokens of all ranks, 1 if none.

    parts: all micro-batches of this rank. outputs: summed losses (b,) and embeddings (b, d) of each. step: optimizer
    updates done. Rows without a completion token get weight 0 and are not passed to the reweighter. All ranks must call
    it. Raises DivergenceError if a loss is not finite, with learning_rate in its message.
    """
    sums, counts = torch.cat([losses for losses, _ in outputs]), torch.cat([part.counts for part in parts])
    rows_of_parts = [part.rows for part in parts if part.rows is not None]
    rows = torch.cat(rows_of_parts) if rows_of_parts else torch.zeros_like(counts)  # (rows of this rank,)
    vectors = [embeddings for _, embeddings in outputs if embeddings is not None]
    own, (sums, counts, rows) = _gathered([sums, counts, rows])  # (B,) each, of all ranks
    counted = counts > 0
    losses, rows = sums[counted] / counts[counted], rows[counted]
    if not bool(losses.isfinite().all()):
        bad = rows[~losses.isfinite()].tolist()
        problem = f"the loss of {len(bad)} of {len(losses)} rows"
        raise DivergenceError.at(problem, step, bad if rows_of_parts else [], learning_rate)
    embeddings = _summed(torch.cat(vectors), own, len(sums))[counted] if vectors else None
    weights = torch.zeros(len(sums), device=sums.device)  # (B,)
    if len(losses):
        batch = OptimizerBatch(step, counts[counted], rows if rows_of_parts else None)
        weights[counted] = reweighting.weights(batch, BatchOutputs(losses, embeddings))
    return list(weights[own].split([len(part.counts) for part in parts])), counts.sum().clamp_min(1)


def _gathered(columns: Sequence[torch.Tensor]) -> tuple[slice, list[torch.Tensor]]:
    """The slice of this rank's values among all ranks', and (B,) each column over all ranks. All ranks must call it."""
    b, world = len(columns[0]), distributed.world_size()
    if world == 1:
        return slice(0, b), list(columns)
    sizes = torch.zeros(world, dtype=torch.int64, device=columns[0].device)
    sizes[distributed.rank()] = b
    ends = distributed.sum_(sizes).cumsum(0).tolist()
    own = slice(ends[distributed.rank()] - b, ends[distributed.rank()])
    # float64 holds float32 and row numbers exactly, and adding zeros changes nothing.
    table = _summed(torch.stack([column.double() for column in columns], 1), own, ends[-1])
    return own, [table[:, k].to(column.dtype) for k, column in enumerate(columns)]


def _summed(values: torch.Tensor, own: slice, total: int) -> torch.Tensor:
    """(total, ...) sums over all ranks, each of which contributes a slice (b, ...). All ranks must call it."""
    gathered = values.new_zeros(total, *values.shape[1:])
    gathered[own] = values
    return distributed.sum_(gathered)
