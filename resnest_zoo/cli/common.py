"""What the commands share."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.errors import ConfigError, DataError, LockedError, ZooError, cut

_FILE_SUFFIXES = re.compile(r"\.(jpe?g|png|gif|tiff?|webp|bmp|mp4|mkv|mov|avi|webm|json|txt)", re.IGNORECASE)

if TYPE_CHECKING:
    from resnest_zoo.distributed import World


def guarded(run: Callable[[], int], *, cut_off: Callable[[], int] = lambda: 141) -> int:
    """Run a command and return its exit code; what goes wrong is told in one line.

    Args:
        run: the command, parsing of its arguments included.
        cut_off: the exit code where the reader of standard output went away before the end; by default what
            shells give for SIGPIPE, since work is left undone.
    """
    if sys.stdout is None:  # it was closed before the start
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return run()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _drop_unwritten()
        return cut_off()
    except (ZooError, OSError) as error:
        _drop_unwritten()
        return report(error)
    except (MemoryError, RuntimeError) as error:
        if problem := memory_problem(error):
            return report(problem)
        raise


def _drop_unwritten() -> None:
    """Drop what standard output cannot take: Python would try again at its end, and tell in its own words."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def report(error: Exception | str) -> int:
    """Tell the user of a failure; returns 1, the exit code of one."""
    if isinstance(error, OSError) and not isinstance(error, ZooError) and error.filename is not None:
        error = f"{cut(str(error.filename))}: {error.strerror or error}"
    print(f"error: {error}", file=sys.stderr, flush=True)
    return 1


def memory_problem(error: MemoryError | RuntimeError) -> str:
    """What to tell the user when `error` says that memory ran out; "" when it says something else."""
    # By name, since torch is not loaded for this; the CPU's allocator raises a plain RuntimeError.
    known = ("CUDA out of memory", "can't allocate memory", "not enough memory")
    of_torch = type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in known)
    if not of_torch and not isinstance(error, MemoryError):
        return ""
    return "not enough memory; try --device cpu, a smaller picture, or --set INPUT.MIN_SIZE_TEST=400"


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def sole_run(output: Path, world: World | None = None) -> Iterator[None]:
    """Be the only run in a folder, which is made if it is missing. A run that is dead blocks nobody.

    Args:
        output: the folder.
        world: the processes of the run, which all call this together.

    Raises:
        ConfigError: `output` is a file.
        LockedError: another run lives there.
        OSError: the folder cannot be written.
    """
    from resnest_zoo.hub.locks import locked

    problem: ConfigError | LockedError | OSError | None = None
    with ExitStack() as stack:
        if world is None or world.is_main:
            try:
                _check_folder(output)
                made = not output.exists()
                output.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(output / "run", wait=False))
                if made:
                    stack.callback(_remove_unused, output)  # while the lock is held
            except (ConfigError, LockedError, OSError) as error:
                problem = error
        if world is not None:
            problem = world.broadcast(problem)  # lest the others wait for the first
        if problem is not None:
            raise problem
        yield


def _check_folder(output: Path) -> None:
    """Refuse a file, and what does not exist but is called as one: a folder of that name is hardly meant."""
    if output.is_dir():
        return
    if output.exists() or _FILE_SUFFIXES.fullmatch(output.suffix):
        kind = "is a file" if output.exists() else "is the name of a file"
        raise ConfigError(f"--output {output}: {kind}; results are several files: name a folder for them")


def _remove_unused(output: Path) -> None:
    """Remove the folder of a run that ended before it wrote anything."""
    inside = list(output.iterdir())
    if [path.name for path in inside] == [".run.lock"]:
        with suppress(OSError):  # a system that lets nobody remove open files keeps it
            inside[0].unlink()
            output.rmdir()


def show_warnings() -> None:
    """Let the warnings of the library reach the user."""
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


def print_metrics(title: str, metrics: Mapping[str, float | None]) -> None:
    """A line for each metric, in percent."""
    print(title)
    width = max(map(len, metrics))
    for name, value in metrics.items():
        print(f"  {name:<{width}}  {'none' if value is None else format(value, '6.2f'):>6}", flush=True)


def require_figures(measured: Mapping[Any, Mapping[str, float | None] | None]) -> None:
    """Do nothing when every set has a figure for some class.

    Args:
        measured: the metrics of each set; None where the evaluation was given up.

    Raises:
        DataError: one has none, so that nothing was measured whatever else was printed.
    """
    empty = [
        str(name)
        for name, metrics in measured.items()
        if metrics is not None and all(value is None for key, value in metrics.items() if "/AP-" in key)
    ]
    if empty:
        raise DataError(
            f"{', '.join(empty)}: no class has an object that counts, so that nothing was measured"
        )
