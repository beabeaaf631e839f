"""Select or exclude rows by a file of ids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.readers import Loaded
from curate.errors import InputError
from curate.types import BoolArray

NAMED = ("include", "exclude")  # arguments of `named_rows`, recorded beside those with which the data was read


def named_rows(loaded: Loaded, include: Path | None = None, exclude: Path | None = None) -> Loaded:
    """Keep the rows listed in `include` and drop those listed in `exclude`; dropped rows are recorded as rejected.

    The files hold one example id per line, as `curate view` saves them; the id of a copy (`id#1`) selects its row.
    Raises InputError for a file that cannot be read or lists none of the rows, and if no row is left.
    """
    given = {
        name: str(path.absolute()) for name, path in zip(NAMED, (include, exclude), strict=True) if path is not None
    }
    loaded = replace(loaded, arguments={**loaded.arguments, **given})
    keep = np.ones(len(loaded.examples), np.bool_)  # (n,)
    reason = np.full(len(keep), "", dtype=object)  # (n,)
    notes = list(loaded.notes)
    for path, included in ((include, True), (exclude, False)):
        if path is not None:
            matches, unknown = _named(loaded.examples.ids, path)
            out = ~matches if included else matches
            reason[keep & out] = f"{'not in' if included else 'in'} {path.name}"
            keep &= ~out
            notes.append(
                f"{path}: {int(matches.sum()):,} rows named" + (f", {unknown:,} ids unknown" if unknown else "")
            )
    if keep.all():
        return replace(loaded, notes=notes)
    if not keep.any():
        raise InputError(f"{exclude or include}: no row is left; name fewer to exclude, or more to include")
    examples, rows = loaded.examples, np.flatnonzero(keep)
    gone = np.flatnonzero(~keep)
    records = [
        {"row": int(loaded.rows[row]), "example_id": examples.ids[row].as_py(), "stage": "read", "reason": reason[row]}
        for row in gone.tolist()
    ]
    rejected = [*loaded.rejected, *records]
    return replace(loaded, examples=examples.take(rows), rows=loaded.rows[rows], rejected=rejected, notes=notes)


def _named(ids: pa.Array, path: Path) -> tuple[BoolArray, int]:
    """(n,) whether the file lists each row, and the number of its ids that are not rows."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a file of ids ({error}); write one example id per line") from error
    listed_ids = dict.fromkeys(line.strip() for line in lines if line.strip())
    row_ids = set(ids.to_pylist())
    rows = {example_id if example_id in row_ids else example_id.rpartition("#")[0] for example_id in listed_ids}
    matches = pc.is_in(ids, value_set=pa.array(sorted(rows), ids.type)).to_numpy(zero_copy_only=False)
    if not matches.any():
        raise InputError(
            f"{path} names none of the {len(ids):,} rows; ids are those of example_id, such as {ids[0].as_py()}"
        )
    return matches, len(rows - row_ids)
