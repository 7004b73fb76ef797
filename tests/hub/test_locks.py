from __future__ import annotations

import errno
import logging
import os
import re
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import SoftFileLease

from resnest_zoo.errors import LockedError
from resnest_zoo.hub import cache_dir, fetch, locks
from resnest_zoo.hub.locks import locked
from resnest_zoo.hub.pins import read_pins
from tests.hub.processes import ROOT, Fetcher, without_privileges
from tests.hub.samples import BODY, NAME, SHA, make_artifact, visible_files
from tests.servers import FileServer

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX locks and modes")
ABSENT = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]
_HOLD = """
import sys, time
from pathlib import Path
from resnest_zoo.hub import locks
{setup}
with locks.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
_NO_FLOCK = """
import fcntl
def refuse(*_):
    raise OSError({number}, "no locks")
fcntl.flock = refuse
"""


def refuse_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, "no locks")


@pytest.fixture(params=[None, *ABSENT], ids=["flock", *(errno.errorcode[number] for number in ABSENT)])
def setup(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system with locks, and three without; the code that does the same to another process."""
    if request.param is None:
        return ""
    if sys.platform == "win32":
        pytest.skip("has no flock")

    def refuse(*_: object) -> None:
        raise OSError(request.param, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(locks, "_POLL", 0.001)
    return _NO_FLOCK.format(number=request.param)


def hold(path: Path, setup: str) -> subprocess.Popen[str]:
    """Another process that holds the lock until it is killed."""
    command = [sys.executable, "-c", _HOLD.format(setup=setup), str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_one_holds_it_and_the_others_wait(tmp_path: Path, setup: str) -> None:
    inside, most = [], []

    def work() -> None:
        with locked(tmp_path / "x"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.005)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1] * 5
    assert {path.name for path in tmp_path.iterdir()} <= {".x.lock"}


def test_a_second_holder_that_will_not_wait_is_told_who_is_first(tmp_path: Path, setup: str) -> None:
    with (
        locked(tmp_path / "run"),
        pytest.raises(
            LockedError,
            match=rf"^{re.escape(str(tmp_path))}: process {os.getpid()} on .* is at work here; wait",
        ),
        locked(tmp_path / "run", wait=False),
    ):
        pytest.fail("both held it")
    with locked(tmp_path / "run", wait=False):
        pass


@posix
def test_a_killed_holder_blocks_nobody(tmp_path: Path, setup: str) -> None:
    process = hold(tmp_path / "run", setup)
    with pytest.raises(LockedError, match=f"process {process.pid}"), locked(tmp_path / "run", wait=False):
        pytest.fail("both held it")
    process.kill()
    process.communicate()
    with locked(tmp_path / "run"):
        pass


def test_without_locks_that_is_said_once(
    tmp_path: Path, setup: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with locked(tmp_path / "x"):
            pass
    said = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == bool(setup)
    assert all("locks cannot be used here (no locks)" in line for line in said)


@pytest.fixture
def lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftFileLease:
    """The lease that serves where the system's locks do not, with a short life."""
    monkeypatch.setattr(locks, "_LEASE", 0.3)
    return SoftFileLease(tmp_path / ".x.lock.held", lease_duration=locks._LEASE)


def test_a_lease_from_elsewhere_holds_until_it_is_no_longer_renewed(
    tmp_path: Path, lease: SoftFileLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = Path(lease.lock_file)
    with lease:
        note = re.sub(rb"host=.*", b"host=elsewhere", mark.read_bytes())
        aside = tmp_path / "aside"
        aside.write_bytes(note)
    aside.rename(mark)
    monkeypatch.setattr("fcntl.flock", refuse_locks)
    with (
        pytest.raises(LockedError, match=f"process {os.getpid()} on elsewhere is at work"),
        locked(tmp_path / "x", wait=False),
    ):
        pytest.fail("both held it")
    with locked(tmp_path / "x"):
        assert b"elsewhere" not in mark.read_bytes()
    assert not mark.exists()


def test_an_error_of_the_work_is_not_blamed_on_the_lock(tmp_path: Path, setup: str) -> None:
    with pytest.raises(OSError, match="mine") as caught, locked(tmp_path / "x"):
        raise OSError(errno.ENOLCK, "mine")
    assert caught.value.__context__ is None
    assert {path.name for path in tmp_path.iterdir()} <= {".x.lock"}


def test_a_folder_that_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(tmp_path / "none" / "x"):
        pytest.fail("it held a lock nowhere")


@posix
@pytest.mark.parametrize(("folder", "file"), [(0o700, 0o600), (0o755, 0o600), (0o770, 0o660), (0o777, 0o666)])
def test_a_lock_file_is_for_whoever_may_write_its_folder(tmp_path: Path, folder: int, file: int) -> None:
    tmp_path.chmod(folder)
    before = os.umask(0o077)
    try:
        with locked(tmp_path / "x"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ".x.lock").stat().st_mode) == file


@pytest.fixture
def shared(tmp_path: Path) -> list[str]:
    """A cache that another user made and both may write; what goes before a command to be the second user."""
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("needs root to make another user's files")
    before = without_privileges()
    cache_dir().mkdir()
    cache_dir().chmod(0o2770)
    os.chown(cache_dir(), 2001, os.getegid())
    return before


def give_away(mode: int | None = None) -> None:
    """Make all files of the cache another user's."""
    for path in cache_dir().iterdir():
        os.chown(path, 2001, 2001 if mode is not None else -1)
        if mode is not None:
            path.chmod(mode)


@pytest.mark.parametrize(
    "mode", [None, pytest.param(0o644, marks=pytest.mark.slow), pytest.param(0o600, marks=pytest.mark.slow)]
)
def test_two_users_share_one_cache(server: FileServer, shared: list[str], mode: int | None) -> None:
    """Files as this version writes them, as older ones did, and as they did under a strict umask."""
    assert server.folder is not None
    (server.folder / NAME).write_bytes(BODY)
    (server.folder / "second.pth").write_bytes(BODY)
    fetch(make_artifact(server), progress=False)
    with locked(cache_dir() / "second.pth"):
        pass
    (cache_dir() / ".second.pth.01234567.part").write_bytes(BODY[:1000])
    give_away(mode)
    if mode == 0o600:  # then nobody but its owner can use it
        (cache_dir() / "pins.json").unlink()
    status, output = Fetcher(f"{server.url}/{NAME}", SHA[:8], before=shared).go().end()
    assert (status, str(cache_dir() / NAME) in output) == (0, True), output
    status, output = Fetcher(f"{server.url}/second.pth", SHA[:8], before=shared).go().end()
    assert (status, str(cache_dir() / "second.pth") in output) == (0, True), output
    assert server.paths == [f"/{NAME}"] * (2 if mode == 0o600 else 1) + ["/second.pth"]
    assert visible_files() == [NAME, "second.pth"]
    assert set(read_pins(cache_dir())) == {NAME, "second.pth"}
    for path in cache_dir().iterdir():
        assert path.stat().st_mode & stat.S_IRGRP or path.suffix == ".lock", path
    assert not list(cache_dir().glob(".*.part"))


def test_a_user_who_cannot_lock_is_served_what_is_right(server: FileServer, shared: list[str]) -> None:
    assert server.folder is not None
    (server.folder / NAME).write_bytes(BODY)
    path = fetch(make_artifact(server), progress=False)
    (cache_dir() / "pins.json").unlink()
    give_away(0o644)
    (cache_dir() / f".{NAME}.lock").chmod(0o000)
    status, output = Fetcher(f"{server.url}/{NAME}", SHA[:8], before=shared).go().end()
    assert (status, str(path) in output) == (0, True), output
    assert "locks cannot be used here (Permission denied)" in output
    assert len(server.paths) == 1
