"""A chat model behind real HTTP: it says what it was told to, whole or in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.served import served

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@dataclass
class ChatServer:
    """Answers with ``message`` and the extra fields, and keeps the headers and bodies that it was sent."""

    message: dict[str, Any] = field(default_factory=lambda: {"role": "assistant", "content": "go left"})
    choice: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    pieces: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def completion(self) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": "stop", "message": self.message, "logprobs": None, **self.choice}
        head = {"id": "c1", "object": "chat.completion", "created": 1, "model": "spoke-1", "usage": USAGE}
        return {**head, "choices": [choice], **self.extra}

    def chunks(self) -> Iterator[bytes]:
        for piece in self.pieces:
            choice = {"index": 0, "finish_reason": None, "delta": {}, **piece}
            head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "spoke-1"}
            yield b"data: %b\n\n" % json.dumps({**head, "choices": [choice], **self.extra}).encode()
        yield b"data: [DONE]\n\n"


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """One on a free port, in a thread."""
    script = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            script.bodies.append(request)
            script.headers.append({name.lower(): value for name, value in self.headers.items()})
            is_stream = bool(request.get("stream"))
            self.send_response(script.status)
            self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
            self.end_headers()
            if script.status != 200:
                self.wfile.write(b'{"error":{"message":"no"}}')
            elif is_stream:
                self.wfile.writelines(script.chunks())
            else:
                self.wfile.write(json.dumps(script.completion()).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with served(Handler) as url:
        script.url = f"{url}/v1"
        yield script
