"""The page of a comparison: complete, self-contained, harmless, readable on any screen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.comparison.compare import Comparison, compare
from curate.comparison.page import comparison_page
from curate.console.formatting import visible
from curate.errors import InputError
from tests.fixtures.browser import CONTRAST, chromium, wait_for
from tests.fixtures.reports import PWNED, Page
from tests.fixtures.studies import write_study

ARMS = {"original": 0.0, "hard": 1.5, "random": 0.0, f"odd {PWNED}": -1.5}
MARKS = "document.querySelectorAll('.plot svg.main-svg .plot path, .plot .points path').length > 20"


def page_of(found: Comparison) -> str:
    return comparison_page(found.record, found.curves, found.outcomes)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Every text that the data can choose holds markup: arms, levels, sources, questions, answers, completions."""
    root = tmp_path_factory.mktemp("study")
    runs = write_study(root, ARMS, seeds=2, sets={"gsm8k": 60, "math": 60}, budgets=("steps", "epochs"), hostile=PWNED)
    return compare(runs)


@pytest.fixture(scope="module")
def page_file(compared: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    compared.write(path)
    return path


@pytest.fixture(scope="module")
def page(page_file: Path) -> Page:
    return Page(page_file.read_text(encoding="utf-8"))


def test_the_page_has_every_section(page: Page) -> None:
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {"accuracy", "nll", "levels", "sources", "curves", "cost", "outcomes", "method"} <= ids
    figures = json.loads(next(text for attributes, text in page.scripts if attributes.get("id") == "figures"))
    assert set(figures) <= ids
    assert {"plot-forest-accuracy", "plot-forest-nll", "plot-levels-0", "plot-loss-0", "plot-loss-1"} <= set(figures)
    assert "hard beats original by" in page.text
    assert "nan" not in re.findall(r"[a-z]+", page.text.lower())


def test_the_forest_plot_holds_the_intervals_of_the_table(compared: Comparison, page: Page) -> None:
    figures = json.loads(next(text for attributes, text in page.scripts if attributes.get("id") == "figures"))
    forest = figures["plot-forest-accuracy"]["data"]
    drawn = {}
    for trace in forest:
        error = trace["error_x"]
        for place, x, more, less in zip(trace["y"], trace["x"], error["array"], error["arrayminus"], strict=True):
            drawn[place] = (trace["name"], x - less, x, x + more)
    rows = compared.primary
    assert len(drawn) == len(rows)
    for place, row in enumerate(rows):
        verdict, *numbers = drawn[place]
        assert verdict == row["verdict"]
        assert numbers == pytest.approx([100 * row[key] for key in ("low", "difference", "high")], abs=0.02)


def test_markup_in_the_data_is_text(page: Page) -> None:
    assert "<script>window.pwned=1</script>" in page.text
    assert len(page.scripts) == 3
    assert not [attributes for tag, attributes in page.elements if tag == "img" or "onerror" in attributes]


def test_nothing_is_loaded(page_file: Path, page: Page) -> None:
    policy = next(attributes["content"] for _, attributes in page.elements if attributes.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not [value for _, each in page.elements for key, value in each.items() if key == "src"]


def test_wins_show_question_answer_and_both_completions(compared: Comparison, page: Page) -> None:
    example = next(each for each in compared.outcomes if each.arm == "hard").gains[0]
    for text in (example.question, example.answer, example.arm_completion, example.baseline_completion):
        assert text is not None
        assert " ".join(visible(text).split()) in page.text


def test_a_narrow_screen_shows_the_verdict_before_it_scrolls(page: Page, page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    heads = re.findall(r"<thead><tr>(.*?)</tr></thead>", text)
    first = re.findall(r"<th[^>]*>(?:<bdi>)?([^<]*)", heads[0])
    assert first[:4] == ["Arm", "Verdict", "Difference", "95 % interval"]
    assert "<caption>" not in text
    assert "against other extra rows" in page.text


def test_the_same_comparison_gives_the_same_page(compared: Comparison) -> None:
    assert page_of(compared) == page_of(compared)


def test_a_page_without_answers_curves_or_levels(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {"original": 0.0, "hard": 0.5}, seeds=1, sets={"a": 12}, generated=False)
    for run in runs:
        (run / "metrics.jsonl").unlink()
    text = Page(page_of(compare(runs))).text
    assert "Loss on the reference answers" in text
    assert "the variance between seeds is unknown" in text


def test_a_lone_evaluation_set_is_not_shown_twice_and_losses_are_drawn_as_differences(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {"original": 0.0, "hard": 0.5}, seeds=2, sets={"math": 60}, generated=False)
    found = compare(runs)
    page = Page(page_of(found))
    assert "Weight of each set in the pooled row" not in page.text
    figures = json.loads(next(text for attributes, text in page.scripts if attributes.get("id") == "figures"))
    forest = figures["plot-forest-nll"]
    assert [len(trace["x"]) for trace in forest["data"]] == [1]
    assert forest["layout"]["xaxis"]["exponentformat"] == "none"
    (bars,) = figures["plot-levels-0"]["data"]
    rows = [each for each in found.record["levels"] if each["metric"] == "nll"]
    assert bars["name"] == "hard"
    assert bars["y"] == pytest.approx([each["difference"] for each in rows], rel=1e-3)
    reach = [more + middle for more, middle in zip(bars["error_y"]["array"], bars["y"], strict=True)]
    assert reach == pytest.approx([each["high"] for each in rows], rel=1e-2, abs=1e-4)
    assert {each["set"] for each in found.record["differences"]} == {"pooled", "mean of groups", "math"}


def test_a_page_needs_a_name_of_a_page(compared: Comparison, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.html"):
        compared.write(tmp_path / "report.txt")


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as session:
        yield session


def open_page(browser: Any, path: Path, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    media = {"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(path.as_uri())
    wait_for(browser, MARKS)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_page_is_drawn_readable_and_no_wider_than_the_screen(
    browser: Any, page_file: Path, width: int, scheme: str
) -> None:
    open_page(browser, page_file, width, scheme)
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    wait_for(browser, "document.querySelectorAll('.plot .xtick text').length > 5")
    assert browser.execute_script(CONTRAST) == {}  # opens every <details> too
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return window.pwned") is None
    assert browser.execute_script("return document.querySelectorAll('main img, main script').length") == 0
