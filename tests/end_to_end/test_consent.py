"""A recipe runs nothing of other people's unless the command line says so; objects made in Python are never asked."""

from __future__ import annotations

import importlib
import json
import pickle
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from sklearn.cluster import AgglomerativeClustering

import augmenters
import curate
import scorers
from augmenters import Synthesize
from curate.cli.main import main
from curate.clusterers import PerSource
from curate.component import Component, fingerprint
from curate.errors import InputError
from curate.evaluation.config import Evaluation
from curate.evaluation.target import find_target
from curate.finetuning.config import finetuning_from
from curate.generators import VLLMServer
from curate.pipeline import Pipeline
from curate.recipe import apply_settings, construct, decode
from scorers import FinalLoss

SCORED = "scorer: {use: Length}\n"


class Trap:
    """What a pickle of it does when it is read."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> Any:
        return Path.touch, (self.sign,)


# -- scikit-learn -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True])
def test_no_recipe_leads_to_a_folder_of_pickles(
    nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every file that joblib would read is a trap."""
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"p{k}", "completion": "x" * (k + 1)} for k in range(12)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    inner = "{use: sklearn.cluster.AgglomerativeClustering, n_clusters: 2, memory: store}"
    clusterer = f"{{use: PerSource, clusterer: {inner}}}" if nested else inner
    Path("recipe.yaml").write_text(f"{SCORED}clusterer: {clusterer}\n")
    assert main(["run", "rows.jsonl", "--recipe", "recipe.yaml", "--out", "out", "--allow-plugin", "sklearn"]) in (0, 2)
    for path in [*Path().rglob("*.pkl"), Path("store/joblib/output.pkl")]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    capsys.readouterr()
    for command in (["plan"], ["run", "--out", "other"], ["score", "--out", "scores.parquet"]):
        assert main([*command, "rows.jsonl", "--recipe", "recipe.yaml"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "cannot set 'memory' of AgglomerativeClustering" in line
        assert "--allow-plugin sklearn" in line
    assert not Path("sprung").exists()


def test_objects_and_permission_open_all_of_it(tmp_path: Path) -> None:
    made = AgglomerativeClustering(n_clusters=2, memory=str(tmp_path))
    pipeline = Pipeline(scorer=FinalLoss(), clusterer=made)
    assert pipeline.clusterer is made
    assert Pipeline.from_recipe({"scorer": FinalLoss(), "clusterer": made}).clusterer is made
    assert PerSource(clusterer=made).clusterer is made
    with pytest.raises(InputError, match="memory"):
        Pipeline.from_yaml(pipeline.to_yaml())
    again = Pipeline.from_yaml(pipeline.to_yaml(), allow_plugins=["sklearn"])
    assert fingerprint(again) == fingerprint(pipeline)
    with pytest.raises(InputError, match="memory"):
        Pipeline.from_recipe(
            {"scorer": FinalLoss(), "clusterer": {"use": "sklearn.cluster.OPTICS"}},
            settings=[f"clusterer.memory={tmp_path}"],
        )


# -- our own packages -----------------------------------------------------------------------------------------------


def _classes() -> set[type]:
    """Every class that a module of ours holds under a name with a capital."""
    found = set()
    for package in (curate, scorers, augmenters):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(info.name)
            found |= {each for name, each in vars(module).items() if isinstance(each, type) and name[:1].isupper()}
    return {each for each in found if each.__module__.partition(".")[0] in ("curate", "scorers", "augmenters")}


def test_a_recipe_makes_components_only() -> None:
    """Anything else may start a process or open a file when it is made, as several classes do."""
    classes = _classes()
    others = [each for each in classes if not issubclass(each, Component)]
    assert {"ServerProcess", "RequestStore", "Worker"} <= {each.__name__ for each in others}
    for each in others:
        with pytest.raises(InputError, match=r"is not a component|is not a class|--allow-plugin|cannot be imported"):
            decode({"use": f"{each.__module__}.{each.__qualname__}"}, "scorer")


def test_a_pipeline_is_no_scorer() -> None:
    """It has a method of that name, and would bring a proxy of its own along."""
    inner = {"use": "curate.pipeline.Pipeline", "scorer": {"use": "Length"}, "clusterer": {"use": "KMeans"}}
    with pytest.raises(InputError, match="a pipeline cannot be part of another"):
        Pipeline.from_recipe({"scorer": inner, "clusterer": {"use": "KMeans"}})


# Fields that say what is run. Whoever adds one of another name adds it here.
RUNNING = ("trust_remote_code", "run_programs", "command", "arguments", "vllm", "vllm_arguments")


def test_every_field_by_which_something_runs_asks() -> None:
    given: dict[str, Any] = {key: ["--load-format", "pt"] for key in ("arguments", "vllm_arguments")}
    given["run_programs"] = True
    found = 0
    for kind in (each for each in _classes() if issubclass(each, Component)):
        for name in {*kind.model_fields} & {*RUNNING}:
            found += 1
            with pytest.raises(InputError, match=rf"{name} = .* lets other code run here.*; pass --[\w-]+") as caught:
                construct(kind, {name: given.get(name, "/bin/x")}, "there")
            assert "\n" not in str(caught.value)
    assert found >= 9


@pytest.mark.parametrize(
    ("setting", "option"),
    [
        ("proxy.trust_remote_code=true", "--trust-remote-code"),
        ("proxy.trust_remote_code='yes'", "--trust-remote-code"),
        ("scorer={use: Learnability, reference: m, trust_remote_code: 1}", "--trust-remote-code"),
        ("augmenters.0.run_programs=true", "--run-programs"),
        ("augmenters.0.generator.command=/tmp/x", "vllm"),
        ("augmenters.0.generator.command=[sh, -c, 'touch x']", "vllm"),
        ("augmenters.0.generator.arguments=[--trust-remote-code]", "vllm"),
        ("augmenters.0.generator.arguments=[--trust-remote]", "vllm"),
        ("augmenters.0.generator.arguments=[--trust_remote_code]", "vllm"),
        ("augmenters.0.generator.arguments=[--dtype, float32, --load-format=pt]", "vllm"),
        ("augmenters.0.generator.arguments=[--middleware, evil.Module]", "vllm"),
        ("augmenters.0.generator.arguments=[--config.x, y]", "vllm"),
    ],
)
def test_a_recipe_that_would_run_something_asks_for_an_option_that_works(setting: str, option: str) -> None:
    settings = ["augmenters.0.generator.model=m", setting]
    with pytest.raises(InputError, match=rf"lets other code run here.*pass .*{option}"):
        Pipeline.from_recipe("synthesize", settings=settings)
    Pipeline.from_recipe("synthesize", settings=settings, allow_plugins=[option])


def test_arguments_that_load_nothing_need_no_option() -> None:
    arguments = ["--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192", "--dtype=float32", "-tp", "2", "-1"]
    pipeline = Pipeline.from_recipe(
        "synthesize",
        settings=["augmenters.0.generator.model=m", f"augmenters.0.generator.arguments={json.dumps(arguments)}"],
    )
    assert pipeline.augmenters[0].generator.arguments == tuple(arguments)


def test_the_command_that_was_typed_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--vllm PATH lets that run, and not what else a recipe names."""
    monkeypatch.chdir(tmp_path)
    generator = {"use": "VLLMServer", "model": "m"}
    recipe = {
        "scorer": {"use": "Length"},
        "clusterer": {"use": "KMeans"},
        "augmenters": [{"use": "Synthesize", "generator": dict(generator)} for _ in range(2)],
    }
    typed = apply_settings(recipe, ["augmenters.0.generator.command=/opt/vllm"])
    made = Pipeline.from_recipe(typed, allow_plugins=["--vllm /opt/vllm"])
    assert made.augmenters[0].generator.command == "/opt/vllm"
    other = apply_settings(typed, ["augmenters.1.generator.command=/tmp/evil"])
    with pytest.raises(InputError, match=r"command = '/tmp/evil' lets other code run"):
        Pipeline.from_recipe(other, allow_plugins=["--vllm /opt/vllm"])


REMOTE = "https://elsewhere.example/v1"


def _made(server: dict[str, Any], *given: str) -> Any:
    return decode({"use": "VLLMServer", "model": "m"} | server, "generator", given)


@pytest.mark.parametrize("url", [REMOTE, ["http://127.0.0.1:1", REMOTE], "https://127.0.0.1.elsewhere.example"])
@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "A_SECRET"])
def test_a_recipe_sends_no_key_to_a_server_of_its_choice(
    url: Any, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    server = {"url": url, "api_key_variable": variable}
    assert _made(server)  # there is nothing to send
    monkeypatch.setenv(variable, "sk-of-the-user")
    with pytest.raises(
        InputError, match=rf"key in .* {variable} would be sent to .*; pass --send-key {variable} "
    ) as caught:
        _made(server, "--send-key ANOTHER", "--url http://127.0.0.1:1", "--trust-remote-code", "vllm")
    assert "sk-of" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _made(server, f"--send-key {variable}").api_key_variable == variable


def test_the_usual_key_goes_to_this_machine_and_where_the_command_line_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "A_SECRET"):
        monkeypatch.setenv(variable, "sk-of-the-user")
    for url in ("http://127.0.0.1:8000", ["http://localhost:1/v1", "http://[::1]:2"], None):
        assert _made({"url": url})
    assert _made({"url": REMOTE}, f"--url {REMOTE}")
    for url in ("http://127.0.0.1:8000", REMOTE):  # neither of the two speaks of other variables
        with pytest.raises(InputError, match="--send-key A_SECRET"):
            _made({"url": url, "api_key_variable": "A_SECRET"}, f"--url {url}")
    assert _made({"api_key_variable": "A_SECRET"})  # a server of our own is not told it


@pytest.mark.parametrize("command", ["plan", "run", "score", "synthesize", "validate"])
def test_the_option_that_a_refusal_names_works(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command reads the recipe before its data, of which there is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A_SECRET", "sk-of-the-user")
    server = f"{{use: VLLMServer, model: m, url: '{REMOTE}', api_key_variable: A_SECRET}}"
    augmenter = f"{{use: Synthesize, generator: {server}, run_programs: true}}"
    Path("recipe.yaml").write_text(f"{SCORED}clusterer: {{use: KMeans}}\naugmenters: [{augmenter}]\n")
    words = [command, "nowhere.jsonl", "--recipe", "recipe.yaml", "--cache", "cache"]
    words += [] if command == "plan" else ["--out", "out"]
    words += ["--model", "m"] if command == "validate" else []
    for option in ("--send-key A_SECRET", "--run-programs"):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"pass {option} if" in line
        words += option.split()
    assert main(words) == 2
    assert "nowhere.jsonl" in capsys.readouterr().err


def test_objects_made_in_python_are_not_asked() -> None:
    server = VLLMServer(model="m", command=("sh", "-c", "x"), arguments=("--trust-remote-code",))
    augmenter = Synthesize(generator=server, run_programs=True)
    recipe = {"scorer": FinalLoss(), "clusterer": {"use": "KMeans"}, "augmenters": [augmenter]}
    assert Pipeline.from_recipe(recipe).augmenters == (augmenter,)
    assert finetuning_from({"model": "m", "trust_remote_code": False}).trust_remote_code is False
    with pytest.raises(InputError, match="--trust-remote-code"):
        finetuning_from({"model": "m", "trust_remote_code": True})


@pytest.mark.parametrize("trusted", [False, True])
def test_what_a_run_says_of_itself_lets_nothing_run(
    trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    for name in ("run.json", "model/config.json"):
        (tmp_path / name).write_text("{}")
    run = {"settings": {"model": "m", "trust_remote_code": True}, "model": {"identity": "x"}}
    monkeypatch.setattr("curate.evaluation.target.read_run", lambda directory: run)
    monkeypatch.setattr("curate.evaluation.target.identify", lambda *given: "x")
    found: Any = find_target(tmp_path, Evaluation(trust_remote_code=trusted), None)  # type: ignore[arg-type]
    assert found.trust_remote_code is trusted


# -- what a model's folder may say ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.listdir('/') }}",
        "{{ lipsum.__globals__['os'].system('touch sprung') }}",
        "{{ raise_exception.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
    ],
)
def test_a_chat_template_reaches_nothing(template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    from curate.data.readers import read
    from curate.models.scratch import scratch_tokenizer
    from curate.tokenization.templates import renderer

    monkeypatch.chdir(tmp_path)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    examples = read(pa.table({"messages": [turns] * 4})).examples
    tokenizer = scratch_tokenizer(examples, 0)
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=r"chat template (refused|rewrites|leaves out)"):
        renderer(examples, "chat", tokenizer)(0, 1)
    assert list(tmp_path.iterdir()) == []
