"""New problems in the report, in the terminal and in the dataset card: what is said of them, and that it adds up."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.inspect import inspection, print_inspection
from curate.report.dataset_card import dataset_card
from curate.report.finished_run import read_finished
from curate.report.pairs import read_attempts, refused_pairs
from curate.report.run_page import write_report
from curate.report.synthesis_funnel import rescored, steps
from curate.report.synthesis_section import difficulty_figure, right_figure
from curate.report.texts import rejections
from tests.fixtures.reports import ACTING, PWNED, Page, page_of, rewrite, rewrite_run, write_run
from tests.fixtures.synthesis import MODEL, record_of, write_both


@pytest.fixture(autouse=True)
def _without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes that every page holds and no test here looks at."""
    monkeypatch.setattr("curate.report.run_page._plotly_source", lambda: "")


def section_of(directory: Path) -> str:
    """The words of the section alone."""
    text = page_of(directory).text
    start = text.index("New problems Qwen")
    return text[start : text.index("Rejected rows", start)]


# ---- the funnel


# ---- hard again


def test_the_rate_and_cost_of_every_check_are_shown(made_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(run: dict[str, Any]) -> None:
        second = {"reason": "second route disagrees", "made": 40, "failed": 10, "requests": 120, "generated": 4567}
        run["synthesis"][0]["checks"] = {"second_route": second}

    rewrite_run(made_copy, change)
    assert "second route The second route disagrees 40 10 25.0 % 120 4,567" in section_of(made_copy)
    print_inspection(inspection(made_copy, 0))
    shown = re.sub("[ │]+", " ", capsys.readouterr().out)
    assert "second route 40 10 25.0 % 120 4,567" in shown


def test_the_share_hard_again_is_told_with_its_interval(made: Path) -> None:
    again = rescored(record_of(made))
    assert again is not None
    attempts = pq.read_table(made / "tables/synthesis.parquet")["rescored_hard"].to_pylist()
    assert (again.hard, again.measured) == (attempts.count(True), attempts.count(True) + attempts.count(False))
    text = section_of(made)
    assert f"Hard again {100 * again.share:.1f} %" in text
    assert f"95 % interval: {100 * again.low:.1f} % to {100 * again.high:.1f} %" in text
    assert "hard more often than rows of the input (20.4 %)" in text


@pytest.mark.parametrize(
    ("found", "kept", "hard_share", "says"),
    [
        ({"measured": 100, "hard": 40, "invalid": 2}, 100, 0.2, "more often than rows of the input (20.0 %)"),
        ({"measured": 100, "hard": 40, "invalid": 2}, 100, 0.45, "cannot be told apart"),
        ({"measured": 100, "hard": 40, "invalid": 2}, 100, 0.6, "less often"),
        ({"measured": 100, "hard": 40, "invalid": 2}, 100, None, "hard cluster. Published work on this method saw"),
        ({"measured": 100, "hard": 40, "invalid": 2}, 100, None, "about half. 2 more could not be measured."),
        (None, 3, 0.2, "none was measured"),
        (None, 0, 0.2, "No new problem was left"),
    ],
)
def test_what_the_share_means_depends_on_the_interval(
    made_copy: Path, found: Any, kept: int, hard_share: float | None, says: str
) -> None:
    def change(run: dict[str, Any]) -> None:
        run["diagnostics"]["hard_share"] = hard_share
        run["synthesis"][0]["rescored"] = found
        run["synthesis"][0]["outcomes"]["kept"] = kept

    rewrite_run(made_copy, change)
    assert says in section_of(made_copy)


# ---- what went wrong


def test_a_run_that_kept_nothing_still_shows_the_funnel_and_why(tmp_path: Path) -> None:
    record = write_both(tmp_path / "out", faults=0.9)
    assert record["outcomes"].get("kept", 0) == 0
    text = section_of(tmp_path / "out")
    assert "New problems kept 0" in text
    assert "instruction-tuned model as the generator" in text
    assert "Sure! Let us think about the solution" in text  # what the model said instead, from the rejected rows
    assert "No new problem was kept." in text
    assert "No problem came as far as being solved." in text
    assert not re.search(r"\bnan\b|\bNone\b(?! was lost)", text)


def test_what_the_budget_left_is_told_and_not_shown_as_examples(tmp_path: Path) -> None:
    record = write_both(tmp_path / "out", budget=60_000, hard_share=None)
    assert record["budget_reached"]
    text = section_of(tmp_path / "out")
    assert "60,000 generated tokens, reached" in text
    assert "Hard again – not measured" in text
    finished = read_finished(tmp_path / "out")
    attempts = read_attempts(finished)
    assert attempts is not None
    assert "Not finished" not in {group.reason.name for group in refused_pairs(finished, attempts)}


# ---- figures


def test_the_right_solutions_figure_holds_every_solved_problem(made: Path) -> None:
    record = record_of(made)
    figure = right_figure(record)
    assert figure is not None
    drawn = {bar["name"]: sum(bar["y"]) for bar in figure["data"]}
    assert sum(drawn.values()) == sum(problems for _, _, problems in record["right_of_drawn"])
    assert drawn["1 to 5: in the band"] == dict(record["funnel"])["kept by the band"]
    assert drawn["more than 5"] == record["outcomes"]["too easy"]
    assert right_figure({**record, "right_of_drawn": []}) is None


def test_the_difficulty_figure_shows_shares_of_each_group(made: Path) -> None:
    finished = read_finished(made)
    attempts = read_attempts(finished)
    assert attempts is not None
    figure = difficulty_figure(finished, attempts)
    assert figure is not None
    assert [line["name"] for line in figure["data"]] == ["easy rows", "hard rows", "new problems"]
    for line in figure["data"]:
        assert 0.97 < sum(line["y"]) <= 1.001
    assert len(attempts.difficulty) == record_of(made)["rescored"]["measured"]


def test_the_figures_are_valid_plotly_and_have_their_place(made: Path) -> None:
    import plotly.graph_objects as go

    page = page_of(made)
    drawn = json.loads(next(text for attributes, text in page.scripts if "type" in attributes))
    assert {"plot-right-0", "plot-new-difficulty"} < set(drawn)
    places = {attributes.get("id") for tag, attributes in page.elements if tag == "div"}
    for name, figure in drawn.items():
        go.Figure(data=figure["data"], layout=figure["layout"])
        assert name in places


# ---- problems beside their originals


def test_rejected_rows_of_synthesis_are_counted_by_reason_without_what_they_hit(made: Path) -> None:
    found = rejections(read_finished(made), most=100, examples=1)
    assert not isinstance(found, str)
    counts = {group.reason: group.rows for group in found[0]}
    outcomes = {key: value for key, value in record_of(made)["outcomes"].items() if key != "kept"}
    assert counts == {**outcomes, "completion is empty": 5, "prompt is not text": 2}
    assert "Row –" not in page_of(made).text


# ---- what is missing, broken or hostile


RECORD = ["generator", "of", "band", "rows", "funnel", "checks", "outcomes", "right_of_drawn", "verdicts", "requests"]
OF_COST = ["tokens", "seconds", "budget", "rescored", "variants_per_row"]


@pytest.mark.parametrize("key", [*RECORD, *OF_COST, "table", "columns"])
@pytest.mark.parametrize("value", ["gone", "words"])
def test_a_missing_piece_never_stops_the_report(made_copy: Path, key: str, value: Any) -> None:
    def change(run: dict[str, Any]) -> None:
        (record,) = run["synthesis"]
        record.pop(key) if value == "gone" else record.update({key: value})

    if key == "table":
        (made_copy / "tables/synthesis.parquet").unlink()
    elif key == "columns":
        rewrite(made_copy / "tables/synthesis.parquet", lambda table: table.drop_columns(["right"]))
    else:
        rewrite_run(made_copy, change)
    page = page_of(made_copy)
    assert ("h2", {"id": "synthesis"}) in page.elements
    assert not re.search(r"\bnan\b|\bNone\b(?!\. Nothing| was lost)", page.text)
    if key in ("table", "columns"):
        assert "no tables/synthesis.parquet with the texts" in page.text


def test_hostile_texts_are_text_on_the_page(tmp_path: Path) -> None:
    write_both(tmp_path / "out", hostile=PWNED + ACTING)
    content = (write_report(tmp_path / "out")).read_text(encoding="utf-8")
    page = Page(content)
    assert len(page.scripts) == 7
    assert not {tag for tag, _ in page.elements} & {"img", "iframe", "object", "embed", "base", "form", "svg"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    section = content[content.index('id="synthesis"') : content.index('id="rejected"')]
    assert "&lt;script&gt;window.pwned=1&lt;/script&gt;" in section
    assert "⟨U+202E⟩⟨U+2066⟩" in section
    acting = {each for each in section if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert acting <= {"\n", "\t"}


def test_a_hostile_record_is_text_too(made_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(run: dict[str, Any]) -> None:
        (record,) = run["synthesis"]
        record["generator"] = record["variation_prompt"] = PWNED + ACTING
        record["outcomes"][PWNED + ACTING] = 3
        record["funnel"].insert(0, [PWNED + ACTING, 9])
        run["recipe"]["gate"] = {"evaluation": [PWNED + ACTING + "`"]}

    rewrite_run(made_copy, change)
    content = write_report(made_copy).read_text(encoding="utf-8")
    assert len(Page(content).scripts) == 7
    assert "\x1b" not in content
    print_inspection(inspection(made_copy, 0))
    assert "\x1b" not in capsys.readouterr().out
    card = dataset_card(json.loads((made_copy / "run.json").read_text()), "0.0.0")
    assert "\x1b" not in card
    assert "<script>" not in card


def test_very_long_texts_are_cut(made_copy: Path) -> None:
    def grow(table: pa.Table) -> pa.Table:
        return table.set_column(
            table.schema.get_field_index("parent_problem"), "parent_problem", pa.array(["x" * 500_000] * len(table))
        )

    rewrite(made_copy / "tables/synthesis.parquet", grow)
    assert "Cut: the first 2,000 characters of 500.0 kB." in section_of(made_copy)
    assert write_report(made_copy).stat().st_size < 8_000_000


def test_synthetic_rows_without_a_record_are_counted(made_copy: Path) -> None:
    rewrite_run(made_copy, lambda run: run.pop("synthesis") and None)
    assert "rows of the result are synthetic. The run recorded nothing" in page_of(made_copy).text


def test_two_syntheses_are_told_one_after_the_other(made_copy: Path) -> None:
    rewrite_run(made_copy, lambda run: run["synthesis"].append(run["synthesis"][0]))
    text = page_of(made_copy).text
    assert "Synthesis 1 of 2" in text
    assert "Synthesis 2 of 2" in text


# ---- in the terminal and in the card


def test_inspect_prints_the_funnel_and_holds_the_record(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = inspection(made, 0)
    record = record_of(made)
    assert result["synthesis"] == [record]
    print_inspection(result)
    shown = " ".join(capsys.readouterr().out.split())
    for step in steps(record):
        assert f"{step.name} │ {step.count}" in re.sub(" +", " ", shown)
    again = record["rescored"]
    assert f"hard again: {again['hard']} of {again['measured']}" in shown
    assert f"{record['tokens']['generated']:,} tokens generated" in shown


def test_inspect_of_a_run_without_synthesis_says_nothing_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    write_run(tmp_path / "out")
    rewrite_run(tmp_path / "out", lambda run: run.update(inputs="of a test"))
    result = inspection(tmp_path / "out", 0)
    assert result["synthesis"] == []
    print_inspection(result)
    assert "new problems" not in capsys.readouterr().out


def card_of(directory: Path, change: Callable[[dict[str, Any]], Any] = lambda run: None) -> str:
    run = json.loads((directory / "run.json").read_text())
    change(run)
    return " ".join(dataset_card(run, "0.0.0").split())


def test_the_card_says_how_new_problems_were_verified(made: Path, only_hard: Path) -> None:
    record = record_of(made)
    card = card_of(made)
    assert f"{record['outcomes']['kept']} new problems were written by `{MODEL}`" in card
    assert "1 to 5 solutions reached the final answer" in card
    assert "not proven equivalent" in card
    assert f"{record['rescored']['hard']} of {record['rescored']['measured']} (" in card
    assert "others were left out" not in card
    assert "others were left out" in card_of(only_hard)
    assert "| `pass_count` |" in card
    assert "checked against no evaluation set" in card
    gate = {"evaluation": ["openai/gsm8k", {"data": "math.parquet", "split": "test"}]}
    named = card_of(made, lambda run: run["recipe"].update(gate=gate))
    assert "left out: `openai/gsm8k`, `math.parquet`." in named


def test_the_card_of_a_run_that_kept_nothing_or_made_nothing(made: Path) -> None:
    def nothing_kept(run: dict[str, Any]) -> None:
        run["counts"]["synthetic"] = run["synthesis"][0]["outcomes"]["kept"] = 0

    card = card_of(made, nothing_kept)
    assert "none was kept" in card
    assert "not proven" not in card
    assert "pass_count" not in card
    assert "New problems" not in card_of(made, lambda run: (run.pop("synthesis"), nothing_free(run)))


def nothing_free(run: dict[str, Any]) -> None:
    run["counts"]["synthetic"] = 0
