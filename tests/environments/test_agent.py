from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from environments import agent
from environments.agent import ChatClient
from rl.errors import CallFailed, CallRefused, EngineUnavailable, PermanentError
from rl.records import Message

MESSAGES = [Message(role="system", content="Act."), Message(role="user", content="You see: nothing")]
Answer = tuple[int, dict[str, str], bytes]


def _completion(content: str | None) -> Answer:
    message = {"role": "assistant", "content": content}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return 200, {}, json.dumps(body).encode()


class Server(ThreadingHTTPServer):
    """Answers from ``script``, its last entry for ever; None hangs up. Keeps what it was sent.

    A function is given the request's body.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.script: list[Answer | Callable[[dict[str, Any]], Answer] | None] = []
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.connections = 0
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        script = self.server.script
        answer = script.pop(0) if len(script) > 1 else script[0]
        if answer is None:
            self.close_connection = True
            return
        status, headers, content = answer(body) if callable(answer) else answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Clock:
    """The client's clock: what it waits for has come at once, and nothing else takes time."""

    timeout = staticmethod(asyncio.timeout)

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(agent, "time", clock)
    monkeypatch.setattr(agent, "asyncio", clock)
    return clock


def _ask(url: str, times: int = 1, seed: int | None = None, **bounds: float) -> list[str]:
    async def ask() -> list[str]:
        async with ChatClient(url, "secret", "agent-v2", 0.7, 6, "agent-7", **bounds) as chat:
            return [
                await chat.complete(MESSAGES, trajectory_id="t-1", turn=turn, call_id=f"t-1-{turn}", seed=seed)
                for turn in range(times)
            ]

    return asyncio.run(ask())


def test_a_call_carries_its_identity_and_what_was_asked(server: Server) -> None:
    server.script = [_completion("turn left")]
    assert _ask(server.url, seed=11) == ["turn left"]
    [(path, headers, body)] = server.seen
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer secret"
    assert headers["host"] == f"127.0.0.1:{server.server_port}"
    assert {name: headers[f"x-{name}"] for name in ("trajectory-id", "turn", "call-id", "agent-id")} == {
        "trajectory-id": "t-1",
        "turn": "0",
        "call-id": "t-1-0",
        "agent-id": "agent-7",
    }
    assert body == {
        "model": "agent-v2",
        "temperature": 0.7,
        "max_tokens": 6,
        "seed": 11,
        "messages": [{"role": "system", "content": "Act."}, {"role": "user", "content": "You see: nothing"}],
    }


def test_no_seed_is_sent_when_none_is_given(server: Server) -> None:
    server.script = [_completion("")]
    assert _ask(f"{server.url}/v1/") == [""]
    assert "seed" not in server.seen[0][2]
    assert server.seen[0][0] == "/v1/chat/completions"


def test_a_reply_without_content_is_empty(server: Server) -> None:
    server.script = [_completion(None)]
    assert _ask(server.url) == [""]


def test_the_connection_is_kept(server: Server) -> None:
    server.script = [_completion("turn left")]
    assert _ask(server.url, times=5) == ["turn left"] * 5
    assert server.connections == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says(server: Server, clock: Clock, status: int) -> None:
    busy = (status, {"Retry-After": "0.2"}, b"{}")
    server.script = [busy, busy, _completion("turn left")]
    assert _ask(server.url, outage_seconds=0) == ["turn left"]
    assert clock.waits == [0.2, 0.2]
    assert [headers["x-call-id"] for _, headers, _ in server.seen] == ["t-1-0"] * 3


def test_patience_ends_without_waiting_in_vain(server: Server, clock: Clock) -> None:
    server.script = [(503, {"Retry-After": "30"}, b'{"detail": "draining"}')]
    with pytest.raises(EngineUnavailable, match="answers 503: draining"):
        _ask(server.url, patience_seconds=10)
    assert clock.waits == []
    assert [body["messages"][-1]["content"] for _, _, body in server.seen] == ["You see: nothing"]


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_fails_this_conversation_alone_refuses_it(server: Server, clock: Clock, status: int) -> None:
    failure = status, {}, b'{"error": {"message": "out of memory"}}'
    server.script = [lambda body: failure if len(body["messages"]) > 1 else _completion("Hi.")]
    with pytest.raises(CallFailed, match=f"answers {status}: out of memory, and answers another conversation"):
        _ask(server.url, patience_seconds=60, outage_seconds=60)
    assert clock.now - 100 >= 30, "in the second half of that time"
    [another] = [(headers, body) for _, headers, body in server.seen if len(body["messages"]) == 1]
    asked = [another[0].get(name) for name in ("x-consent", "x-trajectory-id", "x-call-id")]
    assert asked == ["false", "agent-7/another", None], "nobody records it"
    assert (another[1]["model"], another[1]["max_tokens"]) == ("agent-v2", 1)


def test_a_server_that_hangs_is_away_though_it_takes_calls(server: Server) -> None:
    over = threading.Event()
    server.script = [lambda _: (over.wait(60), _completion("Hi."))[1]]
    with pytest.raises(EngineUnavailable, match="does not answer: ReadTimeout"):
        _ask(server.url, timeout_seconds=2, outage_seconds=0.2)
    over.set()


def test_a_server_that_was_full_until_just_now_is_not_late(server: Server, clock: Clock) -> None:
    full, busy = (429, {"Retry-After": "0.3"}, b"slow down"), (503, {"Retry-After": "0.1"}, b"breaker")
    server.script = [full, full, full, full, busy, busy, _completion("turn left")]
    assert _ask(server.url, patience_seconds=2) == ["turn left"]
    assert {len(body["messages"]) for _, _, body in server.seen} == {2}


def test_a_server_that_comes_back_late_is_heard(server: Server, clock: Clock) -> None:
    failure = 500, {}, b"oops"  # at 0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3 and 11.3 s
    server.script = [*[failure] * 8, _completion("Hi."), _completion("turn left")]
    assert _ask(server.url, outage_seconds=20) == ["turn left"]
    assert [len(body["messages"]) for _, _, body in server.seen] == [*[2] * 8, 1, 2]


def test_a_full_server_is_asked_nothing_else_and_refuses_nothing(server: Server) -> None:
    full = 429, {}, b"slow down"
    server.script = [lambda body: full if len(body["messages"]) > 1 else _completion("Hi.")]
    with pytest.raises(EngineUnavailable, match="answers 429: slow down"):
        _ask(server.url, patience_seconds=0.3)
    assert {len(body["messages"]) for _, _, body in server.seen} == {2}


def test_a_busy_server_without_retry_after_is_asked_ever_less_often(server: Server, clock: Clock) -> None:
    server.script = [(429, {}, b"slow down")]
    with pytest.raises(EngineUnavailable, match="answers 429: slow down"):
        _ask(server.url, patience_seconds=0.8)
    assert clock.waits == [0.1, 0.2, 0.4]
    assert len(server.seen) == 4


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (400, b'{"error": {"message": "no such model: agent-v2", "type": "invalid"}}', "no such model: agent-v2"),
        (401, b'{"error": "wrong key"}', "wrong key"),
        (404, b'{"detail": "Not Found"}', "Not Found"),
        (422, b"<html>what</html>", "<html>what</html>"),
        (418, b"[]", r"\[\]"),
        (307, b"", "307"),
    ],
)
def test_a_refusal_is_permanent_in_the_servers_words(server: Server, status: int, answer: bytes, said: str) -> None:
    server.script = [(status, {}, answer)]
    with pytest.raises(PermanentError, match=f"refused the call with {status}: .*{said}|{said}: "):
        _ask(server.url)
    assert len(server.seen) == 1


@pytest.mark.parametrize("answer", [b"hello", b"{}", b'{"choices": []}', b'{"choices": [{"message": null}]}', b"3"])
def test_something_else_than_a_completion_concerns_this_call_alone(server: Server, answer: bytes) -> None:
    server.script = [(200, {}, answer)]
    with pytest.raises(CallRefused, match="other than a chat completion"):
        _ask(server.url)


@pytest.mark.parametrize("message", [{"content": [{"type": "text"}]}, {"content": "x", "tool_calls": ["buy"]}])
def test_a_message_of_another_form_concerns_this_call_alone(server: Server, message: dict[str, Any]) -> None:
    server.script = [(200, {}, json.dumps({"choices": [{"message": message}]}).encode())]
    with pytest.raises(CallRefused, match="answered with what is no message"):
        _ask(server.url)


def test_half_of_a_surrogate_pair_is_sent_as_a_question_mark(server: Server) -> None:
    server.script = [_completion("turn left")]

    async def ask() -> None:
        said = [Message(role="user", content="a\ud800b \u20ac \U0001f600")]
        async with ChatClient(server.url, "", "agent-v2", 0.7, 6, "agent-7") as chat:
            await chat.complete(said, trajectory_id="t-1", turn=0, call_id="t-1-0")

    asyncio.run(ask())
    assert server.seen[0][2]["messages"] == [{"role": "user", "content": "a?b \u20ac \U0001f600"}]


def test_a_failing_or_lost_server_is_tried_again_briefly(server: Server, clock: Clock) -> None:
    server.script = [None, (502, {}, b"bad gateway"), _completion("turn left")]
    assert _ask(server.url) == ["turn left"]
    assert len(server.seen) == 3
    server.script = [(500, {}, b"oops")]
    with pytest.raises(EngineUnavailable, match="answers 500: oops"):
        _ask(server.url, outage_seconds=0.2)


def test_nobody_there_is_an_unavailable_engine() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EngineUnavailable, match=r"does not answer: ConnectError.*given up after"):
            _ask(url, outage_seconds=0.3)


def test_a_reply_that_takes_too_long_is_an_unavailable_engine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(EngineUnavailable, match="ReadTimeout"):
            _ask(url, outage_seconds=0.1, timeout_seconds=2)
