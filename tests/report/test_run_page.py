"""The page of a run: the same bytes every time, self-contained, and nothing in the data can act on it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

from curate.report import write_report
from tests.fixtures.reports import ACTING, page_of, rewrite_run, write_run


def test_the_same_folder_gives_the_same_bytes_and_nothing_else(run_copy: Path) -> None:
    files = {path.name for path in run_copy.iterdir()}
    first = write_report(run_copy)
    content = first.read_bytes()
    assert first == run_copy / "report.html"
    assert write_report(run_copy).read_bytes() == content
    assert {path.name for path in run_copy.iterdir()} == {*files, "report.html"}


def test_markup_in_the_data_is_text_on_the_page(hostile_run: Path) -> None:
    page = page_of(hostile_run)
    assert len(page.scripts) == 3
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "iframe", "object", "embed", "base", "form", "svg"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "<script>window.pwned=1</script>" in page.text
    figures = next(text for attributes, text in page.scripts if attributes.get("type") == "application/json")
    assert "<" not in figures
    assert "&lt;script&gt;" in json.dumps(json.loads(figures))
    assert "<script>" not in json.dumps(json.loads(figures))


def test_the_policy_runs_two_scripts_and_loads_nothing(finished_run: Path) -> None:
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
    assert len(hashes) == 2
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
