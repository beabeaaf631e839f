"""American spelling in code, messages and docs, and commands in messages that work when they are typed."""

import ast
import re

import pytest

from tests import ROOT

BRITISH = re.compile(
    r"(?<![a-z])(?:\w*_)?("
    r"(?:tokeni|recogni|memori|normali|summari|synthe|speciali|orthogonali|quanti|minimi|maximi|optimi|organi|initiali|"
    r"seriali|standardi|generali|finali|utili|factori|vectori|regulari|parallelili|categori|prioriti|emphasi|"
    r"capitali|visuali|penali)s(?:e|es|ed|er|ers|ing|ation|ations|able)"
    r"|(?:analy|paraly)s(?:e|ed|ing)(?!s)"
    r"|centr(?:e|es|ed|ing)|neighbou?r(?<=our)\w*|behaviou?r(?<=our)\w*|colou?r(?<=our)\w*|favou?r(?<=our)\w*"
    r"|honou?r(?<=our)\w*|labell(?:ed|ing)(?!by)|modell(?:ed|ing)|signall(?:ed|ing)|travell(?:ed|ing)|fulfil(?:s|ment)?"
    r"|judgement\w*|licence\w*|artefact\w*|catalogue\w*|towards|whilst|amongst|learnt|programme"
    r")(?![a-z])",
    re.IGNORECASE,
)
# Text of generated problems, units that answers may be in, and what other libraries call things.
APART = (
    "curate/word_problems/",
    "curate/verify/",
    "tests/verify/",
    "tests/end_to_end/test_words.py",
    "benchmarks/results/",
)
SUFFIXES = (".py", ".pyi", ".md", ".yaml", ".toml", ".txt", ".j2")
FOLDERS = ("curate", "scorers", "augmenters", "tests", "benchmarks", "docs", "examples")


# Names of earlier releases that are still read, and a plural.
KNOWN = {"centred", "normalise", "syntheses"}
ALIASES = {"tokenise": ("curate/training/reweighting.py", "tests/training/test_reweighting.py")}


def _british(text: str) -> list[str]:
    return [found[1] for found in BRITISH.finditer(text) if found[1].lower() not in KNOWN]


def test_spelling_is_american() -> None:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    paths += [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml")]
    wrong = {}
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(APART) and (found := _british(path.read_text(encoding="utf-8", errors="replace"))):
            found = [word for word in found if name not in ALIASES.get(word, ())]
            wrong |= {name: sorted(set(found))} if found else {}
    assert wrong == {}


@pytest.mark.parametrize("word", ["tokenise", "neighbours", "centre", "labelled", "test_normalised_rows", "behaviour"])
def test_british_words_are_found(word: str) -> None:
    assert _british(f"a {word} b")


@pytest.mark.parametrize(
    "word", ["tokenize", "raise", "otherwise", "labelledby", "analysis", "noise", "promise", "color"]
)
def test_other_words_are_not(word: str) -> None:
    assert not _british(f"a {word} b")


# -- commands in messages ---------------------------------------------------------------------------------------------

PLACES = re.compile(r"\b(path|place|directory|folder|data|file|out|self)\b")


def _commands(source: str) -> list[str]:
    """What f-strings put into the commands that they show between backticks, as source text."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            before = ""
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    inside = before.rpartition("`")
                    if before.count("`") % 2 and inside[2].startswith("curate "):
                        found.append(ast.unparse(part.value))
                    before += "VALUE"
                elif isinstance(part, ast.Constant):
                    before += str(part.value)
    return found


def test_paths_in_commands_are_quoted() -> None:
    unquoted = {}
    for path in (path for folder in ("curate", "scorers", "augmenters") for path in (ROOT / folder).rglob("*.py")):
        bare = [value for value in _commands(path.read_text(encoding="utf-8")) if PLACES.search(value)]
        bare = [value for value in bare if "shlex" not in value]
        unquoted |= {path.relative_to(ROOT).as_posix(): bare} if bare else {}
    assert unquoted == {}


def test_an_unquoted_path_is_found() -> None:
    assert _commands('f"{path} is none; run `curate run {path} --out DIR` first, {path}"') == ["path"]
