"""Arguments of `vllm serve`: which a recipe may give unasked, because they load no code and no pickles."""

from __future__ import annotations

from typing import Any

from curate.component import Consent

__all__ = ["ARGUMENTS", "COMMAND", "option_of"]

# Limits, arithmetic, memory, parallelism and revisions. Everything else may name a module, a file of code, a format of
# weights or --trust-remote-code: whoever wants it says so.
_HARMLESS = frozenset(
    (
        *("--async-scheduling", "--block-size", "--cpu-offload-gb", "--data-parallel-size", "--dtype"),
        *("--disable-cascade-attn", "--disable-custom-all-reduce", "--disable-log-requests", "--disable-log-stats"),
        *("--disable-sliding-window", "--enable-chunked-prefill", "--enable-expert-parallel", "--enforce-eager"),
        *("--enable-prefix-caching", "--gpu-memory-utilization", "--kv-cache-dtype", "--language-model-only"),
        *(
            "--max-logprobs",
            "--max-model-len",
            "--max-num-batched-tokens",
            "--max-num-seqs",
            "--max-seq-len-to-capture",
        ),
        *("--num-gpu-blocks-override", "--override-generation-config", "--pipeline-parallel-size", "--quantization"),
        *("--reasoning-parser", "--revision", "--rope-scaling", "--rope-theta", "--seed", "--swap-space"),
        *("--tensor-parallel-size", "--tokenizer-revision", "-dp", "-pp", "-q", "-tp"),
    )
)


def option_of(word: str) -> str:
    """The name of the option in an argument; vLLM takes underscores for hyphens, and options of options after a dot."""
    return word.partition("=")[0].partition(".")[0].replace("_", "-")


def _harmless(arguments: Any) -> bool:
    words = arguments if isinstance(arguments, list | tuple) else [arguments]
    options = [option_of(str(word)) for word in words if str(word).startswith("-") and not str(word)[1:2].isdigit()]
    return all(option.replace("--no-", "--", 1) in _HARMLESS for option in options)


COMMAND = Consent(("--allow-plugin vllm", "--vllm PATH"), lambda command: command == "vllm")
ARGUMENTS = Consent(("--allow-plugin vllm",), _harmless)
