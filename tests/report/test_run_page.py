"""The page of a run: the same bytes every time, self-contained, and nothing in the data can act on it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import unicodedata
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.mixture.forecast_words import needed_in_words
from curate.mixture.judgment import Judged, judgment
from curate.mixture.verdicts import forecast_budget
from curate.report.finished_run import read_finished
from curate.report.run_page import MOST_CLUSTERS, will_copies_help, write_report
from tests.fixtures.browser import CONTRAST, wait_for
from tests.fixtures.reports import ACTING, PWNED, page_of, rewrite, rewrite_run, write_run
from tests.fixtures.splits import power_curves


def test_the_same_folder_gives_the_same_bytes_and_nothing_else(run_copy: Path) -> None:
    files = {path.name for path in run_copy.iterdir()}
    first = write_report(run_copy)
    content = first.read_bytes()
    assert first == run_copy / "report.html"
    assert write_report(run_copy).read_bytes() == content
    assert {path.name for path in run_copy.iterdir()} == {*files, "report.html"}


def test_markup_in_the_data_is_text_on_the_page(hostile_run: Path) -> None:
    page = page_of(hostile_run)
    assert len(page.scripts) == 7
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "iframe", "object", "embed", "base", "form", "svg"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "<script>window.pwned=1</script>" in page.text
    figures = next(text for attributes, text in page.scripts if attributes.get("type") == "application/json")
    assert "<" not in figures
    assert "&lt;script&gt;" in json.dumps(json.loads(figures))
    assert "<script>" not in json.dumps(json.loads(figures))


def test_the_policy_runs_the_scripts_of_the_page_and_loads_nothing(finished_run: Path) -> None:
    page = page_of(finished_run)
    metas = [attributes for tag, attributes in page.elements if tag == "meta"]
    policy = next(str(meta["content"]) for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert set(rules) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    assert "unsafe" not in rules["script-src"]
    assert (rules["style-src"], rules["img-src"]) == ("'unsafe-inline'", "data:")
    ours = [text for attributes, text in page.scripts if "type" not in attributes]
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in ours}
    assert set(rules["script-src"].split()) == hashes
    assert len(hashes) == 5
    for tag, attributes in page.elements:
        assert "src" not in attributes
        assert str(attributes.get("href", "#")).startswith(("#", "data:")), tag


def test_acting_characters_are_spelled_out(run_copy: Path) -> None:
    shutil.rmtree(run_copy)
    run_copy.mkdir()
    write_run(run_copy, hostile=ACTING)
    rewrite_run(run_copy, lambda run: run["data"].update(shape="lone \ud800 surrogate"))
    text = write_report(run_copy).read_text(encoding="utf-8")
    own = text.index("/**")  # plotly's source has some of its own
    page = text[:own]
    bad = {character for character in page if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert bad <= {"\n", "\t"}
    assert "␛[2J␀␇⟨U+202E⟩⟨U+2066⟩" in page
    assert "lone ⟨U+D800⟩ surrogate" in page


def test_importing_the_report_loads_neither_torch_nor_plotly() -> None:
    code = "import sys, curate.report; print(*{'torch', 'plotly', 'sklearn', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# ---- what it says


def test_the_headline_says_what_was_done(finished_run: Path) -> None:
    text = page_of(finished_run).text
    assert text.count("400 rows in, 479 rows out") == 2
    assert (
        "80 rows (20.4 % of the scored rows) were learned late by the proxy EleutherAI/pythia-70m and are shown "
        "twice. 1 row was left out."
    ) in text


def test_the_headline_tells_unequal_copies_as_an_average_and_names_no_proxy_from_scratch(run_copy: Path) -> None:
    def half_of_them_thrice(table: pa.Table) -> pa.Table:
        count = table["count"].to_numpy().copy()
        twice = np.flatnonzero(count == 2)
        count[twice[: len(twice) // 2]] = 3
        return table.set_column(table.schema.get_field_index("count"), "count", [count])

    rewrite(run_copy / "tables/plan.parquet", half_of_them_thrice)
    rewrite_run(run_copy, lambda run: run["proxy"].update(model="scratch"))
    text = page_of(run_copy).text
    assert "were learned late by a proxy trained from scratch and are shown 2.5 times on average. 1 row" in text


def quality_of(run_copy: Path, diagnostics: dict[str, Any]) -> list[str]:
    """The words of the section on the split."""
    rewrite_run(run_copy, lambda run: run.update(diagnostics=diagnostics))
    text = page_of(run_copy).text
    start = text.index("Quality of the split")
    return text[start : text.index("Examples", start)].split()


def test_quality_says_what_was_not_measured(run_copy: Path) -> None:
    found = quality_of(run_copy, {"silhouette": None, "seed_agreement": None, "length_correlation": None})
    assert found.count("–") == 3
    assert "--stability" in found


@pytest.mark.parametrize(
    ("diagnostics", "says"),
    [
        ({"silhouette": 0.71}, "Strong structure"),
        ({"silhouette": 0.10, "silhouette_rows": 4000}, "No substantial structure, on a sample of 4,000 rows"),
        ({"length_correlation": -0.62}, "largely a matter of length: short completions"),
        ({"diverged": {"ok": False, "fall": 0.01}}, "have not fallen"),
        (
            {"diverged": {"ok": True, "fall": 0.5, "separation": 2}},
            "proxy trained. The mean loss fell by 0.500 standard deviations of the rows' first loss (0.1 is the least "
            "that counts). Hard and easy rows lie 2 times as far apart as a row from its own group (at least 1).",
        ),
        ({"noise": {"suspects": 0}}, "Rows whose loss stays high 0.0 % No row"),
        (
            {"seed_agreement": {"seeds": 3, "jaccard": 0.5, "jaccard_min": 0.4, "ari": 0.25}},
            "50.0 % are hard in both (the mean over the pairs of 3 seeds; the worst pair 40.0 %). Adjusted",
        ),
    ],
)
def test_quality_is_told_in_words(run_copy: Path, diagnostics: dict[str, Any], says: str) -> None:
    assert says in " ".join(quality_of(run_copy, diagnostics))


def open_page(browser: Any, directory: Path, width: int = 1280, scheme: str = "light") -> None:
    """Open the report; the logs then hold what happened since."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    media = {"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(write_report(directory).as_uri())
    wait_for(browser, "document.querySelectorAll('.plot svg.main-svg .plot path, .plot .points path').length > 20")


@pytest.mark.slow
def test_the_page_draws_its_plots_without_errors_or_requests(browser: Any, hostile_run: Path) -> None:
    open_page(browser, hostile_run)
    least = {"plot-trajectories": 20, "plot-difficulty": 20, "plot-lengths": 20, "plot-right-0": 3}
    for name, number in {**least, "plot-new-difficulty": 3}.items():
        marks = f"document.querySelectorAll('#{name} svg .scatterlayer path, #{name} svg .barlayer path').length"
        assert wait_for(browser, marks) >= number, name
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    requests = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    page = (hostile_run / "report.html").as_uri()
    assert page in requests
    assert [url for url in requests if url != page and not url.startswith("data:")] == []


@pytest.mark.slow
def test_nothing_planted_in_the_data_runs(browser: Any, hostile_run: Path) -> None:
    open_page(browser, hostile_run)
    browser.execute_script("document.querySelectorAll('details').forEach((item) => { item.open = true })")
    # The ids of single rows appear only when the pointer is on them.
    hover = "const plot = document.getElementById('plot-trajectories'), i = plot.data.findIndex((t) => t.text);"
    browser.execute_script(f"{hover} Plotly.Fx.hover(plot, [{{curveNumber: i, pointNumber: 0}}])")
    shown = wait_for(browser, "document.querySelector('#plot-trajectories .hoverlayer')?.textContent")
    assert "<script>window.pwned=1</script>" in shown
    assert browser.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    assert browser.execute_script("return window.pwned") is None
    assert "<script>window.pwned=1</script>" in browser.execute_script("return document.body.innerText")


@pytest.mark.slow
def test_the_policy_stops_what_would_get_past_the_escaping(browser: Any, finished_run: Path) -> None:
    hits: list[str] = []

    class Count(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><body>a page without a policy")

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Count)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/x"
    attempt = f"""
        const done = arguments[0], inline = document.createElement("script"), image = new Image();
        inline.textContent = "window.pwned = 1";
        document.body.append(inline);
        image.onload = image.onerror = () => fetch("{url}", {{mode: "no-cors"}}).then(
            () => done(window.pwned), () => done(window.pwned));
        image.src = "{url}";
    """
    try:
        open_page(browser, finished_run)
        assert browser.execute_async_script(attempt) is None
        assert hits == []
        browser.get(url.replace("/x", "/"))
        assert browser.execute_async_script(attempt) == 1
        assert hits.count("/x") == 2
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 375, 768])
def test_no_width_makes_the_page_scroll_sideways(browser: Any, hostile_run: Path, width: int) -> None:
    open_page(browser, hostile_run, width)
    browser.execute_script("document.querySelectorAll('details').forEach((item) => { item.open = true })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.plot svg.main-svg')].map((svg) => svg.getBoundingClientRect().right)"
    )
    assert widths
    assert max(widths) <= width


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(browser: Any, hostile_run: Path, scheme: str) -> None:
    open_page(browser, hostile_run, scheme=scheme)
    wait_for(browser, "document.querySelectorAll('.plot .xtick text').length > 5")
    assert browser.execute_script(CONTRAST) == {}
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.slow
def test_printing_is_light_and_opens_what_matters(browser: Any, finished_run: Path) -> None:
    open_page(browser, finished_run, scheme="dark")
    before = browser.execute_script("return document.querySelectorAll('details[open]').length")
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    opened = browser.execute_script("return document.querySelectorAll('details[open]').length")
    assert (before, opened) == (0, 16)
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    ink = wait_for(browser, "getComputedStyle(document.querySelector('.plot .xtick text')).fill")
    assert ink == "rgb(27, 31, 36)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script("return document.querySelectorAll('details[open]').length") == 0


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
