"""Publish the zoo in a Hugging Face repository, for use as the mirror `hf://organisation/repository`.

For each entry the repository gets the original file, which clients can check against the published digits,
the same tensors as safetensors, the config with its bases resolved, and one model card for all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING

from resnest_zoo import hub
from resnest_zoo.api import convert
from resnest_zoo.config import load_config
from resnest_zoo.errors import ConfigError, DownloadError, IntegrityError
from resnest_zoo.registry import Entry, info, list_models

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_CARD = """\
---
license: apache-2.0
library_name: resnest_zoo
pipeline_tag: object-detection
datasets: [detection-datasets/coco]
tags: [object-detection, instance-segmentation, resnest]
---

# ResNeSt detectors

Checkpoints of *ResNeSt: Split-Attention Networks* (arXiv:2004.08955), for
[resnest_zoo](https://github.com/org/resnest-zoo):

```python
import resnest_zoo  # with RESNEST_ZOO_MIRROR=hf://{repository}

model = resnest_zoo.get("{name}")
```

Each model is here as the original `.pth`, whose SHA-256 begins with the published digits, as safetensors with
the same tensors, and with its config.

| name | method | backbone | reported on | box AP | mask AP | PQ | measured |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

Reported numbers, in percent, are those of the authors of the checkpoints.
"""


def publish(entries: Iterable[Entry], repository: str, *, api: HfApi | None = None) -> list[str]:
    """Upload what the repository lacks, and check what it then holds.

    Args:
        entries: detectors.
        repository: "organisation/name"; made if it is missing. The token is huggingface_hub's.
        api: another client than the default one.

    Returns:
        The names of the files uploaded; empty if everything was there.

    Raises:
        ConfigError: the repository's name is malformed.
        DownloadError: an original cannot be had, or the repository refuses. IntegrityError: it holds other
            bytes than were sent.
    """
    if repository.count("/") != 1 or "@" in repository:
        raise ConfigError(f"hf://{repository}: expected hf://organisation/repository")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = api or HfApi()
    uploaded: list[str] = []
    try:
        api.create_repo(repository, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            for entry in entries:
                for path in _files(entry, Path(folder)):
                    if _upload(api, repository, path):
                        uploaded.append(path.name)
            card = Path(folder) / "README.md"
            card.write_text(model_card(repository, _published(api, repository)), encoding="utf-8")
            if uploaded:
                api.upload_file(path_or_fileobj=card, path_in_repo=card.name, repo_id=repository)
    except HfHubHTTPError as error:
        raise DownloadError(f"hf://{repository}: {str(error).strip().splitlines()[0]}") from error
    return uploaded


def _files(entry: Entry, folder: Path) -> list[Path]:
    """The files of one entry, ready to be sent."""
    if entry.config is None:
        return [hub.fetch(entry.artifact)]
    config = folder / f"{Path(entry.config).stem}.yaml"
    config.write_text(load_config(entry.config).dump(), encoding="utf-8")
    return [hub.fetch(entry.artifact), convert(entry.name), config]


def _upload(api: HfApi, repository: str, path: Path) -> bool:
    """Send a file and check what arrived; False if the repository had it already."""
    if _has(api, repository, path):
        return False
    api.upload_file(path_or_fileobj=path, path_in_repo=path.name, repo_id=repository)
    if not _has(api, repository, path):
        raise IntegrityError(f"hf://{repository}/{path.name}: the repository does not hold what was sent")
    return True


def _has(api: HfApi, repository: str, path: Path) -> bool:
    """Whether the repository holds these bytes: by SHA-256 if the file is large, else by git's hash."""
    from huggingface_hub.hf_api import RepoFile

    for found in api.get_paths_info(repository, [path.name]):
        if isinstance(found, RepoFile):
            if found.lfs is not None:
                return found.lfs.sha256 == hub.read_content(path).sha256
            blob = path.read_bytes()
            return found.blob_id == sha1(b"blob %d\0" % len(blob) + blob, usedforsecurity=False).hexdigest()
    return False


def _published(api: HfApi, repository: str) -> list[Entry]:
    """The detectors whose checkpoint the repository holds."""
    files = set(api.list_repo_files(repository))
    return [entry for entry in map(info, list_models()) if entry.artifact.filename in files]


def model_card(repository: str, entries: list[Entry]) -> str:
    """README.md of the repository."""
    rows = []
    for entry in entries:
        for row in entry.reported:
            numbers = ["" if value is None else f"{value:.2f}" for value in (row.box, row.mask, row.pq)]
            tta = {True: ", TTA", False: "", None: ", TTA not stated"}[row.tta]
            cells = [f"`{entry.name}`", entry.method, entry.backbone, f"{row.dataset} {row.split}{tta}"]
            rows.append(f"| {' | '.join([*cells, *numbers, 'not yet'])} |")
    name = entries[0].name if entries else "faster_rcnn_resnest50"
    return _CARD.format(repository=repository, name=name, rows="\n".join(rows))
