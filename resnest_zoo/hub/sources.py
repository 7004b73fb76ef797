"""Where a file may come from, in order: other programs' caches, mirrors, its own addresses."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from resnest_zoo.errors import ConfigError, DownloadError, shown
from resnest_zoo.hub.artifact import Artifact
from resnest_zoo.hub.cache import public_address
from resnest_zoo.hub.settings import Settings


@dataclass(frozen=True)
class Source:
    """One place a file may come from.

    Attributes:
        kind: "http", "file" or "hf" (a Hugging Face repository).
        address: URL, path, or `org/repo[@revision]`.
        filename: for "hf", the file in the repository.
    """

    kind: str
    address: str
    filename: str = ""

    def __str__(self) -> str:
        if self.kind == "hf":
            return f"hf://{self.address}/{self.filename}"
        return public_address(self.address)


def find_sources(artifact: Artifact, settings: Settings) -> list[Source]:
    """Mirrors, then the artifact's own addresses; when offline only what needs no request.

    Raises:
        ConfigError: a mirror cannot be one.
    """
    sources = [_in_mirror(mirror, artifact.filename) for mirror in settings.mirrors]
    sources += [Source("http", url) for url in artifact.urls]
    return [source for source in sources if source.kind == "file" or not settings.offline]


def _in_mirror(mirror: str, filename: str) -> Source:
    from urllib.parse import quote, urlsplit
    from urllib.request import url2pathname

    scheme, separator, rest = mirror.partition("://")
    scheme = scheme.lower() if separator else ""
    if scheme in ("http", "https"):
        parts = urlsplit(mirror)  # a signed address keeps its query
        return Source("http", parts._replace(path=f"{parts.path.rstrip('/')}/{quote(filename)}").geturl())
    if scheme == "hf" and re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", rest.rstrip("/")):
        return Source("hf", rest.rstrip("/"), filename)
    if scheme == "file":
        return Source("file", str(Path(url2pathname(rest)) / filename))
    if not separator:
        return Source("file", str(Path(os.path.expanduser(mirror)) / filename))  # noqa: PTH111
    raise ConfigError(
        f"{shown(public_address(mirror))} cannot be a mirror; expected http(s)://host/path, file:///path, "
        "a folder or hf://organisation/repository[@revision]"
    )


def find_copies(artifact: Artifact) -> list[Path]:
    """Files of other programs that may be this one: the caches of torch.hub, fvcore and iopath.

    Only an artifact with a known hash has any: nothing else could tell whether such a copy is right.
    """
    from urllib.parse import unquote, urlsplit

    if artifact.expected_sha256 is None:
        return []
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    torch_home = Path(os.environ.get("TORCH_HOME") or caches / "torch")
    candidates = [torch_home / "hub" / "checkpoints" / artifact.filename]
    roots = [os.environ.get("FVCORE_CACHE"), "~/.torch/fvcore_cache", "~/.torch/iopath_cache"]
    for root in filter(None, roots):
        for url in artifact.urls:
            path = Path(unquote(urlsplit(url).path).lstrip("/"))
            if ".." not in path.parts:
                candidates.append(Path(root) / path)
    # os.path, unlike pathlib, takes a missing home, a forbidden folder or a name too long for "not there".
    found = dict.fromkeys(os.path.expanduser(path) for path in candidates)  # noqa: PTH111
    return [Path(path) for path in found if os.path.isfile(path)]  # noqa: PTH113


def fetch_from_hf(source: Source, folder: Path, progress: bool | None = None) -> Path:
    """Bring a file out of a Hugging Face repository into `folder` and return its path there.

    A folder left by an interrupted call is continued.

    Raises:
        DownloadError: the repository does not deliver it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    # The bases of HfHubHTTPError are OSError and whatever its HTTP library raises.
    expected: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, ValueError, OSError)
    repository, _, revision = source.address.partition("@")
    silence = progress is False and not are_progress_bars_disabled()
    if silence:
        disable_progress_bars()
    try:
        return Path(
            hf_hub_download(
                repository,
                source.filename,
                revision=revision or None,
                local_dir=folder,
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )
    except expected as error:
        if not any(folder.rglob("*.incomplete")):
            shutil.rmtree(folder, ignore_errors=True)  # nothing in it to continue
        reason = next(iter(str(error).strip().splitlines()), "")
        raise DownloadError(f"{type(error).__name__}: {public_address(reason)}") from error
    finally:
        if silence:
            enable_progress_bars()
