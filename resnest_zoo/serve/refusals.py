"""What a client is told when it gets no answer: one sentence, and never a path of this machine."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from resnest_zoo.errors import ZooError, cut

_STATUS_KINDS = {404: "not_found", 405: "wrong_method", 413: "too_large"}
# An absolute path, of either kind of system; of an address only what follows the host looks so.
_PATH = re.compile(r"(?<![\w:/.-])(?:~|[A-Za-z]:)?[/\\](?:[^\s'\":;,/\\]+[/\\])+")


class RefusalError(ZooError):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        kind: for programs, such as "too_large".
        retry_after: seconds after which it may go better; None where it will not.
    """

    def __init__(self, status: int, kind: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after

    @property
    def document(self) -> dict[str, dict[str, str]]:
        """What is answered."""
        return {"error": {"kind": self.kind, "message": str(self)}}

    @property
    def headers(self) -> dict[str, str]:
        """Beside those of every answer."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def refusal_of(status: int) -> RefusalError:
    """What starlette itself refuses: an address or a method that there is not."""
    kind = _STATUS_KINDS.get(status, "refused")
    text = {
        404: "there is nothing at this address; /docs lists what there is",
        405: "this address does not take that method; /docs says which it takes",
    }
    return RefusalError(status, kind, text.get(status, f"the request was refused with status {status}"))


def without_paths(text: str) -> str:
    """The first line of a message, with the folders of this machine left out, and file names kept."""
    line = text.strip().splitlines()[0] if text.strip() else "it failed"
    for folder in (os.environ.get("RESNEST_ZOO_CACHE"), tempfile.gettempdir(), str(Path.home())):
        if folder and len(folder) > 1:
            line = line.replace(f"{folder.rstrip('/')}/", "")
    return cut(_PATH.sub("", line), 400)
