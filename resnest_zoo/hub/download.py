"""From an `Artifact` to a verified file on this machine.

Asked in order: a file the user names, our cache, other programs' caches, mirrors, the artifact's own
addresses. Whatever the source, the bytes are hashed as they arrive, and only a whole and right file appears
in the cache under its name. The first arrival is pinned, see `pins`.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from resnest_zoo.errors import DownloadError, IntegrityError
from resnest_zoo.hub.artifact import Artifact
from resnest_zoo.hub.cache import Content, content_fault, find_fault, read_content
from resnest_zoo.hub.decision import Action, DiskState, decide
from resnest_zoo.hub.lockfile import with_locked_hash
from resnest_zoo.hub.locks import locked
from resnest_zoo.hub.part import CHUNK, Part, partial_size, remove_leftovers
from resnest_zoo.hub.pins import Pin, now, read_pins, stamp_of, write_pin
from resnest_zoo.hub.settings import Settings, read_settings
from resnest_zoo.hub.sources import (
    Source,
    explain_hf,
    find_copies,
    find_sources,
    hf_address,
    hf_token,
    source_of,
    web_address,
)
from resnest_zoo.hub.staging import share
from resnest_zoo.hub.transfer import RefusedError, receive_http
from resnest_zoo.recognition import describe_folder, find_stranger

logger = logging.getLogger(__name__)

# Whether a bar is shown; None for one where stderr is a terminal. Or what is called, in place of a bar, with
# the bytes that are there and with all, None while nobody knows those.
Progress = bool | Callable[[int, int | None], None] | None

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def fetch(artifact: Artifact, *, file: Path | None = None, progress: Progress = None) -> Path:
    """Return the path of the artifact's file, bringing it to this machine first if need be.

    A cached file whose size and time are those of its pin is returned at once; any other is hashed again.
    A damaged one is replaced.

    Args:
        artifact: which file.
        file: take it from this file, checked like any source, and ask no other.
        progress: show a progress bar; None shows one if stderr is a terminal. Or a function, called with
            the bytes that are there and the total, None while that is not known.

    Returns:
        A file that is whole and, as far as hash, size or pin are known, right.

    Raises:
        IntegrityError: a source delivered other bytes than expected and no other source the right ones.
        DownloadError: no source delivered the file, or it could not be written. The message lists every
            source with its reason and says how to place the file by hand.
        ConfigError: a mirror or the settings file is malformed.
    """
    if artifact.path is not None:
        if fault := find_fault(artifact.path, artifact):
            kind = IntegrityError if artifact.path.exists() else DownloadError
            raise kind(f"{artifact.path}, the file of this entry, cannot be used: {fault}")
        return artifact.path
    settings = read_settings()
    target = settings.cache / artifact.filename
    artifact = with_locked_hash(artifact)
    if _is_unchanged(target, artifact, read_pins(settings.cache).get(artifact.filename)):
        return target
    try:
        with _locked(target) as writable:
            return _Fetch(artifact, target, settings, writable, progress, file).run()
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(_cannot_write(target, error)) from error


def _is_unchanged(target: Path, artifact: Artifact, pin: Pin | None) -> bool:
    """Whether the cached file still has the size and time it had when it was last hashed and right."""
    if pin is None or pin.stamp is None or not _pin_agrees(pin, artifact):
        return False
    return pin.stamp == stamp_of(target)


def _pin_agrees(pin: Pin, artifact: Artifact) -> bool:
    return pin.sha256.startswith(artifact.expected_sha256 or "") and artifact.size in (None, pin.size)


def _cannot_write(target: Path, error: OSError) -> str:
    advice = "RESNEST_ZOO_CACHE chooses another folder."
    if error.errno in _FULL:
        advice = "The disk or your quota is full: free some space. " + advice
    return f"{target} cannot be written: {error.strerror or error}. {advice}"


@contextmanager
def _locked(target: Path) -> Iterator[bool]:
    """Hold the right to write `target`, waiting while another process or thread has it.

    Yields:
        Whether the folder can be written at all; if not, nothing is locked.

    Raises:
        OSError: the folder is not there and cannot be made, or can be written and not locked.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    writable = os.access(target.parent, os.W_OK | os.X_OK)
    with locked(target) if writable else nullcontext():
        yield writable


@dataclass
class _Fetch:
    """One file on its way; the caller holds its lock."""

    artifact: Artifact
    target: Path
    settings: Settings
    writable: bool
    progress: Progress
    file: Path | None = None
    pin: Pin | None = None
    failures: dict[Source, DownloadError] = field(default_factory=dict)

    def run(self) -> Path:
        self.pin = read_pins(self.target.parent).get(self.target.name)
        if _is_unchanged(self.target, self.artifact, self.pin):
            return self.target  # another process brought it while we waited for the lock
        if self.pin is not None and not _pin_agrees(self.pin, self.artifact):
            logger.warning("%s: its pin contradicts what is published of it and is dropped", self.target.name)
            self.pin = None
        content, fault = self._inspect()
        if fault is not None and content is not None:
            logger.warning("cached file %s: %s; fetching it again", self.target, fault)
        sources = [] if fault is None else self._find_sources()
        copy = self._find_copy() if fault is not None and self.writable else None
        decision = decide(
            DiskState(
                fault,
                copies=int(copy is not None),
                partial=partial_size(self.target),
                writable=self.writable,
                sources=len(sources),
                offline=self.settings.offline,
            )
        )
        damage = None if content is None else fault
        if decision.action is Action.REFUSE:
            raise self._failure(decision.reason, damage)
        if decision.action is Action.USE:
            assert content is not None
            self._pin(content, "a file that lay in the cache")
        elif decision.action is Action.ADOPT:
            assert copy is not None
            self._adopt(copy)
        else:
            self._download(sources, damage)
        if self.writable:
            self._clean()
        return self.target

    def _find_sources(self) -> list[Source]:
        if self.file is not None:
            return [Source("file", str(self.file))]
        return find_sources(self.artifact, self.settings)

    def _find_copy(self) -> Path | None:
        """A right copy in another program's cache."""
        copies = [] if self.file else find_copies(self.artifact)
        return next((copy for copy in copies if find_fault(copy, self.artifact, self.pin) is None), None)

    def _inspect(self) -> tuple[Content | None, str | None]:
        """The cached file's content if it is there, and what is wrong with it."""
        try:
            content = read_content(self.target)
        except FileNotFoundError:
            return None, "it does not exist"
        except OSError as error:
            return None, f"it cannot be read: {error.strerror}"
        return content, content_fault(content, self.artifact, self.pin)

    def _pin(self, content: Content, source: str) -> None:
        """Pin a first arrival, refresh the stamp of a known one."""
        if self.artifact.expected_sha256 is None and self.pin is None:
            _warn_unverified(self.artifact.filename, content.sha256)
        if self.pin is not None and self.pin.sha256 == content.sha256:
            new = replace(self.pin, stamp=content.stamp)
        else:
            new = Pin(content.sha256, content.size, source, now(), content.stamp)
        if new == self.pin or not self.writable:
            return
        try:
            write_pin(self.target.parent, self.target.name, new)
        except OSError as error:  # the file is right all the same; it is hashed again at the next use
            logger.warning("%s could not be pinned: %s", self.target, error)

    def _adopt(self, copy: Path) -> None:
        """Take over another program's file without a second copy on the disk where that is possible."""
        part = self._adopted
        part.unlink(missing_ok=True)
        try:
            try:
                os.link(copy.resolve(), part)  # of a symbolic link only its goal: the link may vanish
            except OSError:
                shutil.copyfile(copy, part)
                share(part, part.parent)
            content = read_content(part)
            if fault := content_fault(content, self.artifact, self.pin):
                raise IntegrityError(f"{copy} changed while it was adopted: {fault}")
            part.replace(self.target)
        finally:
            part.unlink(missing_ok=True)
        self._pin(content, str(copy))

    @property
    def _adopted(self) -> Path:
        # No name that `Part` takes over: it would write into the other program's file.
        return self.target.with_name(f".{self.target.name}.adopted.part")

    def _clean(self) -> None:
        """Remove what killed processes left behind, now that nothing of it is needed."""
        with suppress(OSError):
            remove_leftovers(self.target)
            self._adopted.unlink(missing_ok=True)

    def _download(self, sources: list[Source], damage: str | None) -> None:
        """Put the first right file any source delivers in place."""
        with Part(self.target) as part:
            for source in sources:
                try:
                    content = self._receive(source, part)
                except DownloadError as error:
                    logger.warning("%s: %s", source, error)
                    self.failures[source] = error
                except OSError as error:
                    if error.errno not in _FULL:
                        raise
                    if not isinstance(error, _NoRoomError):
                        part.restart()  # give the room back
                    logger.warning("%s: %s", source, error)
                    self.failures[source] = DownloadError(_cannot_write(self.target, error))
                else:
                    self._pin(replace(content, stamp=part.finish()), str(source))
                    return
        raise self._failure("", damage)

    def _receive(self, source: Source, part: Part) -> Content:
        """Bring the whole file into `part` and check it."""
        content = self._receive_once(source, part)
        fault = self._fault(content, part)
        if fault and part.joined:
            # Either end may have changed its file between two attempts: once more from the start.
            logger.info("%s: after resuming, %s; starting over", source, fault)
            part.restart()
            content = self._receive_once(source, part)
            fault = self._fault(content, part)
        if fault:
            part.restart()
            raise IntegrityError(fault)
        return content

    def _fault(self, content: Content, part: Part) -> str | None:
        """What is wrong with received bytes, also by what their source says of them."""
        if part.promised not in (None, content.sha256):
            return f"expected SHA-256 {part.promised}, which the source states, got {content.sha256}"
        return content_fault(content, self.artifact, self.pin)

    def _receive_once(self, source: Source, part: Part) -> Content:
        with _Bar(self.artifact, part, self.progress) as bar:
            if source.kind == "http":
                self._receive_http(source.address, part, bar)
            elif source.kind == "hf":
                token = hf_token()
                try:
                    self._receive_http(hf_address(source), part, bar, token)
                except RefusedError as error:
                    raise explain_hf(error, source, with_token=token is not None) from error
            else:
                _copy_file(Path(source.address), part, bar)
        return Content(find_stranger(part.head, part.path), part.size, part.digest.hexdigest())

    def _receive_http(self, url: str, part: Part, bar: _Bar, token: str | None = None) -> None:
        receive_http(
            url,
            part,
            hash_known=self.artifact.expected_sha256 is not None or self.pin is not None,
            size_known=self.artifact.size is not None,
            on_bytes=bar.show,
            token=token,
        )

    def _failure(self, reason: str, damage: str | None) -> DownloadError:
        """One error for all sources, with what to do by hand."""
        artifact = self.artifact
        lines = [f"{artifact.filename} could not be fetched{f': {reason}' if reason else ''}."]
        lines += [f"  {source}: {error}" for source, error in self.failures.items()]
        if damage:
            lines.append(f"  The copy in the cache cannot be used either: {damage}")
        expected = artifact.expected_sha256
        if artifact.sha256 is None and expected is not None:
            expected = f"begins with {expected}"
        if artifact.sha256 is None and self.pin is not None:
            expected = self.pin.sha256
        lines += [
            "Get the file by hand:",
            *(f"  address  {web_address(source_of(url))}" for url in artifact.urls),
            f"  save as  {self.target}",
            f"  SHA-256  {expected or 'not known; compare the file with a copy you trust'}",
            f"or import a copy: resnest-zoo import FILE {artifact.filename}",
            "or set RESNEST_ZOO_MIRROR to an address or folder that has it.",
        ]
        wrong = damage or any(isinstance(error, IntegrityError) for error in self.failures.values())
        return (IntegrityError if wrong else DownloadError)("\n".join(lines))


def _copy_file(path: Path, part: Part, bar: _Bar) -> None:
    """Copy a file on this machine into `part`."""
    try:
        file = path.open("rb")
    except IsADirectoryError as error:
        raise DownloadError(f"expected a checkpoint, got {describe_folder(path)}") from error
    except OSError as error:
        raise DownloadError(str(error.strerror)) from error
    with file:
        part.restart()
        total = os.fstat(file.fileno()).st_size
        bar.show(0, total)
        while True:
            try:
                chunk = file.read(CHUNK)
            except OSError as error:
                raise DownloadError(str(error.strerror)) from error
            if not chunk:
                break
            part.write(chunk)
            bar.show(part.size, total)


class _NoRoomError(OSError):
    """The disk has no room for what is announced; nothing was written yet."""


class _Bar:
    """A progress bar over one transfer; it also stops one that cannot end well."""

    def __init__(self, artifact: Artifact, part: Part, progress: Progress) -> None:
        from tqdm import tqdm

        self.artifact = artifact
        self.part = part
        self.size, self.total = -1, -1  # of the last call
        self.told = progress if callable(progress) else None
        self.bar: tqdm[Any] = tqdm(
            desc=artifact.filename,
            unit="B",
            unit_scale=True,
            disable=None if progress is None else self.told is not None or not progress,
        )

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, size: int, total: int | None) -> None:
        """Set the bar to `size` of `total` bytes.

        Raises:
            IntegrityError: that is another size than the file has.
            OSError: the disk has no room for it.
        """
        expected = self.artifact.size
        if expected is not None and (total not in (None, expected) or size > expected):
            raise IntegrityError(f"expected {expected} bytes, got {total or size}")
        if self.size < 0 or size < self.size:  # a start: resumed bytes are shown, but are no speed
            self.bar.reset(total)
            self.bar.initial = self.bar.n = size
            self.bar.refresh()
        else:
            self.bar.update(size - self.size)
        self.size = size
        if self.told is not None:
            self.told(size, total)
        if total is not None and total != self.total:
            self.total = total
            free = shutil.disk_usage(self.part.path.parent).free
            if total - size > free:
                raise _NoRoomError(errno.ENOSPC, f"{total - size:,} bytes to come, {free:,} bytes free")


@cache
def _warn_unverified(filename: str, sha256: str) -> None:
    """Warn once per process and file."""
    logger.warning(
        "%s: no SHA-256 of it is published, so nobody can verify this first arrival; it is pinned as %s",
        filename,
        sha256,
    )
