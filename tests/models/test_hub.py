"""Models of the hub: asked for once, with a time limit, and from the cache without a connection."""

from __future__ import annotations

import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.errors import ExternalError, InputError
from curate.models import identify, load_model, load_tokenizer
from curate.models.loading import parameter_count
from tests.fixtures.models import LOADERS, same, saved, tiny_model, weights
from tests.fixtures.tokenizers import CHATML

# -- the hub -------------------------------------------------------------------------------------------------------


def answers(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]) -> list[Any]:
    """Put `answer` in place of the hub; the calls made."""
    import huggingface_hub

    calls: list[Any] = []

    def model_info(self: Any, name: str, **options: Any) -> Any:
        calls.append((name, options))
        return answer()

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    return calls


def test_no_connection_is_told_at_once_and_resumable() -> None:
    started = time.perf_counter()
    for load in LOADERS:
        with pytest.raises(ExternalError, match=r"nobody/nothing.*hub cannot be reached.*--proxy scratch") as caught:
            load("nobody/nothing")
        assert "\n" not in str(caught.value)
    assert time.perf_counter() - started < 20  # imports included


def test_a_hub_that_fails_or_hangs_is_asked_once_with_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise TimeoutError("timed out")

    calls = answers(monkeypatch, fail)
    with pytest.raises(ExternalError, match=r"cannot be reached \(TimeoutError\).*--proxy scratch"):
        load_model("nobody/nothing")
    assert len(calls) == 1
    assert 0 < calls[0][1]["timeout"] <= 30


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("RepositoryNotFoundError", "neither a folder here nor on the hub .*--proxy scratch"),
        ("GatedRepoError", r"permission: accept its terms .*hf auth login.*--proxy scratch"),
        ("RevisionNotFoundError", "no revision 'v9'"),
    ],
)
def test_what_the_hub_does_not_have_is_the_callers_fault(kind: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import errors

    error = getattr(errors, kind)

    def refuse() -> Any:
        raise error.__new__(error)  # its constructor wants a response, which differs between releases

    answers(monkeypatch, refuse)
    for load in (identify, load_tokenizer, load_model):
        with pytest.raises(InputError, match=says):
            load("nobody/nothing", revision="v9")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def in_hub_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lay a model out as the hub's client caches it."""
    import huggingface_hub.constants

    home = cache / "models--some--model"
    kept = saved(home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(cache))
    return kept


def test_a_cached_model_is_loaded_without_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = in_hub_cache(tmp_path, monkeypatch)
    assert identify("some/model") == f"hub:some/model@{COMMIT}"
    assert identify("some/model", COMMIT) == f"hub:some/model@{COMMIT}"
    assert same(weights(load_model("some/model")), weights(kept))
    assert load_tokenizer("some/model").chat_template == CHATML
    assert parameter_count("some/model", None, None) == sum(p.numel() for p in kept.parameters())
    with pytest.raises(ExternalError, match="at revision 'other'"):
        load_model("some/model", revision="other")


def test_a_half_cached_model_needs_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_hub_cache(tmp_path, monkeypatch)
    (tmp_path / "models--some--model" / "snapshots" / COMMIT / "model.safetensors").unlink()
    with pytest.raises(ExternalError, match=r"not complete in the hub's local cache.*--proxy scratch"):
        load_model("some/model")


def test_one_commit_is_identified_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    answers(monkeypatch, lambda: types.SimpleNamespace(sha=COMMIT))
    asked: list[dict[str, Any]] = []

    def from_pretrained(**options: Any) -> Any:
        asked.append(options)
        return tiny_model(), {"missing_keys": set(), "mismatched_keys": set(), "unexpected_keys": set()}

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    load_model("some/model", revision="main")
    assert identify("some/model", "main") == f"hub:some/model@{COMMIT}"
    assert asked[0]["revision"] == COMMIT
    assert asked[0]["pretrained_model_name_or_path"] == "some/model"
    assert asked[0]["trust_remote_code"] is False
    assert asked[0]["use_safetensors"] is True
