"""An engine that answers as a test wants, and judges of duels, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tasks.engine import Served
from tests.served import served
from tests.tasks.judge_double import BLOCK, Reply, completion

Says = Callable[[dict[str, Any]], dict[str, Any] | int]
"""What a model answers to a request's body: its message, or the status of a refusal."""


@dataclass
class Engine:
    """``says`` is by the version's name; ``asked`` has the bodies that came, in the order of their coming.

    ``loaded`` are the versions with their folders; only what was loaded under a name answers to it.
    """

    url: str = ""
    says: dict[str, Says] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    loaded: list[tuple[str, str]] = field(default_factory=list)

    names: set[str] = field(default_factory=set)

    async def serve(self, name: str, uri: str, *_: object) -> Served:
        """In place of ``tasks.engine.serve_version``."""
        self.names.add(name)
        self.loaded.append((name.partition("@")[0], uri))
        return Served(self.url, "", name)


@contextmanager
def engine() -> Iterator[Engine]:
    made, lock = Engine(), threading.Lock()

    class Asked(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                made.asked.append(body)
            assert body["model"] in made.names
            said = made.says[body["model"].partition("@")[0]](body)
            if isinstance(said, int):
                status, answer = said, json.dumps({"error": {"message": "too long"}}).encode()
            else:
                choice = {"message": {"role": "assistant"} | said, "finish_reason": "stop"}
                status, answer = 200, json.dumps({"choices": [choice]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with served(Asked) as made.url:
        yield made


def content(text: str) -> Says:
    """A model that always says the same."""
    return lambda _: {"content": text}


def answers_of(body: dict[str, Any]) -> dict[str, str]:
    """The answers A and B as a judge is shown them: their words, reasoning and tool calls as JSON."""
    blocks = [json.loads(found) for found in BLOCK.findall(body["messages"][1]["content"])]
    return {one["answer"]: json.dumps(one["said"][0], ensure_ascii=False) for one in blocks if "answer" in one}


def better(which: str, usage: tuple[int, int] | None = (1000, 100)) -> Reply:
    return completion(json.dumps({"explanation": "because", "better": which}), usage)


def prefers(token: str) -> Callable[[dict[str, Any], int], Reply]:
    """A judge that prefers the answer with the token, wherever it stands; neither where both or none have it."""

    def judge(body: dict[str, Any], _: int) -> Reply:
        having = [name for name, said in answers_of(body).items() if token in said]
        return better(having[0] if len(having) == 1 else "same")

    return judge


def always(which: str) -> Callable[[dict[str, Any], int], Reply]:
    """A judge that looks at places."""
    return lambda *_: better(which)
