"""The records of the study: one JSON Lines file per family, a line per block, all that tables and forecasts use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.when.runs import slug
from curate.storage.atomic import publish_file


def collect(out: Path, records: Path) -> None:
    """Write the finished runs under `out` into records/FAMILY.jsonl; blocks that are there only stay."""
    for folder in sorted(path for path in out.glob("*") if path.is_dir()):
        place = records / f"{folder.name}.jsonl"
        blocks = {_key(block): block for block in _lines(place)}
        for facts in sorted(folder.glob("*/seed-*/facts.json")):
            block = json.loads(facts.read_text(encoding="utf-8"))
            done = [
                json.loads(path.read_text(encoding="utf-8")) for path in facts.parent.glob("*.json") if path != facts
            ]
            block["arms"] = {run.pop("arm"): run for run in sorted(done, key=lambda run: run["arm"])}
            blocks[_key(block)] = block
        lines = [json.dumps(_flat(blocks[key]), separators=(",", ":")) for key in sorted(blocks)]
        if lines:
            publish_file(place, "\n".join(lines) + "\n")


def restore(records: Path, out: Path) -> None:
    """Put what the records hold and `out` lacks back there, so that it is not run again."""
    for place in sorted(records.glob("*.jsonl")):
        for block in _lines(place):
            runs = block.pop("arms")
            folder = out / block["setting"]["family"] / block["name"] / f"seed-{block['seed']}"
            for path, content in [
                (folder / "facts.json", block),
                *((folder / f"{slug(name)}.json", {"arm": name, **run}) for name, run in runs.items()),
            ]:
                if not path.is_file():
                    publish_file(path, json.dumps(content) + "\n")


def read_blocks(records: Path) -> list[dict[str, Any]]:
    """The blocks of all families: setting, seed, facts, and arms by name."""
    return [block for place in sorted(records.glob("*.jsonl")) for block in _lines(place)]


def _lines(place: Path) -> Iterator[dict[str, Any]]:
    """Blocks as they were collected; what all arms share stands once in the file."""
    if not place.is_file():
        return
    for line in place.read_text(encoding="utf-8").splitlines():
        block = json.loads(line)
        shared = {name: block.pop(name) for name in ("tokens", "questions") if name in block}
        block["arms"] = {name: {**run, **shared} for name, run in block["arms"].items()}
        yield block


def _flat(block: dict[str, Any]) -> dict[str, Any]:
    """`block` with the sizes of the test sets, which all its arms share, once."""
    runs = {name: dict(run) for name, run in block["arms"].items()}
    shared: dict[str, Any] = {}
    for run in runs.values():
        sizes = {name: run.pop(name) for name in ("tokens", "questions")}
        shared |= sizes if run["steps"] else {}
    return {**block, "arms": runs, **shared}


def _key(block: dict[str, Any]) -> tuple[str, int]:
    return block["name"], block["seed"]
