"""Measure synthesis from hard GSM8K rows with a model behind vLLM: funnel, acceptance and throughput."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_DETAILS = """\
    python benchmarks/synthesis.py --data data/gsm8k.parquet --model models/qwen2.5-coder-0.5b --vllm vllm \
        --rows 40 --variants 2 --cache cache --out-dir problems --out results/synthesis.json

Runs `curate synthesize` in a process of its own; what it was killed in, the same command resumes with. The record holds
what run.json says and every kept problem beside its parent, to be read by eye.
"""

# Of vLLM 0.32 on a CPU: a prompt that is prefilled in pieces together with a seed ends the engine there.
_ARGUMENTS = "--enforce-eager --max-model-len 2048 --no-enable-chunked-prefill --max-num-batched-tokens 8192"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--vllm", default="vllm", help="executable of an environment that has vLLM")
    parser.add_argument("--proxy", default="scratch")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--variants", type=int, default=2)
    parser.add_argument("--of", default="hard", choices=("hard", "easy", "random"))
    parser.add_argument("--strategy", default="variation", help="of Synthesize")
    parser.add_argument("--checks", default="all", help="of Synthesize: all, none, or names")
    parser.add_argument("--band", default="2-5", help="of Synthesize; 1-5 with --checks none is the rule of SvS")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--arguments", default=_ARGUMENTS, help="of `vllm serve`")
    parser.add_argument("--connections", type=int, default=64, help="requests at a time; a slow machine wants fewer")
    parser.add_argument("--budget", type=int)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="JSON file for the record")
    options = parser.parse_args()
    started = time.monotonic()
    command = _command(options)
    status = subprocess.run([sys.executable, "-m", "curate", *command], check=False).returncode
    if status:
        return status
    record = _record(options, time.monotonic() - started)
    print(json.dumps({name: value for name, value in record.items() if name != "kept"}, indent=1))
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


def _command(options: argparse.Namespace) -> list[str]:
    served = shlex.split(options.arguments)
    settings = [
        f"augmenters.0.generator.arguments={json.dumps(served)}",
        f"augmenters.0.generator.connections={options.connections}",
        f"augmenters.0.solution_sampling={{max_tokens: 384, temperature: {options.temperature}}}",
        f"augmenters.0.variation_sampling={{max_tokens: 192, temperature: {options.temperature}}}",
    ]
    held_out = f"{{data: {options.data}, where: split=test}}"
    words = ["synthesize", str(options.data), "--where", "split=train", "--proxy", options.proxy]
    words += ["--columns", "prompt=question,completion=answer,final_answer=final_answer"]
    words += ["--generator", options.model, "--vllm", options.vllm, "--of", options.of]
    words += ["--strategy", options.strategy, f"--checks={options.checks}", "--band", options.band]
    words += ["--allow-plugin", "vllm"]  # for its arguments, whichever they are
    words += ["--rows", str(options.rows), "--variants", str(options.variants), "--evaluation", held_out]
    words += [f"--set={setting}" for setting in settings]
    words += [] if options.budget is None else ["--budget", str(options.budget)]
    return [*words, "--cache", str(options.cache), "--out", str(options.out_dir), "--fresh"]


def _record(options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    run = json.loads((options.out_dir / "run.json").read_text(encoding="utf-8"))
    made = run["synthesis"][0]
    kept = pq.read_table(options.out_dir / "tables" / "synthesis.parquet").to_pylist()
    kept = [row for row in kept if row["outcome"] == "kept"]
    names = ("example_id", "parent_problem", "problem", "answer", "solution", "right", "drawn", "rescored_hard")
    funnel = dict(made["funnel"])
    return {
        "command": shlex.join(["python", *sys.argv]),
        "device": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "aiohttp", "math-verify")},
        "model": options.model,
        "counts": run["counts"],
        "synthesis": made,
        "acceptance": funnel["kept"] / max(funnel["proposals written"], 1),
        "hard_again": made["rescored"]["hard"] / max(made["rescored"]["measured"], 1) if "rescored" in made else None,
        "tokens_per_second": made["tokens"]["generated in this run"] / made["seconds"] if made["seconds"] else None,
        "generated_tokens_per_kept": made["tokens"]["generated"] / max(funnel["kept"], 1),
        "seconds": round(seconds, 1),
        "kept": [{name: row[name] for name in names} for row in kept],
    }


if __name__ == "__main__":
    sys.exit(main())
