"""A stand-in for the service of Weights & Biases: as much of its HTTP as the client goes through to send a run.

Lines of a run's files are kept by the number that the client says they have, as the service's own tests take it to do.
"""

from __future__ import annotations

import gzip
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

from backends import wandb_sink
from tests.served import served

KEY = "a" * 40
HANGS_SECONDS = 120.0


@dataclass
class Sent:
    """A run as it was sent. ``writes`` counts each line of history that came, also one that came again."""

    about: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    writes: int = 0
    complete: bool = False

    @property
    def history(self) -> list[dict[str, Any]]:
        lines = self.files["wandb-history.jsonl"]
        assert sorted(lines) == list(range(len(lines)))
        return [json.loads(lines[number]) for number in sorted(lines)]

    @property
    def summary(self) -> dict[str, Any]:
        lines = self.files["wandb-summary.json"]
        found: dict[str, Any] = json.loads(lines[max(lines)])
        return found


@dataclass
class StandIn:
    """What was sent. ``answer`` is ``ok``, ``hang``, or a status that everything is answered with.

    ``broken_stream`` is a status for the stream of a run's lines alone, ``refused`` has what is said to operations.
    """

    url: str = ""
    answer: str | int = "ok"
    broken_stream: int | None = None
    refused: dict[str, str] = field(default_factory=dict)
    runs: dict[str, Sent] = field(default_factory=lambda: defaultdict(Sent))
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    asked: int = 0
    keys: set[str | None] = field(default_factory=set)
    bodies: list[bytes] = field(default_factory=list)
    heads: set[bytes] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def graphql(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        if name in self.refused:
            return {"errors": [{"message": self.refused[name]}], "data": None}
        answer: dict[str, Any] = getattr(self, f"answer_{name.lower()}", lambda _: {})(values)
        return {"data": answer}

    def answer_viewer(self, _: Any) -> dict[str, Any]:
        return {"viewer": {"entity": "acme", "username": "acme", "flags": "{}", "teams": {"edges": []}}}

    def answer_upsertbucket(self, values: dict[str, Any]) -> dict[str, Any]:
        run = values.get("name") or values["id"]
        self.runs[run].about |= {name: value for name, value in values.items() if value is not None}
        project = {"id": "p", "name": values.get("project") or "p", "entity": {"id": "e", "name": "acme"}}
        bucket = {"id": run, "name": run, "displayName": values.get("displayName"), "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def answer_runresumestatus(self, values: dict[str, Any]) -> dict[str, Any]:
        if values["name"] not in self.runs:
            return {"model": {"bucket": None}}
        run = self.runs[values["name"]]
        lines = run.files["wandb-summary.json"]
        summary = lines[max(lines)] if lines else None
        return {"model": {"bucket": {"historyLineCount": len(run.history), "summaryMetrics": summary}}}

    def answer_artifactstate(self, values: dict[str, Any]) -> dict[str, Any]:
        name, _, alias = values["name"].partition(":")
        assert alias == "latest"
        of_name = [one for one in self.artifacts.values() if one["asked"]["artifactCollectionName"] == name]
        found = {"state": of_name[-1]["state"], "metadata": of_name[-1]["asked"]["metadata"]} if of_name else None
        return {"project": {"artifact": found}}

    def answer_createartifact(self, values: dict[str, Any]) -> dict[str, Any]:
        asked = values["input"]
        digest = asked["digest"]
        known = self.artifacts.setdefault(digest, {"state": "PENDING", "files": {}, "asked": asked})
        return {"createArtifact": {"artifact": {"id": digest, "state": known["state"], "artifactSequence": {}}}}

    def answer_createartifactmanifest(self, values: dict[str, Any]) -> dict[str, Any]:
        file = {"id": "f", "uploadUrl": f"{self.url}/put/manifest-{values['artifactID']}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def answer_createartifactfiles(self, values: dict[str, Any]) -> dict[str, Any]:
        asked = values["input"]["artifactFiles"]
        edges = [{"node": self._file(one)} for one in asked]
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _file(self, asked: dict[str, Any]) -> dict[str, Any]:
        place = hashlib.sha256(f"{asked['artifactID']}/{asked['name']}".encode()).hexdigest()
        self.artifacts[asked["artifactID"]]["files"][asked["name"]] = place
        about = {"storagePath": place, "uploadUrl": f"{self.url}/put/{place}", "uploadHeaders": []}
        return about | {"name": asked["name"], "displayName": asked["name"], "artifact": {"id": asked["artifactID"]}}

    def answer_commitartifact(self, values: dict[str, Any]) -> dict[str, Any]:
        self.artifacts[values["artifactID"]]["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": values["artifactID"], "digest": values["artifactID"]}}}

    def answer_createrunfiles(self, values: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/put/{values['run']}-{name}"} for name in values["files"]]
        return {"createRunFiles": {"runID": values["run"], "uploadHeaders": [], "files": files}}

    def stream(self, run: str, sent: dict[str, Any]) -> None:
        for name, chunk in (sent.get("files") or {}).items():
            for number, line in enumerate(chunk["content"], int(chunk["offset"])):
                self.runs[run].files[name][number] = line
                self.runs[run].writes += name == "wandb-history.jsonl"
        self.runs[run].complete |= bool(sent.get("complete"))


def reap() -> None:
    """End the children that this process started to copy runs."""
    while wandb_sink._started:
        _, child = wandb_sink._started.popitem()
        child.kill()
        child.wait()


@contextmanager
def wandb_service(port: int = 0) -> Iterator[StandIn]:
    """A service that answers, on a port of its own or that one, for as long as the block runs."""
    service = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"] or 0))
            service.asked += 1
            self.note_head()
            service.keys.add(self.headers["Authorization"])
            if service.answer == "hang":
                service.over.wait(HANGS_SECONDS)
                self.close_connection = True
                return None
            if self.headers["Content-Encoding"] == "gzip":
                content = gzip.decompress(content)
            stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
            status = service.answer if isinstance(service.answer, int) else 200
            if stream and service.broken_stream:
                status = service.broken_stream
            if status != 200:
                return self.say(status, {"errors": [{"message": "refused"}]})
            with service.lock:
                service.bodies.append(content)
                if stream:
                    service.stream(stream[1], json.loads(content))
                    return self.say(200, {})
                asked = json.loads(content)
                return self.say(200, service.graphql(asked["operationName"], asked.get("variables") or {}))

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.note_head()
            service.stored[self.path.removeprefix("/put/")] = content
            self.say(200, {})

        def note_head(self) -> None:
            lines = (f"{name}: {value}" for name, value in self.headers.items() if name != "Authorization")
            service.heads.update(line.encode() for line in (self.requestline, *lines))

        def say(self, status: int, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:  # the client is killed when its time is over
                self.close_connection = True

    with served(Handler, port) as url:
        service.url = url
        try:
            yield service
        finally:
            service.over.set()
