"""Processes of one machine: what they are told, and how they end together."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from resnest_zoo.errors import ConfigError
from resnest_zoo.training import launch as module
from resnest_zoo.training.launch import Machines, is_launched, launch

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", f"import json, os, signal, sys, time\nrank = os.environ['RANK']\n{code}"]


def test_each_process_is_told_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = (
        f"open({str(tmp_path)!r} + '/' + rank, 'w').write(json.dumps([os.environ[k] for k in {VARIABLES}]))"
    )
    assert launch(python(code), Machines(2)) == 0
    told = [json.loads((tmp_path / name).read_text()) for name in ("0", "1")]
    port = told[0][4]
    assert told == [[str(k), str(k), "2", "127.0.0.1", port, "1"] for k in range(2)]
    assert 1024 < int(port) < 65536


def test_ranks_count_over_all_machines() -> None:
    machines = Machines(processes=4, count=3, rank=2, address="tcp://10.0.0.1:29500")
    assert machines.size == 12
    assert machines.environment(1) == {
        "RANK": "9",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
        "WORLD_SIZE": "12",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "29500",
    }


def test_a_failure_ends_the_others_and_is_the_exit_code() -> None:
    started = time.monotonic()
    assert launch(python("sys.exit(7) if rank == '1' else time.sleep(60)"), Machines(3)) == 7
    assert time.monotonic() - started < 30


def test_one_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.3)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('', flush=True)\n"
    code = f"{deaf}time.sleep(1) or sys.exit(3) if rank == '1' else time.sleep(60)"
    assert launch(python(code), Machines(2)) == 3


def test_a_process_killed_from_outside_is_a_failure() -> None:
    code = "os.kill(os.getpid(), signal.SIGKILL) if rank == '0' else time.sleep(60)"
    assert launch(python(code), Machines(2)) == 128 + signal.SIGKILL


def test_sigterm_is_passed_on_and_the_processes_take_their_time(tmp_path: Path) -> None:
    """One that saves longer than the other is not ended by it."""
    code = (
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.2 + float(rank)), "
        f"open({str(tmp_path)!r} + '/saved' + rank, 'w'), sys.exit(143)))\n"
        f"open({str(tmp_path)!r} + '/ready' + rank, 'w')\ntime.sleep(60)"
    )
    before = signal.getsignal(signal.SIGTERM)

    def terminate() -> None:
        while len(list(tmp_path.glob("ready*"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate).start()
    assert launch(python(code), Machines(2)) == 143
    assert {path.name for path in tmp_path.glob("saved*")} == {"saved0", "saved1"}
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("machines", "message"),
    [
        (Machines(1, 2, 2, "tcp://a:1"), "machine rank 2: expected 0 to 1"),
        (Machines(1, 2, 0), "several machines need the address"),
        (Machines(1, 2, 0, "http://a:1"), "expected tcp://HOST:PORT, got 'http://a:1'"),
        (Machines(1, 2, 0, "tcp://a"), "expected tcp://HOST:PORT"),
        (Machines(1, 2, 0, "tcp://a:99999"), "expected tcp://HOST:PORT"),
    ],
)
def test_wrong_numbers_and_addresses_are_refused(machines: Machines, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        launch(python(""), machines)


def test_torchrun_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_launched()
    monkeypatch.setenv("RANK", "0")
    assert is_launched()
