"""Arguments of `vllm serve`: those set here, those that change completions, those that need no consent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from curate.component import Consent

OWN = ("--api-key", "--host", "--model", "--port", "--served-model-name")
# Arguments of `vllm serve` that change the model's output, and not only its speed: weights, tokens and template,
# and post-processing of its text. Precision, kernels, parallelism and batching change a completion too, by rounding,
# but they must not cause a completion that was paid for to be requested again.
_DECIDING = (
    "--chat-template",  # and --chat-template-content-format
    "--code-revision",
    "--config",  # any argument, in a file; and --config-format
    "--default-chat-template-kwargs",
    "--disable-sliding-window",
    "--generation-config",
    "--hf-config-path",
    "--hf-overrides",
    "--logits-processor",  # and --logits-processors
    "--lora-modules",
    "--lora-target-modules",
    "--model-class-overrides",
    "--model-impl",
    "--model-loader-extra-config",
    "--override-generation-config",
    "--quantization",  # and --quantization-config
    "--reasoning-config",
    "--reasoning-parser",
    "--revision",
    "--rope-scaling",
    "--rope-theta",
    "--tokenizer",  # and --tokenizer-mode, --tokenizer-revision
    "--watermark",  # and --watermark-config
    "-q",
)
# Limits, arithmetic, memory, parallelism and revisions. All others may name a module, a file of code, a format of
# weights or --trust-remote-code, and need explicit consent.
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
    """The option name in an argument; vLLM accepts underscores for hyphens, and suboptions after a dot."""
    return word.partition("=")[0].partition(".")[0].replace("_", "-")


def deciding(arguments: Sequence[str]) -> list[str]:
    """The arguments that change completions, with their values."""
    words, taking = [], False
    for word in arguments:
        if word.startswith("-") and not word[1:2].isdigit():  # -1 is a value
            taking = re.sub("^--no-", "--", option_of(word)).startswith(_DECIDING)
        if taking:
            words.append(word)
    return words


def _harmless(arguments: Any) -> bool:
    words = arguments if isinstance(arguments, list | tuple) else [arguments]
    options = [option_of(str(word)) for word in words if str(word).startswith("-") and not str(word)[1:2].isdigit()]
    return all(option.replace("--no-", "--", 1) in _HARMLESS for option in options)


COMMAND = Consent(("--allow-plugin vllm", "--vllm PATH"), lambda command: command == "vllm")
ARGUMENTS = Consent(("--allow-plugin vllm",), _harmless)
