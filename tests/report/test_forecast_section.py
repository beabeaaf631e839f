"""The section "Will copies help?": the recorded numbers as they are, and folders of earlier versions without them."""

from dataclasses import replace
from pathlib import Path

import pytest

from curate.mixture.forecast_words import needed_in_words
from curate.mixture.judgment import Judged, judgment
from curate.mixture.verdicts import forecast_budget
from curate.report.finished_run import read_finished
from curate.report.forecast_section import MOST_CLUSTERS, will_copies_help
from tests.fixtures.reports import PWNED, page_of, rewrite_run
from tests.fixtures.splits import power_curves


def test_the_page_says_what_the_run_recorded(finished_run: Path) -> None:
    record = read_finished(finished_run).run["forecast"]
    section = will_copies_help({"forecast": record})
    assert not isinstance(section, str)
    assert [row["name"] for row in section["groups"]] == ["hard", "not hard", "not scored"]
    assert [row["rows"] for row in section["groups"]] == [80, 312, 8]
    assert section["groups"][0]["rows_after"] == 160
    assert section["groups"][0]["steps"] == pytest.approx(2 * 400 / (400 + 80 - 1))  # one row is left out
    text = page_of(finished_run).text
    assert "Will copies help?" in text
    assert "Not forecast." in text
    assert record["verdict"]["reason"] in text
    assert record["verdict"]["command"] in text
    assert "To measure it" in text
    assert needed_in_words(record)[1:] in text
    for number in ("×1.67", "×0.832", "×2", "33.4 %"):
        assert number in text
    assert "fitted to steps 40, 60, 80, 100" in text
    assert "(in-sample)" in text


def test_a_folder_of_an_earlier_version_still_opens(run_copy: Path) -> None:
    rewrite_run(run_copy, lambda run: run.pop("forecast"))
    text = page_of(run_copy).text
    assert "Will copies help?" in text
    assert "This run recorded no numbers about it; run it again with --fresh." in text


def test_notes_cautions_and_names_are_shown_as_text(run_copy: Path) -> None:
    def change(run: dict) -> None:
        found = run["forecast"]
        first = found["clusters"][0] | {"name": f"cluster 0 of {PWNED}", "new": 7, "steps": None, "fall": None}
        found["clusters"] = [first] * (MOST_CLUSTERS + 5)
        found |= {"missing": ["A thing is missing."], "needed": None}
        found["cautions"] = [{"code": "some_code", "message": "Careful.", "remedy": "Look."}]

    rewrite_run(run_copy, change)
    page = page_of(run_copy)
    assert "img" not in {tag for tag, _ in page.elements}
    for words in (
        "A thing is missing.",
        "Careful.",
        "What to do: Look.",
        "some_code",
        "cluster 0 of <script>",
        "7 new",
    ):
        assert words in page.text
    assert f"The first {MOST_CLUSTERS} of {MOST_CLUSTERS + 5} clusters" in page.text
    assert "No number of copies lets hard rows be seen" in page.text


def test_held_out_curves_and_their_verdicts_are_shown(run_copy: Path) -> None:
    better = Judged(right=(0.9, 0.8, 1.0), yes=20, precision=(0.85, 0.7, 0.95), gain=(0.04, 0.01, 0.08))
    shown = replace(judgment(), clock=1.0, outcomes={"loss": better, "answers": better})
    for rule, words in ((shown, "Yes (loss). With hard rows shown"), (judgment(), "Withheld. The rule was right")):
        found = forecast_budget(power_curves(other=0.05), rule=rule)
        rewrite_run(run_copy, lambda run, found=found: run["forecast"].update(found.to_json()))
        text = " ".join(page_of(run_copy).text.split())
        assert words in text
        assert "predicted change of the loss on the mixture" in text.replace("Predicted", "predicted")
    assert "it was right in 85.0 %" not in text
