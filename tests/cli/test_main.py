"""The command line: exit statuses, one line per error, clean JSON, nothing written where nothing was done."""

import errno
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.main import _surroundings, main
from tests.fixtures.commands import TINY, Call, Finished, _rows, _with, _write

COMMANDS = ("run", "plan", "score", "synthesize", "gate", "finetune", "evaluate", "compare", "validate", "expo")
COMMANDS += ("weigh", "list", "init", "inspect", "view", "diff", "report", "doctor")


# --- help and spelling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_readable(command: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = call(*([command] if command else []), "--help")
    assert done.status == 0
    assert done.err == ""
    assert max(len(line) for line in done.out.splitlines()) <= 80
    if not command:
        assert all(re.search(rf"^    {name}\s", done.out, re.MULTILINE) for name in COMMANDS)


# --- errors --------------------------------------------------------------------------------------------------------
_FOREIGN = "scorer: {use: os.system}\nclusterer: {use: KMeans}\n"


_KEY = "scorer: {use: LossTrajectory}\nclusterer: {use: KMeans}\naugmenterz: []\n"


def _without_prompt() -> list[dict[str, Any]]:
    return [{"completion": row["completion"], "topic": row["topic"]} for row in _rows()]


# name -> (content of the file: rows or bytes; further arguments; what the line must hold)
MATRIX: dict[str, tuple[Any, list[str], tuple[str, ...]]] = {
    "missing column": (_without_prompt(), TINY, ("completion, topic", "--columns")),
    "no rows": (b"", TINY, ("data.jsonl", "empty")),
    "no rows in parquet": (pa.table({"prompt": pa.array([], pa.string())}), TINY, ("data.parquet", "no rows")),
    "all rows invalid": (
        [{"prompt": f"word {i}", "completion": ""} for i in range(8)],
        TINY,
        ("all 8 of 8 rows", "no completion text", "'completion'", "--columns"),
    ),
    "null cell": (_with(7, completion=None), TINY, ("row 7", "'completion'", "null", "--on-bad-row drop")),
    "cell that is not a string": (
        _with(9, prompt=12),
        TINY,
        ("row 9", "'prompt'", "a number, 12, not text", "--on-bad-row drop"),
    ),
    "repeated ids": (
        [{**row, "name": "same" if i in (3, 5) else str(i)} for i, row in enumerate(_rows())],
        [*TINY, "--columns", "id=name,prompt=prompt,completion=completion"],
        ("'name'", "'same'", "rows 3 and 5"),
    ),
    "unknown recipe key": (_rows(), [*TINY, "--recipe", "recipe.yaml"], ("'augmenterz'", "'augmenters'")),
    "foreign code": (_rows(), [*TINY, "--recipe", "foreign.yaml"], ("scorer.use", "'os.system'", "--allow-plugin")),
    "unknown recipe": (_rows(), [*TINY, "--recipe", "quik"], ("'quik'", "'quick'")),
    "recipe that is no YAML": (b"x", [*TINY, "--recipe", "data.jsonl"], ("data.jsonl",)),
    "unknown setting": (_rows(), [*TINY, "--set", "proxy.stepz=5"], ("'stepz'", "'steps'")),
    "setting without value": (_rows(), [*TINY, "--set", "seed"], ("'seed'", "path=value")),
    "setting of a wrong type": (_rows(), [*TINY, "--set", "seed=abc"], ("seed", "abc")),
    "unknown model path": (_rows(), ["--proxy", "./no/such/model"], ("./no/such/model", "--proxy scratch")),
    "data that is not there": (None, TINY, ("data.jsonl", "does not exist")),
    "broken parquet": (b"PAR1 no more", TINY, ("data.parquet", "Parquet")),
    "invalid UTF-8": (b'{"prompt": "a", "completion": "\xff"}\n', TINY, ("line 1", "UTF-8")),
    "not JSON": (b'{"prompt": "a", "completion": "b"}\n{oops\n', TINY, ("line 2", "JSON")),
    "fewer rows than clusters": (_rows(3), [*TINY, "--set", "clusterer.n_clusters=5"], ("3", "5", "n_clusters")),
    "diverged training": (_rows(), [*TINY, "--set", "proxy.learning_rate=1e18"], ("step", "diverged-at-step")),
    "--where on no column": (_rows(), [*TINY, "--where", "topik=a"], ("'topik'", "'topic'")),
    "--where without a match": (_rows(), [*TINY, "--where", "topic=z"], ("topic=z", "'a'")),
    "--columns on no column": (_rows(), [*TINY, "--columns", "prompt=promt"], ("'promt'", "'prompt'")),
    "--limit 0": (_rows(), [*TINY, "--limit", "0"], ("limit", "0")),
    "--scores that is not a parquet": (_rows(), ["--scores", "recipe.yaml"], ("recipe.yaml", "Parquet")),
    "--scores without difficulty": (_rows(), ["--scores", "other.parquet"], ("'example_id'", "curate score")),
    "--scores for other data": (_rows(), ["--scores", "foreign.parquet"], ("scores", "id")),
    "--scores with valid as text": (_rows(), ["--scores", "valid.parquet"], ("'valid'", "string", "true and false")),
    "--scores with too many tokens": (_rows(), ["--scores", "many.parquet"], ("row 1", "'tokens'", str(2**40))),
    "--scores with negative tokens": (_rows(), ["--scores", "negative.parquet"], ("row 0", "'tokens'", "-1")),
    "--scores with lists as ids": (_rows(), ["--scores", "nested.parquet"], ("'example_id'", "list")),
    "one column in two roles": (_rows(), [*TINY, "--columns", "prompt=topic,completion=topic"], ("both prompt and",)),
    "clusterer as a bare name": (_rows(), [*TINY, "--set", "clusterer=KMeans"], ("clusterer", "{use: KMeans}")),
    "unknown device": (_rows(), [*TINY, "--device", "abacus"], ("'abacus'", "cpu")),
    "--cache that is a file": (_rows(), [*TINY, "--cache", "recipe.yaml"], ("--cache", "recipe.yaml")),
}


def test_without_a_command_the_help_is_shown(call: Call) -> None:
    done = call()
    assert (done.status, done.out) == (2, "")
    assert "usage: curate" in done.err
    assert "curate demo" in done.err


@pytest.mark.parametrize("name", MATRIX)
def test_errors_are_one_line_and_nothing_is_written(
    name: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, arguments, expected = MATRIX[name]
    monkeypatch.chdir(tmp_path)
    path = Path("data.parquet" if "parquet" in name and "--scores" not in name else "data.jsonl")
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, pa.Table):
        pq.write_table(content, path)
    elif content is not None:
        _write(path, content)
    Path("recipe.yaml").write_text(_KEY)
    Path("foreign.yaml").write_text(_FOREIGN)
    pq.write_table(pa.table({"a": [1]}), "other.parquet")
    pq.write_table(pa.table({"example_id": ["x"], "difficulty": [1.0]}), "foreign.parquet")
    pq.write_table(pa.table({"example_id": [["x"]], "difficulty": [1.0]}), "nested.parquet")
    for file, column in (("valid", ["yes", "no"]), ("many", [1, 2**40]), ("negative", [-1, 1])):
        name = "valid" if file == "valid" else "tokens"
        pq.write_table(pa.table({"example_id": ["x", "y"], "difficulty": [1.0, 2.0], name: column}), f"{file}.parquet")
    before = {entry.name for entry in Path().iterdir()}
    refused = call("run", path, "--out", "out", *arguments, "--json")
    assert refused.status == 2, refused.err
    for words in expected:
        assert words in refused.error
    assert refused.error == f"curate: {refused.json['error']}"
    assert refused.json["status"] == 2
    assert {entry.name for entry in Path().iterdir()} == before


def test_faults_of_our_own_are_one_line_too(
    data: Path, tmp_path: Path, scores: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.curated._count_rows", lambda *_: 1 // 0)
    done = call("run", data, "--out", tmp_path / "out", "--scores", scores, "--json")
    assert done.status == 1
    assert "ZeroDivisionError" in done.error
    assert "CURATE_DEBUG" in done.json["error"]


def test_json_stays_clean_when_a_plug_in_prints(
    data: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chatty.py").write_text(
        "import numpy as np\n"
        "class Chatty:\n"
        "    def score(self, examples, run):\n"
        "        print('hello from a plug-in')\n"
        "        return np.arange(len(examples), dtype=float)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "r.yaml").write_text("scorer: {use: chatty.Chatty}\nclusterer: {use: KMeans}\n")
    arguments = ["run", data, "--out", tmp_path / "out", "--recipe", tmp_path / "r.yaml"]
    assert "--allow-plugin chatty" in call(*arguments).error
    done = call(*arguments, "--allow-plugin", "chatty", "--json")
    assert done.status == 0
    assert done.json["counts"]["output"] == 40
    assert "hello from a plug-in" in done.err


HOSTILE = (
    "\x1b[31mred\x1b]0;owned\x07 \x9b2J <script>alert(1)</script> [bold]markup[/bold] javascript:alert(1) \u202eevil"
)


def test_dates_that_python_lacks_are_kept_and_shown_as_such(tmp_path: Path, call: Call) -> None:
    table = pa.Table.from_pylist(_rows()).append_column("final_answer", pa.array([-(2**53)] * 40, pa.timestamp("s")))
    pq.write_table(table, tmp_path / "d.parquet")
    given = [tmp_path / "d.parquet", "--set=scorer={use: Length}", "--out", tmp_path / "out"]
    assert call("run", *given).status == 0
    assert "[a value that Python cannot hold]" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    written = pq.read_table(tmp_path / "out" / "data")["final_answer"]
    assert set(written.cast(pa.int64()).to_pylist()) == {-(2**53) * 1000}


def test_no_command_lets_data_act_on_the_terminal(tmp_path: Path, call: Call) -> None:
    rows = [
        {**row, "prompt": f"{HOSTILE} {i}", f"note{HOSTILE}": HOSTILE, "kind": HOSTILE if i % 2 else "plain"}
        for i, row in enumerate(_rows())
    ]
    path = _write(tmp_path / "d.jsonl", rows)
    hard = np.arange(40) % 4 == 0
    scores = tmp_path / "s.parquet"
    from curate.data.readers import read

    ids = read(path).examples.ids
    pq.write_table(pa.table({"example_id": ids, "difficulty": np.where(hard, 9.0, 1.0)}), scores)
    columns = ["--columns", "prompt=prompt,completion=completion,source=kind"]
    given = [path, "--scores", scores, *columns]
    shown = [
        call("plan", *given),
        call("run", *given, "--out", tmp_path / "out"),
        call("run", *given, "--out", tmp_path / "out", "--json"),
        call("inspect", tmp_path / "out"),
        call("inspect", tmp_path / "out", "--json"),
        call("report", tmp_path / "out"),
        call("run", *given, "--out", tmp_path / "o2", "--where", f"kind={HOSTILE}x"),
        call("run", *given, "--out", tmp_path / "o2", "--where", f"{HOSTILE}=x"),
        call("run", path, "--columns", "id=kind,prompt=prompt,completion=completion", "--out", tmp_path / "o2"),
    ]
    assert [each.status for each in shown] == [0, 0, 0, 0, 0, 0, 2, 2, 2]
    for each in shown:
        acting = {c for c in each.out + each.err if ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e"}
        assert acting <= {"\n"}
    assert "[bold]markup[/bold]" in shown[3].out
    assert HOSTILE in {row["kind"] for row in pq.read_table(tmp_path / "out" / "data").to_pylist()}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "\x1b" not in page + (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_what_libraries_log_cannot_act_on_the_terminal() -> None:
    early, late, shown = logging.getLogger("a.library"), logging.getLogger("another.library"), io.StringIO()
    handlers = [logging.StreamHandler(shown), logging.StreamHandler(shown)]
    early.addHandler(handlers[0])
    before = logging.getLogRecordFactory()
    try:
        with _surroundings(as_json=True):
            late.addHandler(handlers[1])
            early.warning("a model of type %s, %r", "\x08\x9b2J", {"a": 1})
            try:
                raise ValueError("\x1b[31mred")
            except ValueError:
                late.exception("failed: \u202e")
    finally:
        early.removeHandler(handlers[0])
        late.removeHandler(handlers[1])
    assert logging.getLogRecordFactory() is before
    lines = shown.getvalue().splitlines()
    assert lines[0] == "a model of type ␈⟨U+009B⟩2J, {'a': 1}"
    assert lines[1] == "failed: ⟨U+202E⟩"
    assert lines[-1] == "ValueError: ␛[31mred"


# --- as a process --------------------------------------------------------------------------------------------------


def _process(*arguments: str | Path, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["-c", code] if code else ["-m", "curate"]
    return subprocess.run(
        [sys.executable, *command, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_imports_the_command_line_alone() -> None:
    """Fewer than 30 modules of our own, no numerical library, and less than 0.3 s of the processor's time."""
    counted = (
        "import os, sys, curate.cli.main; status = curate.cli.main.main(['--help']); used = sum(os.times()[:2]); "
        "own = [name for name in sys.modules if name.split('.')[0] in ('curate', 'scorers', 'augmenters')]; "
        "print(status, len(own), bool({'numpy', 'pyarrow', 'pydantic'} & set(sys.modules)), used)"
    )
    status, modules, slow, seconds = _process(code=counted).stdout.splitlines()[-1].split()
    assert (status, slow) == ("0", "False")
    assert int(modules) < 30
    assert float(seconds) < 0.3


def test_import_and_help_are_light() -> None:
    loaded = "print(sorted({'torch', 'transformers', 'datasets', 'pandas', 'sklearn'} & set(sys.modules)))"
    assert _process(code=f"import sys, curate; {loaded}").stdout == "[]\n"
    done = _process(code=f"import sys, curate.cli.main; curate.cli.main.main(['run', '--help']); {loaded}")
    assert done.stdout.endswith("\n[]\n")
    started = time.monotonic()
    assert _process("--help").returncode == 0
    assert time.monotonic() - started < 10  # loosely: machines that test are busy


def test_exit_status_of_the_process(tmp_path: Path) -> None:
    done = _process("run", tmp_path / "absent.jsonl", "--out", tmp_path / "out", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["status"] == 2
    script = Path(sys.executable).with_name("curate")
    if script.exists():
        assert subprocess.run([script, "rnu"], capture_output=True, check=False).returncode == 2
        assert subprocess.run([script, "--version"], capture_output=True, check=False).returncode == 0


def test_a_closed_pipe_is_no_fault(finished: Finished) -> None:
    command = f"{sys.executable} -m curate inspect {finished.out} --examples 20; echo status $? >&2"
    done = subprocess.run(
        ["bash", "-c", f"({command}) | head -c 1 > /dev/null"], capture_output=True, text=True, check=False
    )
    assert done.stderr == "status 0\n"


def test_a_signal_whose_exception_was_wrapped_ends_as_any_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As pydantic does while classes are built, that is while a command is imported."""

    def building(words: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException as error:
            raise ValueError("Error building validator") from error

    monkeypatch.setattr("curate.cli.main.check_text", building)
    assert main(["list", "recipes"]) == 143
    assert capsys.readouterr().err == "curate: terminated; rerun the same command to resume\n"
    monkeypatch.undo()
    assert main(["list", "recipes"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "status"), [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long), (signal.SIGINT, 130)]
)
def test_signals_stop_a_run_that_can_go_on(sent: signal.Signals, status: int, data: Path, tmp_path: Path) -> None:
    arguments = ["run", data, "--out", tmp_path / "out", *TINY, "--cache", tmp_path / "cache", "--json"]
    long = [*map(str, arguments), "--set", "proxy.steps=100000"]
    # A test run that was started in the background ignores interrupts, and its children would too.
    code = "import signal, sys; signal.signal(2, signal.default_int_handler); import curate.cli.main as cli; "
    with subprocess.Popen(
        [sys.executable, "-c", code + "sys.exit(cli.main())", *long],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("tokenize: done"):
                break
        time.sleep(0.5)
        os.kill(process.pid, sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert json.loads(out)["status"] == status
    assert err.splitlines()[-1].startswith("curate: ")
    assert not (tmp_path / "out").exists()


# --- streams that take nothing -------------------------------------------------------------------------------------


class _Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_under_stdout_is_said_and_the_work_is_done(
    data: Path, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", _Full())
    for more in ((), ("--json",)):
        out = tmp_path / f"out{len(more)}"
        assert main(["run", str(data), "--out", str(out), "--scores", str(scores), *more]) == 3
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("curate: the output cannot be written (No space left on device); make room")
        assert (out / "run.json").exists()


@pytest.mark.parametrize("stream", [_Full(), None])
def test_progress_that_nobody_takes_stops_nothing(
    stream: Any, data: Path, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["run", str(data), "--out", str(tmp_path / "out"), "--scores", str(scores)]) == 0
    assert (tmp_path / "out" / "run.json").exists()
    assert main(["run", str(tmp_path / "no.jsonl"), "--out", str(tmp_path / "other"), "--scores", str(scores)]) == 2


def test_a_process_without_stdout_ends_as_one_with_it(
    data: Path, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["run", str(data), "--out", str(tmp_path / "out"), "--scores", str(scores)]) == 0
