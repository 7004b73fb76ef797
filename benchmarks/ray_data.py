"""What Ray Data costs and survives: a job of many pictures on a cluster of this machine with two workers.

    python -m benchmarks.ray_data --photos DIR            # all three, some minutes
    python -m benchmarks.ray_data --photos DIR overhead   # or one: proof, overhead, memory

proof     600 photographs, repeated from DIR, by a packaged model. A worker and then the driver is killed, the
          job resumed; one file is no picture, one picture kills its process. Every picture has one row, equal
          to one process' to the last digit, and every file that is ever seen is whole.
overhead  processor time of all of Ray's processes for a picture beyond the start, which is what 64 more
          pictures take, beside two processes that do nothing but predict as many at the same time.
memory    peak of the driver for 1,000, 10,000 and 100,000 rows of a stub.

Exit status 1 where a row is wrong, or the overhead is above `MOST`. Needs Linux and the extra `ray`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import torch

from tests.ray_driver import ROOT, children, run_killed, started
from tests.ray_job import Deadly

MODEL = "mask_rcnn_resnest14_dcn_shapes"
LARGE = ["INPUT.MIN_SIZE_TEST", "900", "INPUT.MAX_SIZE_TEST", "1500"]  # half a second a picture, or more
MOST = 1.15
COUNT, FEW, MORE = 600, 64, 128  # few enough to be soon done, and work for both workers
_TICK = os.sysconf("SC_CLK_TCK")
_LONGEST = 1200  # seconds of one job

_BARE = """
import sys, time, torch
from tests.ray_job import Deadly
torch.set_num_threads(1)
predictor = Deadly(sys.argv[1], None, sys.argv[2].split())
names = sys.argv[3:]
list(predictor.stream(names[:1], errors="yield"))
start = time.process_time()
for result in predictor.stream(names, errors="yield"):
    result.instances.boxes.tolist()
print(time.process_time() - start)
"""


def repeat(photos: list[Path], count: int, folder: Path) -> Path:
    """A folder of links to photographs, `count` in all."""
    folder.mkdir()
    for number, photo in enumerate(islice(cycle(photos), count)):
        (folder / f"{number:04d}.jpg").symlink_to(photo)
    return folder


def prove(photos: list[Path], folder: Path) -> bool:
    """Whether a job that is killed has the rows of one process."""
    from resnest_zoo.integrations.ray import read_predictions
    from resnest_zoo.integrations.ray.rows import error_row, row_of

    pictures = repeat(photos, COUNT - 1, folder / "pictures")
    (pictures / "0300.jpg").unlink()
    (pictures / "0300.jpg").write_text("no picture")
    (pictures / "0007-kills.jpg").symlink_to(photos[0])
    start = time.monotonic()
    words = [str(pictures), str(folder / "found"), "--config", MODEL, "--part-rows", "40"]
    read = run_killed(words, folder / "found", folder / "log")
    seconds = time.monotonic() - start
    rows = {row["id"]: row for row in read_predictions(folder / "found").rows()}
    names = sorted(path.name for path in pictures.iterdir())
    once = sorted(name for part in read.values() for name in part) == sorted(rows) == names
    torch.set_num_threads(1)
    left = [name for name in names if "kills" not in name]
    results = Deadly(MODEL, None, []).stream([str(pictures / name) for name in left], errors="yield")
    other = []
    for name, result in zip(left, results, strict=True):
        failed = name == "0300.jpg"
        expected = error_row(name, result.error) if failed else row_of(name, result.instances)
        row = {key: value for key, value in rows[name].items() if key not in ("model", "weights")}
        if row != {key: list(v) if isinstance(v, tuple) else v for key, v in expected.items()}:
            other.append(name)
    killed = rows["0007-kills.jpg"]["error"]
    found = sum(len(row["scores"]) for row in rows.values())
    size = sum(path.stat().st_size for path in (folder / "found").glob("*.parquet"))
    print(f"proof: {len(rows)} rows of {len(names)} pictures, each once: {once}; {len(other)} other than one")
    print(f"  process'; {found} instances, {size / len(rows):.0f} bytes a row; {len(read)} files, all whole")
    print(f"  0300.jpg: {rows['0300.jpg']['error'][-70:]}\n  0007-kills.jpg: {killed}\n  {seconds:.0f} s")
    return once and not other and killed is not None


class Spent(NamedTuple):
    """Seconds of a job: of its workers, of the driver, of Ray's services and idle processes, by the clock."""

    workers: float
    driver: float
    services: float
    clock: float

    @property
    def all(self) -> float:
        return self.workers + self.driver + self.services


def job_seconds(words: list[str], log: Path) -> Spent:
    """Processor time of a job and of every process that it has started, looked at ten times a second."""
    spent: dict[int, float] = {}
    busy: set[int] = set()
    begin = time.monotonic()
    with started(words, log) as job:
        while job.process.poll() is None and time.monotonic() < begin + _LONGEST:
            job.seen |= children(job.process.pid)
            busy |= {
                pid for pid, name in job.seen.items() if "MapWorker" in name
            }  # called otherwise when idle
            for pid in (job.process.pid, *job.seen):
                spent[pid] = max(spent.get(pid, 0.0), _seconds(pid))
            time.sleep(0.1)
        if job.process.poll() != 0:
            raise SystemExit(f"the job failed:\n{log.read_text()[-3000:]}")
    driver = spent.pop(job.process.pid)
    workers = sum(spent[pid] for pid in busy)
    return Spent(workers, driver, sum(spent.values()) - workers, time.monotonic() - begin)


def _seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def compare(photos: list[Path], folder: Path) -> bool:
    """Whether a picture costs little more than in a bare loop."""
    spent: dict[int, Spent] = {}
    for count in (FEW, MORE):
        pictures = repeat(photos, count, folder / f"{count}")
        words = [str(pictures), str(folder / f"found-{count}"), "--config", MODEL, "--set", *LARGE]
        spent[count] = job_seconds(words, folder / "log")
    names = [str(photo) for photo in islice(cycle(photos), FEW, MORE)]
    bare = [
        subprocess.Popen(
            [sys.executable, "-c", _BARE, MODEL, " ".join(LARGE), *names[half::2]],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for half in range(2)
    ]
    alone = sum(float(process.communicate(timeout=_LONGEST)[0]) for process in bare) / len(names)
    count = MORE - FEW
    workers, driver, services, clock = (
        (more - few) / count for few, more in zip(spent[FEW], spent[MORE], strict=True)
    )
    picture = workers + driver + services
    # What Ray does beside the workers goes by the clock, which others on the machine make longer.
    quiet = workers + (driver + services) / clock * workers / 2
    print(f"overhead: {picture:.3f} s of processor time a picture beyond the start, bare {alone:.3f},")
    print(
        f"  ratio {picture / alone:.3f}: workers {workers:.3f}, driver {driver:.3f}, others {services:.3f},"
    )
    print(f"  in {clock:.3f} s by the clock; on a machine where two workers are never kept waiting it")
    print(f"  would be {quiet:.3f}, ratio {quiet / alone:.3f}")
    print(f"  the start and {FEW} pictures: {spent[FEW].all:.1f} s")
    return picture <= MOST * alone


def watch_memory(folder: Path) -> bool:
    """Print the driver's peak for more and more rows."""
    for count in (1_000, 10_000, 100_000):
        source = folder / f"{count}.txt"
        source.write_text("".join(f"/pictures/{number:09d}.jpg\n" for number in range(count)))
        log = folder / f"log-{count}"
        spent = job_seconds([str(source), str(folder / f"rows-{count}")], log)
        last = log.read_text().splitlines()[-1]
        print(
            f"memory: {count:7,} rows: {last}; {spent.all:.0f} s of processor time of all processes",
            flush=True,
        )
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help="proof, overhead, memory; default: all")
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="photographs, .jpg")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    photos = sorted(args.photos.resolve().glob("*.jpg"))
    if not photos:
        parser.error(f"no photographs (.jpg) in {args.photos}")
    parts = {"proof": prove, "overhead": compare, "memory": lambda _, folder: watch_memory(folder)}
    fine = True
    for name in args.parts or parts:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["HOME"] = folder  # where Ray keeps the token of its cluster
            fine &= parts[name](photos, Path(folder))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
