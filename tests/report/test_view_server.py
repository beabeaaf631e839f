"""The page of `curate view`: who may ask, what it shows, and how fast, in a real browser."""

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from curate.report.view_server import Access
from tests.fixtures.browser import wait_for
from tests.fixtures.views import served, write_rows

ROWS = 20_000
SET = """((id, value, kind) => {
    const element = document.getElementById(id);
    element.value = value;
    element.dispatchEvent(new Event(kind));
})"""
HOSTILE = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: str


def _ask(access: Access, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", access.port, timeout=20)
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    connection.request(method, path, text, {"Host": access.hosts()[0], **headers})
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read().decode())
    connection.close()
    return answer


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    folder = tmp_path_factory.mktemp("view")
    write_rows(folder / "out", ROWS, HOSTILE)
    with served(folder / "out", folder) as found:
        yield found


def test_the_token_works_once_and_is_in_no_further_address(tmp_path: Path) -> None:
    write_rows(tmp_path / "out", 20)
    with served(tmp_path / "out", tmp_path) as access:
        assert _ask(access, "GET", "/").status == 403
        assert _ask(access, "GET", "/?token=wrong").headers["set-cookie"] is None
        first = _ask(access, "GET", f"/?token={access.token}")
        assert (first.status, first.headers["location"]) == (303, "/")
        assert first.headers["referrer-policy"] == "no-referrer"
        cookie = first.headers["set-cookie"] or ""
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert _ask(access, "GET", f"/?token={access.token}").headers["set-cookie"] is None
        session = cookie.partition(";")[0]
        page = _ask(access, "GET", "/", Cookie=session)
        assert page.status == 200
        policy = page.headers["content-security-policy"] or ""
        assert "default-src 'none'; script-src 'self';" in policy
        assert access.token not in page.body
        own = f"http://{access.hosts()[0]}"
        asked = {"Cookie": session, "Origin": own}
        assert _ask(access, "POST", "/api/rows", {}, **asked).status == 200
        assert _ask(access, "POST", "/api/rows", {}, Cookie=session).status == 403  # from nowhere
        assert _ask(access, "POST", "/api/rows", {}, Cookie=session, Origin="http://evil.example").status == 403
        assert _ask(access, "POST", "/api/rows", {}, Origin=own).status == 403  # without the cookie
        rebound = {**asked, "Host": f"evil.example:{access.port}", "Origin": f"http://evil.example:{access.port}"}
        assert _ask(access, "POST", "/api/rows", {}, **rebound).status == 403
        assert _ask(access, "GET", "/assets/report.css", Cookie=session).status == 404
        assert _ask(access, "GET", "/assets/..%2f..%2fpipeline.py", Cookie=session).status == 404
        assert _ask(access, "POST", "/api/row", {"n": "x"}, **asked).status == 400
        assert _ask(access, "POST", "/api/rows", ["x" * 2_000_000], **asked).status == 413
        for name, body in (
            *(("row", {"n": n}) for n in (None, -1, 1e30, float("inf"), 10**30, True)),
            *(("rows", {"page": page}) for page in ("1", None, 10**30, float("nan"), [])),
            *(("rows", {"size": 10**30}), ("rows", {"sort": "n; drop table rows"}), ("row", {}), ("nothing", {})),
            *(("rows", text) for text in ("[" * 200_000, "{", '{"query": "x"}')),
        ):
            refused = _ask(access, "POST", f"/api/{name}", body, **asked)
            assert (refused.status, set(json.loads(refused.body))) == (400, {"error"}), (name, body)
        assert _ask(access, "GET", "/", Cookie="curate_view=\xe9").status == 403


@pytest.mark.slow
def test_rows_are_browsed_in_a_browser(browser: Any, access: Access) -> None:
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    started = time.monotonic()
    browser.get(access.address)
    wait_for(browser, "document.querySelectorAll('#rows .tabulator-row').length > 20")
    assert time.monotonic() - started < 20  # promised: 2 s on an idle machine; this one may be shared
    assert browser.current_url.endswith("/")
    assert wait_for(browser, "document.getElementById('total').textContent") == "22,000 of 22,000 rows"

    browser.execute_script(f"{SET}('hard', 'true', 'change')")
    wait_for(browser, "document.getElementById('total').textContent.startsWith('4,000')")
    browser.execute_script(f"{SET}('search', 'question 770 <img', 'input')")
    wait_for(browser, "document.getElementById('total').textContent.startsWith('2 of')")
    wait_for(browser, "document.querySelectorAll('#rows .tabulator-row').length === 2")

    # A copy stands beside its original, with its trajectory, and what the data holds is text.
    copy = "[...document.querySelectorAll('#rows .tabulator-row')].find((row) => row.textContent.includes('duplicate'))"
    browser.execute_script(f"{copy}.querySelector('.tabulator-cell[tabulator-field=difficulty]').click()")
    wait_for(browser, "document.querySelectorAll('#detail .pair > div').length === 2")
    text = browser.execute_script("return document.getElementById('detail').textContent")
    assert "from r770" in text
    assert HOSTILE in text
    assert wait_for(browser, "document.getElementById('curve')?.data[0].y.join()") == "772,771"

    browser.execute_script("document.querySelector('#rows .tabulator-cell').click()")
    assert wait_for(browser, "document.getElementById('marked').textContent") == "1 marked"

    # A lasso in the plot lists what is inside, and a point opens its row.
    browser.execute_script("document.getElementById('clear').click()")
    wait_for(browser, "document.getElementById('total').textContent.startsWith('22,000')")
    wait_for(browser, "document.getElementById('points').data?.[0].x.length > 1000")
    inside = "document.getElementById('points').data[0].customdata.slice(0, 7).map((n) => ({ customdata: n }))"
    browser.execute_script(f"document.getElementById('points').emit('plotly_selected', {{ points: {inside} }})")
    wait_for(browser, "document.getElementById('total').textContent.startsWith('7 of')")
    assert not browser.execute_script("return window.pwned")
    severe = [each["message"] for each in browser.get_log("browser") if each["level"] == "SEVERE"]
    assert severe == []


def _quickest(limit: float, *attempts: Callable[[], None]) -> None:
    """The quickest of several attempts is within `limit` seconds, times the load of each core: others may use them."""
    seconds = []
    for attempt in attempts:
        started = time.monotonic()
        attempt()
        seconds.append(time.monotonic() - started)
    assert min(seconds) < limit * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), seconds


@pytest.mark.long
def test_a_million_rows_are_as_quick(browser: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "out", 1_000_000, "x" * 280)
    total = "document.getElementById('total').textContent.startsWith"
    with served(tmp_path / "out", tmp_path) as access:

        def first_page(address: str) -> None:
            browser.get(address)
            wait_for(browser, "document.querySelectorAll('#rows .tabulator-row').length > 10", every=0.05)

        def changed(control: str, value: str, found: str) -> None:
            kind = "input" if control == "search" else "change"
            browser.execute_script(f"{SET}('{control}', '{value}', '{kind}')")
            wait_for(browser, f"{total}('{found}')", every=0.05)

        own = f"http://{access.hosts()[0]}/"
        _quickest(2.0, partial(first_page, access.address), partial(first_page, own), partial(first_page, own))
        hard = [("true", "200,000 of"), ("false", "900,000 of"), ("", "1,100,000 of")]
        _quickest(1.0, *(partial(changed, "hard", *each) for each in hard))
        searches = [("question 7770 x", "2 of"), ("question 77711 x", "1 of"), ("question 8880 x", "2 of")]
        _quickest(1.0, *(partial(changed, "search", *each) for each in searches))
