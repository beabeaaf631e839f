"""report.html: one page, without any network access, that shows what a finished run did.

It is written from the folder of the run alone, so it can be written again at any time. Nothing the data holds
can act in it: HTML is escaped by the template engine, the acting characters of every string are made visible
(`curate.console.formatting.visible`), and a Content-Security-Policy runs no script but the two whose hashes it names
and allows no request at all.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from curate.console.formatting import (
    MISSING,
    as_json,
    as_label,
    compact,
    correlation,
    count,
    decimal,
    duration,
    one_line,
    share,
    times,
    visible,
)
from curate.report import figures, sections
from curate.report.finished_run import Finished, look_up, mapping, read_finished, read_output
from curate.report.sections import Absent
from curate.report.synthesis_section import new_problems
from curate.report.texts import extremes, rejections
from curate.storage.atomic import publish_file

__all__ = ["rendered", "write_report"]

MOST_WARNINGS = 40
MOST_REASONS = 30
REJECTED_EXAMPLES = 3
MOST_CLUSTER_ROWS = 60
MOST_LISTED = 12
_COUNTS = ("input", "output", "hard", "invalid", "tokens_before", "tokens_after", "output_weighted", "tokens_weighted")


def write_report(directory: Path, *, record: dict[str, Any] | None = None) -> Path:
    """Write `directory`/report.html from what a run left there, replacing it in one step; its path.

    record: what run.json is about to hold, for a run that writes run.json last. The same folder gives the same
    bytes, with or without it. Raises InputError if the folder holds no finished run, ExternalError if the disk
    is full.
    """
    path = directory / "report.html"
    publish_file(path, rendered("report.html.j2", _context(read_finished(directory, record))))
    return path


def _context(finished: Finished) -> dict[str, Any]:
    """Everything the template shows, in reading order."""
    run, output = finished.run, read_output(finished)
    title, lead = sections.headline(finished)
    plots, trajectory, histogram, lengths = _plots(finished)
    synthesis, more_plots = new_problems(finished)
    plots |= more_plots
    return {
        "title": title,
        "lead": lead,
        "source": look_up(run, "data", "source"),
        "version": look_up(run, "curate_version"),
        "recipe": look_up(run, "recipe_yaml"),
        "seconds": look_up(run, "cost", "seconds"),
        "hard_share": look_up(run, "diagnostics", "hard_share"),
        "counts": _picked(mapping(run, "counts"), *_COUNTS),
        "warnings": _records(run.get("warnings"), "code", "message", "remedy")[:MOST_WARNINGS],
        "origins": sections.origins(finished, output),
        "left_out": [] if finished.rows is None else finished.rows.left_out[:MOST_REASONS],
        "trajectory": trajectory,
        "histogram": histogram,
        "sources": sections.sources(finished, output),
        "lengths": lengths,
        "quality": sections.quality(run),
        "examples": _examples(finished),
        "synthesis": synthesis,
        "rejected": _rejected(finished),
        "stages": _records(look_up(run, "cost", "stages"), "name", "seconds", "tokens", "cached"),
        "provenance": _provenance(run),
        "plots": Markup(as_json(plots)),
    }


def _picked(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    """These keys of the record, None for those it lacks: the template may then ask for no others."""
    return {key: record.get(key) for key in keys}


def _records(value: Any, *keys: str) -> list[dict[str, Any]]:
    return [_picked(item, *keys) for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _plots(finished: Finished) -> tuple[dict[str, Any], Any, Any, Any]:
    """The plotly figures by element id, and what the page says beside each of the three."""
    rows, seed = finished.rows, look_up(finished.run, "seed")
    seed = seed if isinstance(seed, int) else 0
    if rows is None or not rows.valid.any():
        nothing = Absent(sections.NO_SPLIT if rows is None else "No row could be scored.")
        return {}, nothing, nothing, nothing
    plots: dict[str, Any] = {}
    trajectory: Any = Absent("The scores of this run hold no losses, so there are no trajectories to draw.")
    if rows.trajectories is not None:
        drawn, clusters = figures.groups(rows, rows.trajectories)
        trajectory = Absent("No scored row has a loss at every checkpoint.")
        if drawn:
            plots["plot-trajectories"] = figures.bands(rows, rows.trajectories, drawn, seed)
            steps = rows.trajectories.steps.tolist()
            shown = clusters[:MOST_CLUSTER_ROWS]
            trajectory = {"drawn": drawn, "clusters": shown, "all": len(clusters), "steps": steps}
    plots["plot-difficulty"], beyond = figures.histogram(rows)
    lengths: Any = Absent("The scores of this run hold no token counts.")
    if rows.tokens is not None:
        plots["plot-lengths"], sample = figures.lengths(rows, rows.tokens, seed)
        lengths = {
            "sample": sample,
            "scored": int(rows.valid.sum()),
            "correlation": look_up(finished.run, "diagnostics", "length_correlation"),
        }
    return plots, trajectory, {"beyond": beyond}, lengths


def _examples(finished: Finished) -> Any:
    if finished.rows is None or not finished.rows.valid.any():
        return Absent(sections.NO_SPLIT if finished.rows is None else "No row could be scored.")
    return extremes(finished, finished.rows)


def _rejected(finished: Finished) -> Any:
    found = rejections(finished, MOST_REASONS, REJECTED_EXAMPLES)
    if found is None:
        return Absent("This folder has no tables/rejected.parquet.")
    groups, pairs = found
    if not groups:
        return Absent("No row was rejected.")
    return {"groups": groups, "pairs": pairs}


def _provenance(run: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(heading, [(name, value)]) of everything recorded about where the result comes from."""
    top = {key: run.get(key) for key in ("curate_version", "seed", "created", "clusterer")}
    parts = {"Run": top, "Data": run.get("data"), "Proxy": run.get("proxy"), "Stages": run.get("stages")}
    parts |= {"Versions": run.get("versions"), "Machine": run.get("machine")}
    return [(name, _flat(value)) for name, value in parts.items() if isinstance(value, dict) and value]


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{as_label(key)}"
        if isinstance(item, dict):
            rows += _flat(item, f"{name}: ")
        elif isinstance(item, list):
            listed = ", ".join(map(str, item[:MOST_LISTED]))
            rows.append((name, listed if len(item) <= MOST_LISTED else f"{listed}, … ({count(len(item))} in all)"))
        else:
            rows.append((name, "not recorded" if item is None else str(item)))
    return rows


def rendered(template: str, context: dict[str, Any]) -> str:
    """A self-contained page from a template of this package: its style, its two scripts, and the policy for them."""
    scripts = [_script(_plotly_source()), _script(_asset("report.js"))]
    return (
        _environment()
        .get_template(template)
        .render(
            **context,
            missing_number=MISSING,
            scripts=[Markup(script) for script in scripts],
            style=Markup(_asset("report.css")),
            policy=_policy(scripts),
        )
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("curate.report", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # No expression of the template can forget it: every string is made visible on its way to the page.
        finalize=_shown,
    )
    environment.filters |= {
        "compact": compact,
        "correlation": correlation,
        "count": count,
        "decimal": decimal,
        "duration": duration,
        "label": as_label,
        "line": one_line,
        "share": share,
        "times": times,
    }
    environment.tests["absent"] = _is_absent
    return environment


def _shown(value: Any) -> Any:
    return visible(value, 20_000) if isinstance(value, str) and not isinstance(value, Markup) else value


def _is_absent(value: Any) -> bool:
    return isinstance(value, Absent)


def _plotly_source() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _asset(name: str) -> str:
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


def _script(source: str) -> str:
    """`source` as it can stand in a script element: the parser ends one at `</script` and rewrites CR."""
    return source.replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _policy(scripts: list[str]) -> str:
    """Load nothing, and run only the given inline scripts. Plotly sets styles, so those are allowed."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
