"""A Hugging Face hub on 127.0.0.1 that takes what the real client sends: repositories, commits, large files.

with PushServer() as hub:
    HfApi(endpoint=hub.url, token=hub.token).create_repo("org/name")

Files ending in one of `LARGE` are kept as the hub keeps large files: sent to another address, read by a
redirect to another host. Only LFS is spoken, not xet.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.servers import FileServer, Reply, Request

LARGE = (".safetensors", ".bin", ".pth", ".jpg")


@dataclass
class Repository:
    """A repository's commits, oldest first: hash and files.

    Attributes:
        private, gated: whether only the server's token reads it; nobody may read a gated one.
    """

    commits: list[tuple[str, dict[str, bytes]]]
    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Hash and files of a branch or commit."""
        wanted = self.commits[-1][0] if revision == "main" else self.branches.get(revision, revision)
        return next((commit for commit in self.commits if commit[0] == wanted), None)


class PushServer(FileServer):
    """See the module.

    Attributes:
        token: who may write.
        readers: further tokens, which may not write.
        stored: bytes of large files by SHA-256, also of those that no commit names yet.
        before_commit: called before a commit is looked at.
        damage: name of a file that is changed on arrival.
    """

    def __init__(self) -> None:
        super().__init__()
        self.token = "hf_writes"
        self.readers: set[str] = set()
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.before_commit: Callable[[], object] = lambda: None
        self.damage = ""

    def create(self, name: str, files: dict[str, bytes] | None = None, **flags: Any) -> str:
        """Make a repository with a first commit; returns the commit's hash."""
        self.repositories[name] = Repository([], **flags)
        return self.commit(name, {".gitattributes": b"*.safetensors filter=lfs\n", **(files or {})})

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Add a commit with exactly these files."""
        commits = self.repositories[name].commits
        self.stored |= {hashlib.sha256(body).hexdigest(): body for body in files.values()}
        digest = hashlib.sha1(f"{name} {len(commits)} {sorted(files)}".encode()).hexdigest()
        commits.append((digest, files))
        return digest

    def files(self, name: str) -> dict[str, bytes]:
        """What the main branch holds now."""
        return self.repositories[name].commits[-1][1]

    # What is asked

    def instead(self, request: Request) -> Reply | None:
        token = request.headers.get("Authorization", request.headers.get("authorization", ""))
        token = token.removeprefix("Bearer ")
        if token and token not in {self.token, *self.readers}:
            return refuse(401, "", "Invalid credentials in Authorization header")
        if request.path.startswith(("/store/", "/api/validate-yaml")):
            return None
        name = self._name(request.path)
        repository = self.repositories.get(name or "")
        if name is not None and (repository is None or (repository.private and not token)):
            return refuse(401 if not token else 404, "RepoNotFound", "Repository not found")
        if repository is not None and repository.gated and "/resolve/" in request.path:
            return refuse(403, "GatedRepo", f"Access to model {name} is restricted")
        if request.method in ("POST", "PUT") and "/paths-info/" not in request.path and token != self.token:
            return refuse(403 if token else 401, "", "You don't have the rights to write here")
        return self._redirect(unquote(urlsplit(request.path).path))

    def _redirect(self, path: str) -> Reply | None:
        """To where a large file lies."""
        found = self._resolved(path)
        if found is None or not path.endswith(LARGE):
            return None
        (commit, files), name = found
        digest = hashlib.sha256(files[name]).hexdigest()
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(files[name])),
        }
        elsewhere = self.url.replace("127.0.0.1", "localhost")
        return Reply(status=302, headers={**headers, "Location": f"{elsewhere}/store/{digest}"})

    def _name(self, path: str) -> str | None:
        path = unquote(urlsplit(path).path)
        found = re.match(r"/api/models/([^/]+/[^/]+)", path) or re.match(
            r"/([^/]+/[^/]+?)(?:\.git/|/resolve/)", path
        )
        return found[1] if found else None

    def find(self, path: str) -> tuple[bytes, dict[str, str]] | None:
        plain = unquote(urlsplit(path).path)
        if plain.startswith("/store/"):
            return self.stored[plain[7:]], {"ETag": '"x"', "Content-Type": "application/octet-stream"}
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", plain)
        if found and (commit := self.repositories[found[1]].at(found[2] or "main")):
            return _json(self._info(found[1], commit)), {"Content-Type": "application/json", "ETag": '"x"'}
        commit_and_name = self._resolved(plain)
        if commit_and_name is None:
            return None
        (digest, files), name = commit_and_name
        headers = {"ETag": f'"{_blob(files[name])}"', "X-Repo-Commit": digest, "Content-Type": "text/plain"}
        return files[name], headers

    def _info(self, name: str, commit: tuple[str, dict[str, bytes]]) -> dict[str, Any]:
        head = re.match(r"---\n(.*?)---\n", commit[1].get("README.md", b"").decode(), re.DOTALL)
        card = yaml.safe_load(head[1]) if head else None
        flags = {"private": self.repositories[name].private}
        siblings = [{"rfilename": file} for file in sorted(commit[1])]
        return {"id": name, "sha": commit[0], "siblings": siblings, "cardData": card, "tags": [], **flags}

    def _resolved(self, path: str) -> tuple[tuple[str, dict[str, bytes]], str] | None:
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", path)
        commit = self.repositories[found[1]].at(found[2]) if found else None
        return (commit, found[3]) if found and commit and found[3] in commit[1] else None

    def missing(self, path: str) -> Reply:
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", unquote(urlsplit(path).path))
        if found is None or self.repositories[found[1]].at(found[2]) is None:
            return refuse(404, "RevisionNotFound", "Invalid rev id")
        return refuse(404, "EntryNotFound", "Entry not found")

    # What is sent

    def accept(self, request: Request, body: bytes) -> Reply:
        path = unquote(urlsplit(request.path).path)
        if path.startswith("/store/"):
            self.stored[path[7:]] = body
            return Reply()
        if "/paths-info/" in path:
            commit = self.repositories[self._name(path) or ""].at(path.rpartition("/")[2])
            files = commit[1] if commit else {}
            asked = parse_qs(body.decode())["paths"]
            return _answer([_row(name, files[name]) for name in asked if name in files])
        given = json.loads(body) if "/commit/" not in path else None
        if path == "/api/repos/create":
            return self._create(given)
        if path == "/api/validate-yaml":
            return self._validate(given["content"])
        if path.endswith("/objects/batch"):
            return _answer({"transfer": "basic", "objects": [self._action(o) for o in given["objects"]]})
        if path == "/verify":
            right = len(self.stored.get(given["oid"], b"")) == given["size"]
            return Reply() if right else refuse(400, "", "Not what was announced")
        if "/preupload/" in path:
            here = self.files(self._name(path) or "")
            return _answer({"files": [_mode(f["path"], here.get(f["path"])) for f in given["files"]]})
        assert "/commit/" in path, path
        return self._commit(self._name(path) or "", [json.loads(line) for line in body.splitlines()])

    def _create(self, given: dict[str, Any]) -> Reply:
        name = f"{given['organization']}/{given['name']}"
        if name in self.repositories:
            return _answer({"error": "You already created this model repo", "url": f"{self.url}/{name}"}, 409)
        self.create(name, private=given.get("private") is True or given.get("visibility") == "private")
        return _answer({"url": f"{self.url}/{name}"})

    def _validate(self, content: str) -> Reply:
        head = yaml.safe_load(re.match(r"---\n(.*?)---\n", content, re.DOTALL)[1])  # type: ignore[index]
        if head.get("license") not in (None, "apache-2.0", "mit", "other"):
            return _answer(
                {"errors": [{"message": '"license" must be one of [apache-2.0, mit, other]'}]}, 400
            )
        return _answer({"errors": [], "warnings": []})

    def _action(self, wanted: dict[str, Any]) -> dict[str, Any]:
        known = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] in self.stored:
            return known
        upload = {"href": f"{self.url}/store/{wanted['oid']}"}
        return {**known, "actions": {"upload": upload, "verify": {"href": f"{self.url}/verify"}}}

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> Reply:
        self.before_commit()
        repository = self.repositories[name]
        files = dict(self.files(name))
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                if value.get("parentCommit") not in (None, repository.commits[-1][0]):
                    return refuse(412, "", "A commit has happened since. Please refresh and try again.")
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile"
                files[value["path"]] = self.stored[value["oid"]]
        if self.damage:
            files[self.damage] = files[self.damage][:-1] + b"!"
        digest = self.commit(name, files)
        url = f"{self.url}/{name}/commit/{digest}"
        return _answer({"success": True, "commitOid": digest, "commitUrl": url, "hookOutput": ""})


def refuse(status: int, code: str, message: str) -> Reply:
    """As the hub refuses."""
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    return Reply(
        _json({"error": message}), status=status, headers={**headers, "Content-Type": "application/json"}
    )


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _answer(value: object, status: int = 200) -> Reply:
    return Reply(_json(value), status=status, headers={"Content-Type": "application/json"})


def _mode(path: str, here: bytes | None) -> dict[str, Any]:
    large = path.endswith(LARGE)
    known: dict[str, Any] = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
    if here is not None:
        known["oid"] = hashlib.sha256(here).hexdigest() if large else _blob(here)
    return known


def _blob(body: bytes) -> str:
    """Git's hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def _row(path: str, body: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "file", "path": path, "size": len(body), "oid": _blob(body)}
    if path.endswith(LARGE):
        row["lfs"] = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}
    return row
