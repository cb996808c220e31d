"""A stand-in for the Hugging Face Hub: the part of its HTTP that publishing and downloading a model go through.

Repositories have commits; a file is a blob of git, or an object of LFS that was put before. ``faults`` says what
befalls the next requests of a stage: ``status:500``, ``lost`` (done, and the connection ends without an answer),
``hold`` (not done; the request waits until ``released``), ``held`` (done, and then it waits), or ``garble`` (other
bytes are kept).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.served import served

TOKEN = "hf_of_acme"
STAGES = (
    ("create", "POST", r"/api/repos/create"),
    ("yaml", "POST", r"/api/validate-yaml"),
    ("preupload", "POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>.+)"),
    ("batch", "POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch"),
    ("put", "PUT", r"/lfs/(?P<oid>[0-9a-f]{64})"),
    ("commit", "POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>.+)"),
    ("paths", "POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/paths-info/(?P<revision>.+)"),
    ("tree", "GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)"),
    ("info", "GET", r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>.+))?"),
    ("resolve", "GET|HEAD", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"),
)
Answer = tuple[int, Any]


@dataclass(frozen=True)
class Blob:
    """The bytes of a file; ``is_large``: an object of LFS."""

    content: bytes
    is_large: bool

    def told(self, path: str) -> dict[str, Any]:
        git = hashlib.sha1(b"blob %d\0" % len(self.content) + self.content, usedforsecurity=False).hexdigest()
        found: dict[str, Any] = {"type": "file", "path": path, "size": len(self.content), "oid": git}
        if self.is_large:
            sha256 = hashlib.sha256(self.content).hexdigest()
            found["lfs"] = {"oid": sha256, "size": len(self.content), "pointerSize": 134}
        return found


@dataclass
class Repository:
    private: bool
    commits: list[tuple[str, dict[str, Blob]]] = field(default_factory=list)

    def add(self, files: dict[str, Blob]) -> str:
        oid = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode(), usedforsecurity=False).hexdigest()
        self.commits.append((oid, files))
        return oid

    def at(self, revision: str | None) -> tuple[str, dict[str, Blob]]:
        return next((one for one in self.commits if one[0] == revision), self.commits[-1])


@dataclass
class StandIn:
    """What the Hub has, what was asked of it, and what is to go wrong."""

    url: str = ""
    owners: dict[str, tuple[str, ...]] = field(default_factory=lambda: {TOKEN: ("acme",)})
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def files(self, repo: str) -> dict[str, bytes]:
        return {path: one.content for path, one in self.repositories[repo].at(None)[1].items()}

    def put_there(self, repo: str, files: dict[str, bytes], *, private: bool = False) -> None:
        made = self.repositories.setdefault(repo, Repository(private, []))
        made.add({".gitattributes": Blob(b"", False), **{path: Blob(one, False) for path, one in files.items()}})

    def answer(self, stage: str, found: dict[str, str], token: str, body: bytes) -> Answer:
        """The status and the body to answer with; a request that a repository refuses changes nothing."""
        if stage == "put":
            self.objects[found["oid"]] = body
            return 200, {}
        if token not in self.owners:
            return 401, {"error": "Invalid username or password."}
        if stage in ("create", "yaml"):
            return self.create(json.loads(body), token) if stage == "create" else (200, {"warnings": []})
        repo = self.repositories.get(found["repo"])
        mine = found["repo"].split("/")[0] in self.owners[token]
        if repo is None or (repo.private and not mine):
            return 404, {"error": "Repository not found"}
        if stage in ("preupload", "batch", "commit") and not mine:
            return 403, {"error": "You don't have the rights"}
        return getattr(self, stage)(repo, found, body)  # type: ignore[no-any-return]

    def create(self, wanted: dict[str, Any], token: str) -> Answer:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] not in self.owners[token]:
            return 403, {"error": "You don't have the rights to create a model under this namespace"}
        if name in self.repositories:
            return 409, {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
        self.put_there(name, {}, private=wanted.get("visibility") == "private")
        return 200, {"url": f"{self.url}/{name}", "name": name}

    def preupload(self, repo: Repository, found: dict[str, str], body: bytes) -> Answer:
        files = repo.at(None)[1]
        told = []
        for one in json.loads(body)["files"]:
            mode = "lfs" if one["path"].endswith(".safetensors") else "regular"
            there = files[one["path"]].told("") if one["path"] in files else {}
            oid = there.get("lfs", there).get("oid")
            told.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return 200, {"files": told}

    def batch(self, repo: Repository, found: dict[str, str], body: bytes) -> Answer:
        told = []
        for one in json.loads(body)["objects"]:
            missing = one["oid"] not in self.objects
            actions = {"actions": {"upload": {"href": f"{self.url}/lfs/{one['oid']}?X-Amz-Signature=secret"}}}
            told.append({"oid": one["oid"], "size": one["size"], **(actions if missing else {})})
        return 200, {"transfer": "basic", "objects": told}

    def commit(self, repo: Repository, found: dict[str, str], body: bytes, *, garbled: bool = False) -> Answer:
        lines = [json.loads(line) for line in body.splitlines()]
        head, files = repo.at(None)
        if lines[0]["value"].get("parentCommit") not in (None, head):
            return 412, {"error": "A commit has happened since"}
        files = dict(files)
        for line in lines[1:]:
            value, path = line["value"], line["value"]["path"]
            if line["key"] == "deletedFile":
                del files[path]
                continue
            large = line["key"] == "lfsFile"
            if large and value["oid"] not in self.objects:
                return 400, {"error": f"no object {value['oid']}"}
            content = self.objects[value["oid"]] if large else base64.b64decode(value["content"])
            files[path] = Blob(content[:-1] + b"?" if garbled and large else content, large)
        oid = repo.add(files)
        return 200, {"commitOid": oid, "commitUrl": f"{self.url}/{found['repo']}/commit/{oid}"}

    def paths(self, repo: Repository, found: dict[str, str], body: bytes) -> Answer:
        files = repo.at(unquote(found["revision"]))[1]
        return 200, [files[path].told(path) for path in parse_qs(body.decode())["paths"] if path in files]

    def tree(self, repo: Repository, found: dict[str, str], body: bytes) -> Answer:
        return 200, [one.told(path) for path, one in repo.at(found["revision"])[1].items()]

    def info(self, repo: Repository, found: dict[str, str], body: bytes) -> Answer:
        oid, files = repo.at(found.get("revision"))
        head = (
            re.match(r"---\n(.*?)\n---", files["README.md"].content.decode(), re.DOTALL)
            if "README.md" in files
            else None
        )
        card = yaml.safe_load(head[1]) if head else {}
        about = {
            "id": found["repo"],
            "sha": oid,
            "private": repo.private,
            "tags": card.get("tags", []),
            "cardData": card,
        }
        return 200, about | {"siblings": [{"rfilename": path} for path in files]}

    def resolve(self, repo: Repository, found: dict[str, str], body: bytes) -> Answer:
        oid, files = repo.at(found["revision"])
        blob = files.get(unquote(found["path"]))
        return (404, {"error": "Entry not found"}) if blob is None else (200, (oid, blob))


@contextmanager
def hub() -> Iterator[StandIn]:
    """A Hub of its own, served over HTTP on this machine, with one organisation that ``TOKEN`` may write to."""
    here = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def do(self) -> None:
            path = urlsplit(self.path).path
            body = self._body()
            known = ((stage, re.fullmatch(wanted, path)) for stage, verb, wanted in STAGES if self.command in verb)
            stage, found = next(((stage, found) for stage, found in known if found), ("", None))
            if found is None:
                return self._say(404, {"error": f"the stand-in knows no {self.command} {path}"})
            here.asked.append(stage)
            here.targets.append(self.path)
            fault = here.faults[stage].pop(0) if here.faults[stage] else ""
            if fault.startswith("status:"):
                return self._say(int(fault.partition(":")[2]), {"error": "as a test wants it"})
            if fault == "hold":
                return self._hold()
            groups = {name: value for name, value in found.groupdict().items() if value is not None}
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if fault == "garble":
                answer = here.commit(here.repositories[groups["repo"]], groups, body, garbled=True)
            else:
                answer = here.answer(stage, groups, token, body)
            if fault == "held":
                return self._hold()
            if fault == "lost":
                self.close_connection = True
                return None
            return self._say(*answer)

        do_GET = do_HEAD = do_POST = do_PUT = do  # noqa: N815

        def _hold(self) -> None:
            here.reached.set()
            here.released.wait(120)
            self.close_connection = True

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _say(self, status: int, answer: Any) -> None:
            headers = {"Content-Type": "application/json"}
            if isinstance(answer, tuple):
                oid, blob = answer
                told = blob.told("")
                headers = {"X-Repo-Commit": oid, "ETag": f'"{told.get("lfs", told)["oid"]}"'}
                content = blob.content
            else:
                content = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    with served(Handler) as url:
        here.url = url
        try:
            yield here
        finally:
            here.released.set()
