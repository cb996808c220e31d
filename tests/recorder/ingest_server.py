"""A stand-in for the gateway's ingest, as a process that can be killed: it commits to SQLite before it answers.

``python ingest_server.py PORT DATABASE``; prints ``ready`` when it listens.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TABLES = """
CREATE TABLE IF NOT EXISTS events (key TEXT PRIMARY KEY, event TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY, events INTEGER NOT NULL);
"""


def key_of(event: dict[str, Any]) -> str:
    """The natural key of the contract."""
    if event["type"] == "feedback":
        return f"feedback {event['feedbackId']}"
    step = f" {event['stepNumber']}" if event["type"] == "recordStep" else ""
    return f"{event['type']} {event['trajectoryId']}{step}"


class Store:
    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(TABLES)

    def keep(self, events: list[dict[str, Any]]) -> int:
        """Commit; how many were new."""
        with self._lock, self._database:
            before = self._database.total_changes
            rows = [(key_of(event), json.dumps(event)) for event in events]
            self._database.executemany("INSERT OR IGNORE INTO events VALUES (?, ?)", rows)
            accepted = self._database.total_changes - before
            self._database.execute("INSERT INTO requests (events) VALUES (?)", (len(events),))
            return accepted


class Ingest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        events = json.loads(body)["events"]
        accepted = self.store.keep(events)
        answer = {"schema": 1, "accepted": accepted, "duplicate": len(events) - accepted, "rejected": []}
        self._answer(200, json.dumps(answer).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main() -> None:
    port, database = int(sys.argv[1]), sys.argv[2]
    Ingest.store = Store(database)
    server = ThreadingHTTPServer(("127.0.0.1", port), Ingest)
    server.daemon_threads = True
    say("ready")
    server.serve_forever()


if __name__ == "__main__":
    main()
