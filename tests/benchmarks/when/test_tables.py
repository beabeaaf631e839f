"""Tables and the figure of the map, from records."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.when.settings import Setting
from benchmarks.when.tables import write_tables


def _lines(noise: float = 0.0) -> list[str]:
    setting = Setting("made", "frequent", 0.1, 100, 10, 20, "t_hard", (0.5, 1), ("original", "hard x3"), noise)
    blocks: list[dict[str, Any]] = []
    for seed, gain in enumerate((0.5, 0.6, 0.55)):
        nats = {"original": {"a": [2.0, 1.0], "b": [0.4, 0.2]}, "hard x3": {"a": [2.0, gain], "b": [0.4, 0.2]}}
        arms = {
            name: {"steps": [10, 20], "nats": each, "right": {"a": [0, 20], "b": [40, 45]}, "seconds": 1}
            for name, each in nats.items()
        }
        blocks.append(
            {
                "name": setting.name,
                "setting": setting.written,
                "seed": seed,
                "mixture": {"a": 0.1, "b": 0.9},
                "hard_share": 0.12,
                "hard_share_by_group": {"a": 0.9, "b": 0.03},
                "rare_share": 0.1,
                "rare_groups": ["a"],
                "curves": {"steps": [10, 20], "hard": [2.0, 1.0], "easy": [0.4, 0.2]},
                "tokens": {"a": 100, "b": 100},
                "questions": {"a": 50, "b": 50},
                "arms": arms,
            }
        )
    return [json.dumps(block) for block in blocks]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    (tmp_path / "made.jsonl").write_text("\n".join([*_lines(), *_lines(0.1)]) + "\n")
    return tmp_path


def test_a_cell_has_its_base_its_change_and_its_interval(records: Path) -> None:
    write_tables(records)
    page = (records / "map.md").read_text()
    clean = next(line for line in page.splitlines() if "| made | frequent | 0.1 | 12% | 1 t_hard |" in line)
    assert "| 3 | 0.28 |" in clean
    assert "-16.1 [-20, -12]" in clean  # geometric mean over seeds of (0.1 gain + 0.18) / 0.28
    assert "10% shuffled" in page


def test_every_arm_and_outcome_stands_in_the_table_of_the_family(records: Path) -> None:
    write_tables(records)
    lines = (records / "map-made.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| 1 t_hard | hard x3"))
    assert "0.28, -16.1" in row
    assert row.count("|") == 8
    assert "+0.0 [±0.0] of 85 %" in row


def test_the_figure_is_the_same_every_time(records: Path) -> None:
    write_tables(records)
    first = (records / "map.svg").read_text()
    write_tables(records)
    assert (records / "map.svg").read_text() == first
    assert "knows frequent" in first
    assert "random x3, share 0.1" in first


def test_exposures_are_listed_by_cell(records: Path) -> None:
    write_tables(records)
    page = (records / "exposures.md").read_text()
    assert page.count("| hard x3 |") == 2
    assert "reproduction" not in page  # whose records are not beside these
