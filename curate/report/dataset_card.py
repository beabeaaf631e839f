"""Dataset cards (README.md) of curated and weighted datasets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.report.card_usage import USE_OF_ROW_WEIGHTS, USE_OF_WEIGHTS, USE_OF_WEIGHTS_IN_FRONT, use_of_parts
from curate.report.trainer_snippets import form_of, training_section
from curate.storage.hashing import file_digest

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def dataset_card(record: dict[str, Any], version: str) -> str:
    """README.md of a curated dataset, from its run.json. version: of its data, see `content_version`."""
    counts = record["counts"]
    rows = "\n".join(
        f"| {name} | {counts[name]:,} |" for name in ("original", "duplicate", "synthetic", "replay") if counts[name]
    )
    warnings = "\n".join(f"- {_plain(w['message'])} {_plain(w['remedy'])}" for w in record["warnings"]) or "- none"
    weighted = f" and count as {counts['output_weighted']:,} by their weights" if "output_weighted" in counts else ""
    not_kept = counts.get("rejected_proposals")
    proposals = f", and {not_kept:,} proposed problems that were not kept" if not_kept else ""
    parts = record.get("parts")
    front = (record.get("recipe") or {}).get("order") == "front"
    use = (USE_OF_WEIGHTS_IN_FRONT if front else USE_OF_WEIGHTS) if weighted else use_of_parts(parts)
    reweighter = ("GivenWeights(until=0.5)" if front else "GivenWeights()") if weighted else None
    training = training_section(form_of(record), parts=parts, weights=reweighter) if "form" in record else ""
    written = record.get("form", {}).get("written_as", "input")
    return f"""{_front_matter(counts["output"], version, parts, record["data"].get("card"))}
# Curated dataset

{counts["input"]:,} rows of `{_plain(record["data"]["source"])}` went in, {counts["output"]:,} came out{weighted}.
{_found_hard(record)}

```python
from datasets import load_dataset

rows = load_dataset("path/to/this/folder", split="train")
```

| rows | number |
|---|---|
{rows}

Left out: {counts["rejected"]:,} rows{proposals}, in `tables/rejected.parquet` with their reasons.
Could not be scored, so kept once and not clustered: {counts["invalid"]:,}.

{training}
## Columns

{_WRITTEN_AS.format(form=written) if written != "input" else "The input's columns are untouched."} These were added:

| column | meaning |
|---|---|
| `example_id` | unique; a copy is `<id>#<number>` |
| `source_id` | `example_id` of the input row it comes from |
| `origin` | original, duplicate, synthetic or replay |
| `copy` | 0 for the row itself, 1 for its first copy, ... |
| `difficulty` | higher = learned later; null where it could not be measured |
| `cluster` | 0 = easiest; -1 = noise; null where it could not be measured |
| `hard` | whether the row is in a hard cluster |
{_WEIGHT_COLUMN if weighted else ""}{_synthetic_columns(counts)}{use}{_new_problems(record)}
## Warnings

{warnings}

## Recipe

```yaml
{record["recipe_yaml"].rstrip()}
```

`run.json` holds fingerprints, versions, seeds and cost; `report.html` shows all of this in plots.
The license and the terms of the source data still hold.
"""


def _found_hard(record: dict[str, Any]) -> str:
    """Sentence on the number of hard rows and how they were determined."""
    counts, proxy = record["counts"], record["proxy"]
    share = counts["hard"] / counts["valid"] if counts["valid"] else 0.0
    meaning, measured = "learned late", "scores measured earlier or a scorer without a proxy"
    if proxy:
        model, steps = f"`{_plain(proxy['model'])}`", proxy["steps"]
        measured = f"a proxy ({model}, {steps[-1]} optimizer steps, {len(steps)} checkpoints)"
        if proxy.get("reference"):
            meaning = "unlike reference rows"
            measured = f"a model of these ({model}, {steps[-1]} optimizer steps on them)"
    of = f"{counts['hard']:,} of {counts['valid']:,} rows ({share:.1%})"
    return f"{of} were found hard, that is {meaning}, by {measured}."


def weighted_card(record: dict[str, Any], version: str) -> str:
    """README.md of a dataset with learned weights, from its run.json. version: see `content_version`."""
    counts, weights, runs = record["counts"], record["weights"], record["runs"]
    listed = "\n".join(
        f"- `{_plain(run['weights'])}`"
        + (f": {_name_of(run['reweighter'])} while fine-tuning `{_plain(run['model'])}`" if run["reweighter"] else "")
        + f"; {run['rows_drawn']:,} rows drawn, mean weight {run['mean']:g}"
        for run in runs
    )
    mean = "the mean over these runs" if len(runs) > 1 else "what this run gave it, on average over the steps"
    scaled = ", divided by the mean over all rows" if record["normalized"] else ""
    warnings = "\n".join(f"- {_plain(w['message'])} {_plain(w['remedy'])}" for w in record["warnings"]) or "- none"
    reweighter = 'GivenWeights(averages="rows")' if record["averages"] == "rows" else "GivenWeights()"
    return f"""{_front_matter(counts["output"], version, carried=record["data"].get("card"))}
# Dataset with weights

The {counts["output"]:,} rows of `{_plain(record["data"]["source"])}`, in their order, each with a weight:
{mean}{scaled}.

{listed}

Rows drawn in no run: {counts["not_drawn"]:,}; in some runs only: {counts["drawn_by_some"]:,}. A run that did not
draw a row says its own mean weight of it, so that the row counts as an average one.

```python
from datasets import load_dataset

rows = load_dataset("path/to/this/folder", split="train")
```

{training_section(form_of(record), curated=False, weights=reweighter)}
## Columns

The input's columns are untouched. These were added, `example_id` only where the input had none:

| column | meaning |
|---|---|
| `example_id` | unique; the weights were joined by it |
| `weight` | from {weights["smallest"]:g} to {weights["largest"]:g}, mean {weights["mean"]:g} |

`tables/weights.parquet` also says in how many runs and steps a row was drawn. Unusable rows that were left out:
{counts["rejected"]:,}, in `tables/rejected.parquet`.
{USE_OF_ROW_WEIGHTS if record["averages"] == "rows" else USE_OF_WEIGHTS}
## Warnings

{warnings}

`run.json` holds fingerprints, versions and what the weights cost.
The license and the terms of the source data still hold.
"""


def _name_of(reweighter: Any) -> str:
    return f"`{_plain(str(reweighter.get('use', reweighter)).rpartition('.')[2])}`" if reweighter else ""


_WRITTEN_AS = "What a model reads of the input is written as `{form}`; the input's other columns are untouched."


def _front_matter(
    rows: int, version: str, parts: Mapping[str, int] | None = None, carried: Mapping[str, Any] | None = None
) -> str:
    """YAML front matter for Hugging Face: data files, size, and a version that identifies the content.

    parts: {name: rows} of the parts of an ordered dataset; each is also a split. carried: license, language and task of
    the input.
    """
    import yaml

    more = yaml.safe_dump(dict(carried), sort_keys=False, allow_unicode=True) if carried else ""
    size = next((name for limit, name in _SIZES if rows < limit), "n>10M")
    files = {name: f"data/train-{name}-*.parquet" for name in parts or ()}
    path = "data/train-*.parquet" if parts is None else f"[{', '.join(files.values())}]"
    splits = "".join(f"  - split: {name}\n    path: {path_of_split}\n" for name, path_of_split in files.items())
    return f"""---
configs:
- config_name: default
  version: {version}
  data_files:
  - split: train
    path: {path}
{_PARTS.format(version=version) + splits if parts else ""}size_categories:
- {size}
tags:
- curate-lm
{more}---
"""


def content_version(data: Path) -> str:
    """Version 0.0.N, the only form that `datasets` takes; N: 64 bits of a hash of the Parquet files and their names.

    `datasets` caches data by the base name of the folder, this version and a hash of the configuration, regardless of
    the paths and modification times of files. Without such a version it would return stale data for a folder that is
    written again, and for another folder of the same name.
    """
    digest = file_digest([(path, path.name) for path in sorted(data.glob("*.parquet"))])
    return f"0.0.{int(digest[:16], 16)}"


_PARTS = """- config_name: parts
  version: {version}
  data_files:
"""

_WEIGHT_COLUMN = "| `weight` | how many rows it represents: what another recipe would have copied is here once |\n"


def _synthetic_columns(counts: dict[str, Any]) -> str:
    if not counts["synthetic"]:
        return ""
    return """| `generator` | of a synthetic row: the model that wrote and solved it |
| `request` | digest of the request that its solution answered |
| `pass_count` | how many of its sampled solutions were right; drawing stops early |
| `verified` | whether its solution reaches the final answer of the row it comes from |
| `rescored_hard` | whether it is hard again; null where that was not measured |
"""


def _new_problems(record: dict[str, Any]) -> str:
    """The section on synthetic rows; empty if the run has no record of synthesis."""
    parts = [_synthesis(synthesis) for synthesis in record.get("synthesis") or () if synthesis.get("outcomes")]
    if not parts:
        return ""
    if record["counts"]["synthetic"]:
        parts += [_CAVEAT, _decontaminated(record)]
    return "\n## New problems\n\n" + "\n\n".join(parts) + "\n"


_CAVEAT = """They are graded against the original answer and **not proven equivalent** to the original problem: a new
problem may have another answer than the one it is kept with, and of its solution only the final answer was checked,
not the steps."""


def _synthesis(synthesis: dict[str, Any]) -> str:
    """Paragraph about one synthesis, from its record."""
    low, high, samples = synthesis["band"]
    kept_problems, measured = synthesis["outcomes"].get("kept", 0), synthesis.get("rescored") or {}
    generator, started = _plain(synthesis["generator"]), synthesis["rows"]["started from"]
    if not kept_problems:
        return (
            f"`{generator}` was asked for new problems from the solutions of {started:,} rows, and none was kept; "
            "`tables/synthesis.parquet` holds what was tried and why it was left out."
        )
    again = "Whether they are hard again was not measured."
    if measured.get("measured"):
        share = f"{measured['hard'] / measured['measured']:.1%}"
        remark = "; the others were left out" if measured["measured"] > kept_problems else ""
        of = f"{measured['hard']:,} of {measured['measured']:,} ({share})"
        again = f"Measured like the input, {of} are hard again{remark}."
    return (
        f"{kept_problems:,} new problems were written by `{generator}` from the solutions of {started:,} rows. Up to "
        f"{samples} solutions of each were sampled from the same model, and those problems kept of which {low} to "
        f"{high} solutions reached the final answer of the original row. {again}"
    )


def _decontaminated(record: dict[str, Any]) -> str:
    sets = _evaluation_sets(record)
    if not sets:
        return "They were checked against no evaluation set: the recipe names none under `gate`."
    return f"They were checked against these evaluation sets, and those that hit one were left out: {sets}."


def _evaluation_sets(record: dict[str, Any]) -> str:
    recipe = record.get("recipe")
    gate = recipe.get("gate") if isinstance(recipe, dict) else None
    evaluation = gate.get("evaluation") if isinstance(gate, dict) else None
    names = [dataset.get("data") if isinstance(dataset, dict) else dataset for dataset in evaluation or ()]
    return ", ".join(f"`{_plain(str(name))}`" for name in names)


def _plain(text: str) -> str:
    """Text without characters that are special in Markdown or a terminal."""
    return re.sub(r"[`<>\x00-\x1f\x7f]", " ", str(text))
