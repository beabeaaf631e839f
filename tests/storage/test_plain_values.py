"""YAML as plain values: whatever the text, one value or one line, in little time and memory."""

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cli.main import main
from curate.errors import InputError
from curate.recipe import apply_settings, load_recipe
from curate.storage.plain_values import MOST_DEPTH, MOST_VALUES, dump_yaml, parse_yaml

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(_PLAIN)
def test_what_is_written_is_read_back(value: Any) -> None:
    again = parse_yaml(dump_yaml(value), "x")
    assert again == value
    assert repr(again) == repr(value)  # 1 is not 1.0, nor True


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("{}[]:,-?&*!|>'\"%@`#<~ab01.e\n\t \u00e9\0=\ud800"), max_size=60))
def test_any_text_is_a_plain_value_or_one_line(text: str) -> None:
    problem, value = "", None
    try:
        value = parse_yaml(text, "x")
    except InputError as error:
        problem = str(error)
    assert "\n" not in problem
    assert _is_plain(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return all(map(_is_plain, value)) if isinstance(value, list) else type(value) in (type(None), bool, int, float, str)


def _bomb(levels: int, of: int) -> str:
    rows = [f"a0: &a0 [{', '.join(['x'] * of)}]"]
    rows += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * of)}]" for k in range(1, levels)]
    return "\n".join([*rows, f"scorer: *a{levels - 1}"])


HOSTILE = {
    "aliases": (_bomb(10, 9), r"line \d+: .*values, those of aliases included"),
    "aliases that nest": ("".join(f"a{k}: &a{k} [{f'*a{k - 1}' if k else 'x'}]\n" for k in range(99)), "deep"),
    "cycle": ("scorer: &a {use: RankAverage, scorers: [*a]}", r"line 1: .*\*a refers to a node that contains it"),
    "cycle of itself": ("&a [*a]", "a node that contains it"),
    "cycle in a key": ("&a {*a : 1}", "a node that contains it"),
    "no anchor": ("a: *b", r"\*b refers to no earlier anchor"),
    "an anchor that comes later": ("[*b, &b x]", "no earlier anchor"),
    "flow nesting": ("augmenters: " + "[" * 500 + "]" * 500, f"nested more than {MOST_DEPTH} deep"),
    "flow nesting without an end": ("[" * 200_000, "deep"),
    "mapping nesting": ("{a: " * 500 + "1" + "}" * 500, "deep"),
    "block nesting": ("- " * 100_000 + "x", "deep"),
    "block mappings": ("\n".join(" " * k + "a:" for k in range(600)), "deep"),
    "key nesting": ("? " * 5_000 + "x", "deep"),
    "many values": ("- x\n" * (MOST_VALUES + 1), "values"),
    "long": ("#" * 300_000, "characters"),
    "many digits": ("a: " + "1" * 200_000, "a number of more than"),
    "no exponent at last": ("a: " + "1" * 100_000 + "x", None),
    "hexadecimal": ("a: 0x" + "f" * 100_000, "a number of more than"),
    "a large number": ("seed: 99999999999999999999", "64 bits"),
    "in base 60": ("a: " + ":".join(["1"] * 60_000), "a number of more than"),
    "a float in base 60": ("a: 9" + ":59" * 12 + ".5", None),
    "merge": ("a: &a {b: 1}\nc: {<<: *a}", "line 2: .*merge keys"),
    "merge as text": ("a: {'<<': 1}", None),
    "twice": ("a: 1\nb: 2\n'a': 3", "line 3: .*key 'a' appears twice"),
    "twice within": ("x: {a: 1, a: 2}", "key 'a' appears twice"),
    "a number for a key": ("x: {1: a}", "key 1 is not text; put it in quotes"),
    "a truth for a key": ("on: a", "key True is not text"),
    "nothing for a key": ("{~: a}", "key None is not text"),
    "a list for a key": ("? [a]\n: b", r"key \['a'\] is not text"),
    "code": ("!!python/object/apply:os.system ['true']", "the tag .*os.system is not read"),
    "code in a text": ("a: !!python/name:os.system ''", "tag"),
    "code in a mapping": ("a: !!python/object:os.system {}", "tag"),
    "set": ("!!set {a, b}", "tag"),
    "pairs": ("!!omap [a: 1]", "tag"),
    "bytes": ("a: !!binary aGk=", "tag"),
    "no truth": ("a: !!bool maybe", "tag"),
    "no number": ("a: !!int x", "tag"),
    "a long tag": ("!" * 100_000, "tag"),
    "own tag": ("a: !mine b", "tag"),
    "text by tag": ("a: !!str 1", None),
    "a date": ("a: 2024-13-45", None),
    "half a character": (r'a: "\ud800"', "half a surrogate pair"),
    "a null character": (r'a: "\0"', "null character"),
    "no such character": (r'a: "\UFFFFFFFF"', "not readable"),
    "a control character": ("a: \x07", "not readable"),
    "two documents": ("a: 1\n---\nb: 2", "second document"),
    "a version of many digits": ("%YAML 1." + "1" * 5_000 + "\n--- a", "not readable"),
    "open": ("a: [", "line"),
    "tab": ("a:\n\t- b", "line 2"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_out_of_bounds_is_one_line_soon(name: str) -> None:
    text, says = HOSTILE[name]
    began = time.process_time()
    if says is None:
        assert _is_plain(parse_yaml(text, "x"))
    else:
        with pytest.raises(InputError, match=says) as caught:
            parse_yaml(text, "x")
        assert str(caught.value).startswith("x")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 250
    assert time.process_time() - began < 5.0


def test_aliases_within_bounds_are_written_out() -> None:
    value = parse_yaml("a: &a {b: [1, 2]}\nc: *a\nd: &e text\nf: *e", "x")
    assert value == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": "text", "f": "text"}
    assert value["a"] is not value["c"]  # to set one is not to set the other
    assert value["a"]["b"] is not value["c"]["b"]


@pytest.mark.parametrize("name", ["aliases", "cycle", "flow nesting", "many digits", "a list for a key"])
@pytest.mark.parametrize(
    "option", ["--recipe", "--set", "--evaluation", "--data", "--reweighter", "--finetuning", "--evaluate", "--against"]
)
def test_every_yaml_of_the_command_line(
    option: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = HOSTILE[name][0]
    Path("data.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    Path("recipe.yaml").write_text(text)
    model = ["--model", "scratch", "--out", "out"]
    given = {
        "--recipe": ["plan", "data.jsonl", "--recipe", "recipe.yaml"],
        "--set": ["plan", "data.jsonl", "--set", f"scorer.x={text}"],
        "--evaluation": ["gate", "data.jsonl", "--evaluation", f"{{data: x, columns: [\n{text}\n]}}"],
        "--against": ["gate", "data.jsonl", "--against", f"{{data: x, columns: [\n{text}\n]}}"],
        "--data": ["evaluate", "model", "--data", f"{{data: x, columns: [\n{text}\n]}}", "--out", "out"],
        "--reweighter": ["finetune", "data.jsonl", *model, "--reweighter", f"{{use: x, y: [\n{text}\n]}}"],
        "--finetuning": ["validate", "data.jsonl", *model, "--finetuning", f"lora.x={text}"],
        "--evaluate": ["validate", "data.jsonl", *model, "--evaluate", f"shots_from.x={text}"],
    }[option]
    assert main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("curate: ")
    assert "YAML" in line
    assert len(line) < 400


@pytest.mark.slow
def test_little_memory_is_enough_for_any_recipe(tmp_path: Path) -> None:
    """That of a small one, and some; in a process of its own, whose peak is read."""
    peaks = {}
    for name, text in {"small": "a: 1", **{name: text for name, (text, _) in HOSTILE.items()}}.items():
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        code = (
            "import resource, sys\nfrom curate.errors import InputError\nfrom curate.recipe import load_recipe\n"
            "try:\n    load_recipe(sys.argv[1])\nexcept InputError:\n    pass\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        if name in ("small", "aliases", "flow nesting without an end", "many values", "in base 60", "long"):
            done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
            peaks[name] = int(done.stdout)
    assert max(peaks.values()) < peaks["small"] + 64 * 1024, peaks
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


# -- files ----------------------------------------------------------------------------------------------------------


def test_files_that_are_none_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_bytes(b"#" * 5_000_000)
    for name in (
        str(tmp_path / "large.yaml"),
        "a" * 5_000,
        str(tmp_path),
        "\0",
        "/dev/zero",
        str(tmp_path / "x" / "y"),
    ):
        with pytest.raises(InputError) as caught:
            load_recipe(name)
        assert "\n" not in str(caught.value)


# -- paths of settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        ".".join(["a"] * 10_000) + "=1",
        "augmenters.\u00b2.times=1",
        "augmenters.\u0662.times=1",
        f"augmenters.{'9' * 5_000}.times=1",
        "augmenters.-1.times=1",
        "=" * 100_000,
        "a=" + "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_a_setting_that_leads_nowhere_is_one_short_line(setting: str) -> None:
    with pytest.raises(InputError, match="--set") as caught:
        apply_settings({"augmenters": [{"use": "Duplicate"}] * 3}, [setting])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
