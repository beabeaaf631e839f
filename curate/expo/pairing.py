"""Which tensor of the base each tensor of the tuned model came from."""

from __future__ import annotations

from typing import Any

from curate.errors import InputError
from curate.expo.weights import FLOATS, Stored, Weights, counterpart

__all__ = ["paired"]


def paired(tuned: Weights, base: Stored, *, trust_remote_code: bool = False) -> dict[str, str]:
    """Name of the base's tensor for every floating tensor of `tuned`.

    A head that is tied to the embeddings in the base is paired with those; buffers that old files of the base hold
    and its architecture no longer knows are passed over. Raises InputError naming a tensor that one model lacks, or
    whose shapes or types differ.
    """
    pairs = {name: counterpart(name, base.entries) for name in tuned.entries}
    missing = [name for name, found in pairs.items() if found is None and tuned.entries[name].dtype in FLOATS]
    extra = [name for name in base.entries if name not in pairs.values()]
    if missing or extra:  # rare, and worth building the architecture without weights
        names, ties = _architecture(base, trust_remote_code)
        for name in missing:
            source = ties.get(counterpart(name, names) or "")
            pairs[name] = counterpart(source, base.entries) if source else None
            if pairs[name] is None:
                raise InputError(_lacks(tuned.title, name, base.title))
        for name in extra:
            known = counterpart(name, names)
            if known is not None and known not in ties:
                raise InputError(_lacks(base.title, name, tuned.title))
    found = {name: other for name, other in pairs.items() if other is not None and tuned.entries[name].dtype in FLOATS}
    for name, other in found.items():
        own, its = tuned.entries[name], base.entries[other]
        if own.shape != its.shape:
            raise InputError(
                f"tensor {name!r} is {list(own.shape)} in {tuned.title} but {list(its.shape)} in {base.title}; "
                "extrapolation needs the very model that was tuned (no tokens added)"
            )
        if its.dtype not in FLOATS:
            raise InputError(f"tensor {name!r} is {its.dtype} in {base.title}; give its floating-point weights")
    whole = ("I", "U", "BOOL")  # how safetensors' other types begin
    odd = [
        name for name, each in tuned.entries.items() if each.dtype not in FLOATS and not each.dtype.startswith(whole)
    ]
    if odd:
        kind = tuned.entries[odd[0]].dtype
        raise InputError(f"tensor {odd[0]!r} of {tuned.title} is {kind}; give weights of 16 bits or more")
    return found


def _lacks(one: str, name: str, other: str) -> str:
    return f"{one} has a tensor {name!r}, which {other} lacks; extrapolation needs the very model that was tuned"


def _architecture(base: Stored, trust_remote_code: bool) -> tuple[set[str], dict[str, str]]:
    """Names of all saved tensors of the base's class, and which of them are tied to which."""
    from curate.hub import Place, explained

    with explained(base.title, Place(str(base.folder))):
        import torch
        import transformers

        config = transformers.AutoConfig.from_pretrained(str(base.folder), trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model: Any = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return set(model.state_dict()), dict(model.all_tied_weights_keys)
