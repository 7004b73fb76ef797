"""The command `doctor`: what a person looks at before writing a bug report.

Exit code 1 if something is wrong here or, with `--sources`, a file can be had from nowhere.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

from resnest_zoo import __version__, hub
from resnest_zoo.errors import LockedError, ZooError, cut, some
from resnest_zoo.registry import info, list_models

if TYPE_CHECKING:
    from pathlib import Path

    from resnest_zoo.hub.probe import Probe

_PACKAGE = "resnest-zoo"
_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "pycocotools",
    "safetensors",
    "requests",
    "urllib3",
    "huggingface_hub",
    "filelock",
    "hotcoco",
    "av",
    "timm",
    "detectron2",
)
_OPERATORS = ("nms", "roi_align", "deform_conv2d")
_ENVIRONMENT = (
    *("RESNEST_ZOO_CACHE", "RESNEST_ZOO_MIRROR", "RESNEST_ZOO_OFFLINE", "RESNEST_ZOO_SETTINGS"),
    *("RESNEST_ZOO_FILE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TORCH_HOME"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"),
)
Section = dict[str, Any]


def add_commands(commands: Any) -> None:
    """Add the parser of `doctor`."""
    parser = commands.add_parser("doctor", help="show versions, device, cache, settings and what is wrong")
    parser.add_argument(
        "--sources",
        action="store_true",
        help="ask every source of every file whether it has it; no file is moved",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    problems: list[str] = []
    report: dict[str, Any] = {
        "versions": _versions(problems),
        "device": _device(problems),
        "cache": _cache(problems),
        "settings": _settings(problems),
    }
    probes: list[tuple[str, bool, Probe]] = []
    if args.sources:
        probes = _ask_sources(problems)
        report["sources"] = [_as_row(name, cached, probe) for name, cached, probe in probes]
    report["problems"] = problems
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    return 1 if problems else 0


def _versions(problems: list[str]) -> Section:
    found = {"resnest-zoo": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for name, floor in _floors().items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            problems.append(f"{name} is not installed: pip install '{name}>={floor}'")
            continue
        if _numbers(version) < _numbers(floor):
            problems.append(
                f"{name} {version} is older than {floor}, the oldest without known holes that is tested: "
                f"pip install '{name}>={floor}'"
            )
    return found


def _floors() -> dict[str, str]:
    """Lowest releases of what this package requires; empty where it was not installed, as by torch.hub."""
    try:
        rows = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return {}
    found = (re.fullmatch(r"([\w-]+)>=([\d.]+)", row.replace(" ", "")) for row in rows if "extra" not in row)
    return {match[1].replace("-", "_"): match[2] for match in found if match}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _device(problems: list[str]) -> Section:
    """What models run on, and who computes what PyTorch has no operator for."""
    try:
        import torch
        import torchvision  # registers its operators
    except (ImportError, OSError, RuntimeError) as error:  # of another PyTorch, or broken
        problems.append(f"PyTorch cannot be loaded: {error}")
        return {}
    section: Section = {
        "cpu": f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"oneDNN {'on' if torch.backends.mkldnn.is_available() else 'off'}",
        "gpu": _gpus(torch),
    }
    for name in _OPERATORS:
        where = [
            kind
            for kind in ("CPU", "CUDA")
            if torch._C._dispatch_has_kernel_for_dispatch_key(f"torchvision::{name}", kind)
        ]
        section[name] = f"torchvision {torchvision.__version__}, {' and '.join(where) or 'missing'}"
        if "CPU" not in where:
            problems.append(
                f"torchvision has no operator {name}: install the torchvision made for this PyTorch"
            )
        elif torch.cuda.is_available() and "CUDA" not in where:
            problems.append(f"torchvision's {name} has no kernel for the GPU: install its build with CUDA")
    return section


def _gpus(torch: Any) -> str:
    if not torch.cuda.is_available():
        return "none" if torch.version.cuda else "none; this PyTorch is built without CUDA"
    tf32 = "allowed" if torch.backends.cudnn.allow_tf32 else "off"
    names = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        names.append(f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    library = (
        f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, TF32 in convolutions {tf32}"
    )
    return f"{'; '.join(names)} ({library})"


def _cache(problems: list[str]) -> Section:
    try:
        folder = hub.cache_dir()
    except ZooError as error:
        problems.append(str(error))
        return {}
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    section: Section = {"folder": str(folder)}
    try:
        files = (
            [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        )
        kept = [path for path in files if path.name not in ("pins.json", "revisions.json")]
        sizes = [path.stat().st_size for path in kept if path.is_file()]
        section["files"] = len(sizes)
        section["bytes"] = sum(sizes)
        section["free_bytes"] = shutil.disk_usage(there).free
        section["pinned"] = len(hub.read_pins(folder))
    except OSError as error:
        problems.append(f"the cache {folder} cannot be read: {error.strerror or error}")
    section["writable"] = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    if not section["writable"]:
        problems.append(f"the cache {folder} cannot be written; RESNEST_ZOO_CACHE chooses another folder")
    elif there == folder:
        section["locks"] = _try_lock(folder)
    return section


def _try_lock(folder: Path) -> str:
    try:
        with hub.locked(folder / "pins.json", wait=False):
            return "work"
    except LockedError:
        return "work, and one is held"
    except OSError as error:
        return f"fail: {error.strerror or error}"


def _settings(problems: list[str]) -> Section:
    from resnest_zoo.hub.settings import read_settings

    section: Section = {}
    try:
        settings = read_settings()
        section["mirrors"] = [_without_secrets(mirror) for mirror in settings.mirrors]
        section["offline"] = settings.offline
    except ZooError as error:
        problems.append(str(error))
    section["hugging_face_token"] = _has_token()
    given = {name: os.environ[name] for name in _ENVIRONMENT if os.environ.get(name)}
    section["environment"] = {name: _without_secrets(value) for name, value in given.items()}
    return section


def _has_token() -> bool:
    try:
        from resnest_zoo.hub.sources import hf_token

        return hf_token() is not None
    except ImportError:
        return False


def _without_secrets(value: str) -> str:
    """A setting as it may be shown: no password of an address, nothing of its query, which may sign it.

    Several addresses and folders may be parted by commas, which passwords and queries may hold too.
    """
    from resnest_zoo.hub.cache import public_address

    value = re.sub(r"^[^/\s]*@", "", public_address(value))  # a proxy may stand without http://
    return re.sub(r"(://[^?]*)\?.*?(?=,(?:\w+:/|~?/)|$)", r"\1?…", value)


def _ask_sources(problems: list[str]) -> list[tuple[str, bool, Probe]]:
    """What every source says of every file that does not come with the package."""
    from resnest_zoo.hub.probe import probe_all
    from resnest_zoo.hub.settings import read_settings
    from resnest_zoo.hub.sources import find_sources

    settings = read_settings()
    entries = [info(name) for name in list_models(backbones=True)]
    asked = [
        (entry, hub.with_locked_hash(entry.artifact), source)
        for entry in entries
        if entry.artifact.path is None
        for source in find_sources(entry.artifact, settings)
    ]
    probes = probe_all([(artifact, source) for _, artifact, source in asked])
    cached = {entry.name: hub.is_pinned(hub.cached_path(entry.artifact)) for entry, _, _ in asked}
    rows = [
        (entry.name, cached[entry.name], probe) for (entry, _, _), probe in zip(asked, probes, strict=True)
    ]
    reachable = {name for name, _, probe in rows if probe.problem is None}
    lost = sorted({name for name, here, _ in rows if not here} - reachable)
    if lost and not settings.offline:
        problems.append(f"{len(lost)} files can be had from nowhere: {some(lost)}")
    return rows


def _as_row(name: str, cached: bool, probe: Probe) -> Section:
    return {
        "name": name,
        "file": probe.artifact.filename,
        "source": _without_secrets(str(probe.source)),
        "reachable": probe.problem is None,
        "cached": cached,
        "size": probe.size,
        "modified": probe.modified,
        "problem": probe.problem,
        "seconds": round(probe.seconds, 3),
    }


def _print(report: dict[str, Any]) -> None:
    for title in ("versions", "device", "cache", "settings"):
        print(title)
        for label, value in report[title].items():
            for line in _lines(value):
                print(f"  {label:<18} {line}")
                label = ""
    if "sources" in report:
        _print_sources(report["sources"])
    for problem in report["problems"]:
        print(f"problem: {problem}", file=sys.stderr)
    if not report["problems"]:
        print("nothing wrong was found")


def _lines(value: object) -> list[str]:
    if isinstance(value, dict):
        return [f"{key}={text}" for key, text in value.items()] or ["-"]
    if isinstance(value, list):
        return [str(item) for item in value] or ["-"]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    return [f"{value:,}" if isinstance(value, int) else str(value)]


def _print_sources(rows: list[Section]) -> None:
    if not rows:
        print("sources\n  none was asked: offline, or there is none")
        return
    table = [("name", "where", "bytes", "changed", "")]
    for row in rows:
        size = f"{row['size']:,}" if row["size"] is not None else "?"
        cached = "cached here" if row["cached"] else ""
        there = (size, row["modified"] or "?", cached)
        not_there = ("-", "-", f"{cut(row['problem'] or '', 90)}{' (cached here)' if cached else ''}")
        table.append((row["name"], _place(row["source"]), *(there if row["reachable"] else not_there)))
    widths = [max(len(cells[column]) for cells in table) for column in range(4)]
    print("sources, asked for their headers alone")
    for cells in table:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
        print(f"  {'  '.join((*padded, cells[4]))}".rstrip())
    print(f"{sum(row['reachable'] for row in rows)} of {len(rows)} are there; --json has the whole addresses")


def _place(source: str) -> str:
    """Host, repository or folder of a source."""
    if source.startswith(("http://", "https://")):
        return source.split("/")[2]
    return source.rpartition("/")[0]
