"""Write report.html, a self-contained page about a finished run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from curate.console import formatting
from curate.difficulty import figures
from curate.mixture.forecast_words import MOST_OF_COMMAND, curves_in_words, needed_in_words, next_in_words, parts_of
from curate.report import sizes
from curate.report.embedded_rows import MOST_BYTES, packed_rows
from curate.report.finished_run import NO_SPLIT, Finished, look_up, mapping, read_finished
from curate.report.synthesis_section import new_problems
from curate.report.texts import extremes, first_words, rejections, title
from curate.storage.atomic import publish_file
from curate.types import IntArray

# It depends only on the run's folder, so it can be written again at any time. `finished_run` reads the folder; `sizes`,
# `figures`, `texts` and `synthesis_section` return plain values for their sections; the template
# formats numbers and writes sentences, and takes everything else from run.json.
#
# Data cannot inject active content: the template engine escapes HTML, control characters in strings are made visible
# (`curate.console.formatting.visible`), and a Content-Security-Policy allows only the scripts whose hashes it names,
# and no requests. The rows of a small result are in the page, compressed (`embedded_rows`), and can be browsed.

_MOST_WARNINGS = 40
MOST_REASONS = 30
_REJECTED_EXAMPLES = 3
_MOST_LISTED = 12
_ROWS = ("input", "output", "hard", "valid", "invalid", "synthetic", "replay", "output_weighted", "rejected_proposals")
# What browses rows, in a page that holds them.
_BROWSING = ("tabulator-6.5.3.min.js", "rows.js", "embedded_rows.js")
_BROWSING_STYLES = ("tabulator-6.5.3.min.css", "rows.css")
_TOKENS = ("tokens_before", "tokens_after", "tokens_weighted")
MOST_CLUSTERS = 30
_VERDICT = ("verdict", "outcome", "reason", "command", "precision")
_ROW = ("name", "rows", "rows_after", "new", "share", "share_after", "steps", "epochs", "loss", "fall")
_ALL = (
    "hard_share",
    "rows",
    "rows_after",
    "distinct_rows",
    "effective_rows",
    "effective_share",
    "fitted_steps",
    "in_sample",
)


def write_report(directory: Path, *, record: dict[str, Any] | None = None) -> Path:
    """Write `directory`/report.html from the run in the folder, atomically; returns its path.

    record: content of a run.json that is not written yet. The same folder gives the same bytes with or without it.
    Raises InputError if the folder has no finished run, ExternalError if the disk is full.
    """
    path, finished = directory / "report.html", read_finished(directory, record)
    context = _context(finished)
    page = rendered("report.html.j2", context)
    tools = sum(len(_asset(name)) for name in (*_BROWSING, *_BROWSING_STYLES, "rows.html.j2"))
    rows = packed_rows(finished, MOST_BYTES - len(page.encode("utf-8")) - 2 * tools)
    if rows is not None:
        page = rendered("report.html.j2", {**context, "packed_rows": Markup(rows)}, _BROWSING, _BROWSING_STYLES)
    publish_file(path, page)
    return path


def _context(finished: Finished) -> dict[str, Any]:
    """Everything that the template shows, in reading order; a section without data is a text that says why."""
    run, rows = finished.run, finished.rows
    context = {
        "source": look_up(run, "data", "source"),
        "version": look_up(run, "curate_version"),
        "recipe": look_up(run, "recipe_yaml"),
        "seconds": look_up(run, "cost", "seconds"),
        "model": look_up(run, "proxy", "model"),
        "hard_share": look_up(run, "diagnostics", "hard_share"),
        "hard_copies": sizes.hard_copies(rows),
        "counts": _picked(finished.counts, *_ROWS, *_TOKENS),
        "warnings": _records(run.get("warnings"), "code", "message", "remedy")[:_MOST_WARNINGS],
        "origins": sizes.origins(finished),
        "left_out": () if rows is None else rows.left_out,
        "most_reasons": MOST_REASONS,
        **_of_scored_rows(finished),
        "forecast": will_copies_help(run),
        "most_of_command": MOST_OF_COMMAND,
        "sources": sizes.sources(finished),
        "length_correlation": look_up(run, "diagnostics", "length_correlation"),
        "quality": _quality(mapping(run, "diagnostics")),
        "synthesis": new_problems(finished) if run.get("synthesis") or finished.counts.get("synthetic") else None,
        "rejected": rejections(finished, MOST_REASONS, _REJECTED_EXAMPLES),
        "stages": _records(look_up(run, "cost", "stages"), "name", "seconds", "tokens", "cached"),
        "provenance": _provenance(run),
        "packed_rows": None,
        "folder": finished.directory.name,
        "has_output": finished.output is not None,
    }
    plots = {name: context[name] for name in ("trajectories", "difficulty", "lengths")}
    plots_of_sections = {
        f"plot-{name}": section["plot"] for name, section in plots.items() if isinstance(section, dict)
    }
    return {**context, "plots": {**plots_of_sections, **(context["synthesis"] or {"plots": {}})["plots"]}}


def _of_scored_rows(finished: Finished) -> dict[str, Any]:
    """Sections that need scored rows; a text that says why if there are none."""
    rows = finished.rows
    if rows is None or not rows.valid.any():
        why = NO_SPLIT if rows is None else "No row could be scored."
        return dict.fromkeys(("trajectories", "difficulty", "lengths", "examples"), why)

    def words(positions: IntArray) -> list[str]:
        return first_words(finished, rows, positions)

    return {
        "trajectories": figures.trajectories(rows, finished.seed, words),
        "difficulty": figures.histogram(rows),
        "lengths": figures.lengths(rows, finished.seed, words),
        "examples": extremes(finished, rows),
    }


def _quality(diagnostics: dict[str, Any]) -> dict[str, Any] | str:
    """Recorded diagnostics of the split; None for those that were not measured."""
    if not diagnostics:
        return "The run recorded no diagnostics."
    names = ("jaccard", "jaccard_min", "ari", "seeds")
    agreements = {
        key: _picked(diagnostics[key], *names) if isinstance(diagnostics.get(key), dict) else None
        for key in ("seed_agreement", "feature_agreement")
    }
    return {
        **_picked(diagnostics, "silhouette", "silhouette_rows", "length_correlation", "length_difference_correlation"),
        **agreements,
        "diverged": mapping(diagnostics, "diverged"),
        "noise": _picked(mapping(diagnostics, "noise"), "suspects", "share"),
        "reducible": _reducible(mapping(diagnostics, "reducible")),
    }


def _reducible(record: dict[str, Any]) -> dict[str, Any]:
    has_interval = isinstance(record.get("interval"), list) and len(record["interval"]) == 2
    return {
        **_picked(record, "verdict", "reason", "wrong_share"),
        "interval": record["interval"] if has_interval else None,
    }


def _picked(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The given keys of a record, None for missing ones; the template cannot access any others."""
    return {key: record.get(key) for key in keys}


def _records(value: Any, *keys: str) -> list[dict[str, Any]]:
    return [_picked(item, *keys) for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _provenance(run: dict[str, Any]) -> list[tuple[str, list[tuple[tuple[str, ...], str]]]]:
    """(heading, [(keys, value)]) of everything recorded about the provenance of the result."""
    top = {key: run.get(key) for key in ("curate_version", "seed", "created", "clusterer")}
    parts = {"Run": top, "Data": run.get("data"), "Proxy": run.get("proxy"), "Stages": run.get("stages")}
    parts |= {"Versions": run.get("versions"), "Machine": run.get("machine")}
    return [(name, _flat(value)) for name, value in parts.items() if isinstance(value, dict) and value]


def _flat(value: dict[str, Any], *above: str) -> list[tuple[tuple[str, ...], str]]:
    """Flatten nested objects into (path of keys, text) rows."""
    rows: list[tuple[tuple[str, ...], str]] = []
    for key, item in value.items():
        if isinstance(item, dict):
            rows += _flat(item, *above, key)
        elif isinstance(item, list):
            first_items = ", ".join(map(str, item[:_MOST_LISTED]))
            more = "" if len(item) <= _MOST_LISTED else f", … ({len(item):,} in all)"
            rows.append(((*above, key), first_items + more))
        else:
            rows.append(((*above, key), "not recorded" if item is None else str(item)))
    return rows


def rendered(template: str, context: dict[str, Any], scripts: Sequence[str] = (), styles: Sequence[str] = ()) -> str:
    """Render a template of this package as a self-contained page with styles, scripts and their security policy.

    scripts, styles: names of assets in addition to those of every page.
    """
    sources = [_script(_plotly_source()), *(_script(_asset(name)) for name in ("report.js", *scripts))]
    return as_page(
        template,
        {
            **context,
            "scripts": [Markup(source) for source in sources],
            "style": Markup("\n".join(_asset(name) for name in ("report.css", *styles))),
            "policy": _policy(sources),
        },
    )


def as_page(template: str, context: dict[str, Any]) -> str:
    """Render a template of this package."""
    return _environment().get_template(template).render(**context)


@cache
def _environment() -> jinja2.Environment:
    """The jinja2 environment of the templates, with autoescape and formatting filters."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("curate.report", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Applied to every expression of the template, so that none can forget it.
        finalize=formatting.shown,
    )
    environment.filters |= {
        "command": _command,
        "compact": _unbroken(formatting.compact),
        "correlation": formatting.correlation,
        "count": formatting.count,
        "decimal": formatting.decimal,
        "duration": _unbroken(formatting.duration),
        "json": formatting.as_json,
        "label": formatting.as_label,
        "line": formatting.one_line,
        "real": formatting.real,
        "share": _unbroken(formatting.share),
        "times": formatting.times,
        "title": title,
    }
    return environment


def _unbroken(formatted: Callable[[Any], str]) -> Callable[[Any], str]:
    """A filter whose numbers keep their units on the same line."""
    return lambda value: formatted(value).replace(" ", "\u00a0")


def _command(line: str) -> Markup:
    """A command with one element per word, which the style sheet does not break."""
    return Markup(" ").join(Markup('<span class="word">{}</span>').format(word) for word in line.split())


def _plotly_source() -> str:
    """Source of plotly's basic bundle (lines, points and bars), a quarter of the size of the full one."""
    return _asset("plotly-basic-4.1.1.min.js")


def _asset(name: str) -> str:
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


def _script(source: str) -> str:
    """Make `source` safe inside a script element, which the parser ends at `</script`, and normalize CR."""
    return source.replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _policy(scripts: list[str]) -> str:
    """Policy that loads nothing and runs only the given inline scripts; styles are allowed, since plotly sets them."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def will_copies_help(run: dict[str, Any]) -> dict[str, Any] | str:
    """Verdict, numbers and groups of rows; or why there are none, as in folders of earlier versions."""
    record = mapping(run, "forecast")
    if not record:
        return "This run recorded no numbers about it; run it again with --fresh."
    clusters = parts_of(record)
    rows = [
        ("all", record["hard"]),
        ("all", record["easy"]),
        *(("one", cluster) for cluster in clusters[:MOST_CLUSTERS]),
    ]
    return {
        "verdicts": [
            {key: verdict.get(key) for key in _VERDICT}
            | {"next": next_in_words(str(verdict.get("verdict"))).capitalize()}
            for verdict in record.get("verdicts") or [mapping(record, "verdict")]
        ],
        "curves": tuple(curves_in_words(record)),
        **{key: record.get(key) for key in _ALL},
        "groups": [{"kind": kind, **{key: verdict.get(key) for key in _ROW}} for kind, verdict in rows],
        "clusters": len(clusters),
        "needed": needed_in_words(record),
        "missing": record.get("missing") or (),
        "cautions": record.get("cautions") or (),
    }
