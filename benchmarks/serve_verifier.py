"""How much ``agent-rl serve-verifier`` answers on a loopback address; prints one JSON line.

Run: ``python benchmarks/serve_verifier.py [--workers 2] [--clients 32] [--requests 2000]``

``request_ms`` is the median of requests of one sample, one after the other; ``small`` are requests
of one sample from ``--clients`` connections at once, with batching and without (``--max-batch 1``);
``large`` are requests of 1,000 samples from two connections; ``remote`` is ``score_many`` with the
verifier ``remote``; ``here`` is ``score_many`` with the verifier itself in one process. Server,
clients and workers share the processors of this machine. The verifier is ``math``; the samples are
two sentences with a boxed number, half of them right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from rl_verifiers import make, score_many

JSON = {"Content-Type": "application/json"}


def samples(n: int) -> tuple[list[str], list[dict[str, Any]]]:
    """Answers of a few sentences, and their rows."""
    texts = [
        f"First we add {i} and {i + 1}. That gives {2 * i + 1}, so the answer is "
        f"\\boxed{{{2 * i + 1 + i % 2}}}."
        for i in range(n)
    ]
    return texts, [{"id": i, "answer": str(2 * i + 1)} for i in range(n)]


@contextmanager
def serving(workers: int, *options: str) -> Iterator[str]:
    words = ["--verifier", "math", "--workers", str(workers), "--port", "0", "--json", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "agent_rl.cli", "serve-verifier", *words],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        yield json.loads(process.stderr.readline())["url"]
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


async def requests_per_s(url: str, bodies: Sequence[bytes], clients: int) -> float:
    """All bodies sent, each connection one after the other; over bare sockets, to be cheap."""
    left = iter(bodies)
    host, _, port = url.removeprefix("http://").partition(":")
    head = f"POST /score HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"

    async def send() -> None:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 26)
        for content in left:
            writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            length = answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            await reader.readexactly(int(length))
        writer.close()
        await writer.wait_closed()

    start = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(clients)))
    return len(bodies) / (time.perf_counter() - start)


def body(texts: Sequence[str], rows: Sequence[dict[str, Any]]) -> bytes:
    return json.dumps({"completions": texts, "rows": rows}).encode()


def median_ms(url: str, bodies: Sequence[bytes]) -> float:
    times = []
    with httpx.Client(trust_env=False) as client:
        for content in bodies:
            start = time.perf_counter()
            client.post(f"{url}/score", content=content, headers=JSON).raise_for_status()
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def per_second(verifier: Any, texts: list[str], rows: list[dict[str, Any]]) -> float:
    start = time.perf_counter()
    passed = sum(score.passed for score in score_many(verifier, texts, rows))
    seconds = time.perf_counter() - start
    assert passed == sum(index % 2 == 0 for index in range(len(rows))), passed
    return len(rows) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="requests per second of serve-verifier")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=2000)
    arguments = parser.parse_args()
    texts, rows = samples(arguments.requests)
    small = [body([text], [row]) for text, row in zip(texts, rows, strict=True)]
    many, many_rows = samples(20_000)
    large = [body(many[i : i + 1000], many_rows[i : i + 1000]) for i in range(0, len(many), 1000)]
    result: dict[str, Any] = {"workers": arguments.workers}
    with serving(arguments.workers) as url:
        median_ms(url, small[:200])  # everything is imported now
        result["request_ms"] = round(median_ms(url, small[:500]), 2)
        rate = asyncio.run(requests_per_s(url, small, arguments.clients))
        result["small_requests_per_s"] = round(rate)
        rate = asyncio.run(requests_per_s(url, large, 2))
        result["large_samples_per_s"] = round(rate * 1000)
        remote = make("remote", url=url)
        remote.prepare()
        result["remote_samples_per_s"] = round(per_second(remote, many, many_rows))
    with serving(arguments.workers, "--max-batch", "1") as url:
        median_ms(url, small[:200])
        rate = asyncio.run(requests_per_s(url, small, arguments.clients))
        result["small_unbatched_per_s"] = round(rate)
    verifier = make("math")
    per_second(verifier, many, many_rows)
    result["here_samples_per_s"] = round(per_second(verifier, many, many_rows))
    result["processors"] = os.cpu_count()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
