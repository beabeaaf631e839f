"""Blocks: resumed where they were stopped, recorded whole, restored from records."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.when.__main__ import main
from benchmarks.when.outcomes import PRIMARY, change
from benchmarks.when.records import collect, read_blocks, restore
from benchmarks.when.runs import Block, blocks_of, grid, work
from benchmarks.when.settings import Setting
from benchmarks.when.symbols import Symbols, SymbolsTask
from curate.errors import InputError

ARMS = ("original", "hard x2", "hard x3 front")
SETTING = Setting("symbols", "frequent", 0.2, 240, 16, 12, "t_hard", (1, 2), ARMS)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    assert work([Block(Symbols(), SETTING, 100)], out, out / "cache", None)
    return out


def test_a_block_has_every_arm_at_every_budget(done: Path) -> None:
    folder = Block(Symbols(), SETTING, 100).folder(done)
    runs = {name: json.loads((folder / f"{name.replace(' ', '-')}.json").read_text()) for name in ARMS}
    assert set(runs["hard x2"]["steps"]) == set(runs["hard x3 front"]["steps"]) == {12, 24}
    assert set(runs["original"]["steps"]) >= {*grid(24), 12, 24}
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["rare_groups"] == ["amber", "fjord", "heron", "quartz"]
    assert len(facts["curves"]["hard"]) == len(facts["curves"]["steps"])
    assert facts["curves"]["hard_rows"] + facts["curves"]["easy_rows"] == 60


def test_a_control_without_rows_is_recorded_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_reducible(task: Any, split: Any, seed: int) -> Any:
        return split.hard.copy(), {"wrong_share": None}

    monkeypatch.setattr("benchmarks.when.runs.reducible_rows", none_reducible)
    changed = Setting(**{**SETTING.__dict__, "arms": ("original", "easy reducible x3")})
    assert work([Block(Symbols(), changed, 100)], tmp_path / "out", tmp_path / "cache", None)
    collect(tmp_path / "out", tmp_path / "records")
    (block,) = read_blocks(tmp_path / "records")
    assert block["arms"]["easy reducible x3"]["steps"] == []
    assert change([block], "easy reducible x3", 1, PRIMARY) is None
    assert change([block], "original", 1, PRIMARY) is not None


def test_only_what_is_missing_is_run_again(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block(Symbols(), SETTING, 100)
    place = block.folder(done) / "hard-x2.json"
    before = place.read_text()
    place.unlink()
    trained: list[str] = []
    train = SymbolsTask.train

    def watched(self: SymbolsTask, runs: Any) -> Any:
        trained.extend(runs)
        return train(self, runs)

    monkeypatch.setattr(SymbolsTask, "train", watched)
    assert block.missing(done) == ["hard x2"]
    assert work([block], done, done / "cache", None)
    assert trained == ["hard x2"]
    again = json.loads(place.read_text())
    assert again["steps"] == json.loads(before)["steps"]
    assert again["right"] == json.loads(before)["right"]


def test_nothing_is_begun_after_the_deadline(tmp_path: Path) -> None:
    assert not work([Block(Symbols(), SETTING, 101)], tmp_path, tmp_path / "cache", 0.0)
    assert not list(tmp_path.rglob("*.json"))


def test_runs_of_other_settings_are_refused(done: Path) -> None:
    changed = Setting(**{**SETTING.__dict__, "rows": 300})
    with pytest.raises(InputError, match="other settings"):
        Block(Symbols(), changed, 100).missing(done)


def test_records_give_back_what_was_run(done: Path, tmp_path: Path) -> None:
    collect(done, tmp_path / "records")
    (block,) = read_blocks(tmp_path / "records")
    assert set(block["arms"]) == set(ARMS)
    restore(tmp_path / "records", tmp_path / "again")
    assert Block(Symbols(), SETTING, 100).missing(tmp_path / "again") == []
    collect(tmp_path / "again", tmp_path / "second")
    first, second = ((tmp_path / name / "symbols.jsonl").read_text() for name in ("records", "second"))
    assert first == second


def test_blocks_are_ordered_by_seed_and_can_be_chosen() -> None:
    blocks = blocks_of([Symbols()])
    assert [block.seed for block in blocks] == sorted(block.seed for block in blocks)
    assert {block.seed for block in blocks} == set(range(5))
    assert {block.seed for block in blocks_of([Symbols()], [1, 100])} == {1, 100}
    (only,) = {block.arms for block in blocks_of([Symbols()], arms=["original"])}
    assert only == {"original"}


@pytest.mark.slow
def test_the_quick_map_is_made_from_the_command(tmp_path: Path) -> None:
    arms = "original,hard x3,random x3"
    assert main(["--out", str(tmp_path), "--quick", "--families", "symbols", "--arms", arms]) == 0
    page = (tmp_path / "records" / "map.md").read_text()
    assert page.count("| symbols |") >= 8
    assert (tmp_path / "records" / "map.svg").read_text().startswith("<?xml")
    assert main(["--out", str(tmp_path), "--quick", "--families", "symbols", "--arms", arms]) == 0


def test_the_command_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--table", "--out", "x"], ["--out", "x", "--families", "y"], ["--out", "x", "--arms", "y"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert "error" in capsys.readouterr().err
