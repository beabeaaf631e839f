"""Arguments of `vllm serve`: refused, part of the identity, or neither."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from curate.errors import InputError
from curate.generators import VLLMServer

KEY = "sk-very-secret-key"


def test_arguments_that_are_ours_to_give_are_refused_and_not_repeated() -> None:
    for word in (
        "--api-key",
        "--api_key",
        "--served_model_name=x",
        "--api-key=" + KEY,
        "--port=1",
        "--host",
        "--served-model-name",
    ):
        with pytest.raises(InputError, match=r"is set by VLLMServer itself") as caught:
            VLLMServer(model="m", arguments=(word, KEY))
        assert KEY not in str(caught.value)
    with pytest.raises(ValidationError):
        VLLMServer(model="m", connections=513)


DECIDING = """-q fp8; --reasoning-parser qwen3; --reasoning-parser deepseek_r1; --tokenizer-mode slow;
    --lora-modules a=b c=d; --rope-scaling {}; --hf-overrides.rope_theta 3; --config a.yaml; --chat-template a.jinja;
    --logits-processors x.Y; --no-disable-sliding-window; --disable-sliding-window"""


FAST = """--dtype=float16; --kv-cache-dtype fp8; --max-model-len 2048; --max-model-len -1; --tensor-parallel-size 2;
    --enforce-eager; --no-enable-chunked-prefill --max-num-batched-tokens 8192; --gpu-memory-utilization 0.5;
    --max-num-seqs 4; --seed -1; --disable-log-stats; --enable-prefix-caching"""


def test_what_changes_the_text_changes_the_identity_and_what_changes_the_pace_does_not() -> None:
    def identity(arguments: str) -> str:
        return VLLMServer(model="org/model", arguments=tuple(arguments.split())).identity()

    deciding, fast = DECIDING.split(";"), FAST.split(";")
    assert len({identity(arguments) for arguments in [*deciding, ""]}) == len(deciding) + 1
    assert {identity(arguments) for arguments in fast} == {identity("")}
    assert identity("--seed -1 --quantization fp8 --max-num-seqs 4") == identity("--quantization fp8")
