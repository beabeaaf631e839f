"""The report: what it says, that it never says more than it knows, and that nothing in the data can act."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.console.formatting import (
    as_json,
    compact,
    count,
    decimal,
    duration,
    one_line,
    plot_text,
    share,
    times,
    visible,
)
from curate.errors import InputError
from curate.report import figures, write_report
from curate.report.finished_run import Finished, Rows, Trajectories, read_finished, read_output
from curate.report.sections import Absent, headline, origins, quality, sources
from curate.report.texts import extremes, rejections
from curate.storage.records import record_text
from tests.fixtures.synthesis import write_synthesis

PWNED = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">'
STEPS = (20, 40, 60, 80, 100)


def write_run(directory: Path, n: int = 400, hostile: str = "", seed: int = 0) -> dict[str, Any]:
    """A folder as a finished run leaves it: a fifth of the rows hard and planned twice, one row left out."""
    rng = np.random.default_rng(seed)
    (directory / "tables").mkdir(parents=True)
    (directory / "data").mkdir()
    ids = np.array([f"row-{i:07d}{hostile}" for i in range(n)])
    valid = np.arange(n) % 50 != 49
    hard = valid & (np.arange(n) % 5 == 0)
    rate = np.where(hard, 0.2, 1.0) * rng.uniform(0.7, 1.3, n)
    start = np.where(hard, 1.7, 1.2) * rng.uniform(0.8, 1.2, n)
    losses = (start[:, None] * np.exp(-rate[:, None] * np.arange(5) / 3)).astype(np.float32)
    losses[~valid] = np.nan
    tokens = np.where(valid, rng.lognormal(4.5, 0.6, n).astype(np.int32) + 1, 0).astype(np.int32)
    difficulty = losses.mean(axis=1)
    nulls = ~valid
    source = np.array([f"source {i % 4}{hostile}" for i in range(n)])
    cluster = np.where(valid, hard.astype(np.int32), -2).astype(np.int32)
    table = {"example_id": ids, "tokens": tokens}
    table |= {f"loss_{step}": pa.array(losses[:, k], mask=nulls) for k, step in reversed([*enumerate(STEPS)])}
    pq.write_table(pa.table(table), directory / "tables/trajectories.parquet")
    pq.write_table(
        pa.table(
            {
                "example_id": ids,
                "difficulty": pa.array(difficulty, mask=nulls),
                "valid": valid,
                "tokens": tokens,
                "truncated": np.zeros(n, bool),
                **{f"feature_{k}": losses[:, k] for k in range(5)},
            }
        ),
        directory / "tables/scores.parquet",
    )
    split = {"example_id": ids, "source": source, "cluster": cluster, "hard": hard}
    split |= {"difficulty": pa.array(difficulty, mask=nulls), "noise_suspect": hard & (np.arange(n) % 25 == 0)}
    pq.write_table(pa.table(split), directory / "tables/split.parquet")
    counts = np.where(hard, 2, 1).astype(np.int32)
    easiest = np.argsort(np.where(valid, difficulty, np.inf))[3]
    counts[easiest] = 0
    reason = [None] * n
    reason[easiest] = "near-duplicate of another row"
    plan = {"example_id": ids, "count": counts, "reason": pa.array(reason, pa.string())}
    pq.write_table(pa.table(plan), directory / "tables/plan.parquet")
    write_rejected(directory, hostile)
    order = rng.permutation(np.repeat(np.arange(n), counts))
    copy = np.zeros(len(order), np.int32)
    copy[np.unique(order, return_index=True)[1]] = 1
    duplicate = copy == 0
    question = [f"Question {i}: how many of {i} apples are left if {i // 3} are eaten?{hostile}" for i in range(n)]
    answer = [f"{i} - {i // 3} = {i - i // 3}\n#### {i - i // 3}{hostile}" for i in range(n)]
    data = {
        "question": pa.array([question[i] for i in order]),
        "answer": pa.array([answer[i] for i in order]),
        "example_id": [f"{ids[i]}#2" if c else str(ids[i]) for i, c in zip(order, duplicate, strict=True)],
        "source_id": ids[order],
        "origin": np.where(duplicate, "duplicate", "original"),
        "copy": duplicate.astype(np.int32),
        "difficulty": pa.array(difficulty[order], mask=nulls[order]),
        "cluster": cluster[order],
        "hard": hard[order],
    }
    half = len(order) // 2
    for number, part in enumerate((pa.table(data)[:half], pa.table(data)[half:])):
        path = directory / f"data/train-0000{number}-of-00002.parquet"
        pq.write_table(part, path, row_group_size=max(100, n // 20))
    run = run_record(n, valid, hard, counts, tokens, hostile)
    (directory / "run.json").write_text(record_text(run))
    return run


def write_rejected(directory: Path, hostile: str) -> None:
    reasons = ["completion is empty"] * 5 + [f"prompt is not text{hostile}"] * 2
    table = {"row": np.arange(7), "example_id": [f"bad-{i}{hostile}" for i in range(7)], "stage": ["read"] * 7}
    table |= {"reason": reasons, "content": [json.dumps({"question": f"q {i}{hostile}"}) for i in range(7)]}
    pq.write_table(pa.table(table), directory / "tables/rejected.parquet")


def run_record(n: int, valid: Any, hard: Any, counts: Any, tokens: Any, hostile: str) -> dict[str, Any]:
    total = int(counts.sum())
    return {
        "curate_version": "0.1.0",
        "recipe": {"seed": 7},
        "recipe_yaml": (
            "proxy:      {model: EleutherAI/pythia-70m, steps: 1/3 epoch, checkpoints: 5}\n"
            "scorer:     {use: LossTrajectory, features: absolute}\n"
            "clusterer:  {use: KMeans, n_clusters: 2}\n"
            f"augmenters: [{{use: Duplicate, times: 1}}]\nseed: 7\n{hostile}"
        ),
        "seed": 7,
        "created": "2026-01-02T03:04:05Z",
        "data": {
            "source": f"problems.parquet{hostile}",
            "rows_read": n + 7,
            "rows_used": n,
            "shape": "question_answer",
            "columns": {"prompt": "question", "completion": "answer", "source": "source"},
            "fingerprint": "8f14e45fceea167a5a36dedd4bea2543",
        },
        "proxy": {
            "model": f"EleutherAI/pythia-70m{hostile}",
            "parameters": 70_426_624,
            "steps": list(STEPS),
            "steps_per_epoch": 300,
            "batch_size": 128,
            "learning_rate": 2e-5,
            "tokens_trained": 1_234_567,
            "precision": "float32",
            "fingerprint": "c9f0f895fb98ab9159f51fd0297e236d",
        },
        "counts": {
            "input": n,
            "valid": int(valid.sum()),
            "invalid": int((~valid).sum()),
            "hard": int(hard.sum()),
            "easy": int((valid & ~hard).sum()),
            "noise": 0,
            "rejected": 7,
            "output": total,
            "original": int((counts > 0).sum()),
            "duplicate": total - int((counts > 0).sum()),
            "replay": 0,
            "synthetic": 0,
            "tokens_before": int(tokens.sum()),
            "tokens_after": int((tokens * counts).sum()),
        },
        "diagnostics": {
            "silhouette": 0.43,
            "silhouette_rows": 4000,
            "seed_agreement": {"seeds": 3, "jaccard": 0.81, "jaccard_min": 0.78, "ari": 0.74},
            "feature_agreement": {"jaccard": 0.52, "ari": 0.41},
            "hard_share": float(hard.sum() / valid.sum()),
            "hard_share_by_source": {},
            "length_correlation": -0.12,
            "diverged": {"ok": True, "fall": 0.61, "separation": 2.4},
            "noise": {"suspects": 16, "share": 0.04},
        },
        "warnings": [
            {
                "code": "likely_noise",
                "message": f"4.1 % of the rows keep a high loss that hardly falls{hostile}",
                "remedy": "read tables/split.parquet where noise_suspect is true",
            }
        ],
        "cost": {
            "stages": [
                {"name": "tokenize", "seconds": 2.1, "tokens": 1_500_000, "cached": False},
                {"name": "train proxy", "seconds": 812.0, "tokens": 1_234_567, "cached": False},
                {"name": "score", "seconds": 4021.0, "tokens": 7_500_000, "cached": True},
            ],
            "seconds": 4835.1,
        },
        "versions": {"python": "3.11.9", "torch": "2.13.0", f"plug-in{hostile}": hostile or "1.0"},
        "machine": {"cpu": "8 cores", "gpu": {"name": None}},
    }


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "out"
    directory.mkdir()
    write_run(directory)
    return directory


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "out", ignore=shutil.ignore_patterns("report.html")))


def rows_of(directory: Path) -> tuple[Finished, Rows]:
    finished = read_finished(directory)
    assert finished.rows is not None
    return finished, finished.rows


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def rewrite_run(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    run = json.loads((directory / "run.json").read_text())
    change(run)
    (directory / "run.json").write_text(record_text(run))


class Page(HTMLParser):
    """Elements of a page with their attributes, the scripts, and the visible text; checks that tags nest."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(directory: Path) -> Page:
    return Page(write_report(directory).read_text(encoding="utf-8"))


# ---- what it says


def test_the_headline_says_what_was_done(finished_run: Path) -> None:
    finished, _ = rows_of(finished_run)
    title, lead = headline(finished)
    assert title == "400 rows in, 479 rows out"
    assert lead == (
        "80 rows (20.4 % of the scored rows) were learned late by the proxy EleutherAI/pythia-70m and are shown "
        "twice. 1 row was left out."
    )


def test_unequal_copies_are_told_as_an_average(finished_run: Path) -> None:
    finished, rows = rows_of(finished_run)
    assert rows.copies is not None
    copies = rows.copies.copy()
    copies[np.flatnonzero(rows.hard)[: rows.hard.sum() // 2]] = 3
    _, lead = headline(replace(finished, rows=replace(rows, copies=copies)))
    assert "are shown 2.5 times on average" in lead


def test_sizes_add_up(finished_run: Path) -> None:
    finished, rows = rows_of(finished_run)
    output = read_output(finished)
    sizes = origins(finished, output)
    assert not isinstance(sizes, Absent)
    assert [size.name for size in sizes] == ["input", "original", "duplicate", "output"]
    first, *parts, last = sizes
    assert sum(part.rows for part in parts) == last.rows == finished.run["counts"]["output"]
    assert sum(part.tokens or 0 for part in parts) == last.tokens == finished.run["counts"]["tokens_after"]
    assert sum(part.share or 0 for part in parts) == pytest.approx(1)
    assert rows.tokens is not None
    assert (first.rows, first.tokens) == (400, rows.tokens.sum())
    listed = sources(finished, output)
    assert not isinstance(listed, Absent)
    assert listed[1] == 4
    assert sum(row.before for row in listed[0]) == 400
    assert sum(row.after or 0 for row in listed[0]) == last.rows
    assert sum(row.tokens_before or 0 for row in listed[0]) == first.tokens
    assert sum(row.tokens_after or 0 for row in listed[0]) == last.tokens
    assert sum(row.hard for row in listed[0]) == 80
    shares = [row.hard_share or 0 for row in listed[0]]
    assert shares == sorted(shares, reverse=True)


def test_tokens_of_new_rows_are_not_invented(run_copy: Path) -> None:
    """Synthetic rows name a parent, replayed rows none; nobody counted the tokens of either."""

    def some_are_new(table: pa.Table) -> pa.Table:
        origin = ["synthetic", "synthetic", "replay", *table["origin"].to_pylist()[3:]]
        parents = [*table["source_id"].to_pylist()[:2], "elsewhere", *table["source_id"].to_pylist()[3:]]
        table = table.set_column(table.schema.get_field_index("origin"), "origin", [origin])
        return table.set_column(table.schema.get_field_index("source_id"), "source_id", [parents])

    rewrite(run_copy / "data/train-00000-of-00002.parquet", some_are_new)
    rewrite_run(run_copy, lambda run: run["counts"].update(synthetic=2, replay=1))
    finished, _ = rows_of(run_copy)
    output = read_output(finished)
    assert output is not None
    sizes = origins(finished, output)
    assert not isinstance(sizes, Absent)
    by_name = {size.name: size for size in sizes}
    assert (by_name["synthetic"].rows, by_name["synthetic"].tokens) == (2, None)
    assert (by_name["replay"].rows, by_name["replay"].tokens) == (1, None)
    assert by_name["duplicate"].tokens is not None
    listed = sources(finished, output)
    assert not isinstance(listed, Absent)
    touched = {int(rows_of(run_copy)[1].source[i]) for i in output.parent[:2]}  # type: ignore[index]
    assert sum(row.tokens_after is None for row in listed[0]) == len(touched)
    page = page_of(run_copy)
    assert ("h2", {"id": "synthesis"}) in page.elements
    assert "1 rows of replay data were added" in page.text


def test_there_is_no_synthesis_section_without_synthetic_rows(finished_run: Path) -> None:
    page = page_of(finished_run)
    assert "synthesis" not in {attributes.get("id") for _, attributes in page.elements}


def test_the_shown_examples_are_the_extremes_with_their_own_text(finished_run: Path) -> None:
    finished, rows = rows_of(finished_run)
    easiest, hardest, flat = extremes(finished, rows)
    order = np.argsort(np.where(rows.valid, rows.difficulty, np.nan), kind="stable")[: rows.valid.sum()]
    assert [example.identity for example in easiest] == rows.ids.take(pa.array(order[:20])).to_pylist()
    assert [example.identity for example in hardest] == rows.ids.take(pa.array(order[:-21:-1])).to_pylist()
    for example in (*easiest, *hardest):
        number = int(example.identity.removeprefix("row-"))
        if example.copies == 0:
            assert example.fields == ()
        else:
            assert [field.label for field in example.fields] == ["prompt", "completion"]
            assert example.fields[0].text.startswith(f"Question {number}:")
            assert example.fields[1].text.endswith(f"#### {number - number // 3}")
        assert example.source == f"source {number % 4}"
    assert {example.copies for example in hardest} == {2}
    assert sum(example.copies == 0 for example in easiest) == 1
    assert rows.noise_suspect is not None
    suspects = rows.ids.take(pa.array([row for row in order[::-1] if rows.noise_suspect[row]])).to_pylist()
    assert [flat[0].identity, flat[-1].identity] == [suspects[0], suspects[-1]]
    assert len({example.identity for example in flat}) == len(flat) == 10
    assert all(example.suspect and example.fields for example in flat)
    assert "because the row was left out" in page_of(finished_run).text


def test_message_lists_are_shown_turn_by_turn(run_copy: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}]
    for path in (run_copy / "data").iterdir():
        rewrite(path, lambda table: table.append_column("messages", pa.array([turns] * len(table))))
    rewrite_run(run_copy, lambda run: run["data"].update(columns={"messages": "messages"}))
    example = extremes(*rows_of(run_copy))[1][0]
    assert [(field.label, field.text) for field in example.fields] == [
        ("user", "Hi"),
        ("assistant", "Hello there"),
    ]


def test_rejected_rows_are_counted_by_reason(finished_run: Path) -> None:
    found = rejections(rows_of(finished_run)[0], most=30, examples=3)
    assert found is not None
    assert [(group.reason, group.stage, group.rows, len(group.examples)) for group in found[0]] == [
        ("completion is empty", "read", 5, 3),
        ("prompt is not text", "read", 2, 2),
    ]
    assert found[0][1].examples[0][:2] == ("5", "bad-5")
    assert json.loads(found[0][1].examples[0][2].text) == {"question": "q 5"}
    assert found[1] == 2


# ---- joins, order, determinism


@pytest.mark.parametrize("name", ["scores", "plan", "trajectories"])
def test_tables_are_joined_by_id_and_never_by_position(run_copy: Path, name: str) -> None:
    before = write_report(run_copy).read_bytes()
    rng = np.random.default_rng(1)
    rewrite(run_copy / f"tables/{name}.parquet", lambda table: table.take(pa.array(rng.permutation(len(table)))))
    assert write_report(run_copy).read_bytes() == before


def test_checkpoints_come_in_the_order_of_their_steps(finished_run: Path) -> None:
    _, rows = rows_of(finished_run)
    assert rows.trajectories is not None
    assert rows.trajectories.steps.tolist() == list(STEPS)
    assert (np.diff(rows.trajectories.losses[rows.valid], axis=1) < 0).all()


def test_the_same_folder_gives_the_same_bytes_and_nothing_else(run_copy: Path) -> None:
    files = {path.name for path in run_copy.iterdir()}
    first = write_report(run_copy)
    content = first.read_bytes()
    assert first == run_copy / "report.html"
    assert write_report(run_copy).read_bytes() == content
    assert {path.name for path in run_copy.iterdir()} == {*files, "report.html"}


def test_a_record_stands_in_for_the_run_json_that_is_written_last(run_copy: Path) -> None:
    with_file = write_report(run_copy).read_bytes()
    record = json.loads((run_copy / "run.json").read_text())
    record["proxy"]["steps"] = tuple(record["proxy"]["steps"])
    (run_copy / "run.json").unlink()
    assert write_report(run_copy, record=record).read_bytes() == with_file


# ---- what is missing or broken


PIECES = ["split", "scores", "plan", "trajectories", "rejected"]
KEYS = ["data", "proxy", "counts", "diagnostics", "warnings", "cost", "versions", "machine", "recipe_yaml", "seed"]


@pytest.mark.parametrize("missing", [*PIECES, "data/", *KEYS, *(f"{key}=null" for key in KEYS)])
def test_a_missing_piece_never_stops_the_report(run_copy: Path, missing: str) -> None:
    if missing in PIECES:
        (run_copy / f"tables/{missing}.parquet").unlink()
    elif missing == "data/":
        shutil.rmtree(run_copy / "data")
    elif missing.endswith("=null"):
        rewrite_run(run_copy, lambda run: run.update({missing[:-5]: None}))
    else:
        rewrite_run(run_copy, lambda run: run.pop(missing) and None)
    text = page_of(run_copy).text
    says = {
        "split": "no tables/split.parquet",
        "scores": "hold no token counts",
        "trajectories": "hold no losses",
        "rejected": "no tables/rejected.parquet",
        "data/": "lacks one of them",
        "diagnostics": "recorded no diagnostics",
        "cost": "recorded no stages",
        "recipe_yaml": "recorded no recipe",
    }
    assert says.get(missing.removesuffix("=null"), "rows in") in text
    assert not re.search(r"\bnan\b|\bNone\b(?!\. Nothing)", text)


def test_a_run_of_scores_without_sources_or_proxy(run_copy: Path) -> None:
    (run_copy / "tables/trajectories.parquet").unlink()
    rewrite(
        run_copy / "tables/split.parquet",
        lambda table: table.drop_columns(["source", "noise_suspect"]).append_column("source", pa.nulls(len(table))),
    )
    rewrite_run(run_copy, lambda run: run.update(proxy=None))
    text = page_of(run_copy).text
    assert "were scored as hard" in text
    assert "--columns source=NAME" in text
    assert "· loss stays high" not in text


@pytest.mark.parametrize("case", ["all invalid", "no rows", "all equal", "one row"])
def test_degenerate_runs_have_a_report(run_copy: Path, case: str) -> None:
    def change(table: pa.Table) -> pa.Table:
        if case in ("no rows", "one row"):
            return table[: case == "one row"]
        value = (
            pa.nulls(len(table), pa.float32()) if case == "all invalid" else pa.array([1.0] * len(table), pa.float32())
        )
        for name in table.column_names:
            if name == "difficulty" or name.startswith("loss_"):
                table = table.set_column(table.schema.get_field_index(name), name, value)
        return table

    for path in [*(run_copy / "tables").iterdir(), *(run_copy / "data").iterdir()]:
        rewrite(path, change)
    if case in ("no rows", "one row"):  # whichever row data/ kept may not be the row of the split
        shutil.rmtree(run_copy / "data")
    text = page_of(run_copy).text
    assert ("No row could be scored" in text) == (case in ("all invalid", "no rows"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda run: (run / "run.json").unlink(), "holds no run.json"),
        (lambda run: (run / "run.json").write_text("{"), "is damaged"),
        (lambda run: (run / "run.json").write_text("[1]"), "is not a record"),
        (lambda run: (run / "tables/scores.parquet").write_bytes(b"PAR1 no"), "not readable Parquet"),
        (lambda run: rewrite(run / "tables/plan.parquet", lambda table: table[1:]), "lacks example_id 'row-0000000'"),
    ],
)
def test_a_damaged_folder_is_an_error_of_one_line(run_copy: Path, damage: Callable[[Path], Any], says: str) -> None:
    damage(run_copy)
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        write_report(run_copy)
    assert "\n" not in str(caught.value)
    assert not (run_copy / "report.html").exists()


# ---- hostile data


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hostile") / "out"
    directory.mkdir()
    write_run(directory, hostile=PWNED)
    write_synthesis(directory, hostile=PWNED)
    return directory


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


ACTING = "\x1b[2J\x00\x07\u202e\u2066\u200b\ufeff\u2028\U000e0041\x85"


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


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, 0x85, 0xAD, 0x61C, 0x200E, 0x202A, 0x202E, 0x2069, 0xE0001])
def test_visible_leaves_no_acting_character(code: int) -> None:
    shown = visible(f"a{chr(code)}b")
    if chr(code) in "\n\t":
        assert shown == f"a{chr(code)}b"
    else:
        assert chr(code) not in shown
        assert shown[0] + shown[-1] == "ab"
        assert len(shown) > 2


def test_visible_leaves_ordinary_text_alone() -> None:
    for text in ("plain, 100 %", "naïve — “quoted”", "數學 ١٢٣ עברית", "👩\u200d🚀", "می\u200cخواهم", "a\n\tb"):
        assert visible(text) == text
    assert visible("a\r\nb") == "a\nb"


def test_a_huge_cell_is_cut_with_a_note(run_copy: Path) -> None:
    hardest = extremes(*rows_of(run_copy))[1][0]

    def grow(table: pa.Table) -> pa.Table:
        cells = [
            ("x" * 10_000_000 if identity == hardest.identity else text)
            for identity, text in zip(table["example_id"].to_pylist(), table["question"].to_pylist(), strict=True)
        ]
        return table.set_column(table.schema.get_field_index("question"), "question", [cells])

    for path in (run_copy / "data").iterdir():
        rewrite(path, grow)
    path = write_report(run_copy)
    assert path.stat().st_size < 8_000_000
    page = Page(path.read_text())
    assert "Cut: the first 2,000 characters of 10.0 MB." in page.text
    assert max(len(word) for word in page.text.split()) <= 2_000


def test_bytes_that_are_no_utf8_are_shown_replaced(run_copy: Path) -> None:
    def spoil(table: pa.Table) -> pa.Table:
        broken = pa.array([b"caf\xe9 \xff"] * len(table), pa.binary())
        text = pa.Array.from_buffers(pa.string(), len(table), broken.buffers())
        return table.set_column(table.schema.get_field_index("question"), "question", text)

    for path in (run_copy / "data").iterdir():
        rewrite(path, spoil)
    assert extremes(*rows_of(run_copy))[1][0].fields[0].text == "caf\ufffd \ufffd"


# ---- plots


def test_the_histogram_holds_every_scored_row(finished_run: Path) -> None:
    _, rows = rows_of(finished_run)
    rows = replace(rows, difficulty=np.where(np.arange(400) == 0, 1e6, rows.difficulty).astype(np.float32))
    figure, beyond = figures.histogram(rows)
    drawn = {bar["name"]: sum(bar["y"]) for bar in figure["data"]}
    assert beyond == 1
    assert drawn == {"easy": int((rows.valid & ~rows.hard).sum()), "hard": int(rows.hard.sum()) - 1}


def test_bands_are_the_quantiles_of_the_cluster(finished_run: Path) -> None:
    _, rows = rows_of(finished_run)
    assert rows.trajectories is not None
    drawn, clusters = figures.groups(rows, rows.trajectories)
    assert drawn == clusters
    assert [(group.name, group.hard, len(group.rows)) for group in drawn] == [
        ("cluster 0 (easy)", False, 312),
        ("cluster 1 (hard)", True, 80),
    ]
    for group in drawn:
        oracle = np.quantile(rows.trajectories.losses[rows.valid & (rows.hard == group.hard)], (0.1, 0.5, 0.9), axis=0)
        np.testing.assert_allclose(group.quantiles, oracle, rtol=1e-5)


def test_many_clusters_are_drawn_as_two_and_listed_in_full(finished_run: Path) -> None:
    _, rows = rows_of(finished_run)
    assert rows.trajectories is not None
    cluster = np.where(rows.valid, 2 * (np.arange(400) % 7) + rows.hard, -2)
    cluster[rows.valid & ~rows.hard & (np.arange(400) % 11 == 0)] = -1
    drawn, clusters = figures.groups(replace(rows, cluster=cluster), rows.trajectories)
    assert [group.name for group in drawn] == ["easy rows", "hard rows"]
    assert len(clusters) == 15
    assert clusters[0].name == "noise (easy)"
    assert sum(len(group.rows) for group in clusters) == sum(len(group.rows) for group in drawn) == 392


def test_plots_are_sampled_with_the_seed_and_bounded() -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    rows = Rows(
        ids=pa.array([f"r{i}" for i in range(n)], pa.large_string()),
        difficulty=rng.random(n).astype(np.float32),
        valid=np.ones(n, bool),
        hard=np.arange(n) % 2 == 0,
        cluster=np.arange(n) % 2,
        noise_suspect=None,
        source=None,
        source_names=(),
        tokens=rng.integers(1, 500, n),
        copies=None,
        left_out=(),
        trajectories=Trajectories(np.array([1, 2]), rng.random((n, 2)).astype(np.float32)),
    )
    assert rows.tokens is not None
    assert rows.trajectories is not None
    drawn, _ = figures.groups(rows, rows.trajectories)
    for seed in (0, 1):
        lengths, sample = figures.lengths(rows, rows.tokens, seed)
        assert sample == figures.POINTS == sum(len(cloud["x"]) for cloud in lengths["data"])
        assert lengths == figures.lengths(rows, rows.tokens, seed)[0]
        assert lengths != figures.lengths(rows, rows.tokens, seed + 1)[0]
        bands = figures.bands(rows, rows.trajectories, drawn, seed)
        assert bands == figures.bands(rows, rows.trajectories, drawn, seed)
        assert len(as_json(bands)) < 20_000


def test_the_figures_are_valid_plotly(finished_run: Path) -> None:
    import plotly.graph_objects as go

    page = page_of(finished_run)
    figures = json.loads(next(text for attributes, text in page.scripts if "type" in attributes))
    assert list(figures) == ["plot-trajectories", "plot-difficulty", "plot-lengths"]
    for name, figure in figures.items():
        go.Figure(data=figure["data"], layout=figure["layout"])
        assert ("div", name) in {(tag, attributes.get("id")) for tag, attributes in page.elements}


# ---- words and numbers


def test_quality_says_what_was_not_measured() -> None:
    found = quality({"diagnostics": {"silhouette": None, "seed_agreement": None, "length_correlation": None}})
    assert not isinstance(found, Absent)
    assert [value for _, value, _ in found] == ["–"] * 3
    assert "--stability" in found[1][2]


@pytest.mark.parametrize(
    ("diagnostics", "says"),
    [
        ({"silhouette": 0.71}, "Strong structure"),
        ({"silhouette": 0.10, "silhouette_rows": 4000}, "No substantial structure, on a sample of 4,000 rows"),
        ({"length_correlation": -0.62}, "largely a matter of length: short completions"),
        ({"diverged": {"ok": False, "fall": 0.01}}, "have not fallen"),
        (
            {"seed_agreement": {"seeds": 3, "jaccard": 0.5, "jaccard_min": 0.4, "ari": 0.25}},
            "50.0 % are hard in both (the mean over the pairs of 3 seeds; the worst pair 40.0 %)",
        ),
    ],
)
def test_quality_is_told_in_words(diagnostics: dict[str, Any], says: str) -> None:
    found = quality({"diagnostics": diagnostics})
    assert not isinstance(found, Absent)
    assert says in " ".join(meaning for _, _, meaning in found)


def test_numbers_read_well_and_never_invent() -> None:
    for write in (count, compact, share, decimal, duration):
        assert {write(value) for value in (None, float("nan"), float("inf"), "7", True)} == {"–"}
    assert [count(0), count(1234567)] == ["0", "1,234,567"]
    assert [compact(n) for n in (427, 9_610, 999_600, 120e6)] == ["427", "9.61 k", "1.00 M", "120 M"]
    assert [share(x) for x in (0, 0.0004, 0.301, 1)] == ["0.0 %", "< 0.1 %", "30.1 %", "100.0 %"]
    assert [decimal(x) for x in (1.8, -0.123, 12345.6, 3.0)] == ["1.80", "−0.123", "12,346", "3"]
    assert [duration(x) for x in (0.42, 59.4, 59.6, 200, 3599.9, 7500)] == [
        "0.4 s",
        "59 s",
        "1 min 0 s",
        "3 min 20 s",
        "1 h 0 min",
        "2 h 5 min",
    ]
    assert [times(x) for x in (0, 1, 2, 7, 2.5)] == ["not at all", "once", "twice", "7 times", "2.5 times"]


def test_lines_are_cut_and_plot_labels_escaped() -> None:
    assert one_line("a\n b\tc") == "a b c"
    assert one_line("x" * 100, 10) == "x" * 10 + "…"
    assert plot_text("<a href='javascript:1'>b</a>&") == "&lt;a href=&#x27;javascript:1&#x27;&gt;b&lt;/a&gt;&amp;"


def test_importing_the_report_loads_neither_torch_nor_plotly() -> None:
    code = "import sys, curate.report; print(*{'torch', 'plotly', 'sklearn', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# ---- in a browser


FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium and chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield session
    finally:
        session.quit()


def wait_for(browser: Any, script: str) -> Any:
    """The value of a JavaScript expression once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda session: session.execute_script(f"return {script}"))


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


CONTRAST = """
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const paper = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = numbers(getComputedStyle(at).backgroundColor);
            if (color.length < 4 || color[3] > 0) return color;
        }
    };
    document.querySelectorAll("details").forEach((item) => { item.open = true });
    const worst = {};
    for (const element of document.querySelectorAll("main *")) {
        if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
        const svg = element.closest("svg");
        const ink = svg ? getComputedStyle(element).fill : getComputedStyle(element).color;
        const [a, b] = [light(numbers(ink)), light(paper(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) worst[element.tagName + "." + element.getAttribute("class")] = ratio;
    }
    return worst;
"""


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
