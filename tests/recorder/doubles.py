"""Servers for the recorder: one that says what a test wants, and one in a process of its own that can be killed."""

from __future__ import annotations

import gzip
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.served import served

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 60.0


@dataclass
class Answer:
    """A status and a body; None is what an ingest that stores everything says."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


Rule = Callable[[list[dict[str, Any]], dict[str, str]], Answer | None]


@dataclass
class Scripted:
    """Answers by ``rule``; keeps what it answered 200 to, in order, and every request's size and headers."""

    rule: Rule = lambda events, headers: None
    url: str = ""
    stored: list[dict[str, Any]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)

    def types(self) -> list[str]:
        return [event["type"] for event in self.stored]


@contextmanager
def scripted(rule: Rule | None = None) -> Iterator[Scripted]:
    """A server on a free port, in a thread."""
    script = Scripted() if rule is None else Scripted(rule)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = json.loads(body)
            assert request["schema"] == 1
            answer = _decide(script, request["events"], {k.lower(): v for k, v in self.headers.items()})
            self.send_response(answer.status)
            body = answer.body or b"{}"
            for name, value in {**answer.headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with served(Handler) as url:
        script.url = url
        yield script


def _decide(script: Scripted, events: list[dict[str, Any]], headers: dict[str, str]) -> Answer:
    script.moments.append(time.monotonic())
    script.sizes.append(len(events))
    script.headers.append(headers)
    answer = script.rule(events, headers) or Answer()
    if answer.status == 200 and answer.body is None:
        script.stored += events
        answer.body = json.dumps({"schema": 1, "accepted": len(events), "duplicate": 0, "rejected": []}).encode()
    return answer


@contextmanager
def held_port() -> Iterator[int]:
    """A port that nobody is given meanwhile, also as the near end of a connection.

    Whoever sets SO_REUSEADDR, as servers do, can listen there; until then connections are refused.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


class IngestProcess:
    """The stand-in server on one port; it can be killed and started again over what it committed."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port, self.database = port, folder / "ingest.sqlite"
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        words = [sys.executable, str(HERE / "ingest_server.py"), str(self.port), str(self.database)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def events(self) -> dict[str, dict[str, Any]]:
        """Everything committed, by natural key."""
        if not self.database.exists():
            return {}
        database = sqlite3.connect(self.database, timeout=30)
        try:
            return {key: json.loads(event) for key, event in database.execute("SELECT key, event FROM events")}
        finally:
            database.close()

    def sent(self) -> int:
        """How many events all requests held, repeats included."""
        database = sqlite3.connect(self.database, timeout=30)
        try:
            return int(database.execute("SELECT coalesce(sum(events), 0) FROM requests").fetchone()[0])
        finally:
            database.close()


def start_agent(*arguments: object) -> subprocess.Popen[str]:
    """``agent.py`` with these arguments, in a process of its own; it speaks in lines."""
    words = [sys.executable, str(HERE / "agent.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=environment)


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
