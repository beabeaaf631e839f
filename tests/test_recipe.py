"""A recipe is a pipeline written down: lossless both ways, safe to load, helpful when wrong."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.cluster import AgglomerativeClustering
from sklearn.mixture import GaussianMixture

from augmenters import Duplicate, Replay, Subset
from curate.cli.main import main
from curate.clusterers import HDBSCAN, KMeans, PerSource, Quantile, Threshold
from curate.component import fingerprint
from curate.errors import DataWarning, InputError
from curate.pipeline import Pipeline
from curate.proxy.proxy import Proxy
from curate.recipe import (
    apply_settings,
    decode,
    dump_recipe,
    encode,
    load_recipe,
    own_module,
    parse_recipe,
    recipe_names,
)
from curate.reweighters import DGA, IRDRO, reweighter_from
from scorers import (
    EarlyOutput,
    ErrorNorm,
    FinalLoss,
    ForgettingCount,
    GradientAlignment,
    InstructionFollowingDifficulty,
    Learnability,
    Length,
    LossTrajectory,
    Product,
    RankAverage,
    SAMSharpness,
)
from tests import ROOT


@dataclass(frozen=True)
class LengthScorer:
    """A plug-in: no base class, no registration."""

    column: str = "completion"

    def score(self, examples, run):
        return np.array([len(text) for text in examples.texts(self.column, 0, len(examples))], float)


PIPELINES = [
    Pipeline(scorer=LossTrajectory(), clusterer=KMeans()),
    Pipeline(
        proxy=Proxy(model="scratch", steps="1/2 epoch", checkpoints=3, learning_rate=0.002),
        scorer=LossTrajectory(features="relative"),
        clusterer=KMeans(n_clusters=3, per="source"),
        hard=2,
        augmenters=(Duplicate(times=2, noise_guard=0.05), Replay(data="other.parquet", share=0.1)),
        order="keep",
        stability=3,
        seed=7,
    ),
    Pipeline(
        scorer=RankAverage(scorers=(FinalLoss(), SAMSharpness(rho=0.1, adaptive=True)), weights=(2.0, 1.0)),
        clusterer=GaussianMixture(n_components=2, random_state=3),
        hard="above_mean",
        augmenters=(Subset(size=0.25, choose="random"),),
    ),
    Pipeline(scorer=LengthScorer("prompt"), clusterer=PerSource(clusterer=AgglomerativeClustering(n_clusters=2))),
    Pipeline(scorer=FinalLoss(), clusterer=HDBSCAN(min_cluster_size=30)),
    Pipeline(scorer=FinalLoss(), clusterer=Quantile()),
    Pipeline(scorer=FinalLoss(), clusterer=Threshold(value=1.5)),
    *(
        Pipeline(scorer=scorer, clusterer=KMeans())
        for scorer in (
            EarlyOutput(output="distribution", dimensions=16, within=0.2),
            ErrorNorm(),
            ForgettingCount(threshold=0.25),
            GradientAlignment(
                target={"data": "target.parquet", "columns": "prompt=q,completion=a"}, parameters="lora", rank=4
            ),
            InstructionFollowingDifficulty(),
            Learnability(reference="some/model", revision="main"),
            Length(unit="tokens"),
            Product(scorers=(ErrorNorm(), SAMSharpness(ascent="example")), of="scores"),
        )
    ),
]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=range(len(PIPELINES)))
def test_yaml_and_back_is_lossless(pipeline: Pipeline) -> None:
    again = Pipeline.from_yaml(pipeline.to_yaml(), allow_plugins=["tests"])
    assert fingerprint(again) == fingerprint(pipeline)
    assert again.to_yaml() == pipeline.to_yaml()


# What a recipe leaves open: the model of its generator, or data of the user's.
OPEN = {
    "synthesize": "augmenters.0.generator.model=m",
    "duplicate-and-synthesize": "augmenters.1.generator.model=m",
    "stability-gap": "augmenters.1.data=d",
}
# What further has to be given.
BESIDE = {"stability-gap": ["scorer.reference=good"]}


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_load_and_survive_the_round_trip(name: str) -> None:
    pipeline = Pipeline.from_recipe(name, settings=[*BESIDE.get(name, []), *([OPEN[name]] if name in OPEN else [])])
    assert Pipeline.from_yaml(pipeline.to_yaml()) == pipeline


def test_the_shipped_recipes() -> None:
    assert {"quick", "paper", "paper-relative", "s2l", "useful", *OPEN} <= set(recipe_names())
    assert Pipeline.from_recipe("paper-relative").scorer.features == "relative"
    assert Pipeline.from_recipe("s2l").clusterer.n_clusters == 100


@pytest.mark.parametrize("name", sorted(OPEN))
def test_what_a_recipe_leaves_open_is_named_with_the_option_that_gives_it(name: str) -> None:
    path = OPEN[name].partition("=")[0]
    with pytest.raises(InputError, match=re.escape(f"give it with --set {path}=VALUE")):
        Pipeline.from_recipe(name, settings=BESIDE.get(name, []))


def test_stability_gap_needs_a_reference() -> None:
    with pytest.raises(InputError, match=r"give it with --set scorer\.reference=DATA"):
        Pipeline.from_recipe("stability-gap", settings=[OPEN["stability-gap"]])


def test_stability_gap_does_all_three_strategies(tmp_path: Path) -> None:
    rows = [{"prompt": f"{k}?", "completion": "yes " * (k % 7 + 1), "id": f"r{k}"} for k in range(60)]
    earlier = [{"prompt": f"before {k}", "completion": "no"} for k in range(40)]
    good = [{"prompt": f"{k}?", "completion": "yes " * 7} for k in range(90, 120)]
    for file, table in (("rows", rows), ("earlier", earlier), ("good", good)):
        pq.write_table(pa.Table.from_pylist(table), tmp_path / f"{file}.parquet")
    given = ["run", str(tmp_path / "rows.parquet"), "--recipe", "stability-gap", "--proxy", "scratch"]
    for setting in ("proxy.steps=4", "proxy.batch_size=8", "augmenters.0.size=0.3", "augmenters.0.pool=0.5"):
        given += ["--set", setting]
    assert main([*given, "--out", str(tmp_path / "no")]) == 2
    given += ["--set", f"augmenters.1.data={tmp_path / 'earlier.parquet'}"]
    assert main([*given, "--out", str(tmp_path / "no")]) == 2
    given += ["--set", f"scorer.reference={tmp_path / 'good.parquet'}"]
    assert main([*given, "--out", str(tmp_path / "out")]) == 0
    found = pq.read_table(tmp_path / "out/data").to_pylist()
    scores = pq.read_table(tmp_path / "out/tables/scores.parquet").to_pylist()
    losses = {row["example_id"]: row["difficulty"] for row in scores}
    domain = [row for row in found if row["origin"] != "replay"]
    seen = Counter(row["source_id"] for row in domain)
    assert sorted(losses[name] for name in seen) == sorted(losses.values())[:30]  # II: the best under the reference
    assert max(losses[name] for name in seen) < max(losses.values())
    assert set(seen.values()) <= {2, 3}  # I: several times, 4 epochs of 18 of the 30 rows
    replayed = [row for row in found if row["origin"] == "replay"]
    assert len(replayed) + len(domain) == len(found)
    assert len(replayed) / len(found) == pytest.approx(0.18, abs=0.02)
    assert all(row["prompt"].startswith("before") for row in replayed)
    files = sorted((tmp_path / "out/data").iterdir())
    epochs = [pq.read_table(path).to_pylist() for path in files]  # III: drawn anew, at one rate
    assert [path.name[:12] for path in files] == [f"train-epoch{k}" for k in (1, 2, 3, 4)]
    draws = [[row["source_id"] for row in epoch if row["origin"] != "replay"] for epoch in epochs]
    assert [len(set(draw)) for draw in draws] == [len(draw) for draw in draws] == [18] * 4
    assert len({frozenset(draw) for draw in draws}) == 4
    rates = [len(epoch) - len(draw) for epoch, draw in zip(epochs, draws, strict=True)]
    assert max(rates) - min(rates) <= 1
    assert "one file per epoch" in (tmp_path / "out/README.md").read_text()


BASE = "scorer: {use: FinalLoss}\nclusterer: {use: KMeans}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BASE + "augmentors: []\n", "did you mean 'augmenters'"),
        ("clusterer: {use: KMeans}\n", "'scorer' is missing"),
        ("scorer: {use: FinalLos}\nclusterer: {use: KMeans}\n", "did you mean 'FinalLoss'"),
        ("scorer: {use: LossTrajectory, feature: final}\nclusterer: {use: KMeans}\n", "did you mean 'features'"),
        ("scorer: {use: LossTrajectory, features: all}\nclusterer: {use: KMeans}\n", "features: .*'absolute'"),
        (BASE + "proxy: {modell: x}\n", "did you mean 'model'"),
        (BASE + "proxy: {steps: soon}\n", "'soon' is not a valid length"),
        (BASE + "proxy: {checkpoints: 0}\n", "checkpoints"),
        (BASE + "hard: sometimes\n", "hard"),
        (BASE + "augmenters: [{use: Duplicate, times: 0}]\n", "augmenters.0: times"),
        (BASE + "scorer: {use: FinalLoss}\n", "appears twice"),
        ("scorer: {use: os.system}\nclusterer: {use: KMeans}\n", "pass --allow-plugin os"),
        ("scorer: {use: curate.cli.main}\nclusterer: {use: KMeans}\n", "not a class"),
        ("scorer: {use: sklearn.cluster.Nothing}\nclusterer: {use: KMeans}\n", "choose one of sklearn.cluster"),
        ("scorer: {use: Duplicate}\nclusterer: {use: KMeans}\n", "a scorer has a method score"),
        ("scorer: !!python/object/apply:os.system ['true']\n", "not readable as plain YAML"),
        ("[1, 2]\n", "a recipe is a mapping"),
        (BASE + "seed: 2024-13-45\n", "seed: .*valid integer.*'2024-13-45'"),
        ("scorer: FinalLoss\nclusterer: {use: KMeans}\n", "scorer: .*write {use: FinalLoss}"),
        ("scorer: {use: FinalLoss}\nclusterer: KMeans\n", "clusterer: .*write {use: KMeans}"),
        (BASE + "augmenters: [Duplicate]\n", "augmenters.*write {use: Duplicate}"),
        (BASE + "proxy: scratch\n", "write proxy: {model: scratch}"),
        ("scorer: {use: FinalLoss}\nclusterer: {use: PerSource, clusterer: KMeans}\n", "write {use: KMeans}"),
        ("scorer: {use: FinalLoss}\nclusterer: {use: PerSource, clusterer: 3}\n", "^clusterer.clusterer: int has no"),
        (
            "scorer: {use: RankAverage, scorers: [LossTrajectory]}\nclusterer: {use: KMeans}\n",
            "scorer: scorers: .*write {use: LossTrajectory}",
        ),
        (
            "scorer: {use: RankAverage, scorers: [{use: FinalLoss}], weights: [1, 2]}\nclusterer: {use: KMeans}\n",
            "scorer: weights: there are 1 scorers; give as many weights, not 2",
        ),
        (
            "scorer: {use: RankAverage, scorers: [{use: FinalLoss}], weights: [-1]}\nclusterer: {use: KMeans}\n",
            "scorer: weights.0: .*greater than 0",
        ),
        ("scorer: {use: curate.data.sources.Path}\nclusterer: {use: KMeans}\n", "code of the package 'pathlib'"),
        ("a: [\n", "line"),
    ],
)
def test_mistakes_are_explained_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        Pipeline.from_yaml(text)
    assert "\n" not in str(caught.value)


def test_a_field_of_an_earlier_release_is_read_with_a_line_that_says_what_replaced_it(tmp_path: Path) -> None:
    """In a recipe, a setting, an object, and inside another component; the result is as if it were not there."""
    now = GradientAlignment(target="t.jsonl", rank=4)
    scorer = "{use: GradientAlignment, target: t.jsonl, rank: 4, dimensions: 4096}"
    makers = [
        lambda: decode(yaml.safe_load(scorer), "scorer"),
        lambda: GradientAlignment(target="t.jsonl", rank=4, dimensions=4096),
        lambda: decode(yaml.safe_load(f"{{use: RankAverage, scorers: [{scorer}]}}"), "scorer").scorers[0],
    ]
    for make in makers:
        with pytest.warns(DataWarning, match="dimensions is not used any more: gradients are compared whole") as caught:
            assert make() == now
        assert len(caught) == 1
    assert fingerprint(now) == fingerprint(GradientAlignment(target="t.jsonl", rank=4))
    assert "dimensions" not in dump_recipe({"scorer": encode(now)})
    with pytest.raises(InputError, match="has no key 'dimension'; it knows target"):
        decode({"use": "GradientAlignment", "target": "t.jsonl", "dimension": 3}, "scorer")


def test_foreign_code_needs_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_plugin.py").write_text(
        textwrap.dedent(
            """
            import numpy as np
            class Mine:
                def score(self, examples, run):
                    return np.arange(len(examples))
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = "scorer: {use: mine_plugin.Mine}\nclusterer: {use: KMeans}\n"
    with pytest.raises(InputError, match="--allow-plugin mine_plugin"):
        Pipeline.from_yaml(text)
    pipeline = Pipeline.from_yaml(text, allow_plugins=["mine_plugin"])
    assert type(pipeline.scorer).__name__ == "Mine"
    assert "mine_plugin.Mine" in pipeline.to_yaml()


def test_settings_change_values_and_refuse_wrong_paths() -> None:
    recipe = {"proxy": {"model": "a"}, "augmenters": [{"use": "Duplicate", "times": 1}]}
    changed = apply_settings(recipe, ["proxy.model=b", "proxy.steps=1/2 epoch", "augmenters.0.times=3", "seed=4"])
    assert changed == {
        "proxy": {"model": "b", "steps": "1/2 epoch"},
        "augmenters": [{"use": "Duplicate", "times": 3}],
        "seed": 4,
    }
    assert recipe["proxy"] == {"model": "a"}
    lists = ("augmenters.1.times=2", "augmenters.x.times=2")
    for wrong in (*lists, "proxy", "proxy.model.deep=1", "=3", "a=[", "seed.x=1"):
        with pytest.raises(InputError, match="--set"):
            apply_settings({**recipe, "seed": 0}, [wrong])


def test_recipe_file_and_unknown_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(BASE)
    assert Pipeline.from_recipe(str(path)).scorer == FinalLoss()
    with pytest.raises(InputError, match="did you mean 'quick'"):
        Pipeline.from_recipe("quik")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        Pipeline.from_recipe(str(path))


def test_yaml_is_short_and_readable() -> None:
    mapping = yaml.safe_load(PIPELINES[0].to_yaml())
    assert mapping == {"scorer": {"use": "LossTrajectory"}, "clusterer": {"use": "KMeans"}, "seed": 0}


# -- what can be written down ---------------------------------------------------------------------------------------


class _Level(Enum):
    LOW = "low"


@dataclass(frozen=True)
class Holder:
    """A plug-in that takes anything."""

    value: Any = 0


_PLAIN = [
    (np.float64(0.5), 0.5),
    (np.int64(3), 3),
    (np.bool_(True), True),
    (np.str_("a"), "a"),
    (_Level.LOW, "low"),
    ((np.float32(0.5), [np.int8(2)]), [0.5, [2]]),
    ({"a": np.float64(1.5)}, {"a": 1.5}),
    ("1e3", "1e3"),
    ("12e4567", "12e4567"),
    (1e-5, 1e-5),
    (float("inf"), float("inf")),
]


@pytest.mark.parametrize(("value", "plain"), _PLAIN, ids=range(len(_PLAIN)))
def test_parameters_become_plain_values_that_come_back(value: Any, plain: Any) -> None:
    written = encode(Holder(value))
    assert written["value"] == plain
    assert type(written["value"]) is type(plain)
    assert parse_recipe(dump_recipe(written)) == written
    again = decode(written, "scorer", (Holder.__module__.split(".")[0],))
    assert fingerprint(again) == fingerprint(Holder(value))


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3),
        np.longdouble(1),
        b"bytes",
        {1, 2},
        1j,
        pa.table({"a": [1]}),
        functools.partial(print, 1),
        print,
        textwrap.dedent,
        dict,
        Holder,
        range(3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_written_is_refused_with_its_key(value: Any) -> None:
    with pytest.raises(InputError, match=r"^recipe\.value: .*cannot be written into a recipe.*; give a") as caught:
        encode(Holder(value))
    assert "\n" not in str(caught.value)


def test_an_array_is_refused_with_the_list_as_remedy() -> None:
    means = np.zeros((2, 1))
    with pytest.raises(InputError, match=r"recipe\.clusterer\.means_init: an array .*array\.tolist\(\)"):
        Pipeline(scorer=FinalLoss(), clusterer=GaussianMixture(2, means_init=means)).to_yaml()
    pipeline = Pipeline(scorer=FinalLoss(), clusterer=GaussianMixture(2, means_init=means.tolist(), tol=np.float64(1)))
    assert fingerprint(Pipeline.from_yaml(pipeline.to_yaml())) == fingerprint(pipeline)


# -- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "1.0e-3", "1.e-3", ".1e-2", "0.001"])
def test_numbers_with_an_exponent_are_numbers(text: str) -> None:
    assert parse_recipe(f"a: {text}\nb: [{text}]\n") == {"a": 0.001, "b": [0.001]}
    assert apply_settings({}, [f"a={text}"]) == {"a": 0.001}
    assert Pipeline.from_yaml(BASE + f"proxy: {{learning_rate: {text}}}\n").proxy.learning_rate == 0.001


@pytest.mark.parametrize("text", ["1e", "e3", "1e3x", "1-e3", "model-1e3", "'1e3'"])
def test_texts_that_only_look_like_numbers_stay_texts(text: str) -> None:
    assert parse_recipe(f"a: {text}\n") == {"a": text.strip("'")}


def test_settings_of_a_mapping_with_objects_in_it() -> None:
    recipe = {"scorer": FinalLoss(), "clusterer": KMeans(), "augmenters": ({"use": "Duplicate"},)}
    pipeline = Pipeline.from_recipe(recipe, settings=["augmenters.0.times=2"])
    assert pipeline == Pipeline(scorer=FinalLoss(), clusterer=KMeans(), augmenters=(Duplicate(times=2),))
    assert recipe["augmenters"] == ({"use": "Duplicate"},)


# -- other people's modules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["1 // 0", "raise RuntimeError('two\\nlines')", "def f(:", "import no_such_module"])
def test_a_plug_in_that_breaks_on_import_is_named(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugin.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"scorer\.use: 'broken_plugin\.Mine' cannot be imported \(\w+: ") as caught:
        decode({"use": "broken_plugin.Mine"}, "scorer", ("broken_plugin",))
    assert "\n" not in str(caught.value)


def test_a_package_that_is_allowed_lends_its_trust_to_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner_plugin.py").write_text("class Mine:\n    pass\n")
    (tmp_path / "outer_plugin.py").write_text("from inner_plugin import Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    use = {"use": "outer_plugin.Mine"}
    with pytest.raises(InputError, match="--allow-plugin inner_plugin"):
        decode(use, "scorer", ("outer_plugin",))
    assert type(decode(use, "scorer", ("outer_plugin", "inner_plugin"))).__name__ == "Mine"


def test_reweighters_by_name() -> None:
    assert reweighter_from("irdro", "reweighter") == IRDRO()
    found = reweighter_from({"use": "DGA", "target": "t.parquet", "eta": 0.5}, "reweighter")
    assert found == DGA(target="t.parquet", eta=0.5)
    with pytest.raises(InputError, match="there is no reweighter 'drift'; choose one of ADAPT, DGA, DynamicLoss"):
        reweighter_from("drift", "reweighter")


RUNS = "raise SystemExit('the package of the user was run')"


def called(folder: Path, *words: str, path: str, module: bool) -> subprocess.CompletedProcess[str]:
    """A command in a folder, as a script or as a module; path: PYTHONPATH, in which ours comes last."""
    # As the script of the distribution does, the folder of which comes first in sys.path.
    start = ["-m", "curate"] if module else ["-P", "-c", "from curate.cli.main import main; raise SystemExit(main())"]
    return subprocess.run(
        [sys.executable, *start, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)]))},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", ["scorers", "augmenters"])
@pytest.mark.parametrize("kind", ["package", "module"])
@pytest.mark.parametrize("way", ["working folder", "PYTHONPATH"])
def test_what_is_in_the_way_is_named_in_one_line(name: str, kind: str, way: str, tmp_path: Path) -> None:
    place = tmp_path / (name if kind == "package" else f"{name}.py")
    if kind == "package":
        place.mkdir()
        (place / "__init__.py").write_text(RUNS)
    else:
        place.write_text(RUNS)
    path = "" if way == "working folder" else str(tmp_path)
    done = called(tmp_path, "list", name, path=path, module=way == "working folder")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    remedy = "run the command in another folder" if way == "working folder" else f"take {tmp_path} out of PYTHONPATH"
    assert line.startswith(f"curate: {place} hides the package {name} of curate")
    assert line.endswith(f"rename it, or {remedy}")
    if (name, kind) == ("scorers", "package"):  # the remedy helps
        place.rename(tmp_path / "mine")
        assert called(tmp_path, "list", name, path=str(tmp_path), module=True).returncode == 0


def test_a_folder_that_is_no_package_is_in_nobodys_way(tmp_path: Path) -> None:
    for name in ("scorers", "augmenters", "curate", "benchmarks", "datasets"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").touch()
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 12)
    plan = ["plan", "rows.jsonl", "--proxy", "scratch", "--cache", "cache"]
    for words, module in ((plan, True), (["list", "scorers"], False)):
        done = called(tmp_path, *words, path=str(tmp_path), module=module)
        assert done.returncode == 0, done.stderr


def test_one_that_was_imported_before_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scorers.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for each in [name for name in sys.modules if name.partition(".")[0] == "scorers"]:
        monkeypatch.delitem(sys.modules, each)
    import scorers

    assert Path(str(scorers.__file__)).parent == tmp_path
    with pytest.raises(InputError, match="hides the package scorers"):
        own_module("scorers")
    monkeypatch.delitem(sys.modules, "scorers")


def test_a_recipe_of_another_suffix_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 0\n")
    with pytest.raises(InputError, match=r"did you mean '.*/recipe\.yaml'\?"):
        load_recipe(str(tmp_path / "recipe.yml"))
