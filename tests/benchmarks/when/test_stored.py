"""Families that read files: what is trained on, asked and known beforehand is kept apart; a missing file is named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.when.__main__ import main
from benchmarks.when.epoch_design import GYM_SETTINGS, WORD_PROBLEMS_SETTINGS
from benchmarks.when.families import families
from benchmarks.when.gym import FREQUENT, RARE, Gym
from benchmarks.when.language import LanguageTask
from benchmarks.when.stored import material_of, stored_rows
from benchmarks.when.word_problems import WordProblems
from curate.errors import InputError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the same form as those of the study."""
    folder = tmp_path_factory.mktemp("data")
    gym = [
        _row(
            f"g/{task}/{i}", f"{task} {i} + 1 =", None, str(i + 1), "reasoning_gym", "test" if i % 10 == 9 else "train"
        )
        | {"subject": task}
        for task in (*FREQUENT, *RARE)
        for i in range(600)
    ]
    words = [
        _row(f"{source}/{i}", f"{source} has {i}.", f"{i}+1", str(i + 1), source, split)
        for source, split in (("asdiv", "train"), ("mawps", "train"), ("mawps", "test"))
        for i in range(0 if split == "train" else 900, 900 if split == "train" else 1000)
    ]
    systems = [
        _row(f"{source}/{i}", f"{source} has {i}.", f"m={i}", str(i), source, "test" if i % 5 == 0 else "train")
        for source in ("alg514", "draw")
        for i in range(300)
    ]
    for name, rows in (("reasoning_gym_math", gym), ("word_problems", words), ("simuleq", systems)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


def _row(name: str, question: str, answer: str | None, final: str, source: str, split: str) -> dict[str, str | None]:
    return {
        "id": name,
        "question": question,
        "answer": answer,
        "final_answer": final,
        "source": source,
        "split": split,
        "subject": None,
    }


@pytest.mark.parametrize("name", ["gym", "word_problems"])
def test_what_is_trained_on_asked_and_known_is_kept_apart(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.when.language.LanguageTask._start", lambda *_: tmp_path)
    family = Gym(data) if name == "gym" else WordProblems(data)
    for setting in family.settings():
        found = family.prepare(setting, 100, tmp_path).material
        parts = [set(part["id"].to_pylist()) for part in (found.rows, found.test, found.known)]
        assert len(parts[0]) == len(found.rows) == setting.rows
        assert not parts[0] & parts[1]
        assert not parts[2] & (parts[0] | parts[1])
        rare = found.rows["rare"].to_numpy(zero_copy_only=False).mean()
        assert rare == pytest.approx(setting.share, abs=0.01)
        faults = found.rows["fault"].to_pylist()
        assert faults.count("shuffled") / setting.rows == pytest.approx(setting.noise, abs=0.02)
        assert set(found.test["group"].to_pylist()) == set(found.mixture) == set(found.rows["group"].to_pylist())
        assert sum(found.mixture.values()) == pytest.approx(1)


def test_seeds_train_on_other_rows_and_answer_the_same_questions(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.when.language.LanguageTask._start", lambda *_: tmp_path)
    first, second = (Gym(data).prepare(GYM_SETTINGS[0], seed, tmp_path).material for seed in (100, 101))
    assert first.test.equals(second.test)
    assert not first.rows.equals(second.rows)


def test_too_few_rows_of_a_group_are_said() -> None:
    rows = [{"id": "1", "question": "q", "answer": "a", "source": "s", "group": "rare"}]
    with pytest.raises(InputError, match="rows of rare are wanted and there are 1"):
        material_of(WORD_PROBLEMS_SETTINGS[0], 0, rows, rows, ["rare"], {"rare": 1.0}, 3)


@pytest.mark.parametrize("name", ["gym", "word_problems"])
def test_a_missing_file_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"nothing\.parquet is missing; name its folder"):
        stored_rows(tmp_path, "nothing")
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path / "out"), "--families", name, "--data", str(tmp_path / "none")])
    assert ended.value.code == 2
    assert "parquet is missing; name its folder with --data DIR" in capsys.readouterr().err


def test_a_given_proxy_adds_a_family_and_is_the_proxy(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    assert "word_problems_given" not in families(data)
    family = families(data, given)["word_problems_given"]
    monkeypatch.setattr("benchmarks.when.language.LanguageTask._start", lambda *_: tmp_path)
    for setting in family.settings():
        task = family.prepare(setting, 100, tmp_path)
        assert isinstance(task, LanguageTask)
        assert task._places == {"target": tmp_path, "proxy": given}
        with pytest.raises(InputError, match="name its folder with --proxy-model DIR"):
            WordProblems(data).prepare(setting, 100, tmp_path)


def test_designs_cross_everything_and_every_second_proxy_is_small() -> None:
    for settings in (GYM_SETTINGS, WORD_PROBLEMS_SETTINGS):
        assert len({(s.knows, s.share, s.noise) for s in settings}) == len(settings) == 8
        assert sum(s.proxy == "small" for s in settings) == 4
        for factor in ("knows", "share", "noise"):
            for value in {getattr(s, factor) for s in settings}:
                chosen = [s.proxy for s in settings if getattr(s, factor) == value]
                assert chosen.count("small") == 2
