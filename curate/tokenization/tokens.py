"""Flat arrays of the token ids of a dataset, in memory or in memory-mapped files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.storage.mapped import mapped
from curate.types import BoolArray, IntArray

_ROWS = 16_384  # counted at a time; does not affect the result
IN_MEMORY = 64 << 20  # most tokens of a dataset to hold in memory; does not affect results
BYTES_PER_TOKEN = 5  # in files

_PER_TOKEN: dict[str, Any] = {"ids": np.int32, "supervised": np.bool_}
_PER_ROW: dict[str, Any] = {"lengths": np.int64, "valid": np.bool_, "prompt_cut": np.int32, "completion_cut": np.int32}


@dataclass(frozen=True)
class Tokens:
    """n token sequences, end to end.

    ids: (t,) int32 token ids of all rows.
    supervised: (t,) bool; true where the token counts in the loss (completion text and EOS). Never true for the
        first token of a row, which nothing predicts.
    offsets: (n + 1,) int64; row i is ids[offsets[i] : offsets[i + 1]].
    valid: (n,) bool; at least one token of completion text survived truncation.
    prompt_cut, completion_cut: (n,) int32 tokens that a row longer than max_length lost: before its last completion
        (older turns, system text, the left of the question), and at its end, EOS included. A row that lost none at its
        end has EOS. Estimates where a text was cut before it was tokenized.
    """

    ids: npt.NDArray[np.int32]
    supervised: BoolArray
    offsets: IntArray
    valid: BoolArray
    prompt_cut: npt.NDArray[np.int32]
    completion_cut: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def truncated(self) -> BoolArray:
        """(n,) bool; the row was longer than max_length."""
        return (self.prompt_cut > 0) | (self.completion_cut > 0)

    @property
    def lengths(self) -> IntArray:
        """(n,) tokens per row, prompt included."""
        return np.diff(self.offsets)

    @property
    def completion_tokens(self) -> npt.NDArray[np.int32]:
        """(n,) tokens per row that count in the loss."""
        counts = np.empty(len(self), np.int32)  # (n,)
        for low in range(0, len(self), _ROWS):
            bounds = self.offsets[low : low + _ROWS + 1]
            cumulative = np.concatenate([[0], np.cumsum(self.supervised[bounds[0] : bounds[-1]], dtype=np.int64)])
            counts[low : low + _ROWS] = np.diff(cumulative[bounds - bounds[0]])
        return counts

    @classmethod
    def concatenate(cls, parts: Sequence[Tokens]) -> Tokens:
        """The concatenated rows of all parts."""
        flat = ("ids", "supervised", "valid", "prompt_cut", "completion_cut")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in flat}
        return cls(**arrays, offsets=row_offsets(np.concatenate([part.lengths for part in parts])))

    def slice(self, low: int, high: int) -> Tokens:
        """Rows low..high-1, without copying the token ids."""
        first, last = self.offsets[low], self.offsets[high]
        return Tokens(
            self.ids[first:last],
            self.supervised[first:last],
            self.offsets[low : high + 1] - first,
            self.valid[low:high],
            self.prompt_cut[low:high],
            self.completion_cut[low:high],
        )

    def take(self, rows: IntArray) -> Tokens:
        """The given rows, in the given order, repeats allowed."""
        lengths = self.lengths[rows]
        offsets = row_offsets(lengths)
        index = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])  # (t,) into ids
        per_row = (self.valid[rows], self.prompt_cut[rows], self.completion_cut[rows])
        return Tokens(self.ids[index], self.supervised[index], offsets, *per_row)


def row_offsets(lengths: IntArray) -> IntArray:
    """(n + 1,) int64 offsets of rows of these (n,) lengths."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def write_tokens(parts: Iterable[Tokens], folder: Path) -> None:
    """Write the concatenated rows of all parts as raw arrays, one file for each field."""
    files = {name: (folder / f"{name}.bin").open("xb") for name in (*_PER_TOKEN, *_PER_ROW)}
    try:
        for part in parts:
            for name, file in files.items():
                file.write(np.ascontiguousarray(getattr(part, name)).tobytes())
    finally:
        for file in files.values():
            file.close()


def open_tokens(folder: Path) -> Tokens:
    """Open tokens that `write_tokens` wrote; arrays per token are memory-mapped, arrays per row are read."""
    arrays = {name: np.fromfile(folder / f"{name}.bin", kind) for name, kind in _PER_ROW.items()}
    for name, kind in _PER_TOKEN.items():
        with (folder / f"{name}.bin").open("rb") as file:
            arrays[name] = np.frombuffer(mapped(file), kind)
    lengths = arrays.pop("lengths")
    return Tokens(**arrays, offsets=row_offsets(lengths))
