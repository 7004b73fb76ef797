"""Where a file may come from, in order: other programs' caches, mirrors, its own addresses."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from resnest_zoo.errors import ConfigError, DownloadError, shown
from resnest_zoo.hub.artifact import HF_FILE, Artifact
from resnest_zoo.hub.cache import public_address
from resnest_zoo.hub.settings import Settings
from resnest_zoo.hub.transfer import RefusedError


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
    sources += map(source_of, artifact.urls)
    return [source for source in sources if source.kind == "file" or not settings.offline]


def source_of(url: str) -> Source:
    """The source that an artifact's address stands for."""
    found = re.fullmatch(HF_FILE, url)
    return Source("hf", found[1], found[2]) if found else Source("http", url)


def web_address(source: Source) -> str:
    """Where a person gets the file of a source by hand."""
    return hf_address(source) if source.kind == "hf" else str(source)


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
        return Source("file", str(Path(os.path.expanduser(mirror)) / filename))
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
    torch_hub = sys.modules.get("torch.hub")  # torch is loaded if anybody called torch.hub.set_dir
    folder = Path(torch_hub.get_dir() if torch_hub else torch_home / "hub")
    # torch.hub keeps a name as it stands in the address, where "+" may be "%2B".
    names = [artifact.filename, *(urlsplit(url).path.rpartition("/")[2] for url in artifact.urls)]
    candidates = [folder / "checkpoints" / name for name in names]
    roots = [os.environ.get("FVCORE_CACHE"), "~/.torch/fvcore_cache", "~/.torch/iopath_cache"]
    for root in filter(None, roots):
        for url in artifact.urls:
            path = Path(unquote(urlsplit(url).path).lstrip("/"))
            if ".." not in path.parts:
                candidates.append(Path(root) / path)
    # os.path, unlike pathlib, takes a missing home, a forbidden folder or a name too long for "not there".
    found = dict.fromkeys(os.path.expanduser(path) for path in candidates)
    return [Path(path) for path in found if os.path.isfile(path)]  # noqa: PTH113


def hf_endpoint() -> str:
    """The Hugging Face hub that is asked, as huggingface_hub has it."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def hf_address(source: Source) -> str:
    """The URL of a file in a Hugging Face repository."""
    from urllib.parse import quote

    repository, _, revision = source.address.partition("@")
    revision = quote(revision or "main", safe="")
    return f"{hf_endpoint()}/{repository}/resolve/{revision}/{quote(source.filename)}"


def hf_token() -> str | None:
    """The token of the user, from where huggingface_hub keeps it; None if there is none."""
    from huggingface_hub import get_token

    return get_token()


def explain_hf(error: RefusedError, source: Source, *, with_token: bool) -> DownloadError:
    """Say what a Hugging Face hub means by its refusal, and what helps."""
    repository = source.address.partition("@")[0]
    advice = {
        "EntryNotFound": "the repository has no such file",
        "RevisionNotFound": "the repository has no such revision",
    }.get(error.code)
    login = "set HF_TOKEN or run `hf auth login`"
    if error.code == "GatedRepo":
        then = "the token that was sent has no access yet" if with_token else login
        advice = f"the repository is gated: accept its licence at {hf_endpoint()}/{repository}; {then}"
    elif advice is None and error.status in (401, 403, 404):
        seen = "the token that was sent is not valid or does not see it" if with_token else login
        advice = f"there is no such repository, or it is private: {seen}"
    said = f" ({error.said})" if error.said and error.said != error.code else ""
    return DownloadError(f"{error}{said}{f': {advice}' if advice else ''}")
