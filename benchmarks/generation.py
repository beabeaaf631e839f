"""Benchmark requests per second of the client, and tokens per second of `vllm serve` against offline vLLM."""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from curate.generators import VLLMServer
from curate.generators.request_queue import complete
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request, Sampling

_DETAILS = """\
    python benchmarks/generation.py client [--requests 10000] [--connections 256] [--repeats 5] [--out FILE.json]
    python benchmarks/generation.py vllm --model FOLDER --vllm VLLM_ENVIRONMENT/bin/vllm [--prompts 64] [--tokens 128]
        [--repeats 3] [--out FILE.json]

client: short requests to a trivial asyncio server and from a process of its own each, in turn: httpx
and aiohttp with a semaphore and nothing else, and `complete(VLLMServer(...))` without and with a request store. vllm:
the same prompts, seeds and settings through `LLM.generate` and through VLLMServer, in turn; starting up is counted in
neither.
"""

ANSWER = json.dumps(
    {
        "choices": [{"index": 0, "text": "The answer is 42. " * 10, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 60},
    }
).encode()
MODELS = json.dumps({"object": "list", "data": [{"id": "trivial", "owned_by": "vllm"}]}).encode()
CLIENTS = ("httpx", "aiohttp", "curate", "curate with a store")
# vLLM's offline engine in its own environment: reads prompts and settings, prints one JSON line per repeat.
OFFLINE = """
import json, sys, time
from vllm import LLM, SamplingParams
job = json.load(open(sys.argv[1]))
llm = LLM(**job["engine"])
params = [SamplingParams(**job["sampling"], seed=seed) for seed in job["seeds"]]
llm.generate(job["prompts"][:2], params[:2], use_tqdm=False)
for line in sys.stdin:
    started = time.perf_counter()
    outputs = llm.generate(job["prompts"], params, use_tqdm=False)
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    print("RESULT", json.dumps({"seconds": time.perf_counter() - started, "tokens": tokens}), flush=True)
"""


class Trivial(asyncio.Protocol):
    """Answers every POST with the same completion; understands just enough of HTTP."""

    def __init__(self, sockets: list[int]) -> None:
        self.sockets = sockets
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.sockets[0] += 1
        self.sockets[1] = max(self.sockets)

    def connection_lost(self, error: Exception | None) -> None:
        self.sockets[0] -= 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            if head.startswith(b"get /sockets"):
                body = str(self.sockets[1]).encode()
            else:
                body = MODELS if head.startswith(b"get") else ANSWER
            self.buffer = self.buffer[end + 4 + length :]
            kind = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            self.transport.write(kind + body)


def trivial_server(port: Any) -> None:
    async def run() -> None:
        sockets = [0, 0]
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Trivial(sockets), "127.0.0.1", 0, backlog=1024)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def client(name: str, url: str, requests: int, connections: int) -> dict[str, Any]:
    """One measurement, in a fresh process."""
    prompts = [f"Question {i}: what is {i} plus {i % 7}? " * 3 for i in range(requests)]
    if name.startswith("curate"):
        requested = [Request(prompt, Sampling(max_tokens=64), 0) for prompt in prompts]
        generator = VLLMServer(model="trivial", url=url, connections=connections)
        complete(generator, requested[:8])  # imports
        with tempfile.TemporaryDirectory() as folder:
            store = RequestStore(Path(folder) / "requests.sqlite") if "store" in name else None
            before, cpu, started = peak_mib(), time.process_time(), time.perf_counter()
            assert len(complete(generator, requested, store)) == requests
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            if store:
                store.close()
    else:
        bodies = [{"model": "trivial", "prompt": prompt, "max_tokens": 64, "seed": 0} for prompt in prompts]
        run = {"httpx": with_httpx, "aiohttp": with_aiohttp}[name]
        asyncio.run(run(url, bodies[:8], connections))
        before, cpu, started = peak_mib(), time.process_time(), time.perf_counter()
        asyncio.run(run(url, bodies, connections))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {
        "client": name,
        "requests": requests,
        "requests_per_second": round(requests / seconds),
        "cpu_seconds": round(cpu, 2),
        "rss_before_mib": before,
        "peak_rss_mib": peak_mib(),
    }


async def with_aiohttp(url: str, bodies: list[dict[str, Any]], connections: int) -> None:
    import aiohttp

    gate = asyncio.Semaphore(connections)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:

        async def one(body: dict[str, Any]) -> None:
            async with gate, session.post(url + "/v1/completions", json=body) as response:
                assert (await response.json())["choices"]

        await asyncio.gather(*map(one, bodies))


async def with_httpx(url: str, bodies: list[dict[str, Any]], connections: int) -> None:
    import httpx2 as httpx

    gate = asyncio.Semaphore(connections)
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits, timeout=60) as session:

        async def one(body: dict[str, Any]) -> None:
            async with gate:
                response = await session.post(url + "/v1/completions", json=body)
                assert response.json()["choices"]

        await asyncio.gather(*map(one, bodies))


def peak_mib() -> int:
    """Peak resident memory of this process so far."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def measure_clients(options: argparse.Namespace) -> dict[str, Any]:
    import urllib.request

    context = multiprocessing.get_context("spawn")
    runs = []
    for repeat in range(options.repeats):
        for name in CLIENTS[repeat % len(CLIENTS) :] + CLIENTS[: repeat % len(CLIENTS)]:
            port: Any = context.Queue()
            server = context.Process(target=trivial_server, args=(port,), daemon=True)
            server.start()
            url = f"http://127.0.0.1:{port.get()}"
            try:
                requests = options.requests // 10 if name == "httpx" else options.requests  # it takes that long
                with context.Pool(1) as pool:
                    run = pool.apply(client, (name, url, requests, options.connections))
                with urllib.request.urlopen(url + "/sockets") as response:
                    run["most_sockets"] = int(response.read()) - 1
            finally:
                server.terminate()
                server.join()
            runs.append(run)
    medians = {
        name: statistics.median(run["requests_per_second"] for run in runs if run["client"] == name) for name in CLIENTS
    }
    for name, rate in medians.items():
        own = [run for run in runs if run["client"] == name]
        print(
            f"{name:<20} {rate:>7,.0f} requests/s   sockets {max(run['most_sockets'] for run in own):>4}   "
            f"peak {max(run['peak_rss_mib'] for run in own)} MiB"
        )
    return {"requests": options.requests, "connections": options.connections, "medians": medians, "runs": runs}


def offline(options: argparse.Namespace, prompts: list[str], seeds: list[int]) -> Iterator[dict[str, Any]]:
    """One result of LLM.generate each time it is asked for one; the engine lives in between."""
    engine = {"model": str(options.model), "dtype": options.dtype, "enforce_eager": True}
    engine |= {"max_model_len": options.context, "generation_config": "vllm"}
    sampling = {"temperature": 1.0, "max_tokens": options.tokens}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps({"engine": engine, "sampling": sampling, "prompts": prompts, "seeds": seeds}))
        python = Path(options.vllm).with_name("python")
        script = Path(folder) / "offline.py"
        # The engine's processes import the main module again.
        script.write_text("if __name__ == '__main__':\n" + "\n".join("    " + line for line in OFFLINE.splitlines()))
        process = subprocess.Popen(
            [str(python), str(script), str(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin
        assert process.stdout
        try:
            while True:
                process.stdin.write("go\n")
                process.stdin.flush()
                for line in process.stdout:
                    if line.startswith("RESULT "):
                        yield json.loads(line.removeprefix("RESULT "))
                        break
                else:
                    raise SystemExit(f"the offline engine ended with status {process.wait()}")
        finally:
            process.stdin.close()
            process.terminate()
            process.wait()


class Alternating:
    """A queue of rounds of the same requests; `other` has its own round before each. The first requests warm up."""

    def __init__(self, requests: list[Request], other: Iterator[dict[str, Any]], rounds: int) -> None:
        self.requests, self.other, self.rounds = requests, other, rounds
        self.waiting = requests[:2]
        self.left, self.tokens, self.started = len(self.waiting), 0, time.perf_counter()
        self.ours: list[dict[str, Any]] = []
        self.theirs: list[dict[str, Any]] = []

    def take(self, most: int) -> list[Request]:
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return taken

    def done(self, request: Request, completion: Completion) -> None:
        self.tokens += completion.completion_tokens
        self.left -= 1
        if self.left:
            return
        if self.theirs:
            self.ours.append({"seconds": time.perf_counter() - self.started, "tokens": self.tokens})
        if len(self.theirs) < self.rounds:
            self.theirs.append(next(self.other))
            self.waiting, self.left, self.tokens = list(self.requests), len(self.requests), 0
            self.started = time.perf_counter()

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def measure_vllm(options: argparse.Namespace) -> dict[str, Any]:
    numbers = range(options.prompts)
    prompts = [f"Here is a short story about {i + 2} friends who find {3 * i + 5} coins." for i in numbers]
    requests = [Request(prompt, Sampling(max_tokens=options.tokens), 0, i) for i, prompt in enumerate(prompts)]
    generator = VLLMServer(
        model=str(options.model),
        command=str(options.vllm),
        arguments=("--dtype", options.dtype, "--enforce-eager", "--max-model-len", str(options.context)),
    )
    queue = Alternating(requests, offline(options, prompts, list(range(options.prompts))), options.repeats)
    generator.serve(queue)
    ratios = []
    for theirs, ours in zip(queue.theirs, queue.ours, strict=True):
        rates = [each["tokens"] / each["seconds"] for each in (theirs, ours)]
        ratios.append(rates[1] / rates[0])
        print(f"LLM.generate {rates[0]:,.1f} tokens/s, through the server {rates[1]:,.1f}, ratio {ratios[-1]:.3f}")
    return {
        "prompts": options.prompts,
        "max_tokens": options.tokens,
        "dtype": options.dtype,
        "offline": queue.theirs,
        "server": queue.ours,
        "ratio_median": round(statistics.median(ratios), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("client", "vllm"))
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--vllm", type=Path, default=Path(".venv-vllm/bin/vllm"))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.what == "vllm" and not options.model:
        parser.error("vllm needs --model")
    load = round(os.getloadavg()[0], 2)
    measured = measure_clients(options) if options.what == "client" else measure_vllm(options)
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "device": f"{platform.machine()} CPU",
        "cores": os.cpu_count(),
        "load_before": load,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("aiohttp", "httpx2")},
        **measured,
    }
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
