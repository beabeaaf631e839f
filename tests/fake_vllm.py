"""A stand-in for the command `vllm`: `python fake_vllm.py serve MODEL --port N ...` starts a FakeServer.

What it does besides is ordered with further words after the options of vLLM:
    --start-after S      ready only after S seconds
    --fail-with TEXT     says TEXT and ends with status 1
    --die-after N        kills itself after N answers, the first time it is started
    --deaths FILE        a byte is appended to it at every start
    --slow S             seconds before each answer
    --always             with --die-after: dies after every start
    --stubborn           ignores SIGTERM
    --child FILE         starts a process in a session of its own that sleeps, and writes both process numbers to FILE
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fake_server import FakeServer, asked


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--served-model-name")
    parser.add_argument("--uvicorn-log-level")
    parser.add_argument("--start-after", type=float, default=0)
    parser.add_argument("--fail-with")
    parser.add_argument("--die-after", type=int)
    parser.add_argument("--deaths", type=Path)
    parser.add_argument("--always", action="store_true")
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--child", type=Path)
    parser.add_argument("--slow", type=float, default=0.01)
    options = parser.parse_args()
    if options.fail_with:
        print("INFO loading", options.fail_with, "INFO bye", sep="\n", flush=True)
        return 1
    if options.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    starts = 1
    if options.deaths:
        with options.deaths.open("ab") as file:
            file.write(b".")
        starts = options.deaths.stat().st_size
    if options.child:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        options.child.write_text(json.dumps([os.getpid(), child.pid]))
    time.sleep(options.start_after)
    answers = 0

    def answer(body: dict[str, Any]) -> str:
        nonlocal answers
        answers += 1
        if options.die_after is not None and answers > options.die_after and (starts == 1 or options.always):
            os.kill(os.getpid(), signal.SIGKILL)
        return f"about {asked(body)} from start {starts}"

    name = options.served_model_name
    server = FakeServer(answer, model=name, key=os.environ.get("VLLM_API_KEY"), port=options.port, delay=options.slow)
    with server:
        print("Application startup complete.", flush=True)
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
