"""Locate the files of a model: a folder, a GGUF file, or one commit of a repository on the hub."""

from __future__ import annotations

import functools
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import ExternalError, InputError
from curate.models.model_files import SUFFIXES, TOKENIZER_FILES, unreadable
from curate.storage.places import expanded

# For every command that takes a model: as proxy, for fine-tuning or for evaluation.
_SCRATCH = "--proxy scratch (to fine-tune: --model scratch)"
_REMEDY = f"give a local folder, or, where one may be trained from nothing, {_SCRATCH}, which needs no download"
_HUB_SECONDS = 10.0
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Place:
    """The location of a model.

    path: folder, or hub id. gguf: absolute path of the weights if they are in that format. commit: of a hub id.
    offline: whether the hub could not be reached, but the commit is in the local cache.
    """

    path: str
    gguf: str | None = None
    commit: str | None = None
    offline: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `from_pretrained`."""
        arguments: dict[str, Any] = {"pretrained_model_name_or_path": self.path}
        if self.gguf:
            # Absolute: otherwise a file of that name in the working directory would be used.
            arguments["gguf_file"] = self.gguf
        if self.commit:
            arguments |= {"revision": self.commit, "local_files_only": self.offline}
        return arguments


def locate(name: str, revision: str | None = None) -> Place:
    """Locate the files of a model; a hub id is resolved to a commit by the hub, or else by its local cache.

    Raises InputError for what does not exist or holds no weights that are safe to read, ExternalError if the hub
    cannot be reached.
    """
    path = expanded(name)
    if path.is_file():
        if path.suffix != ".gguf":
            raise InputError(f"model {name!r} is a file but not .gguf; give the folder that holds config.json")
        _check_regular(name, path.parent)
        return Place(str(path.parent), str(path.absolute()))
    if path.is_dir():
        return _in_folder(name, path)
    if path.is_absolute() or name.startswith(".") or not _HUB_ID.fullmatch(name):
        raise InputError(f"model {name!r} does not exist; give a folder, a GGUF file, a hub id, or {_SCRATCH}")
    return _on_hub(name, revision)


def _in_folder(name: str, path: Path) -> Place:
    _check_regular(name, path)
    if (path / "config.json").exists():
        if not any(path.glob("*.safetensors")) and any(
            [*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth"), *path.glob("*.ckpt")]
        ):
            raise InputError(
                f"model {name!r} holds pickled weights only, which are never read; convert them to safetensors "
                f"where you trust them (`model.save_pretrained(folder)`), or use {_SCRATCH}"
            )
        return Place(str(path))
    weights = sorted(file for file in path.glob("*.gguf") if file.is_file())  # no pipes or dangling links
    if len(weights) == 1:
        return Place(str(path), str(weights[0].absolute()))
    raise InputError(
        f"model folder {name!r} has no config.json and {len(weights)} .gguf files; "
        f"name one .gguf file, or a folder with one model, or use {_SCRATCH}"
    )


def _check_regular(name: str, folder: Path) -> None:
    """Reject a pipe, socket or device in place of a model's file: opening it could block forever."""
    for path in sorted(folder.glob("*")):
        if path.suffix in SUFFIXES and path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"model {name!r}: {path.name} is not a file; put back the one that belongs to it")


@functools.lru_cache(maxsize=64)  # one process sees one commit of a model, whatever is pushed meanwhile
def _on_hub(name: str, revision: str | None) -> Place:
    """Ask the hub directly with one short try: loading would repeat a failing request for most of a minute."""
    import huggingface_hub
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        commit = huggingface_hub.HfApi().model_info(name, revision=revision, timeout=_HUB_SECONDS).sha
        if commit:
            return Place(name, commit=commit)
        problem = "it names no commit"
    except GatedRepoError as error:
        raise InputError(
            f"model {name!r} needs its owner's permission: accept its terms on the hub and log in with "
            f"`hf auth login`; or {_REMEDY}"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(
            f"model {name!r} is neither a folder here nor on the hub (if it is private, log in with "
            f"`hf auth login`); {_REMEDY}"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"model {name!r} has no revision {revision!r}; name one of its branches or commits") from error
    except Exception as error:  # errors of the HTTP library, whose names differ between releases of the hub client
        problem = type(error).__name__
    cached = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
    if isinstance(cached, str):
        return Place(name, commit=_commit_of(cached), offline=True)
    revision_text = f" at revision {revision!r}" if revision else ""
    raise ExternalError(
        f"model {name!r}{revision_text} is not in the hub's local cache and the hub cannot be reached ({problem}); "
        f"{_REMEDY}"
    )


def _commit_of(cached: str) -> str:
    """The commit in a path .../snapshots/<commit>/config.json."""
    return os.path.basename(os.path.dirname(cached))


@contextmanager
def explain_load_errors(name: str, place: Place) -> Iterator[None]:
    """Convert errors that transformers and the hub raise while loading into one line with a remedy."""
    try:
        yield
    except (InputError, ExternalError):
        raise
    except Exception as error:  # tokenizers and safetensors raise bare Exception
        text = " ".join(str(error).split())
        if "trust_remote_code" in text:
            raise InputError(
                f"model {name!r} needs Python code from its own repository, which is not run unasked; read it and "
                f"pass --trust-remote-code (and set trust_remote_code where a recipe names the model), or {_REMEDY}"
            ) from error
        if isinstance(error, ImportError):
            raise InputError(
                f"model {name!r} needs a package that is missing ({text[:200]}); install it "
                f"(GGUF: pip install 'curate-lm[gguf]'), or {_REMEDY}"
            ) from error
        if isinstance(error, OSError) and (place.offline or _unreachable(text)):
            raise ExternalError(
                f"model {name!r} is not complete in the hub's local cache and the hub cannot be reached; {_REMEDY}"
            ) from error
        if isinstance(error, OSError) and "safetensors" in text:  # its own advice is to load pickles
            raise InputError(
                f"model {name!r} has no weights in safetensors format, and pickled ones are never read; {_REMEDY}"
            ) from error
        if "instantiate the backend tokenizer" in text:
            raise InputError(f"model {name!r} has no tokenizer; {TOKENIZER_FILES}") from error
        damaged = None if place.commit or place.gguf else unreadable(Path(place.path))
        problem = f"its {damaged} is not readable: " if damaged else ""
        if place.gguf and isinstance(error, ValueError | struct.error):
            problem = "the file is cut short or damaged: "
        raise InputError(f"model {name!r} cannot be loaded ({problem}{text[:300]}); {_REMEDY}") from error


def _unreachable(text: str) -> bool:
    signs = ("couldn't connect", "could not connect", "offline mode", "connection", "cannot find the requested files")
    return any(sign in text.lower() for sign in signs)
