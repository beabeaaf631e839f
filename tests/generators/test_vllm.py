"""The settings of a vLLM generator: keys that stay secret, addresses, arguments and identity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.errors import ExternalError, InputError
from curate.generators import VLLMServer
from curate.generators.request_queue import complete
from tests.fixtures.completions import Pulled, ask, connect, failing
from tests.fixtures.server import FakeServer, Fault

KEY = "sk-very-secret-key"


# -- keys --------------------------------------------------------------------------------------------------------------


def test_the_key_comes_from_the_environment_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer(key=KEY) as server:
        generator = connect(server, api_key_variable="MY_KEY")
        message = failing(InputError, generator, [ask(0)])
        assert "there is none in the environment variable MY_KEY" in message
        monkeypatch.setenv("MY_KEY", KEY)
        assert len(complete(generator, [ask(0)])) == 1
        monkeypatch.setenv("MY_KEY", "wrong-" + KEY)
        message = failing(InputError, generator, [ask(0)])
    assert "does not accept the key in the environment variable MY_KEY (status 401)" in message
    assert KEY not in message + repr(generator) + generator.model_dump_json() + generator.identity()


def test_space_around_a_key_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\r\n\t")
    with FakeServer(key=KEY) as server:
        assert len(complete(connect(server), [ask(0)])) == 1
        monkeypatch.setenv("OPENAI_API_KEY", " \n")
        assert "there is none in the environment variable" in failing(InputError, connect(server), [ask(0)])


@pytest.mark.parametrize("inside", ["\n", "\r\nX-Header: 1", "\x7f", "\x1b[31m", "\u200b", "é", "\udcff"])
def test_a_key_that_cannot_be_sent_is_named_by_its_variable_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    monkeypatch.setenv("MY_KEY", f"{KEY}{inside}{KEY}")
    generator = VLLMServer(model="m", url="http://127.0.0.1:9", api_key_variable="MY_KEY")
    for use in (generator.check_ready, lambda: generator.serve(Pulled(1))):
        with pytest.raises(InputError, match="the key in the environment variable MY_KEY holds a char") as caught:
            use()
        assert KEY not in str(caught.value)


def test_a_key_in_the_servers_own_words_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for status in (400, 500):
        with FakeServer(faults=lambda body, _: Fault("status", status, f"bad key {KEY}!")) as server:  # noqa: B023
            message = failing(InputError if status == 400 else ExternalError, connect(server, retries=0), [ask(0)])
        assert "bad key ***!" in message
        assert KEY not in message


# -- identity ----------------------------------------------------------------------------------------------------------


def test_the_identity_is_that_of_the_model_and_its_template_alone(tmp_path: Path) -> None:
    one = VLLMServer(model="org/model")
    assert one.identity() == VLLMServer(model="org/model", url="http://h:1", connections=3, command="x").identity()
    assert one.identity() == VLLMServer(model="org/model", arguments=("--tensor-parallel-size", "2")).identity()
    others = [
        VLLMServer(model="org/other"),
        VLLMServer(model="org/model", template="plain"),
        VLLMServer(model="org/model", arguments=("--revision", "abc")),
        VLLMServer(model="org/model", arguments=("--revision", "abd", "--quantization", "awq")),
        VLLMServer(model="org/model", arguments=("--quantization=fp8",)),
    ]
    assert len({generator.identity() for generator in [one, *others]}) == 6


def test_a_local_model_is_known_by_its_files(tmp_path: Path) -> None:
    def folder(name: str, weights: bytes, template: str | None) -> VLLMServer:
        path = tmp_path / name
        path.mkdir()
        (path / "config.json").write_text("{}")
        header = json.dumps({"__metadata__": {"of": weights.decode()}}).encode()
        (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        return VLLMServer(model=str(path))

    one, same = folder("one", b"weights", "{{ x }}"), folder("same", b"weights", "{{ x }}")
    other, plain = folder("other", b"others", "{{ x }}"), folder("plain", b"weights", None)
    assert one.identity() == same.identity()
    assert len({one.identity(), other.identity(), plain.identity()}) == 3
    assert one.identity().endswith(" chat")
    assert plain.identity().endswith(" plain")


@pytest.mark.parametrize(
    ("free", "arguments", "room"),
    [
        (None, (), []),
        (1.0, (), ["--gpu-memory-utilization", "0.90"]),
        (0.55, (), ["--gpu-memory-utilization", "0.53"]),
        (0.55, ("--gpu-memory-utilization", "0.3"), []),
        (0.55, ("--gpu_memory_utilization=0.3",), []),
    ],
)
def test_a_server_takes_what_is_free_of_the_gpu(
    free: float | None, arguments: tuple[str, ...], room: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.generators.vllm.free_gpu_share", lambda: free)
    assert VLLMServer(model="some/model", arguments=arguments)._room() == room


def test_a_full_gpu_is_said_before_a_server_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.generators.vllm.free_gpu_share", lambda: 0.01)
    with pytest.raises(ExternalError, match=r"no GPU memory is free for a server \(1% .*--url"):
        VLLMServer(model="some/model")._room()
