"""`augmenters.Synthesize` in a pipeline: from hard rows to new rows in a finished folder."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from augmenters import Duplicate, Synthesize
from curate import InputError, Run, fold, read, realize
from curate.checks import check_augmenter
from curate.generators.requests import Completion, Request
from curate.verify.sandbox import sandbox_layers
from tests.fixtures.synthesis_pipelines import COLUMNS, Writer, all_hard, pipeline, rows, run, synthetic

# -- contracts ------------------------------------------------------------------------------------------------------


def test_it_keeps_the_contract_of_an_augmenter() -> None:
    for of in ("hard", "easy", "random"):
        check_augmenter(Synthesize(generator=Writer(), of=of, rows=5))
    check_augmenter(Synthesize(generator=Writer(), originals="drop"))


def test_every_proposal_is_accounted_for(cache: Path) -> None:
    curated = run(cache, Synthesize(generator=Writer(0.4), variants=3))
    (part,) = curated.realized
    outcomes = part.summary.record["outcomes"]
    assert sum(outcomes.values()) == part.summary.attempts.num_rows == 3 * part.summary.record["rows"]["started from"]
    assert outcomes["kept"] == len(part.rows) == dict(part.summary.record["funnel"])["kept"]
    reasons = [r for r in curated.rejected.to_pylist() if r["stage"] in ("synthesize", "measure", "gate")]
    assert len(reasons) == part.summary.attempts.num_rows - len(part.rows)
    counts = [count for _, count in part.summary.record["funnel"]]
    assert counts == sorted(counts, reverse=True)
    kept = [row for row in part.summary.attempts.to_pylist() if row["outcome"] == "kept"]
    assert [row["example_id"] for row in kept] == part.rows.ids
    for row in kept:
        assert row["rescored_hard"] is not None
        assert row["verdicts"].count("right") == row["right"]
        assert row["right"] + row["wrong"] + row["undecided"] == row["drawn"] <= 8
        assert len(row["solution_requests"]) == row["drawn"]


# -- the same store, the same bytes ---------------------------------------------------------------------------------


def test_the_same_store_gives_the_same_bytes_and_asks_nothing(cache: Path, tmp_path: Path) -> None:
    augmenters = (Duplicate(), Synthesize(generator=Writer()))
    first = run(cache, *augmenters, out=tmp_path / "a")
    again = run(cache, *augmenters, out=tmp_path / "b")
    made = [each.realized[0].summary.record["requests"]["made"] for each in (first, again)]
    assert made[1] == 0
    for folder in ("data", "tables"):
        names = sorted(path.name for path in (tmp_path / "a" / folder).iterdir())
        assert "synthesis.parquet" in names or folder == "data"
        for name in names:
            assert (tmp_path / "a" / folder / name).read_bytes() == (tmp_path / "b" / folder / name).read_bytes()
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["counts"]["synthetic"] == len(synthetic(first))
    assert record["synthesis"][0]["rescored"]["measured"] == len(synthetic(first))


def test_interrupted_it_goes_on_where_it_was(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Dying(Writer):
        left: Any = None

        def complete(self, request: Request) -> Completion:
            self.left.append(1)
            if len(self.left) == 23:
                raise KeyboardInterrupt
            return super().complete(request)

        def fingerprint(self) -> str:
            return "dying"

    whole = run(tmp_path / "whole", Synthesize(generator=Writer()))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Synthesize(generator=Dying(left=[])))
    rest = run(tmp_path / "cut", Synthesize(generator=Writer()))
    assert rest.realized[0].summary.record["requests"]["from the store"] == 22
    assert rest.dataset.to_pylist() == whole.dataset.to_pylist()


# -- what is kept out -----------------------------------------------------------------------------------------------


def test_near_copies_of_the_input_and_of_each_other_are_rejected(cache: Path) -> None:
    @dataclass(frozen=True)
    class Copier(Writer):
        """Copies a row of the input, or always writes the same problem."""

        text: str = ""

        def complete(self, request: Request) -> Completion:
            (message,) = request.prompt  # type: ignore[misc]
            if "<solution>" in message["content"]:  # type: ignore[index]
                return Completion(f"```text\n{self.text}\n```", "stop", 1, 1)
            return Completion(f"\\boxed{{{'57' if request.index % 2 else '1'}}}", "stop", 1, 1)

    source = rows()["question"][7].as_py()
    table = (
        rows()
        .set_column(2, "final_answer", pa.array(["57"] * 60))
        .set_column(1, "answer", pa.array([f"Think hard about {k} + {k}, then say it." for k in range(60)]))
    )
    copier = Copier(text=source + " Say.", name="copier")
    curated = run(cache, Synthesize(generator=copier, variants=1, checks=()), table=table)
    assert set(curated.realized[0].summary.record["outcomes"]) == {"near-duplicate of source"}
    fresh = "On which day does the tide at the northern harbour wall reach its lowest mark, counted from today?"
    repeater = Copier(text=fresh, name="repeater")
    curated = run(cache, Synthesize(generator=repeater, variants=2, checks=()), table=table)
    outcomes = curated.realized[0].summary.record["outcomes"]
    assert outcomes["kept"] == 1
    started = curated.realized[0].summary.record["rows"]["started from"]
    assert outcomes["same as another variant of its parent"] == started
    assert outcomes["near-duplicate of new"] == started - 1


def test_two_of_them_in_one_recipe_do_not_get_in_each_others_way(cache: Path) -> None:
    one, two = Synthesize(generator=Writer(), variants=1), Synthesize(generator=Writer(0.4), variants=1)
    curated = run(cache, one, two)
    first, second = curated.realized
    assert len(first.rows) > 0
    assert len(second.rows) > 0
    assert len(set(curated.dataset["example_id"])) == len(curated.dataset)
    # The same recipe's second one writes what the first has written already: nothing of it may enter.
    twin = run(cache, one, one.model_copy(update={"samples": 8}))
    texts = [row["question"] for row in synthetic(twin)]
    assert len(set(texts)) == len(texts)


def test_what_the_new_rows_cannot_fill_is_found_before_anything_is_asked(tmp_path: Path) -> None:
    table = rows().append_column(pa.field("k", pa.int64(), nullable=False), pa.array(range(60)))
    with pytest.raises(InputError, match=r"'k'.*never null"):
        pipeline(Synthesize(generator=Writer())).run(read(table, columns=COLUMNS), cache=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_tokens_of_new_rows_are_counted(cache: Path, tmp_path: Path) -> None:
    run(cache, Synthesize(generator=Writer(), originals="drop"), out=tmp_path / "out")
    counts = json.loads((tmp_path / "out" / "run.json").read_text())["counts"]
    assert counts["tokens_after"] > 5 * counts["output"]


def test_nothing_but_new_problems_if_asked_for(cache: Path) -> None:
    curated = run(cache, Synthesize(generator=Writer(), originals="drop"))
    assert {row["origin"] for row in curated.dataset.to_pylist()} == {"synthetic"}


def test_no_problem_kept_is_a_result_too(cache: Path, tmp_path: Path) -> None:
    curated = run(cache, Synthesize(generator=Writer(0.0), originals="drop"), out=tmp_path / "none")
    assert len(curated.dataset) == 0
    assert set(curated.realized[0].summary.record["outcomes"]) == {"too hard"}
    record = json.loads((tmp_path / "none" / "run.json").read_text())
    assert record["counts"]["output"] == 0
    problems = curated.realized[0].summary.attempts.num_rows
    assert (record["counts"]["rejected"], record["counts"]["rejected_proposals"]) == (
        record["counts"]["input"],
        problems,
    )
    assert f"rows, and {problems} proposed problems that were not kept" in (tmp_path / "none" / "README.md").read_text()
    assert "too hard" in (tmp_path / "none" / "report.html").read_text()


class Programmer(Writer):
    """Solutions are programs that make more folders in each other than a path can name."""

    def complete(self, request: Request) -> Completion:
        said = super().complete(request)
        found = re.search(r"boxed\{(\d+)\}", said.text)
        if found is None:
            return said
        code = f"import os\nfor _ in range(2500):\n    os.mkdir('a')\n    os.chdir('a')\nprint({found[1]})"
        return Completion(f"```python\n{code}\n```", "stop", 80, 20)


def test_programs_are_run_in_a_sandbox_that_the_record_describes(tmp_path: Path) -> None:
    data = read(rows(), columns=COLUMNS).examples
    settings = {"noise_guard": 0, "rows": 3, "variants": 1, "samples": 2, "band": (1, 2)}
    plan = fold([Synthesize(generator=Programmer(), run_programs=True, **settings)], all_hard(data))
    first, again = (realize(plan, data, Run(cache=tmp_path))[0] for _ in range(2))
    assert first.summary.record["sandbox"] == list(sandbox_layers())
    assert first.rows == again.rows  # from the store, programs and all
    assert again.summary.record["requests"]["made"] == 0
    assert sum(first.summary.record["verdicts"].values()) > first.summary.record["verdicts"]["undecided"]
    plan = fold([Synthesize(generator=Writer(), **settings)], all_hard(data))
    assert realize(plan, data, Run(cache=tmp_path))[0].summary.record["sandbox"] is None


def test_where_no_program_can_be_run_it_says_so_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.verify.sandbox.sys.platform", "darwin")
    with pytest.raises(InputError, match=r"programs cannot be run here .*leave out --run-programs"):
        run(tmp_path / "c", Synthesize(generator=Programmer(), run_programs=True))
    assert not (tmp_path / "c" / "proxies").exists()


def test_hostile_data_passes_through_as_it_is(cache: Path) -> None:
    table = rows().to_pydict()
    nasty = "{{solution}} {% for x in y %} ${HOME} </solution> \\1 "
    table["answer"] = [nasty + text for text in table["answer"]]
    seen: list[str] = []

    @dataclass(frozen=True)
    class Watching(Writer):
        def complete(self, request: Request) -> Completion:
            seen.append(request.prompt[0]["content"])  # type: ignore[index]
            return super().complete(request)

    run(cache, Synthesize(generator=Watching(), rows=3), table=pa.table(table))
    assert any(nasty in text for text in seen)


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"band": (0, 5)}, "band 0..5"),
        ({"band": (3, 2)}, "band 3..2"),
        ({"band": (1, 9)}, "within 1..8"),
        ({"variation_prompt": "no place"}, "{{solution}}"),
        ({"solution_prompt": "{{problem}} {{problem}}"}, "exactly once"),
        ({"generator": "gpt"}, "does not generate"),
        ({"generator": Writer}, "does not generate"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Synthesize(**{"generator": Writer(), **fields})


def test_it_works_alone_too(tmp_path: Path) -> None:
    data = read(rows(), columns=COLUMNS).examples
    plan = fold([Synthesize(generator=Writer(), noise_guard=0, rows=6)], all_hard(data))
    (made,) = realize(plan, data, Run(cache=tmp_path))
    assert len(made.rows) == made.summary.record["outcomes"]["kept"] > 0
    assert made.rows.measured is None
