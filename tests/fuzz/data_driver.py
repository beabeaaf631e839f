"""Curates files in a child process, so that a death by a signal is an answer and not the end of the tests.

Everything is imported once and children are forked from here: one serves requests until it dies, then the next does.

Each line on stdin is a JSON object {path, out, order, report, command}: what to curate, where to, and how; the answer
is a line with an object {status, text, notes}:
    status: "done"; "refused" for an InputError (exit 2 of the command); "failed" for anything else
    text: the message, or where an exception came from
    notes: what the reader said about the data
"""

import functools
import io
import json
import os
import select
import signal
import sys
import tempfile
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.csv
import pyarrow.json
import pyarrow.parquet  # noqa: F401
import sklearn.cluster  # noqa: F401

import curate.cli.main
import curate.curated
import curate.report.run_page
from augmenters import Duplicate
from curate.clusterers import KMeans
from curate.errors import DataWarning, InputError
from curate.pipeline import Pipeline
from scorers import Length

SECONDS = 60.0  # after which a child counts as hanging
RECIPE = "scorer: {use: Length}\nclusterer: {use: KMeans, n_clusters: 2}\naugmenters: [{use: Duplicate, times: 1}]\n"


def curated(request: dict[str, Any]) -> dict[str, Any]:
    """One run of a pipeline in this process."""
    pipeline = Pipeline(
        scorer=Length(),
        clusterer=KMeans(n_clusters=2),
        augmenters=(Duplicate(times=1),),
        order=request.get("order", "shuffle"),
    )
    write_report = curate.report.run_page.write_report
    if not request.get("report"):
        curate.report.run_page.write_report = lambda *_, **__: None
    try:
        result = pipeline.run(Path(request["path"]), out=Path(request["out"]))
    except InputError as error:
        return {"status": "refused", "text": str(error), "notes": []}
    except BaseException as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/curate/" in frame.filename]
        text = f"{type(error).__name__}: {error} ({Path(frames[-1].filename).name}:{frames[-1].lineno})"
        return {"status": "failed", "text": text, "notes": []}
    finally:
        curate.report.run_page.write_report = write_report
    return {"status": "done", "text": "", "notes": result.loaded.notes}


def commanded(request: dict[str, Any]) -> dict[str, Any]:
    """The same by the command line; `text` is what it printed on stderr."""
    recipe = Path(request["out"]).with_suffix(".yaml")
    recipe.write_text(RECIPE + f"order: {request.get('order', 'shuffle')}\n", encoding="utf-8")
    said, printed = io.StringIO(), io.StringIO()
    with redirect_stderr(said), redirect_stdout(printed):
        given = ["run", request["path"], "--out", request["out"], "--recipe", str(recipe), "--json"]
        status = curate.cli.main.main(given)
    json.loads(printed.getvalue())  # with --json there is one object and nothing else
    record = Path(request["out"]) / "run.json"
    notes = json.loads(record.read_text(encoding="utf-8"))["data"]["notes"] if record.exists() else []
    name = {0: "done", 2: "refused"}.get(status, "failed")
    text = said.getvalue()
    return {"status": name, "text": text.strip().rpartition("curate: ")[2] if status else text, "notes": notes}


def child(requests: int, answers: int) -> NoReturn:
    """Serves requests until there are none."""
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", DataWarning)
    with os.fdopen(requests) as lines, os.fdopen(answers, "w") as out:
        for line in lines:
            request = json.loads(line)
            answer = commanded(request) if request.get("command") else curated(request)
            out.write(json.dumps(answer) + "\n")
            out.flush()
    os._exit(0)


class Child:
    """One forked child and the pipes to it."""

    def __init__(self) -> None:
        theirs, self.requests = os.pipe()
        self.answers, out = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.requests)
            os.close(self.answers)
            # A test run that was started in the background ignores interrupts, and its children would too.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            child(theirs, out)
        os.close(theirs)
        os.close(out)

    def ask(self, line: str) -> str | None:
        """The answer to one request; None if the child died or hangs, and is gone in any case."""
        os.write(self.requests, line.encode())
        found = b""
        while not found.endswith(b"\n"):
            if not select.select([self.answers], [], [], SECONDS)[0]:
                return None
            piece = os.read(self.answers, 1 << 16)
            if not piece:
                return None
            found += piece
        return found.decode()

    def end(self) -> int:
        """How it ended, negative for a signal; one that hangs is killed."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0 and not select.select([self.answers], [], [], 0)[0]:
            os.kill(self.pid, signal.SIGKILL)
        if pid == 0:
            status = os.waitpid(self.pid, 0)[1]
        os.close(self.requests)
        os.close(self.answers)
        return os.waitstatus_to_exitcode(status)


def serve() -> None:
    worker = Child()
    for line in sys.stdin:
        answer = worker.ask(line)
        if answer is None:
            status = worker.end()
            name = signal.Signals(-status).name if status < 0 else f"exit {status}"
            answer = json.dumps({"status": "failed", "text": f"the process ended with {name}", "notes": []}) + "\n"
            worker = Child()
        sys.stdout.write(answer)
        sys.stdout.flush()


def warm(folder: Path) -> None:
    """Run once what children would otherwise import and compute once each."""
    (folder / "a.jsonl").write_text('{"text": "a"}\n{"text": "bb"}\n', encoding="utf-8")
    answer = curated({"path": str(folder / "a.jsonl"), "out": str(folder / "out"), "report": True})
    assert answer["status"] == "done", answer


if __name__ == "__main__":
    metadata.version = functools.cache(metadata.version)  # a sixth of the time of such a small run
    with tempfile.TemporaryDirectory() as folder:
        warm(Path(folder))
    serve()
