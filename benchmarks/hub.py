"""Speed of the hub against the tools everybody has, side by side on this machine.

    python -m benchmarks.hub            # a table
    python -m benchmarks.hub --check    # exit status 1 if a floor is missed

    download      `fetch` of one file, hashed and flushed to the disk, against `curl -o` (which does neither)
    verification  hashing all files of a cache, in parallel, against `sha256sum`, in parallel too
    warm fetch    `fetch` of a file that is there, seconds
    list          `resnest-zoo list` against `python -c pass`

How times and ratios are taken: `benchmarks/ratios.py`. The server is a process of its own that hands the file
to the kernel (`os.sendfile`), so that it is not what is measured.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ratios import Row, add_options, report, turns
from resnest_zoo.cli.common import processors
from resnest_zoo.hub import Artifact, fetch, find_fault
from resnest_zoo.hub.pins import Pin, now, write_pin

_PINS = 26  # entries of the zoo


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
        row = Row("download", *turns(rounds, ours, theirs), 0.8)
    source.unlink()
    copy.unlink()
    return row


def measure_verification(folder: Path, size: int, rounds: int) -> Row:
    """Eight files of an eighth of the size each."""
    jobs = processors()
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

    return Row("verification", *turns(rounds, ours, theirs), 0.9)


def measure_warm_fetch(folder: Path, rounds: int) -> Row:
    """In a cache with a pin for every entry of the zoo."""
    cache = Path(os.environ["RESNEST_ZOO_CACHE"])
    for number in range(_PINS):
        write_pin(cache, f"mask_cascade_rcnn_ResNeSt_{number}.pth", Pin("0" * 64, 5, "https://host", now()))
    body = b"\x80" + os.urandom(1000)
    (folder / "warm.pth").write_bytes(body)
    artifact = Artifact("warm.pth", sha256_prefix=hashlib.sha256(body).hexdigest()[:8])
    fetch(artifact, file=folder / "warm.pth")
    times, _ = turns(100 * rounds, lambda: fetch(artifact), lambda: None)
    return Row("warm fetch", times, None, 0.001)


def measure_list(folder: Path, rounds: int) -> Row:
    # Compiled once, as the files of an installed package are.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(*arguments: str) -> Callable[[], object]:
        command = [sys.executable, *arguments]
        return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)

    pair = turns(2 * rounds, run("-m", "resnest_zoo", "list"), run("-c", "pass"))
    return Row("list", *pair, 1 / 5)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--size", type=int, default=400, metavar="MB", help="of the file; default 400")
    add_options(parser)
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
    return report(rows, args)


if __name__ == "__main__":
    sys.exit(main())
