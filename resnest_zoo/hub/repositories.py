"""Files of Hugging Face repositories that users name: hf://organisation/repository[@revision][/file].

A branch or a tag may mean other bytes tomorrow, so the hub is asked what commit it is now, and the file is
kept under that commit. A full commit hash always means the same bytes: nobody is asked about a file that is
here. Where nobody can be asked, a branch means the commit it was seen at last, which `revisions.json` in the
cache remembers.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from resnest_zoo.errors import DownloadError, RegistryError, shown
from resnest_zoo.hub.artifact import Artifact
from resnest_zoo.hub.cache import cached_path, is_pinned
from resnest_zoo.hub.download import fetch
from resnest_zoo.hub.locks import locked
from resnest_zoo.hub.settings import read_settings
from resnest_zoo.hub.sources import Source, explain_hf, hf_address, hf_token
from resnest_zoo.hub.staging import write_staged
from resnest_zoo.hub.transfer import RefusedError, ask_hub

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"  # of a repository that is named without a file
REVISIONS = "revisions.json"
_ADDRESS = re.compile(
    r"hf://([\w.-]+/[\w.-]+)(?:@(refs/(?:pr|convert)/[\w.-]+|[\w.%-]+))?(?:/([^\s\\?#\x00-\x1f\x7f]+?))?/*",
    re.ASCII,
)
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class RepositoryFile:
    """A file as a user names it.

    Attributes:
        repository: "organisation/name".
        revision: branch, tag or commit hash.
        filename: in the repository.
        named: whether the user named the file, and not the repository alone.
    """

    repository: str
    revision: str
    filename: str
    named: bool

    def at(self, commit: str) -> str:
        """The address of these bytes, which no push changes."""
        return f"hf://{self.repository}@{commit}/{self.filename}"

    @property
    def source(self) -> Source:
        """Where the file is asked for."""
        return Source("hf", f"{self.repository}@{self.revision}", self.filename)


def parse_address(address: str) -> RepositoryFile:
    """The parts of hf://organisation/repository[@revision][/file].

    A revision with a slash is written with %2F, but for refs/pr/NUMBER.

    Raises:
        RegistryError: it is no such address.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or found[1].startswith(("datasets/", "spaces/")) or "/../" in f"{address}/":
        raise RegistryError(
            f"{shown(address)}: expected hf://organisation/repository[@revision][/file], of a repository of "
            "models"
        )
    return RepositoryFile(found[1], unquote(found[2] or "main"), found[3] or WEIGHTS, found[3] is not None)


def fetch_address(address: str, *, progress: bool | None = None) -> Path:
    """The file at an address that a user names, downloaded on first use.

    Args:
        address: http(s)://…, or hf://organisation/repository[@revision][/file]; without a file its
            model.safetensors.
        progress: as in `fetch`.

    Raises:
        RegistryError: it is no such address.
        DownloadError: the file cannot be had. The message says whether repository, revision or file is
            missing, or what the token lacks.
        IntegrityError: as `fetch`.
    """
    if not address.startswith("hf://"):
        return fetch(Artifact.from_url(address), progress=progress)
    file = parse_address(address)
    if _COMMIT.fullmatch(file.revision):
        known = Artifact.from_url(file.at(file.revision))
        if is_pinned(cached_path(known)) or read_settings().offline:
            return fetch(known, progress=progress)
    return fetch(_look_up(file), progress=progress)


def _look_up(file: RepositoryFile) -> Artifact:
    """The file as the hub has it now; where the hub cannot be asked, as it was seen last."""
    if read_settings().offline:
        return _last_seen(file, "no request is made, since RESNEST_ZOO_OFFLINE or HF_HUB_OFFLINE is set")
    token = hf_token()
    try:
        headers = ask_hub(hf_address(file.source), token)
    except RefusedError as error:
        explained = explain_hf(error, file.source, with_token=token is not None)
        if error.code == "EntryNotFound" and not file.named:
            raise DownloadError(
                f"hf://{file.repository}: is no model of resnest_zoo, as push_to_hub writes them: it has no "
                f"{WEIGHTS} ({error}); of another one name the file, hf://{file.repository}/FILE"
            ) from error
        raise DownloadError(f"{file.source}: {explained}") from error
    except DownloadError as error:
        return _last_seen(file, str(error))
    commit = headers.get("X-Repo-Commit", "")
    if not _COMMIT.fullmatch(commit):
        raise DownloadError(
            f"{file.source}: the hub does not say which commit this is (X-Repo-Commit: {shown(commit)}); is "
            "HF_ENDPOINT one, and does a proxy change its answers?"
        )
    if not _COMMIT.fullmatch(file.revision):
        _remember(file, commit)
    return _with_promise(Artifact.from_url(file.at(commit)), headers)


def _with_promise(artifact: Artifact, headers: dict[str, str]) -> Artifact:
    """The artifact with what the hub states of a large file; of a small one it knows git's hash alone."""
    digits = headers.get("X-Linked-Etag", "").strip('"')
    size = headers.get("X-Linked-Size", "")
    if artifact.sha256_prefix or not re.fullmatch("[0-9a-f]{64}", digits):
        return artifact
    known = int(size) if re.fullmatch("[1-9][0-9]{0,17}", size) else None
    return replace(artifact, sha256=digits, size=known)


def _last_seen(file: RepositoryFile, reason: str) -> Artifact:
    """The file at the commit that was seen last.

    Raises:
        DownloadError: none was.
    """
    commit = _read_revisions(read_settings().cache).get(f"{file.repository}@{file.revision}")
    artifact = Artifact.from_url(file.at(commit)) if commit else None
    if artifact is None or not is_pinned(cached_path(artifact)):
        raise DownloadError(f"{file.source}: {reason}; and it is not in the cache")
    logger.warning("%s: %s; taking commit %s, which was seen last", file.source, reason, commit)
    return artifact


def _read_revisions(cache: Path) -> dict[str, str]:
    """Commits by "organisation/repository@revision"; none where the file is missing or damaged."""
    try:
        rows = json.loads((cache / REVISIONS).read_text(encoding="utf-8"))["revisions"]
        return {str(name): commit for name, commit in rows.items() if _COMMIT.fullmatch(commit)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        logger.warning("%s cannot be read (%s); it is written afresh", cache / REVISIONS, error)
        return {}


def _remember(file: RepositoryFile, commit: str) -> None:
    cache, name = read_settings().cache, f"{file.repository}@{file.revision}"
    if _read_revisions(cache).get(name) == commit:
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / REVISIONS):
            rows = {**_read_revisions(cache), name: commit}
            text = json.dumps({"revisions": dict(sorted(rows.items()))}, indent=1)
            write_staged(cache / REVISIONS, text.encode())
    except OSError as error:  # a cache that others fill: the hub is asked again next time
        logger.info("%s: commit %s is not remembered: %s", file.source, commit, error)
