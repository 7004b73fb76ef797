"""Whatever goes wrong: the right file or none, nothing that looks whole and is not, and the next run works.

`docs/faults.md` lists what was seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnest_zoo.errors import DownloadError, RegistryError, ZooError
from resnest_zoo.hub import Artifact, cache_dir, fetch, transfer
from resnest_zoo.hub.pins import read_pins
from tests.hub.processes import Fetcher, on_small_disk, without_privileges
from tests.hub.samples import BODY, NAME, SHA, make_artifact, unfinished_files, unhashed, visible_files
from tests.servers import Fault, FileServer, Reply

HTML = Reply(b"<!DOCTYPE html><p>Sign in", headers={"Content-Type": "text/html"})
WRONG = BODY[:-1] + b"!"
OLD = b"\x80old" + BODY[4:]
LENGTH = str(len(BODY))
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals, modes or limits")


@pytest.fixture
def served(server: FileServer) -> FileServer:
    assert server.folder is not None
    (server.folder / NAME).write_bytes(BODY)
    return server


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(transfer, "_sleep", waited.append)
    monkeypatch.setattr(transfer, "_TIMEOUT", (5.0, 0.5))
    return waited


def check_cache() -> None:
    """The right file or none, and nothing else that users would see."""
    assert visible_files() in ([], [NAME])
    if visible_files():
        assert (cache_dir() / NAME).read_bytes() == BODY


def check_next_run(server: FileServer, *, hashed: bool = True) -> None:
    server.script.clear()
    server.replies.clear()
    server.always = Fault()
    artifact = make_artifact(server) if hashed else unhashed(server)
    assert fetch(artifact, progress=False).read_bytes() == BODY
    check_cache()
    assert unfinished_files() == []
    assert read_pins(cache_dir())[NAME].sha256 == SHA


# --- The server misbehaves ---------------------------------------------------------------------------------

SURVIVED: dict[str, list[Reply | Fault]] = {
    "500 then 200": [Reply(status=500)],
    "429 with Retry-After": [Reply(status=429, headers={"Retry-After": "1"})],
    "truncated body": [Fault(after=1_000_000)],
    "reset in mid-body": [Fault(after=1_000_000, how="reset")],
    "reset before the first byte": [Fault(after=0, how="reset")],
    "stall": [Fault(after=1_000_000, how="stall")],
    "range ignored": [Fault(after=1_000_000), Fault(ignore_range=True)],
    "range one byte late": [Fault(after=1_000_000), Fault(shift=1)],
    "range one byte early": [Fault(after=1_000_000), Fault(shift=-1)],
    "range one byte short": [Fault(after=1_000_000), Fault(short=1)],
    "range not there": [Fault(after=1_000_000), Reply(status=416)],
    "changed file between attempts": [Reply(OLD[:1_000_000], headers={"ETag": '"old"'}, length=LENGTH)],
    "changed file, If-Range ignored": [
        Reply(OLD[:1_000_000], headers={"ETag": '"old"'}, length=LENGTH),
        Fault(ignore_if_range=True),
    ],
    "announced length too long": [Reply(BODY, length=len(BODY) + 9)],
    "everything": [
        Reply(status=503),
        Fault(after=400_000, how="reset"),
        Fault(after=400_000),
        Fault(shift=1),
        Fault(after=1_500_000, how="stall"),
        Fault(ignore_range=True, after=2_000_000),
        Reply(status=429),
    ],
}
REPORTED = {
    "403": Reply(status=403),
    "404": Reply(status=404),
    "410": Reply(status=410),
    "always 500": Reply(status=500),
    "always truncated": Reply(BODY[:-1], length=len(BODY)),
    "always stalls": Reply(BODY, stall_after=100_000),
    "429 for an hour": Reply(status=429, headers={"Retry-After": "3600"}),
    "HTML with 200": HTML,
    "HTML without saying so": Reply(b"\n<html>Sign in</html>"),
    "empty body": Reply(),
    "redirect loop": Reply(status=302, headers={"Location": f"/{NAME}"}),
    "redirect to nowhere": Reply(status=302, headers={"Location": "http://"}),
    "range unasked": Reply(BODY, status=206),
}
CAUGHT_BY_THE_HASH = {
    "wrong bytes of the right length": Reply(WRONG),
    "announced length too short": Reply(BODY, length=len(BODY) - 1),
    "no Content-Length, cut short": Reply(BODY[:-1], length=""),
    "appended byte": Reply(BODY + b"!"),
    "JSON with 200": Reply(b'{"error": "no such bucket"}'),
}


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("name", SURVIVED)
def test_a_passing_fault_is_survived(
    served: FileServer, pauses: list[float], name: str, hashed: bool
) -> None:
    served.script[f"/{NAME}"] = list(SURVIVED[name])
    artifact = make_artifact(served) if hashed else unhashed(served)
    assert fetch(artifact, progress=False).read_bytes() == BODY
    check_cache()
    assert unfinished_files() == []
    check_next_run(served, hashed=hashed)


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("name", REPORTED)
def test_a_lasting_fault_is_reported(
    served: FileServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch, name: str, hashed: bool
) -> None:
    served.replies[f"/{NAME}"] = REPORTED[name]
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_TIMEOUT", (5.0, 0.1))
        with pytest.raises(DownloadError, match=f"http.*/{NAME}: "):
            fetch(make_artifact(served) if hashed else unhashed(served), progress=False)
    assert visible_files() == []
    check_next_run(served, hashed=hashed)


@pytest.mark.parametrize("name", CAUGHT_BY_THE_HASH)
def test_wrong_bytes_are_refused(served: FileServer, pauses: list[float], name: str) -> None:
    served.replies[f"/{NAME}"] = CAUGHT_BY_THE_HASH[name]
    with pytest.raises(DownloadError, match="expected"):
        fetch(make_artifact(served), progress=False)
    assert visible_files() == unfinished_files() == []
    check_next_run(served)


def test_a_body_without_length_arrives(served: FileServer, pauses: list[float]) -> None:
    served.replies[f"/{NAME}"] = Reply(BODY, length="")
    assert fetch(make_artifact(served), progress=False).read_bytes() == BODY
    check_next_run(served)


def test_a_trickle_is_given_up_and_continued_by_the_next_run(
    served: FileServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(0, 10**7, 21))  # seconds; nobody waits for them
    served.always = Fault(pace=0.01, block=1000)
    with monkeypatch.context() as slow:
        slow.setattr(transfer, "_clock", lambda: float(next(times)))
        with pytest.raises(DownloadError, match="too slow"):
            fetch(make_artifact(served), progress=False)
    assert visible_files() == []
    check_next_run(served)
    assert str(served.ranges(f"/{NAME}")[-1]).startswith("bytes=")


# --- Processes die, meet and are limited -------------------------------------------------------------------


def kill_and_run_again(server: FileServer, rounds: int, *, hashed: bool) -> int:
    """Kill a process at random points of its transfer; after each, a new run succeeds.

    Returns:
        How many of the following runs continued what they found.
    """
    dice = random.Random(rounds)
    known = SHA[:8] if hashed else ""
    resumed = 0
    for _ in range(rounds):
        server.always = Fault(pace=0.004)  # 42 blocks
        fetcher = Fetcher(f"{server.url}/{NAME}", known).go()
        time.sleep(dice.uniform(0, 0.25))
        fetcher.process.send_signal(signal.SIGKILL)
        fetcher.end()
        check_cache()
        asked = len(server.requests)
        check_next_run(server, hashed=hashed)
        resumed += any("Range" in request.headers for request in server.requests[asked:])
        for path in cache_dir().iterdir():
            path.unlink()
    return resumed


@posix
def test_a_killed_process_is_survived(served: FileServer) -> None:
    kill_and_run_again(served, 4, hashed=True)


@posix
@pytest.mark.slow
def test_50_killed_processes_are_survived(served: FileServer) -> None:
    assert kill_and_run_again(served, 50, hashed=True) > 10
    assert kill_and_run_again(served, 10, hashed=False) == 0


# Ends the process before the N-th thing it does to the cache's folder. Writes and flushes raise no event.
_DIE = """
left = {number}
def watch(event, args):
    global left
    if event in ("open", "os.rename", "os.remove", "os.truncate", "os.mkdir") and {folder!r} in str(args[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
"""


def die_at(server: FileServer, number: int) -> bool:
    """Whether a process that would die at its N-th step got through; after it, a new run succeeds."""
    setup = _DIE.format(number=number, folder=str(cache_dir()))
    server.script[f"/{NAME}"] = [Fault(after=1_000_000)]  # so that it resumes too
    status, output = Fetcher(f"{server.url}/{NAME}", SHA[:8], setup).go().end()
    assert status in (0, -signal.SIGKILL), output
    check_cache()
    check_next_run(server)
    for path in cache_dir().iterdir():
        path.unlink()
    cache_dir().rmdir()
    return status == 0


@posix
def test_death_at_some_steps_is_survived(served: FileServer) -> None:
    assert not any(die_at(served, number) for number in (3, 6, 9))


@posix
@pytest.mark.slow
def test_death_at_every_step_is_survived(served: FileServer) -> None:
    steps = next(number for number in range(1, 100) if die_at(served, number))
    assert steps > 12


@posix
def test_an_interrupted_process_leaves_what_the_next_continues(
    served: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for hashed in (True, False):
        served.always = Fault(after=500_000, how="stall")
        fetcher = Fetcher(f"{served.url}/{NAME}", SHA[:8] if hashed else "").go()
        deadline = time.monotonic() + 20
        while not any(path.stat().st_size > 300_000 for path in unfinished_files()):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        fetcher.process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in fetcher.end()[1]
        part, note = sorted(unfinished_files(), key=lambda path: path.suffix, reverse=True)
        size = part.stat().st_size
        assert 300_000 < size < len(BODY)
        assert note.suffix == ".json"
        served.always = Fault()
        artifact = make_artifact(served) if hashed else unhashed(served)
        assert fetch(artifact, progress=True).read_bytes() == BODY
        assert served.ranges(f"/{NAME}")[-1] == f"bytes={size}-"
        bars = capsys.readouterr().err
        assert f"{100 * size / len(BODY):.0f}%" in bars  # the first bar counts what was there
        check_next_run(served, hashed=hashed)
        (cache_dir() / NAME).unlink()
        (cache_dir() / "pins.json").unlink()


@posix
@pytest.mark.parametrize("number", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_processes_share_one_transfer(served: FileServer, number: int) -> None:
    served.always = Fault(pace=0.005)
    fetchers = [Fetcher(f"{served.url}/{NAME}", SHA[:8]) for _ in range(number)]
    for fetcher in fetchers:
        fetcher.go()
    path = str(cache_dir() / NAME)
    assert [fetcher.end() for fetcher in fetchers] == [(0, f"{path}\n")] * number
    assert served.paths == [f"/{NAME}"]
    check_next_run(served)


@posix
def test_a_killed_holder_of_the_lock_blocks_nobody(served: FileServer) -> None:
    served.script[f"/{NAME}"] = [Fault(after=1_000_000, how="stall")]
    holder = Fetcher(f"{served.url}/{NAME}", SHA[:8]).go()
    waiter = Fetcher(f"{served.url}/{NAME}", SHA[:8])
    while not served.requests:
        time.sleep(0.005)
    waiter.go()
    time.sleep(0.2)
    assert waiter.process.poll() is None
    holder.process.kill()
    holder.end()
    assert waiter.end() == (0, f"{cache_dir() / NAME}\n")
    check_next_run(served)


_LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))"


@posix
def test_a_quota_is_reported_and_leaves_nothing(served: FileServer) -> None:
    status, output = Fetcher(f"{served.url}/{NAME}", SHA[:8], _LIMIT).go().end()
    assert (status, "cannot be written: File too large. The disk or your quota is full" in output) == (
        1,
        True,
    )
    assert visible_files() == unfinished_files() == []
    check_next_run(served)


@posix
@pytest.mark.parametrize("announced", [True, False])
def test_a_full_disk_is_reported(served: FileServer, announced: bool) -> None:
    if not announced:
        served.replies[f"/{NAME}"] = Reply(BODY, length="")
    before = on_small_disk(cache_dir(), "1m")
    status, output = Fetcher(f"{served.url}/{NAME}", SHA[:8], before=before).go().end()
    reason = "2,700,000 bytes to come" if announced else "No space left on device"
    assert (status, f"cannot be written: {reason}" in output) == (1, True), output
    check_next_run(served)


# --- The cache ----------------------------------------------------------------------------------------------


@posix
def test_a_read_only_cache_serves_what_it_holds(served: FileServer) -> None:
    path = fetch(make_artifact(served), progress=False)
    other = f"other-{SHA[:8]}.pth"
    try:
        cache_dir().chmod(0o500)
        before = without_privileges()
        assert Fetcher(f"{served.url}/{NAME}", SHA[:8], before=before).go().end() == (0, f"{path}\n")
        status, output = Fetcher(f"{served.url}/{other}", SHA[:8], before=before).go().end()
        assert (status, "the cache cannot be written" in output) == (1, True)
        path.chmod(0o600)
        path.write_bytes(WRONG)
        status, output = Fetcher(f"{served.url}/{NAME}", SHA[:8], before=before).go().end()
        assert (status, "its copy cannot be used: expected SHA-256" in output) == (1, True)
    finally:
        cache_dir().chmod(0o700)
    assert served.paths == [f"/{NAME}"]
    check_next_run(served)


@posix
def test_a_read_only_cache_without_pins_serves_what_it_holds(served: FileServer) -> None:
    path = fetch(make_artifact(served), progress=False)
    for other in cache_dir().iterdir():
        if other != path:
            other.unlink()
    try:
        cache_dir().chmod(0o500)
        fetcher = Fetcher(f"{served.url}/{NAME}", SHA[:8], before=without_privileges())
        assert fetcher.go().end() == (0, f"{path}\n")
    finally:
        cache_dir().chmod(0o700)
    assert list(cache_dir().iterdir()) == [path]


@posix
def test_a_cache_that_cannot_be_made_is_explained(
    served: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = cache_dir().parent / "outer"
    outer.mkdir(mode=0o500)
    monkeypatch.setenv("RESNEST_ZOO_CACHE", str(outer / "cache"))
    status, output = Fetcher(f"{served.url}/{NAME}", SHA[:8], before=without_privileges()).go().end()
    assert (status, "Permission denied. RESNEST_ZOO_CACHE chooses another" in output) == (1, True), output
    outer.chmod(0o700)
    check_next_run(served)


def test_a_cache_that_is_a_file_is_explained(served: FileServer) -> None:
    cache_dir().write_bytes(b"a file")
    with pytest.raises(DownloadError, match="RESNEST_ZOO_CACHE chooses another"):
        fetch(make_artifact(served))
    assert cache_dir().read_bytes() == b"a file"
    cache_dir().unlink()
    check_next_run(served)


def test_a_folder_in_the_place_of_the_file_is_explained(served: FileServer) -> None:
    (cache_dir() / NAME).mkdir(parents=True)
    with pytest.raises(DownloadError, match="Is a directory"):
        fetch(make_artifact(served))
    (cache_dir() / NAME).rmdir()
    check_next_run(served)


def test_blanks_and_letters_of_any_alphabet_in_the_path(
    served: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RESNEST_ZOO_CACHE", str(tmp_path / "my cache é 雪" / "'quoted' [x]*"))
    served.script[f"/{NAME}"] = [Fault(after=1_000_000), Reply(status=404)]
    with pytest.raises(DownloadError, match="404"):
        fetch(make_artifact(served), progress=False)
    check_next_run(served)
    assert served.ranges(f"/{NAME}")[-1] == "bytes=1000000-"


def test_a_clock_that_goes_backwards_changes_nothing(
    served: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch(make_artifact(served), progress=False)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    fetch(make_artifact(served), progress=False)
    os.utime(path, ns=(0, 1))
    check_next_run(served)
    assert served.paths == [f"/{NAME}"]


# --- Hostile names ------------------------------------------------------------------------------------------

HOSTILE = ["../m.pth", "/etc/m.pth", "a/../../m.pth", "a\\..\\m.pth", "m\0.pth", "m" * 300, "..", "pins.json"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_reach_no_disk(tmp_path: Path, name: str) -> None:
    """In zoo files, lock files and wherever else a name comes from: all become an `Artifact`."""
    from resnest_zoo.hub.lockfile import read_lock

    with pytest.raises(RegistryError):
        Artifact(name)
    lock = tmp_path / "zoo.lock.json"
    lock.write_text(json.dumps({"files": {name: {"sha256": SHA, "size": 5}}}))
    with pytest.raises(RegistryError):
        read_lock(lock)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_a_zoo_file_are_refused(tmp_path: Path, name: str) -> None:
    from resnest_zoo.zoo.zoo_file import read_zoo

    row = {"task": "backbone", "weights": "https://127.0.0.1:9/m.pth", "filename": name}
    (tmp_path / "zoo.yaml").write_text(json.dumps({"evil": row}))
    with pytest.raises(ZooError):
        read_zoo(tmp_path / "zoo.yaml")


@pytest.mark.slow
@posix
def test_the_command_line_survives_an_interruption(served: FileServer, tmp_path: Path) -> None:
    """`resnest-zoo download` of a zoo file's entry: Ctrl-C, then the same command again."""
    zoo = tmp_path / "zoo.yaml"
    row = {"task": "backbone", "weights": f"{served.url}/{NAME}", "sha256": hashlib.sha256(BODY).hexdigest()}
    zoo.write_text(json.dumps({"mine": row}))
    environment = {**os.environ, "RESNEST_ZOO_FILE": str(zoo), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "resnest_zoo", "download", "mine"]
    served.always = Fault(after=500_000, how="stall")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not any(path.stat().st_size > 300_000 for path in unfinished_files()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    served.always = Fault()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert str(cache_dir() / NAME) in done.stdout
    assert str(served.ranges(f"/{NAME}")[-1]).startswith("bytes=")
