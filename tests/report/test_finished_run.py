"""The folder of a finished run is read whole, in part or damaged; a piece that is missing never stops the report."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.errors import InputError
from curate.report.run_page import write_report
from curate.report.texts import extremes
from tests.fixtures.reports import STEPS, page_of, rewrite, rewrite_run, rows_of

# ---- joins, order, determinism


@pytest.mark.parametrize("name", ["scores", "plan", "trajectories"])
def test_tables_are_joined_by_id_and_never_by_position(run_copy: Path, name: str) -> None:
    before = write_report(run_copy).read_bytes()
    rng = np.random.default_rng(1)
    rewrite(run_copy / f"tables/{name}.parquet", lambda table: table.take(pa.array(rng.permutation(len(table)))))
    assert write_report(run_copy).read_bytes() == before


def test_checkpoints_come_in_the_order_of_their_steps(finished_run: Path) -> None:
    _, rows = rows_of(finished_run)
    assert rows.trajectories is not None
    assert rows.trajectories.steps.tolist() == list(STEPS)
    assert (np.diff(rows.trajectories.losses[rows.valid], axis=1) < 0).all()


def test_a_record_stands_in_for_the_run_json_that_is_written_last(run_copy: Path) -> None:
    with_file = write_report(run_copy).read_bytes()
    record = json.loads((run_copy / "run.json").read_text())
    record["proxy"]["steps"] = tuple(record["proxy"]["steps"])
    (run_copy / "run.json").unlink()
    assert write_report(run_copy, record=record).read_bytes() == with_file


# ---- what is missing or broken
PIECES = ["split", "scores", "plan", "trajectories", "rejected"]


KEYS = ["data", "proxy", "counts", "diagnostics", "warnings", "cost", "versions", "machine", "recipe_yaml", "seed"]


@pytest.mark.parametrize("missing", [*PIECES, "data/", *KEYS, *(f"{key}=null" for key in KEYS)])
def test_a_missing_piece_never_stops_the_report(run_copy: Path, missing: str) -> None:
    if missing in PIECES:
        (run_copy / f"tables/{missing}.parquet").unlink()
    elif missing == "data/":
        shutil.rmtree(run_copy / "data")
    elif missing.endswith("=null"):
        rewrite_run(run_copy, lambda run: run.update({missing[:-5]: None}))
    else:
        rewrite_run(run_copy, lambda run: run.pop(missing) and None)
    text = page_of(run_copy).text
    says = {
        "split": "no tables/split.parquet",
        "scores": "hold no token counts",
        "trajectories": "hold no losses",
        "rejected": "no tables/rejected.parquet",
        "data/": "lacks one of them",
        "diagnostics": "recorded no diagnostics",
        "cost": "recorded no stages",
        "recipe_yaml": "recorded no recipe",
    }
    assert says.get(missing.removesuffix("=null"), "rows in") in text
    assert not re.search(r"\bnan\b|\bNone\b(?!\. Nothing)", text)


def test_a_run_of_scores_without_sources_or_proxy(run_copy: Path) -> None:
    (run_copy / "tables/trajectories.parquet").unlink()
    rewrite(
        run_copy / "tables/split.parquet",
        lambda table: table.drop_columns(["source", "noise_suspect"]).append_column("source", pa.nulls(len(table))),
    )
    rewrite_run(run_copy, lambda run: run.update(proxy=None))
    text = page_of(run_copy).text
    assert "were scored as hard" in text
    assert "--columns source=NAME" in text
    assert "· loss stays high" not in text


@pytest.mark.parametrize("case", ["all invalid", "no rows", "all equal", "one row"])
def test_degenerate_runs_have_a_report(run_copy: Path, case: str) -> None:
    def change(table: pa.Table) -> pa.Table:
        if case in ("no rows", "one row"):
            return table[: case == "one row"]
        value = (
            pa.nulls(len(table), pa.float32()) if case == "all invalid" else pa.array([1.0] * len(table), pa.float32())
        )
        for name in table.column_names:
            if name == "difficulty" or name.startswith("loss_"):
                table = table.set_column(table.schema.get_field_index(name), name, value)
        return table

    for path in [*(run_copy / "tables").iterdir(), *(run_copy / "data").iterdir()]:
        rewrite(path, change)
    if case in ("no rows", "one row"):  # whichever row data/ kept may not be the row of the split
        shutil.rmtree(run_copy / "data")
    text = page_of(run_copy).text
    assert ("No row could be scored" in text) == (case in ("all invalid", "no rows"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda run: (run / "run.json").unlink(), "holds no run.json"),
        (lambda run: (run / "run.json").write_text("{"), "is damaged"),
        (lambda run: (run / "run.json").write_text("[1]"), "is not a record"),
        (lambda run: (run / "tables/scores.parquet").write_bytes(b"PAR1 no"), "not readable Parquet"),
        (lambda run: rewrite(run / "tables/plan.parquet", lambda table: table[1:]), "lacks example_id 'row-0000000'"),
    ],
)
def test_a_damaged_folder_is_an_error_of_one_line(run_copy: Path, damage: Callable[[Path], Any], says: str) -> None:
    damage(run_copy)
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        write_report(run_copy)
    assert "\n" not in str(caught.value)
    assert not (run_copy / "report.html").exists()


def test_bytes_that_are_no_utf8_are_shown_replaced(run_copy: Path) -> None:
    def spoil(table: pa.Table) -> pa.Table:
        broken = pa.array([b"caf\xe9 \xff"] * len(table), pa.binary())
        text = pa.Array.from_buffers(pa.string(), len(table), broken.buffers())
        return table.set_column(table.schema.get_field_index("question"), "question", text)

    for path in (run_copy / "data").iterdir():
        rewrite(path, spoil)
    assert extremes(*rows_of(run_copy))[1][0].fields[0].text == "caf\ufffd \ufffd"
