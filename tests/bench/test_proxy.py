from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from bench.faults.proxy import Proxy


class Echo(socketserver.BaseRequestHandler):
    """Answers each request with itself, and keeps what it was asked."""

    asked: list[bytes]

    def handle(self) -> None:
        while chunk := self.request.recv(4096):
            self.server.asked.append(chunk)  # type: ignore[attr-defined]
            self.request.sendall(chunk)


@pytest.fixture
def echo() -> Iterator[socketserver.ThreadingTCPServer]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: socketserver.ThreadingTCPServer) -> Iterator[Proxy]:
    with Proxy(f"redis://:secret@127.0.0.1:{echo.server_address[1]}/3") as one:
        yield one


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connect(proxy) as one:
        yield one


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=60)


def ask(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(4096)


def test_it_has_the_url_of_its_target_with_its_own_port(proxy: Proxy) -> None:
    assert proxy.url == f"redis://:secret@127.0.0.1:{proxy.port}/3"


def test_it_forwards(client: socket.socket) -> None:
    assert ask(client, b"hello") == b"hello"


def test_frozen_it_is_silent_and_keeps_what_it_was_told(proxy: Proxy, client: socket.socket) -> None:
    assert ask(client, b"one") == b"one"
    proxy.freeze()
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        ask(client, b"two")
    client.settimeout(60)
    proxy.thaw()
    assert client.recv(4096) == b"two"


def test_frozen_it_accepts_connections_and_says_nothing(proxy: Proxy) -> None:
    proxy.freeze()
    with connect(proxy) as late:
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ask(late, b"anybody there?")
        late.settimeout(60)
        proxy.thaw()
        assert late.recv(4096) == b"anybody there?"


def test_latency_holds_every_answer_back(proxy: Proxy, client: socket.socket) -> None:
    proxy.latency(0.3)
    began = time.monotonic()
    assert ask(client, b"slow") == b"slow"
    assert time.monotonic() - began >= 0.3
    proxy.latency(30)
    proxy.latency(0)
    began = time.monotonic()
    assert ask(client, b"fast") == b"fast"
    assert time.monotonic() - began < 30


def test_cut_ends_connections_and_takes_new_ones(proxy: Proxy, client: socket.socket) -> None:
    assert ask(client, b"one") == b"one"
    proxy.cut()
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(4096) == b""
    with connect(proxy) as again:
        assert ask(again, b"two") == b"two"


def test_an_answer_is_lost_once_and_the_request_is_not(
    proxy: Proxy, client: socket.socket, echo: socketserver.ThreadingTCPServer
) -> None:
    proxy.lose_answer(to="COMMIT", after="insert into versions")
    with connect(proxy) as other:
        assert ask(other, b"COMMIT") == b"COMMIT"
        assert ask(client, b"insert into versions") == b"insert into versions"
        client.sendall(b"COMMIT")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(4096) == b""
        assert echo.asked[-1] == b"COMMIT"  # type: ignore[attr-defined]
        assert proxy.lost == 1
        assert ask(other, b"insert into versions; COMMIT") == b"insert into versions; COMMIT"


def test_a_request_can_be_lost_with_its_answer(
    proxy: Proxy, client: socket.socket, echo: socketserver.ThreadingTCPServer
) -> None:
    proxy.lose_answer(to="COMMIT", after="insert", unasked=True)
    assert ask(client, b"insert") == b"insert"
    client.sendall(b"COMMIT")
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(4096) == b""
    assert echo.asked == [b"insert"]  # type: ignore[attr-defined]
    assert proxy.lost == 1


def test_stranded_connections_stay_silent_and_new_ones_work(proxy: Proxy, client: socket.socket) -> None:
    assert ask(client, b"one") == b"one"
    proxy.strand()
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        ask(client, b"two")
    with connect(proxy) as other:
        assert ask(other, b"three") == b"three"


def test_a_server_that_is_away_ends_the_connection(echo: socketserver.ThreadingTCPServer) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with Proxy(f"redis://127.0.0.1:{held.getsockname()[1]}/0") as proxy, connect(proxy) as client:
            assert client.recv(4096) == b""
