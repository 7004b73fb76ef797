"""`resnest-zoo serve` under load, beside a bare loop over the same model in the same run.

    python -m benchmarks.serve                                   # a packaged model, 200 requests, 16 at once
    python -m benchmarks.serve --model faster_rcnn_resnet50 --filled --set INPUT.MIN_SIZE_TEST=320

The server is a process of its own. It and the loop `model([x])`, over pictures already decoded, take turns of
`--round` pictures; the ratio is the median over neighbours. Every answer must be a direct call's, or 503. A
burst of more than the queue holds ends it. Both sides have the same number of threads (OMP_NUM_THREADS).
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import requests
import torch

from benchmarks.fill import write_checkpoint
from resnest_zoo.api import Predictor
from resnest_zoo.data import shapes
from resnest_zoo.data.pictures import read_picture
from resnest_zoo.errors import ZooError
from resnest_zoo.inference.visualize import encode_picture
from resnest_zoo.serve.metrics import resident_bytes

_THRESHOLD = 0.05
_FLOOR = 0.9
_PATIENCE = 120.0  # seconds until a server is ready, or has answered
_BURST = 64


@dataclass
class Load:
    """What requests have met.

    Attributes:
        right: answers equal to a direct call's.
        busy: those with 503.
        wrong: all others, in words.
        seconds: of each right answer.
    """

    right: int = 0
    busy: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.right} right, {self.busy} with 503, {len(self.wrong)} wrong"


def draw_pictures(count: int) -> list[bytes]:
    """JPEG files of drawn shapes, of several sizes."""
    from PIL import Image

    sizes = ((240, 320), (320, 240), (256, 256))
    drawn = [shapes.draw(5, k, size=sizes[k % len(sizes)]).image for k in range(count)]
    return [encode_picture(Image.fromarray(image), "JPEG", quality=92) for image in drawn]


@contextmanager
def served(arguments: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Address and process of a server, once its model is ready; it must end by SIGTERM."""
    command = [sys.executable, "-m", "resnest_zoo", "serve", *arguments, "--port", "0", "--only"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "http" not in line:
                raise ZooError(f"expected the server's address, got {line!r}")
            url = line.split()[-1].rstrip("/")
            end = time.monotonic() + _PATIENCE
            while not (health := requests.get(f"{url}/health", timeout=10).json())["models"]:
                if health["status"] == "ok" or time.monotonic() > end or process.poll() is not None:
                    raise ZooError("the server has no model")
                time.sleep(0.1)
            yield url, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    if code != 0:
        raise ZooError(f"the server ended with code {code}")


def ask(url: str, files: Sequence[bytes], expected: Sequence[Any], at_once: int) -> Load:
    """Send every file once, `at_once` at a time, and compare each answer once all are there."""
    sessions: SimpleQueue[requests.Session] = SimpleQueue()
    for _ in range(at_once):
        sessions.put(requests.Session())

    def send(content: bytes) -> tuple[int, bytes, float]:
        session, start = sessions.get(), time.perf_counter()
        answer = session.post(
            f"{url}/predict?score_threshold={_THRESHOLD}",
            data=content,
            headers={"Content-Type": "image/jpeg"},
            timeout=_PATIENCE,
        )
        sessions.put(session)
        return answer.status_code, answer.content, time.perf_counter() - start

    load = Load()
    with ThreadPoolExecutor(at_once) as pool:
        answers = list(pool.map(send, files))
    for (status, content, seconds), rows in zip(answers, expected, strict=True):
        if status == 503:
            load.busy += 1
        elif status == 200 and (difference := compare(content, rows)) is None:
            load.right += 1
            load.seconds.append(seconds)
        else:
            load.wrong.append(f"{status}: {content[:200]!r}" if status != 200 else str(difference))
    return load


def compare(content: bytes, rows: list[dict[str, Any]]) -> str | None:
    """What differs between an answer and the rows of a direct call; None for nothing."""
    import json

    (one,) = json.loads(content)["predictions"]
    given = one["predictions"]
    if len(given) != len(rows):
        return f"expected {len(rows)} rows, got {len(given)}"
    for mine, theirs in zip(given, rows, strict=True):
        if mine != {**theirs, "image_id": mine["image_id"]}:
            return f"expected {str(theirs)[:100]}, got {str(mine)[:100]}"
    return None


def _processor_seconds(process: int) -> float:
    """That a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(args: argparse.Namespace, predictor: Predictor, arguments: list[str]) -> bool:
    """Run both sides in turns and print the table; whether all that must hold holds."""
    files = draw_pictures(args.round)
    tensors = [read_picture(file) for file in files]
    expected = [predictor(file, score_threshold=_THRESHOLD).to_coco() for file in files]
    found = sum(map(len, expected))
    rounds = -(-args.requests // args.round)
    loop, server, memory, spent = [], [], [], []
    total = Load()
    with served(arguments) as (url, process):
        ask(url, files, expected, args.at_once)  # warm
        for _ in range(rounds):
            start, cpu = time.perf_counter(), time.process_time()
            with torch.no_grad():
                for tensor in tensors:
                    predictor.model([tensor])
            loop.append(time.perf_counter() - start)
            cpu, before = time.process_time() - cpu, _processor_seconds(process)
            start = time.perf_counter()
            load = ask(url, files, expected, args.at_once)
            server.append(time.perf_counter() - start)
            spent.append((cpu, _processor_seconds(process) - before))
            memory.append(resident_bytes(str(process)) or 0)
            total.right, total.busy = total.right + load.right, total.busy + load.busy
            total.wrong += load.wrong
            total.seconds += load.seconds
        burst = ask(url, [files[0]] * _BURST, [expected[0]] * _BURST, _BURST)
    ratio = statistics.median(a / b for a, b in zip(loop, server, strict=True))
    latency = sorted(total.seconds) or [0.0]
    middle, late = latency[len(latency) // 2], latency[min(len(latency) - 1, int(0.95 * len(latency)))]
    growth = (statistics.median(memory[-2:]) - memory[0]) / 2**20
    print(f"{args.model}, {found} found in {len(files)} pictures, {torch.get_num_threads()} threads")
    print(f"requests    {total}, {args.at_once} at once; burst of {_BURST}: {burst}")
    print(f"latency     p50 {1000 * middle:.0f} ms, p95 {1000 * late:.0f} ms")
    print(
        f"pictures/s  server {args.round / statistics.median(server):.2f}, loop "
        f"{args.round / statistics.median(loop):.2f}; ratio {ratio:.2f} (at least {_FLOOR})"
    )
    used = statistics.median(theirs / ours for ours, theirs in spent)
    print(f"processor   the server {used:.2f} times the loop's seconds")
    print(f"memory      {memory[0] / 2**20:.0f} MiB after the first round, {growth:+.1f} MiB by the last")
    for problem in [*total.wrong, *burst.wrong][:5]:
        print(f"wrong: {problem}", file=sys.stderr)
    return ratio >= _FLOOR and not total.wrong and not burst.wrong


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mask_rcnn_resnest14_dcn_shapes", metavar="NAME")
    parser.add_argument("--filled", action="store_true", help="with weights defined by their names")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the config")
    parser.add_argument("--batch", metavar="N", help="as of the command")
    parser.add_argument("--requests", type=int, default=200, metavar="N")
    parser.add_argument("--at-once", type=int, default=16, metavar="N")
    parser.add_argument("--round", type=int, default=25, metavar="N", help="pictures of one turn")
    args = parser.parse_args(argv)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    with tempfile.TemporaryDirectory() as folder:
        arguments, options = [args.model], {}
        for pair in args.set:
            arguments += ["--set", pair]
        if args.batch:
            arguments += ["--batch", args.batch]
        if args.filled:
            options["weights"] = write_checkpoint(args.model, Path(folder))
            arguments += ["--weights", str(options["weights"])]
        overrides = [word for pair in args.set for word in pair.split("=", 1)]
        try:
            predictor = Predictor(args.model, score_threshold=_THRESHOLD, overrides=overrides, **options)
            return 0 if measure(args, predictor, arguments) else 1
        except ZooError as error:
            parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
