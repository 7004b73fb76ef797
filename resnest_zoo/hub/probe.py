"""Whether files could be had, asked without moving them: one HEAD request for each file and source."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resnest_zoo.errors import DownloadError
from resnest_zoo.hub import transfer
from resnest_zoo.hub.artifact import Artifact
from resnest_zoo.hub.sources import Source, explain_hf, hf_address, hf_token

_TIMEOUT = (5.0, 10.0)  # seconds: to connect, and between two arrivals of data
_REDIRECTS = 5
_WORKERS = 4  # for each host


@dataclass(frozen=True)
class Probe:
    """What one source says of one file.

    Attributes:
        artifact: the file.
        source: who was asked.
        problem: why the file cannot be had from there; None if it can.
        size: bytes, as far as the source says.
        modified: when the source's file was last changed, as it says it.
        seconds: how long the answer took.
    """

    artifact: Artifact
    source: Source
    problem: str | None = None
    size: int | None = None
    modified: str | None = None
    seconds: float = 0.0


def probe_all(asked: Sequence[tuple[Artifact, Source]], *, limit: float = 60.0) -> list[Probe]:
    """Ask each source about each file, several at a time.

    Args:
        asked: files with sources, as `find_sources` names them; it leaves out what is forbidden offline.
        limit: seconds after which whoever has not answered counts as silent.

    Returns:
        One answer for each, in their order.
    """
    late = f"no answer within {limit:.0f} s"
    found = [Probe(artifact, source, late, seconds=limit) for artifact, source in asked]
    answers: queue.SimpleQueue[tuple[int, Probe]] = queue.SimpleQueue()
    waiting: dict[str, deque[int]] = {}
    for index, (_, source) in enumerate(asked):
        waiting.setdefault(_host(source), deque()).append(index)

    def work(indices: deque[int]) -> None:
        while True:
            try:
                index = indices.popleft()
            except IndexError:
                return
            answers.put((index, probe(*asked[index])))

    # Each host has workers of its own: one that never ends its answer keeps nobody waiting for the others.
    # They are daemons, so that whoever is still waiting at the end keeps no process alive.
    for indices in waiting.values():
        for _ in range(min(_WORKERS, len(indices))):
            threading.Thread(target=work, args=(indices,), daemon=True).start()
    end = time.monotonic() + limit
    for _ in asked:
        try:
            index, answer = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        found[index] = answer
    return found


def _host(source: Source) -> str:
    return source.kind if source.kind != "http" else source.address.split("/")[2]


def probe(artifact: Artifact, source: Source) -> Probe:
    """Ask one source about one file."""
    start = time.monotonic()
    answer = Probe(artifact, source)
    try:
        if source.kind == "file":
            status = Path(source.address).stat()
            answer = replace(answer, size=status.st_size, modified=_date(status.st_mtime))
        else:
            answer = _ask(answer)
        answer = replace(answer, problem=_size_problem(answer))
    except DownloadError as error:
        answer = replace(answer, problem=str(error))
    except OSError as error:  # of a folder on this machine
        answer = replace(answer, problem=error.strerror or str(error))
    return replace(answer, seconds=time.monotonic() - start)


def _ask(answer: Probe) -> Probe:
    source = answer.source
    url, token = source.address, None
    if source.kind == "hf":
        url, token = hf_address(source), hf_token()
    try:
        headers = transfer.ask_head(url, token, timeout=_TIMEOUT, redirects=_REDIRECTS)
    except transfer.RefusedError as error:
        if source.kind == "hf":
            raise explain_hf(error, source, with_token=token is not None) from error
        raise
    length = headers.get("Content-Length", "").strip()
    size = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
    return replace(answer, size=size, modified=headers.get("Last-Modified"))


def _size_problem(answer: Probe) -> str | None:
    expected = answer.artifact.size
    if answer.size == 0:
        return "the file there is empty"
    if None not in (expected, answer.size) and expected != answer.size:
        return f"expected {expected:,} bytes, the file there has {answer.size:,}"
    return None


def _date(seconds: float) -> str:
    from email.utils import formatdate

    return formatdate(seconds, usegmt=True)
