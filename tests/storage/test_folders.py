"""Rows are joined by id, results by their inputs: what must not be mixed up is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import curate
from curate.curated import inputs_fingerprint
from curate.data.readers import read
from curate.errors import InputError
from curate.storage.folders import RECORD, UNFINISHED, OutputFolder, check_directory
from tests.fixtures.pipelines import pipeline_by_column, rows_of_known_difficulty


def test_a_plan_is_not_applied_to_the_same_rows_in_another_order(tmp_path: Path) -> None:
    table = rows_of_known_difficulty()
    whole = pipeline_by_column().run(table, cache=tmp_path)
    curate.rebuild(read(table), whole.split, whole.plan)
    with pytest.raises(InputError, match="row 0 of the data is r29 but r0 in the split"):
        curate.rebuild(read(table.take(np.arange(30)[::-1])), whole.split, whole.plan)
    with pytest.raises(InputError, match="29 rows of data, 30 of the split"):
        curate.rebuild(read(table.slice(1)), whole.split, whole.plan)


def test_a_finished_folder_without_its_data_is_not_believed(tmp_path: Path) -> None:
    loaded = read(rows_of_known_difficulty())
    pipeline_by_column().run(loaded, out=tmp_path / "out", cache=tmp_path / "cache")
    inputs = inputs_fingerprint(pipeline_by_column(), loaded, None)
    assert check_directory(tmp_path / "out", inputs)
    for file in (tmp_path / "out" / "data").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"data/.* cannot be read .*; pass --fresh"):
        check_directory(tmp_path / "out", inputs)


@pytest.mark.parametrize("marks", [(RECORD, UNFINISHED), ("mark.json",)])
def test_a_folder_cut_off_while_it_is_emptied_is_still_ours_and_never_finished(
    marks: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for left in range(10):
        folder = OutputFolder(out, frozenset({"a", "b"}), marks)
        out.mkdir()
        (out / "a").mkdir()
        for name in ("b", RECORD, marks[0]):
            (out / name).write_text("{}")
        removed: list[Path] = []

        def remove(path: Path, limit: int = left, removed: list[Path] = removed) -> None:
            if len(removed) == limit:
                raise KeyboardInterrupt
            removed.append(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

        with monkeypatch.context() as patch:
            patch.setattr("curate.storage.folders.remove", remove)
            try:
                folder.empty()
            except KeyboardInterrupt:
                assert left == 0 or RECORD not in folder.names()
            else:
                assert folder.names() == set()
                return
        shutil.rmtree(out)
    raise AssertionError("it was never emptied")


def test_a_folder_of_another_kind_is_refused_even_to_replace(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path, frozenset())
    folder.finish({"kind": "x", "inputs": "i"}, ())
    asked = {"again": "do it again", "other": "holds another one", "kind": "x"}
    assert folder.matches(RECORD, "i", fresh=False, **asked)
    assert not folder.matches(RECORD, "j", fresh=True, **asked)
    with pytest.raises(InputError, match="holds another one; name another folder, or pass --fresh"):
        folder.matches(RECORD, "j", fresh=False, **asked)
    with pytest.raises(InputError, match="name another folder, or remove this one"):
        folder.matches(RECORD, "i", fresh=True, **{**asked, "kind": "y"})
