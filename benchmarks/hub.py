"""Speed of the hub against the tools everybody has, side by side on this machine.

    python -m benchmarks.hub            # a table
    python -m benchmarks.hub --check    # exit status 1 if a floor is missed

    download      `fetch` of one file, hashed and flushed to the disk, against `curl -o` (which does neither)
    verification  hashing all files of a cache, in parallel, against `sha256sum`, in parallel too
    warm fetch    `fetch` of a file that is there, seconds
    list          `resnest-zoo list` against `python -c pass`

Both sides of a row take turns within one run; a ratio is that of two neighbours, and the table shows the
median of the ratios, the worst tenth, and each side's own times. The server is a process of its own that
hands the file to the kernel (`os.sendfile`), so that it is not what is measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resnest_zoo.hub import Artifact, fetch, find_fault
from resnest_zoo.hub.pins import Pin, now, write_pin

_PINS = 26  # entries of the zoo


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        ours: seconds of each round.
        theirs: likewise; None compares with a number of seconds alone.
        floor: the ratio that must be reached: how many times as fast as theirs, or the seconds allowed.
    """

    name: str
    ours: list[float]
    theirs: list[float] | None
    floor: float

    @property
    def ratios(self) -> list[float]:
        """How many times as fast, each round."""
        pairs = zip(self.ours, self.theirs or [], strict=True)
        return [theirs / ours for ours, theirs in pairs]

    @property
    def passed(self) -> bool:
        if self.theirs is None:
            return statistics.median(self.ours) <= self.floor
        return statistics.median(self.ratios) >= self.floor

    def line(self) -> str:
        cells = [f"{self.name:<14}", _times(self.ours), _times(self.theirs) if self.theirs else " " * 19]
        if self.theirs is None:
            cells.append(f"{'':>15}{'≤ ' + _seconds(self.floor):>10}")
        else:
            low = _percentile(self.ratios, 0.1)
            cells.append(f"{statistics.median(self.ratios):7.2f} {low:7.2f}{'≥ ' + f'{self.floor:.2f}':>10}")
        return "  ".join([*cells, "met" if self.passed else "MISSED"])


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _seconds(value: float) -> str:
    return f"{1000 * value:.3g} ms"


def _times(values: list[float]) -> str:
    return f"{_seconds(statistics.median(values)):>9} {_seconds(_percentile(values, 0.9)):>9}"


def _turns(rounds: int, ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[list[float], ...]:
    """Seconds of both, in turns; the first round warms up and does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for seconds, act in zip(times, (ours, theirs), strict=True):
            start = time.perf_counter()
            act()
            seconds.append(time.perf_counter() - start)
    return times[0][1:], times[1][1:]


def serve(path: Path) -> None:
    """Print a port, then answer every request on it with the file."""
    size = path.stat().st_size
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()

    def answer(connection: socket.socket) -> None:
        with connection, path.open("rb") as file:
            connection.recv(1 << 16)
            connection.sendall(head)
            sent = 0
            while sent < size:
                sent += os.sendfile(connection.fileno(), file.fileno(), sent, size - sent)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


@contextmanager
def _serving(path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.hub", "--serve", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/model.pth"
        finally:
            server.kill()


def measure_download(folder: Path, size: int, rounds: int) -> Row:
    source, copy = folder / "served.pth", folder / "curl.pth"
    source.write_bytes(b"\x80" + os.urandom(size - 1))
    artifact_hash = hashlib.sha256(source.read_bytes()).hexdigest()
    cache = Path(os.environ["RESNEST_ZOO_CACHE"])

    def ours() -> None:
        (cache / "model.pth").unlink(missing_ok=True)
        fetch(artifact, progress=False)

    def theirs() -> None:
        copy.unlink(missing_ok=True)
        subprocess.run(["curl", "-sSf", "-o", str(copy), url], check=True)

    with _serving(source) as url:
        artifact = Artifact("model.pth", (url,), sha256=artifact_hash, size=size)
        row = Row("download", *_turns(rounds, ours, theirs), 0.8)
    source.unlink()
    copy.unlink()
    return row


def measure_verification(folder: Path, size: int, rounds: int) -> Row:
    """Eight files of an eighth of the size each."""
    jobs = os.cpu_count() or 1
    artifacts = []
    for number in range(8):
        body = b"\x80" + os.urandom(size // 8)
        path = folder / f"{number}.pth"
        path.write_bytes(body)
        artifacts.append((path, Artifact(path.name, sha256=hashlib.sha256(body).hexdigest())))
    names = "\0".join(str(path) for path, _ in artifacts)

    def ours() -> None:
        with ThreadPoolExecutor(jobs) as pool:
            assert not any(pool.map(lambda pair: find_fault(*pair), artifacts))

    def theirs() -> None:
        command = ["xargs", "-0", "-n", "1", "-P", str(jobs), "sha256sum"]
        subprocess.run(command, input=names, text=True, check=True, stdout=subprocess.DEVNULL)

    return Row("verification", *_turns(rounds, ours, theirs), 0.9)


def measure_warm_fetch(folder: Path, rounds: int) -> Row:
    """In a cache with a pin for every entry of the zoo."""
    cache = Path(os.environ["RESNEST_ZOO_CACHE"])
    for number in range(_PINS):
        write_pin(cache, f"mask_cascade_rcnn_ResNeSt_{number}.pth", Pin("0" * 64, 5, "https://host", now()))
    body = b"\x80" + os.urandom(1000)
    (folder / "warm.pth").write_bytes(body)
    artifact = Artifact("warm.pth", sha256_prefix=hashlib.sha256(body).hexdigest()[:8])
    fetch(artifact, file=folder / "warm.pth")
    times, _ = _turns(100 * rounds, lambda: fetch(artifact), lambda: None)
    return Row("warm fetch", times, None, 0.001)


def measure_list(folder: Path, rounds: int) -> Row:
    # Compiled once, as the files of an installed package are.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(*arguments: str) -> Callable[[], object]:
        command = [sys.executable, *arguments]
        return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)

    pair = _turns(2 * rounds, run("-m", "resnest_zoo", "list"), run("-c", "pass"))
    return Row("list", *pair, 1 / 5)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--size", type=int, default=400, metavar="MB", help="of the file; default 400")
    parser.add_argument("--rounds", type=int, default=9, help="default 9")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a floor is missed")
    parser.add_argument("--json", action="store_true", help="print the times as JSON")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
    for tool in ("curl", "sha256sum", "xargs"):
        if shutil.which(tool) is None:
            parser.error(f"{tool} is not installed")
    with tempfile.TemporaryDirectory(prefix="hub-") as name:
        folder = Path(name)
        for variable in [v for v in os.environ if v.startswith("RESNEST_ZOO_")]:
            del os.environ[variable]
        os.environ["RESNEST_ZOO_CACHE"] = str(folder / "cache")
        size = args.size * 10**6
        rows = [
            measure_download(folder, size, args.rounds),
            measure_verification(folder, size, args.rounds),
            measure_warm_fetch(folder, args.rounds),
            measure_list(folder, args.rounds),
        ]
    if args.json:
        print(json.dumps([vars(row) for row in rows]))
    else:
        print(f"{'':<14}  {'ours':>9} {'p90':>9}  {'theirs':>9} {'p90':>9}    ratio     p10     floor")
        print("\n".join(row.line() for row in rows))
    return int(args.check and not all(row.passed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
