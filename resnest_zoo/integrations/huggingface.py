"""Publish the zoo in a Hugging Face repository, for use as the mirror `hf://organisation/repository`.

For each entry the repository gets the original file, which clients check against the published digits, the
same tensors as safetensors and the config with its bases resolved; and one model card for all.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING

from resnest_zoo import hub
from resnest_zoo.api import convert
from resnest_zoo.config import load_config
from resnest_zoo.errors import ConfigError, DownloadError, IntegrityError, ZooError
from resnest_zoo.hub.settings import read_settings
from resnest_zoo.registry import Entry, info, list_models

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

_ADVICE = {
    401: ": no token was sent, or one that the hub does not know: set HF_TOKEN or run `hf auth login`",
    403: ": the token may not write there: it needs the right to, and you to be a member of the organisation",
    404: ": there is no such repository, or the token does not see it",
    412: ": somebody else has pushed in the meantime; nothing of this was; look at it, and push again",
}
_CARD = """\
---
license: apache-2.0
library_name: resnest_zoo
pipeline_tag: object-detection
datasets: [detection-datasets/coco]
tags: [object-detection, instance-segmentation, resnest]
---

# ResNeSt detectors

Checkpoints of *ResNeSt: Split-Attention Networks* (arXiv:2004.08955), for the Python package `resnest_zoo`:

```python
import resnest_zoo  # with RESNEST_ZOO_MIRROR=hf://{repository}

model = resnest_zoo.get("{name}")
```

Each model is here as the original file, as safetensors with the same tensors, and with its config. Eight
digits at the end of an original's name are the first of its SHA-256; without them no hash is published.

| name | method | backbone | reported on | box AP | mask AP | PQ | measured |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

Reported numbers, in percent, are those of the authors of the checkpoints.

Licence of the weights: {licences}
"""


def publish(entries: Iterable[Entry], repository: str, *, api: HfApi | None = None) -> list[str]:
    """Upload what the repository lacks, and check what it then holds.

    Args:
        entries: detectors or backbones.
        repository: "organisation/name"; made if it is missing. The token is huggingface_hub's.
        api: another client than the default one.

    Returns:
        The names of the files uploaded; empty if everything was there.

    Raises:
        ConfigError: the repository's name is malformed.
        DownloadError: an original cannot be had, the repository refuses, or requests are forbidden.
        IntegrityError: the repository holds other bytes than were sent.
    """
    api = open_repository(repository, api=api)
    uploaded = [name for entry in entries for name in publish_entry(api, repository, entry)]
    return [*uploaded, *publish_card(api, repository)]


def open_repository(repository: str, *, api: HfApi | None = None) -> HfApi:
    """Make the repository if it is missing, and return the client to publish in it.

    Raises:
        ConfigError, DownloadError: as `publish`.
    """
    require_reachable(repository)
    api = api or open_client()
    with answers(repository):
        api.create_repo(repository, exist_ok=True)
    return api


def open_client() -> HfApi:
    """The client of the hub that HF_ENDPOINT names."""
    from huggingface_hub import HfApi

    from resnest_zoo import __version__

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    return HfApi(endpoint=endpoint, library_name="resnest_zoo", library_version=__version__)


def require_reachable(repository: str) -> None:
    """What can be told of a repository before anybody is asked; raises as `open_repository`."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise ConfigError(f"hf://{repository}: expected hf://organisation/repository")
    if read_settings().offline:
        raise DownloadError(f"hf://{repository}: offline by RESNEST_ZOO_OFFLINE or HF_HUB_OFFLINE")


def publish_entry(api: HfApi, repository: str, entry: Entry) -> list[str]:
    """Upload what the repository lacks of one entry; returns and raises as `publish`."""
    original = hub.fetch(entry.artifact)
    files = {entry.artifact.filename: original}
    with tempfile.TemporaryDirectory() as folder:
        if entry.config is not None:
            stem = Path(entry.artifact.filename).stem
            files[f"{stem}.safetensors"] = convert(entry.name, Path(folder) / "model.safetensors")
            config = files[f"{stem}.yaml"] = Path(folder) / "config.yaml"
            config.write_text(load_config(entry.config).dump(), encoding="utf-8")
        return [name for name, path in files.items() if _upload(api, repository, name, path)]


def publish_card(api: HfApi, repository: str) -> list[str]:
    """Upload the model card of what the repository holds, unless it is there; returns as `publish`."""
    with answers(repository):
        files = set(api.list_repo_files(repository))
    entries = [entry for entry in map(info, list_models()) if entry.artifact.filename in files]
    with tempfile.TemporaryDirectory() as folder:
        card = Path(folder) / "README.md"
        card.write_text(model_card(repository, entries), encoding="utf-8")
        return [card.name] if _upload(api, repository, card.name, card) else []


def _upload(api: HfApi, repository: str, name: str, path: Path) -> bool:
    """Send a file and check what arrived; False if the repository had it already."""
    content = hub.read_content(path)
    with answers(repository):
        if _has(api, repository, name, path, content):
            return False
        api.upload_file(path_or_fileobj=path, path_in_repo=name, repo_id=repository)
        if not _has(api, repository, name, path, content):
            raise IntegrityError(f"hf://{repository}/{name}: the repository does not hold what was sent")
    return True


def _has(api: HfApi, repository: str, name: str, path: Path, content: hub.Content) -> bool:
    """Whether the repository holds these bytes under this name."""
    from huggingface_hub.hf_api import RepoFile

    found = api.get_paths_info(repository, [name])
    return any(isinstance(f, RepoFile) and f.path == name and is_of(f, path, content) for f in found)


def is_of(found: RepoFile, path: Path, content: hub.Content) -> bool:
    """Whether a repository's file has these bytes: by SHA-256 if it is a large file, else by git's hash."""
    if found.size != content.size:
        return False
    if found.lfs is not None:
        return found.lfs.sha256 == content.sha256
    blob = b"blob %d\0" % content.size + path.read_bytes()
    return found.blob_id == sha1(blob, usedforsecurity=False).hexdigest()


@contextmanager
def answers(repository: str) -> Iterator[None]:
    """What the repository refuses, or a connection that fails, as errors of ours.

    Raises:
        ConfigError: the name can be no repository's, or the hub does not accept the head of README.md.
        DownloadError: anything else.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The bases of HfHubHTTPError are OSError and whatever its HTTP library raises.
    expected: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, OSError, ValueError)
    try:
        yield
    except ZooError:
        raise
    except HFValidationError as error:
        raise ConfigError(f"hf://{repository}: {error}") from error
    except expected as error:
        raise _explained(repository, error) from error
    except RuntimeError as error:  # what the client makes of any failure while a large file is sent
        if not isinstance(error.__cause__, expected):
            raise
        raise _explained(repository, error.__cause__) from error


def _explained(repository: str, error: BaseException) -> ZooError:
    """One line: what happened, and what helps."""
    lines = [line.strip("- ") for line in str(error).splitlines() if line.strip("- ")]
    if type(error) is ValueError and "README.md" in lines[0]:
        return ConfigError(f"hf://{repository}: the hub does not accept the card: {'; '.join(lines)}")
    status = getattr(getattr(error, "response", None), "status_code", 0)
    advice = _ADVICE.get(status, "")
    return DownloadError(f"hf://{repository}: {next(iter(lines), type(error).__name__)}{advice}")


def model_card(repository: str, entries: list[Entry]) -> str:
    """README.md of the repository."""
    rows = []
    for entry in entries:
        for row in entry.reported:
            split, *numbers = row.cells
            cells = [f"`{entry.name}`", entry.method, entry.backbone, f"{row.dataset} {split}"]
            rows.append(f"| {' | '.join([*cells, *numbers, 'not yet'])} |")
    name = entries[0].name if entries else "faster_rcnn_resnest50"
    licences = "; ".join(dict.fromkeys(entry.licence for entry in entries)) or "see the package"
    return _CARD.format(repository=repository, name=name, rows="\n".join(rows), licences=licences)
