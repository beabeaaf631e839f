"""The two models of an extrapolation, from what the user names: run folders, adapters, model folders, hub ids."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import DataWarning, InputError
from curate.expo.pairing import check_factors, paired
from curate.expo.weights import Adapted, Stored, Weights
from curate.finetuning.run_folder import read_run
from curate.models.hub import Place, explain_load_errors, locate
from curate.models.loading import identify
from curate.models.scratch import SCRATCH
from curate.storage.hashing import file_digest
from curate.storage.places import expanded

__all__ = ["Models", "open_models"]


@dataclass(frozen=True)
class Models:
    """theta_1 and theta_0 of arXiv 2404.16792.

    pairs: name of the base's tensor for each floating tensor of the tuned model. folders: what lies beside the weights
    (configuration, tokenizer) is taken from these, later ones first. identities: of the tuned model and the base.
    template: around the prompts of a fine-tuning run; None where it is not known.
    """

    tuned: Weights
    base: Stored
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
    Raises InputError where one cannot be found or they do not belong together; warns (DataWarning) of a base other
    than what the run records, which for full weights may be meant: what an earlier stage was tuned from.
    """
    folder = expanded(tuned)
    record = _run(folder)
    adapter = _adapter(folder)
    named, told = _base(folder, record, adapter)
    if base is None:
        base, base_revision = named, told
    if base is None:
        raise InputError(f"{tuned} does not say what it was tuned from; name that model with --base")
    place = locate(str(base), base_revision)
    base_identity = _identity(place, str(base), base_revision)
    recorded = None if record is None else record["model"]["identity"]
    if recorded not in (None, base_identity):
        if adapter is not None or (str(base), base_revision) == (named, told):
            raise InputError(
                f"{base} is not the model that {tuned} was tuned from (its files differ); name that with --base"
            )
        if recorded.split(":")[0] == base_identity.split(":")[0]:  # a folder and a hub id cannot be told apart
            warnings.warn(
                f"{base} is not the model that {tuned} was tuned from: all that differs between the two is "
                f"extrapolated, not the change of that training alone; leave the base out to go on from {named}",
                DataWarning,
                stacklevel=2,
            )
    stored = Stored.open(_folder(place), str(base))
    weights: Weights
    folders: tuple[Path, ...]
    if adapter is not None:
        weights, folders = Adapted.open(adapter, stored, str(tuned)), (stored.folder, adapter)
        check_factors(weights, trust_remote_code=trust_remote_code)
        names = ("adapter_model.safetensors", "adapter_config.json")
        identity = f"lora:{file_digest((adapter / name, name) for name in names)} of {base_identity}"
    else:
        name = str(tuned) if record is None else str(folder / "model")
        own = locate(name, revision)
        identity = _identity(own, name, revision)
        weights = Stored.open(_folder(own), str(tuned))
        folders = (weights.folder,)
    pairs = paired(weights, stored, trust_remote_code=trust_remote_code)
    template = None if record is None else str(record["template"])
    return Models(weights, stored, pairs, folders, (identity, base_identity), template)


def _run(folder: Path) -> dict[str, Any] | None:
    """run.json of a fine-tuning run, None for any other folder."""
    if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file() or not folder.is_dir():
        return None
    return read_run(folder)


def _adapter(folder: Path) -> Path | None:
    return next((each for each in (folder / "adapter", folder) if (each / "adapter_config.json").is_file()), None)


def _base(folder: Path, record: dict[str, Any] | None, adapter: Path | None) -> tuple[str | None, str | None]:
    """Name and revision of what a run or adapter was tuned from, where it says so."""
    if record is not None:
        name = record["settings"]["model"]
        if name == SCRATCH:
            raise InputError(f"{folder} was trained from scratch: there is no base to extrapolate from; tune a model")
        return name, record["settings"].get("revision")
    if adapter is not None:
        path = adapter / "adapter_config.json"
        try:
            config = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{path} is not readable ({error}); fetch or write it again") from error
        return config.get("base_model_name_or_path"), config.get("revision")
    return None, None


def _identity(place: Place, name: str, revision: str | None) -> str:
    if place.gguf:
        raise InputError(f"{name} is a GGUF file, which is quantized; give the model's safetensors folder")
    return identify(name, revision)


def _folder(place: Place) -> Path:
    """The folder of the model's files, fetched from the hub where they are there."""
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
