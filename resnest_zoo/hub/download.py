"""From an `Artifact` to a verified file on this machine.

Sources are asked in order: a file known to lie on this machine, the cache, the mirrors of
`RESNEST_ZOO_MIRROR`, the artifact's own URLs. Whatever the source, the bytes are hashed as they arrive, and
only a whole and right file appears in the cache.

Environment:
    RESNEST_ZOO_MIRROR: comma-separated mirrors, each an http(s):// or file:// address of a folder, or a
        folder's path. A mirror holds the files under their plain names.
    RESNEST_ZOO_OFFLINE: if set to anything but 0, false, no or off, no request is made.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnest_zoo.errors import ConfigError, DownloadError, IntegrityError
from resnest_zoo.hub.artifact import Artifact
from resnest_zoo.hub.cache import CHUNK, HEAD, bytes_fault, cached_path, find_fault, locked, staged

if TYPE_CHECKING:
    import requests
    from tqdm import tqdm

logger = logging.getLogger(__name__)

_TIMEOUT = (10.0, 60.0)  # seconds: to connect, and between two arrivals of data


def fetch(artifact: Artifact, *, progress: bool | None = None) -> Path:
    """Return the path of the artifact's file, downloading it when it is not on this machine.

    A file in the cache is hashed again before it is returned, when its hash is known; a damaged one is
    downloaded afresh and replaced.

    Args:
        artifact: which file.
        progress: show a progress bar; None shows one if stderr is a terminal.

    Returns:
        A file that is whole and, as far as the artifact knows hash and size, right.

    Raises:
        IntegrityError: a source delivered other bytes than expected and no other source the right ones.
        DownloadError: no source delivered the file, or it could not be written. The message lists every
            source with its reason and says how to place the file by hand.
        ConfigError: `RESNEST_ZOO_MIRROR` names something that cannot be a mirror.
    """
    if artifact.path is not None:
        if fault := find_fault(artifact.path, artifact):
            kind = IntegrityError if artifact.path.exists() else DownloadError
            raise kind(f"{artifact.path}, the file of this entry, cannot be used: {fault}")
        return artifact.path
    if artifact.expected_sha256 is None:
        _warn_unverified(artifact.filename)
    target = cached_path(artifact)
    if find_fault(target, artifact) is None:
        return target
    sources = _sources(artifact)
    if not sources:
        raise _failure(artifact, target, {})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target):
            if fault := find_fault(target, artifact):  # else another process has just brought it
                if target.exists():
                    logger.warning("cached file %s: %s; fetching it again", target, fault)
                _download(artifact, sources, target, progress)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"{target} cannot be written: {error}. RESNEST_ZOO_CACHE chooses another folder."
        ) from error
    return target


def _sources(artifact: Artifact) -> list[str]:
    """Addresses and paths to ask, in order; only paths when offline."""
    mirrors = [entry.strip() for entry in os.environ.get("RESNEST_ZOO_MIRROR", "").split(",")]
    sources = [_in_mirror(mirror, artifact.filename) for mirror in mirrors if mirror]
    sources += artifact.urls
    return [source for source in sources if not (_is_offline() and _is_http(source))]


def _in_mirror(mirror: str, filename: str) -> str:
    if _is_http(mirror):
        from urllib.parse import quote

        return f"{mirror.rstrip('/')}/{quote(filename)}"
    if mirror.lower().startswith("file://"):
        from urllib.request import url2pathname

        return str(Path(url2pathname(mirror[len("file://") :])) / filename)
    if "://" in mirror:
        raise ConfigError(
            f"RESNEST_ZOO_MIRROR: {_public(mirror)!r} cannot be a mirror; "
            "expected http(s)://host/path, file:///path or a folder, separated by commas"
        )
    return str(Path(mirror).expanduser() / filename)


def _is_http(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _is_offline() -> bool:
    return os.environ.get("RESNEST_ZOO_OFFLINE", "").lower() not in ("", "0", "false", "no", "off")


def _public(source: str) -> str:
    """The source without a user name and password, for logs and messages."""
    return re.sub(r"(?<=://)[^/\s]*@", "", source)


def _download(artifact: Artifact, sources: list[str], target: Path, progress: bool | None) -> None:
    """Put the first right file any source delivers at `target`."""
    failures: dict[str, DownloadError] = {}
    for source in sources:
        try:
            with staged(target) as part:
                _receive(source, artifact, part, progress)
        except DownloadError as error:
            logger.warning("%s: %s", _public(source), error)
            failures[source] = error
        else:
            return
    raise _failure(artifact, target, failures)


def _receive(source: str, artifact: Artifact, part: Path, progress: bool | None) -> None:
    """Write the bytes of one source to `part`, and check them.

    Raises:
        DownloadError: the source failed; IntegrityError, if what it delivered is wrong.
        OSError: `part` cannot be written, which no other source would change.
    """
    from hashlib import sha256

    digest, head, size = sha256(), b"", 0
    opened = _open_http(source) if _is_http(source) else _open_file(source)
    with opened as (total, chunks), part.open("xb") as file, _bar(artifact, total, progress) as bar:
        if None not in (total, artifact.size) and total != artifact.size:
            raise IntegrityError(f"expected {artifact.size} bytes, got {total}")
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            head += chunk[: HEAD - len(head)]
            size += len(chunk)
            bar.update(len(chunk))
    if total not in (None, size):
        raise DownloadError(f"cut off after {size} of {total} bytes")
    if fault := bytes_fault(artifact, head, size, digest.hexdigest()):
        raise IntegrityError(fault)


_Opened = tuple[int | None, Iterator[bytes]]  # number of bytes if known, and the bytes in pieces


@contextmanager
def _open_http(url: str) -> Iterator[_Opened]:
    import requests

    try:
        with requests.get(
            url,
            stream=True,
            timeout=_TIMEOUT,
            headers={"User-Agent": "resnest_zoo", "Accept-Encoding": "identity"},
            hooks={"response": _refuse_downgrade},
        ) as response:
            if response.status_code != requests.codes.ok:
                raise DownloadError(f"HTTP {response.status_code} {response.reason}")
            if response.headers.get("Content-Type", "").lower().startswith("text/html"):
                raise IntegrityError("expected a checkpoint, got a page of HTML")
            length = response.headers.get("Content-Length", "")
            known = length.isdigit() and "Content-Encoding" not in response.headers
            yield int(length) if known else None, response.iter_content(CHUNK)
    except requests.RequestException as error:
        cause = getattr(error.args[0] if error.args else None, "reason", error)  # without urllib3's wrapping
        raise DownloadError(f"{type(error).__name__}: {_public(str(cause))}") from error


def _refuse_downgrade(response: requests.Response, **_: Any) -> None:
    """Stop a redirect that would leave https: anyone on the way could then change the bytes."""
    from urllib.parse import urljoin

    if response.is_redirect and response.url.lower().startswith("https:"):
        goal = urljoin(response.url, response.headers["Location"])
        if not goal.lower().startswith("https:"):
            response.close()
            raise DownloadError(f"redirects from https to {_public(goal)}, which is refused")


@contextmanager
def _open_file(path: str) -> Iterator[_Opened]:
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below; errors of the `with` body are not ours
    except OSError as error:
        raise DownloadError(str(error.strerror)) from error
    with file:
        yield os.fstat(file.fileno()).st_size, iter(lambda: file.read(CHUNK), b"")


def _bar(artifact: Artifact, total: int | None, progress: bool | None) -> AbstractContextManager[tqdm[Any]]:
    from tqdm import tqdm

    return tqdm(
        desc=artifact.filename,
        total=total,
        unit="B",
        unit_scale=True,
        disable=None if progress is None else not progress,
    )


@cache
def _warn_unverified(filename: str) -> None:
    """Warn once per process and file."""
    logger.warning("%s: no SHA-256 of it is known, so nobody can verify its bytes", filename)


def _failure(artifact: Artifact, target: Path, failures: dict[str, DownloadError]) -> DownloadError:
    """One error for all sources, with what to do by hand."""
    lines = [f"{artifact.filename} could not be fetched."]
    lines += [f"  {_public(source)}: {error}" for source, error in failures.items()]
    if _is_offline():
        lines.append("  RESNEST_ZOO_OFFLINE is set: no request was made.")
    elif not failures:
        lines.append("  It has no address, and RESNEST_ZOO_MIRROR names no mirror.")
    damaged = target.exists()
    if damaged:
        lines.append(f"  The copy in the cache cannot be used either: {find_fault(target, artifact)}")
    expected = artifact.expected_sha256
    if expected is None:
        expected = "not known; compare the file with a copy you trust"
    elif artifact.sha256 is None:
        expected = f"begins with {expected}"
    lines += [
        "Get the file by hand:",
        *(f"  address  {_public(url)}" for url in artifact.urls),
        f"  save as  {target}",
        f"  SHA-256  {expected}",
        "or set RESNEST_ZOO_MIRROR to an address or folder that has it.",
    ]
    wrong_bytes = damaged or any(isinstance(error, IntegrityError) for error in failures.values())
    return (IntegrityError if wrong_bytes else DownloadError)("\n".join(lines))
