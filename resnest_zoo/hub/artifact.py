"""What a file must be: its name, where it is published, and how its bytes are recognised.

Nothing here touches the network or the disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from resnest_zoo.errors import RegistryError, shown

# Lock and temporary files stand beside the target, `.NAME.XXXXXXXX.part` the longest of them; file systems
# allow 255 bytes a name.
_MAX_NAME_BYTES = 240
_OWN_FILES = ("pins.json", "revisions.json")  # of the cache, and what a damaged one is renamed to
_SHA256_DIGITS = 64
# Repository with or without a revision, and the file in it.
HF_FILE = r"hf://([\w.-]+/[\w.-]+(?:@[\w.-]+)?)/([^\s\\?#\x00-\x1f\x7f]+)"
_PREFIX_DIGITS = 8  # what the published file names carry


@dataclass(frozen=True)
class Artifact:
    """One published file.

    Attributes:
        filename: plain name of the file, in our cache and in every mirror.
        urls: addresses in the order they are tried, http(s)://… or hf://organisation/repository[@revision]/file.
        sha256: full SHA-256 as 64 lower-case hex digits, when known.
        sha256_prefix: its first digits (at least 8), when only those were published.
        size: bytes, when known.
        path: the file itself, for a file that is on this machine already. It is used where it lies.

    Raises:
        RegistryError: the file name could leave its folder or cannot exist, a URL is not a clean http(s)
            address, or hash and size are not well formed.
    """

    filename: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        _check_filename(self.filename)
        for url in self.urls:
            _check_url(url)
        for digits, least in ((self.sha256, _SHA256_DIGITS), (self.sha256_prefix, _PREFIX_DIGITS)):
            if digits is not None and not re.fullmatch(f"[0-9a-f]{{{least},{_SHA256_DIGITS}}}", digits):
                raise RegistryError(
                    f"{self.filename}: {shown(digits)} is no SHA-256; "
                    f"expected {least} to {_SHA256_DIGITS} lower-case hex digits"
                )
        if self.sha256 and self.sha256_prefix and not self.sha256.startswith(self.sha256_prefix):
            raise RegistryError(
                f"{self.filename}: the SHA-256 {self.sha256} does not begin with its own prefix "
                f"{self.sha256_prefix}"
            )
        if self.size is not None and self.size <= 0:
            raise RegistryError(f"{self.filename}: the size is {self.size}; expected bytes, above 0")

    @classmethod
    def from_url(cls, url: str) -> Artifact:
        """The artifact of a bare URL, as a user passes it for weights.

        A name such as `model-1a2b3c4d.pth` carries its hash prefix, as the published checkpoints do. Any
        other name says nothing about the bytes, so a digest of the URL goes in front of it: two addresses
        ending in `model_final.pth` must not meet in one cached file.

        Raises:
            RegistryError: the URL is not a clean http(s) address of a file.
        """
        from urllib.parse import unquote, urlsplit

        _check_url(url)
        name = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
        date = r"(?:19|20)\d\d[01]\d[0-3]\d"
        published = re.search(rf"-(?!{date}\.)([0-9a-f]{{8,64}})\.[A-Za-z]+$", name)
        if published:
            return cls(name, (url,), sha256_prefix=published[1])
        from hashlib import sha256

        _check_filename(name)
        return cls(f"{sha256(url.encode()).hexdigest()[:12]}-{name}", (url,))

    @property
    def host(self) -> str | None:
        """The host of its first address; None without any."""
        from urllib.parse import urlsplit

        if not self.urls:
            return None
        return "huggingface.co" if self.urls[0].startswith("hf://") else urlsplit(self.urls[0]).hostname

    @property
    def expected_sha256(self) -> str | None:
        """The digits a SHA-256 of the file must begin with: all 64, some, or None when nothing is known."""
        return self.sha256 or self.sha256_prefix


def _check_filename(name: str) -> None:
    """Refuse a name that is no plain file name on every system we run on."""
    if bad := re.search(r'[/\\:*?"<>|\x00-\x1f\x7f]', name):
        problem = f"contains {bad[0]!r}"
    elif not name or name != name.strip() or name.startswith("."):
        problem = "is empty, hidden or has outer blanks"
    elif name.lower().startswith(_OWN_FILES):
        problem = "is that of a file of the cache's own"
    elif len(name.encode(errors="surrogateescape")) > _MAX_NAME_BYTES:
        problem = f"is longer than {_MAX_NAME_BYTES} bytes"
    else:
        return
    raise RegistryError(
        f"file name {shown(name)} {problem}; expected a plain name such as 'model-1a2b3c4d.pth'"
    )


def _check_url(url: str) -> None:
    if re.fullmatch(HF_FILE, url):
        return
    if not re.fullmatch(r"https?://[^\s/?#\x00-\x1f\x7f]+/[^\s\x00-\x1f\x7f]+", url, re.IGNORECASE):
        raise RegistryError(
            f"{shown(url)} is no clean address of a file; expected http(s)://host/path or "
            "hf://organisation/repository/file, without blanks"
        )
