"""The dataset card: what Hugging Face shows for a dataset, and what a person reads first in the folder."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["dataset_card"]

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def dataset_card(record: dict[str, Any]) -> str:
    """README.md of a curated dataset, from its run.json."""
    counts = record["counts"]
    size = next((name for limit, name in _SIZES if counts["output"] < limit), "n>10M")
    proxy = record["proxy"]
    measured = (
        f"a proxy (`{_plain(proxy['model'])}`, {proxy['steps'][-1]} optimizer steps, {len(proxy['steps'])} checkpoints)"
        if proxy
        else "scores measured earlier or a scorer without a proxy"
    )
    hard = counts["hard"] / counts["valid"] if counts["valid"] else 0.0
    rows = "\n".join(
        f"| {name} | {counts[name]:,} |" for name in ("original", "duplicate", "synthetic", "replay") if counts[name]
    )
    warnings = "\n".join(f"- {_plain(w['message'])} {_plain(w['remedy'])}" for w in record["warnings"]) or "- none"
    return f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
size_categories:
- {size}
tags:
- curate-lm
---

# Curated dataset

{counts["input"]:,} rows of `{_plain(record["data"]["source"])}` went in, {counts["output"]:,} came out.
{counts["hard"]:,} of {counts["valid"]:,} rows ({hard:.1%}) were found hard, that is learned late, by {measured}.

```python
from datasets import load_dataset

rows = load_dataset("path/to/this/folder", split="train")
```

| rows | number |
|---|---|
{rows}

Left out: {counts["rejected"]:,} rows, in `tables/rejected.parquet` with their reasons.
Could not be scored, so kept once and not clustered: {counts["invalid"]:,}.

## Columns

The input's columns are untouched. These were added:

| column | meaning |
|---|---|
| `example_id` | unique; a copy is `<id>#<number>` |
| `source_id` | `example_id` of the input row it comes from |
| `origin` | original, duplicate, synthetic or replay |
| `copy` | 0 for the row itself, 1 for its first copy, ... |
| `difficulty` | higher = learned later; null where it could not be measured |
| `cluster` | 0 = easiest; -1 = noise; null where it could not be measured |
| `hard` | whether the row is in a hard cluster |

## Warnings

{warnings}

## Recipe

```yaml
{record["recipe_yaml"].rstrip()}
```

`run.json` holds fingerprints, versions, seeds and cost; `report.html` shows all of this in plots.
The licence and the terms of the source data still hold.
"""


def _plain(text: str) -> str:
    """One line without characters that Markdown or a terminal would act on."""
    return re.sub(r"[`<>\x00-\x1f\x7f]", " ", str(text))
