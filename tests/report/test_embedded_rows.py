"""All rows in the page itself: they fit or are left out, and a browser finds in them what `curate view` finds."""

from __future__ import annotations

import base64
import json
import random
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate.report.embedded_rows import packed_rows
from curate.report.finished_run import read_finished
from curate.report.row_store import RowStore
from curate.report.run_page import write_report
from tests.fixtures.browser import CONTRAST, wait_for
from tests.fixtures.reports import Page, page_of, rewrite, rewrite_run

QUERIES: tuple[tuple[dict[str, Any], str | None, bool], ...] = (
    ({}, None, False),
    ({"hard": True}, "difficulty", True),
    ({"hard": False, "noise": False}, "tokens", False),
    ({"noise": True}, "hard", True),
    ({"origin": "synthetic"}, "question", False),
    ({"origin": "duplicate", "search": "ROW-00000"}, "answer", True),
    ({"cluster": "1", "search": "eaten?"}, "example_id", True),
    ({"search": "are left if 5 are eaten"}, "cluster", False),
    ({"search": "no such text"}, None, False),
)
ASK = """((query, sort, descending) => {
    const names = ["search", "hard", "noise", "reducible", "origin", "cluster", "source_label"];
    for (const id of names) document.getElementById(id).value = query[id] ?? "";
    const table = Tabulator.findTable("#rows")[0];
    if (sort) table.setSort(sort, descending ? "desc" : "asc"); else table.clearSort();
    document.getElementById("hard").dispatchEvent(new Event("change"));
})"""
LISTED = """Tabulator.findTable("#rows")[0].getData().map((row) => row.example_id)"""


def contents(directory: Path) -> dict[str, Any]:
    packed = packed_rows(read_finished(directory), 10**9)
    assert packed is not None
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


def test_texts_of_any_kind_are_texts_and_a_copy_costs_no_second_one(run_copy: Path) -> None:
    turns = [
        {"role": "user", "content": "What\nis it?"},
        {"role": "assistant", "content": "A \udc00".encode("utf-8", "replace").decode()},
    ]
    for path in sorted((run_copy / "data").glob("*.parquet")):
        rewrite(
            path,
            lambda table: (
                table.append_column("said", [[turns] * len(table)])
                .append_column("parts", [[{"a": [1, 2]}] * len(table)])
                .append_column("level", pa.array([None, *range(len(table) - 1)]))
            ),
        )
    found = contents(run_copy)
    cells = dict(zip(found["columns"], found["cells"], strict=True))
    assert cells["said"]["values"] == ["user: What\nis it?\n\nassistant: A ?"]
    assert cells["parts"]["values"] == ['{"a": [1, 2]}']
    assert cells["level"]["codes"][0] == -1
    assert len(cells["question"]["values"]) == 399  # of 479 rows
    assert len(found["losses"]) == 400 * len(found["steps"])


def test_a_new_row_without_its_parent_in_the_result_still_has_its_problem(only_hard: Path, tmp_path: Path) -> None:
    for path in sorted((only_hard / "data").glob("*.parquet")):
        rewrite(path, lambda table: table.filter(pc.equal(table["origin"], "synthetic")))
    rewrite_run(only_hard, lambda run: run.update(inputs="0" * 32))
    found = contents(only_hard)
    store = RowStore(only_hard, tmp_path)
    row = store.row(0)
    store.close()
    assert row["row"]["origin"] == "synthetic"
    problem = found["parents"][row["row"]["source_id"]]
    assert (found["columns"][found["problem"]], problem) == ("question", row["parent"]["cells"][found["problem"]])
    assert [text for text in row["parent"]["cells"] if text is not None] == [problem]


def test_a_page_of_more_than_ten_megabytes_says_what_browses_the_rows(run_copy: Path) -> None:
    noise = random.Random(0)
    for path in sorted((run_copy / "data").glob("*.parquet")):
        rewrite(
            path,
            lambda table: table.append_column("blob", [[noise.randbytes(20_000).hex() for _ in range(len(table))]]),
        )
    text = write_report(run_copy).read_text(encoding="utf-8")
    page = Page(text)
    assert "do not fit into a page of 10 MB. curate view out opens them" in page.text
    assert len(page.scripts) == 3
    assert len(text.encode()) < 1_500_000 + 4_000 * 60  # what stands there is the examples'


def test_a_small_result_has_its_rows_in_a_page_of_few_scripts(finished_run: Path) -> None:
    page = page_of(finished_run)
    assert [attributes.get("id") for attributes, _ in page.scripts if "type" in attributes] == [
        "figures",
        "packed-rows",
    ]
    assert len(page.scripts) == 7
    assert (finished_run / "report.html").stat().st_size < 2_500_000


@pytest.mark.slow
def test_the_page_finds_what_the_database_finds(browser: Any, hostile_run: Path, tmp_path: Path) -> None:
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(write_report(hostile_run).as_uri())
    wait_for(browser, "document.body.dataset.ready")
    rewrite_run(hostile_run, lambda run: run.update(inputs="0" * 32))
    store = RowStore(hostile_run, tmp_path)
    for query, sort, descending in QUERIES:
        expected = store.page(query, 1, 50, sort, descending)
        field = f"text_{store.columns.index(sort)}" if sort in store.columns else sort
        asked = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}
        browser.execute_script(f"{ASK}({json.dumps(asked)}, {json.dumps(field)}, {json.dumps(descending)})")
        wait_for(browser, f"document.getElementById('total').textContent.startsWith('{expected['total']:,} of ')")
        ids = [row["example_id"] for row in expected["data"]]
        wait_for(browser, f"JSON.stringify({LISTED}) === {json.dumps(json.dumps(ids, separators=(',', ':')))}")

    # A new row beside the one that it was made from, whole, whatever their texts hold.
    browser.execute_script(f"{ASK}({{ origin: 'synthetic' }}, null, false)")
    wait_for(browser, "document.getElementById('total').textContent.startsWith('81 of ')")
    child = store.page({"origin": "synthetic"}, 1, 1, None, False)["data"][0]
    browser.execute_script("document.querySelector('#rows .tabulator-cell[tabulator-field=difficulty]').click()")
    wait_for(browser, "document.querySelectorAll('#detail .pair > div').length === 2")
    whole = store.row(child["n"])
    shown = browser.execute_script(
        "return [...document.querySelectorAll('#detail pre')].map((text) => text.textContent)"
    )
    assert shown == [text for row in (whole["parent"], whole["row"]) for text in row["cells"] if text is not None]
    assert "<script>window.pwned=1</script>" in "".join(shown)
    assert len(browser.execute_script("return document.getElementById('curve').data[0].y")) == len(store.steps)

    # A lasso lists what is inside and draws its trajectories; what is marked is saved as ids.
    browser.execute_script("document.getElementById('clear').click()")
    wait_for(browser, "document.getElementById('points').data?.[1].x.length > 50")
    inside = "document.getElementById('points').data[1].customdata.slice(0, 7).map((n) => ({ customdata: n }))"
    browser.execute_script(f"document.getElementById('points').emit('plotly_selected', {{ points: {inside} }})")
    wait_for(browser, "document.getElementById('total').textContent.startsWith('7 of')")
    wait_for(browser, "document.getElementById('curves').data?.length === 7")
    browser.execute_script(
        "URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return '#'; }"
    )
    listed = browser.execute_script(f"return {LISTED}")
    browser.execute_script("document.getElementById('mark_all').click()")
    wait_for(browser, "document.getElementById('marked').textContent === '7 marked'")
    browser.execute_script("document.getElementById('export').click()")
    assert wait_for(browser, "window.saved").splitlines() == listed
    store.close()

    # A point of the figure above opens its row here.
    point = "document.getElementById('plot-lengths').data[0]"
    label = browser.execute_script(f"return {point}.text[5]")
    clicked = f"{{ points: [{{ customdata: {point}.customdata[5] }}] }}"
    browser.execute_script(f"document.getElementById('plot-lengths').emit('plotly_click', {clicked})")
    wait_for(browser, f"{json.dumps(label)}.includes(document.querySelector('#detail h2').textContent.slice(0, 11))")
    assert browser.execute_script(CONTRAST) == {}
    assert not browser.execute_script("return window.pwned")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    requests = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url.split(":")[0] for url in requests} <= {"file", "data"}
