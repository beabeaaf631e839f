"""Benchmark tokens per second of scoring against a loop of one example at a time."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curate.data.readers import read
from curate.devices.precision import resolve_precision
from curate.models.loading import load_model, load_tokenizer
from curate.models.scoring import LossEngine
from curate.tokenization.encoding import tokenize
from curate.tokenization.templates import resolve_template
from curate.tokenization.tokens import Tokens

_DETAILS = """\
    python benchmarks/throughput.py score --model FOLDER_OR_ID --data FILE [--where split=train] [--out FILE.json]

Repetitions of the loop and of the engine alternate and medians are compared, so that other load on the machine falls
on both. Tokens counted are those of the rows, however few of them the engine has to compute.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    score = commands.add_parser("score", help="per-example losses")
    _add_shared(score)
    score.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    score.add_argument("--layout", choices=["auto", "padded", "packed"], default="auto")
    score.add_argument("--token-budget", type=int)
    score.add_argument("--compile", action="store_true", help="compile the decoder layers first, timed apart")
    score.set_defaults(measure=_score)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    record = {"command": shlex.join(["python", *sys.argv]), **_machine(torch.device(options.device))}
    record |= options.measure(options)
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="folder or hub id")
    parser.add_argument("--data", required=True, help="file, folder or hub id")
    parser.add_argument("--where", help="row filter, e.g. split=train")
    parser.add_argument("--rows", type=int, default=128, help="size of the seeded sample")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="threads of PyTorch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the record")


def _score(options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(options.device)
    model = load_model(options.model).to(device).eval()
    tokens = _tokens(options)
    engine = LossEngine(
        model, precision=options.precision, layout=options.layout, token_budget=options.token_budget, compile=False
    )
    entries: dict[str, Callable[[], Any]] = {"loop float32": lambda: _loop(model, tokens, device)}
    if engine.dtype != torch.float32:
        half = load_model(options.model).to(device, engine.dtype).eval()
        entries["loop bfloat16"] = lambda: _loop(half, tokens, device)
    entries["engine"] = lambda: engine.losses(tokens)
    seconds_to_compile = None
    if options.compile:
        started = time.perf_counter()
        compiled = LossEngine(
            model, precision=options.precision, layout=options.layout, token_budget=options.token_budget, compile=True
        )
        seconds_to_compile = time.perf_counter() - started
        entries["engine compiled"] = lambda: compiled.losses(tokens)
    few = tokens.slice(0, min(4, len(tokens)))
    engine.losses(few)
    _loop(model, few, device)
    times, results = _alternate(entries, options.repeats, device)
    table = _compare(times, results, len(tokens.ids))
    rate = _matrix_rate(model, engine.dtype, device, engine.token_budget)
    share = _operations(model, tokens) / statistics.median(table["engine"]["wall_seconds"]) / rate
    print(f"{len(tokens)} rows, {len(tokens.ids)} tokens; {engine.layout} layout, {engine.dtype}; {device}")
    print(f"{'':<18}{'tokens/s':>10}{'x wall':>8}{'x cpu':>8}{'wall spread':>16}{'differs by':>12}")
    for name, row in table.items():
        spread = f"{min(row['wall_seconds']):.2f}..{max(row['wall_seconds']):.2f}"
        print(
            f"{name:<18}{row['tokens_per_second']:>10,.0f}{row['ratio_wall']:>8.2f}{row['ratio_cpu']:>8.2f}"
            f"{spread:>16}{row['largest_difference']:>12.1e}"
        )
    print(f"matrix products alone: {rate / 1e9:,.0f} GFLOP/s; the engine reaches {share:.0%} of it")
    return {
        "rows": len(tokens),
        "tokens": len(tokens.ids),
        "completion_tokens": int(tokens.completion_tokens.sum()),
        "layout": engine.layout,
        "precision": str(engine.dtype),
        "token_budget": engine.token_budget,
        "seconds_to_compile": seconds_to_compile,
        "matrix_rate": rate,
        "share_of_matrix_rate": share,
        "results": table,
    }


def _compare(times: dict[str, list[dict[str, float]]], results: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Medians of every entry, and how many times faster than the float32 loop."""
    medians = {
        name: {clock: statistics.median(each[clock] for each in clock_times) for clock in ("wall", "cpu")}
        for name, clock_times in times.items()
    }
    base = medians["loop float32"]
    return {
        name: {
            "tokens_per_second": tokens / medians[name]["wall"],
            "wall_seconds": [each["wall"] for each in clock_times],
            "cpu_seconds": [each["cpu"] for each in clock_times],
            "ratio_wall": base["wall"] / medians[name]["wall"],
            "ratio_cpu": base["cpu"] / medians[name]["cpu"],
            "largest_difference": float(np.abs(results[name] - results["loop float32"]).max()),
        }
        for name, clock_times in times.items()
    }


def _tokens(options: argparse.Namespace) -> Tokens:
    examples = read(options.data, where=options.where, limit=options.rows, seed=options.seed).examples
    template = resolve_template("auto", examples.shape, scratch=False)
    tokens = tokenize(examples, load_tokenizer(options.model), template=template, max_length=options.max_length)
    return tokens.take(np.flatnonzero(tokens.valid))


@torch.no_grad()
def _loop(model: Any, tokens: Tokens, device: torch.device) -> np.ndarray:
    """(n,) losses by the usual loop: one forward pass with labels per row."""
    losses = []
    for low, high in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True):
        ids = torch.from_numpy(tokens.ids[low:high].astype(np.int64))[None].to(device)
        labels = ids.masked_fill(~torch.from_numpy(tokens.supervised[low:high])[None].to(device), -100)
        losses.append(model(input_ids=ids, labels=labels).loss.item())
    return np.array(losses, np.float32)


def _alternate(
    entries: dict[str, Callable[[], Any]], repeats: int, device: torch.device
) -> tuple[dict[str, list[dict[str, float]]], dict[str, Any]]:
    """Wall and processor seconds of every entry in turn, `repeats` times over, and what each returned."""
    times: dict[str, list[dict[str, float]]] = {name: [] for name in entries}
    results: dict[str, Any] = {}
    for _ in range(repeats):
        for name, work in entries.items():
            wall, cpu = time.perf_counter(), time.process_time()
            results[name] = work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu})
    return times, results


def _linear_shapes(model: Any) -> list[tuple[int, int]]:
    """(inputs, outputs) of the matrices below the LM head, embeddings left out."""
    embedding = model.get_input_embeddings().weight
    return [(p.shape[1], p.shape[0]) for p in model.get_decoder().parameters() if p.ndim == 2 and p is not embedding]


def _operations(model: Any, tokens: Tokens) -> float:
    """Floating-point operations in the matrix products that the rows' losses need, prefixes counted per row."""
    body = sum(2 * fan_in * fan_out for fan_in, fan_out in _linear_shapes(model))
    head = 2 * model.get_output_embeddings().weight.numel()
    return float(body * len(tokens.ids) + head * tokens.completion_tokens.sum())


def _matrix_rate(model: Any, dtype: torch.dtype, device: torch.device, rows: int) -> float:
    """Operations per second of the model's own matrix products, by themselves, at the engine's batch size."""
    shapes = sorted(set(_linear_shapes(model)))
    inputs = [torch.randn(rows, fan_in, device=device, dtype=dtype) for fan_in, _ in shapes]
    weights = [torch.randn(fan_out, fan_in, device=device, dtype=dtype) for fan_in, fan_out in shapes]
    work = sum(2 * rows * fan_in * fan_out for fan_in, fan_out in shapes)
    best = 0.0
    with torch.inference_mode():
        for _ in range(8):
            started = time.perf_counter()
            for x, weight in zip(inputs, weights, strict=True):
                torch.nn.functional.linear(x, weight)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = max(best, work / (time.perf_counter() - started))
    return best


def _machine(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "device": device.type,
        "device_name": name,
        "fast_bfloat16": resolve_precision("auto", device) == torch.bfloat16,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "versions": {each: metadata.version(each) for each in ("torch", "transformers", "numpy")},
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
