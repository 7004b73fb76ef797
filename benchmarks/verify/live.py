"""How a run is watched: a table that fills in a terminal, or one line for each finding in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from benchmarks.verify.outcome import Finding, Status

_COLOURS = {Status.PASS: "green", Status.FAIL: "bold red", Status.PARTIAL: "cyan"}


class Watcher(Protocol):
    """Told of everything that happens."""

    def begin(self, model: str, level: str) -> None: ...

    def advance(self, what: str, count: int, total: int) -> None: ...

    def end(self, model: str, level: str, finding: Finding) -> None: ...


class Silent:
    """For the processes beside the first, and where the output is a document."""

    def begin(self, model: str, level: str) -> None: ...

    def advance(self, what: str, count: int, total: int) -> None: ...

    def end(self, model: str, level: str, finding: Finding) -> None: ...


class Log:
    """One line for each level of each model, as it ends."""

    def begin(self, model: str, level: str) -> None:
        self.start = time.perf_counter()

    def advance(self, what: str, count: int, total: int) -> None: ...

    def end(self, model: str, level: str, finding: Finding) -> None:
        seconds = time.perf_counter() - self.start
        print(f"{finding.status:<20} {model:<32} {level:<7} {finding.summary}  {seconds:.0f} s", flush=True)


class Table:
    """A table of models and levels, and under it a bar with the time left."""

    def __init__(self, models: Sequence[str], levels: Sequence[str]) -> None:
        from rich.console import Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.levels = levels
        self.cells = {model: dict.fromkeys(levels, "") for model in models}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns)
        self.all = self.progress.add_task("all checks", total=len(models) * len(levels))
        self.task, self.what = None, ""
        self.live = Live(get_renderable=lambda: Group(self._table(), self.progress), refresh_per_second=4)

    def _table(self) -> object:
        from rich.table import Table as RichTable

        table = RichTable("model", *self.levels, box=None)
        for model, cells in self.cells.items():
            table.add_row(model, *cells.values())
        return table

    def begin(self, model: str, level: str) -> None:
        self.model, self.level = model, level
        self.cells[model][level] = "…"

    def advance(self, what: str, count: int, total: int) -> None:
        if self.task is None or what != self.what:
            self._drop_bar()
            self.task, self.what = self.progress.add_task(f"{self.model} {what}", total=total), what
        self.progress.advance(self.task, count)

    def end(self, model: str, level: str, finding: Finding) -> None:
        colour = _COLOURS.get(finding.status, "yellow")
        self.cells[model][level] = f"[{colour}]{finding.status}[/]"
        self.progress.advance(self.all)
        self._drop_bar()

    def _drop_bar(self) -> None:
        if self.task is not None:
            self.progress.remove_task(self.task)
        self.task = None


@contextmanager
def watch(models: Sequence[str], levels: Sequence[str], *, silent: bool) -> Iterator[Watcher]:
    """The table where stdout is a terminal and `rich` is installed, the log elsewhere."""
    if silent:
        yield Silent()
        return
    if sys.stdout.isatty():
        try:
            table = Table(models, levels)
        except ImportError:
            print("no live table: rich is not installed: pip install 'resnest-zoo[verify]'", flush=True)
        else:
            with table.live:
                yield table
            return
    yield Log()
