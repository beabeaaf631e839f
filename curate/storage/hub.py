"""Upload folders to dataset repositories of the Hugging Face hub, each as one commit."""

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
    """Whether a name has the form ORG/NAME."""
    return _REPOSITORY.fullmatch(name) is not None


def repository(place: Remote) -> str:
    """ORG/NAME of hf://datasets/ORG/NAME. Raises InputError for any other hf:// URL."""
    name = place.url.removeprefix("hf://datasets/").rstrip("/")
    if not is_repository(name):
        raise InputError(f"{place} is not a dataset repository; write hf://datasets/ORG/NAME")
    return name


def check_login() -> None:
    """Raise ExternalError if nothing can be written to the hub: no token, or offline mode."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise ExternalError("HF_HUB_OFFLINE is set, so that nothing can be written to the hub; unset it")
    if not get_token():
        raise ExternalError("no token for the Hugging Face hub; set HF_TOKEN, or run `hf auth login`")


def upload(folder: Path, name: str, parts: Sequence[str], *, private: bool = True) -> str:
    """Upload `parts` (files and folders) of a folder to the dataset repository `name`, replacing earlier ones.

    This is one commit, so readers see either the old state or the new one. A missing repository is created, private
    by default; an existing one keeps its visibility. Files uploaded before an interruption are not sent again.
    Returns the URL of the repository. Raises ExternalError if the hub rejects the upload.
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
    """The error to raise for a failed upload to the repository `name`."""
    status: Any = getattr(getattr(error, "response", None), "status_code", None)
    line = " ".join(str(error).split())[:160]
    if isinstance(error, InputError | ExternalError | MemoryError):
        return error
    if status in (401, 403):
        return ExternalError(
            f"the hub rejects this token for {name} ({status}); set HF_TOKEN to one with write access, or name another"
        )
    if isinstance(error, ValueError) and status is None:
        return InputError(f"{name} is not a name of a repository ({line}); write ORG/NAME")
    return ExternalError(f"the hub did not take {name} ({line}); rerun the same command")
