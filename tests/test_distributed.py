"""Processes that work together: one alone, two over gloo, and how they come together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from resnest_zoo.distributed import World, join
from resnest_zoo.errors import ConfigError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_a_process_without_torchrun_is_a_world_of_one() -> None:
    with join() as world:
        assert world == World(0, 1, 0)
        assert world.is_main
        assert not dist.is_initialized()
        value = {"a": [1]}
        assert world.broadcast(value) is value
        assert world.gather(value) == [value]
        assert world.gather(None) == [None]
        assert world.first(value) is value
        assert world.first(None) is None
        assert world.first("") == ""  # a value, though an empty one


@pytest.mark.parametrize(
    ("world", "asked", "own"),
    [
        (World(), "cuda", "cuda"),
        (World(), "cpu", "cpu"),
        (World(3, 4, 1), "cuda", "cuda:1"),
        (World(3, 4, 1), "cuda:2", "cuda:2"),
        (World(3, 4, 1), "cpu", "cpu"),
    ],
)
def test_of_several_gpus_each_process_has_its_own(world: World, asked: str, own: str) -> None:
    assert world.device(asked) == own


@pytest.mark.parametrize("missing", VARIABLES)
def test_a_missing_variable_of_torchrun_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(VARIABLES) - {missing}:
        monkeypatch.setenv(name, "0")
    with pytest.raises(ConfigError) as caught, join():
        pass
    assert str(caught.value) == (
        f"started as one of several processes, but {missing} not set; start with torchrun"
    )
    assert not dist.is_initialized()


def _only_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that torchrun sets for the first process of one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = ("0", "1", "0", "127.0.0.1", str(port))
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)


def test_the_group_is_left_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _only_process(monkeypatch)
    with pytest.raises(KeyError), join(timedelta(seconds=20)) as world:  # noqa: PT012
        assert world == World(0, 1, 0)
        assert dist.is_initialized()
        raise KeyError
    assert not dist.is_initialized()


_PROGRAM = """
import json, sys
from datetime import timedelta
from resnest_zoo.distributed import join

with join(timedelta(seconds=60)) as world:
    found = {
        "world": [world.rank, world.size, world.local_rank, world.is_main],
        "broadcast": world.broadcast({"from": world.rank, "text": "x" * (10 + 1000 * world.rank)}),
        "gather": world.gather({"rank": world.rank, "size": [0] * world.rank}),
        "none": world.first(None),
        "last": world.first("problem of 1" if world.rank else None),
        "both": world.first(f"problem of {world.rank}"),
    }
    print(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes_exchange_what_they_have(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(2):
        values = (str(rank), "2", str(rank), "127.0.0.1", str(port))
        environment = {**os.environ, **dict(zip(VARIABLES, values, strict=True)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _PROGRAM]
        root = Path(__file__).parents[1]
        pipe = subprocess.PIPE
        processes.append(
            subprocess.Popen(command, env=environment, cwd=root, stdout=pipe, stderr=pipe, text=True)
        )
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    first, second = (json.loads(out) for out, _ in outputs)
    assert first.pop("world") == [0, 2, 0, True]
    assert second.pop("world") == [1, 2, 1, False]
    assert first.pop("gather") == [{"rank": 0, "size": []}, {"rank": 1, "size": [0]}]
    assert second.pop("gather") == []
    expected = {
        "broadcast": {"from": 0, "text": "x" * 10},
        "none": None,
        "last": "problem of 1",
        "both": "problem of 0",
    }
    assert first == second == expected


def test_a_gpu_is_chosen_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of as many as this machine has; a process too many shares one, and fails when it asks for its own."""
    chosen: list[int] = []
    groups: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, timeout: groups.append(backend))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: groups.append("left"))
    monkeypatch.setattr(dist, "get_rank", lambda: 3)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    _only_process(monkeypatch)
    monkeypatch.setenv("LOCAL_RANK", "3")
    with join() as world:
        assert world == World(3, 4, 3)
    assert chosen == [1]
    assert groups == ["cpu:gloo,cuda:nccl", "left"]
