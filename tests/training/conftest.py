from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.small_run import write_pictures


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several would wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four pictures and their annotations."""
    folder = tmp_path_factory.mktemp("pictures") / "set"
    write_pictures(folder)
    return folder
