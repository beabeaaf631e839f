"""Small tokenizers of the usual kinds, and chat templates of the usual habits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

__all__ = ["CHATML", "CHATS", "FAMILIES", "byte_level", "metaspace", "word_level"]

_SENTENCES = [
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "What is 12 plus 30? The answer is 42, because 12 + 30 = 42.",
    "A user asks and the assistant answers; the system says how. Yes. No. Four apples and three pears make seven.",
]
_MARKS = ("<|begin|>", "<|end|>", "<unk>", "<|im_start|>", "<|im_end|>")

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Habits of the templates of released models. All of them show every assistant turn as it is, white space apart.
CHATS: dict[str, str] = {
    "chatml": CHATML,
    "eos ends a turn": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + eos_token + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "begins with bos": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + "
        "eos_token }}{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
    ),
    "no end of turn": (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    ),
    "drops system": (
        "{% for m in messages if m['role'] != 'system' %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim "
        "+ '<|im_end|>' + '\n' }}{% endfor %}"
    ),
    "system in the last question": (
        "{% for m in messages if m['role'] != 'system' %}{% set tail = '\n' + messages[0]['content'] if "
        "m['role'] == 'user' and messages[0]['role'] == 'system' and loop.index0 >= loop.length - 2 else '' %}"
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + tail + '<|im_end|>' + '\n' }}{% endfor %}"
    ),
    "adds a system prompt": (
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nAnswer as an assistant. Yes.<|im_end|>\n' }}"
        "{% endif %}" + CHATML
    ),
    "looks for thoughts": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
        "{% if m['role'] == 'assistant' and loop.last %}{% if '</think>' in m['content'] %}"
        "{% set parts = m['content'].split('</think>') %}"
        "{{ '<think>\n' + parts[0].split('<think>')[-1].strip('\n') + '\n</think>\n\n' + parts[1].lstrip('\n') }}"
        "{% else %}{{ '<think>\n\n</think>\n\n' + m['content'] }}{% endif %}"
        "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
}

_THOUGHT = "<think>\n2 and 2\n</think>\n\n4"
_ALTERNATE = "{{ raise_exception('Conversation roles must alternate user/assistant') }}"
# In the style of released models: template, the end of a turn, and what is kept of two answers `_THOUGHT`.
FAMILIES: dict[str, tuple[str, str, tuple[str, str]]] = {
    "qwen3": (
        "{% set ns = namespace(last=-1) %}{% for m in messages if m.role == 'user' %}{% set ns.last = "
        "messages.index(m) %}{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' %}{% set content = m.content.split('</think>')[-1].lstrip('\n') %}"
        "{% set thought = m.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') "
        "if '</think>' in m.content else '' %}{% if loop.index0 > ns.last and (loop.last or thought) %}"
        "{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{% endif %}{{ content }}{% else %}{{ m.content }}"
        "{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_end|>",
        ("4", _THOUGHT),
    ),
    "deepseek-r1": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
        "{{ '<|Assistant|>' + m.content.split('</think>')[-1].lstrip('\n') + eos_token }}"
        "{% else %}{{ '<|User|>' + m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}",
        "<|end|>",
        ("4", "4"),
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}"
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}" + _ALTERNATE + "{% endif %}"
        "{{ '<|im_start|>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim }}"
        "{{ '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}",
        "<|im_end|>",
        (_THOUGHT, _THOUGHT),
    ),
    "mistral": (
        "{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
        "{{ bos_token }}{% for m in rest %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}" + _ALTERNATE + "{% endif %}{% if m.role == 'user' %}"
        "{{ '[INST] ' + (system if loop.index0 >= loop.length - 2 else '') + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
        "<|end|>",
        (_THOUGHT, _THOUGHT),
    ),
    "llama-3.1": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content | trim %}"
        "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
        "{{ '<|im_start|>system\nCutting Knowledge Date: December 2023\n\n' + system + '<|im_end|>' }}"
        "{% for m in rest %}{{ '<|im_start|>' + m.role + '\n\n' + m.content | trim + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}",
        "<|im_end|>",
        (_THOUGHT, _THOUGHT),
    ),
}


def _wrapped(backend: Tokenizer, auto_bos: bool, chat: str | None, eos: str, **options: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    if auto_bos:
        number = backend.token_to_id("<|begin|>")
        backend.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", number)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin|>", eos_token=eos, pad_token=eos, **options
    )
    tokenizer.chat_template = chat
    return tokenizer


def byte_level(
    *,
    auto_bos: bool = False,
    chat: str | None = None,
    eos: str = "<|end|>",
    vocabulary: int = 400,
    texts: Iterable[str] = _SENTENCES,
) -> Any:
    """GPT-2's kind. eos may be "<|im_end|>", so that the end of a turn is the end of the text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return _wrapped(backend, auto_bos, chat, eos)


def metaspace(*, auto_bos: bool = True, chat: str | None = None) -> Any:
    """Llama 2's kind: white space is a visible character, put before the text; unknown characters are bytes."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[*_MARKS, *(f"<0x{byte:02X}>" for byte in range(256))],
        max_token_length=16,
        show_progress=False,
    )
    backend.train_from_iterator(_SENTENCES, trainer)
    return _wrapped(backend, auto_bos, chat, "<|end|>", unk_token="<unk>")


def word_level(*, chat: str | None = None) -> Any:
    """One token per known word; white space is nothing, and any other word, however long, one unknown token."""
    backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.train_from_iterator(_SENTENCES, trainers.WordLevelTrainer(special_tokens=list(_MARKS), show_progress=False))
    return _wrapped(backend, False, chat, "<|end|>", unk_token="<unk>")
