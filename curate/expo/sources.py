"""The two models of an extrapolation: found by run folder, adapter, model folder or hub id, and paired by tensor."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import DataWarning, InputError
from curate.expo.weights import FLOATS, Weights, counterpart, open_weights, read_json, with_adapter
from curate.finetuning.run_folder import read_run
from curate.models.hub import Place, explain_load_errors, locate
from curate.models.loading import identify
from curate.models.scratch import SCRATCH
from curate.storage.hashing import file_digest
from curate.storage.places import expanded

_OLD_ANGLES = r"rotary_emb\.inv_freq"  # in every layer of old files; transformers ignores it for all classes


@dataclass(frozen=True)
class Models:
    """theta_1 and theta_0 of arXiv 2404.16792.

    pairs: name of the base's tensor for each floating tensor of the tuned model. folders: of the files beside the
    weights (configuration, tokenizer), those of later ones first. identities: of the tuned model and the base.
    template: around the prompts of a fine-tuning run; None if it is not known.
    """

    tuned: Weights
    base: Weights
    pairs: dict[str, str]
    folders: tuple[Path, ...]
    identities: tuple[str, str]
    template: str | None = None


def open_models(
    tuned: str | Path,
    base: str | Path | None = None,
    *,
    revision: str | None = None,
    base_revision: str | None = None,
    trust_remote_code: bool = False,
) -> Models:
    """Find both models and pair their tensors; reads no weights, but hashes files of local models.

    tuned: a folder of `curate finetune`, a folder with a peft adapter, a model folder or a hub id (at `revision`).
    base, base_revision: what it was tuned from; None = what the run or the adapter names.
    Raises InputError if one cannot be found or they do not belong together; warns (DataWarning) of a base other
    than what the run records, which for full weights may be meant: what an earlier stage was tuned from.
    """
    folder = expanded(tuned)
    record = _run(folder)
    adapter = next((place for place in (folder / "adapter", folder) if (place / "adapter_config.json").is_file()), None)
    recorded_base = _base(folder, record, adapter)
    if base is None:
        base, base_revision = recorded_base
    if base is None:
        raise InputError(f"{tuned} does not say what it was tuned from; name that model with --base")
    place = locate(str(base), base_revision)
    base_identity = _identity(place, str(base), base_revision)
    recorded = None if record is None else record["model"]["identity"]
    if recorded not in (None, base_identity):
        if adapter is not None or (str(base), base_revision) == recorded_base:
            raise InputError(
                f"{base} is not the model that {tuned} was tuned from (its files differ); name that with --base"
            )
        if recorded.split(":")[0] == base_identity.split(":")[0]:  # a folder and a hub id cannot be compared
            warnings.warn(
                f"{base} is not the model that {tuned} was tuned from: all that differs between the two is "
                f"extrapolated, not the change of that training alone; leave the base out to use {recorded_base[0]}",
                DataWarning,
                stacklevel=2,
            )
    base_weights = open_weights(_folder(place), str(base))
    folders: tuple[Path, ...]
    if adapter is not None:
        weights, folders = with_adapter(base_weights, adapter, str(tuned)), (base_weights.folder, adapter)
        _check_factors(weights, base_weights, trust_remote_code)
        names = ("adapter_model.safetensors", "adapter_config.json")
        identity = f"lora:{file_digest((adapter / name, name) for name in names)} of {base_identity}"
    else:
        name = str(tuned) if record is None else str(folder / "model")
        own = locate(name, revision)
        identity = _identity(own, name, revision)
        weights = open_weights(_folder(own), str(tuned))
        folders = (weights.folder,)
    pairs = _paired(weights, base_weights, trust_remote_code)
    template = None if record is None else str(record["template"])
    return Models(weights, base_weights, pairs, folders, (identity, base_identity), template)


def _run(folder: Path) -> dict[str, Any] | None:
    """The run.json of a fine-tuning run, None for any other folder."""
    if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file() or not folder.is_dir():
        return None
    return read_run(folder)


def _base(folder: Path, record: dict[str, Any] | None, adapter: Path | None) -> tuple[str | None, str | None]:
    """Name and revision of the base that a run or adapter records, if any."""
    if record is not None:
        name = record["settings"]["model"]
        if name == SCRATCH:
            raise InputError(f"{folder} was trained from scratch: there is no base to extrapolate from; tune a model")
        return name, record["settings"].get("revision")
    if adapter is not None:
        config = read_json(adapter / "adapter_config.json")
        return config.get("base_model_name_or_path"), config.get("revision")
    return None, None


def _identity(place: Place, name: str, revision: str | None) -> str:
    if place.gguf:
        raise InputError(f"{name} is a GGUF file, which is quantized; give the model's safetensors folder")
    return identify(name, revision)


def _folder(place: Place) -> Path:
    """The folder of the model's files, fetched from the hub if necessary."""
    if place.commit is None:
        return Path(place.path)
    import huggingface_hub

    with explain_load_errors(place.path, place):
        patterns = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py", "LICENSE*"]
        return Path(
            huggingface_hub.snapshot_download(
                place.path, revision=place.commit, allow_patterns=patterns, local_files_only=place.offline
            )
        )


# -- which tensor of the base each tensor of the tuned model came from -------------------------------------------------


def _check_factors(adapted: Weights, base: Weights, trust_remote_code: bool) -> None:
    """Raise InputError for the first target module of an adapter without factors."""
    ends = tuple(f".{target}.weight" for target in adapted.targets)
    missing = [
        name
        for name, entry in base.entries.items()
        if len(entry.shape) == 2 and name not in adapted.factors and f".{name}".endswith(ends)
    ]
    if missing:  # or the class stores it elsewhere, like the experts of a mixture
        names = _architecture(base, trust_remote_code)[0]
        for name in missing:
            if counterpart(name, names):
                raise InputError(f"{adapted.title}: the adapter lacks the factors of {name!r}; write it again")


def _paired(tuned: Weights, base: Weights, trust_remote_code: bool) -> dict[str, str]:
    """The name of the base's tensor for every floating tensor of `tuned`.

    A head that is tied to the embeddings in the base is paired with those; buffers that old files of the base hold
    and its architecture no longer knows are passed over. Raises InputError naming a tensor that one model lacks, or
    whose shapes or types differ.
    """
    counterparts = {name: counterpart(name, base.entries) for name in tuned.entries}
    floats = [name for name, entry in tuned.entries.items() if entry.dtype in FLOATS]
    missing = [name for name in floats if counterparts[name] is None]
    extra = base.entries.keys() - counterparts.values()
    if missing or extra:  # rare, and worth building the architecture without weights
        names, ties, unused = _architecture(base, trust_remote_code)
        for name in missing:
            source = ties.get(counterpart(name, names) or "")
            counterparts[name] = counterpart(source, base.entries) if source else None
            if counterparts[name] is None:
                raise InputError(_lacks(tuned.title, name, base.title))
        for name in sorted(extra):
            base_name = counterpart(name, names)
            if base_name not in ties and not (
                base_name is None and any(re.search(pattern, name) for pattern in unused)
            ):
                raise InputError(_lacks(base.title, name, tuned.title))
    pairs = {name: str(counterparts[name]) for name in floats}
    for name, base_name in pairs.items():
        entry, base_entry = tuned.entries[name], base.entries[base_name]
        if entry.shape != base_entry.shape:
            raise InputError(
                f"tensor {name!r} is {list(entry.shape)} in {tuned.title} but {list(base_entry.shape)} in "
                f"{base.title}; extrapolation needs the very model that was tuned (no tokens added)"
            )
        if base_entry.dtype not in FLOATS:
            raise InputError(f"tensor {name!r} is {base_entry.dtype} in {base.title}; give its floating-point weights")
    for name, entry in tuned.entries.items():
        if entry.dtype not in FLOATS and not entry.dtype.startswith(("I", "U", "BOOL")):  # neither float nor integer
            raise InputError(f"tensor {name!r} of {tuned.title} is {entry.dtype}; give weights of 16 bits or more")
    return pairs


def _lacks(owner: str, name: str, model: str) -> str:
    return f"{owner} has a tensor {name!r}, which {model} lacks; extrapolation needs the very model that was tuned"


def _architecture(base: Weights, trust_remote_code: bool) -> tuple[set[str], dict[str, str], list[str]]:
    """Names of all saved tensors of the base's class, which of them are tied to which, and name patterns that the
    class ignores in files.
    """
    with explain_load_errors(base.title, Place(str(base.folder))):
        import torch
        import transformers

        config = transformers.AutoConfig.from_pretrained(str(base.folder), trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model: Any = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    unused = [*(model._keys_to_ignore_on_load_unexpected or ()), _OLD_ANGLES]
    return set(model.state_dict()), dict(model.all_tied_weights_keys), unused
