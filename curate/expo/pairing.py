"""Which tensor of the base each tensor of the tuned model came from."""

from __future__ import annotations

import re
from typing import Any

from curate.errors import InputError
from curate.expo.weights import FLOATS, Adapted, Stored, Weights, counterpart
from curate.models.hub import Place, explain_load_errors

__all__ = ["check_factors", "paired"]

_OLD_ANGLES = r"rotary_emb\.inv_freq"  # that every layer had once; transformers passes it over for all classes


def check_factors(adapted: Adapted, *, trust_remote_code: bool = False) -> None:
    """Raise InputError for the first module that an adapter says it changes and has no factors for."""
    ends = tuple(f".{target}.weight" for target in adapted.targets)
    without = [
        name
        for name, entry in adapted.base.entries.items()
        if len(entry.shape) == 2 and name not in adapted.factors and f".{name}".endswith(ends)
    ]
    if without:  # or the class stores it elsewhere, as the experts of a mixture
        names = _architecture(adapted.base, trust_remote_code)[0]
        for name in without:
            if counterpart(name, names):
                raise InputError(f"{adapted.title}: the adapter lacks the factors of {name!r}; write it again")


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
        names, ties, unused = _architecture(base, trust_remote_code)
        for name in missing:
            source = ties.get(counterpart(name, names) or "")
            pairs[name] = counterpart(source, base.entries) if source else None
            if pairs[name] is None:
                raise InputError(_lacks(tuned.title, name, base.title))
        for name in extra:
            known = counterpart(name, names)
            if known not in ties and not (known is None and any(re.search(pattern, name) for pattern in unused)):
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


def _architecture(base: Stored, trust_remote_code: bool) -> tuple[set[str], dict[str, str], list[str]]:
    """Names of all saved tensors of the base's class, which of them are tied to which, and patterns of names that the
    class passes over in files.
    """
    with explain_load_errors(base.title, Place(str(base.folder))):
        import torch
        import transformers

        config = transformers.AutoConfig.from_pretrained(str(base.folder), trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model: Any = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    unused = [*(model._keys_to_ignore_on_load_unexpected or ()), _OLD_ANGLES]
    return set(model.state_dict()), dict(model.all_tied_weights_keys), unused
