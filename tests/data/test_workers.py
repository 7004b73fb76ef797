from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import count, islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from resnest_zoo.data import workers
from resnest_zoo.data.workers import count_workers, outlive_signals, read_ahead
from resnest_zoo.errors import ImageError, WorkerError


class Made(NamedTuple):
    key: int
    parts: list[dict[str, Tensor]]


def make(key: int) -> Made:
    whole = torch.full((3, 50, 40), key, dtype=torch.uint8)
    return Made(key, [{"whole": whole, "view": whole[:, ::2], "none": torch.zeros(0, 4)}])


def check(found: list[Made], keys: list[int]) -> None:
    assert [made.key for made in found] == keys
    for made in found:
        (parts,) = made.parts
        (expected,) = make(made.key).parts
        assert all(torch.equal(parts[name], value) for name, value in expected.items())


@pytest.fixture(autouse=True)
def processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3}, raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


def test_no_more_workers_than_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [count_workers(wanted) for wanted in (0, 1, 4)] == [0, 1, 2]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(9)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert [count_workers(wanted) for wanted in (0, 1, 4)] == [0, 1, 2]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert [count_workers(wanted) for wanted in (0, 1, 4)] == [0, 1, 1]


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_keys_are_made_in_their_order(wanted: int) -> None:
    check(list(read_ahead(make, range(5, 12), wanted)), list(range(5, 12)))
    check(list(islice(read_ahead(make, count(), wanted), 4)), [0, 1, 2, 3])
    assert list(read_ahead(make, [], wanted)) == []


def refuse_the_third(key: int) -> Made:
    if key == 3:
        raise ImageError("3.png: not a picture")
    return make(key)


@pytest.mark.parametrize("wanted", [0, 2])
def test_a_problem_is_raised_as_it_is_after_what_came_before(wanted: int) -> None:
    reader = read_ahead(refuse_the_third, range(6), wanted)
    check(list(islice(reader, 3)), [0, 1, 2])
    with pytest.raises(ImageError, match=r"^3\.png: not a picture$"):
        next(reader)


# Shared memory


@pytest.mark.parametrize("way", ["measured", "taken meanwhile"])
def test_where_shared_memory_is_too_small_pipes_serve_and_a_note_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    def full(self: Tensor) -> Tensor:
        if way == "measured":
            pytest.fail("it was measured to be too small, and used")
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </x>: No space left on device (28)"
        )

    free = {"measured": 8 * 11_000.0, "taken meanwhile": 1e12}[way]  # a picture and its view take 12,000
    monkeypatch.setattr(workers, "_free_shared_memory", lambda: free)
    monkeypatch.setattr(Tensor, "share_memory_", full)
    workers._say_that_pipes_serve.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            check(list(read_ahead(make, range(5), 2)), list(range(5)))
    (note,) = (record.getMessage() for record in caplog.records)
    assert note.startswith("/dev/shm has only ")
    assert "--shm-size" in note


def test_with_enough_of_it_tensors_are_shared() -> None:
    (made,) = read_ahead(make, [7], 1)
    assert made.parts[0]["whole"].is_shared()


def test_another_error_than_a_lack_of_room_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Tensor) -> Tensor:
        raise RuntimeError("by accident")

    monkeypatch.setattr(Tensor, "share_memory_", fail)
    with pytest.raises(RuntimeError, match="by accident"):
        workers._pack(make(0))


_REAL = """
from tests.data.test_workers import check, make_large, read_ahead
import logging
logging.basicConfig()
found = [(made.key, int(made.parts[0]["whole"][-1].min())) for made in read_ahead(make_large, range(8), 2)]
assert found == [(key, key) for key in range(8)], found
print("all came")
"""


def make_large(key: int) -> Made:
    return Made(key, [{"whole": torch.full((3, 1000, 1000), key, dtype=torch.uint8)}])


@pytest.mark.slow
def test_a_real_file_system_of_shared_memory_that_is_too_small_does_not_stop_the_workers() -> None:
    mount = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount")
    run = [*command, sys.executable, "-W", "error", "-c", _REAL]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.stdout == "all came\n", done.stderr
    assert "/dev/shm has only 1 MB free" in done.stderr


def test_where_no_semaphores_can_be_made_there_are_no_workers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("multiprocessing.Lock", refuse)
    with caplog.at_level(logging.WARNING):
        check(list(read_ahead(make, range(3), 2)), [0, 1, 2])
    assert "no worker processes, pictures are read in between: no semaphores here" in caplog.text


def test_where_workers_cannot_be_started_for_lack_of_room_there_are_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </x>: No space left on device (28)"
        )

    monkeypatch.setattr(workers.DataLoader, "__iter__", refuse)
    with caplog.at_level(logging.WARNING):
        check(list(read_ahead(make, range(3), 2)), [0, 1, 2])
    assert "no worker processes, pictures are read in between: unable to allocate" in caplog.text


_NOT_FORKED = """
import multiprocessing
from itertools import count
from tests.data.test_workers import make, read_ahead
if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    reader = read_ahead(make, count(), 1)
    print(next(reader).key)
"""


@pytest.mark.slow
@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="no such method")
def test_workers_that_a_server_forks_end_with_the_program(tmp_path: Path) -> None:
    """As Python 3.14 starts them: their parent by number is the server, not the program."""
    script = tmp_path / "script.py"
    script.write_text(_NOT_FORKED)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


# Deaths


def die_at_the_third(key: int) -> Made:
    if key == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return make(key)


def test_a_worker_that_the_system_ends_is_named() -> None:
    with pytest.raises(
        WorkerError, match=r"\(pid \d+\) was ended by SIGKILL, as .* memory runs out"
    ) as caught:
        list(read_ahead(die_at_the_third, range(6), 1))
    assert "\n" not in str(caught.value)


def test_a_death_is_told_when_the_next_result_is_asked_for_and_never_before() -> None:
    reader = read_ahead(make, count(), 1)
    next(reader)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while worker.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)  # the signal arrives in here
    with pytest.raises(WorkerError, match=f"pid {worker.pid}"):
        next(reader)


def _wait(ready: Event) -> None:
    outlive_signals(0)
    ready.set()
    time.sleep(60)


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the system does not tell who sent a signal")
def test_a_worker_ends_for_its_parent_alone() -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_wait, args=(ready,), daemon=True)
    worker.start()
    try:
        assert ready.wait(30)
        for number in (signal.SIGINT, signal.SIGTERM):
            subprocess.run(["kill", f"-{int(number)}", str(worker.pid)], check=True)
        worker.join(0.3)
        assert worker.is_alive()
        worker.terminate()  # as multiprocessing does at exit, which then waits without end
        worker.join(30)
        assert not worker.is_alive()
    finally:
        worker.kill()
