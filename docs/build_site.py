"""Stage the sources of the documentation site: python docs/build_site.py build/site-source

Pages keep the places that they have in the repository, so that their links work here and there: README.md, docs/ and
whatever local files these link to. Added are the reference, from help texts, docstrings and fields, and the tutorials,
from the notebooks in examples/ as they were last executed.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the checkout, whatever is installed

from curate import Pipeline, Proxy  # noqa: E402
from curate.cli.list import listed  # noqa: E402
from curate.cli.main import _COMMANDS, _parser  # noqa: E402
from curate.component import brief  # noqa: E402
from curate.gate.gate import Gate  # noqa: E402
from curate.recipe import component_names, own_module, recipe_names  # noqa: E402

_FURTHER = re.compile(r"<!-- further ([a-z, ]+) -->")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_KINDS = {
    "scorers": ("Scorers", ("scorers",)),
    "augmenters": ("Augmenters", ("augmenters",)),
    "clusterers": ("Clusterers", ("curate.clusterers",)),
    "reweighters": ("Reweighters", ("curate.reweighters",)),
    "components": ("Other components", ("curate.optimizers", "curate.generators", "curate.graders")),
}


def stage(out: Path) -> None:
    """Write everything that the site is built from into the folder `out`, which is emptied first."""
    if out.exists():
        shutil.rmtree(out)
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "LOG.md"]
    _copy([*pages, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*.ipynb"))], out)
    shutil.copytree(ROOT / "docs" / "assets", out / "assets")
    (plotly,) = (ROOT / "curate" / "report" / "assets").glob("plotly-basic-*.min.js")
    shutil.copy(plotly, out / "assets" / "plotly-basic.min.js")
    shutil.copy(plotly.with_name("plotly-LICENSE.txt"), out / "assets")
    for name, text in {**references(), **tutorials()}.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text, encoding="utf-8")


def completed(page: str) -> str:
    """A page whose tables have a row for every component and file format.

    A comment `<!-- further scorers -->` right below a table is replaced by a row for each of them that the page does
    not name.
    """

    def rows(place: re.Match[str]) -> str:
        items = [item for kind in place[1].split(", ") for item in listed(kind).items()]
        return "\n".join(f"| `{name}` | {_escaped(text)} |" for name, text in items if f"`{name}" not in page)

    return _FURTHER.sub(rows, page)


def _copy(pages: list[Path], out: Path) -> None:
    """The pages and, from link to link, every file of the repository that they name."""
    waiting, done = list(pages), set()
    while waiting:
        path = waiting.pop()
        if path in done or not path.is_file() or not path.is_relative_to(ROOT):
            continue
        done.add(path)
        target = out / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        if path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            target.write_text(completed(text), encoding="utf-8")
            links = _LINK.findall(text)
            waiting += [(path.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link]


# -- the reference ----------------------------------------------------------------------------------------------------


def references() -> dict[str, str]:
    """Path -> page."""
    pages = {f"reference/{name}.md": _components(*parts) for name, parts in _KINDS.items()}
    return {
        **pages,
        "reference/commands.md": _commands(),
        "reference/recipes.md": _recipes(),
        "reference/python.md": _python(),
    }


def _components(title: str, modules: tuple[str, ...]) -> str:
    parts = [f"# {title}\n"]
    for module in modules:
        parts.append(f"Imported from `{module}`; a recipe names them as they stand here.\n")
        for name in component_names(module):
            parts += [f"## {name}\n", _component(getattr(own_module(module), name))]
    return "\n".join(parts)


def _component(kind: Any) -> str:
    """What it is, and its parameters."""
    docstring = kind.__doc__ or ""
    about, prose = _paragraphs(docstring)
    parts = [prose]
    if kind.model_fields:
        parts.append("| parameter | default | |\n| --- | --- | --- |\n" + "\n".join(_fields(kind, about)))
    return "\n\n".join(parts) + "\n"


def _fields(kind: Any, about: dict[str, str]) -> list[str]:
    """A line of a table for each parameter."""
    rows = []
    for name, field in kind.model_fields.items():
        default = "needed" if field.is_required() else _cell(field.get_default(call_default_factory=True))
        rows.append(f"| `{name}` | {default} | {_escaped(about.get(name, field.description or ''))} |")
    return rows


def _commands() -> str:
    os.environ["COLUMNS"] = "96"
    parts = [
        "# Commands\n",
        "Every command takes `--json`: one JSON object on stdout and nothing else there. Exit status: 0 done,",
    ]
    parts.append(
        "1 our own fault, 2 bad arguments or input, 3 something outside failed and the same command resumes.\n"
    )
    for name, text in _COMMANDS.items():
        parser = _parser([name])[1][name]
        parts += [f"## curate {name}\n", f"{text[0].upper()}{text[1:]}.\n", f"```text\n{parser.format_help()}```\n"]
    return "\n".join(parts)


def _recipes() -> str:
    head = "| key | default | |\n| --- | --- | --- |"
    about = {
        "proxy": "the small model that is trained briefly, see below",
        "scorer": "what makes a row hard, see [scorers](scorers.md)",
        "clusterer": "how rows are grouped by that, see [clusterers](clusterers.md)",
        "augmenters": "what is done about the hard rows, a list, see [augmenters](augmenters.md)",
        **_paragraphs(Pipeline.__doc__ or "")[0],
    }
    parts = ["# Recipe keys\n", "A recipe is YAML with these keys; a component is `use:` and its parameters.\n", head]
    parts += [row.replace(_cell(Proxy()), "").replace(_cell(Gate()), "") for row in _fields(Pipeline, about)]
    for title, kind in (("proxy", Proxy), ("gate", Gate)):
        parts += [f"\n## {title}\n", _component(kind)]
    parts += ["\n## Shipped recipes\n"]
    for name in recipe_names():
        text = (resources.files("curate") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        parts.append(f"### {name}\n\n```yaml\n{text}```\n")
    return "\n".join(parts) + "\n"


def _paragraphs(docstring: str) -> tuple[dict[str, str], str]:
    """Name -> text, of the paragraphs `name: text` of a docstring with hanging indents; and what else it says."""
    found: dict[str, str] = {}
    names: list[str] = []
    prose = []
    for line in docstring.splitlines():
        start = re.match(r" {4}(\w+(?:, \w+)*):(?: (.*))?$", line)
        if start:
            names = start[1].split(", ")
            found |= dict.fromkeys(names, start[2] or "")
        elif line.startswith("        ") and names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
            prose.append(line.strip())
    return found, "\n".join(prose).strip()


def _cell(value: Any) -> str:
    """A default as a cell of a table."""
    return "none" if value is None or value == () else f"`{brief(value)}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _python() -> str:
    stub = (ROOT / "curate" / "__init__.pyi").read_text(encoding="utf-8")
    parts = ["# Python\n", "What is imported from `curate`.\n"]
    for module, name in re.findall(r"from \.([\w.]+) import (\w+) as \w+", stub):
        parts.append(f"::: curate.{module}.{name}\n    options: {{members: {str(name[0].isupper()).lower()}}}\n")
    return "\n".join(parts)


# -- the tutorials ----------------------------------------------------------------------------------------------------


def tutorials() -> dict[str, str]:
    """Path -> page, of each notebook with the outputs that it was saved with."""
    return {
        f"tutorials/{path.stem}.md": _as_page(json.loads(path.read_text(encoding="utf-8")), path.name)
        for path in sorted((ROOT / "examples").glob("*.ipynb"))
    }


def _as_page(notebook: dict[str, Any], name: str) -> str:
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif source.strip():
            parts.append(f"```python\n{source}\n```")
            parts += [shown for output in cell["outputs"] if (shown := _output(output))]
    return "\n\n".join([*parts, f"This page is the notebook [{name}](../examples/{name}).\n"])


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if figure := data.get("application/vnd.plotly.v1+json"):
        shown = json.dumps({"data": figure["data"], "layout": figure["layout"]}).replace("<", "\\u003c")
        return (
            f'<div class="figure" role="img" aria-label="Figure"><script type="application/json">{shown}</script></div>'
        )
    if "text/html" in data:
        markup = re.sub(r"<style[^>]*>.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return f'<div class="output">{" ".join(markup.split())}</div>'
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f'<div class="output"><pre><code>{html.escape(text)}</code></pre></div>' if text.strip() else ""


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
