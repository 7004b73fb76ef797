"""`verify` in a process of its own, on the mini data set, and killed where a test says so.

python -m tests.verify.driver SETTINGS ARGUMENTS...
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.verify import command, datasets, prediction
from resnest_zoo.registry import Entry, register


@dataclass(frozen=True)
class DriverSettings:
    """What another process has to know.

    Attributes:
        entries: to register.
        sizes: in place of `datasets.COCO_SIZES`.
        counts: in place of `datasets._VAL2017`.
        kill_after: end by SIGKILL in the middle of a record, when so many are written; 0 for never.
    """

    entries: tuple[Entry, ...]
    sizes: dict[str, int]
    counts: tuple[int, int]
    kill_after: int = 0

    def save(self, folder: Path) -> Path:
        path = folder / f"driver{self.kill_after}.pickle"
        path.write_bytes(pickle.dumps(self))
        return path


class _KilledRecords(prediction.Records):
    left = 0

    def append(self, rows: list[dict[str, Any]]) -> int:
        if _KilledRecords.left <= 0:
            with self._file.open("ab") as file:
                file.write(f'{rows[0]["image_id"]} {{"image_id":{rows[0]["image_id"]},"detec'.encode())
            os.kill(os.getpid(), signal.SIGKILL)
        _KilledRecords.left -= len(rows)
        return super().append(rows)


def main(settings_file: str, *argv: str) -> int:
    settings: DriverSettings = pickle.loads(Path(settings_file).read_bytes())
    for entry in settings.entries:
        register(entry)
    datasets.COCO_SIZES = settings.sizes
    datasets._VAL2017 = settings.counts
    if settings.kill_after:
        _KilledRecords.left = settings.kill_after
        prediction.Records = _KilledRecords  # type: ignore[misc]
    torch.set_num_threads(1)
    return command.main(argv)


if __name__ == "__main__":
    from tests.verify import driver  # the module of which the settings were pickled

    sys.exit(driver.main(*sys.argv[1:]))
