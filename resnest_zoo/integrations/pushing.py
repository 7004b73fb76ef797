"""A model into a Hugging Face repository, in one commit.

All files are made before anything is asked, and appear together or not at all: what the hub is sent before
the commit belongs to no branch. Large files go by the hub's LFS endpoints, never by xet: the client takes xet
wherever its package `hf_xet` is installed, without asking whether the other side speaks it, which other hubs
than huggingface.co and proxies before them need not. LFS is plain HTTPS, states the SHA-256 of each file, and
is what the tests here can check. A file that is handed over open goes that way.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from resnest_zoo.errors import ConfigError, IntegrityError, some
from resnest_zoo.hub import read_content
from resnest_zoo.hub.sources import hf_endpoint
from resnest_zoo.integrations.huggingface import answers, is_of, open_client, require_reachable
from resnest_zoo.integrations.model_card import LIBRARY, ModelCard
from resnest_zoo.integrations.pretrained import CARD, OWN_FILES, write_files, writing
from resnest_zoo.models import GeneralizedRCNN

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.hf_api import ModelInfo

_NO_MODEL = {".gitattributes", ".gitignore", CARD, "LICENSE", "LICENSE.md", "LICENSE.txt"}


def push_to_hub(
    model: GeneralizedRCNN,
    repository: str,
    card: ModelCard | None = None,
    *,
    private: bool | None = None,
    message: str = "",
    api: HfApi | None = None,
) -> str:
    """Put a model into a repository on Hugging Face's hub, in one commit, and check what it then holds.

    The files are those of `save_pretrained`. Files of an earlier push that are not written any more, such as
    results of other weights, are removed in the same commit; any other file stays. What has not changed is
    not sent again. The token is huggingface_hub's: HF_TOKEN, or `hf auth login`.

    Args:
        model: built by `get`, `from_pretrained` or training, on any device.
        repository: "org/name"; made if it is missing.
        card: what the README.md says of it. An older README.md is replaced; git keeps it.
        private: of a repository that is made; by default what the organisation's settings say. One that is
            there has to be so already.
        message: of the commit.
        api: another client than the default one.

    Returns:
        "hf://org/name@COMMIT", from which `get` builds these very weights, whatever is pushed later.

    Raises:
        ConfigError: the repository's name is malformed, it holds files of something else, it is not as
            `private` says, or the hub does not accept the card, such as its licence; what `save_pretrained`
            raises of model and card.
        CheckpointError: as `save_pretrained`; the files are made in the system's temporary folder.
        DownloadError: the hub refuses, cannot be reached or breaks off, somebody else pushed at the same
            time, or requests are forbidden.
        IntegrityError: the repository holds other bytes than were sent.
    """
    repository = repository.removeprefix("hf://").rstrip("/")
    require_reachable(repository)
    url = f"{hf_endpoint()}/{repository}"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        with writing(Path(folder)):
            names = write_files(
                model,
                Path(folder),
                card or ModelCard(),
                repository.rpartition("/")[2],
                repository=f"hf://{repository}",
                url=url,
            )
        api = api or open_client()
        with answers(repository):
            info = _find_or_make(api, repository, private)
        _refuse_others_repository(repository, info, private)
        operations: list[CommitOperationAdd | CommitOperationDelete]
        operations = [*_additions(Path(folder), names, opened), *_deletions(info, names)]
        with answers(repository), _without_advice_on_xet():
            commit = api.create_commit(
                repository,
                operations,
                commit_message=message or f"A model of {LIBRARY}",
                parent_commit=info.sha,
            )
        with answers(repository):
            wrong = _find_wrong(api, repository, commit.oid, Path(folder), names)
    if wrong:
        raise IntegrityError(f"hf://{repository}@{commit.oid}: does not hold what was sent: {some(wrong)}")
    return f"hf://{repository}@{commit.oid}"


def _find_wrong(api: HfApi, repository: str, commit: str, folder: Path, names: list[str]) -> list[str]:
    """The files that the commit does not have as they are here."""
    from huggingface_hub.hf_api import RepoFile

    there = api.get_paths_info(repository, names, revision=commit)
    found = {file.path: file for file in there if isinstance(file, RepoFile)}
    return [
        name
        for name in names
        if name not in found or not is_of(found[name], folder / name, read_content(folder / name))
    ]


def _find_or_make(api: HfApi, repository: str, private: bool | None) -> ModelInfo:
    """The repository as it is now. A token for one that is there need not have the right to make others."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.model_info(repository)
    except RepositoryNotFoundError:
        api.create_repo(repository, private=private, exist_ok=True)
        return api.model_info(repository)


def _refuse_others_repository(repository: str, info: ModelInfo, private: bool | None) -> None:
    """Never write over a model of something else, nor show what was meant to be private.

    Raises:
        ConfigError: the repository has files, and no card of this package; or it is public, and `private`, or
            the other way round.
    """
    if None not in (private, info.private) and private != info.private:
        kinds = {True: "private", False: "public"}
        raise ConfigError(
            f"hf://{repository}: is there already and {kinds[bool(info.private)]}, but private={private} was "
            "asked for; change it in its settings, or leave `private` out"
        )
    files = {file.rfilename for file in info.siblings or ()}
    ours = info.card_data is not None and info.card_data.get("library_name") == LIBRARY
    if not ours and files - _NO_MODEL:
        raise ConfigError(
            f"hf://{repository}: is no repository of this package: it holds "
            f"{some(sorted(files - _NO_MODEL))} and no {CARD} that names {LIBRARY}. Choose another name"
        )


def _additions(folder: Path, names: list[str], opened: ExitStack) -> list[CommitOperationAdd]:
    """Of open files, which go by LFS; see the module."""
    from huggingface_hub import CommitOperationAdd

    files = {name: opened.enter_context((folder / name).open("rb")) for name in names}
    return [CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]


def _deletions(info: ModelInfo, names: list[str]) -> list[CommitOperationDelete]:
    from huggingface_hub import CommitOperationDelete

    there = {file.rfilename for file in info.siblings or ()}
    return [CommitOperationDelete(path_in_repo=name) for name in OWN_FILES if name in there - set(names)]


@contextmanager
def _without_advice_on_xet() -> Iterator[None]:
    """Leave out the client's warning that an open file does not go by xet, which is meant so."""
    logger = logging.getLogger("huggingface_hub._commit_api")

    def keep(record: logging.LogRecord) -> bool:
        return "not supported by Xet Storage" not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
