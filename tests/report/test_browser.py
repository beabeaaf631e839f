"""The report in a browser: it draws, loads nothing, fits every width and can be read and printed."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from curate.report import write_report
from tests.fixtures.browser import CONTRAST, wait_for


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
