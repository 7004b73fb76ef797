"""Where pictures are: folders, lists, COCO's files, WebDataset shards, here or in an object store.

Each picture has an id that is the same in every run: its path below the folder, its line in the list, its
`file_name` in COCO's JSON, or the name of its shard, `#`, and its name in there.
"""

from __future__ import annotations

import logging
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from tarfile import HeaderError
from typing import Any, Self

from resnest_zoo.annotations.tables import read_tables
from resnest_zoo.data.film_names import is_url
from resnest_zoo.data.sources import find_sources
from resnest_zoo.errors import ConfigError, DataError, ImageError
from resnest_zoo.hub.cache import public_address
from resnest_zoo.integrations.ray.packages import imported

logger = logging.getLogger(__name__)

_PICTURE = re.compile(r".*\.(avif|bmp|gif|hei[cf]|jfif|jp2|jpe?g|mpo|pgm|png|ppm|tiff?|webp)", re.I | re.S)
_SHARD = re.compile(r".*\.tar", re.I | re.S)
_WILD = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_END: Any = vars(tarfile)["EOFHeaderError"]  # two empty blocks; missing in the stubs of types
_LARGEST = 1 << 28  # bytes of one picture in a shard, as of one at an address


@dataclass(frozen=True, eq=False)
class Listing:
    """The pictures of a source by name, or its shards, whose pictures are known once they are read.

    Attributes:
        ids: N texts, all different; of shards, what their pictures' ids begin with.
        addresses: where each lies: a path, or an address that http or fsspec reads.
        are_shards: whether these are tar files of pictures.
    """

    ids: list[str]
    addresses: list[str]
    are_shards: bool = False

    def __len__(self) -> int:
        return len(self.ids)


def find_pictures(source: str, images: str | None = None) -> Listing:
    """List a source.

    Args:
        source: a folder, with the folders in it; a list (.txt), a picture a line; a COCO file (.json);
            shards of WebDataset: a tar file, `shard-{0000..0099}.tar`, a pattern, or a folder of them; a
            picture or a pattern of pictures. Folders, shards and patterns may be addresses that fsspec knows,
            such as s3://bucket/folder.
        images: the folder of a COCO file's pictures, or its address; by default where the file is.

    Raises:
        ImageError: there is no picture, or the source cannot be read.
        DataError: a COCO file is none.
        ConfigError: `images` without a COCO file.
        ZooError: an address is to be read and fsspec is not installed.
    """
    is_coco = source.lower().endswith(".json")
    if images is not None and not is_coco:
        raise ConfigError(f"--images {images}: belongs to a COCO file (.json), got {source}")
    if is_coco:
        return _unique(_of_coco(source, images), source)
    if "{" in source and _SHARD.fullmatch(source):
        names = list(_expand(source))
        return _unique(Listing([_base(name) for name in names], names, True), source)
    found = _of_address(source) if _is_remote(source) else _of_path(source)
    return _unique(found, source)


def _is_remote(source: str) -> bool:
    return "://" in source


def _of_coco(source: str, images: str | None) -> Listing:
    folder = images if images is not None else str(Path(source).parent)
    rows = read_tables(Path(os.path.expanduser(source)), "images")["images"]
    names = [row.get("file_name") for row in rows]
    wrong = next(
        (row for row, name in zip(rows, names, strict=True) if not (name and isinstance(name, str))), None
    )
    if wrong is not None:
        raise DataError(f"{source}: expected a file_name for every image, got {str(wrong)[:200]}")
    if not names:
        raise DataError(f"{source}: its list of images is empty")
    return Listing(names, [_join(folder, name) for name in names])


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if _is_remote(folder) else os.path.join(folder, name)  # noqa: PTH118


def _of_path(source: str) -> Listing:
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        return _chosen(list(_walk(str(path))), str(path), source)
    if path.suffix.lower() == ".txt" and path.is_file():
        names = find_sources(source)
        folder = str(path.parent)
        return Listing([_id_in(folder, name) for name in names], names)
    names = find_sources(source)  # a pattern, or a single file
    fixed = _WILD.split(source)[0]
    folder = os.path.expanduser(fixed if fixed.endswith("/") else os.path.dirname(fixed)) or "."  # noqa: PTH120
    ids = [_id_in(folder, name) for name in names]
    return Listing(ids, names, _SHARD.fullmatch(names[0]) is not None)


def _id_in(folder: str, name: str) -> str:
    """A path below a folder, an address without the password in it."""
    if "://" in name:
        return public_address(name)
    below = os.path.relpath(name, folder)
    return (name if below.startswith("..") else below).replace(os.sep, "/")


def _walk(folder: str) -> Iterator[str]:
    """Names below a folder, sorted within each, without hidden ones; links to folders are not followed."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        start = os.path.relpath(parent, folder).replace(os.sep, "/")
        for name in sorted(files):
            if not name.startswith("."):
                yield name if start == "." else f"{start}/{name}"


def _of_address(source: str) -> Listing:
    if is_url(source) and not _SHARD.fullmatch(re.sub(r"[?#].*", "", source)):
        raise ImageError(
            f"{source}: http tells no names of files; give a list of addresses (.txt), or shards (.tar)"
        )
    if is_url(source):
        return Listing([public_address(source)], [source], True)
    fsspec = imported("fsspec")
    try:
        fs, root = fsspec.core.url_to_fs(source)
        if _WILD.search(root):
            found = sorted(fs.glob(root))
            folder = _WILD.split(root)[0].rpartition("/")[0]
        elif fs.isdir(root):
            found, folder = sorted(fs.find(root)), root.rstrip("/")
        else:
            found, folder = ([root] if fs.exists(root) else []), root.rpartition("/")[0]
    except Exception as error:  # every file system has its own
        raise ImageError(f"{source}: cannot be listed: {str(error) or type(error).__name__}") from error
    names = [name[len(folder) :].lstrip("/") for name in found]
    return _chosen(
        names, fs.unstrip_protocol(folder) if folder else source.partition("://")[0] + "://", source
    )


def _chosen(names: list[str], folder: str, source: str) -> Listing:
    """The pictures among names, or the shards where there are no pictures."""
    pictures = [name for name in names if _PICTURE.fullmatch(name)]
    shards = [name for name in names if _SHARD.fullmatch(name)]
    if pictures and shards:
        raise ImageError(
            f"{source}: holds pictures ({pictures[0]}) and shards ({shards[0]}); choose one by a pattern"
        )
    kept = pictures or shards
    if not kept:
        raise ImageError(f"{source}: no pictures and no shards (.tar) there")
    return Listing(kept, [_join(folder, name) for name in kept], not pictures)


def _unique(listing: Listing, source: str) -> Listing:
    """Without what is named a second time."""
    if len(set(listing.ids)) == len(listing):
        return listing
    first: dict[str, str] = {}
    for picture_id, address in zip(listing.ids, listing.addresses, strict=True):
        first.setdefault(picture_id, address)
    logger.warning("%s: %d names repeat and are taken once", source, len(listing) - len(first))
    return Listing(list(first), list(first.values()), listing.are_shards)


def _expand(pattern: str) -> Iterator[str]:
    """The names that braces stand for: `{000..099}`, with as many digits, and `{a,b}`.

    Raises:
        ConfigError: a range runs backwards, or braces do not close.
    """
    parts = _BRACES.split(pattern)
    if any("{" in part or "}" in part for part in parts[::2]):
        raise ConfigError(f"{pattern}: braces do not close, or lie in each other")
    choices = [[part] if k % 2 == 0 else _choices(part, pattern) for k, part in enumerate(parts)]
    return ("".join(chosen) for chosen in product(*choices))


def _choices(inside: str, pattern: str) -> list[str]:
    found = _RANGE.fullmatch(inside)
    if found is None:
        return inside.split(",")
    first, last = int(found[1]), int(found[2])
    if first > last:
        raise ConfigError(f"{pattern}: the range {inside} runs backwards")
    return [str(number).zfill(len(found[1])) for number in range(first, last + 1)]


def _base(name: str) -> str:
    return public_address(name) if is_url(name) else PurePosixPath(name.replace(os.sep, "/")).name


class _Member(tarfile.TarInfo):
    """Notes in its tar file how that ends: a file that was cut in a header ends in silence else."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:  # the base's name of the argument
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            tarfile.ending = error  # type: ignore[attr-defined]
            raise


def read_shard(shard_id: str, address: str) -> Iterator[dict[str, Any]]:
    """The pictures of one tar file, one after the other, as `id`, `content` and `error`.

    Other files in it are passed over. A file name that repeats gets a number. Where the file cannot be read
    further, the last one says so, under the id of the shard.
    """
    seen: Counter[str] = Counter()
    try:
        with (
            imported("fsspec").open(address, "rb") as file,
            tarfile.open(fileobj=file, mode="r|*", tarinfo=_Member) as tar,
        ):
            for member in tar:
                if not (member.isfile() and _PICTURE.fullmatch(member.name)):
                    continue
                seen[member.name] += 1
                number = f"~{seen[member.name]}" if seen[member.name] > 1 else ""
                row = {"id": f"{shard_id}#{member.name}{number}", "content": None, "error": None}
                content = tar.extractfile(member) if member.size <= _LARGEST else None
                if content is None:
                    yield {**row, "error": f"is longer than {_LARGEST >> 20} MiB, which is the limit"}
                else:
                    yield {**row, "content": content.read()}
            if not isinstance(getattr(tar, "ending", None), _END):
                raise tarfile.ReadError("it ends without the mark of an end, as one that was cut does")
    except Exception as error:  # every file system has its own; a row tells it
        text = f"{shard_id}: the shard cannot be read further: {str(error) or type(error).__name__}"
        yield {"id": shard_id, "content": None, "error": text}
