"""Benchmark sampling in this process against `model.generate` of transformers."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from curate.generators.decoding import sample
from curate.generators.requests import Request, Sampling
from curate.models.loading import load_model, load_tokenizer

_DETAILS = """\
    python -m benchmarks.sampling --model FOLDER [--prompts 48] [--tokens 64] [--batch 16] [--rounds 3] [--out FILE]

Both complete the same prompts of different lengths, one thread, in turn: ours by `curate.generators.decoding.sample`,
which lets other requests join when a quarter of a batch has ended; theirs by `generate` on batches sorted by length and
padded on the left, with a generator of random numbers for the whole batch. Half of the requests ask for a quarter of
the tokens, as completions end at different lengths. Prints medians over the rounds; a ratio above 1 favors ours.
"""


def main() -> None:
    """Measure, print and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load_model(options.model), load_tokenizer(options.model)
    prompts = [f"Question {k}: " + "what comes next? " * (1 + k % 12) for k in range(options.prompts)]
    wanted = [options.tokens if k % 2 else options.tokens // 4 for k in range(options.prompts)]
    requests = [
        Request(prompt=prompt, sampling=Sampling(max_tokens=tokens), seed=k)
        for k, (prompt, tokens) in enumerate(zip(prompts, wanted, strict=True))
    ]

    def ours() -> int:
        completions = sample(model, tokenizer, requests, template="plain", batch_size=options.batch)
        return sum(completion.completion_tokens for completion in completions)

    def theirs() -> int:
        order = sorted(range(len(prompts)), key=lambda k: (wanted[k], len(prompts[k])))
        return sum(
            _generate(model, tokenizer, [prompts[k] for k in part], max(wanted[k] for k in part))
            for part in (order[low : low + options.batch] for low in range(0, len(order), options.batch))
        )

    seconds: dict[str, list[float]] = {"ours": [], "generate": []}
    tokens: dict[str, int] = {}
    for _ in range(options.rounds):
        for name, run in (("ours", ours), ("generate", theirs)):
            tokens[name], took = _timed(run)
            seconds[name].append(took)
    per_token = {name: statistics.median(values) / tokens[name] for name, values in seconds.items()}
    record = {
        "cpu_seconds": seconds,
        "tokens": tokens,
        "generate_over_ours_per_token": round(per_token["generate"] / per_token["ours"], 3),
        "settings": {"prompts": options.prompts, "tokens": options.tokens, "batch": options.batch},
        "machine": platform.processor() or platform.machine(),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")},
    }
    print(json.dumps(record, indent=1))
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _timed(run: Callable[[], int]) -> tuple[int, float]:
    """What `run` returns, and processor seconds: the machine may be shared."""
    start = time.process_time()
    return run(), time.process_time() - start


def _generate(model: Any, tokenizer: Any, prompts: list[str], tokens: int) -> int:
    """The number of tokens that `generate` makes for `prompts`."""
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    with torch.inference_mode():
        made = model.generate(**batch, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=tokens)
    rows = made[:, batch["input_ids"].shape[1] :]  # (b, s)
    # the end of a text is the token of the padding, and one of them was sampled.
    lengths = (rows != tokenizer.pad_token_id).sum(1) + 1  # (b,)
    return int(lengths.clamp(max=tokens).sum())


if __name__ == "__main__":
    main()
