"""The reproduction on pretrained models: its data, and that its frozen command lines are ones that curate takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.reproduce import main
from benchmarks.reproduction.real import cpu_arguments, gpu_arguments, write_data, write_small_data
from curate.cli.main import main as curate_main
from curate.verify import reference_answer
from tests.fixtures.models import write_model
from tests.fixtures.tokenizers import byte_level


def table(seed: int, rows: list[tuple[str, str, int]]) -> pa.Table:
    """Questions of random words, so that none is near to another. rows: source, split, how many."""
    random = np.random.default_rng(seed)
    found: list[dict[str, str]] = []
    for source, split, count in rows:
        for _ in range(count):
            answer = str(random.integers(100))
            words = ["".join(random.choice(list("abcdefghij"), 4)) for _ in range(9)]
            found.append(
                {"id": f"{source}{len(found)}", "question": " ".join(words), "answer": f"0+{answer}={answer}"}
                | {"final_answer": answer, "source": source, "level": "1", "split": split}
            )
    return pa.Table.from_pylist(found)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    for seed, name in enumerate(("gsm8k", "math")):
        pq.write_table(table(seed, [(name, "train", 30), (name, "test", 25)]), folder / f"{name}.parquet")
    words = [("asdiv", "train", 50), ("mawps", "train", 30), ("mawps", "test", 12), ("mawps", "validation", 12)]
    pq.write_table(table(2, words), folder / "word_problems.parquet")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    write_model(place, byte_level(vocabulary=300))
    return place


def questions(file: Path) -> set[str]:
    return set(pq.read_table(file)["question"].to_pylist())


def test_every_answer_is_marked_and_no_split_holds_a_question_of_another(shared: Path, tmp_path: Path) -> None:
    write_data(shared, tmp_path / "gpu", None)
    write_small_data(shared, tmp_path / "cpu")
    for folder, rows in (("gpu", 140), ("cpu", 40)):
        files = sorted((tmp_path / folder).glob("*.parquet"))
        train = pq.read_table(tmp_path / folder / "train.parquet")
        assert len(train) == rows
        assert all(reference_answer(answer) is not None for answer in train["answer"].to_pylist())
        sets = [questions(file) for file in files]
        assert len(set().union(*sets)) == sum(map(len, sets))
    assert len(questions(tmp_path / "cpu" / "mawps.parquet")) == 24
    write_data(shared, tmp_path / "few", 5)
    assert len(questions(tmp_path / "few" / "math.parquet")) == 5


@pytest.mark.parametrize("which", ["gpu", "cpu"])
def test_the_frozen_command_line_is_one_that_validate_takes(
    which: str, shared: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if which == "gpu":
        write_data(shared, tmp_path / "data", None)
    else:
        write_small_data(shared, tmp_path / "data")
    arguments = (gpu_arguments if which == "gpu" else cpu_arguments)(tmp_path / "data")
    place = ["--model", str(model), "--proxy", str(model), "--out", str(tmp_path / "out")]
    assert curate_main(["validate", *arguments, *place, "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    arms = {each["arm"] for each in plan["runs"]}
    assert arms == {"original", "hard", "random", "easy"}


def test_a_small_model_on_two_cores_from_its_data_to_its_record(shared: Path, model: Path, tmp_path: Path) -> None:
    command = ["--out", str(tmp_path / "out"), "--cpu", str(model), "--data", str(shared), "--seeds", "0,1"]
    record = tmp_path / "record.json"
    assert main([*command, "--time-limit", "0.0001", "--record", str(record)]) == 3
    assert not record.exists()
    with pytest.raises(SystemExit):
        main([*command, "--report"])
    assert main([*command, "--record", str(record)]) == 0
    found = json.loads(record.read_text())
    assert {(run["arm"], run["seed"]) for run in found["runs"]} == {
        (arm, seed) for arm in ("original", "hard", "random", "easy") for seed in (0, 1)
    }
    assert len({run["steps"] for run in found["runs"]}) == 1
    assert found["primary"] == {"set": "pooled", "metric": "nll"}
    assert {each["arm"] for each in found["differences"]} == {"hard", "random", "easy"}
    assert found["finished"]
    assert "--record" in found.pop("command")
    assert str(tmp_path) not in json.dumps(found)
    before = record.read_text()
    assert main([*command[:-1], "0,0", "--record", str(record)]) == 2
    assert record.read_text() == before
