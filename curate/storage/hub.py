"""Folders into dataset repositories of the Hugging Face hub, each as one commit."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.errors import ExternalError, InputError
from curate.storage.remote import Remote

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_repository(name: str) -> bool:
    """Whether this is ORG/NAME."""
    return _REPOSITORY.fullmatch(name) is not None


def repository(place: Remote) -> str:
    """ORG/NAME of a place hf://datasets/ORG/NAME. InputError for any other of hf://."""
    name = place.url.removeprefix("hf://datasets/").rstrip("/")
    if not is_repository(name):
        raise InputError(f"{place} is no dataset repository; write hf://datasets/ORG/NAME")
    return name


def check_login() -> None:
    """ExternalError where there is no token, so that nothing could be written to the hub."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise ExternalError("HF_HUB_OFFLINE is set, so that nothing can be written to the hub; unset it")
    if not get_token():
        raise ExternalError("no token for the Hugging Face hub; set HF_TOKEN, or run `hf auth login`")


def upload(folder: Path, name: str, parts: Sequence[str], *, private: bool = True) -> str:
    """Put `parts` (files and folders) of a folder in the dataset repository `name`, in place of earlier ones.

    One commit: whoever reads sees all of it or what was there. The repository is made where there is none, private
    unless told otherwise; one that is there keeps who can see it. Files that arrived before a kill are not sent again.
    Returns its address. Raises ExternalError where the hub does not take it.
    """
    from huggingface_hub import HfApi

    check_login()
    patterns = [pattern for part in parts for pattern in (part, f"{part}/**")]
    try:
        api = HfApi()
        api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=str(folder),
            repo_type="dataset",
            commit_message="Curated dataset",
            allow_patterns=patterns,
            delete_patterns=patterns,
        )
    except Exception as error:
        raise _failed(error, name) from error
    return f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co').rstrip('/')}/datasets/{name}"


def _failed(error: Exception, name: str) -> Exception:
    status: Any = getattr(getattr(error, "response", None), "status_code", None)
    line = " ".join(str(error).split())[:160]
    if isinstance(error, InputError | ExternalError | MemoryError):
        return error
    if status in (401, 403):
        return ExternalError(
            f"the hub does not let this token write to {name} ({status}); set HF_TOKEN to one that may, or name another"
        )
    if isinstance(error, ValueError) and status is None:
        return InputError(f"{name} is no name of a repository ({line}); write ORG/NAME")
    return ExternalError(f"the hub did not take {name} ({line}); run the same command again")
